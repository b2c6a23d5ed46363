"""Elastic training on several devices of one process."""

import contextlib
import threading
import weakref
from collections.abc import Callable
from collections.abc import Iterator
from collections.abc import Sequence
from typing import Any

import tensorflow as tf

from tf_elastic import compat
from tf_elastic import core
from tf_elastic import theory
from tf_elastic.optimizers.elastic_parameter import ElasticParameter
from tf_elastic.strategies import views
from tf_elastic.strategies.exchange import Exchange
from tf_elastic.strategies.step_times import StepTimer
from tf_elastic.strategies.step_times import StepTimes
from tf_elastic.strategies.step_times import time_after
from tf_elastic.strategies.variables import ElasticVariable
from tf_elastic.strategies.variables import SeedVariable
from tf_elastic.strategies.variables import WorkerVariable


class ElasticMirroredStrategy(tf.distribute.MirroredStrategy):
    r"""Trains one model on several devices, each with parameters of its own.

    Use it where you would use `tf.distribute.MirroredStrategy`. Each device
    is a worker: it has its own copy of every variable and of the optimizer's
    state, takes its own steps on its own slice of the batch, and every
    `communication_period` steps (an argument of the optimizer) exchanges with
    the center. `evaluate`, `predict`, `validation_data`, `save`, `export` and
    all callbacks see the center.

    The batch size is the global one, as with every strategy: it is cut into
    as many slices as there are devices.

    Args:
        devices: names such as `["GPU:0", "GPU:1"]`, or None for all GPUs (or
            the CPU where there is none). Logical CPU devices work too; see
            `tf.config.set_logical_device_configuration`.
        exchange: the order in which workers and center move:
            `"jacobi"` (default): all workers at once, each with the center
            as it was (eqs. 2.3, 2.4);
            `"gauss_seidel"`: after the last step of a period the center
            moves first, then the workers to where it now is (eq. 6.3);
            `"round_robin"`: one worker after another, each finding the
            center as those before have left it (Algorithms 1 and 2).

    Raises:
        ValueError: `exchange` is unknown, or a device is given twice.

    Example:

    ```python
    strategy = te.strategies.ElasticMirroredStrategy()
    with strategy.scope():
        model = te.models.cifar_convnet()
        model.compile(
            te.optimizers.EAMSGD(0.005, communication_period=10),
            loss="sparse_categorical_crossentropy",
            metrics=["accuracy"],
        )
    model.fit(train, validation_data=test)
    ```

    If the workers' loss falls while the center's does not, the center lags:
    raise `beta` or lower `communication_period`.

    Reference:
        Zhang (2016), sections 2.1 to 2.3 and 6.2.
    """

    def __init__(
        self,
        devices: Sequence[str] | None = None,
        exchange: str = "jacobi",
    ) -> None:
        if exchange not in theory.EXCHANGES:
            raise ValueError(
                f"`exchange` must be one of {theory.EXCHANGES}. "
                f"Received: exchange={exchange!r}."
            )
        if devices is not None and len(devices) != len(
            {compat.canonical_device(device) for device in devices}
        ):
            raise ValueError(
                "`devices` must not name a device twice. "
                f"Received: devices={list(devices)}."
            )
        tf.distribute.Strategy.__init__(
            self, ElasticMirroredExtended(self, devices, exchange)
        )

    @property
    def num_workers(self) -> int:
        """The number of workers, p: one for each device."""
        return self.extended.num_workers

    def run(
        self,
        fn: Callable,
        args: Any = (),
        kwargs: Any = None,
        options: Any = None,
    ) -> Any:
        """Runs `fn` once for each worker, on its device.

        Args:
            fn: called in replica context.
            args: its positional arguments; per-replica values are taken apart.
            kwargs: its keyword arguments, likewise.
            options: `tf.distribute.RunOptions`.

        Returns:
            What `fn` returns, as per-replica values.
        """
        batch = [
            self.experimental_local_results(value)
            for value in tf.nest.flatten(args)
        ]
        with self.extended.timer.batch(batch):
            return super().run(fn, args, kwargs, options)

    def reduce(self, reduce_op: Any, value: Any, axis: Any) -> Any:
        """Reduces a per-replica value; see `tf.distribute.Strategy.reduce`.

        Keras averages the slices of a first batch to learn its shape, which
        fails where they do not have the same number of rows. A mean of such
        slices is their first one here.
        """
        if compat.is_mean(reduce_op) and axis is None:
            value = compat.first_where_shapes_differ(value)
        return super().reduce(reduce_op, value, axis)

    def step_times(self) -> StepTimes:
        """Where the time of the training steps so far went.

        Returns:
            `StepTimes`, in seconds. On a GPU the work is queued, and the
            split between compute and exchange is only a rough one.
        """
        return self.extended.timer.read()

    def mark_step_boundary(self) -> None:
        """Tells that a training step begins now.

        A callback calls it in `on_train_batch_begin`, so that what happened
        between two steps (validation, other callbacks) does not count as
        waiting for data.
        """
        self.extended.timer.mark_boundary()


