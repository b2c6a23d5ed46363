"""Elastic training on many processes and machines."""

import atexit
import contextlib
import dataclasses
import functools
import sys
import time
import weakref
from collections.abc import Callable
from collections.abc import Iterator
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from absl import logging

from tf_elastic import compat
from tf_elastic.cluster import at_exit
from tf_elastic.cluster import codec
from tf_elastic.cluster import errors
from tf_elastic.cluster import exchanger
from tf_elastic.cluster.client import CenterClient
from tf_elastic.cluster.configuration import ClusterConfiguration
from tf_elastic.cluster.configuration import Security
from tf_elastic.cluster.link import Counts
from tf_elastic.cluster.link import Timeouts
from tf_elastic.optimizers import methods
from tf_elastic.optimizers.exchange_rules import AdmmRule
from tf_elastic.optimizers.exchange_rules import ElasticParameter
from tf_elastic.optimizers.exchange_rules import ElasticRule
from tf_elastic.strategies.center_exchange import CenterExchange
from tf_elastic.strategies.center_exchange import ElasticCenterExchange
from tf_elastic.strategies.center_push import AdmmCenterExchange
from tf_elastic.strategies.center_push import PushCenterExchange
from tf_elastic.strategies.chiefs_word import ChiefsWord
from tf_elastic.strategies.elastic_strategy import ElasticExtended
from tf_elastic.strategies.elastic_strategy import ElasticStrategy
from tf_elastic.strategies.elastic_strategy import check_devices
from tf_elastic.strategies.step import Step
from tf_elastic.strategies.step_times import time_after
from tf_elastic.strategies.variables import ElasticVariable
from tf_elastic.strategies.worker_clock import WorkerClock

# What an order of `exchanger` may be here: the worker is at the center.
_SHOW = 4

# Reads that follow each other within this time, with no training in between,
# are of one center: a file that is being saved, say.
_ONE_LOOK_S = 1.0

# So long the chief waits at its end for others that are training.
_CLOSING_S = 10.0


