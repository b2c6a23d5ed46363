"""What changes from step to step: the learning rate and the delay."""

import numpy as np
from numpy.typing import ArrayLike
from numpy.typing import NDArray

from tf_elastic import core
from tf_elastic.theory import _checks

SCHEDULES = ("constant", "inverse", "inverse_sqrt")


def rate_adjustment(step: ArrayLike, schedule: str) -> NDArray[np.float64]:
    r"""The adjustment :math:`u_k` of the learning rate.

    It is 1 ("constant"), 1 / k ("inverse") or :math:`1 / \sqrt k`
    ("inverse_sqrt"). In the equation's time, :math:`U(t) = u_{t / \delta}`:
    :math:`\delta / t` and :math:`\sqrt{\delta / t}`.

    Args:
        step: k, from 1; need not be whole (t / delta).
        schedule: one of `SCHEDULES`.

    Returns:
        :math:`u_k` in (0, 1] for k of at least 1, of the shape of `step`.

    Raises:
        ValueError: the schedule is unknown, or a step is not positive.

    Example:

    >>> print(rate_adjustment([1, 2, 4], "inverse_sqrt").round(4))
    [1.     0.7071 0.5   ]

    Reference:
        He et al. (2018), section 3.1, cases (a) to (c).
    """
    _checks.require(
        schedule in SCHEDULES, f"one of {SCHEDULES}", schedule=schedule
    )
    _checks.positive(step=step)
    before = np.asarray(step, dtype=np.float64) - 1
    if schedule == "inverse":
        rate = core.polyak_rate(before)
    elif schedule == "inverse_sqrt":
        rate = core.inverse_sqrt_decay(1.0, before, decay=1.0)
    else:
        rate = np.ones_like(before)
    return np.asarray(rate)[()]


def random_delays(
    weights: ArrayLike, steps: int, *, runs: int = 1, seed: int = 0
) -> NDArray[np.int64]:
    r"""Delays :math:`l_k` that are drawn anew in each step and run.

    Args:
        weights: :math:`q_0, ..., q_l`, the probability of each delay; their
            number is the bound l plus one.
        steps: how many delays for each run.
        runs: independent runs.
        seed: of the generator.

    Returns:
        Delays, shape (steps, runs). In the first l steps they may reach
        before the beginning; what uses them stops there.

    Raises:
        ValueError: the weights are not probabilities.

    Example:

    >>> random_delays([0.0, 1.0], steps=2, runs=3)
    array([[1, 1, 1],
           [1, 1, 1]])

    Reference:
        He et al. (2018), Theorem 3.2 and its proof.
    """
    chances = np.asarray(weights, dtype=np.float64)
    _checks.require(
        chances.ndim == 1
        and np.all(chances >= 0)
        and np.isclose(np.sum(chances), 1),
        "probabilities that sum to 1",
        weights=weights,
    )
    generator = np.random.default_rng(seed)
    return generator.choice(len(chances), size=(steps, runs), p=chances)


def warm_up_delays(delay: int, steps: int) -> NDArray[np.int64]:
    """A constant delay that begins when there is a past to look at.

    The first `delay` steps are SGD, as in the paper's experiments.

    Args:
        delay: l, in steps, at least 0.
        steps: how many delays.

    Returns:
        `delay` zeros, then `delay` in every step; shape (steps,).

    Raises:
        ValueError: the delay is not a whole number of at least 0.

    Example:

    >>> warm_up_delays(2, steps=5)
    array([0, 0, 2, 2, 2])

    Reference:
        He et al. (2018), section 5.
    """
    _checks.whole(0, delay=delay)
    return np.where(np.arange(steps) < delay, 0, delay)
