"""Everything private of TensorFlow and Keras that the package relies on.

No other module imports a private name. Each piece says what it relies on, and
``tests/compat_test.py`` checks each against the installed versions, so a
release that breaks one is found by a message that names it.
"""

import functools
import inspect
from collections.abc import Callable
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from tensorflow.compiler.xla.tsl.protobuf import coordination_config_pb2
from tensorflow.python import pywrap_tfe
from tensorflow.python.data.ops import multi_device_iterator_ops
from tensorflow.python.distribute import collective_all_reduce_strategy
from tensorflow.python.distribute import cross_device_utils
from tensorflow.python.distribute import device_util
from tensorflow.python.distribute import distribute_utils
from tensorflow.python.distribute import input_lib
from tensorflow.python.distribute import mirrored_strategy
from tensorflow.python.distribute import multi_worker_util
from tensorflow.python.distribute import values
from tensorflow.python.distribute import values_util
from tensorflow.python.eager import context as tf_context
from tensorflow.python.framework import config as tf_config
from tensorflow.python.framework import ops
from tensorflow.python.ops import control_flow_util
from tensorflow.python.saved_model import save_context
from tensorflow.python.util import tf_decorator

SUPPORTED_TENSORFLOW = ("2.18", "2.21")  # first and last release, inclusive
TESTED_TENSORFLOW = "2.21"
TESTED_KERAS = "3.15"

MirroredExtended = mirrored_strategy.MirroredExtended
MirroredVariable = values.MirroredVariable
MultiWorkerExtended = collective_all_reduce_strategy.CollectiveAllReduceExtended

_SEED_STATE_NAME = "seed_generator_state"
_SWAP_EMA_MODULE = "keras.src.callbacks.swap_ema_weights"


class UnsupportedVersionError(ImportError):
    """The installed TensorFlow is not one that the package knows."""


def check_versions() -> None:
    """Refuses a TensorFlow release that is out of the supported range.

    Raises:
        UnsupportedVersionError: the installed TensorFlow is older or newer.
    """
    installed = _release(tf.__version__)
    first, last = map(_release, SUPPORTED_TENSORFLOW)
    if not first <= installed <= last:
        raise UnsupportedVersionError(
            "tf_elastic relies on private parts of tf.distribute and supports "
            f"TensorFlow {SUPPORTED_TENSORFLOW[0]} to "
            f"{SUPPORTED_TENSORFLOW[1]}. Received: tensorflow=="
            f"{tf.__version__}. Install a supported release."
        )


def _release(version: str) -> tuple[int, int]:
    major, minor = version.split(".")[:2]
    return int(major), int(minor)


class UntunedDistributedDataset(input_lib.DistributedDataset):
    """A distributed data set whose slices are handed out untuned.

    TensorFlow reads each device's slice of a batch through a small data set
    of its own, and tf.data starts a tuner for each. A tuner sleeps, for longer
    and longer, up to a minute, and the iterator cannot be closed before it
    wakes: the end of an epoch hangs. There is nothing to tune in them.

    `on_pass` is called whenever a pass over the data begins.
    """

    on_pass: Callable[[], None] | None = None

    def __iter__(self) -> Any:
        if self.on_pass is not None:
            self.on_pass()
        create = multi_device_iterator_ops._create_device_dataset
        multi_device_iterator_ops._create_device_dataset = _untuned(create)
        try:
            return super().__iter__()
        finally:
            multi_device_iterator_ops._create_device_dataset = create


def _untuned(create: Callable[..., Any]) -> Callable[..., Any]:
    options = tf.data.Options()
    options.autotune.enabled = False
    return lambda *args: create(*args).with_options(options)


def tape_is_active() -> bool:
    """Whether a gradient tape is open on this thread.

    `tf.recompute_grad` and `tf.custom_gradient` pause all recording around a
    forward pass, with a tape or without one. So a pause is lifted to see.
    """
    paused = pywrap_tfe.TFE_Py_TapeSetIsStopped()
    if paused:
        pywrap_tfe.TFE_Py_TapeSetRestartOnThread()
    try:
        return not pywrap_tfe.TFE_Py_TapeSetIsEmpty()
    finally:
        if paused:
            pywrap_tfe.TFE_Py_TapeSetStopOnThread()


def in_compiled_graph() -> bool:
    """Whether the graph being built is to be compiled by XLA as a whole."""
    return control_flow_util.GraphOrParentsInXlaContext(ops.get_default_graph())


def loss_scale_of(num_replicas: int) -> float:
    """What Keras multiplies the loss by under so many replicas.

    It is 1 / num_replicas, rounded to float32 whatever the loss's dtype.
    """
    return float(np.float32(1.0 / num_replicas))


def canonical_device(device: str) -> str:
    """The full name of a device, however it was spelled."""
    return device_util.canonicalize(device_util.resolve(device))


def current_replica_id() -> int | None:
    """The replica whose code or update runs now, or None outside of one."""
    if not tf.distribute.has_strategy():
        return None  # where TensorFlow's default strategy would say 0
    return values_util.get_current_replica_id_as_int()


