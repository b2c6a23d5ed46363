r"""SGD with a constant delay, step by step, on a quadratic.

.. math::
    x_{k+1} = x_k - \eta h x_{k-d} + \mu (x_k - x_{k-1})

The exact counterpart of `roots`: no step is taken to be small.
"""

import numpy as np
from numpy.typing import ArrayLike
from numpy.typing import NDArray
from scipy import special

from tf_elastic import core
from tf_elastic.theory import _checks
from tf_elastic.theory import _spectra

_BISECTIONS = 64  # each halves the angle, down to float64


def delayed_sgd_matrix(
    eta_h: ArrayLike, delay: int, momentum: ArrayLike = 0.0
) -> NDArray[np.float64]:
    r"""The map of one step on :math:`(x_k, x_{k-1}, ..., x_{k-d})`.

    Args:
        eta_h: :math:`\eta h`, the learning rate times the curvature.
        delay: d, in steps, at least 0.
        momentum: :math:`\mu`, of the heavy ball; broadcasts against `eta_h`.

    Returns:
        The companion matrix, shape (..., n, n) with n = max(d + 1, 2).

    Raises:
        ValueError: the delay is not a whole number, or a value not finite.

    Example:

    >>> delayed_sgd_matrix(0.25, delay=1, momentum=0.5)
    array([[ 1.5 , -0.75],
           [ 1.  ,  0.  ]])

    Reference:
        He et al. (2018), eq. 4 on a quadratic with :math:`u_k = 1`; with
        momentum, Zhang (2016), eq. 2.6 with a delayed gradient.
    """
    _checks.whole(0, delay=delay)
    _checks.finite(eta_h=eta_h, momentum=momentum)
    rate = np.asarray(eta_h, dtype=np.float64)[..., None]
    mu = np.asarray(momentum, dtype=np.float64)[..., None]
    points = np.eye(max(delay + 1, 2))
    first, _ = core.momentum_step(
        points[0],
        velocity=points[0] - points[1],
        gradient=points[delay],
        learning_rate=rate,
        momentum=mu,
    )
    shift = np.broadcast_to(
        points[:-1], (*first.shape[:-1], *points[:-1].shape)
    )
    return np.concatenate([first[..., None, :], shift], axis=-2)


def delayed_sgd_radius(
    eta_h: ArrayLike, delay: ArrayLike, momentum: ArrayLike = 0.0
) -> NDArray[np.float64]:
    r"""By what factor a step shrinks the error, in the long run.

    The spectral radius of `delayed_sgd_matrix`: the largest root of
    :math:`z^{d+1} - (1 + \mu) z^d + \mu z^{d-1} + \eta h = 0`.

    Args:
        eta_h: :math:`\eta h`, the learning rate times the curvature.
        delay: d, in steps, whole numbers of at least 0.
        momentum: :math:`\mu`, of the heavy ball. All three broadcast.

    Returns:
        The radius; stable where it is below 1.

    Raises:
        ValueError: a delay is not a whole number, or a value not finite.

    Example:

    >>> print(delayed_sgd_radius(0.25, [0, 1, 4]).round(4))
    [0.75   0.5    0.9494]

    Reference:
        As `delayed_sgd_matrix`.
    """
    _checks.whole(0, delay=delay)
    rate, steps, mu = np.broadcast_arrays(eta_h, delay, momentum)
    radius = np.empty(rate.shape)
    for d in np.unique(steps):
        cells = steps == d
        radius[cells] = _spectra.spectral_radii(
            delayed_sgd_matrix(rate[cells], int(d), mu[cells])
        )
    return radius[()]


