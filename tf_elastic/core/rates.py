"""The two rates of an elastic exchange, and how they hang together."""

import math
from typing import NamedTuple

DEFAULT_BETA = 0.9  # the papers' choice in all experiments


class ElasticRates(NamedTuple):
    """How far an exchange moves a worker and the center."""

    moving_rate: float  # alpha: share of its difference that a worker moves
    beta: float  # share of the mean difference that the center moves


def elastic_rates(
    num_workers: int,
    moving_rate: float | None = None,
    beta: float | None = None,
    symmetric: bool = True,
) -> ElasticRates:
    r"""Fills in alpha or beta from the other, and checks both.

    The elastic symmetry is :math:`\beta = p \alpha`.

    Args:
        num_workers: p, at least 1.
        moving_rate: :math:`\alpha`, at least 0, or None for
            :math:`\beta / p`. With `symmetric=False` it may be negative,
            which sections 5.1.3 and 5.2.3 find optimal in places: workers
            are then pushed away from the center, and the loss holds them.
        beta: :math:`\beta`, at least 0, or None for :math:`p \alpha`. With
            neither given it is 0.9, as in the papers.
        symmetric: whether rates that break the symmetry are refused.

    Returns:
        `ElasticRates`.

    Raises:
        ValueError: a rate is not finite, or negative (but for the moving
            rate without symmetry), or both are given and break the symmetry
            while `symmetric` is true, or one is missing while it is false.

    Example:

    >>> elastic_rates(4)
    ElasticRates(moving_rate=0.225, beta=0.9)
    >>> elastic_rates(4, moving_rate=1.0, beta=4.0, symmetric=False)
    ElasticRates(moving_rate=1.0, beta=4.0)

    Reference:
        Zhang (2016), section 2.1.
    """
    check_moving_rate(moving_rate, symmetric)
    check_rate("beta", beta)
    if moving_rate is None or beta is None:
        if not symmetric:
            raise ValueError(
                "`symmetric=False` frees `moving_rate` and `beta` from each "
                "other, so both must be given. Received: "
                f"moving_rate={moving_rate}, beta={beta}. Give both, or leave "
                "out `symmetric=False`."
            )
        if moving_rate is not None:
            return ElasticRates(moving_rate, num_workers * moving_rate)
        beta = DEFAULT_BETA if beta is None else beta
        return ElasticRates(beta / num_workers, beta)
    if symmetric and not math.isclose(
        beta, num_workers * moving_rate, rel_tol=1e-6
    ):
        raise ValueError(
            "`moving_rate` and `beta` contradict each other: with "
            f"{num_workers} workers the elastic symmetry is beta = "
            f"{num_workers} * moving_rate. Received: moving_rate="
            f"{moving_rate}, beta={beta}. Give only one of them (beta={beta} "
            f"means moving_rate={beta / num_workers}), or pass "
            "`symmetric=False` to choose both freely."
        )
    return ElasticRates(moving_rate, beta)


def check_moving_rate(moving_rate: float | None, symmetric: bool) -> None:
    """Refuses a moving rate that has no meaning; see `elastic_rates`.

    Args:
        moving_rate: alpha; None passes.
        symmetric: whether beta = p * alpha; then it is not negative.

    Raises:
        ValueError: it is not finite, or negative where it may not be.
    """
    if moving_rate is None or symmetric or not moving_rate < 0:
        check_rate("moving_rate", moving_rate)
    elif not math.isfinite(moving_rate):
        raise ValueError(
            "`moving_rate` must be a finite number. Received: "
            f"moving_rate={moving_rate}."
        )


def check_rate(name: str, rate: float | None) -> None:
    """Refuses a negative or non-finite rate.

    Args:
        name: the argument's name, for the message.
        rate: its value; None passes.

    Raises:
        ValueError: the rate is negative or not finite.
    """
    if rate is not None and not (math.isfinite(rate) and rate >= 0):
        raise ValueError(
            f"`{name}` must be a finite number that is not negative. "
            f"Received: {name}={rate}. Pass 0 to switch that part of the "
            "exchange off."
        )
