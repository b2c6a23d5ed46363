r"""EASGD under additive noise: its drift, its second moments, its stability.

All p workers and the center step at once (Jacobi), on a one-dimensional
quadratic of curvature h with gradient noise of variance :math:`\sigma^2`.

The mean y of the workers and the center form the *reduced* system of eq.
5.10. The *full* system has the differences among workers, too, which the
center does not see: each shrinks by :math:`1 - \alpha - \eta_h` in a step.
"""

import numpy as np
from numpy.typing import ArrayLike
from numpy.typing import NDArray

from tf_elastic import core
from tf_elastic.theory import _checks
from tf_elastic.theory import _spectra


def easgd_drift_matrix(
    *,
    eta_h: ArrayLike,
    moving_rate: ArrayLike,
    beta: ArrayLike,
    num_workers: int,
) -> NDArray[np.float64]:
    r"""The matrix :math:`M_p` of the means of the workers and the center.

    It is EASGD's own step, applied to :math:`(x^1, \dots, x^p, \tilde x)`.

    Args:
        eta_h: :math:`\eta_h`, learning rate times curvature.
        moving_rate: :math:`\alpha`.
        beta: :math:`\beta`.
        num_workers: p, at least 1.

    Returns:
        :math:`M_p`, shape (..., p + 1, p + 1).

    Raises:
        ValueError: an argument is outside of its range.

    Example:

    >>> easgd_drift_matrix(
    ...     eta_h=0.25, moving_rate=0.25, beta=0.5, num_workers=2
    ... )
    array([[0.5 , 0.  , 0.25],
           [0.  , 0.5 , 0.25],
           [0.25, 0.25, 0.5 ]])

    Reference:
        Zhang (2016), eqs. 5.9 and 5.18.
    """
    eta, alpha, beta = (
        array[..., None, None]
        for array in _checks.as_finite(
            eta_h=eta_h, moving_rate=moving_rate, beta=beta
        )
    )
    p = _checks.whole_number("num_workers", num_workers)
    identity = np.eye(p + 1)
    workers, center = identity[:p], identity[p:]
    difference = core.elastic_difference(workers, center)
    # With h in eta_h the gradient at x is x.
    workers = core.sgd_step(workers, workers, eta)
    workers = core.pull(workers, difference, alpha)
    center = core.push(center, difference.sum(axis=0), beta, p)
    batch = np.broadcast_shapes(workers.shape[:-2], center.shape[:-2])
    return np.concatenate(
        [
            np.broadcast_to(workers, (*batch, p, p + 1)),
            np.broadcast_to(center, (*batch, 1, p + 1)),
        ],
        axis=-2,
    )


def easgd_drift_eigenvalues(
    *, eta_h: ArrayLike, moving_rate: ArrayLike, beta: ArrayLike
) -> NDArray[np.complex128]:
    r"""The eigenvalues of `easgd_drift_matrix`, for any p > 1.

    .. math::
        z_1 = 1 - \alpha - \eta_h, \quad z_{2,3} = b \mp \sqrt{b^2 - c},

    with :math:`2b = 2 - \alpha - \beta - \eta_h` and
    :math:`c = (1 - \eta_h)(1 - \beta) - \alpha`. The first belongs to the
    differences among workers and has multiplicity p - 1; with one worker only
    the other two are there.

    Args:
        eta_h: :math:`\eta_h`, learning rate times curvature.
        moving_rate: :math:`\alpha`.
        beta: :math:`\beta`.

    Returns:
        :math:`z_1, z_2, z_3`, shape (..., 3), complex.

    Raises:
        ValueError: an argument is not finite.

    Example:

    >>> easgd_drift_eigenvalues(eta_h=0.5, moving_rate=0.0, beta=0.75).real
    array([0.5 , 0.25, 0.5 ])

    Reference:
        Zhang (2016), eq. 5.19.
    """
    eta, alpha, beta = _checks.as_finite(
        eta_h=eta_h, moving_rate=moving_rate, beta=beta
    )
    eta, alpha, beta = np.broadcast_arrays(eta, alpha, beta)
    b = (2 - alpha - beta - eta) / 2
    c = (1 - eta) * (1 - beta) - alpha
    root = np.sqrt((b**2 - c).astype(np.complex128))
    return np.stack([1 - alpha - eta + 0j, b - root, b + root], axis=-1)


