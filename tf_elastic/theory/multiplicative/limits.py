r"""EASGD with ever more workers, under multiplicative noise.

As p grows, the noise of the workers' mean goes to 0, and the four eigenvalues
of the moment matrix (eq. 5.34) go to closed forms. Not so the noise of each
worker: what it allows does not grow with p.
"""

import numpy as np
from numpy.typing import ArrayLike
from numpy.typing import NDArray

from tf_elastic.theory import _checks
from tf_elastic.theory.multiplicative.inputs import step_moments

Array = NDArray[np.float64]


def limit_eigenvalues(
    *,
    learning_rate: ArrayLike,
    beta: ArrayLike,
    shape: ArrayLike,
    rate: ArrayLike,
    moving_rate: ArrayLike = 0.0,
) -> NDArray[np.complex128]:
    r"""The eigenvalues of EASGD's moment matrix with p = infinity.

    With :math:`u = \eta \lambda / \omega` they are

    .. math::
        z_1 &= (1 - \beta) (1 - u) - \alpha \\
        z_2 &= (1 - \alpha - u)^2 + \eta^2 \lambda / \omega^2 \\
        z_3 z_4 &= z_1^2 \\
        z_3 + z_4 &= (2 - \alpha - \beta - u)^2 - 2 z_1

    :math:`z_2` belongs to the differences among the workers. The others are
    :math:`m_1 m_2, m_1^2, m_2^2` of the two eigenvalues m that the mean of
    the workers and the center have without noise.

    Args:
        learning_rate: :math:`\eta`.
        beta: :math:`\beta`.
        shape: :math:`\lambda > 0` of the curvature's Gamma distribution.
        rate: :math:`\omega > 0`.
        moving_rate: :math:`\alpha`, the same for all p (the thesis' case II).
            0 is the limit of :math:`\beta / p` (case I).

    Returns:
        :math:`z_1, z_2, z_3, z_4`, shape (..., 4), complex;
        :math:`|z_3| \ge |z_4|`.

    Raises:
        ValueError: an argument is out of its range.

    Example:

    >>> limit = limit_eigenvalues(
    ...     learning_rate=0.5, beta=0.75, shape=1.0, rate=1.0
    ... )
    >>> print(limit.real)
    [0.125  0.5    0.25   0.0625]

    Reference:
        Zhang (2016), section 5.2.3, cases I and II.
    """
    _checks.finite(
        learning_rate=learning_rate, beta=beta, moving_rate=moving_rate
    )
    _checks.positive(shape=shape, rate=rate)
    alpha, b = np.asarray(moving_rate), np.asarray(beta)
    u, s = step_moments(learning_rate, shape, rate)
    product = (1 - b) * (1 - u) - alpha
    half = np.asarray((2 - alpha - b - u) / 2, dtype=np.complex128)
    root = np.sqrt(half**2 - product)
    # Of two real m, that of the larger magnitude comes first.
    root = np.where(half.real < 0, -root, root)
    z3, z4 = (half + root) ** 2, (half - root) ** 2
    z2 = (1 - alpha - u) ** 2 + s
    return np.stack(np.broadcast_arrays(product, z2, z3, z4), axis=-1)


def limit_learning_rates(
    *,
    beta: ArrayLike,
    shape: ArrayLike,
    rate: ArrayLike,
    moving_rate: ArrayLike = 0.0,
) -> tuple[Array, Array]:
    r"""The open interval of learning rates at which EASGD is stable.

    For many workers. With :math:`0 < \alpha < 1` and :math:`0 < \beta < 1`
    the interval begins at 0 and ends at the lower of

    .. math::
        \frac{4 - 2 \alpha - 2 \beta}{2 - \beta} \frac{\omega}{\lambda}
        \quad \text{and} \quad
        \frac{\omega (1 - \alpha)}{\lambda + 1} + \frac{\omega}
            {\lambda (\lambda + 1)}
            \sqrt{\lambda^2 + \lambda (2 \alpha - \alpha^2)}

    Beyond these the conditions on all four eigenvalues are solved: that
    the workers' mean and the center converge together (three conditions,
    linear in :math:`\eta`), and that the workers do not drift apart (a
    quadratic one).

    Args:
        beta: :math:`\beta`.
        shape: :math:`\lambda > 0` of the curvature's Gamma distribution.
        rate: :math:`\omega > 0`.
        moving_rate: :math:`\alpha`, the same for all p. 0 is the limit of
            :math:`\beta / p`, in which the interval is that of SGD.

    Returns:
        (low, high), arrays of the shape that the arguments broadcast to; both
        0 where no positive learning rate is stable.

    Raises:
        ValueError: an argument is out of its range.

    Example:

    >>> low, high = limit_learning_rates(
    ...     beta=0.9, shape=0.25, rate=0.25, moving_rate=0.5
    ... )
    >>> print(low, high)
    0.0 0.5

    Reference:
        Zhang (2016), section 5.2.3, cases I and II.
    """
    _checks.finite(beta=beta, moving_rate=moving_rate)
    _checks.positive(shape=shape, rate=rate)
    alpha, b, lam, omega = np.broadcast_arrays(
        *(np.asarray(x, np.float64) for x in (moving_rate, beta, shape, rate))
    )
    # In u = eta lambda / omega. The trace and the determinant of the means:
    # |2 - alpha - b - u| < 1 + z1 and z1 < 1.
    low, high = np.zeros(b.shape), np.where(b > 0, np.inf, 0.0)
    for slope, bound in (
        (2 - b, 4 - 2 * alpha - 2 * b),
        (b - 1, alpha + b),
    ):
        low, high = _narrowed(low, high, slope, bound)
    # z2 < 1.
    square = 1 + (2 * alpha - alpha**2) / lam
    root = np.sqrt(np.maximum(square, 0))
    scale = lam / (lam + 1)
    low = np.maximum(low, (1 - alpha - root) * scale)
    high = np.minimum(high, (1 - alpha + root) * scale)
    empty = (square <= 0) | (low >= high)
    return (
        np.where(empty, 0.0, low) * omega / lam,
        np.where(empty, 0.0, high) * omega / lam,
    )


def _narrowed(
    low: Array, high: Array, slope: Array, bound: Array
) -> tuple[Array, Array]:
    """The part of the interval in which slope * u < bound."""
    edge = bound / np.where(slope == 0, 1.0, slope)
    never = (slope == 0) & (bound <= 0)
    high = np.where(slope > 0, np.minimum(high, edge), high)
    low = np.where(slope < 0, np.maximum(low, edge), low)
    return low, np.where(never, low, high)


def widest_moving_rate(*, shape: ArrayLike) -> Array:
    r"""The moving rate at which EASGD bears the highest learning rate.

    For many workers, :math:`\alpha = 1 - \sqrt \lambda`; the interval of
    stable learning rates is then :math:`0 < \eta < \omega / \sqrt \lambda`.
    It is the widest, not where EASGD converges fastest.

    Args:
        shape: :math:`\lambda > 0` of the curvature's Gamma distribution.

    Returns:
        :math:`\alpha` in [0, 1). It is 0 for :math:`\lambda \ge 1`: no pull
        widens the interval of SGD then, and one away from the center
        (:math:`1 - \sqrt \lambda < 0`) makes small learning rates unstable.

    Raises:
        ValueError: an argument is out of its range.

    Example:

    >>> print(widest_moving_rate(shape=0.25))
    0.5

    Reference:
        Zhang (2016), section 5.2.3, case II.
    """
    _checks.positive(shape=shape)
    rate: Array = np.maximum(0.0, 1 - np.sqrt(np.asarray(shape)))
    return rate
