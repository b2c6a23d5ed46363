"""Monte Carlo of SGD, MSGD, EASGD and EAMSGD under additive noise."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from tf_elastic import core
from tf_elastic.theory import _checks


class Runs(NamedTuple):
    """Independent runs. The workers are as they are at the end."""

    center: NDArray[np.float64]  # shape (steps + 1, runs), with the start
    workers: NDArray[np.float64]  # shape (num_workers, runs)
    velocities: NDArray[np.float64]  # same shape as workers


def simulate(
    *,
    learning_rate: float,
    steps: int,
    runs: int,
    seed: int,
    momentum: float = 0.0,
    nesterov: bool = True,
    num_workers: int = 1,
    moving_rate: float = 0.0,
    beta: float = 0.0,
    batch_size: int = 1,
    curvature: float = 1.0,
    noise: float = 1.0,
    start: float = 1.0,
) -> Runs:
    r"""Simulates many runs at once.

    .. math::
        v^i &\leftarrow \delta v^i - \eta (h (x^i + \delta v^i) - \xi^i) \\
        x^i &\leftarrow x^i + v^i - \alpha (x^i - \tilde x) \\
        \tilde x &\leftarrow \tilde x
            + \beta \Bigl(\frac1p \sum_i x^i - \tilde x\Bigr)

    with the old :math:`x^i` and :math:`\tilde x` in both exchanges. Without
    momentum it is EASGD; with :math:`\alpha = \beta = 0` the workers are
    independent runs of momentum SGD, or of SGD, and the center stays.

    Args:
        learning_rate: :math:`\eta`.
        steps: of all workers, at least 0.
        runs: independent ones, at least 1.
        seed: of the noise.
        momentum: :math:`\delta`.
        nesterov: whether the gradient is taken at
            :math:`x^i + \delta v^i`, or else at :math:`x^i` (heavy ball).
        num_workers: p, at least 1.
        moving_rate: :math:`\alpha`.
        beta: :math:`\beta`.
        batch_size: gradients that are averaged in a step.
        curvature: h.
        noise: :math:`\sigma`, the standard deviation of one gradient's noise.
        start: of the workers and of the center; velocities start from 0.

    Returns:
        `Runs`.

    Raises:
        ValueError: an argument is outside of its range.

    Example:

    >>> runs = simulate(
    ...     learning_rate=0.5,
    ...     num_workers=2,
    ...     moving_rate=0.25,
    ...     beta=0.5,
    ...     noise=0.0,
    ...     steps=3,
    ...     runs=1,
    ...     seed=0,
    ... )
    >>> runs.center[:, 0]
    array([1.    , 1.    , 0.75  , 0.5625])

    Reference:
        Zhang (2016), eqs. 5.2, 5.4, 5.9 and section 5.1.3 for EAMSGD.
    """
    _checks.finite(
        learning_rate=learning_rate,
        momentum=momentum,
        moving_rate=moving_rate,
        beta=beta,
        curvature=curvature,
        start=start,
    )
    deviation = float(_checks.at_least("noise", noise, 0))
    deviation /= _checks.whole_number("batch_size", batch_size) ** 0.5
    steps = _checks.whole_number("steps", steps, 0)
    p = _checks.whole_number("num_workers", num_workers)
    shape = (p, _checks.whole_number("runs", runs))
    random = np.random.default_rng(seed)
    workers, velocities = np.full(shape, float(start)), np.zeros(shape)
    centers = np.empty((steps + 1, runs))
    centers[0] = start
    for t in range(steps):
        point = workers
        if nesterov:
            point = core.lookahead_point(workers, velocities, momentum)
        gradient = curvature * point - deviation * random.standard_normal(shape)
        difference = core.elastic_difference(workers, centers[t])
        workers, velocities = core.momentum_step(
            workers, velocities, gradient, learning_rate, momentum
        )
        workers = core.pull(workers, difference, moving_rate)
        centers[t + 1] = core.push(centers[t], difference.sum(axis=0), beta, p)
    return Runs(centers, workers, velocities)
