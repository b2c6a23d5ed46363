"""The map of (mean of the workers, center): eigenvalues and stability."""

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from numpy.typing import NDArray

from tf_elastic import core
from tf_elastic.theory import _checks

Array = NDArray[np.float64]


class Eigenvalues(NamedTuple):
    """The eigenvalues of the map of (mean of the workers, center)."""

    gamma: Array  # the larger one
    phi: Array  # the smaller one


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
    step, alpha, beta = setting(
        learning_rate, curvature, num_workers, moving_rate, beta
    )
    slow, fast = decrements(step, alpha, beta)
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
    step, alpha, beta = setting(
        learning_rate, curvature, num_workers, moving_rate, beta
    )
    inside = (2 - step) * (2 - beta) > 2 * alpha
    one_sign = (2 - step) + (2 - beta) > alpha
    return (step > 0) & (beta > 0) & inside & one_sign


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


def setting(
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


def decrements(step: Array, alpha: Array, beta: Array) -> tuple[Array, Array]:
    """1 - gamma and 1 - phi, exact also where they are tiny."""
    root = np.sqrt(np.square(step + alpha - beta) + 4 * alpha * beta)
    fast = (step + alpha + beta + root) / 2
    slow = step * beta / np.where(fast > 0, fast, 1.0)
    return slow, fast
