"""Many runs of EASGD at once, on any function whose gradient is noisy.

All workers are there, each with its own noise, and every run takes the steps
of `core`: nothing of what `spectrum` and `moments` derive is used.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from numpy.typing import NDArray

from tf_elastic import core
from tf_elastic.theory import _checks

Array = NDArray[np.float64]


class Simulation(NamedTuple):
    """Runs of EASGD."""

    centers: Array  # shape (steps + 1, runs, n), from the start on
    workers: Array  # shape (p, runs, n), after the last step


def simulate(
    gradient: Callable[[Array], Array],
    *,
    steps: int,
    learning_rate: float,
    noise_covariance: ArrayLike,
    num_workers: int,
    beta: float,
    moving_rate: float | None = None,
    center_start: ArrayLike = 1.0,
    worker_start: ArrayLike = 1.0,
    runs: int,
    seed: int,
) -> Simulation:
    r"""Runs synchronous EASGD with Gaussian noise.

    Each worker sees :math:`g^i(x) = \nabla F(x) - \xi^i` with its own
    :math:`\xi^i \sim \mathcal N(0, \Sigma)` in every step; all exchange in
    every step, each with the center as it was.

    Args:
        gradient: :math:`\nabla F`, of points along the last axis, shape
            (..., n), to the same shape.
        steps: how many steps, at least 0.
        learning_rate: :math:`\eta`, at least 0.
        noise_covariance: :math:`\Sigma`, positive definite, shape (n, n).
        num_workers: p, at least 1.
        beta: :math:`\beta`, at least 0.
        moving_rate: :math:`\alpha`, at least 0; by default
            :math:`\beta / p`.
        center_start: :math:`\tilde x_0`, shape (n,) or ().
        worker_start: :math:`x^i_0`, shape (n,) or () for all workers, or
            (p, 1, n) for each.
        runs: how many runs, at least 1.
        seed: of the noise.

    Returns:
        `Simulation`.

    Raises:
        ValueError: an argument is out of range or not square.

    Example:

    >>> runs = simulate(
    ...     lambda x: 2.0 * x, steps=50, learning_rate=0.1,
    ...     noise_covariance=[[0.01]], num_workers=4, beta=0.9,
    ...     runs=1000, seed=0,
    ... )
    >>> runs.centers.shape, runs.workers.shape
    ((51, 1000, 1), (4, 1000, 1))
    >>> print(f"{abs(runs.centers[-1]).max():.2f}")
    0.02

    Reference:
        Zhang (2016), eqs. 2.3, 2.4 and 3.1.
    """
    steps = _checks.whole_number("steps", steps, 0)
    runs = _checks.whole_number("runs", runs)
    p = _checks.whole_number("num_workers", num_workers)
    eta = float(_checks.at_least("learning_rate", learning_rate, 0))
    alpha, beta_array = _checks.rates(p, moving_rate, beta)
    covariance = _checks.square("noise_covariance", noise_covariance)
    spread = np.linalg.cholesky(covariance).T
    n = len(covariance)
    random = np.random.default_rng(seed)
    workers = np.broadcast_to(worker_start, (p, runs, n)).astype(np.float64)
    centers = np.empty((steps + 1, runs, n))
    centers[0] = center_start
    for step in range(steps):
        noise = random.standard_normal((p, runs, n)) @ spread
        slope = gradient(workers) - noise
        difference = core.elastic_difference(workers, centers[step])
        centers[step + 1] = core.push(
            centers[step], difference.sum(axis=0), float(beta_array), p
        )
        # The elastic difference is that of before the gradient step.
        workers = core.sgd_step(
            core.pull(workers, difference, float(alpha)), slope, eta
        )
    return Simulation(centers, workers)
