"""Moments under additive noise: m(t + 1) = M m(t) + n."""

import numpy as np
from numpy.typing import ArrayLike
from numpy.typing import NDArray

from tf_elastic.theory import _checks
from tf_elastic.theory import _spectra


def moments_at(
    t: int, matrix: ArrayLike, noise: ArrayLike, start: ArrayLike
) -> NDArray[np.float64]:
    r"""The moments after t steps, stable or not.

    .. math:: m_t = M^t m_0 + \sum_{s < t} M^s n

    Args:
        t: steps, at least 0.
        matrix: M, shape (..., k, k); a moment or a drift matrix.
        noise: n, shape (..., k); what a step adds.
        start: :math:`m_0`, shape (..., k).

    Returns:
        :math:`m_t`, shape (..., k).

    Raises:
        ValueError: `t` is not a whole number or negative.

    Example:

    >>> moments_at(2, [[0.5]], noise=[1.0], start=[4.0])
    array([2.5])

    Reference:
        Zhang (2016), eqs. 5.6 and 5.12.
    """
    t = _checks.whole_number("t", t, 0)
    matrix, noise, start = (
        np.asarray(a, np.float64) for a in (matrix, noise, start)
    )
    batch = np.broadcast_shapes(
        matrix.shape[:-2], noise.shape[:-1], start.shape[:-1]
    )
    k = matrix.shape[-1]
    # One more variable, which stays 1, brings the noise in.
    affine = np.zeros((*batch, k + 1, k + 1))
    affine[..., :k, :k] = matrix
    affine[..., :k, k] = noise
    affine[..., k, k] = 1
    after: NDArray[np.float64] = np.linalg.matrix_power(affine, t)
    start = np.broadcast_to(start, (*batch, k))[..., None]
    moments: NDArray[np.float64] = after[..., :k, :k] @ start
    return moments[..., 0] + after[..., :k, k]


def stationary_covariance(
    drift: ArrayLike, noise: ArrayLike
) -> NDArray[np.float64]:
    r"""The covariance that a linear system with additive noise tends to.

    .. math:: S = A S A^T + N

    Args:
        drift: A, shape (..., k, k).
        noise: N, the covariance of what a step adds, shape (..., k, k).

    Returns:
        S, shape (..., k, k); infinite where sp(A) >= 1.

    Example:

    >>> stationary_covariance([[0.5]], noise=[[3.0]])
    array([[4.]])
    """
    drift, noise = np.broadcast_arrays(
        np.asarray(drift, np.float64), np.asarray(noise, np.float64)
    )
    k = drift.shape[-1]
    stable = np.asarray(_spectra.spectral_radii(drift) < 1)[..., None, None]
    drift = np.where(stable, drift, 0.0)
    # Row by row: vec(A S A^T) = (A kron A) vec(S).
    square = np.einsum("...ij,...kl->...ikjl", drift, drift)
    square = square.reshape(*drift.shape[:-2], k * k, k * k)
    flat = noise.reshape(*noise.shape[:-2], k * k, 1)
    solved: NDArray[np.float64] = np.linalg.solve(np.eye(k * k) - square, flat)
    return np.where(stable, solved.reshape(noise.shape), np.inf)
