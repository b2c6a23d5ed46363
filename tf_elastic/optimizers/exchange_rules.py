"""What an optimizer tells a strategy about its exchange."""

from collections.abc import Callable
from collections.abc import Sequence
from typing import Any
from typing import NamedTuple

import tensorflow as tf

from tf_elastic import core


def in_float64(number: Any) -> tf.Tensor:
    """A float or a scalar tensor as float64, by no way through float32."""
    if tf.is_tensor(number):
        return tf.cast(number, tf.float64)
    return tf.convert_to_tensor(number, tf.float64)


class ElasticParameter(NamedTuple):
    """A trainable variable and how to find its plain point.

    With Nesterov's momentum the variable holds the look-ahead point
    y = x + delta v, where the gradient is wanted; what is exchanged is x.
    """

    variable: Any  # the strategy's variable; has worker_copies, center_copies
    velocity: Any = None  # v's variable, if there is one
    momentum: float = 0.0  # delta if the look-ahead point is stored, else 0

    @property
    def looks_ahead(self) -> bool:
        """Whether the variable holds the look-ahead point."""
        return self.velocity is not None and self.momentum != 0

    def point(self, worker: int) -> tf.Tensor:
        """The point x of one worker, of the variable's shape.

        Args:
            worker: index of the worker, from 0.
        """
        return self.point_of(self.stored(worker))

    def stored(self, worker: int) -> list[tf.Tensor]:
        """What a worker's point is made of."""
        variables = [self.variable]
        if self.looks_ahead:
            variables.append(self.velocity)
        return [v.worker_copies[worker].read_value() for v in variables]

    def point_of(self, stored: Sequence[Any]) -> Any:
        """The point made of what `stored` gave, or of parts of it."""
        if not self.looks_ahead:
            return stored[0]
        return core.plain_point(*stored, self.momentum)


class ElasticRule(NamedTuple):
    """Workers and center give way to each other."""

    method: str  # in `methods.METHODS`
    parameters: list[ElasticParameter]
    # Alpha and beta for p workers at a worker's clock, a number or a tensor.
    rates: Callable[[int, Any], core.ElasticRates]


# What a worker pushes.
UPDATE = "update"  # its way since it last read
GRADIENT = "gradient"
DIFFERENCE = "difference"  # to the center, that nobody has moved since


class PushParameter(NamedTuple):
    """A trainable variable and what a push needs beside it."""

    variable: Any  # the strategy's variable; has worker_copies, center_copies
    # Of an UPDATE the point that was last read, else the gradient; or None.
    slot: Any = None
    # Of the center, where it is in this process; each like `variable`.
    center: Any = None  # if the shown one is an average
    velocity: Any = None

    def point(self, worker: int) -> tf.Tensor:
        """The point x of one worker, of the variable's shape.

        Args:
            worker: index of the worker, from 0.
        """
        return self.variable.worker_copies[worker].read_value()


class PushRule(NamedTuple):
    """Workers push messages; the center answers with where to go on."""

    method: str  # in `methods.METHODS`
    parameters: list[PushParameter]
    message: str  # UPDATE, GRADIENT or DIFFERENCE
    center_rule: core.CenterRule
    # Numbers of an exchange at a worker's clock: a float64 vector.
    numbers: Callable[[tf.Tensor], tf.Tensor]
    # The rates for p workers and these numbers, floats or scalar tensors.
    rates: Callable[[int, Any], core.PushRates]


class AdmmParameter(NamedTuple):
    """A trainable variable and what ADMM keeps beside it on each worker."""

    variable: Any  # the strategy's variable; has worker_copies, center_copies
    gradient: Any
    multiplier: Any  # lambda
    anchor: Any  # the center as it was last read
    pushed: Any  # the worker's part of the center

    def point(self, worker: int) -> tf.Tensor:
        """The point x of one worker, of the variable's shape.

        Args:
            worker: index of the worker, from 0.
        """
        return self.variable.worker_copies[worker].read_value()


class AdmmRule(NamedTuple):
    """The alternating direction method of multipliers."""

    method: str  # in `methods.METHODS`
    parameters: list[AdmmParameter]
    elasticity: float  # rho
    communication_period: int  # tau
    # The learning rate at a worker's clock: a float64 vector of one.
    numbers: Callable[[tf.Tensor], tf.Tensor]
