r"""The second moments that EASGD and EAMSGD tend to under additive noise.

The noise of the workers' mean has variance :math:`\sigma^2 / p`, and reaches
the center; what is left of each worker's own noise does not.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from numpy.typing import NDArray

from tf_elastic.theory import _checks
from tf_elastic.theory.additive import eamsgd
from tf_elastic.theory.additive import easgd
from tf_elastic.theory.additive import moments


class ElasticMoments(NamedTuple):
    """Second moments of workers and center, all of the same shape."""

    worker: NDArray[np.float64]  # E (x^i)^2
    mean: NDArray[np.float64]  # E y^2, y the mean of the workers
    cross: NDArray[np.float64]  # E y center
    center: NDArray[np.float64]  # E center^2


def easgd_asymptotic_moments(
    *,
    learning_rate: ArrayLike,
    moving_rate: ArrayLike,
    beta: ArrayLike,
    num_workers: ArrayLike,
    curvature: ArrayLike = 1.0,
    noise: ArrayLike = 1.0,
) -> ElasticMoments:
    r"""The second moments that EASGD tends to.

    With :math:`D = \eta_h [(2 - \beta)(2 - \eta_h) - 2 \alpha]
    [\alpha + \beta + \eta_h (1 - \beta)]`,

    .. math::
        E y^2 &= \frac{(2 - \beta)(1 - \beta) \eta_h
            + \beta (2 - \alpha - \beta)}{D} \frac{\eta^2 \sigma^2}{p} \\
        E y \tilde x &= \frac{\beta ((2 - \beta)(1 - \eta_h) - \alpha)}{D}
            \frac{\eta^2 \sigma^2}{p} \\
        E \tilde x^2 &= \frac{-\beta (1 - \beta) \eta_h
            + \beta (2 - \alpha - \beta)}{D} \frac{\eta^2 \sigma^2}{p} \\
        E (x^i)^2 &= E y^2 + \Bigl(1 - \frac1p\Bigr)
            \frac{\eta^2 \sigma^2}{1 - (1 - \alpha - \eta_h)^2}

    Args:
        learning_rate: :math:`\eta`.
        moving_rate: :math:`\alpha`.
        beta: :math:`\beta`.
        num_workers: p, at least 1.
        curvature: h.
        noise: :math:`\sigma`, the standard deviation of a gradient's noise.

    Returns:
        `ElasticMoments`; infinite where the system is unstable. Where only
        the differences among workers grow, only `worker` is: in exact
        arithmetic the center does not see them. In floating point it does,
        after some hundred steps (Figure 5.3).

    Raises:
        ValueError: an argument is outside of its range.

    Example:

    >>> moments = easgd_asymptotic_moments(
    ...     learning_rate=0.5, moving_rate=0.25, beta=0.5, num_workers=2
    ... )
    >>> for name, value in moments._asdict().items():
    ...     print(f"{name} {value:.4f}")
    worker 0.2762
    mean 0.1429
    cross 0.0357
    center 0.0714

    Reference:
        Zhang (2016), eqs. 5.13 and 5.14 (the first three).
    """
    learning_rate, curvature, alpha, beta = _checks.as_finite(
        learning_rate=learning_rate,
        curvature=curvature,
        moving_rate=moving_rate,
        beta=beta,
    )
    noise = _checks.at_least("noise", noise, 0)
    eta = learning_rate * curvature
    _checks.whole(num_workers=num_workers)
    p = np.asarray(num_workers)
    together = easgd.easgd_is_stable(
        eta_h=eta, moving_rate=alpha, beta=beta, num_workers=1
    )
    apart = np.abs(1 - alpha - eta) < 1
    variance = (learning_rate * noise) ** 2
    scale = np.where(
        together,
        eta
        * ((2 - beta) * (2 - eta) - 2 * alpha)
        * (alpha + beta + eta * (1 - beta)),
        1.0,
    )
    shared = np.where(together, variance / p / scale, np.inf)
    slack = beta * (2 - alpha - beta)
    factors = (
        (2 - beta) * (1 - beta) * eta + slack,
        beta * ((2 - beta) * (1 - eta) - alpha),
        -beta * (1 - beta) * eta + slack,
    )
    mean, cross, center = (
        np.where(together, factor, 1.0) * shared for factor in factors
    )
    spread = np.where(
        apart,
        variance / np.where(apart, 1 - (1 - alpha - eta) ** 2, 1.0),
        np.inf,
    )
    worker = mean + (1 - 1 / p) * np.where(p > 1, spread, 0.0)
    return ElasticMoments(*np.broadcast_arrays(worker, mean, cross, center))


def eamsgd_asymptotic_moments(
    *,
    learning_rate: ArrayLike,
    delta_h: ArrayLike,
    moving_rate: ArrayLike,
    beta: ArrayLike,
    num_workers: ArrayLike,
    curvature: ArrayLike = 1.0,
    noise: ArrayLike = 1.0,
) -> ElasticMoments:
    r"""The second moments that EAMSGD tends to.

    The thesis leaves them out, as rather complicated. They are solved for
    numerically, in the two small systems that the p workers fall apart into:
    (mean velocity, mean, center) and (velocity, parameters) of what is left
    of one worker.

    Args:
        learning_rate: :math:`\eta`.
        delta_h: :math:`\delta_h`, see `nesterov_delta_h`.
        moving_rate: :math:`\alpha`.
        beta: :math:`\beta`.
        num_workers: p, at least 1.
        curvature: h.
        noise: :math:`\sigma`, the standard deviation of a gradient's noise.

    Returns:
        `ElasticMoments`; infinite where the system is unstable, and `worker`
        alone where only the differences among workers grow.

    Raises:
        ValueError: an argument is outside of its range.

    Example:

    >>> setting = dict(
    ...     learning_rate=0.1, moving_rate=0.225, beta=0.9, num_workers=4
    ... )
    >>> for delta in (0.0, 0.5, 0.9):
    ...     moments = eamsgd_asymptotic_moments(delta_h=delta, **setting)
    ...     print(f"{delta} {moments.center:.4f}")
    0.0 0.0105
    0.5 0.0201
    0.9 0.0874

    Reference:
        Zhang (2016), section 5.1.3: the moments of eqs. 5.20 and 5.21.
    """
    learning_rate, curvature = _checks.as_finite(
        learning_rate=learning_rate, curvature=curvature
    )
    noise = _checks.at_least("noise", noise, 0)
    _checks.whole(num_workers=num_workers)
    p = np.asarray(num_workers)
    together = eamsgd.eamsgd_drift_matrix(
        eta_h=learning_rate * curvature,
        delta_h=delta_h,
        moving_rate=moving_rate,
        beta=beta,
        num_workers=1,
    )
    # The velocity takes a gradient's noise on to the parameters at once.
    variance = (learning_rate * noise) ** 2
    shared = (variance / p)[..., None, None] * np.diag([1.0, 1.0, 0.0])
    shared[..., [0, 1], [1, 0]] = (variance / p)[..., None]
    own = (variance * (1 - 1 / p))[..., None, None] * np.ones((2, 2))
    pair = moments.stationary_covariance(together, shared)
    apart = moments.stationary_covariance(together[..., :2, :2], own)
    mean = pair[..., 1, 1]
    worker = mean + np.where(p > 1, apart[..., 1, 1], 0.0)
    return ElasticMoments(
        *np.broadcast_arrays(worker, mean, pair[..., 1, 2], pair[..., 2, 2])
    )