def in_replica_context(strategy: tf.distribute.Strategy) -> bool:
    """Whether code of one replica of `strategy` runs now."""
    context = tf.distribute.get_replica_context()
    return context is not None and context.strategy is strategy


def is_deterministic() -> bool:
    """Whether `tf.config.experimental.enable_op_determinism` was called."""
    return tf_config.is_op_determinism_enabled()


def is_exporting() -> bool:
    """Whether a SavedModel is being written."""
    return save_context.in_save_context()


def is_single_copy_export() -> bool:
    """Whether a SavedModel of one copy of each variable is being written."""
    return values_util.is_saving_non_distributed()


def select_replica(replica_id: int, structure: Any) -> Any:
    """Takes one replica's part of a structure of per-replica values."""
    return distribute_utils.select_replica(replica_id, structure)


def is_mean(reduce_op: Any) -> bool:
    """Whether a reduction, by name or as `ReduceOp`, is the mean."""
    return tf.distribute.ReduceOp.MEAN in (
        reduce_op,
        getattr(tf.distribute.ReduceOp, str(reduce_op).upper(), None),
    )


def first_where_shapes_differ(structure: Any) -> Any:
    """Replaces per-replica tensors of unlike shapes by the first of them."""

    def first_if_unlike(value: Any) -> Any:
        if not isinstance(value, values.PerReplica):
            return value
        shapes = {
            tuple(v.shape.as_list()) if v.shape.rank is not None else None
            for v in value.values
            if isinstance(v, tf.Tensor)
        }
        if len(shapes) < 2:
            return value
        return values.PerReplica([value.values[0]] * len(value.values))

    return tf.nest.map_structure(first_if_unlike, structure)


def is_on_read(creator_kwargs: dict[str, Any]) -> bool:
    """Whether a variable to be created is summed up on read (Keras metrics)."""
    return (
        creator_kwargs.get("synchronization")
        == tf.VariableSynchronization.ON_READ
    )


def is_clock(creator_kwargs: dict[str, Any]) -> bool:
    """Whether a variable to be created counts or scales for an optimizer.

    Keras gives `iterations` and `learning_rate`, and nothing else, the
    aggregation ONLY_FIRST_REPLICA.
    """
    return (
        creator_kwargs.get("aggregation")
        == tf.VariableAggregation.ONLY_FIRST_REPLICA
    )


def is_seed_state(creator_kwargs: dict[str, Any]) -> bool:
    """Whether a variable to be created is a `keras.random.SeedGenerator`'s."""
    return creator_kwargs.get("name") == _SEED_STATE_NAME


def is_ema_swap(update_fn: Callable[..., Any]) -> bool:
    """Whether an update comes from the callback `SwapEMAWeights`."""
    function = inspect.unwrap(tf_decorator.unwrap(update_fn)[1])
    return getattr(function, "__module__", None) == _SWAP_EMA_MODULE


def is_finite_check(function: Callable[..., Any]) -> bool:
    """Whether a function is `LossScaleOptimizer.check_finite`.

    The optimizer asks every replica whether its gradients are finite, then
    believes the first, since gradients used to be summed before.
    """
    owner = getattr(function, "__self__", None)
    return (
        isinstance(owner, keras.optimizers.LossScaleOptimizer)
        and getattr(function, "__name__", None) == "check_finite"
    )


def native_variable(variable: Any) -> Any:
    """The TensorFlow variable inside a Keras variable, or itself."""
    if isinstance(variable, keras.Variable):
        return variable._value
    return variable


def make_local(
    optimizer: keras.optimizers.Optimizer,
    update: Callable[[Callable[..., None], Sequence, Sequence, Any], None],
) -> None:
    """Makes a Keras optimizer step on its own replica's gradients.

    Keras sums gradients over replicas in `_all_reduce_sum_gradients`, then
    updates in `_backend_update_step`. The first becomes the identity, the
    second goes through `update`. Saving is left to the optimizer around it,
    which knows all workers.

    Args:
        optimizer: any `keras.optimizers.Optimizer`; changed in place.
        update: called as `update(step, grads, variables, learning_rate)`,
            where `step(grads, variables, learning_rate)` is the optimizer's
            own update.
    """
    step = optimizer._backend_update_step
    optimizer.save_own_variables = lambda store: None
    optimizer.load_own_variables = lambda store: None
    optimizer._all_reduce_sum_gradients = list
    optimizer._backend_update_step = lambda grads, variables, learning_rate: (
        update(step, grads, variables, learning_rate)
    )


