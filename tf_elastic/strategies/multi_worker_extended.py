"""A process that is one worker of a cluster, as the optimizers see it."""

import atexit
import contextlib
import sys
import weakref
from collections.abc import Callable
from collections.abc import Iterator
from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf

from tf_elastic import compat
from tf_elastic.cluster.launch import at_exit
from tf_elastic.cluster.launch.configuration import ClusterConfiguration
from tf_elastic.cluster.launch.security import Security
from tf_elastic.cluster.transport import wire
from tf_elastic.cluster.worker.client import CenterClient
from tf_elastic.cluster.worker.patience import Timeouts
from tf_elastic.core import protocols
from tf_elastic.optimizers import registry
from tf_elastic.optimizers.exchange_spec import AdmmSpec
from tf_elastic.optimizers.exchange_spec import ExchangedVariable
from tf_elastic.optimizers.exchange_spec import ExchangeSpec
from tf_elastic.strategies.center_exchange import CenterExchange
from tf_elastic.strategies.center_exchange import ElasticCenterExchange
from tf_elastic.strategies.center_push import AdmmCenterExchange
from tf_elastic.strategies.center_push import PushCenterExchange
from tf_elastic.strategies.center_session import CenterSession
from tf_elastic.strategies.center_session import TracedStep
from tf_elastic.strategies.elastic_strategy import ElasticExtended
from tf_elastic.strategies.step import Step
from tf_elastic.strategies.variables import ElasticVariable
from tf_elastic.strategies.worker_clock import WorkerClock


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
        max_lag: float | None,
    ) -> None:
        super().__init__(container_strategy, devices)
        self._closing = closing
        self._max_lag = max_lag
        self.configuration = configuration
        self._asked_protocol = protocol
        self._client_settings = (security, compression, timeouts)
        with tf.device("/device:CPU:0"):
            self._samples = tf.Variable(0, dtype=tf.int64)
        # One for each optimizer, in the order in which they are built; the
        # first one's is here from the beginning, to look at.
        self.sessions = [self._new_session(0)]
        self._rows: tf.Tensor | None = None
        self._step = TracedStep()
        self._next_clock: WorkerClock | None = None
        # All workers' samples at which the last epoch that they share ends.
        self.epoch_end: int | None = None
        self._looking = False
        self._held = False
        atexit.register(_stop_if_alive, weakref.ref(self))
        at_exit.before_threads_end(_break_off_if_alive, weakref.ref(self))

    def _new_session(self, group: int) -> CenterSession:
        configuration = self.configuration
        client = CenterClient(
            configuration.centers,
            configuration.worker_index,
            configuration.is_chief,
            configuration.num_workers,
            *self._client_settings,
            group=group,
            max_lag=self._max_lag,
        )
        trains = configuration.worker_index is not None
        return CenterSession(client, trains, self._samples, self.timer)

    @property
    def client(self) -> CenterClient:
        """Of the first optimizer's center."""
        return self.sessions[0].client

    @property
    def protocol(self) -> str | None:
        """That of the first optimizer; before that, what was asked for."""
        exchange = self.sessions[0].exchange
        return exchange.protocol.name if exchange else self._asked_protocol

    # What the optimizers ask for.

    @property
    def num_workers(self) -> int:
        """The number of workers, p, as the center last said."""
        return self.client.num_workers

    def order_of(self, method: str) -> str:
        """The scheme of `theory.ORDERS` that the protocol amounts to.

        Args:
            method: the name that the optimizer is registered by.

        Raises:
            ValueError: the strategy's protocol is none that the method has.
        """
        synchronous = self._protocol_of(method) == "synchronous"
        return "jacobi" if synchronous else "round_robin"

    def overlaps(self, method: str) -> bool:
        """Whether what comes back is applied a period later.

        To a process that trains nothing nothing does.

        Args:
            method: the name that the optimizer is registered by.

        Raises:
            ValueError: the strategy's protocol is none that the method has.
        """
        trains = self.configuration.worker_index is not None
        return self._protocol_of(method) == "overlapped" and trains

    def _protocol_of(self, method: str) -> str:
        """What was asked for, or the method's own."""
        allowed = registry.named(method).protocols
        protocol = self._asked_protocol or allowed[0]
        registry.check_choice(method, "protocol", protocol, allowed)
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
        self._next_clock = WorkerClock(stepper)

    def make_exchange(
        self, spec: ExchangeSpec | AdmmSpec, jit_compile: bool | str
    ) -> CenterExchange:
        """Prepares the exchange of an optimizer's parameters.

        Raises:
            RuntimeError: another model, or part of this one, trains under
                this strategy already.
            ValueError: the optimizer has no such exchange.
        """
        session = self._session_for(spec)
        if session.exchanger is not None:
            exchange = self._next_exchange(session, spec, jit_compile)
            session.go_on_with(exchange, self._next_clock)
            return exchange
        taken = {
            id(variable)
            for other in self.sessions
            if other is not session
            for variable in other.exchanged()
        }
        statistics = [v for v in self.statistics() if id(v) not in taken]
        exchange = self._center_exchange(spec, statistics, jit_compile)
        if not tf.executing_eagerly():
            self._check_trains()  # It joins now.
        session.begin_with(exchange, self._next_clock)
        return exchange

    def _session_for(self, spec: Any) -> CenterSession:
        """The session of an optimizer's variables, or a new one.

        Raises:
            RuntimeError: an optimizer trains some of them already, not all.
        """
        wanted = {id(parameter.variable) for parameter in spec.parameters}
        for session in self.sessions:
            known = set(map(id, session.trained()))
            if not known or (session.exchanger is None and wanted & known):
                return session
            if wanted <= known:
                return session
            if wanted & known:
                raise _other_variables(
                    "for some variables that the one before trains, and some "
                    "that it does not"
                )
        if len(self.sessions) == wire.MAX_GROUPS:
            raise _other_variables(
                f"beyond the {wire.MAX_GROUPS} that a cluster has centers for"
            )
        self.sessions.append(self._new_session(len(self.sessions)))
        return self.sessions[-1]

    def _center_exchange(
        self,
        spec: ExchangeSpec | AdmmSpec,
        statistics: Sequence[ElasticVariable],
        jit_compile: bool | str,
    ) -> CenterExchange:
        """What is exchanged, and how."""
        kind = protocols.PROTOCOLS[self._protocol_of(spec.method)]
        where = {
            "protocol": kind(spec.rule),
            "statistics": statistics,
            "devices": self._devices,
            "num_shards": len(self.configuration.centers),
            "jit_compile": jit_compile,
        }
        if spec.rule.answers_difference:
            return ElasticCenterExchange(spec, **where)
        self._check_not_compressed(spec.method)
        if spec.takes_steps:
            return AdmmCenterExchange(spec, **where)
        return PushCenterExchange(spec, **where)

    def _next_exchange(
        self,
        session: CenterSession,
        spec: ExchangeSpec | AdmmSpec,
        jit_compile: bool | str,
    ) -> CenterExchange:
        """The exchange of a new optimizer for what is trained already.

        The center has all that it had: what the new one does not train comes
        to rest, and is exchanged as before, so that all workers agree on it.
        """
        before = session.exchange
        if not before.may_be_followed_by(spec):
            raise _other_variables(
                f"{spec.method}, by whose rule the center does not go on"
            )
        parameters = {id(p.variable): p for p in spec.parameters}
        spec = spec._replace(
            parameters=[
                # What is not trained any more comes to rest.
                parameters.get(id(variable), ExchangedVariable(variable))
                for variable in session.trained()
            ]
        )
        exchange = self._center_exchange(spec, before.statistics, jit_compile)
        exchange.take_over(before)
        return exchange

    def _session_of(self, exchange: CenterExchange) -> CenterSession:
        """Whose exchange it is, or was."""
        trained = {id(p.variable) for p in exchange.parameters}
        return next(
            session
            for session in self.sessions
            if trained & set(map(id, session.trained()))
        )

    def narrow(
        self,
        exchange: CenterExchange,
        spec: Any,
        indices: Sequence[int],
        jit_compile: bool | str,
    ) -> CenterExchange:
        """All is exchanged: the others may train what this worker does not.

        Args:
            exchange: that of all.
            spec: of it.
            indices: of the parameters that are trained.
            jit_compile: as in `make_exchange`.
        """
        del spec, indices, jit_compile
        return exchange

    def prepare_closing(self, exchange: CenterExchange) -> None:
        """Tells that training may end between two exchanges."""

    def follow(
        self, variables: Sequence[ElasticVariable], step: Step
    ) -> None:
        """What is not exchanged is this process' own: worker and center."""
        del step
        exchanged = {
            id(variable)
            for session in self.sessions
            for variable in session.exchanged()
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
        self._session_of(exchange).exchange_if(due, exchange, clock, then)

    def refresh_center(self, exchange: CenterExchange) -> None:
        """Reads the center into this process' copies of it.

        Args:
            exchange: what `make_exchange` returned.
        """
        self._session_of(exchange).refresh_center(exchange)

    def step_ended(self, exchange: CenterExchange) -> None:
        """Counts the step's samples, and tells the clock."""
        session = self._session_of(exchange)
        self._step.trained_by.add(session)
        if self._rows is not None:  # Once, whatever the optimizers are.
            self._samples.assign_add(self._rows)
            self._rows = None
        session.step_ended()
        super().step_ended(exchange)

    def samples_trained(self) -> tuple[int, int]:
        """Samples of (all workers, this worker); the others' as last heard."""
        own = int(self._samples.numpy())
        for session in self.sessions:
            session.client.samples = own  # The next sign of life tells it.
        return self.client.samples_of_others + own, own

    def steps_of(self, owner: Any) -> None:
        """Notes the Keras model whose steps are taken, if it is one's."""
        if isinstance(owner, keras.Model):
            for session in self.sessions:
                session.chiefs_word.is_for(owner)

    @contextlib.contextmanager
    def step_on(self, step: Step) -> Iterator[None]:
        """Inside, all devices take a step on a batch; counts its samples."""
        rows = step.num_rows()
        self._step = TracedStep()
        self._begin_if_fresh(self._step)
        self._rows = rows
        try:
            with super().step_on(step):
                yield
        finally:
            self._rows = None

    def _begin_if_fresh(self, step: TracedStep) -> None:
        """Begins at the center what takes its very first training step."""
        if self.configuration.worker_index is None:
            return
        begun = [s for s in self.sessions if s.exchange is not None]
        if tf.executing_eagerly():
            for session in begun:
                session.join()
                # Or it evaluates, after a look at the center.
                step.trained_by.add(session)
        if compat.in_compiled_graph():
            return  # An evaluation; training is refused there.
        for session in begun:
            session.begin_if_fresh(step)

    def _check_not_compressed(self, method: str) -> None:
        if self.client.codec != "none":
            raise ValueError(
                "`compression` is for elastic averaging, whose differences "
                "shrink as training goes on. Received: compression="
                f"{self.client.codec!r} with {method}. Leave it out."
            )

    # Joining, and looking at the center.

    def data_pass_begins(self) -> None:
        """Shows the newest center.

        Whoever has not joined waits here until the center is there, and joins
        when its first step begins; the chief before, where it has to give the
        center its first values.
        """
        for session in self.sessions:
            session.pass_begins()
        self._look()

    def hear_of_others(self) -> bool:
        """Waits for the center, if this worker has not joined yet.

        Returns:
            False if it is for this one, the chief, to give its first values.
        """
        return all([session.hear_of_others() for session in self.sessions])

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
        session = self._session_of(exchange)
        if session.exchanger is None or exchange is not session.exchange:
            return
        session.close(clock, self._closing)
        if self.configuration.is_chief:
            session.wait_for_others()
            self._look()

    def fit_ends(self) -> None:
        """Training is over, until it begins again."""
        for session in self.sessions:
            session.client.samples = int(self._samples.numpy())
            session.chiefs_word.fit_ends()

    def center_is_read(self) -> None:
        """Shows the newest center, if it was not looked at just now."""
        if self._held or self._looking or not tf.executing_eagerly():
            return
        with self._looks():
            for session in self.sessions:
                session.look_if_old()

    def _look(self) -> None:
        """Reads the center into this process' copies of it."""
        with self._looks():
            for session in self.sessions:
                session.look()

    @contextlib.contextmanager
    def _looks(self) -> Iterator[None]:
        """Inside, what is read is no reason to look once more."""
        self._looking = True
        try:
            yield
        finally:
            self._looking = False

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
        if self.configuration.worker_index is not None:
            for session in self.sessions:
                if session.exchange is not None:
                    session.join()

    def _check_trains(self) -> None:
        if self.configuration.worker_index is None:
            raise RuntimeError(
                f"A process of the job {self.configuration.role} looks at the "
                "center and trains nothing. Received: a training step in "
                f"{self.configuration.task}. See "
                "`tf_elastic.monitor.CenterEvaluator`."
            )

    def stop(self, finished: bool) -> None:
        """Leaves the center. Never raises."""
        for session in self.sessions:
            session.stop(finished)


def _other_variables(reason: str) -> RuntimeError:
    return RuntimeError(
        "What an ElasticMultiWorkerStrategy has begun to train keeps its "
        "center. Received: another optimizer after training has begun, "
        f"{reason}. Give the first optimizer all that will be trained "
        "(`layer.trainable = False` and a new `compile` by the same method "
        "may freeze some of it later), or save the model and start another "
        "cluster for it."
    )


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
