"""Linear regression: its gradient, its mini-batches, their noise."""

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from numpy.typing import NDArray

from tf_elastic.theory import _checks


class LeastSquares(NamedTuple):
    r"""The mean of n squares, and its stochastic gradient.

    .. math::
        F(x) = \frac{1}{n} \sum_i f_i(x), \quad
        f_i(x) = \frac{1}{2} (a_i^T x - b_i)^2

    Make it with `least_squares`, which checks its arguments.

    Reference:
        He et al. (2018), sections 3 and 4.
    """

    features: NDArray[np.float64]  # a_i in rows, shape (n, dimension)
    targets: NDArray[np.float64]  # b_i, shape (n,)

    @property
    def hessian(self) -> NDArray[np.float64]:
        r""":math:`\tilde A = A^T A / n`, shape (dimension, dimension)."""
        second: NDArray[np.float64] = np.einsum(
            "ij,ik->jk", self.features, self.features
        ) / len(self.features)
        return second

    @property
    def optimum(self) -> NDArray[np.float64]:
        r""":math:`x^* = \tilde A^{-1} \tilde B`, with B~ = A^T B / n."""
        solution, *_ = np.linalg.lstsq(self.features, self.targets)
        return np.asarray(solution, dtype=np.float64)

    def gradient(self, points: ArrayLike) -> NDArray[np.float64]:
        r""":math:`\nabla F`, at points of shape (..., dimension)."""
        return self._residuals(points) @ self.features / len(self.features)

    def batch_gradient(
        self,
        points: ArrayLike,
        batch_size: int,
        generator: np.random.Generator,
    ) -> NDArray[np.float64]:
        """The gradient on a mini-batch of its own for each point.

        Args:
            points: shape (runs, dimension).
            batch_size: b, examples drawn independently, with replacement.
            generator: what draws them.

        Returns:
            :math:`g_M(b, x)`, shape (runs, dimension).
        """
        residuals = self._residuals(points)
        size = len(self.features)
        drawn = generator.multinomial(
            batch_size, np.full(size, 1 / size), size=len(residuals)
        )
        batch: NDArray[np.float64] = drawn * residuals @ self.features
        return batch / batch_size

    def gradient_covariance(self, points: ArrayLike) -> NDArray[np.float64]:
        r""":math:`\Sigma(x)`, of one example's gradient.

        Args:
            points: x, shape (..., dimension).

        Returns:
            Shape (..., dimension, dimension).
        """
        residuals = self._residuals(points)
        second: NDArray[np.float64] = np.einsum(
            "...i,ij,ik->...jk", residuals**2, self.features, self.features
        )
        mean = residuals @ self.features / len(self.features)
        outer = mean[..., :, None] * mean[..., None, :]
        return second / len(self.features) - outer

    def noise_factor(
        self, points: ArrayLike, batch_size: int
    ) -> NDArray[np.float64]:
        r""":math:`\sigma(x)`, with :math:`\sigma \sigma^T = \Sigma(x) / b`.

        Args:
            points: x, shape (..., dimension).
            batch_size: b.

        Returns:
            The symmetric square root, shape (..., dimension, dimension).
        """
        covariance = self.gradient_covariance(points) / batch_size
        if covariance.shape[-1] == 1:
            return np.sqrt(np.maximum(covariance, 0))
        variances, axes = np.linalg.eigh(covariance)
        scaled = axes * np.sqrt(np.maximum(variances, 0))[..., None, :]
        factor: NDArray[np.float64] = scaled @ np.swapaxes(axes, -1, -2)
        return factor

    def _residuals(self, points: ArrayLike) -> NDArray[np.float64]:
        residuals: NDArray[np.float64] = (
            np.asarray(points, dtype=np.float64) @ self.features.T
            - self.targets
        )
        return residuals


def least_squares(features: ArrayLike, targets: ArrayLike) -> LeastSquares:
    """Linear regression on given examples.

    Args:
        features: :math:`a_i` in rows, shape (n, dimension).
        targets: :math:`b_i`, shape (n,).

    Returns:
        `LeastSquares`, in float64.

    Raises:
        ValueError: the shapes do not match, or a number is not finite.

    Example:

    >>> problem = least_squares([[1.0], [1.0]], [-1.0, 1.0])
    >>> problem.gradient([[4.0]]), problem.gradient_covariance([4.0])
    (array([[4.]]), array([[1.]]))

    Reference:
        He et al. (2018), section 4.
    """
    rows = np.asarray(features, dtype=np.float64)
    values = np.asarray(targets, dtype=np.float64)
    _checks.require(
        rows.ndim == 2 and rows.size > 0,
        "of shape (n, dimension)",
        features=features,
    )
    _checks.require(
        values.shape == rows.shape[:1],
        f"of shape ({len(rows)},), as `features` has rows",
        targets=targets,
    )
    _checks.finite(features=rows, targets=values)
    return LeastSquares(rows, values)


def two_parabolas() -> LeastSquares:
    r"""The example of the paper's experiments.

    .. math:: F(x) = \frac{1}{2} (x + 1)^2 + \frac{1}{2} (x - 1)^2

    As the mean of its two terms (eq. 1) these are
    :math:`f_i(x) = (x \pm 1)^2`: curvature 2, optimum 0, and a gradient of
    standard deviation 2 for a batch of one.

    Returns:
        `LeastSquares` of two examples.

    Example:

    >>> print(two_parabolas().hessian.round(12))
    [[2.]]

    Reference:
        He et al. (2018), section 5.
    """
    root = np.sqrt(2)
    return least_squares([[root], [root]], [-root, root])
