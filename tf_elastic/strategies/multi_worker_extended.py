"""A process that is one worker of a cluster, as the optimizers see it."""

import contextlib
from collections.abc import Callable
from collections.abc import Iterator
from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf

from tf_elastic import compat
from tf_elastic.cluster.launch.configuration import ClusterConfiguration
from tf_elastic.cluster.launch.security import Security
from tf_elastic.cluster.worker.client import CenterClient
from tf_elastic.cluster.worker.patience import Timeouts
from tf_elastic.cluster.worker.surroundings import Surroundings
from tf_elastic.optimizers.exchange_spec import Spec
from tf_elastic.optimizers.strategy_interface import Gradient
from tf_elastic.strategies import leaving
from tf_elastic.strategies.center_exchange import CenterExchange
from tf_elastic.strategies.center_exchanges import CenterExchanges
from tf_elastic.strategies.center_session import CenterSession
from tf_elastic.strategies.elastic_extended import ElasticExtended
from tf_elastic.strategies.elastic_variable import ElasticVariable
from tf_elastic.strategies.host_calls import TracedStep
from tf_elastic.strategies.optimizer_sessions import OptimizerSessions
from tf_elastic.strategies.step import Step
from tf_elastic.strategies.worker_clock import WorkerClock
from tf_elastic.strategies.worker_group import Alone
from tf_elastic.timeline import event_file


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
        events: str | None,
        group: Alone | None = None,
    ) -> None:
        self.group = group or Alone()
        super().__init__(container_strategy, self.group.devices or devices)
        self._closing = closing
        self._max_lag = max_lag
        self.configuration = configuration
        self._client_settings = (security, compression, timeouts)
        self._events = event_file.to_file(events)
        with tf.device("/device:CPU:0"):
            self._samples = tf.Variable(0, dtype=tf.int64)
        self._optimizers = OptimizerSessions(self._new_session)
        self._exchanges = CenterExchanges(
            protocol,
            compression,
            self._devices,
            len(configuration.centers),
        )
        self._rows: tf.Tensor | None = None
        self._step = TracedStep()
        self._next_clock: WorkerClock | None = None
        # All workers' samples at which the last epoch that they share ends.
        self.epoch_end: int | None = None
        leaving.leaves_at_exit(self)
        self.group.at_its_end(self._optimizers.group_has_ended)

    def _new_session(self, group: int) -> CenterSession:
        configuration = self.configuration
        leads = self.group.is_leader
        client = CenterClient(
            configuration.centers,
            configuration.worker_index if leads else None,
            self.is_chief,
            configuration.num_workers,
            *self._client_settings,
            group=group,
            max_lag=self._max_lag,
            around=Surroundings(events=self._events),
        )
        trains = configuration.worker_index is not None and leads
        return CenterSession(
            client, trains, self._samples, self.timer, self.group
        )

    @property
    def is_chief(self) -> bool:
        """Whether this process is the one that writes files."""
        return self.configuration.is_chief and self.group.is_leader

    @property
    def sessions(self) -> list[CenterSession]:
        """One for each optimizer, in the order in which they are built."""
        return self._optimizers.sessions

    @property
    def client(self) -> CenterClient:
        """Of the first optimizer's center."""
        return self.sessions[0].client

    @property
    def protocol(self) -> str | None:
        """That of the first optimizer; before that, what was asked for."""
        exchange = self.sessions[0].exchange
        return exchange.protocol.name if exchange else self._exchanges.asked

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
        synchronous = self._exchanges.protocol_of(method) == "synchronous"
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
        return self._exchanges.protocol_of(method) == "overlapped" and trains

    @property
    def gradient_scale(self) -> float:
        """Undoes Keras' division of the loss by the number of replicas.

        Gradients of several devices are summed, each being of a mean over its
        slice of the batch, and so are those of a group's processes.
        """
        replicas = self._num_replicas_in_sync
        summed = replicas * self.group.size
        return 1.0 / (summed * compat.loss_scale_of(replicas))

    def worker_gradients(self, grads: Sequence[Gradient]) -> list[Gradient]:
        """The gradients of this process' worker: summed over its devices."""
        self._check_trains()
        return self.group.summed(grads)

    def takes_step(self) -> None:
        """All devices take the worker's step, also one without rows."""

    def first_seed_number(self) -> int:
        """Every device of every worker draws its own random numbers."""
        index = self.configuration.worker_index or 0
        process = index * self.group.size + self.group.member
        return process * len(self._devices)

    def worker_of(self, replica: int) -> int:
        """The worker's number, on all devices of all its processes."""
        del replica
        return self.configuration.worker_index or 0

    def follow_clock(self, stepper: keras.optimizers.Optimizer) -> None:
        """Notes the optimizer whose clock counts the local steps."""
        self._next_clock = WorkerClock(stepper)

    def make_exchange(
        self, spec: Spec, jit_compile: bool | str
    ) -> CenterExchange:
        """Prepares the exchange of an optimizer's parameters.

        Raises:
            RuntimeError: another model, or part of this one, trains under
                this strategy already.
            ValueError: the optimizer has no such exchange.
        """
        session = self._optimizers.session_for(spec)
        if session.exchanger is not None:
            exchange = self._exchanges.after(session, spec, jit_compile)
            session.go_on_with(exchange, self._next_clock)
            return exchange
        taken = self._optimizers.exchanged(besides=session)
        statistics = [v for v in self.statistics() if id(v) not in taken]
        exchange = self._exchanges.first(spec, statistics, jit_compile)
        if not tf.executing_eagerly():
            self._check_trains()  # It joins now.
        session.begin_with(exchange, self._next_clock)
        return exchange

    def narrow(
        self,
        exchange: CenterExchange,
        spec: Spec,
        indices: Sequence[int],
        jit_compile: bool | str,
    ) -> CenterExchange:
        """The exchange of a step that trains some of the variables only.

        Args:
            exchange: that of all.
            spec: of it.
            indices: of those of `spec` that are trained.
            jit_compile: as in `make_exchange`.
        """
        del jit_compile
        # An optimizer may train less than the exchange has from before.
        trained = {id(spec.parameters[k].variable) for k in indices}
        return exchange.training(
            [
                k
                for k, parameter in enumerate(exchange.parameters)
                if id(parameter.variable) in trained
            ]
        )

    def prepare_closing(self, exchange: CenterExchange) -> None:
        """Tells that training may end between two exchanges."""

    def follow(self, variables: Sequence[ElasticVariable], step: Step) -> None:
        """What is not exchanged is this process' own: worker and center."""
        del step
        exchanged = self._optimizers.exchanged()
        for variable in variables:
            if id(variable) in exchanged:
                continue
            store = variable.store
            for i in range(store.num_workers):
                store.center_at(i).assign(store.read(i), read_value=False)

    def exchange_if(
        self,
        moment: str,
        due: tf.Tensor,
        exchange: CenterExchange,
        clock: tf.Tensor,
        count: tf.Tensor,
        then: Callable[[], None],
    ) -> None:
        """Exchanges if `due`, in cross-replica context.

        Args:
            moment: of those of the exchange.
            due: boolean scalar.
            exchange: what `make_exchange` returned.
            clock: the worker's local steps, integer scalar.
            count: exchanges before; the center has a count of its own.
            then: called after the exchange, under the same condition.
        """
        del moment, count
        session = self._optimizers.session_of(exchange)
        session.exchange_if(due, exchange, clock, then)

    def refresh_center(self, exchange: CenterExchange) -> None:
        """Reads the center into this process' copies of it.

        Args:
            exchange: what `make_exchange` returned.
        """
        self._optimizers.session_of(exchange).refresh_center(exchange)

    def step_ended(self, exchange: CenterExchange) -> None:
        """Counts the step's samples, and tells the clock."""
        session = self._optimizers.session_of(exchange)
        self._step.trained_by.add(session)
        if self._rows is not None:  # Once, whatever the optimizers are.
            self._samples.assign_add(self._rows * self.group.size)
            self._rows = None
        session.step_ended()
        super().step_ended(exchange)

    def samples_trained(self) -> tuple[int, int]:
        """Samples of (all workers, this worker); the others' as last heard."""
        own = int(self._samples.numpy())
        self._optimizers.tell_samples(own)
        return self.client.samples_of_others + own, own

    def steps_of(self, owner: Any) -> None:
        """Notes the Keras model whose steps are taken, if it is one's."""
        if isinstance(owner, keras.Model):
            self._optimizers.are_of(owner)

    @contextlib.contextmanager
    def step_on(self, step: Step) -> Iterator[None]:
        """Inside, all devices take a step on a batch; counts its samples."""
        rows = step.num_rows()
        self._step = TracedStep()
        if step.trains:
            step.after += self.group.comes_to_step(step.tensors)
        if self.group.size == 1 or not step.only_looks:
            with tf.control_dependencies(step.after):
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

    # Joining, and looking at the center.

    def data_pass_begins(self) -> None:
        """Shows the newest center.

        Whoever has not joined waits here until the center is there, and joins
        when its first step begins; the chief before, where it has to give the
        center its first values.
        """
        self._optimizers.pass_begins()

    def hear_of_others(self) -> bool:
        """Waits for the centers; see `CenterSession.hear_of_others`."""
        return all([session.hear_of_others() for session in self.sessions])

    def close(
        self, exchange: CenterExchange, clock: tf.Tensor, count: tf.Tensor
    ) -> None:
        """Training is over for now: the center gets what it has not yet.

        Each exchange has its deadline. The chief then waits a while for those
        that are at their ends, too, since it saves. For arguments see
        `exchange_if`.
        """
        del count
        self.fit_ends()
        session = self._optimizers.session_of(exchange)
        is_last = exchange.whole is session.exchange.whole
        if not is_last:
            return
        self.group.ends_training()
        session.close(clock, self._closing, exchange.at_rest)
        if self.is_chief and session.exchanger is not None:
            session.wait_for_others()
            self._optimizers.look()

    def fit_ends(self) -> None:
        """Training is over, until it begins again."""
        self._optimizers.fit_ends(int(self._samples.numpy()))

    def center_is_read(self) -> None:
        """Shows the newest center, if it was not looked at just now."""
        self._optimizers.look_if_old()

    def holding_center(self) -> contextlib.AbstractContextManager[None]:
        """Inside, only a new pass over data shows a newer center.

        What is saved then is what was evaluated before.
        """
        return self._optimizers.holding()

    def before_step(self) -> None:
        """Joins now, in eager code; the first step begins at the center."""
        if self.configuration.worker_index is not None:
            self._optimizers.join()

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
        self.group.end()
        for session in self.sessions:
            session.stop(finished)
