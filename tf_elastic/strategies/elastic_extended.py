"""What all elastic strategies share: variables, views, local updates."""

import contextlib
import threading
import weakref
from collections.abc import Callable
from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf

from tf_elastic import compat
from tf_elastic.optimizers.strategy_interface import Exchange
from tf_elastic.strategies import creation
from tf_elastic.strategies import scopes
from tf_elastic.strategies import views
from tf_elastic.strategies.elastic_variable import ElasticVariable
from tf_elastic.strategies.fit_end import FitEnd
from tf_elastic.strategies.on_read_variable import OnReadVariable
from tf_elastic.strategies.seed_variable import SeedVariable
from tf_elastic.strategies.step import Step
from tf_elastic.strategies.step_times import StepTimer
from tf_elastic.strategies.stores import Create
from tf_elastic.strategies.stores import DeviceStore
from tf_elastic.strategies.stores import WorkerStore
from tf_elastic.strategies.untrained import Untrained
from tf_elastic.strategies.worker_variable import WorkerVariable


class ElasticExtended(compat.MirroredExtended):
    """Where variables live and what runs where, on this process' devices.

    With its subclasses it is what the optimizers of this package talk to; see
    `tf_elastic.optimizers.strategy_interface.ElasticExtended`.

    Args:
        container_strategy: whose `extended` this is.
        devices: of this process; None for all GPUs, or the CPU.
    """

    is_elastic = True
    holds_center = False

    def __init__(
        self,
        container_strategy: tf.distribute.Strategy,
        devices: Sequence[str] | None,
    ) -> None:
        super().__init__(
            container_strategy,
            devices=devices,
            # Only metrics are reduced, a few numbers a step; collectives
            # would need keys of their own for every strategy.
            cross_device_ops=tf.distribute.ReductionToOneDevice(),
        )
        compat.tell_what_is_restored()
        scopes.check_no_graph()
        self._thread = threading.local()
        self._created: list[weakref.ref[WorkerVariable]] = []
        self._worker_only = False
        self._common = False
        self._plain = False
        self._untrained = Untrained(self.elastic_variables)
        self.timer = StepTimer()
        self.fit_end = FitEnd()

    @contextlib.contextmanager
    def step_on(self, step: Step) -> Iterator[None]:
        """Inside, all devices take a step."""
        self._thread.step = step
        try:
            with self.timer.batch(step.batch):
                yield
        finally:
            self._thread.step = None

    @property
    def step(self) -> Step | None:
        """The step that is being built on this thread, if one is."""
        return getattr(self._thread, "step", None)

    def run_training_step(
        self, run_once: Callable[..., Any], arguments: Any
    ) -> Any:
        """Runs Keras' `train_step` for all workers of this process.

        Args:
            run_once: runs it on all replicas.
            arguments: of it.
        """
        return run_once(arguments)

    def replicas_have_run(self, step: Step) -> None:
        """All devices have taken their step; in cross-replica context."""
        if step.optimizers:
            followers = self._untrained.followers(step)
            if followers:
                self.follow(followers, step)
            self._untrained.put_to_rest(step)

    def follow(self, variables: Sequence[ElasticVariable], step: Step) -> None:
        """Lets centers follow what a step has assigned on the workers."""
        raise NotImplementedError

    def data_pass_begins(self) -> None:
        """A pass over data begins: of training, evaluation or prediction."""

    def follow_clock(self, stepper: keras.optimizers.Optimizer) -> None:
        """Notes the optimizer whose clock counts the local steps."""

    def center_is_read(self) -> None:
        """A variable is about to be read outside of replicas."""

    def close(
        self, exchange: Exchange, clock: tf.Tensor, count: tf.Tensor
    ) -> None:
        """Training has ended for now; in eager code."""

    def refresh_center(self, exchange: Exchange) -> None:
        """Brings the center's copies up to date after an exchange.

        Args:
            exchange: what `make_exchange` returned.
        """

    def first_seed_number(self) -> int:
        """What the first device folds into seeds; the next ones follow."""
        return 0

    def worker_of(self, replica: int) -> int | tf.Tensor:
        """The number of a replica's worker among all workers.

        Args:
            replica: its index in this process.
        """
        return self.first_seed_number() + replica

    # Variables.

    def make_store(
        self,
        create: Create,
        arguments: Mapping[str, Any],
        has_center: Callable[[tf.DType], bool],
        is_common: bool,
    ) -> WorkerStore:
        """Where the workers' values of a new variable will be.

        Args:
            create: makes one variable on each device, of `arguments`.
            arguments: of a variable creator.
            has_center: whether a variable of a dtype has a center.
            is_common: whether workers that share a device share it.
        """
        del is_common
        return DeviceStore.make(
            create, arguments, has_center, self.holds_center
        )

    def _create_variable(
        self, next_creator: Callable[..., tf.Variable], **kwargs: Any
    ) -> Any:
        if self._plain:
            return compat.own_variable(**kwargs)
        scopes.check_no_graph()
        value = creation.value_outside(kwargs)
        if value is not None:
            with tf.init_scope():
                return self._create_variable(
                    compat.own_variable, **{**kwargs, "initial_value": value}
                )
        colocate_with = kwargs.get("colocate_with")
        strategy = self._container_strategy()
        if compat.is_on_read(kwargs):
            made = super()._create_variable(next_creator, **kwargs)
            return OnReadVariable(strategy, made.values, made.aggregation)
        if colocate_with is not None and not isinstance(
            colocate_with, WorkerVariable
        ):
            return super()._create_variable(next_creator, **kwargs)
        worker_only = (
            self._worker_only
            or isinstance(colocate_with, WorkerVariable)
            or compat.is_clock(kwargs)
        )
        is_common = self._common or compat.is_rate(kwargs)
        seed = compat.is_seed_state(kwargs)
        aggregation = (
            kwargs.pop("aggregation", None) or tf.VariableAggregation.NONE
        )
        super_create = super()._create_variable

        def create(**arguments: Any) -> Sequence[tf.Variable]:
            return super_create(next_creator, **arguments).values

        def has_center(dtype: tf.DType) -> bool:
            return dtype.is_floating and not worker_only and not seed

        store = self.make_store(create, kwargs, has_center, is_common)
        if worker_only:
            return WorkerVariable(strategy, store)
        if seed:
            variable = SeedVariable(strategy, store, of_model=True)
            variable.diversify()
        elif store.centers:
            variable = ElasticVariable(strategy, store, aggregation)
        else:
            variable = WorkerVariable(
                strategy, store, of_model=True, aggregation=aggregation
            )
        self._created.append(weakref.ref(variable))
        return variable

    @contextlib.contextmanager
    def worker_variables(self) -> Iterator[None]:
        """Inside, every variable created is a worker's own, with no center."""
        self._worker_only, before = True, self._worker_only
        try:
            yield
        finally:
            self._worker_only = before

    @contextlib.contextmanager
    def common_variables(self) -> Iterator[None]:
        """Inside, workers that share a device share what is created."""
        self._common, before = True, self._common
        try:
            yield
        finally:
            self._common = before

    @contextlib.contextmanager
    def plain_variables(self) -> Iterator[None]:
        """Inside, a variable that is created is one, whatever the scope."""
        self._plain, before = True, self._plain
        try:
            yield
        finally:
            self._plain = before

    def elastic_variables(self) -> list[ElasticVariable]:
        """The live model variables that have a center."""
        variables = [reference() for reference in self._created]
        return [v for v in variables if isinstance(v, ElasticVariable)]

    def untrained_variables(self) -> list[WorkerVariable]:
        """The live model variables that no gradient moves.

        They are in an order that a rebuilt model has again: by kind (the last
        part of their name), then by age. Age alone depends on whether layers
        were built one by one or from a file.
        """
        variables = [reference() for reference in self._created]
        return sorted(
            (v for v in variables if v is not None and not v.trainable),
            key=lambda v: v.name.split("/")[-1],
        )

    def statistics(self) -> list[ElasticVariable]:
        """Those of them that have a center: floating, not trained."""
        return [
            variable
            for variable in self.untrained_variables()
            if isinstance(variable, ElasticVariable)
        ]

    def is_elastic_variable(self, variable: tf.Variable) -> bool:
        """Whether a native variable was created in this strategy's scope."""
        return (
            isinstance(variable, ElasticVariable)
            and variable.distribute_strategy is self._container_strategy()
        )

    # Data.

    def _experimental_distribute_dataset(
        self, dataset: tf.data.Dataset, options: Any
    ) -> Any:
        distributed = compat.UntunedDistributedDataset(
            self._input_workers_with_options(options),
            self._container_strategy(),
            dataset,
            num_replicas_in_sync=self._num_replicas_in_sync,
            options=options,
        )
        distributed.on_pass = self.data_pass_begins
        distributed.whole = dataset
        return distributed

    # What runs where.

    @contextlib.contextmanager
    def local_updates(self) -> Iterator[None]:
        """Inside, a replica updates its worker and waits for nobody."""
        self._thread.local = True
        try:
            with views.worker_view(), views.certain_of_rows():
                yield
        finally:
            self._thread.local = False

    center_view = staticmethod(views.center_view)
    training_begins = staticmethod(views.training_begins)

    def takes_step(self) -> tf.Tensor | None:
        """Whether this replica's worker takes a step, boolean scalar.

        Returns:
            None where that is certain.
        """
        return views.has_rows()

    def averages_now(self) -> tf.Tensor | None:
        """Whether an average over steps takes one now, boolean scalar.

        Returns:
            None where that is certain.
        """
        return None

    def optimizer_applies(
        self,
        optimizer: keras.optimizers.Optimizer,
        exchange: Exchange,
        variables: Sequence[keras.Variable],
    ) -> None:
        """Tells that an optimizer trains variables in this thread's step."""
        if self.step is not None:
            self.step.optimizers.append((optimizer, exchange, list(variables)))

    def _is_local(self) -> bool:
        return getattr(self._thread, "local", False)

    def _use_merge_call(self) -> bool:
        return not self._is_local() and super()._use_merge_call()

    def _replica_ctx_update(
        self, var: Any, fn: Callable, args: Any, kwargs: Any, group: bool
    ) -> Any:
        if self._is_local():
            return fn(var, *args, **(kwargs or {}))
        return super()._replica_ctx_update(var, fn, args, kwargs, group)

    def _replica_ctx_all_reduce(
        self, reduce_op: Any, value: Any, options: Any = None
    ) -> Any:
        # While a worker takes its step it is alone: an optimizer inside of
        # another one sums gradients of one worker.
        if self._is_local():
            return value
        return super()._replica_ctx_all_reduce(reduce_op, value, options)

    def _update(
        self, var: Any, fn: Callable, args: Any, kwargs: Any, group: bool
    ) -> Any:
        if (
            isinstance(var, ElasticVariable)
            and var.trainable
            and not compat.is_ema_swap(fn)
        ):
            raise RuntimeError(
                f"{type(self._container_strategy()).__name__} trains only "
                "with the optimizers of `tf_elastic.optimizers`: any other "
                "would update the center and leave the workers behind. "
                f"Received: an update of {var.name!r} by another optimizer. "
                "Wrap it: "
                "`tf_elastic.optimizers.Elastic(your_optimizer)`."
            )
        return super()._update(var, fn, args, kwargs, group)

    def call_for_each_replica(
        self, fn: Callable, args: Any = (), kwargs: Any = None
    ) -> Any:
        """Runs `fn` once on each worker's device."""
        step = self.step
        checks = compat.is_finite_check(fn)
        if step is not None and not compat.is_traced_function(fn):
            args, kwargs = step.lend((args, kwargs))
            fn = step.replica_function(fn)
        result = super().call_for_each_replica(fn, args, kwargs)
        if checks:
            finite = self._container_strategy().experimental_local_results(
                result
            )
            if step is not None:
                finite = step.or_idle(finite)
            return tf.reduce_all(tf.stack([tf.identity(f) for f in finite]))
        return result

    def step_ended(self, exchange: Exchange) -> None:
        """Tells the clock that all workers have taken their step."""
        self.timer.step_ended(exchange.results())