def easgd_moment_matrix(
    *, eta_h: ArrayLike, moving_rate: ArrayLike, beta: ArrayLike
) -> NDArray[np.float64]:
    r"""The matrix M of the second moments of the reduced system.

    .. math::
        (E y^2, E y \tilde x, E \tilde x^2)_{t+1}^T =
            M (E y^2, E y \tilde x, E \tilde x^2)_t^T
            + (\eta^2 \sigma^2 / p, 0, 0)^T

    Its radius is below 1 also where the workers drift apart; see
    `easgd_full_moment_matrix`.

    Args:
        eta_h: :math:`\eta_h`, learning rate times curvature.
        moving_rate: :math:`\alpha`.
        beta: :math:`\beta`.

    Returns:
        M, shape (..., 3, 3).

    Raises:
        ValueError: an argument is not finite.

    Example:

    >>> easgd_moment_matrix(eta_h=0.25, moving_rate=0.25, beta=0.5)
    array([[0.25  , 0.25  , 0.0625],
           [0.25  , 0.375 , 0.125 ],
           [0.25  , 0.5   , 0.25  ]])

    Reference:
        Zhang (2016), eq. 5.12.
    """
    eta, alpha, beta = _checks.as_finite(
        eta_h=eta_h, moving_rate=moving_rate, beta=beta
    )
    stay = 1 - eta - alpha
    return _spectra.stack(
        [
            [stay**2, 2 * alpha * stay, alpha**2],
            [
                stay * beta,
                stay * (1 - beta) + alpha * beta,
                alpha * (1 - beta),
            ],
            [beta**2, 2 * beta * (1 - beta), (1 - beta) ** 2],
        ]
    )


def easgd_moment_eigenvalues(
    *, eta_h: ArrayLike, moving_rate: ArrayLike, beta: ArrayLike
) -> NDArray[np.complex128]:
    r"""The eigenvalues of `easgd_moment_matrix`.

    .. math::
        z_1 = (1 - \eta_h)(1 - \beta) - \alpha, \quad
        z_{2,3} = b \mp \sqrt{b^2 - z_1^2}, \quad
        2b = (\alpha - (1 - \eta_h - \beta))^2 + 1 - 2 \beta \eta_h

    Args:
        eta_h: :math:`\eta_h`, learning rate times curvature.
        moving_rate: :math:`\alpha`.
        beta: :math:`\beta`.

    Returns:
        :math:`z_1, z_2, z_3`, shape (..., 3), complex.

    Raises:
        ValueError: an argument is not finite.

    Example:

    >>> easgd_moment_eigenvalues(eta_h=0.5, moving_rate=0.0, beta=0.5).real
    array([0.25, 0.25, 0.25])

    Reference:
        Zhang (2016), eq. 5.16.
    """
    eta, alpha, beta = _checks.as_finite(
        eta_h=eta_h, moving_rate=moving_rate, beta=beta
    )
    eta, alpha, beta = np.broadcast_arrays(eta, alpha, beta)
    first = (1 - eta) * (1 - beta) - alpha
    b = ((alpha - (1 - eta - beta)) ** 2 + 1 - 2 * beta * eta) / 2
    root = np.sqrt((b**2 - first**2).astype(np.complex128))
    return np.stack([first + 0j, b - root, b + root], axis=-1)


