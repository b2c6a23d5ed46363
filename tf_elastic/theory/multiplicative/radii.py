"""How fast mean squares shrink under multiplicative noise."""

import numpy as np
from numpy.typing import ArrayLike
from numpy.typing import NDArray

from tf_elastic.theory import _checks
from tf_elastic.theory._spectra import spectral_radii
from tf_elastic.theory.multiplicative.moments import eamsgd_moment_matrix
from tf_elastic.theory.multiplicative.moments import easgd_moment_matrix
from tf_elastic.theory.multiplicative.moments import msgd_moment_matrix

Array = NDArray[np.float64]


def msgd_radius(
    *,
    learning_rate: ArrayLike,
    momentum: ArrayLike,
    shape: ArrayLike,
    rate: ArrayLike,
) -> Array:
    r"""By how much a step of MSGD shrinks the mean squares.

    Args:
        learning_rate: :math:`\eta`.
        momentum: :math:`\delta`.
        shape: :math:`\lambda > 0` of the curvature's Gamma distribution, p
            times as much for mini-batches of p.
        rate: :math:`\omega > 0`, likewise.

    Returns:
        The spectral radius of the moment matrix, of the shape that the
        arguments broadcast to: below 1 where the mean squares converge.

    Raises:
        ValueError: an argument is out of its range.

    Example:

    >>> import numpy as np
    >>> radius = msgd_radius(
    ...     learning_rate=0.5, momentum=np.array([-0.3, 0.0, 0.3]),
    ...     shape=1.0, rate=1.0,
    ... )
    >>> print(radius.round(4))
    [0.526  0.5    0.5729]

    Reference:
        Zhang (2016), Figures 5.10 to 5.14.
    """
    return spectral_radii(
        msgd_moment_matrix(
            learning_rate=learning_rate,
            momentum=momentum,
            shape=shape,
            rate=rate,
        )
    )


def elastic_radius(
    *,
    learning_rate: ArrayLike,
    num_workers: ArrayLike,
    shape: ArrayLike,
    rate: ArrayLike,
    beta: ArrayLike = 0.9,
    moving_rate: ArrayLike | None = None,
    momentum: ArrayLike = 0.0,
) -> Array:
    r"""By how much a step of EASGD or EAMSGD shrinks the mean squares.

    Args:
        learning_rate: :math:`\eta`.
        num_workers: p, at least 1.
        shape: :math:`\lambda > 0` of the curvature's Gamma distribution.
        rate: :math:`\omega > 0`.
        beta: :math:`\beta`.
        moving_rate: :math:`\alpha`, by default :math:`\beta / p`.
        momentum: :math:`\delta`; EASGD where all are 0.

    Returns:
        The spectral radius of the moment matrix, of the shape that the
        arguments broadcast to: below 1 where the mean squares converge.

    Raises:
        ValueError: an argument is out of its range.

    Example:

    >>> import numpy as np
    >>> radius = elastic_radius(
    ...     learning_rate=0.3814, num_workers=np.array([1, 6, 36]),
    ...     shape=0.5, rate=0.5,
    ... )
    >>> print(radius.round(4))
    [1.1491 0.5742 0.6442]

    Reference:
        Zhang (2016), Figures 5.15 to 5.19.
    """
    _checks.whole(num_workers=num_workers)
    if moving_rate is None:
        _checks.finite(beta=beta)
        moving_rate = np.asarray(beta) / np.asarray(num_workers)
    if np.any(np.asarray(momentum) != 0):
        matrix = eamsgd_moment_matrix(
            learning_rate=learning_rate,
            moving_rate=moving_rate,
            beta=beta,
            num_workers=num_workers,
            momentum=momentum,
            shape=shape,
            rate=rate,
        )
    else:
        matrix = easgd_moment_matrix(
            learning_rate=learning_rate,
            moving_rate=moving_rate,
            beta=beta,
            num_workers=num_workers,
            shape=shape,
            rate=rate,
        )
    return spectral_radii(matrix)