class ElasticMultiWorkerStrategy(ElasticStrategy):
    r"""Trains one model on many processes that do not wait for each other.

    Each process runs the same script and is one elastic worker. It takes its
    own steps on its own data; every `communication_period` steps (an argument
    of the optimizer) it exchanges with the center, which lives on parameter
    servers (job `ps`, started by `python -m tf_elastic.cluster.ps`).
    `evaluate`, `predict`, `validation_data`, `save` and all callbacks see the
    center. Stock `fit` is all there is to call.

    The devices of a process are mirrored inside it: its gradients are summed
    over them at each step, so for Keras this is a local strategy, and the
    batch size is that of one worker.

    Any process may die. The others go on; a worker that is started again
    begins from the center, and its clock goes on. While a center server is
    away workers train on without it.

    A worker begins at the center as it is when its first step does, after
    that step was traced, and brings nothing before it has taken one. What the
    chief's callbacks decide, to stop or to train at another learning rate,
    reaches all workers with their next exchange.

    Args:
        cluster_resolver: where the processes are: any resolver of
            `tf.distribute.cluster_resolver`, or None for the environment
            variable `TF_CONFIG`, with the jobs `worker` and `ps`, optionally
            `chief` and `evaluator`.
        protocol: when parameters leave and what comes back when:
            `"overlapped"`: they leave at the start of a period, the
            difference comes back and is applied at its end, and training
            goes on meanwhile (section 2.2);
            `"blocking"`: read, difference, push, while training stands still
            (Algorithms 1 and 2);
            `"synchronous"`: all workers meet (eqs. 2.3, 2.4);
            None (default): the optimizer's own, the first in its row of
            `optimizers.METHODS`: `"overlapped"` for the elastic ones.
        compression: of what travels: `"none"` (default), `"bfloat16"` or
            `"int8"`, with error feedback.
        devices: of this process, such as `["GPU:0", "GPU:1"]`; None for all
            its GPUs, or the CPU.
        timeouts: how long to wait for what; None for `Timeouts()`.
        security: token and certificates; None for the environment variables
            `TF_ELASTIC_*`.
        closing: whether there is one exchange more at the end of `fit`, if a
            step was taken since the last one. (What is on its way is waited
            for in any case.)

    Raises:
        ClusterConfigurationError: `TF_CONFIG` is missing or wrong.
        ValueError: an argument is not one of its choices.

    Example:

    ```python
    strategy = te.strategies.ElasticMultiWorkerStrategy()
    with strategy.scope():
        model = te.models.cifar_convnet()
        model.compile(
            te.optimizers.EAMSGD(0.005, communication_period=10),
            loss="sparse_categorical_crossentropy",
            metrics=["accuracy"],
        )
    model.fit(train, epochs=10, steps_per_epoch=390)
    if strategy.is_chief:
        model.save("center.keras")
    ```

    If the center lags behind the workers, lower `communication_period`, or
    compress what travels.

    Reference:
        Zhang (2016), sections 2.2 and 2.3, Algorithms 1 and 2.
    """

    def __init__(
        self,
        cluster_resolver: Any = None,
        protocol: str | None = None,
        compression: str = "none",
        devices: Sequence[str] | None = None,
        timeouts: Timeouts | None = None,
        security: Security | None = None,
        closing: bool = True,
    ) -> None:
        if protocol is not None and protocol not in exchanger.PROTOCOLS:
            raise ValueError(
                f"`protocol` must be one of {exchanger.PROTOCOLS}, or None. "
                f"Received: protocol={protocol!r}."
            )
        if compression not in codec.CODECS:
            raise ValueError(
                f"`compression` must be one of {codec.CODECS}. "
                f"Received: compression={compression!r}."
            )
        if compression != "none" and protocol not in (None, "overlapped"):
            raise ValueError(
                "`compression` needs `protocol=\"overlapped\"`, in which the "
                "center computes the difference. Received: "
                f"compression={compression!r}, protocol={protocol!r}."
            )
        check_devices(devices)
        if cluster_resolver is None:
            self.configuration = ClusterConfiguration.from_tf_config()
        else:
            self.configuration = ClusterConfiguration.from_resolver(
                cluster_resolver
            )
        if self.configuration.role == "ps":
            raise ValueError(
                "A process of the job ps serves the center and trains "
                "nothing. Received: TF_CONFIG of "
                f"{self.configuration.task}. Start it by `python -m "
                "tf_elastic.cluster.ps`."
            )
        super().__init__(
            ElasticMultiWorkerExtended(
                self,
                self.configuration,
                protocol,
                compression,
                devices,
                timeouts,
                security or Security.from_environment(),
                closing,
            )
        )

    @property
    def worker_index(self) -> int | None:
        """Which worker this process is; None if it only looks on."""
        return self.configuration.worker_index

    @property
    def is_chief(self) -> bool:
        """Whether this process is the one that writes files."""
        return self.configuration.is_chief

    def run(
        self,
        fn: Callable,
        args: Any = (),
        kwargs: Any = None,
        options: Any = None,
    ) -> Any:
        """Runs `fn` once on each device; see `ElasticStrategy.run`."""
        self.extended.steps_of(getattr(fn, "__self__", None))
        return super().run(fn, args, kwargs, options)

    def samples_trained(self) -> tuple[int, int]:
        """Samples trained on by (all workers, this worker) so far.

        The first is known to within an exchange, or a second.
        """
        return self.extended.samples_trained()

    def center_status(self) -> list[dict[str, Any] | None]:
        """What each center server says of itself; None for one that is away.

        Among it are "version", "num_workers", "members" and "staleness":
        (number, worker, versions, milliseconds) of the newest pushes.
        """
        return self.extended.client.status()

    def exchange_counts(self) -> Counts:
        """What happened between this worker and the center so far."""
        return dataclasses.replace(self.extended.client.counts)

    def leave(self) -> None:
        """Gives this worker's slot back in the middle of a run.

        The others' alpha = beta / p follows. (At the end of the process the
        slot is given back by itself, as finished: then it does not, so that
        the last ones are not pulled harder.) Training afterwards is refused.
        """
        self.extended.stop(finished=False)


