r"""Moments of the Gauss-Seidel form with additive noise, and a simulator.

The gradient is :math:`h x - \xi` with independent noise of standard deviation
:math:`\sigma` for each worker and step. The state is seen where the thesis
sees it: at the end of a period, when the center has moved.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from numpy.typing import NDArray

from tf_elastic import core
from tf_elastic.theory import _checks
from tf_elastic.theory.gauss_seidel import maps


class Paths(NamedTuple):
    """Independent runs, seen at the end of each period."""

    worker_mean: NDArray[np.float64]  # shape (periods + 1, runs)
    center: NDArray[np.float64]  # shape (periods + 1, runs)


class Moments(NamedTuple):
    """Mean and covariance of (workers' mean, center)."""

    mean: NDArray[np.float64]  # shape (periods + 1, 2)
    covariance: NDArray[np.float64]  # shape (periods + 1, 2, 2)


def stationary_covariance(
    *,
    learning_rate: ArrayLike,
    moving_rate: ArrayLike,
    beta: ArrayLike,
    num_workers: ArrayLike,
    noise_std: ArrayLike = 1.0,
    curvature: ArrayLike = 1.0,
    communication_period: ArrayLike = 1,
) -> NDArray[np.float64]:
    r"""The covariance of (workers' mean, center) after a long time.

    The solution of :math:`C = M C M^T + q g g^T` with :math:`g = (1, \beta)`
    and q the variance that a period's noise adds to the workers' mean,
    :math:`\eta^2 \sigma^2 / p` for one step.

    Args:
        learning_rate: :math:`\eta > 0`.
        moving_rate: :math:`\alpha > 0`.
        beta: :math:`\beta > 0`.
        num_workers: p, at least 1.
        noise_std: :math:`\sigma \ge 0`, of a worker's gradient.
        curvature: h > 0.
        communication_period: :math:`\tau`, at least 1.

    Returns:
        C, shape (..., 2, 2); NaN where mean and center are not stable.

    Raises:
        ValueError: an argument is out of its range.

    Example:

    >>> C = stationary_covariance(
    ...     learning_rate=0.1, moving_rate=1.0, beta=4.0, num_workers=4
    ... )
    >>> print(f"{C[1, 1]:.4f}")  # DOWNPOUR: eta / (2 - p eta)
    0.0625

    Reference:
        Zhang (2016), eqs. 6.3 and 6.5; the covariance is not in the thesis.
    """
    beta = np.asarray(beta, np.float64)
    settings = {
        "learning_rate": learning_rate,
        "moving_rate": moving_rate,
        "beta": beta,
        "curvature": curvature,
        "communication_period": communication_period,
    }
    stable = maps.is_stable(**settings)
    matrix = maps.map_matrix(**settings)
    noise = _noise(
        learning_rate, num_workers, noise_std, curvature, communication_period
    )
    shape = np.broadcast_shapes(stable.shape, noise.shape)
    source = (
        np.stack([np.ones_like(beta), beta, beta, beta**2], axis=-1)
        * np.broadcast_to(noise, shape)[..., np.newaxis]
    )
    # On covariances written as four numbers M acts as its Kronecker square.
    twice = np.einsum("...ij,...kl->...ikjl", matrix, matrix)
    system = np.eye(4) - twice.reshape(*matrix.shape[:-2], 4, 4)
    safe = np.where(stable[..., np.newaxis, np.newaxis], system, np.eye(4))
    solution = np.linalg.solve(safe, source[..., np.newaxis])[..., 0]
    solution = np.where(stable[..., np.newaxis], solution, np.nan)
    return np.asarray(solution.reshape(*solution.shape[:-1], 2, 2))


def moments(
    *,
    learning_rate: float,
    moving_rate: float,
    beta: float,
    num_workers: int,
    periods: int,
    start: float = 0.0,
    noise_std: float = 1.0,
    curvature: float = 1.0,
    communication_period: int = 1,
) -> Moments:
    r"""Mean and covariance of (workers' mean, center) over time.

    Args:
        learning_rate: :math:`\eta`.
        moving_rate: :math:`\alpha`.
        beta: :math:`\beta`.
        num_workers: p, at least 1.
        periods: how many, at least 0.
        start: where all workers and the center begin.
        noise_std: :math:`\sigma \ge 0`, of a worker's gradient.
        curvature: h.
        communication_period: :math:`\tau`, at least 1.

    Returns:
        `Moments`, from before the first period on.

    Raises:
        ValueError: an argument is out of its range.
    """
    _checks.whole(0, periods=periods)
    matrix = maps.map_matrix(
        learning_rate=learning_rate,
        moving_rate=moving_rate,
        beta=beta,
        curvature=curvature,
        communication_period=communication_period,
    )
    direction = np.array([1.0, beta])
    noise = np.outer(direction, direction) * _noise(
        learning_rate, num_workers, noise_std, curvature, communication_period
    )
    mean, covariance = np.full(2, float(start)), np.zeros((2, 2))
    means, covariances = [mean], [covariance]
    for _ in range(periods):
        mean = matrix @ mean
        covariance = matrix @ covariance @ matrix.T + noise
        means.append(mean)
        covariances.append(covariance)
    return Moments(np.stack(means), np.stack(covariances))


def simulate(
    *,
    learning_rate: float,
    moving_rate: float,
    beta: float,
    num_workers: int,
    periods: int,
    runs: int,
    seed: int,
    start: float = 0.0,
    noise_std: float = 1.0,
    curvature: float = 1.0,
    communication_period: int = 1,
) -> Paths:
    r"""Runs EASGD in Gauss-Seidel form on a quadratic, all runs at once.

    Args:
        learning_rate: :math:`\eta`.
        moving_rate: :math:`\alpha`.
        beta: :math:`\beta`.
        num_workers: p, at least 1.
        periods: how many, at least 0.
        runs: how many independent runs, at least 1.
        seed: of the noise.
        start: where all workers and the center begin.
        noise_std: :math:`\sigma \ge 0`, of a worker's gradient.
        curvature: h.
        communication_period: :math:`\tau`, at least 1.

    Returns:
        `Paths`.

    Raises:
        ValueError: an argument is out of its range.

    Reference:
        Zhang (2016), eq. 6.3.
    """
    _checks.whole(
        num_workers=num_workers,
        runs=runs,
        communication_period=communication_period,
    )
    _checks.whole(0, periods=periods)
    _checks.at_least("noise_std", noise_std, 0)
    generator = np.random.default_rng(seed)
    workers: NDArray[np.float64] = np.full((num_workers, runs), float(start))
    center: NDArray[np.float64] = np.full(runs, float(start))
    means, centers = [workers.mean(axis=0)], [center]
    for _ in range(periods):
        workers = core.pull(
            workers, core.elastic_difference(workers, center), moving_rate
        )
        for _ in range(communication_period):
            noise = noise_std * generator.standard_normal(workers.shape)
            workers = core.sgd_step(
                workers, curvature * workers - noise, learning_rate
            )
        differences = core.elastic_difference(workers, center)
        center = core.push(center, differences.sum(axis=0), beta, num_workers)
        means.append(workers.mean(axis=0))
        centers.append(center)
    return Paths(np.stack(means), np.stack(centers))


def _noise(
    learning_rate: ArrayLike,
    num_workers: ArrayLike,
    noise_std: ArrayLike,
    curvature: ArrayLike,
    communication_period: ArrayLike,
) -> NDArray[np.float64]:
    """The variance that a period's noise adds to the workers' mean."""
    _checks.whole(
        num_workers=num_workers, communication_period=communication_period
    )
    sigma = _checks.at_least("noise_std", noise_std, 0)
    eta, tau = np.asarray(learning_rate), np.asarray(communication_period)
    squared = (1 - eta * np.asarray(curvature)) ** 2
    with np.errstate(divide="ignore", invalid="ignore"):
        steps = np.where(squared == 1, tau, (1 - squared**tau) / (1 - squared))
    return np.asarray(steps * (eta * sigma) ** 2 / np.asarray(num_workers))
