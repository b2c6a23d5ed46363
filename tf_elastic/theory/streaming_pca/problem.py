"""The inputs of streaming PCA: their covariance and their fourth moments."""

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from numpy.typing import NDArray

from tf_elastic.theory import _checks

INPUTS = ("gaussian", "sphere")


class Eigenbasis(NamedTuple):
    """A covariance taken apart, the largest eigenvalue first."""

    values: NDArray[np.float64]  # lambda_1 > lambda_2 >= ... > 0; shape (d,)
    vectors: NDArray[np.float64]  # column i belongs to values[i]; shape (d, d)


def eigenbasis(covariance: ArrayLike) -> Eigenbasis:
    r"""The decomposition :math:`\Sigma = Q \Lambda Q^\top`.

    Args:
        covariance: :math:`\Sigma`, shape (d, d) with d at least 2, symmetric
            and positive definite, the largest eigenvalue a simple one
            (Assumption 1).

    Returns:
        `Eigenbasis`.

    Raises:
        ValueError: `covariance` is not such a matrix.

    Example:

    >>> import numpy as np
    >>> print(eigenbasis(np.diag([1.0, 3.0])).values)
    [3. 1.]

    Reference:
        Liu et al. (2018), "Towards Understanding Acceleration Tradeoff between
        Momentum and Asynchrony", Assumption 1.
    """
    matrix = np.asarray(covariance, np.float64)
    if (
        matrix.ndim != 2
        or matrix.shape[0] != matrix.shape[1]
        or len(matrix) < 2
        or not np.all(np.isfinite(matrix))
        or not np.allclose(matrix, matrix.T, rtol=1e-10, atol=0)
    ):
        raise ValueError(
            "`covariance` must be a symmetric matrix of two rows or more. "
            f"Received: covariance={matrix}."
        )
    values, vectors = np.linalg.eigh(matrix)
    if values[0] <= 0 or not values[-1] > values[-2] * (1 + 1e-12):
        raise ValueError(
            "`covariance` must have positive eigenvalues, the largest of them "
            f"simple. Received: covariance={matrix}."
        )
    # The sign that makes a diagonal covariance's eigenvectors unit vectors.
    largest = np.argmax(np.abs(vectors), axis=0)
    vectors = vectors * np.sign(vectors[largest, np.arange(len(values))])
    return Eigenbasis(values[::-1].copy(), vectors[:, ::-1].copy())


def fourth_moments(
    covariance: ArrayLike, inputs: str = "gaussian"
) -> NDArray[np.float64]:
    r"""The noise of streaming PCA between each two eigenvectors.

    Args:
        covariance: :math:`\Sigma`, shape (d, d); see `eigenbasis`.
        inputs: "gaussian", or "sphere" for inputs that are bounded:
            :math:`X = \Sigma^{1/2} \sqrt{d}\, u` with u uniform on the sphere,
            so that :math:`\|X\|^2 \le d \lambda_1`.

    Returns:
        :math:`\alpha_{ij}^2 = E[(Y^{(i)})^2 (Y^{(j)})^2]` of
        :math:`Y = Q^\top X`, shape (d, d).

    Raises:
        ValueError: `covariance` or `inputs` is none.

    Example:

    >>> import numpy as np
    >>> print(fourth_moments(np.diag([3.0, 2.0])))
    [[27.  6.]
     [ 6. 12.]]

    Reference:
        Liu et al. (2018), Theorem 3.5.
    """
    check_inputs(inputs)
    values = eigenbasis(covariance).values
    size = len(values)
    pairs = np.outer(values, values) * (1 + 2 * np.eye(size))
    return pairs * (size / (size + 2)) if inputs == "sphere" else pairs


def checked_momentum(momentum: ArrayLike) -> NDArray[np.float64]:
    """The momentum as float64; in [0, 1), or ValueError."""
    array = np.asarray(momentum, np.float64)
    _checks.require((array >= 0) & (array < 1), "in [0, 1)", momentum=momentum)
    return array


def check_inputs(inputs: str) -> None:
    """Raises ValueError where `inputs` is none of `INPUTS`."""
    if inputs not in INPUTS:
        raise ValueError(
            f"`inputs` must be one of {INPUTS}. Received: inputs={inputs!r}."
        )


def draw(
    generator: np.random.Generator,
    root: NDArray[np.float64],
    steps: int,
    runs: int,
    inputs: str,
) -> NDArray[np.float64]:
    """Independent inputs.

    Args:
        generator: where randomness comes from.
        root: R with R R^T the covariance, shape (d, d).
        steps: how many for each run.
        runs: how many runs.
        inputs: one of `INPUTS`.

    Returns:
        The inputs, shape (steps, d, runs).
    """
    normal = generator.standard_normal((steps, len(root), runs))
    if inputs == "sphere":
        squares = np.einsum("kdr,kdr->kr", normal, normal)
        normal *= np.sqrt(len(root) / squares)[:, None]
    return root @ normal