class ElasticMultiWorkerExtended(ElasticExtended):
    """The process is a worker; it exchanges with center servers."""

    local_workers = range(1)  # All devices hold the same.
    holds_center = False

    def __init__(
        self,
        container_strategy: tf.distribute.Strategy,
        configuration: ClusterConfiguration,
        protocol: str | None,
        compression: str,
        devices: Sequence[str] | None,
        timeouts: Timeouts | None,
        security: Security,
        closing: bool,
    ) -> None:
        super().__init__(container_strategy, devices)
        self._closing = closing
        self.configuration = configuration
        self.protocol = protocol
        self.client = CenterClient(
            configuration.centers,
            configuration.worker_index,
            configuration.is_chief,
            configuration.num_workers,
            security,
            compression,
            timeouts,
        )
        with tf.device("/device:CPU:0"):
            self._samples = tf.Variable(0, dtype=tf.int64)
            # The worker's clock when parameters last left.
            self._left_at = tf.Variable(-1, dtype=tf.int64)
            # Whether no step has been taken yet.
            self._is_fresh = tf.Variable(True)
        self._rows: tf.Tensor | None = None
        self._step = _Step()
        self._clock: WorkerClock | None = None
        self._chiefs_word = ChiefsWord(self.client)
        # All workers' samples at which the last epoch that they share ends.
        self.epoch_end: int | None = None
        self._exchange: CenterExchange | None = None
        self._exchanger: exchanger.Exchanger | None = None
        self._last_look = 0.0
        self._looked_at = -1  # samples trained on
        self._looking = False
        self._is_unread = False  # told, too
        self._held = False
        # A closure over self would keep this alive to the end.
        weakref.finalize(self, self.client.leave).atexit = False
        atexit.register(_stop_if_alive, weakref.ref(self))
        at_exit.before_threads_end(_break_off_if_alive, weakref.ref(self))

    # What the optimizers ask for.

    @property
    def num_workers(self) -> int:
        """The number of workers, p, as the center last said."""
        return self.client.num_workers

    def exchange_scheme(self, method: str) -> str:
        """The scheme of `theory.EXCHANGES` that the protocol amounts to.

        Args:
            method: the optimizer's, in `optimizers.METHODS`.

        Raises:
            ValueError: the strategy's protocol is none that the method has.
        """
        synchronous = self._protocol_of(method) == "synchronous"
        return "jacobi" if synchronous else "round_robin"

    def overlaps(self, method: str) -> bool:
        """Whether what comes back is applied a period later.

        To a process that trains nothing nothing does.

        Args:
            method: the optimizer's, in `optimizers.METHODS`.

        Raises:
            ValueError: the strategy's protocol is none that the method has.
        """
        trains = self.configuration.worker_index is not None
        return self._protocol_of(method) == "overlapped" and trains

    def _protocol_of(self, method: str) -> str:
        """What was asked for, or the method's own."""
        allowed = methods.METHODS[method].protocols
        protocol = self.protocol or allowed[0]
        methods.check_choice(method, "protocol", protocol, allowed)
        return protocol

    @property
    def gradient_scale(self) -> float:
        """Undoes Keras' division of the loss by the number of replicas.

        Gradients of several devices are summed, each being of a mean over its
        slice of the batch.
        """
        replicas = self._num_replicas_in_sync
        return 1.0 / (replicas * compat.loss_scale_of(replicas))

    def worker_gradients(self, grads: Sequence[Any]) -> list[Any]:
        """The gradients of this process' worker: summed over its devices."""
        self._check_trains()
        if self._num_replicas_in_sync == 1:
            return list(grads)
        present = [k for k, grad in enumerate(grads) if grad is not None]
        context = tf.distribute.get_replica_context()
        summed = context.all_reduce(
            tf.distribute.ReduceOp.SUM, [grads[k] for k in present]
        )
        result: list[Any] = [None] * len(grads)
        for k, grad in zip(present, summed, strict=True):
            result[k] = grad
        return result

    def first_seed_number(self) -> int:
        """Every device of every worker draws its own random numbers."""
        return (self.configuration.worker_index or 0) * len(self._devices)

    def follow_clock(self, stepper: Any) -> None:
        """Notes the optimizer whose clock counts the local steps."""
        self._clock = WorkerClock(stepper)

    def make_exchange(
        self, rule: Any, jit_compile: bool | str
    ) -> CenterExchange:
        """Prepares the exchange of an optimizer's parameters.

        Raises:
            RuntimeError: another model, or part of this one, trains under
                this strategy already.
            ValueError: the optimizer has no such exchange.
        """
        if self._exchanger is not None:
            return self._next_exchange(rule, jit_compile)
        self.protocol = self._protocol_of(rule.method)
        where = {
            "statistics": self.statistics(),
            "devices": self._devices,
            "num_shards": len(self.configuration.centers),
            "jit_compile": jit_compile,
        }
        if isinstance(rule, ElasticRule):
            overlapped = self.protocol == "overlapped"
            self._exchange = ElasticCenterExchange(rule, overlapped, **where)
        else:
            self._check_not_compressed(rule.method)
            self._exchange = (
                AdmmCenterExchange(rule, **where)
                if isinstance(rule, AdmmRule)
                else PushCenterExchange(rule, self.protocol, **where)
            )
        if not tf.executing_eagerly():
            # The first step is being traced, from its middle on: there is no
            # later chance.
            with tf.init_scope():
                self._join()
        return self._exchange

    def _next_exchange(
        self, rule: Any, jit_compile: bool | str
    ) -> CenterExchange:
        """The exchange of a new optimizer for what is trained already.

        The center has all that it had: what the new one does not train comes
        to rest, and is exchanged as before, so that all workers agree on it.
        """
        before = self._exchange
        parameters = {id(p.variable): p for p in rule.parameters}
        known = [p.variable for p in before.parameters]
        reason = None
        if not isinstance(rule, ElasticRule) or not isinstance(
            before, ElasticCenterExchange
        ):
            reason = f"{rule.method}, that is no elastic averaging"
        elif not set(parameters) <= set(map(id, known)):
            reason = "for variables that the first one does not train"
        if reason:
            raise RuntimeError(
                "An ElasticMultiWorkerStrategy trains one model, whose center "
                "it shares with others. Received: a second optimizer after "
                f"training has begun, {reason}. Give the first optimizer all "
                "that will be trained (`layer.trainable = False` and a new "
                "`compile` may freeze some of it later), or save the model and "
                "start another cluster for it."
            )
        rule = rule._replace(
            parameters=[
                parameters.get(id(variable), ElasticParameter(variable))
                for variable in known
            ]
        )
        self._exchange = ElasticCenterExchange(
            rule,
            self._protocol_of(rule.method) == "overlapped",
            statistics=before.statistics,
            devices=self._devices,
            num_shards=len(self.configuration.centers),
            jit_compile=jit_compile,
        )
        self._exchanger.follow_rates(self._exchange.rates)
        self._left_at.assign(-1)
        return self._exchange

    def narrow(
        self,
        exchange: CenterExchange,
        rule: Any,
        indices: Sequence[int],
        jit_compile: bool | str,
    ) -> CenterExchange:
        """All is exchanged: the others may train what this worker does not.

        Args:
            exchange: that of all.
            rule: of it.
            indices: of the parameters that are trained.
            jit_compile: as in `make_exchange`.
        """
        del rule, indices, jit_compile
        return exchange

    def prepare_closing(self, exchange: CenterExchange) -> None:
        """Tells that training may end between two exchanges."""

    def follow(
        self, variables: Sequence[ElasticVariable], step: Step
    ) -> None:
        """What is not exchanged is this process' own: worker and center."""
        exchanged = {
            id(variable)
            for _, exchange, _ in step.optimizers
            for variable in (
                *exchange.statistics,
                *(parameter.variable for parameter in exchange.parameters),
            )
        }
        for variable in variables:
            if id(variable) in exchanged:
                continue
            for center, worker in zip(
                variable.center_copies, variable.worker_copies, strict=True
            ):
                center.assign(worker.read_value(), read_value=False)

    def exchange_if(
        self,
        due: tf.Tensor,
        exchange: CenterExchange,
        clock: tf.Tensor,
        count: tf.Tensor,
        then: Callable[[], Any],
    ) -> None:
        """Exchanges if `due`, in cross-replica context.

        Args:
            due: boolean scalar.
            exchange: what `make_exchange` returned.
            clock: the worker's local steps, integer scalar.
            count: exchanges before; the center has a count of its own.
            then: called after the exchange, under the same condition.
        """
        del count
        outputs = [tf.int32, tf.float64, tf.float64, *exchange.dtypes]
        samples = self._samples.read_value()
        if self.protocol == "overlapped":
            # What has left at a period's end leaves not again at the start
            # of the next.
            now = tf.cast(clock, tf.int64)
            due = tf.logical_and(due, tf.not_equal(now, self._left_at))

        moment = [
            clock, samples, exchange.numbers(clock), self._clock.rate()
        ]

        def ordered(function: Callable, *inputs: Any) -> Any:
            kind, moving_rate, rate, *arrays = tf.numpy_function(
                function, [*moment, *inputs], outputs
            )
            self._clock.take_rate(rate)
            return kind, moving_rate, arrays

        def overlapped() -> None:
            if isinstance(exchange, ElasticCenterExchange):
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
                if isinstance(exchange, AdmmCenterExchange):
                    admm()
                elif self.protocol == "overlapped":
                    overlapped()
                else:
                    exchange.follow(*ordered(self._now, *exchange.outgoing()))
            self.timer.exchange_took(begin, time_after(exchange.results()))
            then()

        tf.cond(due, run, lambda: None)

    def refresh_center(self, exchange: CenterExchange) -> None:
        """Reads the center into this process' copies of it.

        Args:
            exchange: what `make_exchange` returned.
        """
        any_, *arrays = tf.numpy_function(
            self._read, [], [tf.bool, *exchange.dtypes]
        )
        exchange.show_if(any_, arrays)

    def step_ended(self, exchange: CenterExchange) -> None:
        """Counts the step's samples, and tells the clock."""
        self._step.trains = True
        if self._rows is not None:
            self._samples.assign_add(self._rows)
        self._is_fresh.assign(False)
        super().step_ended(exchange)

    def samples_trained(self) -> tuple[int, int]:
        """Samples of (all workers, this worker); the others' as last heard."""
        own = int(self._samples.numpy())
        self.client.samples = own  # The next sign of life tells it.
        return self.client.samples_of_others + own, own

    def steps_of(self, owner: Any) -> None:
        """Notes the Keras model whose steps are taken, if it is one's."""
        if isinstance(owner, keras.Model):
            self._chiefs_word.is_for(owner)

    @contextlib.contextmanager
    def step_on(self, step: Step) -> Iterator[None]:
        """Inside, all devices take a step on a batch; counts its samples."""
        rows = step.num_rows()
        self._step = _Step()
        self._begin_if_fresh(self._step)
        self._rows = rows
        try:
            with super().step_on(step):
                yield
        finally:
            self._rows = None

    def _begin_if_fresh(self, step: "_Step") -> None:
        """Begins at the center, if this is the very first training step.

        In a graph, only when it runs: all of it is traced by then.
        """
        exchange = self._exchange
        if exchange is None or self.configuration.worker_index is None:
            return
        if tf.executing_eagerly():
            self._join()
            step.trains = True  # Or evaluates, after a look at the center.
        if compat.in_compiled_graph():
            return  # An evaluation; training is refused there.
        outputs = [
            tf.int32, tf.float64, tf.float64, *exchange.dtypes, tf.int64
        ]

        def begin() -> None:
            kind, _, rate, *arrays, steps = tf.numpy_function(
                functools.partial(self._begin, step),
                [self._clock.steps(), self._clock.rate(), *exchange.points()],
                outputs,
            )
            exchange.begin(kind, arrays)
            self._clock.take_rate(rate)
            self._clock.go_on_from(steps)

        tf.cond(self._is_fresh, begin, lambda: None)

    def _check_not_compressed(self, method: str) -> None:
        if self.client.codec != "none":
            raise ValueError(
                "`compression` is for elastic averaging, whose differences "
                "shrink as training goes on. Received: compression="
                f"{self.client.codec!r} with {method}. Leave it out."
            )

    # From the graph.

    def _begin(
        self, step: "_Step", clock: Any, rate: Any, *points: np.ndarray
    ) -> list[Any]:
        """Begins at the center, for the first training step."""
        if not step.trains:
            nothing = [np.int32(exchanger.NOTHING), np.float64(0.0)]
            return [*nothing, np.float64(np.nan), *self._empty(), np.int64(0)]
        if self._exchanger is None:
            order = self._enter(points)
        else:
            order = self._exchanger.begin(exchanger.Moment(clock, 0))
            order = order._replace(kind=_kind_of(points, order.arrays))
        self._chiefs_word.begins(rate)
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
        if self._exchanger.has_something(moment):
            order = self._exchanger.now(moment, self._laid_out(values))
        return self._outputs(order)

    def _collect(
        self, clock: Any, samples: Any, numbers: Any, rate: Any
    ) -> list[Any]:
        moment = self._moment(clock, samples, numbers, rate)
        return self._outputs(self._exchanger.collect(moment))

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
        if self._exchanger.in_flight or not self._exchanger.has_something(
            moment
        ):
            return np.False_
        self._exchanger.send(moment, self._laid_out(values))
        return np.True_

    def _moment(
        self, clock: Any, samples: Any, numbers: Any, rate: Any
    ) -> exchanger.Moment:
        """Of an exchange; the chief's word is told, or heard, with it."""
        self._join()
        self.client.trains = True
        self._chiefs_word.tell(rate)
        return exchanger.Moment(clock, samples, numbers)

    def _laid_out(self, values: Sequence[np.ndarray]) -> list[np.ndarray]:
        room = self._exchanger.room_to_send
        return self._exchange.laid_out(values, room)

    def _read_points(
        self, clock: Any, samples: Any, numbers: Any, rate: Any
    ) -> list[Any]:
        moment = self._moment(clock, samples, numbers, rate)
        return self._outputs(self._exchanger.read(moment))

    def _push(
        self,
        clock: Any,
        samples: Any,
        numbers: Any,
        rate: Any,
        *values: np.ndarray,
    ) -> list[Any]:
        del rate
        self._exchanger.push(
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
        elif order.kind != exchanger.PULL or not self._exchange.only_reads:
            # TensorFlow may keep what it is given, and so does the client.
            arrays = self._exchange.layout.copies(arrays)
        return [
            np.int32(order.kind),
            np.float64(order.moving_rate),
            np.float64(self._chiefs_word.rate_to_take()),
            *arrays,
        ]

    def _empty(self) -> list[np.ndarray]:
        return [
            np.empty(0, layout_dtype.as_numpy_dtype)
            for layout_dtype in self._exchange.dtypes
        ]

    # Joining, and looking at the center.

    def data_pass_begins(self) -> None:
        """Shows the newest center.

        Whoever has not joined waits here until the center is there, and joins
        when its first step begins; the chief before, where it has to give the
        center its first values.
        """
        self._chiefs_word.pass_begins()
        if self._exchange is None:
            return
        there = self.hear_of_others()
        trains = self.configuration.worker_index is not None
        if trains and (self._exchange.joins_at_once or not there):
            self._join()
        self._look()

    def hear_of_others(self) -> bool:
        """Waits for the center, if this worker has not joined yet.

        Returns:
            False if it is for this one, the chief, to give its first values.
        """
        trains = self.configuration.worker_index is not None
        if self._exchange is None or not trains or self.client.joined:
            return True
        return self.client.greet(self._exchange.layout)

    def close(
        self, exchange: CenterExchange, clock: tf.Tensor, count: tf.Tensor
    ) -> None:
        """Training is over for now: the center gets what it has not yet.

        What is on its way is waited for, then there is one exchange more; both
        have the deadline of an exchange. The chief then waits a while for
        those that are at their ends, too, since it saves.

        Args:
            exchange: what `make_exchange` returned.
            clock: the worker's local steps.
            count: exchanges before.
        """
        del count
        self.fit_ends()
        if self._exchanger is None or exchange is not self._exchange:
            return
        clock = tf.cast(clock, tf.int64)
        moment = exchanger.Moment(
            int(clock), int(self._samples), exchange.numbers(clock).numpy()
        )
        self.client.barrier_s = min(_CLOSING_S, self.client.barrier_s)
        if self._exchanger.in_flight:
            self._follow_now(self._exchanger.collect(moment))
        left = []
        is_late = self._exchanger.in_flight
        if (
            self._closing
            and self._exchanger.has_something(moment)
            and not is_late
        ):
            left = [tensor.numpy() for tensor in exchange.left_over()]
        if left and isinstance(exchange, AdmmCenterExchange):
            self._exchanger.push(moment, left)
        elif left:
            exchange.sent(tf.constant(True))
            values = self._laid_out(left)
            self._follow_now(self._exchanger.now(moment, values))
        self.client.barrier_s = self.client.timeouts.barrier_s
        self.client.trains = False
        self.client.signal()
        if self.configuration.is_chief:
            late = self.client.wait_for_others(_CLOSING_S)
            if late:
                logging.warning(
                    "The chief waited %g s for worker(s) %s, which train on: "
                    "what they do from now on is not in what it saves.",
                    _CLOSING_S,
                    ", ".join(map(str, late)),
                )
            self._look()

    def _follow_now(self, order: exchanger.Order) -> None:
        """Does what an order says, in eager code."""
        kind, moving_rate, rate, *arrays = map(
            tf.constant, self._outputs(order)
        )
        self._exchange.follow(kind, moving_rate, arrays)
        self._clock.take_rate(rate)

    def fit_ends(self) -> None:
        """Training is over, until it begins again."""
        self.client.samples = int(self._samples.numpy())
        self._chiefs_word.fit_ends()

    def center_is_read(self) -> None:
        """Shows the newest center, if it was not looked at just now."""
        if self._held or self._looking or not tf.executing_eagerly():
            return
        observes = self.configuration.worker_index is None
        if self._exchange is None or not (observes or self.client.joined):
            return
        now = time.monotonic()
        if (
            now - self._last_look > _ONE_LOOK_S
            or int(self._samples.numpy()) != self._looked_at
        ):
            self._look()
        self._last_look = time.monotonic()

    @contextlib.contextmanager
    def holding_center(self) -> Iterator[None]:
        """Inside, only a new pass over data shows a newer center.

        What is saved then is what was evaluated before.
        """
        self._held = True
        try:
            yield
        finally:
            self._held = False

    def before_step(self) -> None:
        """Joins now, in eager code; the first step begins at the center."""
        if (
            self._exchange is not None
            and self.configuration.worker_index is not None
        ):
            self._join()

    def _check_trains(self) -> None:
        if self.configuration.worker_index is None:
            raise RuntimeError(
                f"A process of the job {self.configuration.role} looks at the "
                "center and trains nothing. Received: a training step in "
                f"{self.configuration.task}. See "
                "`tf_elastic.monitor.CenterEvaluator`."
            )

    def _join(self) -> None:
        """Joins, in eager code; a worker that is elsewhere moves there."""
        if self._exchanger is not None:
            return
        self._check_trains()
        exchange = self._exchange
        order = self._enter([tensor.numpy() for tensor in exchange.points()])
        if order.kind == exchanger.RESTART:
            exchange.restart(order.arrays)
        else:
            exchange.show(order.arrays)
        self._clock.go_on_from(self.client.clock)

    def _enter(self, values: Sequence[np.ndarray]) -> exchanger.Order:
        """Joins; `client.clock` is then the worker's.

        Args:
            values: the worker's, one array for each section.

        Returns:
            Where to begin: at the center, or to go on as its first values.
        """
        exchange = self._exchange
        center = self.client.join(exchange.layout, list(values))
        entered = exchanger.Exchanger(
            self.client, self.protocol, exchange.rates, exchange.differ
        )
        entered.begins(exchanger.Moment(self.client.clock, 0))
        self._exchanger = entered
        return exchanger.Order(_kind_of(values, center), 0.0, center)

    def _look(self) -> None:
        """Reads the center into this process' copies of it."""
        self._looking = True
        try:
            center = self._center()
            if center:
                self._exchange.show(center)
        finally:
            self._looking = False
            self._last_look = time.monotonic()
            self._looked_at = int(self._samples.numpy())

    def _center(self) -> list[np.ndarray] | None:
        """The center as it is now; None if it cannot be read."""
        try:
            center = self.client.look(self._exchange.layout)
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

    def stop(self, finished: bool) -> None:
        """Leaves the center. Never raises."""
        if self._exchanger is not None:
            self.client.samples = int(self._samples.numpy())
            self._exchanger.stop(finished)
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


class _Step:
    """A step that was traced, or is taken."""

    trains = False  # whether an optimizer has taken part


def _stop_if_alive(
    reference: "weakref.ref[ElasticMultiWorkerExtended]",
) -> None:
    extended = reference()
    if extended is not None:
        # After an error that nobody has handled, the part is not done.
        extended.stop(finished=not hasattr(sys, "last_value"))


def _break_off_if_alive(
    reference: "weakref.ref[ElasticMultiWorkerExtended]",
) -> None:
    if hasattr(sys, "last_value"):  # Nobody is to wait after an error.
        _stop_if_alive(reference)
