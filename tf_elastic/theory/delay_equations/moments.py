r"""Moments of the linear delay equation.

.. math:: dX(t) = -A (X(t - \tau) - x^*) dt + \sqrt \eta \sigma dB(t)

Everything follows from its `fundamental_solution`, R.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from numpy.typing import NDArray

from tf_elastic.theory import _checks
from tf_elastic.theory.delay_equations import solution
from tf_elastic.theory.delay_equations.roots import nonnegative
from tf_elastic.theory.delay_equations.roots import square

Array = NDArray[np.float64]


class DelayMoments(NamedTuple):
    r"""The first two moments of :math:`X(t) - x^*`."""

    mean: Array  # shape (..., n) for times of shape (...)
    covariance: Array  # shape (..., n, n)


def linear_moments(
    t: ArrayLike,
    *,
    matrix: ArrayLike,
    delay: float,
    displacement: ArrayLike,
    noise_covariance: ArrayLike,
) -> DelayMoments:
    r"""Mean and covariance at time t, from a constant history.

    .. math::
        E X(t) - x^* = R(t + \tau) (\xi - x^*), \quad
        \mathrm{cov} X(t) = \int_0^t R(s) \eta \sigma \sigma^T R(s)^T ds

    With no delay this is the Ornstein-Uhlenbeck process of section 4.

    Args:
        t: times of at least 0.
        matrix: A, shape (n, n).
        delay: :math:`\tau \ge 0`, in units of time.
        displacement: :math:`\xi - x^*`, shape (n,), the same on
            :math:`[-\tau, 0]`.
        noise_covariance: :math:`\eta \sigma \sigma^T`, per unit of time,
            shape (n, n).

    Returns:
        `DelayMoments`.

    Raises:
        ValueError: a shape does not fit, or as `fundamental_solution`.

    Example:

    >>> mean, covariance = linear_moments(
    ...     1.5, matrix=[[1.0]], delay=1.0, displacement=[4.0],
    ...     noise_covariance=[[0.01]],
    ... )
    >>> print(mean.round(6), covariance.round(6))
    [-1.5] [[0.012917]]

    Reference:
        He et al. (2018), section 4 and the proof of Theorem 4.1. With a
        constant history X starts as R does on :math:`[0, \tau]`.
    """
    hessian, times = solution.checked(t, matrix, delay)
    start = np.asarray(displacement, dtype=np.float64)
    noise = square("noise_covariance", noise_covariance)
    n = len(hessian)
    _checks.require(
        start.shape == (n,), f"of shape ({n},)", displacement=displacement
    )
    _checks.require(
        noise.shape == (n, n),
        f"of shape ({n}, {n})",
        noise_covariance=noise_covariance,
    )
    length, pieces = solution.solve(hessian, delay, float(times.max()) + delay)
    mean = solution.evaluate(pieces, length, times + delay) @ start
    rates = pieces @ noise @ np.swapaxes(pieces, -1, -2)
    grown = length * np.einsum("ik,jkab->jiab", solution.INTEGRATE, rates)
    before = np.cumsum(grown[:, -1], axis=0) - grown[:, -1]
    covariance = solution.evaluate(grown + before[:, None], length, times)
    return DelayMoments(mean, covariance)


def stationary_variance(
    curvature: ArrayLike, delay: ArrayLike
) -> NDArray[np.float64]:
    r"""The variance that :math:`dX = -h X(t - \tau) dt + dB` settles at.

    .. math:: \frac{1 + \sin(h \tau)}{2 h \cos(h \tau)}

    Args:
        curvature: h, an eigenvalue of a symmetric A.
        delay: :math:`\tau \ge 0`, in units of time; broadcasts.

    Returns:
        The variance, for noise of variance 1 per unit of time: multiply with
        :math:`\eta \sigma^2`. Infinite where it does not settle, unless
        :math:`0 < h \tau < \pi / 2` or h > 0 with no delay.

    Raises:
        ValueError: the delay is negative, or a value not finite.

    Example:

    >>> print(stationary_variance(2.0, [0.0, 0.5, 0.8]).round(4))
    [0.25   0.852     inf]

    Reference:
        Kuechler and Mensch (1992); `delayed_sgd_variance` is the same for
        steps that are not small.
    """
    _checks.finite(curvature=curvature)
    nonnegative(delay=delay)
    h, tau = np.broadcast_arrays(
        np.asarray(curvature, dtype=np.float64),
        np.asarray(delay, dtype=np.float64),
    )
    stable = (h > 0) & (h * tau < np.pi / 2)
    rate = np.where(stable, h, 1.0)
    turn = np.where(stable, h * tau, 0.0)
    variance = (1 + np.sin(turn)) / (2 * rate * np.cos(turn))
    return np.where(stable, variance, np.inf)[()]