class ElasticMirroredExtended(compat.MirroredExtended):
    """Where variables live and when exchanges happen.

    This is what the optimizers of this package talk to; see
    `tf_elastic.optimizers.protocol`.
    """

    is_elastic = True

    def __init__(
        self,
        container_strategy: tf.distribute.Strategy,
        devices: Sequence[str] | None,
        exchange: str,
    ) -> None:
        super().__init__(
            container_strategy,
            devices=devices,
            # Only metrics are reduced, a few numbers a step; collectives
            # would need keys of their own for every strategy.
            cross_device_ops=tf.distribute.ReductionToOneDevice(),
        )
        self.exchange_scheme = exchange
        self._thread = threading.local()
        self._created: list[weakref.ref[WorkerVariable]] = []
        self._worker_only = False
        self.timer = StepTimer()

    @property
    def num_workers(self) -> int:
        """The number of workers, p."""
        return len(self._devices)

    # Variables.

    def _create_variable(
        self, next_creator: Callable[..., tf.Variable], **kwargs: Any
    ) -> Any:
        colocate_with = kwargs.get("colocate_with")
        if compat.is_on_read(kwargs) or (
            colocate_with is not None
            and not isinstance(colocate_with, WorkerVariable)
        ):
            return super()._create_variable(next_creator, **kwargs)
        strategy = self._container_strategy()
        worker_only = (
            self._worker_only
            or isinstance(colocate_with, WorkerVariable)
            or compat.is_clock(kwargs)
        )
        seed = compat.is_seed_state(kwargs)
        kwargs["aggregation"] = tf.VariableAggregation.NONE
        copies = super()._create_variable(next_creator, **kwargs).values
        if worker_only:
            return WorkerVariable(strategy, copies)
        if seed:
            variable = SeedVariable(strategy, copies, of_model=True)
            variable.diversify()
        elif not copies[0].dtype.is_floating:
            variable = WorkerVariable(strategy, copies, of_model=True)
        else:
            kwargs["initial_value"] = copies[0].read_value
            kwargs["name"] = f"{kwargs.get('name') or 'Variable'}/worker"
            variable = ElasticVariable(
                strategy,
                copies,
                super()._create_variable(next_creator, **kwargs).values,
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

    def is_elastic_variable(self, variable: Any) -> bool:
        """Whether a native variable was created in this strategy's scope."""
        return (
            isinstance(variable, ElasticVariable)
            and variable.distribute_strategy is self._container_strategy()
        )

    # Data.

    def _experimental_distribute_dataset(
        self, dataset: tf.data.Dataset, options: Any
    ) -> Any:
        return compat.UntunedDistributedDataset(
            self._input_workers_with_options(options),
            self._container_strategy(),
            dataset,
            num_replicas_in_sync=self._num_replicas_in_sync,
            options=options,
        )

    # What runs where.

    @contextlib.contextmanager
    def local_updates(self) -> Iterator[None]:
        """Inside, a replica updates its worker and waits for nobody."""
        self._thread.local = True
        try:
            with views.worker_view():
                yield
        finally:
            self._thread.local = False

    center_view = staticmethod(views.center_view)

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

    def _update(
        self, var: Any, fn: Callable, args: Any, kwargs: Any, group: bool
    ) -> Any:
        if (
            isinstance(var, ElasticVariable)
            and var.trainable
            and not compat.is_ema_swap(fn)
        ):
            raise RuntimeError(
                "ElasticMirroredStrategy trains only with the optimizers of "
                "`tf_elastic.optimizers`: any other would update the center "
                f"and leave the workers behind. Received: an update of "
                f"{var.name!r} by another optimizer. Wrap it: "
                "`tf_elastic.optimizers.Elastic(your_optimizer)`."
            )
        return super()._update(var, fn, args, kwargs, group)

    def call_for_each_replica(
        self, fn: Callable, args: Any = (), kwargs: Any = None
    ) -> Any:
        """Runs `fn` once on each worker's device."""
        result = super().call_for_each_replica(fn, args, kwargs)
        if compat.is_finite_check(fn):
            finite = self._container_strategy().experimental_local_results(
                result
            )
            return tf.reduce_all(tf.stack([tf.identity(f) for f in finite]))
        return result

    # The exchange.

    def make_exchange(
        self, parameters: Sequence[ElasticParameter], jit_compile: bool | str
    ) -> Exchange:
        """Prepares the exchange of an optimizer's parameters.

        Floating variables of the models in this scope that are not trained
        (statistics) follow.
        """
        statistics = [
            variable
            for variable in self.untrained_variables()
            if isinstance(variable, ElasticVariable)
        ]
        return Exchange(parameters, statistics, self._devices, jit_compile)

    @property
    def exchange_moment(self) -> str:
        """When an exchange happens: "before" or "after" a local step.

        Jacobi and round robin exchange the points that the gradient was taken
        at; Gauss-Seidel those that the step has led to.
        """
        return "after" if self.exchange_scheme == "gauss_seidel" else "before"

    def exchange_if(
        self,
        due: tf.Tensor,
        exchange: Exchange,
        rates: core.ElasticRates,
        then: Callable[[], Any],
    ) -> None:
        """Exchanges if `due`, in cross-replica context.

        Args:
            due: boolean scalar.
            exchange: what `make_exchange` returned.
            rates: alpha and beta, numbers or scalar tensors.
            then: called after the exchange, under the same condition.
        """

        def run() -> None:
            begin = time_after([])
            with tf.control_dependencies([begin]):
                scheme = getattr(exchange, self.exchange_scheme)
                scheme(*(tf.convert_to_tensor(r, tf.float64) for r in rates))
            self.timer.exchange_took(begin, time_after(exchange.results()))
            then()

        tf.cond(due, run, lambda: None)

    def step_ended(self, exchange: Exchange) -> None:
        """Tells the clock that all workers have taken their step."""
        self.timer.step_ended(exchange.results())
