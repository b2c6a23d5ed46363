"""What one optimizer of a leaf has to do with the tree."""

from collections.abc import Callable
from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from tf_elastic.cluster.worker.leaf_exchanges import LeafExchanges
from tf_elastic.cluster.worker.moved import NOTHING
from tf_elastic.cluster.worker.moved import Moved
from tf_elastic.cluster.worker.reliable_push import Moment
from tf_elastic.strategies.center_exchange import CenterExchange
from tf_elastic.strategies.center_session import CenterSession
from tf_elastic.strategies.host_calls import HostCalls
from tf_elastic.strategies.host_calls import Outputs
from tf_elastic.strategies.host_calls import TracedStep
from tf_elastic.strategies.host_calls import Value
from tf_elastic.strategies.host_calls import kind_of
from tf_elastic.strategies.step_times import time_after


class _LeafCalls(HostCalls):
    """Of a leaf's session; each is called by `tf.numpy_function`."""

    def begin(self, step: TracedStep, *inputs: Value) -> Outputs:
        """Begins at the parent; where that is leaves at once."""
        outputs = super().begin(step, *inputs)
        if self._session in step.trained_by:
            self._session.exchanger.first_leaves()
        return outputs

    def stepped(
        self,
        clock: np.int64,
        samples: np.int64,
        numbers: np.ndarray,
        rate: np.float64,
    ) -> Outputs:
        """What there is to do after a step."""
        session = self._session
        session.join()
        session.chiefs_word.tell(rate)
        moment = Moment(int(clock), int(samples), numbers)
        sends, arrived = session.exchanger.stepped(moment)
        told = session.chiefs_word.rate_to_take()
        return [np.bool_(sends), np.int32(arrived), np.float64(told)]

    def send(
        self,
        clock: np.int64,
        samples: np.int64,
        numbers: np.ndarray,
        *values: np.ndarray,
    ) -> Outputs:
        """Lets a message leave."""
        moment = Moment(int(clock), int(samples), numbers)
        self._session.exchanger.send(moment, self.laid_out(values))
        return []

    def take(
        self, clock: np.int64, samples: np.int64, numbers: np.ndarray
    ) -> Outputs:
        """What has arrived first."""
        moment = Moment(int(clock), int(samples), numbers)
        moved = self._session.exchanger.take(moment)
        arrays = moved.arrays if moved.kind != NOTHING else self._empty()
        scalars = np.int32(moved.kind), np.float64(moved.moving_rate)
        return [*scalars, np.float64(np.nan), *arrays]

    def laid_out(self, values: Sequence[Value]) -> list[np.ndarray]:
        """One flat array for each section, of what is outgoing."""
        exchange: Any = self._session.exchange
        return exchange.laid_out(values, exchange.layout.empty)


class TreeSession(CenterSession):
    """One optimizer's place in a tree: it sends, and follows what comes."""

    exchanger: LeafExchanges | None
    _calls = _LeafCalls

    def enter(self, values: Sequence[np.ndarray]) -> Moved:
        """Joins the parent; see `CenterSession.enter`."""
        exchange = self.exchange
        center = self.client.join(exchange.layout, list(values))
        rule = exchange.protocol.rule
        entered = LeafExchanges(self.client, rule, exchange.rates)
        entered.begins(Moment(self.client.clock, 0), center)
        self.exchanger = entered
        return Moved(kind_of(values, center), center)

    def exchange_if(
        self,
        due: tf.Tensor,
        exchange: CenterExchange,
        clock: tf.Tensor,
        then: Callable[[], None],
    ) -> None:
        """After each local step: sends if that is due, follows what came.

        Args:
            due: of the optimizer's own period, which does not count here.
            exchange: its.
            clock: the worker's local steps.
            then: called when something was sent.
        """
        del due
        now = tf.cast(clock, tf.int64)
        calls = _LeafCalls(self)
        samples = self._samples.read_value()
        numbers = exchange.numbers(clock)
        moment = [now, samples, numbers]
        outputs = [tf.int32, tf.float64, tf.float64, *exchange.dtypes]

        def send() -> None:
            tf.numpy_function(calls.send, [*moment, *exchange.outgoing()], [])
            then()

        def follow(count: tf.Tensor) -> list[tf.Tensor]:
            kind, rate, _, *arrays = tf.numpy_function(
                calls.take, moment, outputs
            )
            exchange.follow(kind, tf.ensure_shape(rate, ()), arrays)
            return [count + 1]

        def exchanges(sends: tf.Tensor, arrived: tf.Tensor) -> None:
            begin = time_after([])
            with tf.control_dependencies([begin]):
                tf.cond(sends, send, lambda: None)
                tf.while_loop(
                    lambda count: count < arrived, follow, [tf.constant(0)]
                )
            self._timer.exchange_took(begin, time_after(exchange.results()))

        def step() -> None:
            # Not twice at one clock: while gradients are accumulated nothing
            # is to move.
            self._left_at.assign(now)
            sends, arrived, rate = tf.numpy_function(
                calls.stepped,
                [*moment, self.clock.rate()],
                [tf.bool, tf.int32, tf.float64],
            )
            sends, arrived = (tf.ensure_shape(v, ()) for v in (sends, arrived))
            self.clock.take_rate(tf.ensure_shape(rate, ()))
            tf.cond(
                tf.logical_or(sends, arrived > 0),
                lambda: exchanges(sends, arrived),
                lambda: None,
            )

        tf.cond(tf.not_equal(now, self._left_at), step, lambda: None)

    def close(
        self,
        clock: tf.Tensor,
        closing: bool,
        at_rest: Sequence[Sequence[int]] = (),
    ) -> None:
        """Training is over for now: the last message leaves."""
        del at_rest
        if self.exchanger is None:
            return
        clock = tf.cast(clock, tf.int64)
        numbers = self.exchange.numbers(clock).numpy()
        moment = Moment(int(clock), int(self._samples), numbers)
        if closing and self.exchanger.has_something(moment):
            left = [tensor.numpy() for tensor in self.exchange.left_over()]
            values = _LeafCalls(self).laid_out(left)
            self.exchanger.send(moment, values, everywhere=True)
        self.exchanger.ends(moment.clock)
        self.client.flush(self.client.timeouts.exchange_s)
        self.client.trains = False
        self.client.signal()


class AnsweredSession(CenterSession):
    """One optimizer's place in a tree whose nodes answer, as in a star.

    What it exchanges with is its parent, in the period of the tree.
    """

    def exchange_if(
        self,
        due: tf.Tensor,
        exchange: CenterExchange,
        clock: tf.Tensor,
        then: Callable[[], None],
    ) -> None:
        """Exchanges if the tree's period divides the clock."""
        del due
        period = self.client.place.up_period
        in_tree = tf.equal(tf.cast(clock, tf.int64) % period, 0)
        super().exchange_if(in_tree, exchange, clock, then)

    def enter(self, values: Sequence[np.ndarray]) -> Moved:
        """Joins the parent, and tells it by what all nodes move."""
        moved = super().enter(values)
        numbers = self.exchange.numbers(tf.constant(self.client.clock))
        self.client.tell_rates(
            *(
                self.exchange.rates(children, self.client.clock, numbers)
                for children in (2, 3)
            )
        )
        return moved
