"""How many workers help EASGD and EAMSGD under multiplicative noise."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from tf_elastic.theory import _checks
from tf_elastic.theory.multiplicative.radii import elastic_radius

Array = NDArray[np.float64]

_COARSE = 64  # learning rates at first
_FINE = 17  # learning rates between the neighbors of the best
_ROUNDS = 6  # each narrows the learning rate eightfold


class BestWorkers(NamedTuple):
    """The number of workers with which the mean squares shrink fastest."""

    num_workers: int  # p
    learning_rate: float  # eta: the one given, or the best for this p
    radius: float  # what a step multiplies the mean squares with


def optimal_num_workers(
    *,
    shape: float,
    rate: float,
    learning_rate: float | None = None,
    beta: float = 0.9,
    moving_rate: float | None = None,
    momentum: float = 0.0,
    max_num_workers: int = 128,
    tolerance: float = 0.0,
) -> BestWorkers:
    r"""How many workers EASGD or EAMSGD converges fastest with.

    Unlike with mini-batches, the best p is finite: a worker's own noise does
    not average out, and with :math:`\alpha = \beta / p` the more there are,
    the less the center holds each.

    Args:
        shape: :math:`\lambda > 0` of the curvature's Gamma distribution.
        rate: :math:`\omega > 0`.
        learning_rate: :math:`\eta > 0`, or None for the best of each p
            (found to a relative 1e-6, in :math:`0 < \eta \lambda / \omega \le
            2`, above which nothing is stable).
        beta: :math:`\beta > 0`.
        moving_rate: :math:`\alpha \ge 0`, by default :math:`\beta / p`.
        momentum: :math:`\delta`, from 0 to below 1.
        max_num_workers: the highest p that is tried. Where it is what comes
            back, more may still help.
        tolerance: how much of the best speed (the logarithm of the radius)
            may be missed with fewer workers, from 0 to below 1.

    Returns:
        `BestWorkers`. Where no p is stable it is the p that diverges least,
        with a radius of at least 1.

    Raises:
        ValueError: an argument is out of its range.

    Example:

    >>> best = optimal_num_workers(shape=0.5, rate=0.5)
    >>> best.num_workers, round(best.learning_rate, 3), round(best.radius, 4)
    (6, 0.381, 0.5742)

    Reference:
        Zhang (2016), section 5.2.3, case I and Figures 5.15 to 5.18.
    """
    _checks.positive(shape=shape, rate=rate, beta=beta)
    _checks.require(
        moving_rate is None or moving_rate >= 0,
        "at least 0",
        moving_rate=moving_rate,
    )
    _checks.require(
        0 <= momentum < 1, "at least 0 and below 1", momentum=momentum
    )
    _checks.whole(max_num_workers=max_num_workers)
    _checks.require(
        0 <= tolerance < 1, "at least 0 and below 1", tolerance=tolerance
    )
    p = np.arange(1, max_num_workers + 1)

    def radii(learning_rates: Array) -> Array:
        return elastic_radius(
            learning_rate=learning_rates,
            num_workers=p[:, None],
            shape=shape,
            rate=rate,
            beta=beta,
            moving_rate=moving_rate,
            momentum=momentum,
        )

    if learning_rate is None:
        found, radius = _minimum(
            radii, low=1e-3 * rate / (shape + 1), high=2 * rate / shape
        )
    else:
        _checks.positive(learning_rate=learning_rate)
        found = np.full(len(p), float(learning_rate))
        radius = radii(found[:, None])[:, 0]
    speed = -np.log(radius)
    best = float(speed.max())
    # The fewest of those that are as fast, rounding aside.
    missed = max(tolerance * best, 1e-9 * abs(best))
    index = int(np.argmax(speed >= best - missed))
    return BestWorkers(index + 1, float(found[index]), float(radius[index]))


def _minimum(
    radii: Callable[[Array], Array], low: float, high: float
) -> tuple[Array, Array]:
    """Where each row of a function is lowest, on a grid that is refined.

    Args:
        radii: of arguments of shape (1, n) or (rows, n), gives (rows, n).
        low: the lowest argument, above 0.
        high: the highest argument.

    Returns:
        The arguments and the values there, each of shape (rows,).
    """
    # Steps of equal ratio, since the best may be far below the highest.
    grid = np.log(np.geomspace(low, high, _COARSE))[None, :]
    for _ in range(_ROUNDS):
        best = np.argmin(radii(np.exp(grid)), axis=1)
        last = grid.shape[1] - 1
        rows = np.arange(len(best)) if len(grid) > 1 else 0
        left = grid[rows, np.maximum(best - 1, 0)]
        right = grid[rows, np.minimum(best + 1, last)]
        grid = np.linspace(left, right, _FINE, axis=1)
    values = radii(np.exp(grid))
    best = np.argmin(values, axis=1)
    rows = np.arange(len(best))
    return np.exp(grid[rows, best]), values[rows, best]
