r"""ADMM and EASGD when the workers come to the center one after another.

At time t worker t mod p is served, and nothing else moves. On the quadratic
:math:`F(x) = h x^2 / 2` without noise each visit is a linear map, and what
matters is the map of a whole round, of all p visits. That of EASGD has a
simple region of stability; that of ADMM can be unstable although each of
its visits is stable.

Reference:
    Zhang (2016), section 3.3.
"""

import numpy as np
from numpy.typing import ArrayLike
from numpy.typing import NDArray

from tf_elastic import core
from tf_elastic.theory import _checks

Array = NDArray[np.float64]


def admm_map(
    *,
    learning_rate: ArrayLike,
    elasticity: ArrayLike,
    num_workers: int,
    curvature: ArrayLike = 1.0,
) -> Array:
    r"""The map of a round of ADMM.

    A visit of worker i is

    .. math::
        \lambda^i &\leftarrow \lambda^i - (x^i - \tilde x) \\
        x^i &\leftarrow \frac{x^i - \eta \nabla F(x^i)
            + \eta \rho (\lambda^i + \tilde x)}{1 + \eta \rho} \\
        \tilde x &\leftarrow \frac1p \sum_j (x^j - \lambda^j)

    No closed form of its stability is known. It is unstable where
    `spectral_radius` of the map is above 1.

    Args:
        learning_rate: :math:`\eta`, at least 0, shape (...).
        elasticity: :math:`\rho`, at least 0, shape (...).
        num_workers: p, at least 1.
        curvature: h, above 0, shape (...); 1 in the thesis.

    Returns:
        The map of :math:`(\lambda^1, x^1, \dots, \lambda^p, x^p, \tilde x)`,
        shape (..., 2 p + 1, 2 p + 1).

    Raises:
        ValueError: an argument is out of range.

    Example:

    >>> from tf_elastic import theory
    >>> admm = admm_map(learning_rate=0.001, elasticity=2.5, num_workers=3)
    >>> print(f"{theory.spectral_radius(admm):.5f}")
    1.00097

    Reference:
        Zhang (2016), eqs. 3.52 to 3.54 and Figure 3.2.
    """
    p = _checks.whole_number("num_workers", num_workers)
    return _admm_visits(
        range(p), p, *_admm_setting(learning_rate, elasticity, curvature)
    )


def admm_path(
    *,
    learning_rate: float,
    elasticity: float,
    num_workers: int,
    steps: int,
    start: ArrayLike = 1000.0,
    curvature: float = 1.0,
) -> Array:
    r"""The states of ADMM from visit to visit.

    Args:
        learning_rate: :math:`\eta`, at least 0.
        elasticity: :math:`\rho`, at least 0.
        num_workers: p, at least 1.
        steps: how many visits, at least 0.
        start: a number, where all :math:`x^i` and the center begin, with
            multipliers of 0; or the whole state, shape (2 p + 1,).
        curvature: h, above 0; 1 in the thesis.

    Returns:
        The states :math:`(\lambda^1, x^1, \dots, \lambda^p, x^p, \tilde x)`
        from the start on, shape (steps + 1, 2 p + 1): the center is its last
        column.

    Raises:
        ValueError: an argument is out of range.

    Example:

    >>> path = admm_path(
    ...     learning_rate=0.001, elasticity=2.5, num_workers=3, steps=60000
    ... )
    >>> center = path[:, -1]
    >>> print(center[0], f"{abs(center[-1000:]).max():.2g}")
    1000.0 1.2e+07

    Reference:
        Zhang (2016), Figure 3.3.
    """
    p = _checks.whole_number("num_workers", num_workers)
    steps = _checks.whole_number("steps", steps, 0)
    setting = _admm_setting(learning_rate, elasticity, curvature)
    visits = [_admm_visits([worker], p, *setting) for worker in range(p)]
    states = np.empty((steps + 1, 2 * p + 1))
    states[0] = start
    if np.ndim(start) == 0:
        states[0, 0:-1:2] = 0.0
    for t in range(steps):
        states[t + 1] = visits[t % p] @ states[t]
    return states


def easgd_map(
    *,
    learning_rate: ArrayLike,
    moving_rate: ArrayLike,
    num_workers: int,
    curvature: ArrayLike = 1.0,
) -> Array:
    r"""The map of a round of EASGD.

    A visit of worker i is

    .. math::
        x^i &\leftarrow x^i - \eta h x^i - \alpha (x^i - \tilde x) \\
        \tilde x &\leftarrow \tilde x + \alpha (x^i - \tilde x)

    both from the values before it.

    Args:
        learning_rate: :math:`\eta`, at least 0, shape (...).
        moving_rate: :math:`\alpha`, at least 0, shape (...).
        num_workers: p, at least 1.
        curvature: h, above 0, shape (...); 1 in the thesis.

    Returns:
        The map of :math:`(x^1, \dots, x^p, \tilde x)`, shape
        (..., p + 1, p + 1).

    Raises:
        ValueError: an argument is out of range.

    Example:

    >>> easgd_map(learning_rate=0.5, moving_rate=0.25, num_workers=1)
    array([[0.25, 0.25],
           [0.25, 0.75]])

    Reference:
        Zhang (2016), eqs. 3.55 and 3.56.
    """
    p = _checks.whole_number("num_workers", num_workers)
    eta = _checks.at_least("learning_rate", learning_rate, 0)
    alpha = _checks.at_least("moving_rate", moving_rate, 0)
    h = _checks.above("curvature", curvature, 0)
    eta, alpha, h = (
        rate[..., None] for rate in np.broadcast_arrays(eta, alpha, h)
    )
    rows = list(_identity_rows(p + 1, eta.shape[:-1]))
    for worker in range(p):
        x, center = rows[worker], rows[-1]
        difference = core.elastic_difference(x, center)
        pulled = core.pull(x, difference, alpha)
        rows[worker] = core.sgd_step(pulled, h * x, eta)
        rows[-1] = core.push(center, difference, p * alpha, p)
    return np.stack(rows, axis=-2)


