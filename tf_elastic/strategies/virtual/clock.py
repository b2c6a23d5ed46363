"""The clock of a virtual cluster, in a graph: whose turn is it?"""

import functools
import itertools
from collections.abc import Callable
from collections.abc import Iterator

import numpy as np
import tensorflow as tf

from tf_elastic.core import rules
from tf_elastic.strategies.stores import Bank
from tf_elastic.strategies.virtual import tree_exchange
from tf_elastic.strategies.virtual.bank_exchange import BankExchange
from tf_elastic.strategies.virtual.moment import Moment
from tf_elastic.strategies.virtual.places import Live
from tf_elastic.strategies.virtual.places import Row
from tf_elastic.strategies.virtual.places import forget_gradients
from tf_elastic.strategies.virtual.turns import Turns
from tf_elastic.timeline.virtual import moves

_HOST = "/device:CPU:0"
_FIELDS = len(Moment._fields)
_OF_STEP = _FIELDS - 1  # It is in no row.

# What a move does to what is learned.
_DOES: dict[int, Callable[[BankExchange, Moment], None]] = {
    moves.VISIT: lambda exchange, moment: exchange.visit(
        moment, Row(moment.worker)
    ),
    moves.MAKE: lambda exchange, moment: exchange.make(moment),
    moves.TURN_OVER: lambda exchange, moment: exchange.turn_over(moment),
    moves.READ: lambda exchange, moment: exchange.read(moment),
    moves.APPLY: lambda exchange, moment: exchange.apply(moment),
    moves.ARRIVE: lambda exchange, moment: exchange.arrive(moment),
    moves.ADD: lambda exchange, moment: exchange.add(moment),
    moves.COLLECT: lambda exchange, moment: exchange.collect(moment),
    moves.ANSWER: lambda exchange, moment: exchange.answer(moment),
    moves.SETTLE: lambda exchange, moment: exchange.settle(moment),
    moves.RESTART: lambda exchange, moment: exchange.restart(moment),
    moves.JOIN: lambda exchange, moment: exchange.join(moment),
    **tree_exchange.DOES,
}


