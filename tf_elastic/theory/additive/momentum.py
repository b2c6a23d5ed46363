r"""One worker under additive noise: SGD with mini-batch, and momentum SGD.

The model is one-dimensional: curvature h, gradients :math:`h x - \xi` with
:math:`\xi` of mean 0 and variance :math:`\sigma^2`. All that matters of h for
stability is :math:`\eta_h = \eta h`.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from numpy.typing import NDArray

from tf_elastic.theory import _checks
from tf_elastic.theory import _spectra


class Moments(NamedTuple):
    """Bias and variance of a parameter whose optimum is 0."""

    mean: NDArray[np.float64]
    variance: NDArray[np.float64]  # same shape


class MomentumMoments(NamedTuple):
    """Second moments of momentum SGD, in the order of eq. 5.6."""

    velocity: NDArray[np.float64]  # E v^2
    cross: NDArray[np.float64]  # E v x, same shape
    parameters: NDArray[np.float64]  # E x^2, same shape


def sgd_moments(
    t: ArrayLike,
    *,
    learning_rate: ArrayLike,
    curvature: ArrayLike = 1.0,
    noise: ArrayLike = 1.0,
    batch_size: ArrayLike = 1,
    start: ArrayLike = 1.0,
) -> Moments:
    r"""Mean and variance of SGD with mini-batch after t steps.

    .. math::
        E x_t = (1 - \eta h)^t x_0, \qquad
        V x_t = \frac{\eta^2 \sigma^2}{p}
            \frac{1 - (1 - \eta h)^{2t}}{1 - (1 - \eta h)^2}

    A larger batch lowers the variance, but does not speed up the bias.

    Args:
        t: steps, at least 0; infinity for the limit.
        learning_rate: :math:`\eta`.
        curvature: h.
        noise: :math:`\sigma`, the standard deviation of one gradient's noise.
        batch_size: p, gradients in a batch, at least 1.
        start: :math:`x_0`.

    Returns:
        `Moments`, of the shape that the arguments broadcast to. Where
        :math:`|1 - \eta h| \ge 1` the variance grows without end.

    Raises:
        ValueError: an argument is outside of its range.

    Example:

    >>> sgd_moments(2, learning_rate=0.5, noise=2.0, batch_size=4)
    Moments(mean=array(0.25), variance=array(0.3125))
    >>> print(sgd_moments(np.inf, learning_rate=0.5).variance.round(4))
    0.3333

    Reference:
        Zhang (2016), eqs. 5.2 and 5.3.
    """
    t = np.asarray(t, np.float64)
    _checks.require(t >= 0, "at least 0", t=t)
    learning_rate, curvature, start = _checks.as_finite(
        learning_rate=learning_rate, curvature=curvature, start=start
    )
    noise = _checks.at_least("noise", noise, 0)
    _checks.whole(batch_size=batch_size)
    rate = 1 - learning_rate * curvature
    variance = learning_rate**2 * noise**2 / np.asarray(batch_size)
    still = rate**2 == 1
    with np.errstate(over="ignore"):
        mean = np.where(start == 0, 0.0, rate**t * start)
        terms = np.where(
            still, t, (1 - rate ** (2 * t)) / np.where(still, 1, 1 - rate**2)
        )
    mean, variance = np.broadcast_arrays(
        mean, np.where(variance == 0, 0.0, variance * terms)
    )
    return Moments(mean, variance)


def nesterov_delta_h(
    *, eta_h: ArrayLike, momentum: ArrayLike
) -> NDArray[np.float64]:
    r"""The momentum that Nesterov's method amounts to.

    .. math:: \delta_h = \delta (1 - \eta_h)

    Nesterov's method on a quadratic is the heavy ball with this momentum, so
    functions that take `delta_h` serve both: give :math:`\delta` itself for
    the heavy ball. It is below :math:`1 - \eta_h`, which is why the variance
    of Nesterov's method stays bounded as :math:`\delta \to 1` and that of the
    heavy ball does not.

    Args:
        eta_h: :math:`\eta_h`, learning rate times curvature.
        momentum: :math:`\delta`.

    Returns:
        :math:`\delta_h`.

    Raises:
        ValueError: an argument is not finite.

    Example:

    >>> print(nesterov_delta_h(eta_h=0.5, momentum=[0.0, 0.75]))
    [0.    0.375]

    Reference:
        Zhang (2016), section 5.1.2, below eq. 5.4.
    """
    eta, momentum = _checks.as_finite(eta_h=eta_h, momentum=momentum)
    return momentum * (1 - eta)


def msgd_moment_matrix(
    *, eta_h: ArrayLike, delta_h: ArrayLike
) -> NDArray[np.float64]:
    r"""The matrix M of the second moments of momentum SGD.

    .. math::
        (E v^2, E v x, E x^2)_{t+1}^T = M (E v^2, E v x, E x^2)_t^T
            + \eta^2 \sigma^2 (1, 1, 1)^T

    Args:
        eta_h: :math:`\eta_h`, learning rate times curvature.
        delta_h: :math:`\delta_h`, see `nesterov_delta_h`.

    Returns:
        M, shape (..., 3, 3).

    Raises:
        ValueError: an argument is not finite.

    Example:

    >>> msgd_moment_matrix(eta_h=0.5, delta_h=0.5)
    array([[ 0.25, -0.5 ,  0.25],
           [ 0.25,  0.  , -0.25],
           [ 0.25,  0.5 ,  0.25]])

    Reference:
        Zhang (2016), eq. 5.6.
    """
    eta, delta = _checks.as_finite(eta_h=eta_h, delta_h=delta_h)
    return _spectra.stack(
        [
            [delta**2, -2 * delta * eta, eta**2],
            [delta**2, delta * (1 - 2 * eta), -eta * (1 - eta)],
            [delta**2, 2 * delta * (1 - eta), (1 - eta) ** 2],
        ]
    )


def msgd_eigenvalues(
    *, eta_h: ArrayLike, delta_h: ArrayLike
) -> NDArray[np.complex128]:
    r"""The eigenvalues of `msgd_moment_matrix`.

    .. math::
        z_1 = \delta_h, \quad z_{2, 3} = b \mp \sqrt{b^2 - \delta_h^2}, \quad
        2b = (1 - \eta_h)^2 - 2 \eta_h \delta_h + \delta_h^2

    Args:
        eta_h: :math:`\eta_h`, learning rate times curvature.
        delta_h: :math:`\delta_h`, see `nesterov_delta_h`.

    Returns:
        :math:`z_1, z_2, z_3`, shape (..., 3), complex.

    Raises:
        ValueError: an argument is not finite.

    Example:

    >>> print(msgd_eigenvalues(eta_h=0.25, delta_h=0.25).real)
    [0.25 0.25 0.25]

    Reference:
        Zhang (2016), eq. 5.8.
    """
    eta, delta = np.broadcast_arrays(
        *_checks.as_finite(eta_h=eta_h, delta_h=delta_h)
    )
    b = ((1 - eta) ** 2 - 2 * eta * delta + delta**2) / 2
    root = np.sqrt((b**2 - delta**2).astype(np.complex128))
    return np.stack([delta + 0j, b - root, b + root], axis=-1)


def msgd_is_stable(
    *, eta_h: ArrayLike, delta_h: ArrayLike
) -> NDArray[np.bool_]:
    r"""Whether the moments of momentum SGD stay bounded.

    .. math:: |\delta_h| < 1, \quad 0 < \eta_h < 2 (1 + \delta_h)

    Args:
        eta_h: :math:`\eta_h`, learning rate times curvature.
        delta_h: :math:`\delta_h`, see `nesterov_delta_h`.

    Returns:
        Truth values, of the shape that the arguments broadcast to. They say
        the same as spectral_radius(M) < 1.

    Raises:
        ValueError: an argument is not finite.

    Example:

    >>> print(msgd_is_stable(eta_h=3.0, delta_h=[0.25, 0.75]))
    [False  True]

    Reference:
        Zhang (2016), below eqs. 5.7 and 5.8.
    """
    eta, delta = _checks.as_finite(eta_h=eta_h, delta_h=delta_h)
    stable: NDArray[np.bool_] = (
        (np.abs(delta) < 1) & (0 < eta) & (eta < 2 * (1 + delta))
    )
    return stable


def msgd_asymptotic_moments(
    *,
    learning_rate: ArrayLike,
    delta_h: ArrayLike,
    curvature: ArrayLike = 1.0,
    noise: ArrayLike = 1.0,
) -> MomentumMoments:
    r"""The second moments that momentum SGD tends to.

    .. math::
        \{E v^2, E v x, E x^2\} = \{2,\; 1,\; (1 + \delta_h) / \eta_h\}
        \frac{\eta^2 \sigma^2}{(1 - \delta_h)(2 (1 + \delta_h) - \eta_h)}

    Args:
        learning_rate: :math:`\eta`.
        delta_h: :math:`\delta_h`, see `nesterov_delta_h`.
        curvature: h.
        noise: :math:`\sigma`, the standard deviation of a gradient's noise;
            with a batch, that of one gradient divided by the root of its size.

    Returns:
        `MomentumMoments`; infinite where `msgd_is_stable` is false.

    Raises:
        ValueError: an argument is not finite, or `noise` is negative.

    Example:

    >>> moments = msgd_asymptotic_moments(learning_rate=0.5, delta_h=0.5)
    >>> print(moments.velocity, moments.cross, moments.parameters)
    0.4 0.2 0.6

    Reference:
        Zhang (2016), eq. 5.7.
    """
    learning_rate, curvature, delta = _checks.as_finite(
        learning_rate=learning_rate, curvature=curvature, delta_h=delta_h
    )
    eta = learning_rate * curvature
    noise = _checks.at_least("noise", noise, 0)
    stable = msgd_is_stable(eta_h=eta, delta_h=delta)
    eta, delta = np.where(stable, eta, 1.0), np.where(stable, delta, 0.0)
    scale = (learning_rate * noise) ** 2 / (
        (1 - delta) * (2 * (1 + delta) - eta)
    )
    return MomentumMoments(
        np.where(stable, 2 * scale, np.inf),
        np.where(stable, scale, np.inf),
        np.where(stable, (1 + delta) / eta * scale, np.inf),
    )


def optimal_momentum(*, eta_h: ArrayLike) -> NDArray[np.float64]:
    r"""The momentum at which the second moments converge fastest.

    .. math:: \delta_h = (\sqrt{\eta_h} - 1)^2

    It is the smallest radius of `msgd_moment_matrix` at this
    :math:`\eta_h`, too. Nesterov's :math:`\delta` that gives it is
    :math:`\delta_h / (1 - \eta_h) = (1 - \sqrt{\eta_h}) / (1 +
    \sqrt{\eta_h})`, below 0 for :math:`\eta_h > 1`.

    Args:
        eta_h: :math:`\eta_h`, learning rate times curvature, at least 0 and
            below 4 (from there on no momentum is stable).

    Returns:
        :math:`\delta_h`, in [0, 1].

    Raises:
        ValueError: `eta_h` is outside of its range.

    Example:

    >>> print(optimal_momentum(eta_h=[0.01, 0.25, 1.0]))
    [0.81 0.25 0.  ]

    Reference:
        Zhang (2016), section 5.1.2, below eq. 5.8.
    """
    eta = np.asarray(eta_h, np.float64)
    _checks.require(
        (0 <= eta) & (eta < 4), "at least 0 and below 4", eta_h=eta_h
    )
    optimal: NDArray[np.float64] = (np.sqrt(eta) - 1) ** 2
    return optimal
