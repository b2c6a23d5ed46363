"""EAMSGD under additive noise: its drift and its stability.

All p workers and the center step at once (Jacobi), on a one-dimensional
quadratic. `delta_h` serves Nesterov's momentum and the heavy ball: see
`nesterov_delta_h`.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from numpy.typing import NDArray

from tf_elastic import core
from tf_elastic.theory import _checks
from tf_elastic.theory import _spectra


class Characteristic(NamedTuple):
    """Monic polynomials, their coefficients from the highest power."""

    apart: NDArray[np.float64]  # shape (..., 3): u, of differences of workers
    together: NDArray[np.float64]  # shape (..., 4): -v, of mean and center


def eamsgd_drift_matrix(
    *,
    eta_h: ArrayLike,
    delta_h: ArrayLike,
    moving_rate: ArrayLike,
    beta: ArrayLike,
    num_workers: int,
) -> NDArray[np.float64]:
    r"""The matrix :math:`M_p` of the means of the workers and the center.

    It is EAMSGD's own step, applied to
    :math:`(v^1, x^1, \dots, v^p, x^p, \tilde x)`.

    Args:
        eta_h: :math:`\eta_h`, learning rate times curvature.
        delta_h: :math:`\delta_h`, see `nesterov_delta_h`.
        moving_rate: :math:`\alpha`.
        beta: :math:`\beta`.
        num_workers: p, at least 1.

    Returns:
        :math:`M_p`, shape (..., 2 p + 1, 2 p + 1).

    Raises:
        ValueError: an argument is outside of its range.

    Example:

    >>> eamsgd_drift_matrix(
    ...     eta_h=0.25, delta_h=0.5, moving_rate=0.25, beta=0.5, num_workers=1
    ... )
    array([[ 0.5 , -0.25,  0.  ],
           [ 0.5 ,  0.5 ,  0.25],
           [ 0.  ,  0.5 ,  0.5 ]])

    Reference:
        Zhang (2016), eq. 5.20.
    """
    eta, delta, alpha, beta = (
        array[..., None, None]
        for array in np.broadcast_arrays(
            *_checks.as_finite(
                eta_h=eta_h,
                delta_h=delta_h,
                moving_rate=moving_rate,
                beta=beta,
            )
        )
    )
    p = _checks.whole_number("num_workers", num_workers)
    n = 2 * p + 1
    identity = np.eye(n)
    velocity, workers, center = identity[:-1:2], identity[1::2], identity[-1:]
    difference = core.elastic_difference(workers, center)
    # With h in eta_h the gradient at x is x. What the look-ahead makes of the
    # momentum is in delta_h.
    stepped = core.momentum_step(workers, velocity, workers, eta, delta)
    matrix = np.empty((*eta.shape[:-2], n, n))
    matrix[..., :-1:2, :] = stepped.velocity
    matrix[..., 1::2, :] = core.pull(stepped.parameters, difference, alpha)
    matrix[..., -1:, :] = core.push(center, difference.sum(axis=0), beta, p)
    return matrix


def eamsgd_characteristic(
    *,
    eta_h: ArrayLike,
    delta_h: ArrayLike,
    moving_rate: ArrayLike,
    beta: ArrayLike,
) -> Characteristic:
    r"""The factors of the characteristic polynomial of `eamsgd_drift_matrix`.

    .. math::
        \det(M_p - z) &= u(z)^{p - 1} v(z) \\
        u(z) &= z^2 - (1 - \eta_h - \alpha + \delta_h) z
            + \delta_h (1 - \alpha) \\
        v(z) &= (\delta_h - z)(1 - \eta_h - \alpha - z)(1 - \beta - z)
            + \eta_h \delta_h (1 - \beta - z) - \alpha \beta (\delta_h - z)

    Their roots, and so the radius of the matrix, are the same for any p > 1.

    Args:
        eta_h: :math:`\eta_h`, learning rate times curvature.
        delta_h: :math:`\delta_h`, see `nesterov_delta_h`.
        moving_rate: :math:`\alpha`.
        beta: :math:`\beta`.

    Returns:
        `Characteristic` with u and -v.

    Raises:
        ValueError: an argument is not finite.

    Example:

    >>> apart, together = eamsgd_characteristic(
    ...     eta_h=0.25, delta_h=0.5, moving_rate=0.25, beta=0.5
    ... )
    >>> print(apart, together)
    [ 1.    -1.     0.375] [ 1.    -1.5    0.75  -0.125]

    Reference:
        Zhang (2016), eq. 5.21, where u has another sign; see the errata.
    """
    eta, delta, alpha, beta = _checks.as_finite(
        eta_h=eta_h, delta_h=delta_h, moving_rate=moving_rate, beta=beta
    )
    first = 1 - eta - alpha + delta
    one = np.ones(())
    apart = [[one, -first, delta * (1 - alpha)]]
    together = [
        [
            one,
            -(first + 1 - beta),
            delta * (2 - alpha - beta) + (1 - eta) * (1 - beta) - alpha,
            -delta * (1 - alpha - beta),
        ]
    ]
    return Characteristic(
        _spectra.stack(apart)[..., 0, :], _spectra.stack(together)[..., 0, :]
    )


def eamsgd_is_stable(
    *,
    eta_h: ArrayLike,
    delta_h: ArrayLike,
    moving_rate: ArrayLike,
    beta: ArrayLike,
    num_workers: ArrayLike,
) -> NDArray[np.bool_]:
    r"""Whether the moments of EAMSGD stay bounded.

    Jury's criterion for the polynomials of `eamsgd_characteristic`, written
    :math:`z^2 + u_1 z + u_0` and :math:`z^3 + v_2 z^2 + v_1 z + v_0`:

    .. math::
        &|u_0| < 1, \quad |u_1| < 1 + u_0 \quad \text{(for p > 1)} \\
        &|v_0| < 1, \quad |v_2 + v_0| < 1 + v_1, \quad
            |v_1 - v_0 v_2| < 1 - v_0^2

    Args:
        eta_h: :math:`\eta_h`, learning rate times curvature.
        delta_h: :math:`\delta_h`, see `nesterov_delta_h`.
        moving_rate: :math:`\alpha`.
        beta: :math:`\beta`.
        num_workers: p, at least 1.

    Returns:
        Truth values, of the shape that the arguments broadcast to. They say
        the same as spectral_radius(eamsgd_drift_matrix(...)) < 1.

    Raises:
        ValueError: an argument is outside of its range.

    Example:

    >>> print(eamsgd_is_stable(
    ...     eta_h=0.1,
    ...     delta_h=0.9,
    ...     moving_rate=[0.2, 2.0],
    ...     beta=0.9,
    ...     num_workers=4,
    ... ))
    [ True False]

    Reference:
        Zhang (2016), eq. 5.21; Jury (1964) for the criterion.
    """
    _checks.whole(num_workers=num_workers)
    apart, together = eamsgd_characteristic(
        eta_h=eta_h, delta_h=delta_h, moving_rate=moving_rate, beta=beta
    )
    _, u_1, u_0 = np.moveaxis(apart, -1, 0)
    _, v_2, v_1, v_0 = np.moveaxis(together, -1, 0)
    workers_meet = (np.abs(u_0) < 1) & (np.abs(u_1) < 1 + u_0)
    mean_and_center_settle = (
        (np.abs(v_0) < 1)
        & (np.abs(v_2 + v_0) < 1 + v_1)
        & (np.abs(v_1 - v_0 * v_2) < 1 - v_0**2)
    )
    stable: NDArray[np.bool_] = mean_and_center_settle & (
        workers_meet | (np.asarray(num_workers) == 1)
    )
    return stable
