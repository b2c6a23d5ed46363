"""What an optimizer tells a strategy about its exchange."""

from collections.abc import Callable
from collections.abc import Mapping
from collections.abc import Sequence
from types import MappingProxyType
from typing import NamedTuple

import keras
import tensorflow as tf

from tf_elastic import core
from tf_elastic.core import rules
from tf_elastic.core.arrays import inner_product
from tf_elastic.core.arrays import number_for
from tf_elastic.core.arrays import rounded


@inner_product.register(tf.Tensor)
def _inner_product(values: tf.Tensor, others: tf.Tensor) -> tf.Tensor:
    wide = tf.float32 if values.dtype.size < 4 else values.dtype
    products = tf.cast(values, wide) * tf.cast(others, wide)
    return tf.cast(tf.reduce_sum(products), tf.float64)


@number_for.register(tf.Tensor)
def _number_for(array: tf.Tensor, number: tf.Tensor) -> tf.Tensor:
    return tf.cast(number, array.dtype)


@rounded.register(tf.Tensor)
@rounded.register(tf.Variable)
def _rounded(array: tf.Tensor, dtype: str) -> tf.Tensor:
    return tf.cast(array, dtype)


def in_float64(number: float | tf.Tensor) -> tf.Tensor:
    """A float or a scalar tensor as float64, by no way through float32."""
    if tf.is_tensor(number):
        return tf.cast(number, tf.float64)
    return tf.convert_to_tensor(number, tf.float64)


def vector_of(numbers: Sequence[float | tf.Tensor]) -> tf.Tensor:
    """Floats or scalar tensors as a float64 vector; of none, an empty one."""
    found = [in_float64(number) for number in numbers]
    return tf.stack(found) if found else tf.zeros([0], tf.float64)


class ExchangedVariable(NamedTuple):
    """A trainable variable, and what its exchange needs beside it.

    With Nesterov's momentum the variable holds the look-ahead point
    y = x + delta v, where the gradient is wanted; what is exchanged is x.
    """

    variable: tf.Variable  # the strategy's variable, with a `store`
    velocity: tf.Variable | None = None  # v's variable, if there is one
    momentum: float = 0.0  # delta if the look-ahead point is stored, else 0
    # Of an INCREMENT the point that was last read, else the gradient; or None:
    # nothing is sent of it.
    slot: tf.Variable | None = None
    # Of the parent, where it is in this process, what is not shown.
    parent: Mapping[str, tf.Variable] = {}

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
        return [v.store.read(worker) for v in self.stored_in]

    @property
    def stored_in(self) -> list[tf.Variable]:
        """The variables that a worker's point is made of."""
        if self.looks_ahead:
            return [self.variable, self.velocity]
        return [self.variable]

    def point_of(self, stored: Sequence[tf.Tensor]) -> tf.Tensor:
        """The point made of what `stored` gave, or of parts of it."""
        if not self.looks_ahead:
            return stored[0]
        return core.plain_point(*stored, self.momentum)

    def message(self, sends: str, worker: int) -> tf.Tensor:
        """What a worker sends.

        Args:
            sends: what kind; see `core.rules`.
            worker: its index, from 0.
        """
        slot = None if self.slot is None else self.slot.store.read(worker)
        return self.message_of(sends, self.stored(worker), slot)

    def message_of(
        self, sends: str, stored: Sequence[tf.Tensor], slot: tf.Tensor | None
    ) -> tf.Tensor:
        """What a worker sends of which one has these values.

        Args:
            sends: what kind; see `core.rules`.
            stored: as `stored` gives it.
            slot: of `slot`; None if there is none.
        """
        if sends == rules.POINT:
            return self.point_of(stored)
        if slot is None:
            return tf.zeros_like(stored[0])
        if sends == rules.GRADIENT:
            return slot
        return rules.increment(self.point_of(stored), slot)


class ExchangeSpec(NamedTuple):
    """What is exchanged, by which rule and numbers."""

    method: str  # the optimizer's name
    rule: rules.Rule
    parameters: list[ExchangedVariable]
    # Of (p, the worker's clock, `numbers` of it), without "num_workers".
    rates: Callable[
        [int, int | tf.Tensor, Sequence[float | tf.Tensor]], rules.Rates
    ]
    # What the rates depend on at a worker's clock: a float64 vector.
    numbers: Callable[[tf.Tensor], tf.Tensor]
    # Of `Rule.numbers`, where the center is in this process, the variables.
    kept: Mapping[str, keras.Variable] = {}
    communication_period: int | None = None  # tau; None: no exchange
    calls_per_step: int = 1  # of the optimizer, for one local step

    @property
    def takes_steps(self) -> bool:
        """Whether the workers' steps are a part of the exchange."""
        return False


class AdmmVariable(NamedTuple):
    """A trainable variable and what ADMM keeps beside it on each worker."""

    variable: tf.Variable  # the strategy's variable, with a `store`
    gradient: tf.Variable
    multiplier: tf.Variable  # lambda
    anchor: tf.Variable  # the center as it was last read
    pushed: tf.Variable  # the worker's part of the center

    # As of an `ExchangedVariable`, which has more.
    velocity = slot = None
    parent = MappingProxyType[str, tf.Variable]({})

    def point(self, worker: int) -> tf.Tensor:
        """The point x of one worker, of the variable's shape.

        Args:
            worker: index of the worker, from 0.
        """
        return self.variable.store.read(worker)

    @property
    def stored_in(self) -> list[tf.Variable]:
        """The variables that a worker's message is made of."""
        return [self.variable, self.multiplier, self.pushed]

    def message(self, worker: int) -> tf.Tensor:
        """What a worker's part has changed by, since it was brought.

        Args:
            worker: its index, from 0.
        """
        stored = [v.store.read(worker) for v in self.stored_in]
        return self.message_of(rules.INCREMENT, stored, None)

    def message_of(
        self, sends: str, stored: Sequence[tf.Tensor], slot: None
    ) -> tf.Tensor:
        """The same of what is stored; see `ExchangedVariable`."""
        del sends, slot
        x, multiplier, pushed = stored
        return core.admm.contribution(x, multiplier) - pushed


class AdmmSpec(NamedTuple):
    """The alternating direction method of multipliers.

    The workers' steps are a part of the exchange.
    """

    method: str  # the optimizer's name
    rule: rules.Rule
    parameters: list[AdmmVariable]
    elasticity: float  # rho
    communication_period: int  # tau
    # The learning rate at a worker's clock: a float64 vector of one.
    numbers: Callable[[tf.Tensor], tf.Tensor]
    calls_per_step: int = 1  # of the optimizer, for one local step

    # As of an `ExchangeSpec`: the rule keeps no numbers.
    kept = MappingProxyType[str, keras.Variable]({})

    @property
    def takes_steps(self) -> bool:
        """Whether the workers' steps are a part of the exchange."""
        return True

    def rates(
        self,
        num_workers: int,
        clock: int | tf.Tensor,
        numbers: Sequence[float | tf.Tensor],
    ) -> rules.Rates:
        """None: the center moves by a p-th of what is brought."""
        del num_workers, clock, numbers
        return {}


# What a strategy is told.
Spec = ExchangeSpec | AdmmSpec
