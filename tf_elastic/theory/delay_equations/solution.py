r"""The fundamental solution of the linear delay equation.

It is R, which solves :math:`\dot R(t) = -A R(t - \tau)` with R(0) = I and
R = 0 before, and is integrated from delay to delay with polynomials, to
rounding.
"""

import numpy as np
from numpy.polynomial import chebyshev
from numpy.typing import ArrayLike
from numpy.typing import NDArray
from scipy import linalg

from tf_elastic.theory import _checks
from tf_elastic.theory.delay_equations.roots import nonnegative
from tf_elastic.theory.delay_equations.roots import square

_DEGREE = 24  # of the polynomial on each piece
_MOST_PIECES = 100_000

Array = NDArray[np.float64]


def fundamental_solution(
    t: ArrayLike, *, matrix: ArrayLike, delay: float
) -> Array:
    r"""R(t), the answer at time t to a unit push at time 0.

    Args:
        t: times of at least 0.
        matrix: A, shape (n, n).
        delay: :math:`\tau \ge 0`, in units of time.

    Returns:
        R, shape (..., n, n) for times of shape (...).

    Raises:
        ValueError: a time or the delay is negative, or A is not square; or
            the delay is not 0 and less than a 100 000th of the largest time.

    Example:

    >>> print(fundamental_solution(
    ...     [0.5, 2.0, 3.0], matrix=[[1.0]], delay=1.0
    ... ).ravel().round(6))
    [ 1.   0.  -0.5]

    Reference:
        He et al. (2018), proof of Theorem 4.1, after Bao et al. (2016).
    """
    hessian, times = checked(t, matrix, delay)
    length, pieces = solve(hessian, delay, float(times.max()))
    return evaluate(pieces, length, times)


def checked(
    t: ArrayLike, matrix: ArrayLike, delay: float
) -> tuple[Array, Array]:
    """A and the times as float64, if they are what they must be."""
    hessian = square("matrix", matrix).astype(np.float64)
    _checks.require(hessian.ndim == 2, "of shape (n, n)", matrix=matrix)
    nonnegative(delay=delay, t=t)
    return hessian, np.asarray(t, dtype=np.float64)


# A piece is the values at these points, from 0 to 1, of what is a polynomial.
NODES = (1 - np.cos(np.pi * np.arange(_DEGREE + 1) / _DEGREE)) / 2


def _values(points: Array, degree: int) -> Array:
    values = chebyshev.chebvander(2 * points - 1, degree)  # at least 2-D
    return np.asarray(values.reshape(*points.shape, -1), dtype=np.float64)


_COEFFICIENTS = np.linalg.inv(_values(NODES, _DEGREE))
# From values at the nodes to the integrals from 0 to each node.
INTEGRATE = (
    _values(NODES, _DEGREE + 1)
    @ chebyshev.chebint(np.eye(_DEGREE + 1), lbnd=-1, scl=0.5)
    @ _COEFFICIENTS
)


def solve(hessian: Array, delay: float, horizon: float) -> tuple[float, Array]:
    """R up to a time: the length of a piece, and pieces in order."""
    identity = np.eye(len(hessian))
    if delay == 0:
        length = 1 / max(float(np.linalg.norm(hessian, ord=2)), 1e-300)
        length = min(length, max(horizon, 1e-300))
        first = linalg.expm(-hessian * (length * NODES)[:, None, None])
    else:
        _checks.require(
            horizon <= _MOST_PIECES * delay,
            f"0, or at least {horizon / _MOST_PIECES:.3g} for these times",
            delay=delay,
        )
        length = delay
        first = np.broadcast_to(identity, (len(NODES), *identity.shape))
    pieces = [first]
    for _ in range(int(horizon / length)):
        last = pieces[-1]
        if delay == 0:
            pieces.append(first @ last[-1])
        else:
            change = np.einsum("ik,kab->iab", INTEGRATE, hessian @ last)
            pieces.append(last[-1] - length * change)
    return length, np.stack(pieces)


def evaluate(pieces: Array, length: float, times: Array) -> Array:
    """What the pieces are at times of any shape."""
    piece = np.minimum((times / length).astype(int), len(pieces) - 1)
    weights = _values(times / length - piece, _DEGREE) @ _COEFFICIENTS
    values: Array = np.einsum("...k,...kab->...ab", weights, pieces[piece])
    return values