def easgd_moving_rate_bound(
    *, learning_rate: ArrayLike, curvature: ArrayLike = 1.0
) -> Array:
    r"""The moving rate below which every visit of EASGD shrinks the state.

    .. math:: \frac{4 - 2 \eta h}{4 - \eta h}, \quad 0 \le \eta h \le 2

    Args:
        learning_rate: :math:`\eta`, at least 0.
        curvature: h, above 0.

    Returns:
        The bound, 0 where no moving rate is stable (:math:`\eta h \ge 2`);
        the arguments broadcast.

    Raises:
        ValueError: an argument is out of range.

    Example:

    >>> print(easgd_moving_rate_bound(learning_rate=1.0).round(4))
    0.6667

    Reference:
        Zhang (2016), the last equation of section 3.3.
    """
    step = _checks.at_least("learning_rate", learning_rate, 0)
    step = step * _checks.above("curvature", curvature, 0)
    step = np.minimum(step, 2.0)
    return (4 - 2 * step) / (4 - step)


def easgd_is_stable(
    *,
    learning_rate: ArrayLike,
    moving_rate: ArrayLike,
    curvature: ArrayLike = 1.0,
) -> NDArray[np.bool_]:
    r"""Whether EASGD converges, in whatever order the workers come.

    :math:`0 < \eta h < 2` and :math:`0 < \alpha < (4 - 2 \eta h) /
    (4 - \eta h)`: each visit is a symmetric map that lengthens no state, and
    so are all visits together, any number of workers, in any order in which
    each comes again and again.

    For an odd number of workers in round robin it is also necessary. For an
    even number a few more moving rates are stable (two workers, eta h = 1:
    up to :math:`1 / \sqrt 2` rather than 2/3), for which see `spectral_radius`
    of `easgd_map`.

    Args:
        learning_rate: :math:`\eta`, at least 0.
        moving_rate: :math:`\alpha`, at least 0.
        curvature: h, above 0.

    Returns:
        Booleans; all arguments broadcast.

    Raises:
        ValueError: an argument is out of range.

    Example:

    >>> easgd_is_stable(learning_rate=1.0, moving_rate=[0.6, 0.7])
    array([ True, False])

    Reference:
        Zhang (2016), the last equation of section 3.3, there with the edges,
        on which some states neither grow nor shrink.
    """
    alpha = _checks.at_least("moving_rate", moving_rate, 0)
    bound = easgd_moving_rate_bound(
        learning_rate=learning_rate, curvature=curvature
    )
    moves = np.asarray(learning_rate, dtype=np.float64) > 0
    return moves & (0 < alpha) & (alpha < bound)


def _admm_setting(
    learning_rate: ArrayLike, elasticity: ArrayLike, curvature: ArrayLike
) -> tuple[Array, Array, Array]:
    """The setting, checked and of one shape."""
    eta, rho, h = np.broadcast_arrays(
        _checks.at_least("learning_rate", learning_rate, 0),
        _checks.at_least("elasticity", elasticity, 0),
        _checks.above("curvature", curvature, 0),
    )
    return eta, rho, h


def _admm_visits(
    workers: range | list[int], p: int, eta: Array, rho: Array, h: Array
) -> Array:
    """The map of the visits of some workers, one after another."""
    rows = _identity_rows(2 * p + 1, eta.shape)
    duals, points, center = rows[0:-1:2], rows[1:-1:2], rows[-1]
    eta, pull = eta[..., None], (eta * rho)[..., None]
    for worker in workers:
        x = points[worker]
        duals[worker] -= core.elastic_difference(x, center)
        descended = core.sgd_step(x, h[..., None] * x, eta)
        points[worker] = (descended + pull * (duals[worker] + center)) / (
            1 + pull
        )
        center[...] = (points - duals).mean(axis=0)
    return np.moveaxis(rows, 0, -2)


def _identity_rows(n: int, shape: tuple[int, ...]) -> Array:
    """The n unit states, each for all settings: shape (n, *shape, n)."""
    rows = np.zeros((n, *shape, n))
    rows[np.arange(n), ..., np.arange(n)] = 1.0
    return rows
