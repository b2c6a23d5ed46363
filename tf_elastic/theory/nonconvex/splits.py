r"""Workers that settle in different wells: thesis, section 5.3.

Each of p workers descends the double well :math:`f(x) = (1 - x^2)^2 / 4` and
is tied to the center z by a penalty,

.. math:: \sum_{i=1}^p \frac14 (1 - x_i^2)^2 + \frac\rho2 (x_i - z)^2 .

With a weak penalty the workers can stay on both sides of the saddle point at
0, and that is a local minimum which the single well does not have. A *split*
is such a point: `upper` workers near 1, the others near -1.
"""

import itertools
import math
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from numpy.typing import NDArray
from scipy import optimize

from tf_elastic.theory import _checks

_ON_THE_CIRCLE = 1e-6  # how far rounding may push a double root off it


class CriticalPoint(NamedTuple):
    """A critical point, up to the order of the workers."""

    workers: NDArray[np.float64]  # shape (p,), from the highest to the lowest
    center: float  # the workers' mean
    eigenvalues: NDArray[np.float64]  # of the Hessian, shape (p + 1,), rising
    copies: int  # how many points the order of the workers makes of it

    @property
    def ways_down(self) -> int:
        """The number of directions that lead down: 0 at a local minimum."""
        return int(np.sum(self.eigenvalues < 0))


def objective(
    workers: ArrayLike, center: ArrayLike, elasticity: ArrayLike
) -> NDArray[np.float64]:
    r"""The double wells and the penalty.

    Args:
        workers: :math:`x_i`, shape (..., p).
        center: z, shape (...).
        elasticity: :math:`\rho \ge 0`, shape (...).

    Returns:
        The objective, shape (...).

    Example:

    >>> print(objective([1.0, -1.0], 0.0, elasticity=0.5))
    0.5

    Reference:
        Zhang (2016), eq. 5.35 for p = 2.
    """
    x = np.asarray(workers, np.float64)
    apart = x - np.asarray(center, np.float64)[..., np.newaxis]
    penalty = np.asarray(elasticity)[..., np.newaxis] / 2 * apart**2
    return np.asarray(np.sum((1 - x**2) ** 2 / 4 + penalty, axis=-1))


def well_gradient(workers: ArrayLike) -> NDArray[np.float64]:
    r"""The gradient of the double well alone, :math:`(x^2 - 1) x`.

    Args:
        workers: :math:`x_i`, any shape.

    Returns:
        The gradient at each worker, same shape.

    Reference:
        Zhang (2016), eq. 5.36.
    """
    x = np.asarray(workers, np.float64)
    return (x**2 - 1) * x


def hessian(workers: ArrayLike, elasticity: ArrayLike) -> NDArray[np.float64]:
    r"""Second derivatives with respect to the workers and the center.

    Args:
        workers: :math:`x_i`, shape (..., p).
        elasticity: :math:`\rho`, shape (...).

    Returns:
        H, shape (..., p + 1, p + 1), the center last.

    Example:

    >>> hessian([1.0, -1.0], elasticity=0.5)
    array([[ 2.5,  0. , -0.5],
           [ 0. ,  2.5, -0.5],
           [-0.5, -0.5,  1. ]])

    Reference:
        Zhang (2016), eq. 5.38 for p = 2.
    """
    x = np.asarray(workers, np.float64)
    rho = np.asarray(elasticity, np.float64)[..., np.newaxis]
    p = x.shape[-1]
    diagonal = 3 * x**2 - 1 + rho
    matrix = np.zeros((*diagonal.shape[:-1], p + 1, p + 1))
    every = np.arange(p)
    matrix[..., every, every] = diagonal
    matrix[..., every, p] = matrix[..., p, every] = -rho
    matrix[..., p, p] = p * rho[..., 0]
    return matrix


