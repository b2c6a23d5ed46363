"""What one optimizer of this process has to do with its center."""

import functools
import time
import weakref
from collections.abc import Callable
from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf
from absl import logging

from tf_elastic.cluster import errors
from tf_elastic.cluster.worker import exchanger
from tf_elastic.cluster.worker.client import CenterClient
from tf_elastic.strategies.center_exchange import CenterExchange
from tf_elastic.strategies.chiefs_word import ChiefsWord
from tf_elastic.strategies.elastic_variable import ElasticVariable
from tf_elastic.strategies.step_times import StepTimer
from tf_elastic.strategies.step_times import time_after
from tf_elastic.strategies.worker_clock import WorkerClock

# What an order of `exchanger` may be here: the worker is at the center.
_SHOW = 4

# Reads that follow each other within this time, with no training in between,
# are of one center: a file that is being saved, say.
_ONE_LOOK_S = 1.0

# So long the chief waits at its end for others that are training.
_CLOSING_S = 10.0


class TracedStep:
    """A training step that was traced, or is taken."""

    def __init__(self) -> None:
        self.trained_by: set[CenterSession] = set()


class CenterSession:
    """One optimizer's place at the center: its exchanges, clock and rate.

    A process has one for each optimizer; they know nothing of each other.

    Args:
        client: of this process, for this optimizer's center.
        trains: whether this process is a worker.
        samples: the variable that counts those which the process trains on.
        timer: is told how long exchanges take.
    """

    def __init__(
        self,
        client: CenterClient,
        trains: bool,
        samples: tf.Variable,
        timer: StepTimer,
    ) -> None:
        self.client = client
        self.chiefs_word = ChiefsWord(client)
        self.exchange: CenterExchange | None = None
        self.exchanger: exchanger.Exchanger | None = None
        self.clock: WorkerClock | None = None
        self._trains = trains
        self._samples = samples
        self._timer = timer
        with tf.init_scope(), tf.device("/device:CPU:0"):
            # The worker's clock when parameters last left.
            self._left_at = tf.Variable(-1, dtype=tf.int64)
            # Whether no step has been taken yet.
            self._is_fresh = tf.Variable(True)
        self._last_look = 0.0
        self._looked_at = -1  # samples trained on
        self._is_unread = False  # told, too
        # A closure over self would keep this alive to the end.
        weakref.finalize(self, client.leave).atexit = False

    def begin_with(
        self, exchange: CenterExchange, clock: WorkerClock
    ) -> None:
        """Takes the first exchange of its optimizer."""
        self.exchange, self.clock = exchange, clock
        if not tf.executing_eagerly():
            # The first step is being traced, from its middle on: there is no
            # later chance.
            with tf.init_scope():
                self.join()

    def go_on_with(self, exchange: CenterExchange, clock: WorkerClock) -> None:
        """Takes the exchange of an optimizer that follows upon another."""
        self.exchange, self.clock = exchange, clock
        self.exchanger.follow_rates(exchange.rates)
        self._left_at.assign(-1)

    def trained(self) -> list[ElasticVariable]:
        """The variables that its optimizer trains, or has trained."""
        if self.exchange is None:
            return []
        return [parameter.variable for parameter in self.exchange.parameters]

    def exchanged(self) -> list[ElasticVariable]:
        """These, and the statistics that are taken along."""
        if self.exchange is None:
            return []
        return [*self.trained(), *self.exchange.statistics]

    # In a graph.

    def begin_if_fresh(self, step: TracedStep) -> None:
        """Begins at the center, if this is the very first training step.

        In a graph, only when it runs: all of it is traced by then.
        """
        exchange = self.exchange
        outputs = [
            tf.int32, tf.float64, tf.float64, *exchange.dtypes, tf.int64
        ]

        def begin() -> None:
            kind, _, rate, *arrays, steps = tf.numpy_function(
                functools.partial(self._begin, step),
                [self.clock.steps(), self.clock.rate(), *exchange.points()],
                outputs,
            )
            exchange.begin(kind, arrays)
            self.clock.take_rate(rate)
            self.clock.go_on_from(steps)

        tf.cond(self._is_fresh, begin, lambda: None)

    def step_ended(self) -> None:
        """Its optimizer has taken a step."""
        self._is_fresh.assign(False)

    def exchange_if(
        self,
        due: tf.Tensor,
        exchange: CenterExchange,
        clock: tf.Tensor,
        then: Callable[[], Any],
    ) -> None:
        """Exchanges if `due`; see `ElasticMultiWorkerExtended.exchange_if`."""
        outputs = [tf.int32, tf.float64, tf.float64, *exchange.dtypes]
        samples = self._samples.read_value()
        protocol = exchange.protocol
        if protocol.answers_later:
            # What has left at a period's end leaves not again at the start
            # of the next.
            now = tf.cast(clock, tf.int64)
            due = tf.logical_and(due, tf.not_equal(now, self._left_at))

        moment = [
            clock, samples, exchange.numbers(clock), self.clock.rate()
        ]

        def ordered(function: Callable, *inputs: Any) -> Any:
            kind, moving_rate, rate, *arrays = tf.numpy_function(
                function, [*moment, *inputs], outputs
            )
            self.clock.take_rate(rate)
            return kind, moving_rate, arrays

        def overlapped() -> None:
            if protocol.settles_first:
                exchange.follow(*ordered(self._collect))
                outgoing = exchange.outgoing()
            else:
                outgoing = exchange.outgoing()
                with tf.control_dependencies(outgoing):
                    exchange.follow(*ordered(self._collect))
            exchange.sent(
                tf.numpy_function(self._send, [*moment, *outgoing], tf.bool)
            )
            self._left_at.assign(now)

        def admm() -> None:
            arrays = tf.cond(
                exchange.reads(clock),
                lambda: ordered(self._read_points)[2],
                exchange.points,
            )
            brought = exchange.step(clock, arrays)

            def bring() -> None:
                tf.numpy_function(self._push, [*moment, *brought], [])

            tf.cond(exchange.ends(clock), bring, lambda: None)

        def run() -> None:
            begin = time_after([])
            with tf.control_dependencies([begin]):
                if exchange.takes_steps:
                    admm()
                elif protocol.answers_later:
                    overlapped()
                else:
                    exchange.follow(*ordered(self._now, *exchange.outgoing()))
            self._timer.exchange_took(begin, time_after(exchange.results()))
            then()

        tf.cond(due, run, lambda: None)

    def refresh_center(self, exchange: CenterExchange) -> None:
        """Reads the center into this process' copies of it."""
        any_, *arrays = tf.numpy_function(
            self._read, [], [tf.bool, *exchange.dtypes]
        )
        exchange.show_if(any_, arrays)

    # From the graph.

    def _begin(
        self, step: TracedStep, clock: Any, rate: Any, *points: np.ndarray
    ) -> list[Any]:
        """Begins at the center, for the first training step."""
        if self not in step.trained_by:
            nothing = [np.int32(exchanger.NOTHING), np.float64(0.0)]
            return [*nothing, np.float64(np.nan), *self._empty(), np.int64(0)]
        if self.exchanger is None:
            order = self._enter(points)
        else:
            order = self.exchanger.begin(exchanger.Moment(clock, 0))
            order = order._replace(kind=_kind_of(points, order.arrays))
        self.chiefs_word.begins(rate)
        return [*self._outputs(order), np.int64(self.client.clock)]

    def _now(
        self,
        clock: Any,
        samples: Any,
        numbers: Any,
        rate: Any,
        *values: np.ndarray,
    ) -> list[Any]:
        moment = self._moment(clock, samples, numbers, rate)
        order = exchanger.Order(exchanger.NOTHING, 0.0, ())
        if self.exchanger.has_something(moment):
            order = self.exchanger.now(moment, self._laid_out(values))
        return self._outputs(order)

    def _collect(
        self, clock: Any, samples: Any, numbers: Any, rate: Any
    ) -> list[Any]:
        moment = self._moment(clock, samples, numbers, rate)
        return self._outputs(self.exchanger.collect(moment))

    def _send(
        self,
        clock: Any,
        samples: Any,
        numbers: Any,
        rate: Any,
        *values: np.ndarray,
    ) -> np.bool_:
        del rate
        moment = exchanger.Moment(clock, samples, numbers)
        if self.exchanger.in_flight or not self.exchanger.has_something(
            moment
        ):
            return np.False_
        self.exchanger.send(moment, self._laid_out(values))
        return np.True_

    def _moment(
        self, clock: Any, samples: Any, numbers: Any, rate: Any
    ) -> exchanger.Moment:
        """Of an exchange; the chief's word is told, or heard, with it."""
        self.join()
        self.client.trains = True
        self.chiefs_word.tell(rate)
        return exchanger.Moment(clock, samples, numbers)

    def _laid_out(self, values: Sequence[np.ndarray]) -> list[np.ndarray]:
        room = self.exchanger.room_to_send
        return self.exchange.laid_out(values, room)

    def _read_points(
        self, clock: Any, samples: Any, numbers: Any, rate: Any
    ) -> list[Any]:
        moment = self._moment(clock, samples, numbers, rate)
        return self._outputs(self.exchanger.read(moment))

    def _push(
        self,
        clock: Any,
        samples: Any,
        numbers: Any,
        rate: Any,
        *values: np.ndarray,
    ) -> list[Any]:
        del rate
        self.exchanger.push(
            exchanger.Moment(clock, samples, numbers), values
        )
        return []

    def _read(self) -> list[Any]:
        center = self._center()
        return [np.bool_(bool(center)), *(center or self._empty())]

    def _outputs(self, order: exchanger.Order) -> list[Any]:
        """What a graph gets of an order."""
        arrays = order.arrays
        if order.kind == exchanger.NOTHING:
            arrays = self._empty()
        elif order.kind != exchanger.PULL or not self.exchange.only_reads:
            # TensorFlow may keep what it is given, and so does the client.
            arrays = self.exchange.layout.copies(arrays)
        return [
            np.int32(order.kind),
            np.float64(order.moving_rate),
            np.float64(self.chiefs_word.rate_to_take()),
            *arrays,
        ]

    def _empty(self) -> list[np.ndarray]:
        return [
            np.empty(0, layout_dtype.as_numpy_dtype)
            for layout_dtype in self.exchange.dtypes
        ]

    # Joining, and looking at the center.

    def pass_begins(self) -> None:
        """Waits for the center if this worker has not joined yet.

        It joins when its first step begins; the chief now, where it has to
        give the center its first values.
        """
        self.chiefs_word.pass_begins()
        if self.exchange is None:
            return
        there = self.hear_of_others()
        if self._trains and (self.exchange.joins_at_once or not there):
            self.join()

    def hear_of_others(self) -> bool:
        """Waits for the center, if this worker has not joined yet.

        Returns:
            False if it is for this one, the chief, to give its first values.
        """
        if self.exchange is None or not self._trains or self.client.joined:
            return True
        return self.client.greet(self.exchange.layout)

    def join(self) -> None:
        """Joins, in eager code; a worker that is elsewhere moves there."""
        if self.exchanger is not None:
            return
        exchange = self.exchange
        order = self._enter([tensor.numpy() for tensor in exchange.points()])
        if order.kind == exchanger.RESTART:
            exchange.restart(order.arrays)
        else:
            exchange.show(order.arrays)
        self.clock.go_on_from(self.client.clock)

    def _enter(self, values: Sequence[np.ndarray]) -> exchanger.Order:
        """Joins; `client.clock` is then the worker's.

        Args:
            values: the worker's, one array for each section.

        Returns:
            Where to begin: at the center, or to go on as its first values.
        """
        exchange = self.exchange
        center = self.client.join(exchange.layout, list(values))
        entered = exchanger.Exchanger(
            self.client, exchange.protocol.name, exchange.rates
        )
        entered.begins(exchanger.Moment(self.client.clock, 0))
        self.exchanger = entered
        return exchanger.Order(_kind_of(values, center), 0.0, center)

    def look_if_old(self) -> None:
        """Shows the newest center, if it was not looked at just now."""
        if self.exchange is None or not (
            self.client.joined or not self._trains
        ):
            return
        now = time.monotonic()
        if (
            now - self._last_look > _ONE_LOOK_S
            or int(self._samples.numpy()) != self._looked_at
        ):
            self.look()
        self._last_look = time.monotonic()

    def look(self) -> None:
        """Reads the center into this process' copies of it."""
        if self.exchange is None:
            return
        try:
            center = self._center()
            if center:
                self.exchange.show(center)
        finally:
            self._last_look = time.monotonic()
            self._looked_at = int(self._samples.numpy())

    def _center(self) -> list[np.ndarray] | None:
        """The center as it is now; None if it cannot be read."""
        try:
            center = self.client.look(self.exchange.layout)
        except errors.ClusterError as error:
            if not self._is_unread:
                logging.warning(
                    "The center cannot be read (%s): what is evaluated and "
                    "saved is what was read before, until it can.",
                    error,
                )
            self._is_unread = True
            return None
        self._is_unread = False
        return center

    # Ending.

    def close(self, clock: tf.Tensor, closing: bool) -> None:
        """Training is over for now: the center gets what it has not yet.

        Args:
            clock: the worker's local steps.
            closing: whether there is one exchange more.
        """
        if self.exchanger is None:
            return
        clock = tf.cast(clock, tf.int64)
        moment = exchanger.Moment(
            int(clock),
            int(self._samples),
            self.exchange.numbers(clock).numpy(),
        )
        self.client.barrier_s = min(_CLOSING_S, self.client.barrier_s)
        if self.exchanger.in_flight:
            self._follow_now(self.exchanger.collect(moment))
        left = []
        is_late = self.exchanger.in_flight
        if closing and self.exchanger.has_something(moment) and not is_late:
            left = [tensor.numpy() for tensor in self.exchange.left_over()]
        if left and self.exchange.takes_steps:
            self.exchanger.push(moment, left)
        elif left:
            self.exchange.sent(tf.constant(True))
            values = self._laid_out(left)
            self._follow_now(self.exchanger.now(moment, values))
        self.client.barrier_s = self.client.timeouts.barrier_s
        self.client.trains = False
        self.client.signal()

    def wait_for_others(self) -> None:
        """Waits a while for those that are at their ends, too."""
        late = self.client.wait_for_others(_CLOSING_S)
        if late:
            logging.warning(
                "The chief waited %g s for worker(s) %s, which train on: "
                "what they do from now on is not in what it saves.",
                _CLOSING_S,
                ", ".join(map(str, late)),
            )

    def _follow_now(self, order: exchanger.Order) -> None:
        """Does what an order says, in eager code."""
        kind, moving_rate, rate, *arrays = map(
            tf.constant, self._outputs(order)
        )
        self.exchange.follow(kind, moving_rate, arrays)
        self.clock.take_rate(rate)

    def stop(self, finished: bool) -> None:
        """Leaves the center. Never raises."""
        if self.exchanger is not None:
            self.client.samples = int(self._samples.numpy())
            self.exchanger.stop(finished)
        self.client.leave(finished)


def _kind_of(
    points: Sequence[np.ndarray], center: Sequence[np.ndarray]
) -> int:
    """What a worker that begins is to do: nothing if it is there already."""
    is_there = all(
        mine.tobytes() == theirs.tobytes()
        for mine, theirs in zip(points, center, strict=True)
    )
    return _SHOW if is_there else exchanger.RESTART
