"""Which delays streaming PCA bears, by the paper's bounds and by its figure."""

import numpy as np
from numpy.typing import ArrayLike
from numpy.typing import NDArray

from tf_elastic.theory import _checks
from tf_elastic.theory.streaming_pca import problem


def admissible_delay(
    *,
    learning_rate: ArrayLike,
    momentum: ArrayLike,
    covariance: ArrayLike,
    input_bound: ArrayLike,
    gamma: ArrayLike = 0.5,
) -> NDArray[np.float64]:
    r"""The order of delays that harm in no phase as the learning rate shrinks.

    .. math::
        \tau \asymp \frac{(1 - \mu)^2}{(\lambda_1 + C_d)\,
            \eta^{1/2 - \gamma}}

    An order, not a number: it says how the bearable delay goes with
    :math:`\mu` and :math:`\eta`, up to a constant. In the setting of the
    paper's figure it is below 1, where a delay of 120 does no harm; the number
    to compare a delay with is `critical_delay`. For random delays it bounds
    their mean.

    Args:
        learning_rate: :math:`\eta`, positive.
        momentum: :math:`\mu` in [0, 1).
        covariance: :math:`\Sigma`, shape (d, d); see `eigenbasis`.
        input_bound: :math:`C_d`, positive: a bound of :math:`\|X\|^2` (the
            paper says of :math:`\|X\|`, but adds it to an eigenvalue).
        gamma: :math:`\gamma` in (0, 1/2].

    Returns:
        The delay, what the arguments broadcast to.

    Raises:
        ValueError: an argument is out of its range.

    Example:

    >>> import numpy as np
    >>> delay = admissible_delay(
    ...     learning_rate=1e-4, momentum=[0.0, 0.5], input_bound=4.0,
    ...     covariance=np.eye(2) + 0.5, gamma=0.25,
    ... )
    >>> print(delay.round(3))
    [1.667 0.417]

    Reference:
        Liu et al. (2018), Lemma 3.4, Theorems 3.5 and 3.9; section 4.
    """
    eta, mu, largest = _setting(learning_rate, momentum, covariance)
    bound = _checks.above("input_bound", input_bound, 0)
    power = np.asarray(gamma, np.float64)
    _checks.require((power > 0) & (power <= 0.5), "in (0, 0.5]", gamma=gamma)
    delay: NDArray[np.float64] = (1 - mu) ** 2 / (
        (largest + bound) * eta ** (0.5 - power)
    )
    return delay


def traversing_delay(
    *,
    learning_rate: ArrayLike,
    momentum: ArrayLike,
    covariance: ArrayLike,
    gamma: ArrayLike = 1.0,
) -> NDArray[np.float64]:
    r"""The order of delays that the ODE limit, and so phase II, bears.

    .. math:: \tau \asymp \frac{(1 - \mu)^2}{\lambda_1 \eta^{1 - \gamma}}

    Args:
        learning_rate: :math:`\eta`, positive.
        momentum: :math:`\mu` in [0, 1).
        covariance: :math:`\Sigma`, shape (d, d); see `eigenbasis`.
        gamma: :math:`\gamma` in (0, 1].

    Returns:
        The delay, what the arguments broadcast to; for random delays, their
        mean. An order, as `admissible_delay`.

    Raises:
        ValueError: an argument is out of its range.

    Example:

    >>> import numpy as np
    >>> delay = traversing_delay(
    ...     learning_rate=1e-4, momentum=0.5, covariance=np.diag([4.0, 1.0]),
    ...     gamma=0.5,
    ... )
    >>> print(f"{delay:.2f}")
    6.25

    Reference:
        Liu et al. (2018), Theorem 3.3 and Proposition 3.8; eq. 4.1.
    """
    eta, mu, largest = _setting(learning_rate, momentum, covariance)
    power = np.asarray(gamma, np.float64)
    _checks.require((power > 0) & (power <= 1), "in (0, 1]", gamma=gamma)
    delay: NDArray[np.float64] = (1 - mu) ** 2 / (largest * eta ** (1 - power))
    return delay


