"""Local steps: what one worker does between two exchanges."""

from typing import Generic

from tf_elastic.core.arrays import Array
from tf_elastic.core.arrays import NamedTuple
from tf_elastic.core.arrays import Scalar


class MomentumState(NamedTuple, Generic[Array]):
    """A worker's parameters and their velocity."""

    parameters: Array  # any shape, floating
    velocity: Array  # same shape and dtype as `parameters`


def sgd_step(
    parameters: Array, gradient: Array, learning_rate: Scalar[Array]
) -> Array:
    r"""One step of stochastic gradient descent.

    .. math:: x_{t+1} = x_t - \eta g_t(x_t)

    Args:
        parameters: :math:`x_t`, floating, any shape.
        gradient: :math:`g_t(x_t)`, same shape.
        learning_rate: :math:`\eta \ge 0`, a scalar.

    Returns:
        :math:`x_{t+1}`, same shape and dtype as `parameters`.

    Example:

    >>> sgd_step(1.0, gradient=0.5, learning_rate=0.1)
    0.95

    Reference:
        Zhang (2016), eq. 2.1 without its elastic term.
    """
    return parameters - learning_rate * gradient


def momentum_step(
    parameters: Array,
    velocity: Array,
    gradient: Array,
    learning_rate: Scalar[Array],
    momentum: Scalar[Array],
) -> MomentumState[Array]:
    r"""One step of momentum SGD, in the form that keeps the plain point.

    .. math::
        v_{t+1} &= \delta v_t - \eta g_t \\
        x_{t+1} &= x_t + v_{t+1}

    Where the gradient was taken decides the method: at
    :math:`x_t + \delta v_t` (see `lookahead_point`) it is Nesterov's, at
    :math:`x_t` the heavy ball.

    Args:
        parameters: :math:`x_t`, floating, any shape.
        velocity: :math:`v_t`, same shape.
        gradient: :math:`g_t`, same shape.
        learning_rate: :math:`\eta \ge 0`, a scalar.
        momentum: :math:`\delta`, a scalar, usually in [0, 1).

    Returns:
        `MomentumState` of :math:`x_{t+1}` and :math:`v_{t+1}`.

    Example:

    >>> momentum_step(1.0, 0.5, gradient=2.0, learning_rate=0.25, momentum=0.5)
    MomentumState(parameters=0.75, velocity=-0.25)

    Reference:
        Zhang (2016), eq. 2.5 and Algorithm 2 (Nesterov), eq. 2.6 (heavy ball).
    """
    new_velocity = momentum * velocity - learning_rate * gradient
    return MomentumState(parameters + new_velocity, new_velocity)


def lookahead_point(
    parameters: Array, velocity: Array, momentum: Scalar[Array]
) -> Array:
    r"""Nesterov's point of the gradient, :math:`y = x + \delta v`.

    Args:
        parameters: :math:`x`, floating, any shape.
        velocity: :math:`v`, same shape.
        momentum: :math:`\delta`, a scalar.

    Returns:
        :math:`y`, same shape.

    Example:

    >>> lookahead_point(1.0, 0.5, momentum=0.5)
    1.25

    Reference:
        Zhang (2016), Algorithm 2.
    """
    return parameters + momentum * velocity


def plain_point(
    lookahead: Array, velocity: Array, momentum: Scalar[Array]
) -> Array:
    r"""The inverse of `lookahead_point`: :math:`x = y - \delta v`.

    This is the point that EAMSGD exchanges. A model that trains with
    Nesterov's momentum holds :math:`y`, since its gradient is wanted there.

    Args:
        lookahead: :math:`y`, floating, any shape.
        velocity: :math:`v`, same shape.
        momentum: :math:`\delta`, a scalar.

    Returns:
        :math:`x`, same shape.

    Example:

    >>> plain_point(1.25, 0.5, momentum=0.5)
    1.0

    Reference:
        Zhang (2016), Algorithm 2.
    """
    return lookahead - momentum * velocity


def lookahead_momentum_step(
    lookahead: Array,
    velocity: Array,
    gradient: Array,
    learning_rate: Scalar[Array],
    momentum: Scalar[Array],
) -> MomentumState[Array]:
    r"""Nesterov's step for storage that holds the look-ahead point.

    The same sequence as `momentum_step` with the gradient at
    :math:`y_t = x_t + \delta v_t`, written for :math:`y`:

    .. math::
        v_{t+1} &= \delta v_t - \eta g_t(y_t) \\
        y_{t+1} &= y_t + \delta v_{t+1} - \eta g_t(y_t)

    since :math:`x_{t+1} + \delta v_{t+1} = y_t - \delta v_t + v_{t+1} +
    \delta v_{t+1}`. The old velocity is not needed once the new one is there,
    so that a compiler can update both in place.

    Args:
        lookahead: :math:`y_t`, floating, any shape.
        velocity: :math:`v_t`, same shape.
        gradient: :math:`g_t(y_t)`, same shape.
        learning_rate: :math:`\eta \ge 0`, a scalar.
        momentum: :math:`\delta`, a scalar; the one that made :math:`y_t`.

    Returns:
        `MomentumState` of :math:`y_{t+1}` and :math:`v_{t+1}`.

    Example:

    >>> lookahead_momentum_step(
    ...     1.25, 0.5, gradient=2.0, learning_rate=0.25, momentum=0.5
    ... )
    MomentumState(parameters=0.625, velocity=-0.25)

    Reference:
        Zhang (2016), Algorithm 2, with x replaced by y - delta v.
    """
    new_velocity = momentum * velocity - learning_rate * gradient
    return MomentumState(
        lookahead + (momentum * new_velocity - learning_rate * gradient),
        new_velocity,
    )
