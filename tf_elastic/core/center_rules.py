"""What a center does with what a worker pushes, but for elastic averaging.

A worker pushes a *message*: the update that it has made since it last read
(DOWNPOUR), a gradient (Async-MSGD, MDOWNPOUR), or its difference to the
center (model averaging, DiLoCo). The center *takes* it, and *answers* with the
point to go on from.
"""

from collections.abc import Callable
from typing import Any
from typing import NamedTuple

from tf_elastic.core.averages import polyak_rate
from tf_elastic.core.averages import time_average
from tf_elastic.core.local_steps import MomentumState
from tf_elastic.core.local_steps import lookahead_momentum_step
from tf_elastic.core.local_steps import lookahead_point
from tf_elastic.core.local_steps import momentum_step

Array = Any  # a NumPy array or a TensorFlow tensor, floating, any shape

# How a message moves the center.
ADD = "add"  # x <- x + m
HEAVY_BALL = "heavy_ball"  # m is a gradient; workers go on from x
NESTEROV = "nesterov"  # m is a gradient; workers go on from x + delta v
OUTER_NESTEROV = "outer_nesterov"  # -m is a gradient, x the look-ahead point
METHODS = (ADD, HEAVY_BALL, NESTEROV, OUTER_NESTEROV)


class CenterRule(NamedTuple):
    """What a center does with messages. JSON; the same for a whole run."""

    method: str  # one of `METHODS`
    averages: bool = False  # a time average of the center is the answer
    adjustment: float = 0.0  # q in u_k = k ** -q, k the update from 1
    scales_by_staleness: bool = False  # eta / staleness
    compensates: bool = False  # for what the center has moved since

    @property
    def has_velocity(self) -> bool:
        """Whether the center keeps a velocity."""
        return self.method != ADD


class CenterState(NamedTuple):
    """The center, and what is kept beside it: of one shape, or None."""

    center: Array
    velocity: Array | None = None
    average: Array | None = None


class PushRates(NamedTuple):
    """The numbers that go with a message."""

    share: Any = 1.0  # what the message counts: 1, or 1 / p for a mean
    learning_rate: Any = 1.0  # eta
    momentum: Any = 0.0  # delta or mu
    averaging_rate: Any = None  # of the time average; None for 1 / (t + 1)
    compensation: Any = 0.0  # lambda


def initial_state(rule: CenterRule, center: Array) -> CenterState:
    """The state of a center that begins.

    Args:
        rule: of the center.
        center: its first values, floating, any shape.

    Returns:
        `CenterState`: no velocity yet, and an average of `center` alone.

    Example:

    >>> initial_state(CenterRule(HEAVY_BALL), 2.0)
    CenterState(center=2.0, velocity=0.0, average=None)
    """
    return CenterState(
        center,
        0 * center if rule.has_velocity else None,
        1 * center if rule.averages else None,
    )


def rates_at(
    rule: CenterRule, rates: PushRates, update: Any, staleness: Any
) -> PushRates:
    r"""Fills in what depends on the center's clock and on the delay.

    .. math:: \eta_k = \eta u_k / s, \quad u_k = (k + 1)^{-q}

    Args:
        rule: of the center.
        rates: of the push.
        update: k, the updates that the center has seen, from 0; a number or a
            floating scalar tensor.
        staleness: s: updates between the worker's read and its push, at
            least 1; likewise.

    Returns:
        `PushRates`.

    Example:

    >>> rule = CenterRule(HEAVY_BALL, adjustment=0.5)
    >>> rates_at(rule, PushRates(learning_rate=0.5), 3, 1).learning_rate
    0.25

    Reference:
        u_k: He et al. (2018), section 2 (ASGD, 1, 1/k and 1/sqrt(k)).
        The division by the staleness: Zhang, Gupta, Lian and Liu (2016),
        "Staleness-aware async-SGD for distributed deep learning", eq. 6.
    """
    learning_rate = rates.learning_rate
    if rule.adjustment:
        learning_rate = learning_rate * (update + 1) ** -rule.adjustment
    if rule.scales_by_staleness:
        learning_rate = learning_rate / staleness
    averaging_rate = rates.averaging_rate
    if rule.averages and averaging_rate is None:
        averaging_rate = polyak_rate(update)
    return rates._replace(
        learning_rate=learning_rate, averaging_rate=averaging_rate
    )