class VirtualClock:
    """Does the moves of a timeline around the training steps.

    Args:
        bank: of the workers.
    """

    def __init__(self, bank: Bank) -> None:
        self._bank = bank
        self._turns: Turns | None = None
        self._may_wait = self._has_early = True
        with tf.init_scope(), tf.device(_HOST):
            # Steps that were taken, then the step that comes, as a `Move`.
            self.state = tf.Variable(
                [0] * (1 + _OF_STEP), trainable=False, dtype=tf.int64
            )
            # How many had been taken before the newest one that was not
            # skipped.
            self._taken = tf.Variable(-1, trainable=False, dtype=tf.int64)
            # s, in timelines of earlier optimizers.
            self.before_first = tf.Variable(
                0.0, trainable=False, dtype=tf.float64
            )
        # What a policy has decided, and has seen; None if there is none.
        self.decided: list[tf.Variable] | None = None

    def begin(self, turns: Turns) -> None:
        """Begins at the beginning of a timeline, in eager code.

        Args:
            turns: of the timeline.

        Raises:
            ValueError: it is one of another number of workers, or empty.
        """
        p = self._bank.num_workers
        timeline = turns.timeline
        self._may_wait = bool(turns.waits)
        self._has_early = turns.has_early
        if timeline.num_workers != p:
            raise ValueError(
                f"The timeline is one of {timeline.num_workers} workers. "
                f"Received: num_workers={p}."
            )
        seconds = self.seconds
        self._turns = turns
        self._begin_to_decide(turns)
        if turns.turn(0).step is None:
            raise ValueError(
                f"The timeline has no step of training. Received: {timeline!r}."
            )
        _, step = turns.early(0)
        with tf.init_scope():
            self.before_first.assign(seconds)
            self.state.assign([0, *step])
            self._bank.give_turn_to(int(step[1]))

    def _begin_to_decide(self, turns: Turns) -> None:
        decisions, self.decided = turns.decisions, None
        if decisions is None:
            return
        decisions.begin()
        with tf.init_scope(), tf.device(_HOST):
            self.decided = [
                tf.Variable(value, trainable=False, shape=shape)
                for value, shape in zip(
                    decisions.state,
                    ([None], [self._bank.num_workers, 3]),
                    strict=True,
                )
            ]

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
        before = float(self.before_first.numpy())
        return before + (0.0 if turns is None else turns.time)

    def coming_workers(self) -> Iterator[int]:
        """Whose turns will be, from now on.

        Before there is an optimizer, in the order of their numbers.
        """
        if self._turns is None:
            yield from itertools.cycle(range(self._bank.num_workers))
        else:
            all_moves = self._turns.timeline.moves()
            steps = (m.worker for m in all_moves if m.kind in moves.STEPS)
            yield from itertools.islice(steps, self.steps, None)

    def written(self) -> tf.Tensor:
        """See `Turns.written`, as of now."""
        with tf.device(_HOST):
            written = tf.numpy_function(
                lambda number: self._known_turns().written(int(number)),
                [self.state[0]],
                tf.int64,
                stateful=True,
            )
        return tf.ensure_shape(written, [self._bank.num_workers])

    def go_on_at(self, state: tf.Tensor) -> None:
        """Goes on where another run has been, of the same timeline.

        Args:
            state: of the other run.
        """
        if self.decided is not None:
            with tf.device(_HOST):
                tf.numpy_function(
                    lambda *decided: self._known_turns().resume(*decided),
                    [variable.read_value() for variable in self.decided],
                    [],
                    stateful=True,
                )
        self._bank.give_turn_to(state[1 + Moment._fields.index("worker")])
        self.state.assign(state)

    def before_step(self, exchange: BankExchange) -> Moment:
        """The gradient is taken, of the worker whose turn it is.

        Returns:
            The moment of the step.
        """
        if self._may_wait:
            self._do_late(exchange)
        moment = Moment(*tf.unstack(self.state[1:]))
        tf.switch_case(
            tf.cast(tf.clip_by_value(moment.kind, 0, 2), tf.int32),
            {
                moves.STEP: lambda: None,
                moves.SETTLING_STEP: lambda: exchange.settle(moment, Live()),
                moves.VISITING_STEP: lambda: exchange.visit(moment, Live()),
            },
        )
        return moment

    def _do_late(self, exchange: BankExchange) -> None:
        """What could wait; nothing of it moves the worker itself."""
        with tf.device(_HOST):
            late = tf.numpy_function(
                self._late, [self.state[0]], tf.int64, stateful=True
            )
        late = tf.ensure_shape(late, [None, _FIELDS])

        def do() -> None:
            self._bank.end_turn()
            self._do(exchange, late)

        tf.cond(tf.shape(late)[0] > 0, do, lambda: None)

    def step_is_taken(self) -> None:
        """It is not skipped, as one is of gradients that are not finite."""
        self._taken.assign(self.state[0])

    def _make_up(self, exchange: BankExchange) -> None:
        """A step was skipped: others and exchanges go on without it."""
        if self._may_wait:
            self.before_step(exchange)
        if exchange.sends == rules.GRADIENT:
            forget_gradients(Live(), exchange.parameters)

    def after_step(self, exchange: BankExchange, may_be_skipped: bool) -> None:
        """A step was taken: does all until the next one.

        Args:
            exchange: of the step.
            may_be_skipped: whether `step_is_taken` tells if it was.
        """
        if may_be_skipped:
            tf.cond(
                tf.equal(self._taken, self.state[0]),
                lambda: None,
                lambda: self._make_up(exchange),
            )
        number = self.state[0] + 1
        early, step = self._next(exchange, number)
        self._bank.end_turn()
        if self._has_early:
            self._do(exchange, tf.ensure_shape(early, [None, _FIELDS]))
        self._bank.begin_turn(step[1])
        self.state.assign(
            tf.concat([number[tf.newaxis], step], 0), read_value=False
        )

    def _next(
        self, exchange: BankExchange, number: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """What comes early before a step, and the step; see `Turns.early`."""
        looks = self.decided is not None
        seen = [exchange.distance()] if looks else []
        with tf.device(_HOST):
            early, step, *decided = tf.numpy_function(
                functools.partial(self._early, exchange.turns),
                [number, *seen],
                [tf.int64, tf.int64, *([tf.uint8, tf.float64] * looks)],
                stateful=True,
            )
        if self.decided is not None:
            for variable, value in zip(self.decided, decided, strict=True):
                value = tf.ensure_shape(value, variable.shape)
                variable.assign(value, read_value=False)
        return early, tf.ensure_shape(step, [_OF_STEP])

    def _early(
        self, turns: Turns | None, number: np.ndarray, *seen: np.ndarray
    ) -> tuple[np.ndarray, ...]:
        if turns is not self._turns:
            raise ValueError(
                "A virtual cluster trains by the optimizer that was built last "
                "in its scope: there virtual time has begun anew. Received: a "
                "step of another optimizer. Give each a "
                "`VirtualClusterStrategy` of its own, or compile the model "
                "again."
            )
        own = self._known_turns()
        if not seen:
            return own.early(int(number))
        own.see(int(number) - 1, float(seen[0]))
        return *own.early(int(number)), *own.decisions.state

    def _late(self, number: np.ndarray) -> np.ndarray:
        return self._known_turns().late(int(number))

    def _known_turns(self) -> Turns:
        if self._turns is None:
            raise ValueError("No optimizer has trained here.")
        return self._turns

    def _do(self, exchange: BankExchange, between: tf.Tensor) -> None:
        """Does moves, one after another; all workers are in their rows."""
        # A graph for each kind that does something, and none for all others:
        # each takes what any of them needs.
        kinds = sorted(_DOES.keys() & exchange.kinds)
        branch_of = [
            kinds.index(kind) if kind in kinds else len(kinds)
            for kind in range(len(moves.NAMES))
        ]

        def body(i: tf.Tensor) -> list[tf.Tensor]:
            moment = Moment(*tf.unstack(between[i]))
            does = [
                functools.partial(_DOES[kind], exchange, moment)
                for kind in kinds
            ]
            tf.switch_case(
                tf.gather(branch_of, moment.kind), [*does, lambda: None]
            )
            return [i + 1]

        last = tf.shape(between)[0]
        tf.while_loop(
            lambda i: i < last,
            body,
            [tf.constant(0)],
            parallel_iterations=1,
        )
