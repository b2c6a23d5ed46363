"""Powers of a 2 x 2 map and the sums that a variance is made of."""

import numpy as np
from numpy.typing import ArrayLike
from numpy.typing import NDArray

from tf_elastic.theory import _checks

Array = NDArray[np.float64]


def times(t: ArrayLike) -> Array:
    """Numbers of steps as float64, inf for the limit.

    Args:
        t: whole and at least 0, or inf.

    Returns:
        The numbers, same shape.

    Raises:
        ValueError: a number is neither.
    """
    steps = np.asarray(t, dtype=np.float64)
    # Beyond 2^53 a float64 does not know its unit digit.
    fine = (steps >= 0) & (steps <= 2.0**53) & (steps == np.floor(steps))
    rule = "whole and at least 0 (and at most 2^53), or inf"
    _checks.require(fine | np.isposinf(steps), rule, t=t)
    return steps


def powers(
    gamma: Array, phi: Array, t: NDArray[np.int64]
) -> tuple[Array, Array, Array]:
    r"""The power of one eigenvalue, and what the other one adds to it.

    With :math:`s_k = (\gamma^k - \phi^k) / (\gamma - \phi)`,

    .. math::
        \begin{pmatrix} \gamma & 1 \\ 0 & \phi \end{pmatrix}^k
        = \begin{pmatrix} \gamma^k & s_k \\ 0 & \phi^k \end{pmatrix}

    so that :math:`s_{m + n} = \gamma^m s_n + s_m \phi^n`: where both are
    positive, nothing cancels, however close they are.

    Args:
        gamma: one eigenvalue.
        phi: the other one.
        t: at least 0; all arguments broadcast.

    Returns:
        :math:`\gamma^t`, :math:`s_t` and :math:`\sum_{k < t} s_k^2`.

    Example:

    >>> import numpy as np
    >>> print(*powers(np.array(0.5), np.array(0.5), np.array(3)))
    0.125 0.75 2.0
    """
    gamma, phi, t = np.broadcast_arrays(gamma, phi, t)
    gamma_n, phi_n, s = np.ones(t.shape), np.ones(t.shape), np.zeros(t.shape)
    # Sums over k < n of s_k^2, s_k phi^k and phi^(2 k).
    squares, mixed, phis = (np.zeros(t.shape) for _ in range(3))
    for bit in reversed(range(int(t.max(initial=0)).bit_length())):
        # From n to 2 n ...
        squares, mixed, phis = (
            squares
            + gamma_n**2 * squares
            + 2 * gamma_n * s * mixed
            + s**2 * phis,
            mixed + phi_n * (gamma_n * mixed + s * phis),
            phis + phi_n**2 * phis,
        )
        s = s * (gamma_n + phi_n)
        gamma_n, phi_n = gamma_n**2, phi_n**2
        # ... and on by one where t has this bit.
        odd = (t >> bit) & 1 == 1
        squares = np.where(odd, squares + s**2, squares)
        mixed = np.where(odd, mixed + s * phi_n, mixed)
        phis = np.where(odd, phis + phi_n**2, phis)
        s = np.where(odd, gamma_n + phi * s, s)
        gamma_n = np.where(odd, gamma_n * gamma, gamma_n)
        phi_n = np.where(odd, phi_n * phi, phi_n)
    return gamma_n, s, squares