def take(
    rule: CenterRule,
    state: CenterState,
    message: Array,
    rates: PushRates,
    sent: Array | None = None,
) -> CenterState:
    r"""What the center is after a message.

    ================  =======================================================
    method            update (m is `share` times the message)
    ================  =======================================================
    `ADD`             :math:`\tilde x \leftarrow \tilde x + m`
    `HEAVY_BALL`      :math:`v \leftarrow \mu v - \eta m,\;
    \tilde x \leftarrow \tilde x + v`
    `NESTEROV`        the same
    `OUTER_NESTEROV`  :math:`v \leftarrow \mu v + \eta m,\;
    \tilde x \leftarrow \tilde x + \mu v + \eta m`
    ================  =======================================================

    A time average, where there is one, takes in the center as it was before:
    :math:`z_{t+1} = (1 - a_{t+1}) z_t + a_{t+1} \tilde x_t`.

    Args:
        rule: of the center.
        state: of the center.
        message: what was pushed, of the center's shape.
        rates: as `rates_at` gives them.
        sent: the point that the worker has started from, for a rule that
            compensates.

    Returns:
        `CenterState`.

    Example:

    >>> state = initial_state(CenterRule(HEAVY_BALL), 1.0)
    >>> rates = PushRates(learning_rate=0.25, momentum=0.5)
    >>> take(CenterRule(HEAVY_BALL), state, 2.0, rates)
    CenterState(center=0.5, velocity=-0.5, average=None)

    Reference:
        `ADD`: Zhang (2016), Algorithm 3. `HEAVY_BALL`: momentum paper, eq.
        1.3. `NESTEROV`: Zhang (2016), Algorithm 5. `OUTER_NESTEROV`: Douillard
        et al. (2023), DiLoCo, Algorithm 1. Time average: Zhang (2016),
        chapter 4 (ADOWNPOUR, MVADOWNPOUR).
    """
    center, velocity, average = state
    if rule.averages:
        average = time_average(average, center, rates.averaging_rate)
    message = rates.share * message
    if rule.compensates:
        message = compensated_gradient(
            message, answer(rule, state, rates), sent, rates.compensation
        )
    if rule.method == ADD:
        return CenterState(center + message, velocity, average)
    step: Callable[..., MomentumState] = momentum_step
    if rule.method == OUTER_NESTEROV:
        message, step = -message, lookahead_momentum_step
    moved = step(
        center, velocity, message, rates.learning_rate, rates.momentum
    )
    return CenterState(moved.parameters, moved.velocity, average)


def answer(rule: CenterRule, state: CenterState, rates: PushRates) -> Array:
    r"""The point that a worker goes on from.

    Args:
        rule: of the center.
        state: of the center.
        rates: of the last push.

    Returns:
        :math:`\tilde x + \delta v` for `NESTEROV`, else :math:`\tilde x`.

    Example:

    >>> rates = PushRates(momentum=0.5)
    >>> answer(CenterRule(NESTEROV), CenterState(1.0, velocity=2.0), rates)
    2.0

    Reference:
        Zhang (2016), Algorithms 3 and 5.
    """
    if rule.method == NESTEROV:
        return lookahead_point(state.center, state.velocity, rates.momentum)
    return state.center


def shown(state: CenterState) -> Array:
    """What is evaluated and saved: the time average if there is one.

    Example:

    >>> shown(CenterState(1.0, average=0.5))
    0.5
    """
    return state.center if state.average is None else state.average


def compensated_gradient(
    gradient: Array, point: Array, sent: Array, compensation: Any
) -> Array:
    r"""A stale gradient, corrected to first order for the way since.

    .. math:: g + \lambda g \odot g \odot (x - x_{sent})

    where :math:`g \odot g` stands for the diagonal of the Hessian.

    Args:
        gradient: g, taken at `sent`; floating, any shape.
        point: x, where the center is now; same shape.
        sent: the point that the worker was given; same shape.
        compensation: :math:`\lambda \ge 0`, a scalar.

    Returns:
        An array of the same shape.

    Example:

    >>> compensated_gradient(2.0, point=1.5, sent=1.0, compensation=0.5)
    3.0

    Reference:
        Zheng et al. (2017), "Asynchronous stochastic gradient descent with
        delay compensation", eq. 10.
    """
    return gradient + compensation * gradient * gradient * (point - sent)
