"""Stacks of matrices and their spectra, all at once."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike
from numpy.typing import NDArray


def stack(rows: Sequence[Sequence[ArrayLike]]) -> NDArray[np.float64]:
    """Matrices from their entries, which broadcast against each other.

    Args:
        rows: the entries, a sequence for each row; each a number or an array.

    Returns:
        Shape (..., n, m), where the dots are what the entries broadcast to.

    Example:

    >>> import numpy as np
    >>> stack([[1, np.array([2.0, 3.0])], [0, 1]]).shape
    (2, 2, 2)
    """
    shape = np.broadcast_shapes(*(np.shape(e) for row in rows for e in row))
    matrix = np.empty((*shape, len(rows), len(rows[0])))
    for i, row in enumerate(rows):
        for j, entry in enumerate(row):
            matrix[..., i, j] = entry
    return matrix


def spectral_radii(matrices: ArrayLike) -> NDArray[np.float64]:
    """The largest absolute eigenvalue of each of many matrices.

    Args:
        matrices: shape (..., n, n).

    Returns:
        Shape (...).

    Example:

    >>> print(spectral_radii([[[0.0, -2.0], [0.125, 0.0]], [[3, 0], [0, 1]]]))
    [0.5 3. ]
    """
    radii: NDArray[np.float64] = np.abs(
        np.linalg.eigvals(np.asarray(matrices))
    ).max(axis=-1)
    return radii