def smallest_eigenvalue(elasticity: ArrayLike) -> NDArray[np.float64]:
    r"""The smallest eigenvalue at the split of two workers.

    .. math:: \lambda_{\min} = 1 - \sqrt{1 - 4 \rho + 6 \rho^2}

    at :math:`x = \sqrt{1 - \rho} = -y`, z = 0. It is positive, and the split
    a local minimum, for :math:`0 < \rho < 2/3`.

    Args:
        elasticity: :math:`\rho` in [0, 1], any shape.

    Returns:
        The eigenvalue, same shape.

    Raises:
        ValueError: `elasticity` is outside of [0, 1], where there is no split.

    Example:

    >>> print(smallest_eigenvalue(0.5).round(4))
    0.2929

    Reference:
        Zhang (2016), Figure 5.20. The closed form is not in the thesis: one
        eigenvalue of eq. 5.38 is :math:`2 - 2\rho`, the others are the roots
        of :math:`z^2 - 2 z + 4 \rho - 6 \rho^2`.
    """
    rho = np.asarray(elasticity, np.float64)
    _checks.require(
        (rho >= 0) & (rho <= 1),
        "in [0, 1], where the split exists",
        elasticity=elasticity,
    )
    return np.asarray(1 - np.sqrt(1 - 4 * rho + 6 * rho**2))


def critical_points(
    elasticity: float, num_workers: int = 2
) -> list[CriticalPoint]:
    r"""All points at which the objective is level.

    Beside the three at which all workers agree (-1, 0 and 1), every worker
    sits at one of the three roots of :math:`x^3 - (1 - \rho) x = \rho z`,
    which are :math:`2 a \cos(\phi + 2 \pi n / 3)` with
    :math:`a^2 = (1 - \rho) / 3`. With given numbers of workers at each, that
    the center is their mean becomes a cubic equation in
    :math:`e^{2 i \phi}`, and its roots on the unit circle are the points.

    Args:
        elasticity: :math:`\rho > 0`.
        num_workers: p, at least 1. There are of the order of p^2 points.

    Returns:
        The points, the lowest `objective` first. For p = 2 there are, with
        `copies` counted, 9 for :math:`\rho < 2/3`, 5 for :math:`\rho < 1`, and
        3 beyond.

    Raises:
        ValueError: an argument is out of its range.

    Example:

    >>> for point in critical_points(0.5):
    ...     print(point.workers.round(3), point.copies, point.ways_down)
    [1. 1.] 1 0
    [-1. -1.] 1 0
    [ 0.707 -0.707] 2 0
    [ 0.809 -0.309] 2 1
    [ 0.309 -0.809] 2 1
    [0. 0.] 1 2

    Reference:
        Zhang (2016), eqs. 5.37 and 5.39. The thesis says that 5.39 has no real
        solution; it has, for :math:`\rho < 2/3`: those with one way down above.
    """
    rho, p = elasticity, num_workers
    _checks.positive(elasticity=rho)
    _checks.whole(num_workers=p)
    found = [np.full(p, level) for level in (1.0, -1.0, 0.0)]
    for counts in _counts(p) if rho < 1 else ():
        for workers in _with_counts(rho, counts):
            if not any(np.allclose(workers, old, atol=1e-7) for old in found):
                found.append(workers)
    points = [_describe(workers, rho) for workers in found]
    return sorted(
        points,
        key=lambda point: (
            float(objective(point.workers, point.center, rho).round(12)),
            -round(point.center, 12),
        ),
    )


