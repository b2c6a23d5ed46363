r"""Where the linear delay equation is stable, and how fast it is.

The mean of ASGD on a quadratic, seen in continuous time, follows
:math:`\dot y(t) = -A y(t - \tau)`. Its solutions are sums of
:math:`e^{\beta t}` over the roots of
:math:`\det(\beta I + A e^{-\beta \tau}) = 0`.
"""

import numpy as np
from numpy.typing import ArrayLike
from numpy.typing import NDArray
from scipy import special

from tf_elastic.theory import _checks


def rightmost_root(
    matrix: ArrayLike, delay: ArrayLike
) -> NDArray[np.complex128]:
    r"""The right-most root of the characteristic equation, in closed form.

    .. math:: \det(\beta I + A e^{-\beta \tau}) = 0

    For each eigenvalue :math:`\mu` of A the roots are
    :math:`\beta = W_k(-\mu \tau) / \tau`, one for each branch k of Lambert's
    function. None is further right than that of the principal branch, k = 0,
    so that one for each eigenvalue is enough. The mean of ASGD shrinks as
    :math:`e^{V t}`, where V is the real part of what is returned.

    Args:
        matrix: A, the Hessian; real or complex, shape (..., n, n).
        delay: :math:`\tau = l \delta \ge 0`, in units of time (steps times
            learning rate); broadcasts against the leading shape of `matrix`.

    Returns:
        :math:`\beta`, complex, of the shape that the arguments broadcast to
        (a NumPy scalar for one matrix and one delay). Of a conjugate pair it
        is the one with the positive imaginary part.

    Raises:
        ValueError: the matrix is not square, or an argument is not finite, or
            the delay is negative.

    Example:

    >>> import numpy as np
    >>> print(rightmost_root([[1.0]], 0.25).round(4))
    (-1.4296+0j)
    >>> print(rightmost_root(np.diag([1.0, 2.0]), [0.0, 0.7]).round(4))
    [-1.    +0.j     -0.1167+2.1671j]

    Reference:
        He et al. (2018), Theorem 4.1 (:math:`V = \sup \Re \beta`); Shinozaki
        and Mori (2006) for the branch.
    """
    eigenvalues, tau = _eigenvalues_and_delay(matrix, delay)
    delayed = (tau > 0) & (eigenvalues != 0)  # else -mu is the right-most
    scale = np.where(delayed, tau, 1.0)
    products = special.lambertw(np.where(delayed, -eigenvalues * scale, 1.0))
    # At its branch point -1 / e, SciPy's function is not a number.
    products = np.where(np.isnan(products), -1.0, products)
    roots = np.where(delayed, products / scale, -eigenvalues)
    return _rightmost(roots, np.isrealobj(matrix))


def rightmost_root_numeric(
    matrix: ArrayLike, delay: float, *, degree: int = 32
) -> NDArray[np.complex128]:
    r"""The same root with no use of Lambert's function.

    The generator of the equation, differentiation on :math:`[-\tau, 0]` with
    the condition :math:`\phi'(0) = -A \phi(-\tau)`, becomes a matrix on
    Chebyshev's points; its right-most eigenvalues converge to the roots
    faster than any power of `degree`.

    Args:
        matrix: A, shape (n, n).
        delay: :math:`\tau > 0`, in units of time.
        degree: of the polynomials, at least 2. The matrix whose spectrum is
            taken has n (degree + 1) rows.

    Returns:
        :math:`\beta`, complex, as `rightmost_root`.

    Raises:
        ValueError: the matrix is not square, the delay not positive, or the
            degree too small.

    Example:

    >>> print(rightmost_root_numeric([[1.0]], 0.25).round(4))
    (-1.4296+0j)

    Reference:
        Breda, Maset and Vermiglio (2005).
    """
    hessian = square("matrix", matrix)
    _checks.positive(delay=delay)
    _checks.whole(2, degree=degree)
    n = hessian.shape[-1]
    points = np.cos(np.pi * np.arange(degree + 1) / degree)  # 1 is now
    weights = np.where(np.arange(degree + 1) % degree, 1.0, 2.0)
    weights = weights * (-1.0) ** np.arange(degree + 1)
    gaps = points[:, None] - points + np.eye(degree + 1)
    differentiate = np.outer(weights, 1 / weights) / gaps
    differentiate -= np.diag(differentiate.sum(axis=1))
    generator = np.kron(differentiate * (2 / delay), np.eye(n)).astype(
        hessian.dtype
    )
    generator[:n] = 0
    generator[:n, -n:] = -hessian
    return _rightmost(
        np.linalg.eigvals(generator).astype(np.complex128),
        np.isrealobj(hessian),
    )


