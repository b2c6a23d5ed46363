"""Which momentum, and how many workers, converge fastest."""

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from tf_elastic.theory import multiplicative
from tf_elastic.theory.advise import setting as settings
from tf_elastic.theory.advise.period_map import radii
from tf_elastic.theory.advise.setting import Setting
from tf_elastic.theory.multiplicative.inputs import step_moments

Array = NDArray[np.float64]

MAX_NUM_WORKERS = 128
TOLERANCE = 0.05  # of the best speed that fewer workers may miss

# From 0, ever closer to 1.
_MOMENTA = 1 - np.geomspace(1.0, 1e-3, 61)
_WORKERS = np.unique(np.geomspace(1, 64, 25).round().astype(int))
_LONGEST_DELAY = 128  # a matrix of which is still quick


class Workers(NamedTuple):
    """How many workers help."""

    num_workers: int | None  # beyond it no gain; None where there is no bound
    model: str  # "multiplicative", "mini-batch", "quadratic" or "none"


def best_momentum(setting: Setting, curvatures: Array) -> float | None:
    """The momentum with which the slowest curvature converges fastest.

    Returns:
        To about a fortieth of 1 - momentum; None if the method has none, or
        none is stable.
    """
    if not setting.rule.has_momentum:
        return None
    speed = radii(setting.changed("momentum", _MOMENTA), curvatures).max(axis=1)
    best = int(np.argmin(speed))
    if speed[best] >= 1:
        return None
    near = _MOMENTA[[max(best - 1, 0), min(best + 1, len(_MOMENTA) - 1)]]
    finer = 1 - np.geomspace(1 - near[0], 1 - near[1], 9)
    speed = radii(setting.changed("momentum", finer), curvatures).max(axis=1)
    return round(float(finer[np.argmin(speed)]), 4)


def useful_workers(
    setting: Setting, curvatures: Array, input_shape: float
) -> Workers:
    """The number of workers beyond which the model predicts no gain.

    Args:
        setting: one. Its period and delays stay; its moving rate follows p.
        curvatures: h, shape (m,); the model of noise has the largest.
        input_shape: lambda of the Gamma distribution of a sample's curvature.

    Returns:
        `Workers`.
    """
    exchange = setting.rule.exchange
    if exchange == settings.ELASTIC:
        return _elastic(setting, float(curvatures[-1]), input_shape)
    together = setting.meeting == settings.GAUSS_SEIDEL
    if exchange == settings.MEAN or (
        exchange == settings.GRADIENT and together
    ):
        return _mean(setting, float(curvatures[-1]), input_shape)
    if exchange in (settings.UPDATE, settings.GRADIENT):
        return _pushing(setting, curvatures)
    return Workers(None, "none")


def _elastic(setting: Setting, largest: float, shape: float) -> Workers:
    """Section 5.2 of the thesis."""
    if setting.beta == 0:
        return Workers(None, "none")
    best = multiplicative.optimal_num_workers(
        shape=shape,
        rate=shape / largest,
        learning_rate=float(setting.learning_rate),
        beta=float(setting.beta),
        momentum=float(setting.momentum),
        max_num_workers=MAX_NUM_WORKERS,
        tolerance=TOLERANCE,
    )
    if best.radius >= 1 or best.num_workers == MAX_NUM_WORKERS:
        return Workers(None, "multiplicative")
    return Workers(best.num_workers, "multiplicative")


def _mean(setting: Setting, largest: float, shape: float) -> Workers:
    r"""The mean of p workers after tau steps, each of random curvature.

    .. math:: m_1^{2 \tau} (1 - 1/p) + m_2^\tau / p

    with the first two moments of a worker's factor 1 - eta xi; a momentum is
    left aside.
    """
    mean, variance = step_moments(setting.learning_rate, shape, shape / largest)
    tau = setting.communication_period
    with np.errstate(over="ignore"):
        limit = (1 - mean) ** (2 * tau)
        alone = ((1 - mean) ** 2 + variance) ** tau
    p = np.arange(1, 100_001)
    square = limit + (alone - limit) / p
    if limit == 0 or not limit < 1:
        return Workers(None, "mini-batch")
    reached = -np.log(square) >= (1 - TOLERANCE) * -math.log(limit)
    if not reached.any():
        return Workers(None, "mini-batch")
    return Workers(int(p[np.argmax(reached)]), "mini-batch")


def _pushing(setting: Setting, curvatures: Array) -> Workers:
    """The quadratic itself: more updates in the same time, ever later."""
    speeds = []
    counts = [
        int(p)
        for p in _WORKERS
        if setting.rule.exchange == settings.UPDATE
        or settings.expected_staleness(setting.meeting, p) <= _LONGEST_DELAY
    ]
    for p in counts:
        changed = setting._replace(num_workers=p)
        updates = 1
        if setting.rule.exchange == settings.GRADIENT:
            delay = settings.expected_staleness(setting.meeting, p)
            changed = changed._replace(
                delays=(delay,), weights=(1.0,), steady=True
            )
            updates = p
        slowest = float(radii(changed, curvatures).max())
        speeds.append(-updates * math.log(slowest) if slowest > 0 else math.inf)
    best = max(speeds)
    if best <= 0:
        return Workers(None, "quadratic")
    fewest = next(
        p
        for p, speed in zip(counts, speeds, strict=True)
        if speed >= (1 - TOLERANCE) * best
    )
    if fewest == counts[-1]:
        return Workers(None, "quadratic")
    return Workers(fewest, "quadratic")
