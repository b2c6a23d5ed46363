"""When a move happens, and by which rates."""

from typing import NamedTuple

import numpy as np
import tensorflow as tf

from tf_elastic.core import rules
from tf_elastic.core.rules import Context
from tf_elastic.core.rules import Rates
from tf_elastic.optimizers.exchange_spec import Spec
from tf_elastic.optimizers.exchange_spec import in_float64
from tf_elastic.strategies.stores.rows import read_row
from tf_elastic.strategies.stores.rows import write_row


class Moment(NamedTuple):
    """A `timeline.virtual.moves.Move` as integer scalars, but its time."""

    kind: tf.Tensor
    worker: tf.Tensor
    clock: tf.Tensor
    version: tf.Tensor
    staleness: tf.Tensor
    num_workers: tf.Tensor
    count: tf.Tensor
    row: tf.Tensor | int = -1  # None but a tree's have one.


class RatesOfMoment:
    """The rates of a move, and the numbers of workers that they depend on.

    Args:
        spec: of the exchange.
        num_workers: p, of all.
        p_varies: whether workers come and go.
        answers_later: whether a worker goes on before it is answered.
    """

    def __init__(
        self,
        spec: Spec,
        num_workers: int,
        p_varies: bool,
        answers_later: bool,
    ) -> None:
        self._spec = spec
        self._num_workers = num_workers
        self._p_varies = p_varies
        self._answers_later = answers_later
        # A mean is of those who have come.
        rule = spec.rule
        self._is_mean = not rule.answers_difference and (
            rule.sends == rules.POINT
        )
        first = spec.numbers(tf.constant(0, tf.int64))
        # A row for each worker, as of its last step; one for a round; where
        # workers go on meanwhile one for each, as of its message.
        rows = num_workers * (1 + answers_later) + 1
        self.numbers = tf.Variable(
            tf.tile(first[tf.newaxis], [rows, 1]), trainable=False
        )

    def note(self, worker: tf.Tensor, clock: tf.Tensor) -> None:
        """Notes the numbers of the worker whose turn it is.

        Args:
            worker: its number, int64 scalar.
            clock: its local steps.
        """
        if self._has_numbers:
            write_row(self.numbers, worker, self._spec.numbers(clock))

    def is_sent(self, worker: tf.Tensor) -> None:
        """A worker's numbers are those of the message that leaves now."""
        if self._has_numbers and self._answers_later:
            write_row(self.numbers, self._row_of(worker), self._row(worker))

    def is_of_round(self, worker: tf.Tensor) -> None:
        """A worker's numbers count for the round that it is in."""
        if self._has_numbers:
            row = self._row(worker)
            write_row(
                self.numbers, tf.constant(self._num_workers, tf.int64), row
            )

    def packed(
        self, moment: Moment, closing: bool = False
    ) -> list[dict[str, tf.Tensor]]:
        """What the rules make of the rates at a moment, in float64.

        Args:
            moment: of the move.
            closing: whether it is one that does not take place.

        Returns:
            The rates by name of parameters, and of statistics. p is among
            them only where it varies, and of a mean.
        """
        rates = self._rates(moment, self._row_of(moment.worker))
        if closing:
            rates = self._spec.rule.closing(rates)
        now = Context(
            tf.cast(moment.version, tf.float64),
            tf.cast(tf.maximum(moment.staleness, 1), tf.float64),
            tf.cast(moment.count, tf.float64),
            {
                name: tf.convert_to_tensor(variable.value)
                for name, variable in self._spec.kept.items()
            },
        )
        return [
            {
                name: in_float64(rate)
                for name, rate in rule.rates_at(rates, now).items()
                if name != "num_workers" or self._p_varies or self._is_mean
            }
            for rule in (self._spec.rule, rules.Follow())
        ]

    def _rates(self, moment: Moment, row: tf.Tensor) -> Rates:
        clock = moment.clock // self._spec.calls_per_step
        numbers = self._row(row)
        p: int | tf.Tensor = self._num_workers
        if self._p_varies:
            p = tf.cast(moment.num_workers, tf.float64)
            rates = self._rates_on_host(moment.num_workers, clock, numbers)
        else:
            rates = self._spec.rates(p, clock, tf.unstack(numbers))
        if self._is_mean:
            p = tf.cast(moment.count, tf.float64)
        return {**rates, "num_workers": p}

    def _rates_on_host(
        self, num_workers: tf.Tensor, clock: tf.Tensor, numbers: tf.Tensor
    ) -> Rates:
        """Those of any p, which only plain numbers can tell apart."""
        spec = self._spec
        size = self.numbers.shape[1]
        known = spec.rates(self._num_workers, 0, [0.0] * size)
        names = [name for name, rate in known.items() if rate is not None]

        def of(p: np.ndarray, clock: np.ndarray, own: np.ndarray) -> np.ndarray:
            rates = spec.rates(int(p), int(clock), [float(n) for n in own])
            return np.array([rates[name] for name in names], np.float64)

        found = tf.ensure_shape(
            tf.numpy_function(of, [num_workers, clock, numbers], tf.float64),
            [len(names)],
        )
        return {
            **dict.fromkeys(known),
            **dict(zip(names, tf.unstack(found), strict=True)),
        }

    @property
    def _has_numbers(self) -> bool:
        return self.numbers.shape[1] > 0

    def _row_of(self, worker: tf.Tensor) -> tf.Tensor:
        """Of a worker's message, by its number; of a round, if that is < 0."""
        of_round = tf.constant(self._num_workers, tf.int64)
        of_message = worker
        if self._answers_later:
            of_message = of_round + 1 + worker
        return tf.where(worker < 0, of_round, of_message)

    def _row(self, row: tf.Tensor) -> tf.Tensor:
        if not self._has_numbers:
            return tf.zeros([0], tf.float64)
        return read_row(self.numbers, row)