def critical_delay(matrix: ArrayLike) -> NDArray[np.float64]:
    r"""The delay from which on the equation is unstable.

    With eigenvalues :math:`\mu = r e^{i \phi}` of A,

    .. math:: \tau^* = \min_\mu (\pi / 2 - |\phi|) / r,

    which for a symmetric matrix is :math:`\pi / (2 \lambda_{\max})`.

    Args:
        matrix: A, shape (..., n, n).

    Returns:
        :math:`\tau^*`, in units of time, shape (...); 0 where no delay is
        stable, none included (an eigenvalue that is not in the open right
        half plane).

    Raises:
        ValueError: the matrix is not square, or not finite.

    Example:

    >>> print(critical_delay([[1.0, 0.0], [0.0, 2.0]]).round(4))
    0.7854

    Reference:
        The imaginary roots of He et al. (2018), Theorem 4.1.
    """
    eigenvalues = np.linalg.eigvals(square("matrix", matrix))
    radius = np.abs(eigenvalues)
    room = np.pi / 2 - np.abs(np.angle(eigenvalues))
    stable = (radius > 0) & (room > 0)
    delays = np.where(stable, room, 0) / np.where(stable, radius, 1)
    return np.asarray(np.min(delays, axis=-1))[()]


def is_stable(matrix: ArrayLike, delay: ArrayLike) -> NDArray[np.bool_]:
    r"""Whether V < 0: the right-most root is in the open left half plane.

    For a symmetric matrix that is
    :math:`0 < \lambda_{\min}` and :math:`\lambda_{\max} \tau < \pi / 2`. The
    condition is of continuous time; what it allows with a given number of
    steps of delay, `largest_stable_eta_h` may not.

    Args:
        matrix: A, shape (..., n, n).
        delay: :math:`\tau \ge 0`, in units of time; broadcasts against the
            leading shape of `matrix`.

    Returns:
        Truth values, of the shape that the arguments broadcast to.

    Raises:
        ValueError: as `rightmost_root`.

    Example:

    >>> print(is_stable([[1.0]], [0.0, 1.5, 1.6]))
    [ True  True False]

    Reference:
        He et al. (2018), Theorem 4.1.
    """
    return np.asarray(np.real(rightmost_root(matrix, delay)) < 0)[()]


def square(name: str, matrix: ArrayLike) -> NDArray[np.inexact]:
    """The matrices as an array, if they are square and finite."""
    array = np.asarray(matrix)
    if not np.issubdtype(array.dtype, np.inexact):
        array = array.astype(np.float64)
    _checks.require(
        array.ndim >= 2 and array.shape[-1] == array.shape[-2] > 0,
        "of shape (..., n, n)",
        **{name: matrix},
    )
    _checks.finite(**{name: array})
    return array


def nonnegative(**arguments: ArrayLike) -> None:
    """Refuses what is not finite and at least 0."""
    for name, value in arguments.items():
        array = np.asarray(value)
        holds = np.isfinite(array) & (array >= 0)
        _checks.require(holds, "at least 0 and finite", **{name: value})


def _eigenvalues_and_delay(
    matrix: ArrayLike, delay: ArrayLike
) -> tuple[NDArray[np.complex128], NDArray[np.float64]]:
    """Both of shape (..., n), for n eigenvalues."""
    eigenvalues = np.linalg.eigvals(square("matrix", matrix))
    nonnegative(delay=delay)
    tau = np.asarray(delay, dtype=np.float64)[..., None]
    shape = np.broadcast_shapes(eigenvalues.shape, tau.shape)
    return (
        np.broadcast_to(eigenvalues.astype(np.complex128), shape),
        np.broadcast_to(tau, shape),
    )


def _rightmost(
    roots: NDArray[np.complex128], conjugate: bool
) -> NDArray[np.complex128]:
    """The root of the largest real part along the last axis."""
    best = np.argmax(np.real(roots), axis=-1)[..., None]
    root = np.take_along_axis(roots, best, axis=-1)[..., 0]
    if conjugate:  # they come in pairs
        root = np.real(root) + 1j * np.abs(np.imag(root))
    return np.asarray(root, dtype=np.complex128)[()]
