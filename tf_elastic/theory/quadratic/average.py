r"""The average over time of EASGD's center, on a quadratic.

The *double averaging sequence* is the mean of all centers so far,

.. math:: z_{t+1} = \frac{1}{t + 1} \sum_{k=0}^{t} \tilde x_k

and the center is itself an average over the workers and over time. Whatever
the learning rate and the moving rate (if stable), :math:`z_t` is asymptotically
normal with the smallest covariance that t p gradients allow.

Reference:
    Zhang (2016), section 3.1, Lemmas 3.1.2 and 3.1.3.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from numpy.typing import NDArray

from tf_elastic import core
from tf_elastic.theory import _checks
from tf_elastic.theory.quadratic import spectrum

Array = NDArray[np.float64]


class AverageMoments(NamedTuple):
    """The error of the average of the centers at one time."""

    bias: Array  # E[z] - x*, shape (n,)
    covariance: Array  # shape (n, n)


def double_average(centers: ArrayLike) -> Array:
    r"""The average of all centers so far, at each time.

    Args:
        centers: :math:`\tilde x_0, \tilde x_1, \dots` along the first axis.

    Returns:
        :math:`z_1, z_2, \dots` along the first axis, same shape.

    Example:

    >>> double_average([4.0, 2.0, 0.0])
    array([4., 3., 2.])

    Reference:
        Zhang (2016), eq. 3.13.
    """
    path = np.asarray(centers, dtype=np.float64)
    averages = np.empty_like(path)
    average = np.zeros(path.shape[1:])
    for step, center in enumerate(path):
        rate = core.polyak_rate(float(step))
        average = core.time_average(average, center, rate)
        averages[step] = average
    return averages


def double_average_covariance(
    t: ArrayLike,
    *,
    hessian: ArrayLike,
    noise_covariance: ArrayLike,
    num_workers: ArrayLike,
) -> Array:
    r"""The covariance of the double average after many steps.

    .. math:: \operatorname{Cov}[z_t] \to \frac{A^{-1} \Sigma A^{-T}}{t p}

    It is the Fisher information's lower bound: neither the learning rate nor
    the rates of the exchange are in it, as long as they are stable
    (`is_stable` with the largest eigenvalue of A). How soon it is
    reached does depend on them: see `double_average_moments`.

    Args:
        t: the number of centers averaged, above 0, shape (...).
        hessian: A, shape (n, n), regular.
        noise_covariance: :math:`\Sigma`, shape (n, n); in one dimension
            :math:`\sigma^2`.
        num_workers: p, at least 1, shape (...).

    Returns:
        Shape (..., n, n).

    Raises:
        ValueError: an argument is out of range or not square.

    Example:

    >>> double_average_covariance(
    ...     100,
    ...     hessian=[[2.0, 0.0], [0.0, 1.0]],
    ...     noise_covariance=[[4.0, 0.0], [0.0, 4.0]],
    ...     num_workers=4,
    ... )
    array([[0.0025, 0.    ],
           [0.    , 0.01  ]])

    Reference:
        Zhang (2016), Lemma 3.1.2 (one dimension) and Lemma 3.1.3.
    """
    gradients = _checks.above("t", t, 0) * _checks.at_least(
        "num_workers", num_workers, 1
    )
    inverse = np.linalg.inv(_checks.square("hessian", hessian))
    noise = _checks.square("noise_covariance", noise_covariance)
    covariance: Array = inverse @ noise @ inverse.T
    return covariance / gradients[..., None, None]


def double_average_moments(
    t: int,
    *,
    learning_rate: float,
    hessian: ArrayLike,
    noise_covariance: ArrayLike,
    num_workers: int,
    beta: float,
    moving_rate: float | None = None,
    center_start: ArrayLike = 1.0,
    worker_start: ArrayLike = 1.0,
) -> AverageMoments:
    r"""The double average's exact bias and covariance at time t.

    The state (mean of the workers, center, sum of the centers so far) has a
    linear map T, so that the covariance is
    :math:`\sum_{k < t} T^k Q (T^k)^T` with the noise
    :math:`Q = \operatorname{diag}(\eta^2 \Sigma / p, 0, 0)`; summed by doubling
    k, in about 2 log2(t) steps.

    Args:
        t: how many centers are averaged, at least 1.
        learning_rate: :math:`\eta`, at least 0.
        hessian: A, shape (n, n).
        noise_covariance: :math:`\Sigma`, shape (n, n).
        num_workers: p, at least 1.
        beta: :math:`\beta`, at least 0.
        moving_rate: :math:`\alpha`, at least 0; by default
            :math:`\beta / p`.
        center_start: :math:`\tilde x_0 - x^*`, shape (n,) or ().
        worker_start: :math:`y_0 - x^*`, shape (n,) or ().

    Returns:
        `AverageMoments` of :math:`z_t`.

    Raises:
        ValueError: an argument is out of range or not square.

    Example:

    >>> setting = dict(
    ...     learning_rate=0.1, hessian=[[1.0]], noise_covariance=[[1.0]],
    ...     num_workers=4, beta=0.9,
    ... )
    >>> for t in (10, 1000, 100000):
    ...     bias, covariance = double_average_moments(t, **setting)
    ...     print(f"{bias[0]:.6f} {t * covariance[0, 0]:.6f}")
    0.757317 0.021770
    0.013611 0.245071
    0.000136 0.249951

    Reference:
        Zhang (2016), eqs. 3.13, 3.18 and 3.19.
    """
    t = _checks.whole_number("t", t)
    drift = spectrum.drift_matrix(
        learning_rate=learning_rate,
        hessian=hessian,
        num_workers=num_workers,
        beta=beta,
        moving_rate=moving_rate,
    )
    noise = _checks.square("noise_covariance", noise_covariance)
    n = drift.shape[-1] // 2
    step = np.zeros((3 * n, 3 * n))
    step[: 2 * n, : 2 * n] = drift
    step[2 * n :, n:] = np.hstack([np.eye(n), np.eye(n)])
    source = np.zeros_like(step)
    source[:n, :n] = learning_rate**2 / num_workers * noise
    start = np.concatenate(
        [
            np.broadcast_to(worker_start, (n,)),
            np.broadcast_to(center_start, (n,)),
            np.zeros(n),
        ]
    )
    power, covariance = np.eye(3 * n), np.zeros_like(step)
    for bit in bin(t)[2:]:
        covariance = covariance + power @ covariance @ power.T
        power = power @ power
        if bit == "1":
            covariance = source + step @ covariance @ step.T
            power = power @ step
    return AverageMoments(
        (power @ start)[2 * n :] / t, covariance[2 * n :, 2 * n :] / t**2
    )
