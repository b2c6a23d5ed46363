r"""EASGD on double wells, simulated: where the workers end up.

The steps of eqs. 2.3 and 2.4 with :math:`\alpha = \eta \rho` and
:math:`\beta = p \alpha` are gradient descent on the objective of `splits`,
so without noise a run ends in one of its local minima.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from numpy.typing import NDArray

from tf_elastic import core
from tf_elastic.theory import _checks
from tf_elastic.theory.nonconvex import splits


class Descent(NamedTuple):
    """Where many runs ended."""

    workers: NDArray[np.float64]  # shape (runs, p)
    center: NDArray[np.float64]  # shape (runs,)

    @property
    def upper(self) -> NDArray[np.int64]:
        """How many workers are in the upper well, shape (runs,)."""
        return np.asarray(np.sum(self.workers > 0, axis=1), np.int64)


def descend(
    workers: ArrayLike,
    center: ArrayLike | None = None,
    *,
    elasticity: float,
    learning_rate: float = 0.05,
    steps: int = 2000,
    noise_std: float = 0.0,
    seed: int = 0,
) -> Descent:
    r"""Runs EASGD on the double well, all runs at once.

    .. math::
        x_i &\leftarrow x_i - \eta ((x_i^2 - 1) x_i + \sigma \xi_i)
            - \eta \rho (x_i - z) \\
        z &\leftarrow z + \eta \rho \sum_i (x_i - z)

    Args:
        workers: where they start, shape (runs, p).
        center: where it starts, shape (runs,); the workers' mean by default.
        elasticity: :math:`\rho \ge 0`.
        learning_rate: :math:`\eta > 0`. The penalty's curvature is up to
            :math:`(p + 1) \rho`, so :math:`\eta (p + 1) \rho` must stay
            below 2.
        steps: how many, at least 0.
        noise_std: :math:`\sigma \ge 0` of the gradient's Gaussian noise.
        seed: of the noise.

    Returns:
        `Descent`.

    Raises:
        ValueError: an argument is out of its range, or the exchange by itself
            diverges.

    Example:

    >>> apart = [[1.0, -1.0]]
    >>> descend(apart, elasticity=0.6).workers.round(3)
    array([[ 0.632, -0.632]])
    >>> descend([[1.0, -0.9]], elasticity=0.7).workers.round(3)
    array([[1., 1.]])

    Reference:
        Zhang (2016), section 5.3 and eqs. 2.3, 2.4.
    """
    x = np.array(workers, np.float64)
    _checks.require(
        x.ndim == 2, "of shape (runs, num_workers)", workers=workers
    )
    _checks.whole(0, steps=steps)
    _checks.at_least("noise_std", noise_std, 0)
    p = x.shape[1]
    alpha = learning_rate * elasticity
    if not (learning_rate > 0 and 0 <= alpha * (p + 1) < 2):
        raise ValueError(
            "`learning_rate` must be positive and "
            "learning_rate * elasticity * (num_workers + 1) at least 0 and "
            f"below 2. Received: learning_rate={learning_rate}, "
            f"elasticity={elasticity}, num_workers={p}."
        )
    z = x.mean(axis=1) if center is None else np.array(center, np.float64)
    generator = np.random.default_rng(seed)
    for _ in range(steps):
        gradient = splits.well_gradient(x)
        if noise_std > 0:
            gradient += noise_std * generator.standard_normal(x.shape)
        pulled, z = core.jacobi_exchange(list(x.T), z, alpha, p * alpha)
        x = core.sgd_step(np.stack(pulled, axis=1), gradient, learning_rate)
    return Descent(x, z)
