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
from tf_elastic.cluster.worker.client import CenterClient
from tf_elastic.cluster.worker.exchanger import Exchanger
from tf_elastic.cluster.worker.moved import Moved
from tf_elastic.cluster.worker.reliable_push import Moment
from tf_elastic.core import protocols
from tf_elastic.strategies import session_end
from tf_elastic.strategies.center_exchange import CenterExchange
from tf_elastic.strategies.chiefs_word import ChiefsWord
from tf_elastic.strategies.elastic_variable import ElasticVariable
from tf_elastic.strategies.host_calls import ANSWER
from tf_elastic.strategies.host_calls import HostCalls
from tf_elastic.strategies.host_calls import TracedStep
from tf_elastic.strategies.host_calls import kind_of
from tf_elastic.strategies.step_times import StepTimer
from tf_elastic.strategies.step_times import time_after
from tf_elastic.strategies.worker_clock import WorkerClock
from tf_elastic.strategies.worker_group import Alone

# Reads that follow each other within this time, with no training in between,
# are of one center: a file that is being saved, say.
_ONE_LOOK_S = 1.0

# So long the chief waits at its end for others that are training.
_CLOSING_S = 10.0


class CenterSession:
    """One optimizer's place at the center: its exchanges, clock and rate.

    A process has one for each optimizer; they know nothing of each other.

    Args:
        client: of this process, for this optimizer's center.
        trains: whether this process is a worker.
        samples: the variable that counts those which the process trains on.
        timer: is told how long exchanges take.
        group: the processes that are this worker together; of one that does
            not lead, `trains` is False.
    """

    _calls = HostCalls

    def __init__(
        self,
        client: CenterClient,
        trains: bool,
        samples: tf.Variable,
        timer: StepTimer,
        group: Alone | None = None,
    ) -> None:
        self.client = client
        self.group = group or Alone()
        self.chiefs_word = ChiefsWord(client)
        self.exchange: CenterExchange | None = None
        self.exchanger: Exchanger | None = None
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

    def begin_with(self, exchange: CenterExchange, clock: WorkerClock) -> None:
        """Takes the first exchange of its optimizer."""
        self.exchange, self.clock = exchange, clock
        if not tf.executing_eagerly():
            if self.group.size > 1:
                raise RuntimeError(
                    "A group of processes begins together, with a step whose "
                    "optimizer is built. Received: one that its first step "
                    "builds. Call `optimizer.build(model.trainable_variables)` "
                    "in the strategy's scope before."
                )
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

        def begin() -> None:
            kind, _, rate, steps, *arrays = self.group.ask(
                functools.partial(self._calls(self).begin, step),
                [self.clock.steps(), self.clock.rate(), *exchange.points()],
                [*ANSWER, tf.int64],
                exchange.dtypes,
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
        then: Callable[[], None],
    ) -> None:
        """Exchanges if `due`; see `ElasticMultiWorkerExtended.exchange_if`."""
        samples = self._samples.read_value()
        protocol = exchange.protocol
        if protocol.answers_later:
            # What has left at a period's end leaves not again at the start
            # of the next.
            now = tf.cast(clock, tf.int64)
            due = tf.logical_and(due, tf.not_equal(now, self._left_at))

        moment = [clock, samples, exchange.numbers(clock), self.clock.rate()]
        calls = HostCalls(self, exchange.at_rest)

        def ordered(function: Callable, *inputs: Any) -> Any:
            kind, moving_rate, rate, *arrays = self.group.ask(
                function, [*moment, *inputs], ANSWER, exchange.dtypes
            )
            self.clock.take_rate(rate)
            return kind, tf.ensure_shape(moving_rate, ()), arrays

        def by_protocol() -> None:
            made: list[tf.Tensor] = []
            answer: Any = None
            for kind in protocol.plan(protocol.moments[0]):
                # What was made is not of what an answer makes of the worker.
                with tf.control_dependencies(made):
                    if kind == protocols.MAKE:
                        made = exchange.outgoing()
                    elif kind == protocols.COLLECT:
                        answer = ordered(calls.collect)
                    elif kind in (protocols.PUSH, protocols.MEET):
                        answer = ordered(calls.now, *made)
                    elif kind == protocols.SETTLE:
                        exchange.follow(*answer)
                    elif kind == protocols.SEND:
                        sent = [*moment, *made]
                        exchange.sent(
                            *self.group.ask(calls.send, sent, [tf.bool])
                        )
                        self._left_at.assign(now)

        def admm() -> None:
            arrays = tf.cond(
                exchange.reads(clock),
                lambda: ordered(calls.read_points)[2],
                exchange.points,
            )
            brought = exchange.step(clock, arrays)

            def bring() -> None:
                self.group.ask(calls.push, [*moment, *brought], [])

            tf.cond(exchange.ends(clock), bring, lambda: None)

        def run() -> None:
            begin = time_after([])
            with tf.control_dependencies([begin]):
                if exchange.takes_steps:
                    admm()
                else:
                    by_protocol()
                self._follow_leader(calls)
            self._timer.exchange_took(begin, time_after(exchange.results()))
            then()

        tf.cond(due, run, lambda: None)

    def _follow_leader(self, calls: HostCalls) -> None:
        """All of a group go on at its leader's rate, or stop with it."""
        if self.group.size == 1:
            return
        rate, is_stopped = self.group.ask(
            calls.leads, [self.clock.rate()], [tf.float64, tf.bool]
        )
        if not self.group.is_leader:
            self.clock.take_rate(rate)
            tf.numpy_function(calls.follows, [is_stopped], [])

    def refresh_center(self, exchange: CenterExchange) -> None:
        """Reads the center into this process' copies of it."""
        any_, *arrays = tf.numpy_function(
            HostCalls(self).read, [], [tf.bool, *exchange.dtypes]
        )
        exchange.show_if(any_, arrays)

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
        if not self.group.is_leader and bool(self._is_fresh.numpy()):
            # Something to look at; how it begins the leader says.
            self.client.greet(self.exchange.layout)

    def hear_of_others(self) -> bool:
        """Waits for the center, if this worker has not joined yet.

        Returns:
            False if it is for this one, the chief, to give its first values.
        """
        if self.exchange is None or not self._trains or self.client.joined:
            return True
        return self.client.greet(self.exchange.layout)

    def join(self) -> None:
        """Joins, in eager code; a worker that is elsewhere moves there.

        Of a group its leader does; the others move when the first step begins.
        """
        if self.exchanger is not None or not self.group.is_leader:
            return
        exchange = self.exchange
        moved = self.enter([tensor.numpy() for tensor in exchange.points()])
        if moved.restart:
            exchange.restart(moved.arrays)
        else:
            exchange.show(moved.arrays)
        self.clock.go_on_from(self.client.clock)

    def enter(self, values: Sequence[np.ndarray]) -> Moved:
        """Joins; `client.clock` is then the worker's.

        Args:
            values: the worker's, one array for each section.

        Returns:
            Where to begin: at the center, or to go on as its first values.
        """
        exchange = self.exchange
        center = self.client.join(exchange.layout, list(values))
        entered = Exchanger(self.client, exchange.protocol.name, exchange.rates)
        entered.begins(Moment(self.client.clock, 0))
        self.exchanger = entered
        return Moved(kind_of(values, center), center)

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
            center = self.center()
            if center:
                self.exchange.show(center)
        finally:
            self._last_look = time.monotonic()
            self._looked_at = int(self._samples.numpy())

    def center(self) -> list[np.ndarray] | None:
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

    def close(
        self,
        clock: tf.Tensor,
        closing: bool,
        at_rest: Sequence[Sequence[int]] = (),
    ) -> None:
        """Training is over for now: the center gets what it has not yet.

        Args:
            clock: the worker's local steps.
            closing: whether there is one exchange more.
            at_rest: runs of what the last step has not trained.
        """
        is_fresh = self.group.size > 1 and bool(self._is_fresh.numpy())
        if is_fresh or (self.exchanger is None and self.group.is_leader):
            return
        clock = tf.cast(clock, tf.int64)
        moment = Moment(
            int(clock),
            int(self._samples),
            self.exchange.numbers(clock).numpy(),
            at_rest,
        )
        self.client.barrier_s = min(_CLOSING_S, self.client.barrier_s)
        session_end.bring_what_is_left(self, moment, closing)
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

    def stop(self, finished: bool) -> None:
        """Leaves the center. Never raises."""
        if self.exchanger is not None:
            self.client.samples = int(self._samples.numpy())
            self.exchanger.stop(finished)
        self.client.leave(finished)
