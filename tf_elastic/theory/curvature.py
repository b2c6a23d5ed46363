"""The largest curvature of a function, from products with its Hessian."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from numpy.typing import NDArray
from scipy.sparse import linalg

from tf_elastic.theory import _checks

Array = NDArray[np.float64]

_BASIS = 20  # vectors that are kept


class Curvature(NamedTuple):
    """An eigenvalue, and how sure it is."""

    eigenvalue: float  # of a symmetric matrix
    vector: Array  # its direction, of length 1, shape (size,)
    # |A v - eigenvalue v|: an eigenvalue of A lies as near as that.
    residual: float
    products: int  # with the matrix, that it took


def largest_eigenvalue(
    product: Callable[[Array], ArrayLike],
    size: int,
    *,
    tolerance: float = 1e-3,
    max_products: int = 1000,
    seed: int = 0,
) -> Curvature:
    r"""The largest eigenvalue of a symmetric matrix, by Lanczos' method.

    The matrix is known only by its products with vectors, as the Hessian of a
    network is. Largest means rightmost: a large negative curvature does not
    count, since what limits a learning rate is the largest positive one.

    Args:
        product: gives :math:`A v` of a vector v of shape (size,), float64.
        size: of the matrix, at least 1.
        tolerance: relative to the eigenvalue; when the residual is below, it
            ends. Positive.
        max_products: with how many products it gives up, at least 1; one more
            is for the residual.
        seed: of the first vector, at least 0.

    Returns:
        `Curvature`. If it has not converged by then it is of the best vector
        so far, whose `residual` says how good that is; the eigenvalue is then
        a lower bound.

    Raises:
        ValueError: an argument is out of its range, or a product is not
            finite or not of shape (size,).

    Example:

    >>> import numpy as np
    >>> matrix = np.diag(np.arange(-500.0, 101.0))
    >>> found = largest_eigenvalue(lambda v: matrix @ v, 601, tolerance=1e-6)
    >>> print(f"{found.eigenvalue:.3f}")
    100.000

    Reference:
        Lanczos (1950); implicitly restarted, as in ARPACK.
    """
    size = _checks.whole_number("size", size)
    max_products = _checks.whole_number("max_products", max_products)
    _checks.positive(tolerance=tolerance)
    generator = np.random.default_rng(_checks.whole_number("seed", seed, 0))
    counted = _Counted(product, size, max_products)
    first = generator.normal(size=size)
    vector = first / np.linalg.norm(first)
    if size > 2:
        vector = _lanczos(counted, vector, tolerance)
    elif size == 2:
        matrix = np.stack([counted(row) for row in np.eye(2)])
        vector = np.linalg.eigh((matrix + matrix.T) / 2)[1][:, -1]
    image = counted.unlimited(vector)
    eigenvalue = float(vector @ image)
    return Curvature(
        eigenvalue,
        vector,
        float(np.linalg.norm(image - eigenvalue * vector)),
        counted.products,
    )


def _lanczos(counted: "_Counted", vector: Array, tolerance: float) -> Array:
    """The best vector that the products allow."""
    size = len(vector)
    operator = linalg.LinearOperator(
        (size, size), matvec=counted, dtype=np.float64
    )
    # What comes of a loose tolerance is there if a strict one takes too long.
    loose = [level for level in (1e-1, 1e-2, 1e-4) if level > 3 * tolerance]
    try:
        for level in [*loose, tolerance]:
            _, columns = linalg.eigsh(
                operator,
                k=1,
                which="LA",
                v0=vector,
                ncv=min(size, _BASIS),
                tol=level,
                maxiter=counted.most,
            )
            vector = columns[:, 0]
    except (_EnoughError, linalg.ArpackNoConvergence):
        pass
    return vector


class _EnoughError(Exception):
    """No more products are to be made."""


class _Counted:
    """A matrix' products, checked and counted."""

    def __init__(
        self, product: Callable[[Array], ArrayLike], size: int, most: int
    ) -> None:
        self._product = product
        self._size = size
        self.most = most
        self.products = 0

    def __call__(self, vector: Array) -> Array:
        if self.products >= self.most:
            raise _EnoughError
        return self.unlimited(vector)

    def unlimited(self, vector: Array) -> Array:
        """A product, however many there were."""
        self.products += 1
        image = np.asarray(
            self._product(np.asarray(vector, np.float64).reshape(self._size)),
            np.float64,
        )
        if image.shape != (self._size,) or not np.isfinite(image).all():
            raise ValueError(
                "`product` must give finite numbers of shape "
                f"({self._size},). Received: product={image}."
            )
        return image
