"""Simulated runs of EASGD and EAMSGD under multiplicative noise."""

import numpy as np
from numpy.typing import ArrayLike
from numpy.typing import NDArray

from tf_elastic import core
from tf_elastic.theory import _checks
from tf_elastic.theory._monte_carlo import Estimate
from tf_elastic.theory._monte_carlo import estimate

Array = NDArray[np.float64]


def second_moments(
    center: ArrayLike, workers: ArrayLike, velocities: ArrayLike
) -> Array:
    r"""The nine second moments of one state, or of many.

    Args:
        center: :math:`\tilde x`, shape (...).
        workers: :math:`x^i`, shape (p, ...).
        velocities: :math:`v^i`, shape (p, ...).

    Returns:
        a, b, c, d, e, f, g, h, k of `eamsgd_moment_matrix`, shape (..., 9).

    Example:

    >>> print(second_moments(1.0, workers=[2.0, 4.0], velocities=[0.0, 1.0]))
    [ 1.   10.    3.    9.    0.5   0.25  0.5   2.    1.5 ]
    """
    z, x, v = (np.asarray(a) for a in (center, workers, velocities))
    mean_x, mean_v = x.mean(axis=0), v.mean(axis=0)
    return np.stack(
        [
            z**2,
            np.mean(x**2, axis=0),
            z * mean_x,
            mean_x**2,
            z * mean_v,
            mean_v**2,
            np.mean(v**2, axis=0),
            np.mean(x * v, axis=0),
            mean_x * mean_v,
        ],
        axis=-1,
    )


def simulate(
    *,
    learning_rate: float,
    moving_rate: float,
    beta: float,
    num_workers: int,
    shape: float,
    rate: float,
    steps: int,
    runs: int,
    momentum: float = 0.0,
    center: float = 1.0,
    workers: ArrayLike = 1.0,
    velocities: ArrayLike = 0.0,
    seed: int = 0,
) -> Estimate:
    r"""Runs EAMSGD many times and averages its second moments.

    It is EASGD with momentum 0, MSGD with `moving_rate` 0 and one worker, and
    SGD with both; mini-batches of p have p times the shape and the rate.

    Args:
        learning_rate: :math:`\eta`.
        moving_rate: :math:`\alpha`.
        beta: :math:`\beta`.
        num_workers: p, at least 1.
        shape: :math:`\lambda > 0` of the curvature's Gamma distribution.
        rate: :math:`\omega > 0`.
        steps: how many, at least 0.
        runs: how many, at least 2. After many steps few runs with extreme
            values make the mean, and the standard error is too low.
        momentum: :math:`\delta`.
        center: :math:`\tilde x_0`.
        workers: :math:`x^i_0`, a number or p of them.
        velocities: :math:`v^i_0`, a number or p of them.
        seed: of the random numbers.

    Returns:
        `Estimate` of `second_moments` at the times 0 to `steps`: mean and
        standard error, each of shape (steps + 1, 9).

    Raises:
        ValueError: an argument is out of its range.

    Example:

    >>> found = simulate(
    ...     learning_rate=0.1, moving_rate=0.3, beta=0.9, num_workers=3,
    ...     shape=1.0, rate=1.0, steps=20, runs=100,
    ... )
    >>> found.mean.shape
    (21, 9)
    >>> bool(found.mean[20, 0] < found.mean[0, 0])
    True

    Reference:
        Zhang (2016), eqs. 5.28 and 5.31; Algorithm 2.
    """
    _checks.finite(
        learning_rate=learning_rate,
        moving_rate=moving_rate,
        beta=beta,
        momentum=momentum,
    )
    _checks.positive(shape=shape, rate=rate)
    _checks.whole(num_workers=num_workers)
    _checks.whole(0, steps=steps)
    _checks.whole(2, runs=runs)
    generator = np.random.default_rng(seed)
    size = (num_workers, runs)
    z = np.full(runs, float(center))
    x, v = (
        np.broadcast_to(np.reshape(start, (-1, 1)), size).astype(np.float64)
        for start in (workers, velocities)
    )
    found = [estimate(second_moments(z, x, v))]
    for _ in range(steps):
        curvature = generator.gamma(shape, 1 / rate, size)
        gradient = curvature * core.lookahead_point(x, v, momentum)
        difference = core.elastic_difference(x, z)
        x, v = core.momentum_step(x, v, gradient, learning_rate, momentum)
        x = core.pull(x, difference, moving_rate)
        z = core.push(z, difference.sum(axis=0), beta, num_workers)
        found.append(estimate(second_moments(z, x, v)))
    return Estimate(*(np.stack(part) for part in zip(*found, strict=True)))
