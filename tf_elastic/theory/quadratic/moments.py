"""The error of EASGD's center on a quadratic: bias and variance at any time."""

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from numpy.typing import NDArray

from tf_elastic.theory import _checks
from tf_elastic.theory.quadratic import spectrum
from tf_elastic.theory.quadratic import sums

Array = NDArray[np.float64]


class Moments(NamedTuple):
    """The error of the center, or of its average, at one time."""

    bias: Array  # E[x] - x*
    variance: Array  # V[x], same shape

    @property
    def mse(self) -> Array:
        """The mean squared error; inf where there is no finite bias."""
        squared = np.square(self.bias) + self.variance
        return np.where(np.isnan(squared), np.inf, squared)


def center_moments(
    t: ArrayLike,
    *,
    learning_rate: ArrayLike,
    curvature: ArrayLike,
    noise: ArrayLike,
    num_workers: ArrayLike,
    beta: ArrayLike,
    moving_rate: ArrayLike | None = None,
    center_start: ArrayLike = 1.0,
    worker_start: ArrayLike = 1.0,
) -> Moments:
    r"""Bias and variance of the center at time t, in one dimension.

    With :math:`s_k = (\gamma^k - \phi^k) / (\gamma - \phi)`, :math:`\gamma`
    and :math:`\phi` as in `eigenvalues`,

    .. math::
        \mathbb E[\tilde x_t - x^*] &= \gamma^t \tilde x_0
            + s_t \left((1 - \beta - \gamma) \tilde x_0 + \beta y_0\right) \\
        \mathbb V[\tilde x_t - x^*] &= \beta^2 \eta^2 \frac{\sigma^2}{p}
            \sum_{k < t} s_k^2

    which is Lemma 3.1.1, whose :math:`\alpha u_0` is the bracket, and whose
    eq. 3.12 is the sum. It is summed here without the division by
    :math:`(\gamma - \phi)^2`, which takes all digits where the two are close,
    by doubling k, in about 2 log2(t) steps.

    Args:
        t: the number of steps, whole and at least 0; inf for the limit.
        learning_rate: :math:`\eta`, at least 0.
        curvature: h, above 0.
        noise: :math:`\sigma`, the standard deviation of one worker's gradient,
            at least 0.
        num_workers: p, at least 1.
        beta: :math:`\beta`, at least 0.
        moving_rate: :math:`\alpha`, at least 0; by default
            :math:`\beta / p`.
        center_start: :math:`\tilde x_0 - x^*`.
        worker_start: :math:`y_0 - x^*`, the mean over the workers.

    Returns:
        `Moments`; all arguments broadcast. Where condition 3.4 fails (see
        `is_stable`), the values at a finite t are still exact (or inf or NaN
        where they are too large), and those of the limit are NaN for the bias
        and inf for the variance.

    Raises:
        ValueError: an argument is out of range.

    Example:

    >>> moments = center_moments(
    ...     [1, 10, float("inf")],
    ...     learning_rate=0.1,
    ...     curvature=1.0,
    ...     noise=10.0,
    ...     num_workers=[[1], [100]],
    ...     beta=0.9,
    ... )
    >>> print(moments.mse.round(4))
    [[1.     2.6678 3.2578]
     [1.     0.1998 0.0511]]

    Reference:
        Zhang (2016), Lemma 3.1.1, eqs. 3.2 and 3.3.
    """
    step, alpha, beta = spectrum.setting(
        learning_rate, curvature, num_workers, moving_rate, beta
    )
    noise = _checks.at_least("noise", noise, 0)
    center = np.asarray(center_start, dtype=np.float64)
    worker = np.asarray(worker_start, dtype=np.float64)
    times = sums.times(t)
    limit = np.isinf(times)
    slow, fast = spectrum.decrements(step, alpha, beta)
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        power, spread, squares = sums.powers(
            1 - slow, 1 - fast, np.where(limit, 0, times).astype(np.int64)
        )
        bias = power * center + spread * (
            (slow - beta) * center + beta * worker
        )
        # Eq. 3.12 for t -> inf, in 1 - gamma, 1 - phi and their product.
        squares_limit = (2 - slow - fast + slow * fast) / (
            (slow * (2 - slow))
            * (fast * (2 - fast))
            * (slow + fast - slow * fast)
        )
        scale = np.square(
            beta * np.asarray(learning_rate, dtype=np.float64) * noise
        ) / np.asarray(num_workers, dtype=np.float64)
        stable = spectrum.is_stable(
            learning_rate=learning_rate,
            curvature=curvature,
            num_workers=num_workers,
            beta=beta,
            moving_rate=alpha,
        )
        variance = scale * np.where(limit, squares_limit, squares)
        variance = np.where(scale == 0, 0.0, variance)
        return Moments(
            np.where(limit, np.where(stable, 0.0, np.nan), bias),
            np.where(limit & ~stable, np.inf, variance),
        )


def many_workers_limit(
    *,
    learning_rate: ArrayLike,
    curvature: ArrayLike,
    noise: ArrayLike,
    beta: ArrayLike,
) -> Array:
    r"""What p times the center's stationary error comes to for many workers.

    .. math::
        \lim_{p \to \infty} \lim_{t \to \infty}
        p\, \mathbb E[(\tilde x_t - x^*)^2] =
        \frac{\beta \eta h}{(2 - \beta)(2 - \eta h)} \cdot
        \frac{2 - \beta - \eta h + \beta \eta h}
             {\beta + \eta h - \beta \eta h} \cdot \frac{\sigma^2}{h^2}

    with :math:`\alpha = \beta / p`. So the error falls as 1 / p, and more
    slowly averaged centers (a small beta) have less of it.

    Args:
        learning_rate: :math:`\eta`, at least 0.
        curvature: h, above 0.
        noise: :math:`\sigma`, at least 0.
        beta: :math:`\beta`, at least 0.

    Returns:
        The limit, inf where it is not stable (unless :math:`0 < \eta h < 2`
        and :math:`0 < \beta < 2`); all arguments broadcast.

    Raises:
        ValueError: an argument is out of range.

    Example:

    >>> limit = many_workers_limit(
    ...     learning_rate=1.0, curvature=1.0, noise=2.0, beta=1.0
    ... )
    >>> print(limit)
    4.0

    Reference:
        Zhang (2016), Corollary 3.1.1.
    """
    step, _, beta = spectrum.setting(learning_rate, curvature, 1, None, beta)
    noise = _checks.at_least("noise", noise, 0)
    product = (1 - beta) * (1 - step)
    with np.errstate(divide="ignore", invalid="ignore"):
        limit = (
            beta
            * step
            / ((2 - beta) * (2 - step))
            * (1 + product)
            / (1 - product)
            * np.square(noise / np.asarray(curvature, dtype=np.float64))
        )
    stable = (0 < step) & (step < 2) & (0 < beta) & (beta < 2)
    return np.where(stable, limit, np.inf)