def easgd_full_moment_matrix(
    *,
    eta_h: ArrayLike,
    moving_rate: ArrayLike,
    beta: ArrayLike,
    num_workers: ArrayLike,
) -> NDArray[np.float64]:
    r"""The matrix of the second moments of the full system.

    It acts on :math:`(E (x^i)^2, E x^i x^j, E x^i \tilde x, E \tilde x^2)`
    for workers i and j that differ; the noise adds :math:`\eta^2 \sigma^2` to
    the first. Its eigenvalues are those of `easgd_moment_matrix`, and
    :math:`(1 - \alpha - \eta_h)^2` of the differences among workers.

    Args:
        eta_h: :math:`\eta_h`, learning rate times curvature.
        moving_rate: :math:`\alpha`.
        beta: :math:`\beta`.
        num_workers: p, at least 2 (one worker has no differences: its system
            is the reduced one).

    Returns:
        Shape (..., 4, 4).

    Raises:
        ValueError: an argument is outside of its range.

    Example:

    >>> easgd_full_moment_matrix(
    ...     eta_h=0.25, moving_rate=0.25, beta=0.5, num_workers=2
    ... )
    array([[0.25  , 0.    , 0.25  , 0.0625],
           [0.    , 0.25  , 0.25  , 0.0625],
           [0.125 , 0.125 , 0.375 , 0.125 ],
           [0.125 , 0.125 , 0.5   , 0.25  ]])

    Reference:
        Zhang (2016), eq. 5.9. The thesis gives the moments of its reduction
        only (eq. 5.12); these are the same four as in eq. 5.32.
    """
    eta, alpha, beta = _checks.as_finite(
        eta_h=eta_h, moving_rate=moving_rate, beta=beta
    )
    _checks.whole(2, num_workers=num_workers)
    stay = 1 - eta - alpha
    own = 1 / np.asarray(num_workers)
    return _spectra.stack(
        [
            [stay**2, 0, 2 * stay * alpha, alpha**2],
            [0, stay**2, 2 * stay * alpha, alpha**2],
            [
                stay * beta * own,
                stay * beta * (1 - own),
                stay * (1 - beta) + alpha * beta,
                alpha * (1 - beta),
            ],
            [
                beta**2 * own,
                beta**2 * (1 - own),
                2 * beta * (1 - beta),
                (1 - beta) ** 2,
            ],
        ]
    )


def easgd_is_stable(
    *,
    eta_h: ArrayLike,
    moving_rate: ArrayLike,
    beta: ArrayLike,
    num_workers: ArrayLike,
) -> NDArray[np.bool_]:
    r"""Whether the moments of EASGD stay bounded.

    .. math::
        \beta \eta_h > 0, \quad (2 - \beta)(2 - \eta_h) > 2 \alpha, \quad
        \alpha + \beta + \eta_h > \beta \eta_h,

    and with more than one worker :math:`|1 - \alpha - \eta_h| < 1`. The first
    line, which is eq. 5.15 for :math:`\eta_h > 0`, is Jury's criterion for the
    reduced system, so it is necessary and sufficient.

    Args:
        eta_h: :math:`\eta_h`, learning rate times curvature.
        moving_rate: :math:`\alpha`.
        beta: :math:`\beta`.
        num_workers: p, at least 1; with 1, this is about the reduced system.

    Returns:
        Truth values, of the shape that the arguments broadcast to. They say
        the same as spectral_radius(easgd_drift_matrix(...)) < 1.

    Raises:
        ValueError: an argument is outside of its range.

    Example:

    >>> print(easgd_is_stable(
    ...     eta_h=0.1, moving_rate=-0.4, beta=0.9, num_workers=[1, 4]
    ... ))
    [ True False]

    Reference:
        Zhang (2016), eqs. 5.15 and 5.19.
    """
    eta, alpha, beta = _checks.as_finite(
        eta_h=eta_h, moving_rate=moving_rate, beta=beta
    )
    _checks.whole(num_workers=num_workers)
    together = (
        (beta * eta > 0)
        & ((2 - beta) * (2 - eta) > 2 * alpha)
        & (alpha + beta + eta > beta * eta)
    )
    apart = np.abs(1 - alpha - eta) < 1
    stable: NDArray[np.bool_] = together & (
        apart | (np.asarray(num_workers) == 1)
    )
    return stable