def largest_stable_eta_h(
    delay: ArrayLike, momentum: ArrayLike = 0.0
) -> NDArray[np.float64]:
    r"""The :math:`\eta h` below which delayed SGD is stable.

    Without momentum it is :math:`2 \sin(\pi / (2 (2 d + 1)))`, 2 for no delay
    and close to :math:`\pi / (2 d + 1)` for a long one. With momentum the
    first root to leave the unit circle does so at the angle :math:`\theta`
    that solves

    .. math:: (d - 1/2) \theta + \arg(e^{i \theta} - \mu) = \pi / 2,

    and the limit is :math:`|e^{i \theta} - 1| |e^{i \theta} - \mu|`.

    Args:
        delay: d, in steps, whole numbers of at least 0.
        momentum: :math:`\mu` in [0, 1), of the heavy ball; broadcasts.

    Returns:
        The limit: stable if and only if :math:`0 < \eta h` is below it.

    Raises:
        ValueError: a delay is not a whole number, or a momentum not in
            [0, 1).

    Example:

    >>> print(largest_stable_eta_h([0, 1, 10]).round(4))
    [2.     1.     0.1495]
    >>> print(largest_stable_eta_h(10, momentum=0.9).round(4))
    0.0114

    Reference:
        The unit circle in the characteristic equation of `delayed_sgd_radius`.
    """
    _checks.whole(0, delay=delay)
    d, mu = np.broadcast_arrays(
        np.asarray(delay, dtype=np.float64),
        np.asarray(momentum, dtype=np.float64),
    )
    _checks.require((mu >= 0) & (mu < 1), "in [0, 1)", momentum=momentum)
    low, high = np.zeros(d.shape), np.full(d.shape, np.pi)
    for _ in range(_BISECTIONS):
        angle = (low + high) / 2
        turn = np.arctan2(np.sin(angle), np.cos(angle) - mu)
        before = (d - 0.5) * angle + turn < np.pi / 2
        low, high = np.where(before, angle, low), np.where(before, high, angle)
    angle = np.where(mu == 0, np.pi / (2 * d + 1), high)
    # (1 - mu)^2 + 2 mu (1 - cos angle), with no cancellation.
    chord = 2 * np.sin(angle / 2)
    return np.asarray(chord * np.sqrt((1 - mu) ** 2 + mu * chord**2))[()]


def fastest_eta_h(delay: ArrayLike) -> NDArray[np.float64]:
    r"""The :math:`\eta h` at which delayed SGD converges fastest.

    .. math:: \eta h = d^d / (d + 1)^{d + 1}

    There the two largest roots meet, at :math:`d / (d + 1)`: this is the
    radius, and no other :math:`\eta h` has a smaller one.

    Args:
        delay: d, in steps, whole numbers of at least 0; no momentum.

    Returns:
        The best :math:`\eta h`; 1 for no delay, about 1 / (e (d + 1/2)) for a
        long one.

    Raises:
        ValueError: a delay is not a whole number of at least 0.

    Example:

    >>> print(fastest_eta_h([0, 1, 10]).round(4))
    [1.    0.25  0.035]

    Reference:
        The double root of :math:`z^{d+1} - z^d + \eta h`.
    """
    _checks.whole(0, delay=delay)
    d = np.asarray(delay, dtype=np.float64)
    best = np.exp(special.xlogy(d, d) - (d + 1) * np.log(d + 1))
    return np.asarray(best)[()]


def delayed_sgd_variance(
    eta_h: ArrayLike, delay: ArrayLike
) -> NDArray[np.float64]:
    r"""The stationary variance of :math:`x_{k+1} = x_k - g x_{k-d} + \zeta_k`.

    With :math:`g = \eta h = 2 \sin(\omega / 2)` and noise of variance 1,

    .. math::
        \frac{\cos(\omega / 2) + \sin(d \omega)}
        {2 g \cos(\omega / 2) (\cos(d \omega) - \sin(\omega / 2))},

    which is :math:`1 / (g (2 - g))` for no delay.

    Args:
        eta_h: :math:`\eta h`.
        delay: d, in steps, whole numbers of at least 0; broadcasts.

    Returns:
        The variance, for noise of variance 1 in a step: multiply with
        :math:`\eta^2` and the variance of a gradient. Infinite where delayed
        SGD is not stable.

    Raises:
        ValueError: a delay is not a whole number, or a value not finite.

    Example:

    >>> print(delayed_sgd_variance(0.25, [0, 1, 4, 9]).round(4))
    [2.2857 2.963  8.9546    inf]

    Reference:
        The autocovariances solve :math:`c_{j+1} - 2 c_j + c_{j-1} = -g^2 c_j`
        for :math:`0 \le j \le d`, so that they are waves of frequency
        :math:`\omega`.
    """
    _checks.whole(0, delay=delay)
    _checks.finite(eta_h=eta_h)
    g, d = np.broadcast_arrays(
        np.asarray(eta_h, dtype=np.float64), np.asarray(delay, dtype=np.float64)
    )
    stable = (g > 0) & (g < largest_stable_eta_h(d))
    half = np.arcsin(np.where(stable, g, 0.0) / 2)
    wave = np.cos(half) + np.sin(2 * d * half)
    room = np.cos(2 * d * half) - np.sin(half)
    below = 2 * np.where(stable, g, 1.0) * np.cos(half) * room
    return np.where(stable, wave / below, np.inf)[()]
