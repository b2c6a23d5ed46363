"""What Async-MSGD for streaming PCA becomes as the learning rate goes to 0."""

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from numpy.typing import NDArray

from tf_elastic.theory import _checks
from tf_elastic.theory.streaming_pca import problem


class Moments(NamedTuple):
    """Mean and variance of each component along the eigenvectors."""

    mean: NDArray[np.float64]  # shape (..., d)
    variance: NDArray[np.float64]  # shape (..., d)


def ode_path(
    t: ArrayLike,
    *,
    initial: ArrayLike,
    momentum: ArrayLike,
    covariance: ArrayLike,
) -> NDArray[np.float64]:
    r"""The mean path: where the ODE limit is at time t.

    .. math:: \dot V = \frac{1}{1 - \mu} (\Sigma V - V^\top \Sigma V\, V)

    Time is :math:`t = \eta k`. With :math:`W = e^{\Sigma t / (1 - \mu)} V(0)`
    the solution is :math:`V = W / \sqrt{1 + \|W\|^2 - \|V(0)\|^2}`, the paper's
    where :math:`\|V(0)\| = 1`. No delay is in it: where it is a good model,
    delays do not matter yet.

    Args:
        t: time, at least 0.
        initial: :math:`V(0)`, shape (d,), of length at most 1.
        momentum: :math:`\mu` in [0, 1); broadcasts against `t`.
        covariance: :math:`\Sigma`, shape (d, d); see `eigenbasis`.

    Returns:
        V(t), shape (..., d).

    Raises:
        ValueError: an argument is out of its range.

    Example:

    >>> import numpy as np
    >>> path = ode_path(
    ...     [0.0, 0.5, 5.0], initial=[0.6, 0.8], momentum=0.5,
    ...     covariance=np.diag([3.0, 2.0]),
    ... )
    >>> print(path.round(3))
    [[0.6   0.8  ]
     [0.898 0.44 ]
     [1.    0.   ]]

    Reference:
        Liu et al. (2018), Theorem 3.3 (eq. 3.2) and the solution below it.
    """
    basis = problem.eigenbasis(covariance)
    mu = problem.checked_momentum(momentum)
    start = np.asarray(initial, np.float64)
    square = np.sum(start**2)
    _checks.require(
        start.shape == basis.values.shape and square <= 1 + 1e-9,
        "a point for each row of the covariance, of length at most 1",
        initial=initial,
    )
    time = (_checks.at_least("t", t, 0) / (1 - mu))[..., None]
    # All is divided by the largest exponential, which would overflow.
    grown = (start @ basis.vectors) * np.exp(
        (basis.values - basis.values[0]) * time
    )
    length = np.maximum(1 - square, 0) * np.exp(-2 * basis.values[0] * time)
    length = length + np.sum(grown**2, axis=-1, keepdims=True)
    path: NDArray[np.float64] = grown / np.sqrt(length) @ basis.vectors.T
    return path


def deviation_moments(
    t: ArrayLike,
    *,
    initial: ArrayLike,
    momentum: ArrayLike,
    covariance: ArrayLike,
    around: int = 1,
    inputs: str = "gaussian",
) -> Moments:
    r"""The SDE limit: how far runs scatter around a stationary point.

    Around the eigenvector :math:`v^j` the deviation :math:`U = Q^\top (v -
    v^j) / \sqrt\eta` goes to independent Ornstein-Uhlenbeck processes,

    .. math::
        dU^{(i)} = \frac{\lambda_i - \lambda_j}{1 - \mu} U^{(i)} dt
            + \frac{\alpha_{ij}}{1 - \mu} dB_t, \quad i \ne j

    with :math:`t = \eta k`: around the optimum (j = 1) they settle, around a
    saddle they leave along each i < j.

    Args:
        t: time since U was `initial`, at least 0.
        initial: :math:`U(0)` along the eigenvectors, shape (d,).
        momentum: :math:`\mu` in [0, 1); broadcasts against `t`.
        covariance: :math:`\Sigma`, shape (d, d); see `eigenbasis`.
        around: j, from 1 (the optimum) to d.
        inputs: "gaussian" or "sphere"; see `fourth_moments`.

    Returns:
        Mean and variance of U(t), shape (..., d); both 0 along :math:`v^j`
        itself, where the deviation is of a higher order.

    Raises:
        ValueError: an argument is out of its range.

    Example:

    >>> import numpy as np
    >>> mean, variance = deviation_moments(
    ...     0.5, initial=[0.0, 2.0], momentum=0.5,
    ...     covariance=np.diag([3.0, 2.0]),
    ... )
    >>> print(mean.round(3), variance.round(3))
    [0.    0.736] [0.    5.188]

    Reference:
        Liu et al. (2018), eq. 3.3 (A.1), A.2, and the moments in A.6 and A.9.
    """
    values, noise = _drift_and_noise(covariance, around, inputs)
    mu = problem.checked_momentum(momentum)
    start = np.asarray(initial, np.float64)
    _checks.require(
        start.shape == values.shape and np.all(np.isfinite(start)),
        "a number for each row of the covariance",
        initial=initial,
    )
    others = np.arange(len(values)) != around - 1
    time = (_checks.at_least("t", t, 0) / (1 - mu))[..., None]
    mean = np.where(others, start * np.exp(values * time), 0)
    # (exp(2 a s) - 1) / (2 a), which is s where eigenvalues are equal.
    doubled = np.where(values == 0, 1, 2 * values)
    grown = np.expm1(2 * values * time) / doubled
    grown = np.where(values == 0, time, grown)
    variance = np.where(others, noise * grown, 0) / (1 - mu[..., None])
    return Moments(mean, variance)


def stationary_variance(
    *,
    momentum: ArrayLike,
    covariance: ArrayLike,
    inputs: str = "gaussian",
) -> NDArray[np.float64]:
    r"""The variance of the SDE around the optimum after a long time.

    .. math:: \frac{\alpha_{i1}^2}{2 (1 - \mu)(\lambda_1 - \lambda_i)}

    Times :math:`\eta` it is what is expected of the squared component of v
    along the eigenvector i, and the sum over i is the squared error at which
    MSGD settles, with any delay that is harmless.

    Args:
        momentum: :math:`\mu` in [0, 1).
        covariance: :math:`\Sigma`, shape (d, d); see `eigenbasis`.
        inputs: "gaussian" or "sphere"; see `fourth_moments`.

    Returns:
        The variances, shape (..., d), 0 along the optimum itself.

    Raises:
        ValueError: an argument is out of its range.

    Example:

    >>> import numpy as np
    >>> print(stationary_variance(
    ...     momentum=0.7, covariance=np.diag([4.0, 3.0, 2.0, 1.0])
    ... ))
    [ 0.         20.          6.66666667  2.22222222]

    Reference:
        Liu et al. (2018), A.6 with t to infinity.
    """
    values, noise = _drift_and_noise(covariance, 1, inputs)
    mu = problem.checked_momentum(momentum)
    settled = np.append(0.0, noise[1:] / (-2 * values[1:]))
    variance: NDArray[np.float64] = settled / (1 - mu[..., None])
    return variance


def _drift_and_noise(
    covariance: ArrayLike, around: int, inputs: str
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """lambda_i - lambda_j and alpha_ij squared for a j, shapes (d,)."""
    values = problem.eigenbasis(covariance).values
    _checks.require(
        around in range(1, len(values) + 1),
        f"a whole number from 1 to {len(values)}",
        around=around,
    )
    noise = problem.fourth_moments(covariance, inputs)
    return values - values[around - 1], noise[around - 1]
