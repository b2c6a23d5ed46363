r"""Bounds on EASGD's errors for a strongly convex function.

F has :math:`\mu \|x - y\|^2 \le \langle \nabla F(x) - \nabla F(y), x - y
\rangle \le L \|x - y\|^2`, and the noise of a gradient is independent with
zero mean and :math:`\mathbb E \|\xi\|^2 \le \sigma^2`. The three errors are

.. math::
    a_t = \mathbb E \|y_t - x^*\|^2, \quad
    b_t = \frac1p \sum_i \mathbb E \|x^i_t - x^*\|^2, \quad
    c_t = \mathbb E \|\tilde x_t - x^*\|^2

of the mean of the workers y, of a worker, and of the center, when all
exchange at once (the setting of `theory.quadratic`). They are bounded by the
recursion

.. math::
    \begin{pmatrix} a \\ b \\ c \end{pmatrix}_{t+1} \le
    \begin{pmatrix}
        1 - \gamma_1 - \gamma_2 - \alpha & \gamma_2 & \alpha \\
        0 & 1 - \gamma_1 - \alpha & \alpha \\
        \beta & 0 & 1 - \beta \end{pmatrix}
    \begin{pmatrix} a \\ b \\ c \end{pmatrix}_t +
    \begin{pmatrix} \eta^2 \sigma^2 / p \\ \eta^2 \sigma^2 \\ 0 \end{pmatrix}

with :math:`\gamma_1 = 2 \eta \mu L / (\mu + L)` and
:math:`\gamma_2 = 2 \eta L (1 - 2 \sqrt{\mu L} / (\mu + L))`.

Reference:
    Zhang (2016), section 3.2, Theorem 3.2.1.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from numpy.typing import NDArray

from tf_elastic.theory import _checks
from tf_elastic.theory import _spectra

Array = NDArray[np.float64]


class Errors(NamedTuple):
    """Mean squared distances to the optimum."""

    workers_mean: Array  # a: of the mean of the workers
    worker: Array  # b: of a worker, on average
    center: Array  # c: of the center


def holds(
    *,
    learning_rate: ArrayLike,
    strong_convexity: ArrayLike,
    smoothness: ArrayLike,
    num_workers: ArrayLike,
    beta: ArrayLike,
    moving_rate: ArrayLike | None = None,
) -> NDArray[np.bool_]:
    r"""Whether the theorem applies, and its recursion may be iterated.

    .. math::
        0 \le \eta \le \frac{2 (1 - \alpha)}{\mu + L}, \quad
        0 \le \alpha < 1, \quad 0 \le \beta \le 1, \quad \lambda_1 \ge 0

    The last one makes the matrix nowhere negative, so that a bound on the
    errors of one step is a bound on those of the next.

    Args:
        learning_rate: :math:`\eta`, at least 0.
        strong_convexity: :math:`\mu`, above 0.
        smoothness: L, at least `strong_convexity`.
        num_workers: p, at least 1.
        beta: :math:`\beta`, at least 0.
        moving_rate: :math:`\alpha`, at least 0; by default
            :math:`\beta / p`.

    Returns:
        Booleans; all arguments broadcast.

    Raises:
        ValueError: an argument is out of range.

    Example:

    >>> holds(
    ...     learning_rate=[0.1, 0.9],
    ...     strong_convexity=1.0,
    ...     smoothness=2.0,
    ...     num_workers=4,
    ...     beta=0.9,
    ... )
    array([ True, False])

    Reference:
        Zhang (2016), Theorem 3.2.1 and what follows its proof.
    """
    alpha, beta = _checks.rates(num_workers, moving_rate, beta)
    mu, high = _curvatures(strong_convexity, smoothness)
    rates = _shrinkage(learning_rate, mu, high)
    eta = np.asarray(learning_rate, dtype=np.float64)
    return (
        (eta * (mu + high) <= 2 * (1 - alpha))
        & (alpha < 1)
        & (beta <= 1)
        & (sum(rates) + alpha <= 1)
    )


def recursion_matrix(
    *,
    learning_rate: ArrayLike,
    strong_convexity: ArrayLike,
    smoothness: ArrayLike,
    num_workers: ArrayLike,
    beta: ArrayLike,
    moving_rate: ArrayLike | None = None,
) -> Array:
    r"""The matrix of the recursion.

    Args:
        learning_rate: :math:`\eta`, at least 0.
        strong_convexity: :math:`\mu`, above 0.
        smoothness: L, at least `strong_convexity`.
        num_workers: p, at least 1.
        beta: :math:`\beta`, at least 0.
        moving_rate: :math:`\alpha`, at least 0; by default
            :math:`\beta / p`.

    Returns:
        M of (a, b, c), shape (..., 3, 3), of whatever the arguments broadcast
        to.

    Raises:
        ValueError: an argument is out of range.

    Example:

    >>> recursion_matrix(
    ...     learning_rate=0.25,
    ...     strong_convexity=1.0,
    ...     smoothness=1.0,
    ...     num_workers=4,
    ...     beta=1.0,
    ... )
    array([[0.5 , 0.  , 0.25],
           [0.  , 0.5 , 0.25],
           [1.  , 0.  , 0.  ]])

    Reference:
        Zhang (2016), Theorem 3.2.1.
    """
    alpha, beta = _checks.rates(num_workers, moving_rate, beta)
    mu, high = _curvatures(strong_convexity, smoothness)
    gamma_1, gamma_2 = _shrinkage(learning_rate, mu, high)
    return _spectra.stack(
        [
            [1 - gamma_1 - gamma_2 - alpha, gamma_2, alpha],
            [0, 1 - gamma_1 - alpha, alpha],
            [beta, 0, 1 - beta],
        ]
    )


def recursion_eigenvalues(
    *,
    learning_rate: ArrayLike,
    strong_convexity: ArrayLike,
    smoothness: ArrayLike,
    num_workers: ArrayLike,
    beta: ArrayLike,
    moving_rate: ArrayLike | None = None,
) -> Array:
    r"""The eigenvalues of the recursion's matrix.

    .. math::
        \lambda_1 &= 1 - \alpha - \gamma_1 - \gamma_2 \\
        \lambda_{2, 3} &= 1 - \tfrac12 \left(\alpha + \beta + \gamma_1
            \mp \sqrt{(\alpha + \beta + \gamma_1)^2 - 4 \beta \gamma_1}\right)

    All are real. Where the theorem `holds` (and the learning rate and beta
    are not 0) they lie in (-1, 1), so that the errors stay bounded, and
    :math:`\lambda_2` is the largest: the rate of convergence.

    Args:
        learning_rate: :math:`\eta`, at least 0.
        strong_convexity: :math:`\mu`, above 0.
        smoothness: L, at least `strong_convexity`.
        num_workers: p, at least 1.
        beta: :math:`\beta`, at least 0.
        moving_rate: :math:`\alpha`, at least 0; by default
            :math:`\beta / p`.

    Returns:
        The three, shape (..., 3), of whatever the arguments broadcast to.

    Raises:
        ValueError: an argument is out of range.

    Example:

    >>> print(recursion_eigenvalues(
    ...     learning_rate=0.25,
    ...     strong_convexity=1.0,
    ...     smoothness=1.0,
    ...     num_workers=4,
    ...     beta=1.0,
    ... ).round(4))
    [ 0.5    0.809 -0.309]

    Reference:
        Zhang (2016), section 3.2, after the proof of Theorem 3.2.1.
    """
    alpha, beta = _checks.rates(num_workers, moving_rate, beta)
    mu, high = _curvatures(strong_convexity, smoothness)
    gamma_1, gamma_2 = _shrinkage(learning_rate, mu, high)
    total = alpha + beta + gamma_1
    # (a + b + c)^2 - 4 b c, without a difference of what is nearly the same.
    root = np.sqrt(np.square(alpha + gamma_1 - beta) + 4 * alpha * beta)
    return np.stack(
        np.broadcast_arrays(
            1 - alpha - gamma_1 - gamma_2,
            1 - (total - root) / 2,
            1 - (total + root) / 2,
        ),
        axis=-1,
    )


def bounds(
    t: int,
    *,
    learning_rate: float,
    strong_convexity: float,
    smoothness: float,
    noise: float,
    num_workers: int,
    beta: float,
    moving_rate: float | None = None,
    start: ArrayLike = (1.0, 1.0, 1.0),
) -> Errors:
    r"""The bounds of the three errors after t steps.

    They are bounds where the theorem `holds`.

    Args:
        t: the number of steps, at least 0.
        learning_rate: :math:`\eta`, at least 0.
        strong_convexity: :math:`\mu`, above 0.
        smoothness: L, at least `strong_convexity`.
        noise: :math:`\sigma`, where :math:`\sigma^2` is the mean squared norm
            of the noise; at least 0.
        num_workers: p, at least 1.
        beta: :math:`\beta`, at least 0.
        moving_rate: :math:`\alpha`, at least 0; by default
            :math:`\beta / p`.
        start: :math:`a_0, b_0, c_0`.

    Returns:
        `Errors`.

    Raises:
        ValueError: an argument is out of range.

    Example:

    >>> errors = bounds(
    ...     100, learning_rate=0.1, strong_convexity=1.0, smoothness=2.0,
    ...     noise=1.0, num_workers=4, beta=0.9,
    ... )
    >>> print(f"{errors.worker:.4f} {errors.center:.4f}")
    0.0418 0.0221

    Reference:
        Zhang (2016), Theorem 3.2.1.
    """
    t = _checks.whole_number("t", t, 0)
    sigma = _checks.at_least("noise", noise, 0)
    matrix = recursion_matrix(
        learning_rate=learning_rate,
        strong_convexity=strong_convexity,
        smoothness=smoothness,
        num_workers=num_workers,
        beta=beta,
        moving_rate=moving_rate,
    )
    source = np.square(learning_rate * sigma) * np.array(
        [1 / num_workers, 1, 0]
    )
    step = np.zeros((4, 4))
    step[:3, :3], step[:3, 3], step[3, 3] = matrix, source, 1.0
    state = np.linalg.matrix_power(step, t) @ [*np.asarray(start), 1.0]
    return Errors(*state[:3])


def asymptotic_bounds(
    *,
    learning_rate: ArrayLike,
    strong_convexity: ArrayLike,
    smoothness: ArrayLike,
    noise: ArrayLike,
    num_workers: ArrayLike,
    beta: ArrayLike,
    moving_rate: ArrayLike | None = None,
) -> Errors:
    r"""The bounds of the three errors after many steps.

    .. math::
        a_\infty = c_\infty &= \frac{\alpha / p + \gamma_1 / p + \gamma_2}
            {\gamma_1 (\alpha + \gamma_1 + \gamma_2)} \eta^2 \sigma^2 \\
        b_\infty &= \frac{\alpha / p + \gamma_1 + \gamma_2}
            {\gamma_1 (\alpha + \gamma_1 + \gamma_2)} \eta^2 \sigma^2

    With :math:`\mu = L` the center's is of order 1 / p, as on a quadratic.
    With :math:`\mu \ll L` this bound shows no gain from more workers.

    Args:
        learning_rate: :math:`\eta`, above 0.
        strong_convexity: :math:`\mu`, above 0.
        smoothness: L, at least `strong_convexity`.
        noise: :math:`\sigma`, at least 0.
        num_workers: p, at least 1.
        beta: :math:`\beta`, above 0.
        moving_rate: :math:`\alpha`, at least 0; by default
            :math:`\beta / p`.

    Returns:
        `Errors`; all arguments broadcast. NaN where the theorem does not
        hold (see `holds`).

    Raises:
        ValueError: an argument is out of range.

    Example:

    >>> errors = asymptotic_bounds(
    ...     learning_rate=0.1, strong_convexity=1.0, smoothness=1.0,
    ...     noise=1.0, num_workers=[2, 100], beta=0.9,
    ... )
    >>> print(errors.center.round(4))
    [0.05  0.001]

    Reference:
        Zhang (2016), section 3.2, after the proof of Theorem 3.2.1.
    """
    eta = _checks.above("learning_rate", learning_rate, 0)
    _checks.above("beta", beta, 0)
    sigma = _checks.at_least("noise", noise, 0)
    p = np.asarray(num_workers, dtype=np.float64)
    applies = holds(
        learning_rate=learning_rate,
        strong_convexity=strong_convexity,
        smoothness=smoothness,
        num_workers=num_workers,
        beta=beta,
        moving_rate=moving_rate,
    )
    alpha, beta = _checks.rates(num_workers, moving_rate, beta)
    mu, high = _curvatures(strong_convexity, smoothness)
    gamma_1, gamma_2 = _shrinkage(learning_rate, mu, high)
    scale = np.square(eta * sigma) / (gamma_1 * (alpha + gamma_1 + gamma_2))
    scale = np.where(applies, scale, np.nan)
    center = (alpha / p + gamma_1 / p + gamma_2) * scale
    return Errors(center, (alpha / p + gamma_1 + gamma_2) * scale, center)


def _curvatures(
    strong_convexity: ArrayLike, smoothness: ArrayLike
) -> tuple[Array, Array]:
    """The two curvatures, checked."""
    mu = _checks.above("strong_convexity", strong_convexity, 0)
    high = _checks.above("smoothness", smoothness, 0)
    rule = f"at least `strong_convexity` ({mu})"
    _checks.require(high >= mu, rule, smoothness=smoothness)
    return mu, high


def _shrinkage(
    learning_rate: ArrayLike, mu: Array, high: Array
) -> tuple[Array, Array]:
    """The two rates of the recursion: gamma_1 and gamma_2."""
    eta = _checks.at_least("learning_rate", learning_rate, 0)
    slack = np.square(np.sqrt(high) - np.sqrt(mu)) / (mu + high)
    return 2 * eta * mu * high / (mu + high), 2 * eta * high * slack
