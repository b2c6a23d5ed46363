r"""EASGD on a quadratic: the center's error, when it is stable, its average.

Each of p workers sees the gradient :math:`g^i(x) = A x - b - \xi^i` with
independent noise :math:`\xi^i` of zero mean and covariance :math:`\Sigma`
(eq. 3.1). In one dimension A is the curvature h, and :math:`\Sigma` is
:math:`\sigma^2`. Workers and center move at once (eqs. 2.3 and 2.4):

.. math::
    x^i_{t+1} &= x^i_t - \eta g^i(x^i_t) - \alpha (x^i_t - \tilde x_t) \\
    \tilde x_{t+1} &= \tilde x_t + \beta (y_t - \tilde x_t), \quad
        y_t = \frac1p \sum_i x^i_t

All errors are relative to the optimum :math:`x^* = A^{-1} b`. The center
depends on the workers by their mean y alone, so that the pair (y, center) has
a linear map of its own; its two eigenvalues decide everything.

The elastic symmetry :math:`\beta = p \alpha` is the default, and any other
pair of rates that are not negative may be given.

Reference:
    Zhang (2016), section 3.1.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from numpy.typing import NDArray

from tf_elastic import core
from tf_elastic.theory import _checks
from tf_elastic.theory import _sums

Array = NDArray[np.float64]


class Eigenvalues(NamedTuple):
    """The eigenvalues of the map of (mean of the workers, center)."""

    gamma: Array  # the larger one
    phi: Array  # the smaller one


class Moments(NamedTuple):
    """The error of the center, or of its average, at one time."""

    bias: Array  # E[x] - x*
    variance: Array  # V[x], same shape

    @property
    def mse(self) -> Array:
        """The mean squared error; inf where there is no finite bias."""
        squared = np.square(self.bias) + self.variance
        return np.where(np.isnan(squared), np.inf, squared)


def eigenvalues(
    *,
    learning_rate: ArrayLike,
    curvature: ArrayLike,
    num_workers: ArrayLike,
    beta: ArrayLike,
    moving_rate: ArrayLike | None = None,
) -> Eigenvalues:
    r"""The two eigenvalues on which the center depends.

    .. math::
        \gamma, \phi = 1 - \frac{a \mp \sqrt{a^2 - 4 c^2}}{2}, \quad
        a = \eta h + \alpha + \beta, \quad c^2 = \eta h \beta

    Both are real. What is left of the p + 1 eigenvalues of the whole system is
    :math:`1 - \alpha - \eta h`, for the differences among the workers, and
    that lies between the two.

    Args:
        learning_rate: :math:`\eta`, at least 0.
        curvature: h, above 0.
        num_workers: p, at least 1.
        beta: :math:`\beta`, at least 0.
        moving_rate: :math:`\alpha`, at least 0; by default
            :math:`\beta / p`.

    Returns:
        `Eigenvalues`; all arguments broadcast.

    Raises:
        ValueError: an argument is out of range.

    Example:

    >>> gamma, phi = eigenvalues(
    ...     learning_rate=0.5, curvature=1.0, num_workers=4, beta=0.8
    ... )
    >>> print(f"{gamma:.4f} {phi:.4f}")
    0.6531 -0.1531

    Reference:
        Zhang (2016), Lemma 3.1.1; eqs. 3.25 and 3.26 for
        :math:`\beta \ne p \alpha`.
    """
    step, alpha, beta = _setting(
        learning_rate, curvature, num_workers, moving_rate, beta
    )
    slow, fast = _decrements(step, alpha, beta)
    return Eigenvalues(1 - slow, 1 - fast)


def is_stable(
    *,
    learning_rate: ArrayLike,
    curvature: ArrayLike,
    num_workers: ArrayLike,
    beta: ArrayLike,
    moving_rate: ArrayLike | None = None,
) -> NDArray[np.bool_]:
    r"""Whether the center converges (in mean, and its variance stays finite).

    .. math::
        -1 < \phi < \gamma < 1 \iff
        \eta h > 0,\ \beta > 0,\
        (2 - \eta h)(2 - \beta) > 2 \alpha,\
        (2 - \eta h) + (2 - \beta) > \alpha

    The workers then converge to the center too. In many dimensions
    this with the largest eigenvalue of A as the curvature is
    Lemma 3.1.4: all eigenvalues of `drift_matrix` lie inside of the unit
    circle.

    Args:
        learning_rate: :math:`\eta`, at least 0.
        curvature: h, above 0.
        num_workers: p, at least 1.
        beta: :math:`\beta`, at least 0.
        moving_rate: :math:`\alpha`, at least 0; by default
            :math:`\beta / p`.

    Returns:
        Booleans; all arguments broadcast.

    Raises:
        ValueError: an argument is out of range.

    Example:

    >>> import numpy as np
    >>> is_stable(
    ...     learning_rate=np.array([0.1, 1.9]),
    ...     curvature=1.0,
    ...     num_workers=4,
    ...     beta=0.9,
    ... )
    array([ True, False])

    Reference:
        Zhang (2016), condition 3.4 and Lemma 3.1.4.
    """
    step, alpha, beta = _setting(
        learning_rate, curvature, num_workers, moving_rate, beta
    )
    inside = (2 - step) * (2 - beta) > 2 * alpha
    one_sign = (2 - step) + (2 - beta) > alpha
    return (step > 0) & (beta > 0) & inside & one_sign


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
    step, alpha, beta = _setting(
        learning_rate, curvature, num_workers, moving_rate, beta
    )
    noise = _checks.at_least("noise", noise, 0)
    center = np.asarray(center_start, dtype=np.float64)
    worker = np.asarray(worker_start, dtype=np.float64)
    times = _sums.times(t)
    limit = np.isinf(times)
    slow, fast = _decrements(step, alpha, beta)
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        power, spread, squares = _sums.powers(
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
        stable = is_stable(
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
    step, _, beta = _setting(learning_rate, curvature, 1, None, beta)
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


def drift_matrix(
    *,
    learning_rate: ArrayLike,
    hessian: ArrayLike,
    num_workers: ArrayLike,
    beta: ArrayLike,
    moving_rate: ArrayLike | None = None,
) -> Array:
    r"""The map of (mean of the workers, center) in n dimensions.

    .. math::
        M = \begin{pmatrix}
            I - \eta A - \alpha I & \alpha I \\
            \beta I & I - \beta I \end{pmatrix}

    Args:
        learning_rate: :math:`\eta`, at least 0, shape (...).
        hessian: A, shape (..., n, n).
        num_workers: p, at least 1, shape (...).
        beta: :math:`\beta`, at least 0, shape (...).
        moving_rate: :math:`\alpha`, at least 0, shape (...); by default
            :math:`\beta / p`.

    Returns:
        M, shape (..., 2 n, 2 n).

    Raises:
        ValueError: an argument is out of range, or `hessian` is not square.

    Example:

    >>> drift_matrix(
    ...     learning_rate=0.5, hessian=[[1.0]], num_workers=4, beta=1.0
    ... )
    array([[0.25, 0.25],
           [1.  , 0.  ]])

    Reference:
        Zhang (2016), eqs. 3.18, 3.19 and 3.22.
    """
    alpha, beta = _checks.rates(num_workers, moving_rate, beta)
    eta = _checks.at_least("learning_rate", learning_rate, 0)
    hessian = _checks.square("hessian", hessian)
    n = hessian.shape[-1]
    mean, center = np.split(np.eye(2 * n), 2)
    difference = core.elastic_difference(mean, center)
    moved = core.sgd_step(
        core.pull(mean, difference, alpha[..., None, None]),
        gradient=hessian @ mean,
        learning_rate=eta[..., None, None],
    )
    pushed = core.push(center, difference, beta[..., None, None], 1)
    return np.concatenate(np.broadcast_arrays(moved, pushed), axis=-2)


def _setting(
    learning_rate: ArrayLike,
    curvature: ArrayLike,
    num_workers: ArrayLike,
    moving_rate: ArrayLike | None,
    beta: ArrayLike,
) -> tuple[Array, Array, Array]:
    """What the map depends on: eta h, alpha and beta."""
    eta = _checks.at_least("learning_rate", learning_rate, 0)
    step = eta * _checks.above("curvature", curvature, 0)
    return step, *_checks.rates(num_workers, moving_rate, beta)


def _decrements(step: Array, alpha: Array, beta: Array) -> tuple[Array, Array]:
    """1 - gamma and 1 - phi, exact also where they are tiny."""
    root = np.sqrt(np.square(step + alpha - beta) + 4 * alpha * beta)
    fast = (step + alpha + beta + root) / 2
    slow = step * beta / np.where(fast > 0, fast, 1.0)
    return slow, fast
