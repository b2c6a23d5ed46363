"""The clock of a virtual cluster, in a graph: whose turn is it?"""

from collections.abc import Callable

import numpy as np
import tensorflow as tf

from tf_elastic.strategies.stores import Bank
from tf_elastic.strategies.virtual.bank_exchange import BankExchange
from tf_elastic.strategies.virtual.moment import Moment
from tf_elastic.strategies.virtual.places import Live
from tf_elastic.strategies.virtual.places import Row
from tf_elastic.strategies.virtual.turns import Timeline
from tf_elastic.strategies.virtual.turns import Turns
from tf_elastic.timeline.virtual import moves

_HOST = "/device:CPU:0"
_FIELDS = len(Moment._fields)

# What a move does; all others do nothing to what is learned.
_DOES: dict[int, Callable[[BankExchange, Moment], None]] = {
    moves.MAKE: BankExchange.make,
    moves.TURN_OVER: BankExchange.turn_over,
    moves.READ: BankExchange.read,
    moves.APPLY: BankExchange.apply,
    moves.ARRIVE: BankExchange.arrive,
    moves.ADD: BankExchange.add,
    moves.COLLECT: BankExchange.collect,
    moves.ANSWER: BankExchange.answer,
    moves.SETTLE: BankExchange.settle,
    moves.RESTART: BankExchange.restart,
    moves.JOIN: BankExchange.join,
}


class VirtualClock:
    """Does the moves of a timeline around the training steps.

    Args:
        bank: of the workers.
    """

    def __init__(self, bank: Bank) -> None:
        self._bank = bank
        self._turns: Turns | None = None
        self._has_prologue = False  # moves before the first step
        self._before_first = 0.0  # s, in timelines of earlier optimizers
        with tf.init_scope(), tf.device(_HOST):
            # Steps that were taken, then the step that comes, as a `Move`.
            self.state = tf.Variable(
                [0] * (1 + _FIELDS), trainable=False, dtype=tf.int64
            )

    def begin(self, timeline: Timeline) -> None:
        """Begins at the beginning of a timeline, in eager code.

        Raises:
            ValueError: it is one of another number of workers, or empty.
        """
        p = self._bank.num_workers
        if timeline.num_workers != p:
            raise ValueError(
                f"The timeline is one of {timeline.num_workers} workers. "
                f"Received: num_workers={p}."
            )
        self._before_first = self.seconds
        self._turns = Turns(timeline)
        if self._turns.turn(0).step is None:
            raise ValueError(
                f"The timeline has no step of training. Received: {timeline!r}."
            )
        between, step = self._turns.as_arrays(0)
        self._has_prologue = len(between) > 0
        with tf.init_scope():
            self.state.assign([0, *step])
            self._bank.give_turn_to(int(step[1]))

    @property
    def steps(self) -> int:
        """Training steps of all workers together."""
        return int(self.state[0].numpy())

    @property
    def turns(self) -> Turns | None:
        """The turns, at the newest one; None before there is an optimizer."""
        if self._turns is not None:
            self._turns.turn(self.steps)
        return self._turns

    @property
    def seconds(self) -> float:
        """Virtual seconds, up to the last step."""
        turns = self.turns
        return self._before_first + (0.0 if turns is None else turns.time)

    def before_step(self, exchange: BankExchange) -> None:
        """The gradient is taken, of the worker whose turn it is."""
        self._begin_if_first(exchange)
        moment = Moment(*tf.unstack(self.state[1:]))
        tf.switch_case(
            tf.cast(tf.clip_by_value(moment.kind, 0, 2), tf.int32),
            {
                moves.STEP: lambda: None,
                moves.SETTLING_STEP: lambda: exchange.settle(moment, Live()),
                moves.VISITING_STEP: lambda: exchange.visit(moment, Live()),
            },
        )

    def _begin_if_first(self, exchange: BankExchange) -> None:
        """What comes before the first step of all."""
        if not self._has_prologue:
            return

        def begin() -> None:
            between, _ = self._turn(tf.constant(0, tf.int64))
            self._bank.end_turn()
            self._do(exchange, between)

        is_first = tf.equal(self.state[0], 0)
        tf.cond(is_first, begin, lambda: None)

    def after_step(self, exchange: BankExchange) -> None:
        """A step was taken: does all until the next one."""
        number = self.state[0] + 1
        between, step = self._turn(number)
        self._bank.end_turn()
        self._do(exchange, between)
        self._bank.begin_turn(step[1])
        self.state.assign(
            tf.concat([number[tf.newaxis], step], 0), read_value=False
        )

    def _turn(self, number: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        with tf.device(_HOST):
            between, step = tf.numpy_function(
                self._arrays, [number], [tf.int64, tf.int64]
            )
        return (
            tf.ensure_shape(between, [None, _FIELDS]),
            tf.ensure_shape(step, [_FIELDS]),
        )

    def _arrays(self, number: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        if self._turns is None:
            raise ValueError("No optimizer has trained here.")
        return self._turns.as_arrays(int(number))

    def _do(self, exchange: BankExchange, between: tf.Tensor) -> None:
        """Does moves, one after another; all workers are in their rows."""

        def body(i: tf.Tensor) -> list[tf.Tensor]:
            moment = Moment(*tf.unstack(between[i]))
            branches = {
                kind: _branch(does, exchange, moment)
                for kind, does in _DOES.items()
            }
            branches[moves.VISIT] = lambda: exchange.visit(
                moment, Row(moment.worker)
            )
            tf.switch_case(
                tf.cast(moment.kind, tf.int32),
                [
                    branches.get(kind, lambda: None)
                    for kind in range(len(moves.NAMES))
                ],
            )
            return [i + 1]

        last = tf.shape(between)[0]
        tf.while_loop(
            lambda i: i < last,
            body,
            [tf.constant(0)],
            parallel_iterations=1,
        )


def _branch(
    does: Callable[[BankExchange, Moment], None],
    exchange: BankExchange,
    moment: Moment,
) -> Callable[[], None]:
    return lambda: does(exchange, moment)