def critical_delay(
    *, learning_rate: ArrayLike, momentum: ArrayLike, curvature: ArrayLike
) -> NDArray[np.float64]:
    r"""The delay at which the mean of Async-MSGD on a quadratic turns unstable.

    .. math:: x_{k+1} = x_k + \mu (x_k - x_{k-1}) - \eta h x_{k-\tau}

    is stable if and only if :math:`\tau` is below this number: its root that
    leaves the unit circle first does so at :math:`e^{i\omega}` with
    :math:`|e^{i\omega} - 1| |1 - \mu e^{-i\omega}| = \eta h`, a quadratic
    equation in :math:`\cos\omega`, and the delay makes up for the phase that
    is left to :math:`\pi`. For small :math:`\eta h` it goes as
    :math:`\pi (1 - \mu) / (2 \eta h)`.

    At the optimum of streaming PCA the largest curvature is :math:`2
    \lambda_1`, towards the sphere: there delays harm first.

    Args:
        learning_rate: :math:`\eta`, positive.
        momentum: :math:`\mu` in [0, 1).
        curvature: h, positive.

    Returns:
        The delay, what the arguments broadcast to, not rounded; 0 where not
        even a delay of 0 is stable, :math:`\eta h \ge 2 (1 + \mu)`.

    Raises:
        ValueError: an argument is out of its range.

    Example:

    The setting of the paper's figure:

    >>> delay = critical_delay(
    ...     learning_rate=5e-4, momentum=[0.7, 0.8, 0.85, 0.9, 0.95],
    ...     curvature=2 * 4.0,
    ... )
    >>> print(delay.round(1))
    [115.1  74.4  53.6  32.6  13.8]
    """
    eta = _checks.above("learning_rate", learning_rate, 0)
    mu = problem.checked_momentum(momentum)
    pull = eta * _checks.above("curvature", curvature, 0)
    slack = (1 - mu) ** 2
    # 1 - cos(omega), in a form that loses no digits where it is small.
    versine = pull**2 / (slack + np.sqrt(slack**2 + 4 * mu * pull**2))
    stable = pull < 2 * (1 + mu)
    omega = 2 * np.arcsin(np.sqrt(np.where(stable, versine, 1) / 2))
    lag = np.arctan2(mu * np.sin(omega), 1 - mu * np.cos(omega))
    delay: NDArray[np.float64] = (np.pi / 2 - lag) / omega - 0.5
    return np.where(stable, delay, 0)


def squared_error(
    points: ArrayLike, *, covariance: ArrayLike
) -> NDArray[np.float64]:
    r"""The squared distance to the nearer of the two optima :math:`\pm v^1`.

    Args:
        points: v, shape (..., d).
        covariance: :math:`\Sigma`, shape (d, d); see `eigenbasis`.

    Returns:
        :math:`\min \|v \mp v^1\|^2`, shape (...).

    Raises:
        ValueError: `covariance` is none.

    Example:

    >>> import numpy as np
    >>> error = squared_error(
    ...     [[0.0, 1.0], [-1.0, 0.5]], covariance=np.diag([2.0, 1.0])
    ... )
    >>> print(error)
    [2.   0.25]
    """
    best = problem.eigenbasis(covariance).vectors[:, 0]
    v = np.asarray(points, np.float64)
    with np.errstate(over="ignore", invalid="ignore"):
        along = v @ best
        # Not as |v|^2 - 2 |along| + 1, which loses digits near the optimum.
        rest = v - along[..., None] * best
        error: NDArray[np.float64] = (np.abs(along) - 1) ** 2 + np.sum(
            rest**2, axis=-1
        )
    return error


def optimal_delay(
    delays: ArrayLike, errors: ArrayLike, *, factor: float = 3.0
) -> NDArray[np.float64]:
    """The last delay before the error leaves the level of MSGD.

    The level is the mean error at delay 0; the error has left it where the
    mean is more than `factor` times that. In the paper's setting 3 times the
    mean is the 95 % quantile of MSGD's own errors: beyond it an average run is
    worse than all but one in twenty of those without a delay.

    Args:
        delays: from 0 upwards, shape (n,).
        errors: the mean error at each delay, shape (..., n). Infinities and
            NaN, from runs that diverge, have left the level.
        factor: above 1.

    Returns:
        The delay after which the error leaves the level for the first time;
        the last one if it does not.

    Raises:
        ValueError: the delays do not begin at 0 or do not ascend, or there is
            not an error for each.

    Example:

    >>> print(optimal_delay([0, 10, 20, 30], [0.2, 0.21, 0.3, 0.9]))
    20.0

    Reference:
        Liu et al. (2018), section 5.1, which names no criterion.
    """
    given = np.asarray(delays, np.float64)
    _checks.require(
        given.ndim == 1
        and len(given) > 0
        and given[0] == 0
        and np.all(np.diff(given) > 0),
        "ascending from 0",
        delays=delays,
    )
    means = np.asarray(errors, np.float64)
    if means.shape[-1:] != given.shape:
        raise ValueError(
            "`errors` must have one for each of the "
            f"{len(given)} delays. Received: errors={means}."
        )
    _checks.above("factor", factor, 1)
    within = means <= factor * means[..., :1]
    together = np.logical_and.accumulate(within, axis=-1).sum(axis=-1)
    last: NDArray[np.float64] = given[np.maximum(together - 1, 0)]
    return last


def _setting(
    learning_rate: ArrayLike, momentum: ArrayLike, covariance: ArrayLike
) -> tuple[NDArray[np.float64], NDArray[np.float64], float]:
    """eta, mu and lambda_1."""
    return (
        _checks.above("learning_rate", learning_rate, 0),
        problem.checked_momentum(momentum),
        float(problem.eigenbasis(covariance).values[0]),
    )
