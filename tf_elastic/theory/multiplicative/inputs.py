r"""SGD with mini-batches under multiplicative noise.

The model is linear regression with one parameter, whose best value is known:
the gradient at x is :math:`\xi x`, where :math:`\xi = u^2` is drawn anew at
each step from the Gamma distribution :math:`\Gamma(\lambda, \omega)` (shape
:math:`\lambda`, rate :math:`\omega`, mean :math:`\lambda / \omega`, variance
:math:`\lambda / \omega^2`). Inputs u that are normal with variance
:math:`\sigma^2` have :math:`\lambda = 1/2, \omega = 1 / (2 \sigma^2)`. The
noise vanishes at the minimum, so that this is a model of the beginning of
training.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from numpy.typing import NDArray
from scipy import special

from tf_elastic.theory import _checks

Array = NDArray[np.float64]


class BrownianRates(NamedTuple):
    r"""Exponents of a geometric Brownian motion, per unit of time."""

    mean_square: Array  # of E[X(t)^2]; above 0 it grows
    path: Array  # of X(t)^2 along almost every path


def input_density(
    value: ArrayLike,
    *,
    shape: ArrayLike,
    rate: ArrayLike,
    num_workers: ArrayLike = 1,
) -> Array:
    r"""The density of the curvature that a mini-batch sees.

    The mean of p draws from :math:`\Gamma(\lambda, \omega)` is distributed as
    :math:`\Gamma(p \lambda, p \omega)`:

    .. math::
        \frac{(p \omega)^{p \lambda}}{\Gamma(p \lambda)}
        \xi^{p \lambda - 1} e^{-p \omega \xi}

    Args:
        value: :math:`\xi`, at least 0.
        shape: :math:`\lambda > 0`.
        rate: :math:`\omega > 0`.
        num_workers: p, the size of the mini-batch, at least 1.

    Returns:
        The density, of the shape that the arguments broadcast to.

    Raises:
        ValueError: an argument is out of its range.

    Example:

    >>> print(input_density(1.0, shape=1.0, rate=1.0).round(4))
    0.3679

    Reference:
        Zhang (2016), section 5.2.1 and Figure 5.9.
    """
    _check_input(shape, rate, num_workers)
    p = np.asarray(num_workers, dtype=np.float64)
    omega, lambda_ = p * np.asarray(rate), p * np.asarray(shape)
    # By itself: to import `scipy.stats` takes as long as all of the package.
    scaled = omega * np.asarray(value, dtype=np.float64)
    is_outside = (scaled < 0) | np.isinf(scaled)
    inside = np.where(is_outside, 0.0, scaled)
    log_density = (
        special.xlogy(lambda_ - 1, inside) - inside - special.gammaln(lambda_)
    )
    density = np.where(is_outside, 0.0, omega * np.exp(log_density))
    return np.asarray(density, dtype=np.float64)


def minibatch_rate(
    *,
    learning_rate: ArrayLike,
    shape: ArrayLike,
    rate: ArrayLike,
    num_workers: ArrayLike = 1,
) -> Array:
    r"""What a step of mini-batch SGD multiplies E[x^2] with.

    .. math::
        \frac{E[x_{t+1}^2]}{E[x_t^2]} = E[(1 - \eta \xi)^2]
        = 1 - 2 \eta \frac{\lambda}{\omega}
          + \eta^2 \frac{\lambda (p \lambda + 1)}{p \omega^2}

    Args:
        learning_rate: :math:`\eta`.
        shape: :math:`\lambda > 0`.
        rate: :math:`\omega > 0`.
        num_workers: p, the size of the mini-batch, at least 1.

    Returns:
        The factor, above 0; below 1 where the mean square converges. It falls
        as p grows, to :math:`(1 - \eta \lambda / \omega)^2`.

    Raises:
        ValueError: an argument is out of its range.

    Example:

    >>> print(minibatch_rate(learning_rate=0.5, shape=1.0, rate=1.0))
    0.5

    Reference:
        Zhang (2016), eq. 5.26.
    """
    _checks.finite(learning_rate=learning_rate)
    _check_input(shape, rate, num_workers)
    mean, variance = step_moments(learning_rate, shape, rate)
    factor = (1 - mean) ** 2 + variance / np.asarray(num_workers)
    return np.asarray(factor, dtype=np.float64)


def optimal_learning_rate(
    *, shape: ArrayLike, rate: ArrayLike, num_workers: ArrayLike = 1
) -> Array:
    r"""The learning rate at which mini-batch SGD converges fastest.

    .. math:: \eta_p = \frac{\omega}{\lambda + 1 / p}

    There :math:`E[x^2]` shrinks by :math:`1 / (p \lambda + 1)` a step. Twice
    as much is the edge of stability.

    Args:
        shape: :math:`\lambda > 0`.
        rate: :math:`\omega > 0`.
        num_workers: p, the size of the mini-batch, at least 1; `numpy.inf`
            is a whole pass over the data.

    Returns:
        :math:`\eta_p`, of the shape that the arguments broadcast to.

    Raises:
        ValueError: an argument is out of its range.

    Example:

    >>> print(optimal_learning_rate(shape=1.0, rate=1.0))
    0.5
    >>> print(optimal_learning_rate(shape=1.0, rate=1.0, num_workers=4))
    0.8

    Reference:
        Zhang (2016), eq. 5.27.
    """
    _check_input(shape, rate, 1)
    p = np.asarray(num_workers, dtype=np.float64)
    _checks.require(
        (p >= 1) & (np.isinf(p) | (np.floor(p) == p)),
        "a whole number of at least 1, or infinite",
        num_workers=num_workers,
    )
    best = np.asarray(rate) / (np.asarray(shape) + 1 / p)
    return np.asarray(best, dtype=np.float64)


def brownian_rates(
    *,
    learning_rate: ArrayLike,
    shape: ArrayLike,
    rate: ArrayLike,
    num_workers: ArrayLike = 1,
) -> BrownianRates:
    r"""How mini-batch SGD converges in continuous time.

    For a small learning rate, :math:`x_t` is near to X at the time
    :math:`\eta t`, a geometric Brownian motion:

    .. math::
        dX = -\frac{\lambda}{\omega} X dt
            + \sqrt{\eta} \sqrt{\frac{\lambda}{p \omega^2}} X dB

    Its mean square may grow while almost every path goes to 0: a few runs
    with extreme values make the mean.

    Args:
        learning_rate: :math:`\eta \ge 0`.
        shape: :math:`\lambda > 0`.
        rate: :math:`\omega > 0`.
        num_workers: p, the size of the mini-batch, at least 1.

    Returns:
        `BrownianRates`: :math:`-2 \lambda / \omega + s` and
        :math:`-2 \lambda / \omega - s`, where :math:`s = \eta \lambda /
        (p \omega^2)`.

    Raises:
        ValueError: an argument is out of its range.

    Example:

    >>> rates = brownian_rates(learning_rate=3.0, shape=1.0, rate=1.0)
    >>> print(rates.mean_square, rates.path)
    1.0 -5.0

    Reference:
        Zhang (2016), section 5.2.1, the equation before 5.25.
    """
    _checks.finite(learning_rate=learning_rate)
    _checks.require(
        np.asarray(learning_rate) >= 0,
        "at least 0",
        learning_rate=learning_rate,
    )
    _check_input(shape, rate, num_workers)
    drift, variance = step_moments(1.0, shape, rate)
    spread = np.asarray(learning_rate) * variance / np.asarray(num_workers)
    return BrownianRates(
        np.asarray(-2 * drift + spread), np.asarray(-2 * drift - spread)
    )


def step_moments(
    learning_rate: ArrayLike, shape: ArrayLike, rate: ArrayLike
) -> tuple[Array, Array]:
    r"""Mean and variance of :math:`\eta \xi`, the step per unit of x.

    Args:
        learning_rate: :math:`\eta`.
        shape: :math:`\lambda`.
        rate: :math:`\omega`.

    Returns:
        :math:`\eta \lambda / \omega` and :math:`\eta^2 \lambda / \omega^2`.
    """
    eta, omega = np.asarray(learning_rate), np.asarray(rate)
    return eta * shape / omega, eta**2 * shape / omega**2


def _check_input(
    shape: ArrayLike, rate: ArrayLike, num_workers: ArrayLike
) -> None:
    _checks.positive(shape=shape, rate=rate)
    _checks.whole(num_workers=num_workers)
