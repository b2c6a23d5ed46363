"""Where an elastic exchange is stable, whatever is being trained.

The bounds are those of the quadratic case in the limit of a small learning
rate times curvature (eta h -> 0). A larger one only narrows them, so a
setting that breaks these bounds diverges on every problem.
"""

import math
import warnings

import numpy as np
from numpy.typing import ArrayLike
from numpy.typing import NDArray

from tf_elastic import core
from tf_elastic.core import orders

ORDERS = tuple(orders.ORDERS)

_FUNCTIONS = {
    "jacobi": core.jacobi_exchange,
    "gauss_seidel": core.gauss_seidel_exchange,
    "round_robin": core.round_robin_exchange,
}


class StabilityWarning(UserWarning):
    """A setting lies outside of the region where training can converge."""


def spectral_radius(matrix: ArrayLike) -> float:
    """The largest absolute eigenvalue.

    Args:
        matrix: square, shape (n, n).

    Returns:
        sp(matrix), at least 0.

    Example:

    >>> spectral_radius([[0.0, -2.0], [0.125, 0.0]])
    0.5
    """
    return float(np.max(np.abs(np.linalg.eigvals(np.asarray(matrix)))))


def exchange_map(
    num_workers: int, moving_rate: float, beta: float, order: str
) -> NDArray[np.float64]:
    r"""The linear map of one exchange on (x^1, ..., x^p, center).

    Args:
        num_workers: p, at least 1.
        moving_rate: :math:`\alpha`.
        beta: :math:`\beta`.
        order: one of `ORDERS`.

    Returns:
        The matrix, shape (p + 1, p + 1), float64.

    Raises:
        ValueError: `order` is unknown.

    Example:

    >>> exchange_map(1, moving_rate=0.25, beta=0.25, order="jacobi")
    array([[0.75, 0.25],
           [0.25, 0.75]])
    """
    _check_order(order)
    identity = np.eye(num_workers + 1)
    workers, center = _FUNCTIONS[order](
        list(identity[:-1]), identity[-1], moving_rate, beta
    )
    return np.stack([*workers, center])


def stable_moving_rates(
    num_workers: int, beta: float | None = None, order: str = "jacobi"
) -> tuple[float, float]:
    r"""The open interval in which :math:`\alpha` is stable.

    Without gradients an exchange keeps the consensus (all equal) and must
    shrink everything else.

    Args:
        num_workers: p, at least 1.
        beta: the center's rate where it is chosen freely, or None for
            :math:`\beta = p \alpha`.
        order: "jacobi" (all workers at once), "gauss_seidel" (center
            first, then the workers), or "round_robin" (one after another).

    Returns:
        (low, high); empty (low >= high) where no moving rate is stable. With
        :math:`\beta = p \alpha` and Gauss-Seidel more than one interval may be
        stable; it is the one that begins at 0.

    Raises:
        ValueError: `order` is unknown.

    Example:

    >>> stable_moving_rates(3)
    (0.0, 0.5)
    >>> stable_moving_rates(3, order="round_robin")
    (0.0, 1.0)
    >>> stable_moving_rates(16, beta=16.0, order="gauss_seidel")
    (0.9333333333333333, 1.0666666666666667)

    Reference:
        Zhang (2016): condition 3.4 with eta h -> 0 (Jacobi: eigenvalue
        1 - alpha - beta); section 3.3 (round robin: alpha <= (4 - 2 eta) /
        (4 - eta)); Theorem 6.2.1 (Gauss-Seidel: c = (1 - alpha)(1 - beta)),
        with |1 - alpha| < 1 for the differences among p > 1 workers.
    """
    _check_order(order)
    return _stable_intervals(num_workers, beta, order)[0]


def _stable_intervals(
    num_workers: int, beta: float | None, order: str
) -> list[tuple[float, float]]:
    """All open intervals of stable moving rates, from the lowest."""
    p = num_workers
    if order == "jacobi":
        return [(0.0, 2 / (p + 1) if beta is None else 2 - beta)]
    if order == "round_robin":
        return [(0.0, 1.0 if beta is None else 2 - beta / p)]
    spread = 2.0 if p > 1 else math.inf
    if beta is None:
        # |(1 - alpha)(1 - p alpha)| < 1: below (1 + p) / p, but for where a
        # large p makes the product fall below -1 in between.
        end, discriminant = (1 + p) / p, (1 + p) ** 2 - 8 * p
        if discriminant < 0:
            return [(0.0, min(spread, end))]
        root = math.sqrt(discriminant)
        return [
            (0.0, ((1 + p) - root) / (2 * p)),
            (((1 + p) + root) / (2 * p), min(spread, end)),
        ]
    if beta == 1:
        return [(0.0, spread)]
    width = 1 / abs(1 - beta)
    return [(max(0.0, 1 - width), min(spread, 1 + width))]


def _check_order(order: str) -> None:
    if order not in ORDERS:
        raise ValueError(
            f"`order` must be one of {ORDERS}. Received: order={order!r}."
        )


def warn_if_unstable(
    rates: core.ElasticRates, num_workers: int, order: str
) -> None:
    r"""Warns about rates that cannot converge, with the nearest that can.

    Rates with :math:`\alpha = 0` leave the workers alone and are stable if
    the center is: :math:`\beta < 2`, in round robin :math:`\beta < 2p`. With
    :math:`\alpha < 0` they are stable only by the loss, which is not known.

    Args:
        rates: :math:`\alpha` and :math:`\beta`.
        num_workers: p, at least 1.
        order: one of `ORDERS`.

    Warns:
        StabilityWarning: the rates are on or outside of the bound.
    """
    alpha, beta = rates
    setting = (
        f"moving_rate={alpha:.6g} (beta={beta:.6g}) with {num_workers} "
        f"workers that exchange by {order!r}"
    )
    if alpha < 0:
        _warn(
            f"{setting} does not converge by itself: a negative moving rate "
            "pushes workers away from the center, and only the loss's "
            "curvature holds them (sections 5.1.3 and 5.2.3). Where there is "
            "little of it, use moving_rate=0."
        )
        return
    if alpha == 0:
        bound = 2 * num_workers if order == "round_robin" else 2
        if beta >= bound:
            _warn(
                f"{setting} cannot converge: the center swings ever wider "
                f"around the workers. beta must be below {bound}. Use beta="
                f"{core.DEFAULT_BETA}."
            )
        return
    low, high = stable_moving_rates(num_workers, beta, order)
    if low < alpha < high:
        return
    symmetric = math.isclose(beta, num_workers * alpha, rel_tol=1e-6)
    if low >= high and not symmetric:
        _warn(
            f"{setting} cannot converge, nor can any other moving rate with "
            f"this beta. Use beta={core.DEFAULT_BETA} and moving_rate="
            f"{core.DEFAULT_BETA / num_workers:.6g}."
        )
        return
    # With the symmetry, beta follows the moving rate that is advised.
    low, high = min(
        _stable_intervals(num_workers, None if symmetric else beta, order),
        key=lambda interval: min(abs(alpha - end) for end in interval),
    )
    margin = 1e-3 * (high - low)  # more than the rounding of the message
    nearest = high - margin if alpha >= high else low + margin
    fix = f"moving_rate={nearest:.6g}"
    if symmetric:
        fix += f" (beta={num_workers * nearest:.6g})"
    _warn(
        f"{setting} cannot converge: the moving rate must lie strictly "
        f"between {low:.6g} and {high:.6g}. The nearest stable value is {fix}."
    )


def _warn(message: str) -> None:
    warnings.warn(message, StabilityWarning, stacklevel=4)