class NestedLauncher(cross_device_utils.CollectiveReplicaLauncher):
    """Launches collectives also in a function that a loop or branch calls.

    Each call of a `tf.function` gives its collectives new keys: a function
    called by another hands the question to its caller's graph. TensorFlow
    asks the graph of the loop body or branch where there is one, which cannot
    answer, and the program fails ("You must feed a value for placeholder
    tensor"). This one asks the function around the loop.

    Relies on `_next_instance_key`, `_collective_keys.get_instance_key`,
    `FuncGraph.capture_call_time_value` with its `key` and
    `_function_captures.by_ref_external`, and `is_control_flow_graph`.
    """

    def _next_instance_key(self) -> Any:
        return self._key_in(ops.get_default_graph(), object())

    def _key_in(self, graph: Any, key: object) -> Any:
        while getattr(graph, "is_control_flow_graph", False):
            graph = graph.outer_graph
        if tf.executing_eagerly() or not graph.building_function:
            return super()._next_instance_key()
        captures = graph._function_captures
        if key in captures.by_ref_internal:
            return captures.by_ref_internal[key]
        spec = tf.TensorSpec([], tf.int32)
        with graph.as_default():
            placeholder = graph.capture_call_time_value(
                super()._next_instance_key, spec, key=key
            )
        evaluate = captures.by_ref_external[key]

        def value() -> Any:
            if tf.executing_eagerly():
                return evaluate()
            return [self._key_in(ops.get_default_graph(), key)]

        value.output_spec = evaluate.output_spec
        captures.by_ref_external[key] = value
        return placeholder


def nest_collectives(extended: MultiWorkerExtended) -> None:
    """Makes all collectives of a strategy those of `NestedLauncher`.

    Relies on `_cross_device_ops` and `_host_cross_device_ops`, each with its
    `_launchers`.
    """
    for operations in (
        extended._cross_device_ops,
        extended._host_cross_device_ops,
    ):
        for launcher in operations._launchers:
            launcher.__class__ = NestedLauncher


def configure_coordination(
    resolver: tf.distribute.cluster_resolver.ClusterResolver,
    startup_timeout_s: float,
    peer_timeout_s: float,
    shutdown_timeout_s: float,
) -> None:
    """Sets how long TensorFlow's coordination service waits for tasks.

    To be called before a multi-worker strategy is made, which leaves a
    service that is configured as it is. The rest is configured as the strategy
    would do it.

    Relies on `Context.coordination_service`,
    `Context.configure_coordination_service` and
    `CollectiveAllReduceExtended._initialize_multi_worker`.
    """
    if tf_context.context().coordination_service is not None:
        return
    spec = multi_worker_util.normalize_cluster_spec(resolver.cluster_spec())
    jobs = ("chief", "worker")
    if resolver.task_type not in jobs:
        return
    tf_context.context().configure_coordination_service(
        service_type="standalone",
        service_leader=multi_worker_util.coordination_leader(spec),
        cluster_register_timeout_in_ms=int(1000 * startup_timeout_s),
        heartbeat_timeout_in_ms=int(1000 * peer_timeout_s),
        shutdown_barrier_timeout_in_ms=int(1000 * shutdown_timeout_s),
        coordinated_jobs=[
            coordination_config_pb2.CoordinatedJob(
                name=job, num_tasks=spec.num_tasks(job)
            )
            for job in jobs
            if job in spec.jobs
        ],
    )


def share_backups() -> None:
    """Makes `keras.callbacks.BackupAndRestore` right for several workers.

    Keras' lets each worker write and read for itself: to one folder they write
    over each other, and workers that find different epochs there never meet.
    For a model whose strategy `shares_backups`, only the chief touches the
    files, and what it has restored goes to all. For other models nothing
    changes. Done once for a process.

    Relies on the callback's `on_train_begin`, `_save_model`, `on_train_end`
    and on `model._initial_epoch`.
    """
    callback = keras.callbacks.BackupAndRestore
    if not hasattr(callback._save_model, "__wrapped__"):
        callback.on_train_begin = _restored_by_all(callback.on_train_begin)
        callback._save_model = _by_chief(callback._save_model)
        callback.on_train_end = _by_chief(callback.on_train_end)


def _by_chief(method: Callable[..., None]) -> Callable[..., None]:
    @functools.wraps(method)
    def by_chief(self: Any, *args: Any, **kwargs: Any) -> None:
        strategy = self.model.distribute_strategy
        if not getattr(strategy, "shares_backups", False) or strategy.is_chief:
            method(self, *args, **kwargs)

    return by_chief


def _restored_by_all(method: Callable[..., None]) -> Callable[..., None]:
    restore = _by_chief(method)

    @functools.wraps(method)
    def restored_by_all(self: Any, *args: Any, **kwargs: Any) -> None:
        restore(self, *args, **kwargs)
        model = self.model
        strategy = model.distribute_strategy
        if not getattr(strategy, "shares_backups", False):
            return
        epoch = -1 if model._initial_epoch is None else model._initial_epoch
        initial_epoch = int(strategy.from_chief(epoch))
        if initial_epoch < 0:
            return  # nothing was there to restore
        model._initial_epoch = initial_epoch
        variables = list(model.variables)
        if model.optimizer is not None:
            if not model.optimizer.built:
                model.optimizer.build(model.trainable_variables)
            variables += model.optimizer.variables
        for variable in variables:
            variable.assign(strategy.from_chief(variable))

    return restored_by_all


check_versions()
