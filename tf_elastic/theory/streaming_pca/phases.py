r"""How long streaming PCA takes: to leave a saddle, to travel, to settle.

The three phases of Async-MSGD that starts at the saddle :math:`v^2`, in the
limits of a small learning rate. Time is :math:`t = \eta k`. The paper's
propositions misprint T2 and T3; see docs/errata.md.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from numpy.typing import NDArray
from scipy import special

from tf_elastic.theory import _checks
from tf_elastic.theory.streaming_pca import problem


class Phases(NamedTuple):
    """A number for each phase."""

    escape: NDArray[np.float64]  # I, from the saddle
    traverse: NDArray[np.float64]  # II, from the saddle to the optimum
    settle: NDArray[np.float64]  # III, at the optimum


def escape_time(
    *,
    learning_rate: ArrayLike,
    momentum: ArrayLike,
    covariance: ArrayLike,
    radius: ArrayLike,
    failure_rate: ArrayLike = 0.25,
    inputs: str = "gaussian",
) -> NDArray[np.float64]:
    r"""T1: after this time most runs have left the saddle :math:`v^2`.

    .. math::
        T_1 = \frac{1 - \mu}{2 (\lambda_1 - \lambda_2)} \log\left(\frac{
            2 \eta^{-1} \delta^2 (1 - \mu)(\lambda_1 - \lambda_2)}{
            \Phi^{-1}(\frac{1 + \nu}{2})^2 \alpha_{12}^2} + 1\right)

    Args:
        learning_rate: :math:`\eta`, positive.
        momentum: :math:`\mu` in [0, 1).
        covariance: :math:`\Sigma`, shape (d, d); see `eigenbasis`.
        radius: :math:`\delta` in (0, 1), of the order of
            :math:`\sqrt\eta`: a run has left once :math:`|H^{(1)}| \ge
            \delta`.
        failure_rate: :math:`\nu` in (0, 1): the share of runs that have not
            left by then.
        inputs: "gaussian" or "sphere"; see `fourth_moments`.

    Returns:
        T1, what the arguments broadcast to.

    Raises:
        ValueError: an argument is out of its range.

    Example:

    >>> import numpy as np
    >>> time = escape_time(
    ...     learning_rate=5e-4, momentum=0.7, radius=0.1,
    ...     covariance=np.diag([4.0, 3.0, 2.0, 1.0]),
    ... )
    >>> print(f"{time:.3f}")
    0.358

    Reference:
        Liu et al. (2018), Proposition 3.10 and A.9.
    """
    eta, mu = _rates(learning_rate, momentum)
    delta = _share("radius", radius)
    nu = _share("failure_rate", failure_rate)
    gap = _gap(covariance)
    noise = problem.fourth_moments(covariance, inputs)[0, 1]
    quantile = special.ndtri((1 + nu) / 2)
    grown = 2 * delta**2 * (1 - mu) * gap / (eta * quantile**2 * noise)
    time: NDArray[np.float64] = (1 - mu) / (2 * gap) * np.log1p(grown)
    return time


def traverse_time(
    *, momentum: ArrayLike, covariance: ArrayLike, radius: ArrayLike
) -> NDArray[np.float64]:
    r"""T2: the ODE's time from the saddle's edge to that of the optimum.

    .. math::
        T_2 = \frac{1 - \mu}{\lambda_1 - \lambda_2}
            \log \frac{1 - \delta^2}{\delta^2}

    From :math:`(H^{(1)})^2 = \delta^2` it is at least :math:`1 - \delta^2`
    after this time. The paper prints half of it, after which
    :math:`(H^{(1)})^2` is 1/2.

    Args:
        momentum: :math:`\mu` in [0, 1).
        covariance: :math:`\Sigma`, shape (d, d); see `eigenbasis`.
        radius: :math:`\delta` in (0, 1), small.

    Returns:
        T2, what the arguments broadcast to; 0 where :math:`\delta^2 \ge 1/2`.

    Raises:
        ValueError: an argument is out of its range.

    Example:

    >>> import numpy as np
    >>> time = traverse_time(
    ...     momentum=0.7, radius=0.1, covariance=np.diag([4.0, 3.0, 2.0, 1.0])
    ... )
    >>> print(f"{time:.3f}")
    1.379

    Reference:
        Liu et al. (2018), Proposition 3.8 and A.7, corrected.
    """
    mu = problem.checked_momentum(momentum)
    square = _share("radius", radius) ** 2
    efolds = np.log(np.maximum((1 - square) / square, 1))
    time: NDArray[np.float64] = (1 - mu) / _gap(covariance) * efolds
    return time


def settle_time(
    *,
    learning_rate: ArrayLike,
    momentum: ArrayLike,
    covariance: ArrayLike,
    radius: ArrayLike,
    tolerance: ArrayLike,
    inputs: str = "gaussian",
) -> NDArray[np.float64]:
    r"""T3: after this time the error is small in three runs of four.

    .. math::
        T_3 = \frac{1 - \mu}{2 (\lambda_1 - \lambda_2)} \log\left(\frac{
            4 (1 - \mu)(\lambda_1 - \lambda_2) \delta^2}{
            (1 - \mu)(\lambda_1 - \lambda_2) \epsilon - 2 \eta \phi}\right)

    with :math:`\phi = \sum_{i > 1} \alpha_{1i}^2`. By Markov's inequality, so
    that in truth it takes less.

    Args:
        learning_rate: :math:`\eta`, positive. It must be below
            :math:`(1 - \mu)(\lambda_1 - \lambda_2) \epsilon / (2 \phi)`: with a
            larger one the noise alone may be above the tolerance.
        momentum: :math:`\mu` in [0, 1).
        covariance: :math:`\Sigma`, shape (d, d); see `eigenbasis`.
        radius: :math:`\delta` in (0, 1): the phase begins with
            :math:`(H^{(1)})^2 \ge 1 - \delta^2`.
        tolerance: :math:`\epsilon`, positive: the phase ends with
            :math:`\sum_{i > 1} (H^{(i)})^2 \le \epsilon` in 3 runs of 4.
        inputs: "gaussian" or "sphere"; see `fourth_moments`.

    Returns:
        T3, what the arguments broadcast to; 0 where the tolerance is met from
        the beginning, infinity where the learning rate is too large.

    Raises:
        ValueError: an argument is out of its range.

    Example:

    >>> import numpy as np
    >>> time = settle_time(
    ...     learning_rate=5e-5, momentum=0.7, radius=0.1, tolerance=0.02,
    ...     covariance=np.diag([4.0, 3.0, 2.0, 1.0]),
    ... )
    >>> print(f"{time:.3f}")
    0.181

    Reference:
        Liu et al. (2018), Proposition 3.6 and A.6, corrected.
    """
    eta, mu = _rates(learning_rate, momentum)
    square = _share("radius", radius) ** 2
    epsilon = _checks.above("tolerance", tolerance, 0)
    gap = _gap(covariance)
    phi = problem.fourth_moments(covariance, inputs)[0, 1:].sum()
    rate = (1 - mu) * gap
    room = rate * epsilon - 2 * eta * phi
    with np.errstate(divide="ignore"):
        ratio = 4 * rate * square / np.maximum(room, 0)
    efolds = np.log(np.maximum(ratio, 1))
    time: NDArray[np.float64] = (1 - mu) / (2 * gap) * efolds
    return time


def phase_times(
    *,
    learning_rate: ArrayLike,
    momentum: ArrayLike,
    covariance: ArrayLike,
    radius: ArrayLike,
    tolerance: ArrayLike,
    failure_rate: ArrayLike = 0.25,
    inputs: str = "gaussian",
) -> Phases:
    """T1, T2 and T3; the arguments are those of the three functions.

    Args:
        learning_rate: see `escape_time`.
        momentum: see `escape_time`.
        covariance: see `escape_time`.
        radius: see `escape_time` and `settle_time`.
        tolerance: see `settle_time`.
        failure_rate: see `escape_time`.
        inputs: see `escape_time`.

    Returns:
        `Phases` of times.

    Raises:
        ValueError: an argument is out of its range.
    """
    return Phases(
        escape_time(
            learning_rate=learning_rate,
            momentum=momentum,
            covariance=covariance,
            radius=radius,
            failure_rate=failure_rate,
            inputs=inputs,
        ),
        traverse_time(momentum=momentum, covariance=covariance, radius=radius),
        settle_time(
            learning_rate=learning_rate,
            momentum=momentum,
            covariance=covariance,
            radius=radius,
            tolerance=tolerance,
            inputs=inputs,
        ),
    )


def effective_iterations(
    times: Phases, *, learning_rate: ArrayLike, delay: ArrayLike = 1
) -> Phases:
    r"""N1, N2 and N3: the iterations of each worker.

    .. math:: N_i = \frac{T_i}{\tau \eta}

    As many workers as the delay work at once, so that each takes a share of
    the iterations, if the delay is one that does not slow down the phases.

    Args:
        times: T1, T2 and T3, from `phase_times`.
        learning_rate: :math:`\eta`, positive.
        delay: :math:`\tau`, the number of workers, at least 1. In the paper
            it is as large as `admissible_delay` in phases I and III and
            `traversing_delay` in phase II.

    Returns:
        `Phases` of numbers of iterations.

    Raises:
        ValueError: an argument is out of its range.

    Example:

    >>> import numpy as np
    >>> print(effective_iterations(
    ...     Phases(np.array(0.5), np.array(2.0), np.array(1.0)),
    ...     learning_rate=0.001, delay=10,
    ... ).traverse)
    200.0

    Reference:
        Liu et al. (2018), below Propositions 3.6, 3.8 and 3.10.
    """
    eta = _checks.above("learning_rate", learning_rate, 0)
    workers = _checks.at_least("delay", delay, 1)
    return Phases(*(time / (workers * eta) for time in times))


def _rates(
    learning_rate: ArrayLike, momentum: ArrayLike
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    return (
        _checks.above("learning_rate", learning_rate, 0),
        problem.checked_momentum(momentum),
    )


def _share(name: str, value: ArrayLike) -> NDArray[np.float64]:
    array = np.asarray(value, np.float64)
    _checks.require((array > 0) & (array < 1), "in (0, 1)", **{name: value})
    return array


def _gap(covariance: ArrayLike) -> float:
    """lambda_1 - lambda_2."""
    values = problem.eigenbasis(covariance).values
    return float(values[0] - values[1])