def critical_elasticity(
    num_workers: int = 2, upper: int | None = None
) -> float:
    r"""The elasticity beyond which workers cannot stay apart.

    The critical point that is meant has `upper` workers at the highest and
    all others at the lowest root of :math:`x^3 - (1 - \rho) x = \rho z`, where
    z is the workers' mean; no worker is at the root in the middle, for the
    Hessian has a negative eigenvalue there. Starting at 1 and -1 with
    :math:`\rho = 0` the point moves with the penalty, and the Hessian is
    positive definite until, at the elasticity returned, its smallest
    eigenvalue is 0. This is solved for numerically. With equal numbers on both
    sides the point lives on as a saddle; with others it meets a saddle and
    both are gone.

    Args:
        num_workers: p, at least 2.
        upper: how many workers are in the upper well, from 1 to p - 1. By
            default the split that lasts longest, so that beyond the elasticity
            returned no split of any kind is stable.

    Returns:
        The critical :math:`\rho`: 2/3 for equal numbers, less for others,
        towards 1/4 for one worker against very many.

    Raises:
        ValueError: an argument is out of its range.

    Example:

    >>> print(f"{critical_elasticity():.12f}")
    0.666666666667
    >>> print(f"{critical_elasticity(num_workers=3):.4f}")
    0.4052

    Reference:
        Zhang (2016), section 5.3 (2/3, for p = 2).
    """
    p = num_workers
    _checks.whole(2, num_workers=p)
    if upper is None:
        return max(critical_elasticity(p, k) for k in range(1, p // 2 + 1))
    _checks.require(
        1 <= upper < p,
        f"from 1 to {p - 1}, so that both wells are taken",
        upper=upper,
    )
    few = min(upper, p - upper)  # the wells mirror each other
    if 2 * few == p:
        return float(
            optimize.brentq(
                lambda rho: _smallest(rho, few, p, ratio=1.0),
                1e-6,
                1 - 1e-6,
                xtol=1e-15,
            )
        )
    ratio = optimize.brentq(
        lambda r: _smallest(_elasticity_at(r, few / p), few, p, r),
        1 + 1e-6,
        1e3,
        xtol=1e-15,
    )
    return _elasticity_at(ratio, few / p)


def stable_splits(elasticity: float, num_workers: int) -> list[int]:
    r"""In which numbers workers can stay in the upper well.

    Args:
        elasticity: :math:`\rho > 0`.
        num_workers: p, at least 1.

    Returns:
        The numbers of upper workers, 0 and p among them, whose point is a
        local minimum.

    Raises:
        ValueError: an argument is out of its range.

    Example:

    >>> stable_splits(0.4, num_workers=6)
    [0, 2, 3, 4, 6]
    """
    _checks.positive(elasticity=elasticity)
    _checks.whole(num_workers=num_workers)
    split = [
        upper
        for upper in range(1, num_workers)
        if elasticity < critical_elasticity(num_workers, upper)
    ]
    return [0, *split, num_workers]


def _elasticity_at(ratio: float, share: float) -> float:
    """The elasticity for which the lower well's workers sit at -ratio * u.

    Here u > 0 is where the share < 1/2 in the upper well sits. From the three
    roots u, -ratio u and (ratio - 1) u of x^3 - (1 - rho) x - rho z.
    """
    lean = ratio * (ratio - 1)
    rest = ((1 - share) * ratio - share) * (ratio**2 - ratio + 1)
    return lean / (lean + rest)


def _smallest(rho: float, few: int, p: int, ratio: float) -> float:
    """The Hessian's smallest eigenvalue at the split with this ratio.

    Its eigenvector is the same for all workers of a well, so that the
    Hessian on (upper workers, lower workers, center) has it.
    """
    u = math.sqrt((1 - rho) / (ratio**2 - ratio + 1))
    reduced = hessian([u, -ratio * u], rho)
    reduced[:2, 2] *= np.sqrt([few, p - few])
    reduced[2, :2] = reduced[:2, 2]
    reduced[2, 2] = p * rho
    return float(np.linalg.eigvalsh(reduced)[0])


def _counts(p: int) -> list[tuple[int, int, int]]:
    """How p workers share three roots, the most first, none with all."""
    return [
        (p - second - third, second, third)
        for third, second in itertools.product(range(p), repeat=2)
        if p - second - third >= second >= third and second
    ]


def _with_counts(
    rho: float, counts: tuple[int, int, int]
) -> list[NDArray[np.float64]]:
    """The critical points with so many workers at each of three roots.

    With C the mean of exp(2 pi i n / 3) over the workers and w = exp(i phi),
    rho z = 2 a^3 cos(3 phi) and z = 2 a Re(C w) give
    a^2 (w^6 + 1) = rho (C w^4 + conj(C) w^2).
    """
    turns = np.exp(2j * np.pi / 3 * np.arange(3))
    mean = np.dot(counts, turns) / sum(counts)
    squared = (1 - rho) / 3
    roots = np.roots([squared, -rho * mean, -rho * np.conj(mean), squared])
    on_circle = roots[np.abs(np.abs(roots) - 1) < _ON_THE_CIRCLE]
    points = []
    for angle in np.angle(on_circle) / 2:
        places = 2 * math.sqrt(squared) * np.real(np.exp(1j * angle) * turns)
        workers = np.sort(np.repeat(places, counts))[::-1]
        points += [workers, -workers[::-1]]
    return points


def _describe(workers: NDArray[np.float64], rho: float) -> CriticalPoint:
    same = np.diff(workers, prepend=np.inf) < -1e-7
    sizes = np.bincount(np.cumsum(same) - 1)
    copies = math.factorial(len(workers)) // math.prod(
        math.factorial(int(size)) for size in sizes
    )
    eigenvalues = np.asarray(
        np.linalg.eigvalsh(hessian(workers, rho)), np.float64
    )
    return CriticalPoint(workers, float(workers.mean()), eigenvalues, copies)
