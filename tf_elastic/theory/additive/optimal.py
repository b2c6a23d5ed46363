"""The moving rate at which EASGD converges fastest."""

import numpy as np
from numpy.typing import ArrayLike
from numpy.typing import NDArray

from tf_elastic.theory import _checks
from tf_elastic.theory.additive import easgd


def reduced_optimal_moving_rate(
    *, eta_h: ArrayLike, beta: ArrayLike
) -> NDArray[np.float64]:
    r"""The best :math:`\alpha` of the reduced system.

    .. math:: \alpha = -(\sqrt{\beta} - \sqrt{\eta_h})^2

    It is never positive. It looks at the mean of the workers only: with more
    than one worker the differences among them may grow, so that it is not to
    be used; `optimal_moving_rate` is.

    Args:
        eta_h: :math:`\eta_h`, learning rate times curvature, above 0.
        beta: :math:`\beta`, above 0; times `eta_h` below 4 (from there on no
            moving rate is stable).

    Returns:
        :math:`\alpha`, of the shape that the arguments broadcast to.

    Raises:
        ValueError: an argument is outside of its range.

    Example:

    >>> print(reduced_optimal_moving_rate(eta_h=0.25, beta=1.0))
    -0.25

    Reference:
        Zhang (2016), eq. 5.17.
    """
    eta, beta = _positive_arguments(eta_h, beta)
    return -((np.sqrt(beta) - np.sqrt(eta)) ** 2)


def optimal_moving_rate(
    *, eta_h: ArrayLike, beta: ArrayLike
) -> NDArray[np.float64]:
    r"""The best :math:`\alpha` of the full system, for any p > 1.

    It minimises :math:`\max |z_i|` of `easgd_drift_eigenvalues`.
    :math:`|z_1|` falls and then rises with :math:`\alpha`, and so does
    :math:`\max(|z_2|, |z_3|)`, whose lowest place is eq. 5.17. So the best
    :math:`\alpha` is there, or where the two meet: with
    :math:`u = 1 - \eta_h`,

    .. math::
        z_1 = z_{2,3}:&\quad \alpha = 0 \\
        z_1 = -z_{2,3}:&\quad
            2 \alpha^2 - (4 u + 2 - \beta) \alpha + 2 u (u + 1 - \beta) = 0 \\
        z_1^2 = z_2 z_3:&\quad
            \alpha^2 - (2 u - 1) \alpha + u (u - 1 + \beta) = 0

    The thesis has only the first (for :math:`\beta > \eta_h`) and eq. 5.17
    (for :math:`\beta < \eta_h`); see the errata.

    Args:
        eta_h: :math:`\eta_h`, learning rate times curvature, above 0.
        beta: :math:`\beta`, above 0; times `eta_h` below 4 (from there on no
            moving rate is stable).

    Returns:
        :math:`\alpha`, of the shape that the arguments broadcast to.

    Raises:
        ValueError: an argument is outside of its range.

    Example:

    >>> print(optimal_moving_rate(eta_h=[0.1, 1.0, 1.5], beta=0.9).round(4))
    [ 0.     -0.0026 -0.1633]

    Reference:
        Zhang (2016), section 5.1.3, below eq. 5.19, corrected.
    """
    eta, beta = np.broadcast_arrays(*_positive_arguments(eta_h, beta))
    u = 1 - eta
    candidates = np.stack(
        [
            np.zeros(u.shape),
            reduced_optimal_moving_rate(eta_h=eta, beta=beta),
            *_real_roots(-(2 * u + 1 - beta / 2), u * (u + 1 - beta)),
            *_real_roots(-(2 * u - 1), u * (u - 1 + beta)),
        ]
    )
    # Where roots are complex, 0 stands in their place.
    values = np.abs(
        easgd.easgd_drift_eigenvalues(
            eta_h=eta, moving_rate=candidates, beta=beta
        )
    ).max(axis=-1)
    best = np.argmin(values, axis=0)
    optimal: NDArray[np.float64] = np.take_along_axis(
        candidates, best[None], axis=0
    )[0]
    return optimal


def _real_roots(
    linear: NDArray[np.float64], constant: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Both of a^2 + linear a + constant = 0, or 0 where they are complex."""
    discriminant = linear**2 - 4 * constant
    real = discriminant >= 0
    root = np.sqrt(np.where(real, discriminant, 0.0))
    return (
        np.where(real, (-linear - root) / 2, 0.0),
        np.where(real, (-linear + root) / 2, 0.0),
    )


def _positive_arguments(
    eta_h: ArrayLike, beta: ArrayLike
) -> list[NDArray[np.float64]]:
    """As float64, in the range where some moving rate is stable."""
    _checks.positive(eta_h=eta_h, beta=beta)
    eta, center = _checks.as_finite(eta_h=eta_h, beta=beta)
    _checks.require(eta * center < 4, "below 4 / `eta_h`", beta=beta)
    return [eta, center]
