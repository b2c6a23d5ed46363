"""Everything private of TensorFlow and Keras that the package relies on.

No other module imports a private name. Each piece says what it relies on, and
``tests/compat_test.py`` checks each against the installed versions, so a
release that breaks one is found by a message that names it.
"""

import functools
import inspect
import threading
from collections.abc import Callable
from collections.abc import Sequence
from typing import Any
from typing import NamedTuple

import keras
import numpy as np
import tensorflow as tf

# First: it refuses releases in which the rest may not be there.
from tf_elastic import supported  # noqa: F401

# isort: split
from tensorflow.python import pywrap_tfe
from tensorflow.python.checkpoint import restore
from tensorflow.python.data.experimental.ops import distribute as distribute_ops
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
from tensorflow.python.eager.polymorphic_function import (
    polymorphic_function as def_function,
)
from tensorflow.python.framework import composite_tensor
from tensorflow.python.framework import config as tf_config
from tensorflow.python.framework import ops
from tensorflow.python.framework import type_spec
from tensorflow.python.ops import control_flow_util
from tensorflow.python.saved_model import save_context
from tensorflow.python.util import tf_decorator

MirroredExtended = mirrored_strategy.MirroredExtended
MirroredVariable = values.MirroredVariable
MultiWorkerExtended = collective_all_reduce_strategy.CollectiveAllReduceExtended

_HOST_DEVICE = "/device:CPU:0"
_SEED_STATE_NAME = "seed_generator_state"
_SWAP_EMA_MODULE = "keras.src.callbacks.swap_ema_weights"


class UntunedDistributedDataset(input_lib.DistributedDataset):
    """A distributed data set whose slices are handed out untuned.

    TensorFlow reads each device's slice of a batch through a small data set
    of its own, and tf.data starts a tuner for each. A tuner sleeps, for longer
    and longer, up to a minute, and the iterator cannot be closed before it
    wakes: the end of an epoch hangs. There is nothing to tune in them.

    `on_pass` is called whenever a pass over the data begins.
    """

    on_pass: Callable[[], None] | None = None
    whole: tf.data.Dataset | None = None  # what is distributed

    def __iter__(self) -> Any:
        if self.on_pass is not None:
            self.on_pass()
        if self.whole is not None and _all_on_host(self._input_workers):
            return HostIterator.over(self.whole, self._strategy)
        create = multi_device_iterator_ops._create_device_dataset
        multi_device_iterator_ops._create_device_dataset = _untuned(create)
        try:
            return super().__iter__()
        finally:
            multi_device_iterator_ops._create_device_dataset = create


def _all_on_host(input_workers: Any) -> bool:
    devices = [
        device
        for i in range(input_workers.num_workers)
        for device in input_workers.compute_devices_for_worker(i)
    ]
    return all(
        tf.DeviceSpec.from_string(device).device_type == "CPU"
        for device in devices
    )


class _HostIteratorSpec(type_spec.TypeSpec):
    """Of a `HostIterator`."""

    __slots__ = ("_iterator_spec", "_strategy", "_sizes")

    def __init__(
        self, iterator_spec: Any, strategy: Any, sizes: tuple[int, ...]
    ) -> None:
        self._iterator_spec = iterator_spec
        self._strategy = strategy
        self._sizes = sizes

    @property
    def value_type(self) -> type:
        return HostIterator

    @property
    def _component_specs(self) -> list[Any]:
        return [self._iterator_spec]

    def _to_components(self, value: Any) -> list[Any]:
        return [value._iterator]

    def _from_components(self, components: Sequence[Any]) -> Any:
        return HostIterator(components[0], self._strategy, self._sizes)

    def _serialize(self) -> tuple[Any, ...]:
        return (self._iterator_spec, id(self._strategy), self._sizes)

    def _with_tensor_ranks_only(self) -> "_HostIteratorSpec":
        return self._with(self._iterator_spec._with_tensor_ranks_only())

    def _without_tensor_names(self) -> "_HostIteratorSpec":
        return self._with(self._iterator_spec._without_tensor_names())

    def _with(self, iterator_spec: Any) -> "_HostIteratorSpec":
        return _HostIteratorSpec(iterator_spec, self._strategy, self._sizes)

    def _is_alike(self, other: Any) -> bool:
        return (
            type(self) is type(other)
            and self._strategy is other._strategy
            and self._sizes == other._sizes
        )

    def is_subtype_of(self, other: Any) -> bool:
        """Whether an iterator of this kind is one of that kind, too."""
        return self._is_alike(other) and self._iterator_spec.is_subtype_of(
            other._iterator_spec
        )

    def most_specific_common_supertype(self, others: Sequence[Any]) -> Any:
        """The kind of which all of these are, or None."""
        if not all(map(self._is_alike, others)):
            return None
        common = self._iterator_spec.most_specific_common_supertype(
            [other._iterator_spec for other in others]
        )
        if common is None:
            return None
        return self._with(common)


class HostIterator(
    input_lib.DistributedIteratorBase, composite_tensor.CompositeTensor
):
    """Takes batches from a data set on the host, and cuts them for devices.

    TensorFlow's own hands out a slice at a time, through one more data set
    for each device, which is made and traced anew in each pass: it is there
    to have the next batch on a GPU in time. Where the devices are the host's
    there is nothing to be copied.

    A batch is cut as TensorFlow does it: the first device takes as much as it
    takes of a full batch, and so on, so that a last, shorter batch may leave
    nothing for the last devices.

    Args:
        iterator: an iterator over batches.
        strategy: whose devices they are for.
        sizes: rows of each device, of a full batch; empty if it is not known
            how many rows that has: then each takes as many as the others.
    """

    def __init__(
        self, iterator: Any, strategy: Any, sizes: tuple[int, ...]
    ) -> None:
        self._iterator = iterator
        self._strategy = strategy
        self._sizes = sizes

    @classmethod
    def over(cls, dataset: tf.data.Dataset, strategy: Any) -> "HostIterator":
        """An iterator over a whole data set, from its beginning."""
        sizes: tuple[int, ...] = ()
        replicas = strategy.num_replicas_in_sync
        if replicas > 1 and tf.executing_eagerly():
            rows = int(distribute_ops.compute_batch_size(dataset))
            if rows > 0:
                sizes = tuple(
                    rows // replicas + (i < rows % replicas)
                    for i in range(replicas)
                )
        with tf.device(_HOST_DEVICE):
            return cls(iter(dataset.prefetch(1)), strategy, sizes)

    @property
    def element_spec(self) -> Any:
        """The specifications of what `get_next` returns."""
        whole = self._iterator.element_spec
        if self._num_parts == 1:
            return whole
        return tf.nest.map_structure(
            lambda spec: values.PerReplicaSpec(
                *(
                    part_spec(spec, i, self._num_parts, self._sizes)
                    for i in range(self._num_parts)
                )
            ),
            whole,
        )

    @property
    def _num_parts(self) -> int:
        return self._strategy.num_replicas_in_sync

    @property
    def _type_spec(self) -> _HostIteratorSpec:
        return _HostIteratorSpec(
            self._iterator._type_spec, self._strategy, self._sizes
        )

    def get_next(self, name: str | None = None) -> Any:
        """The next batch, cut up.

        Raises:
            tf.errors.OutOfRangeError: there is none.
        """
        del name
        with tf.device(_HOST_DEVICE):
            return self._cut(self._iterator.get_next())

    def get_next_as_optional(self) -> Any:
        """The next batch, cut up, as a `tf.experimental.Optional`."""
        with tf.device(_HOST_DEVICE):
            batch = self._iterator.get_next_as_optional()
            return tf.cond(
                batch.has_value(),
                lambda: tf.experimental.Optional.from_value(
                    self._cut(batch.get_value())
                ),
                lambda: tf.experimental.Optional.empty(self.element_spec),
            )

    def _cut(self, batch: Any) -> Any:
        return split_rows(batch, self._num_parts, self._sizes)


def split_rows(
    structure: Any, num_parts: int, sizes: Sequence[int] = ()
) -> Any:
    """Cuts the tensors of a structure along their rows, one part a replica.

    Args:
        structure: of tensors, of which those without rows stay as they are.
        num_parts: how many parts.
        sizes: rows of each part at most, the first ones being filled first;
            left out, they are as even as can be, the first ones having a row
            more where it does not come out even.
    """
    if num_parts == 1:
        return structure

    def split(value: Any) -> Any:
        if isinstance(value, np.ndarray):
            value = tf.convert_to_tensor(value)
        if not isinstance(value, (tf.Tensor, tf.RaggedTensor, tf.SparseTensor)):
            return value
        if value.shape.rank == 0:
            return values.PerReplica([value] * num_parts)
        rows = _num_rows(value)
        begin, parts = 0, []
        for size in _part_sizes(rows, num_parts, sizes):
            parts.append(_rows(value, begin, size))
            begin = begin + size
        return values.PerReplica(parts)

    return tf.nest.map_structure(split, structure)


def part_spec(
    spec: Any, i: int, num_parts: int, sizes: Sequence[int]
) -> Any:
    """The specification of part i of what `split_rows` cuts."""
    shape = getattr(spec, "shape", tf.TensorShape([]))
    if not shape.rank or isinstance(spec, tf.SparseTensorSpec):
        if not shape.rank:
            return spec
        return tf.SparseTensorSpec([None, *shape[1:]], spec.dtype)
    rows = shape[0]
    if rows is not None:
        rows = _part_sizes(rows, num_parts, sizes)[i]
    if isinstance(spec, tf.RaggedTensorSpec):
        return tf.RaggedTensorSpec(
            [rows, *shape[1:]],
            spec.dtype,
            spec.ragged_rank,
            spec.row_splits_dtype,
        )
    return tf.TensorSpec([rows, *shape[1:]], spec.dtype)


def _num_rows(value: Any) -> Any:
    if value.shape.rank is not None and value.shape[0] is not None:
        return value.shape[0]
    if isinstance(value, tf.SparseTensor):
        return value.dense_shape[0]
    if isinstance(value, tf.RaggedTensor):
        return tf.cast(value.nrows(), tf.int64)
    return tf.shape(value, tf.int64)[0]


def _part_sizes(
    rows: Any, num_parts: int, sizes: Sequence[int]
) -> list[Any]:
    if sizes:
        ends = [sum(sizes[: i + 1]) for i in range(num_parts - 1)]
        if isinstance(rows, int):
            cuts = [0, *(min(end, rows) for end in ends), rows]
        else:
            cuts = [0, *(tf.minimum(rows, end) for end in ends), rows]
        return [
            end - begin for begin, end in zip(cuts, cuts[1:], strict=False)
        ]
    if isinstance(rows, int):
        return [
            rows // num_parts + (i < rows % num_parts)
            for i in range(num_parts)
        ]
    return [
        rows // num_parts + tf.cast(i < rows % num_parts, rows.dtype)
        for i in range(num_parts)
    ]


def _rows(value: Any, begin: Any, size: Any) -> Any:
    if not isinstance(value, tf.SparseTensor):
        return value[begin : begin + size]
    rank = value.shape.rank
    start = tf.one_hot(0, rank, tf.cast(begin, tf.int64), dtype=tf.int64)
    shape = tf.concat(
        [[tf.cast(size, tf.int64)], value.dense_shape[1:]], axis=0
    )
    return tf.sparse.slice(value, start, shape)


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


class RestoredFrom(NamedTuple):
    """What a `tf.train.Checkpoint` that is being restored has of an object."""

    names: frozenset[str]  # of the object's tensors
    restore: int  # the same for all objects that are restored together


_restored = threading.local()


def restored_from() -> RestoredFrom | None:
    """What is in the checkpoint of the object that is being restored now.

    TensorFlow asks an object for the tensors it would save, and looks for the
    same in the checkpoint. With this it can name those that are there.

    Relies on `CheckpointPosition.gather_ops_or_named_saveables` calling
    `_serialize_to_tensors`, on its `object_proto.attributes` and `restore_uid`.
    """
    return getattr(_restored, "now", None)


def _telling(gather: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(gather)
    def telling(position: Any) -> Any:
        _restored.now = RestoredFrom(
            frozenset(a.name for a in position.object_proto.attributes),
            position.restore_uid,
        )
        try:
            return gather(position)
        finally:
            _restored.now = None

    return telling


def tell_what_is_restored() -> None:
    """Makes `restored_from` work; done once for a process."""
    position = restore.CheckpointPosition
    gather = position.gather_ops_or_named_saveables
    if not hasattr(gather, "__wrapped__"):
        position.gather_ops_or_named_saveables = _telling(gather)


def is_single_copy_export() -> bool:
    """Whether a SavedModel of one copy of each variable is being written."""
    return values_util.is_saving_non_distributed()


def select_replica(replica_id: int, structure: Any) -> Any:
    """Takes one replica's part of a structure of per-replica values."""
    return distribute_utils.select_replica(replica_id, structure)


def default_graph() -> Any:
    """The graph that is being built; None in eager code."""
    return None if tf.executing_eagerly() else ops.get_default_graph()


def is_traced_function(function: Any) -> bool:
    """Whether a function is a `tf.function`."""
    return isinstance(function, def_function.Function)


def is_per_replica(value: Any) -> bool:
    """Whether a value is another one in each replica."""
    return isinstance(value, values.PerReplica)


def is_keras_step(function: Callable[..., Any]) -> bool:
    """Whether a function is what `fit`, `evaluate` or `predict` run.

    Relies on `Trainer.train_step` and `test_step` being handed to
    `strategy.run` as they are, and on the name of the function that
    `make_predict_function` hands over.
    """
    if is_train_step(function) or _is_method(function, "test_step"):
        return True
    inner = inspect.unwrap(tf_decorator.unwrap(function)[1])
    return getattr(inner, "__qualname__", "").startswith(
        "TensorFlowTrainer.make_predict_function."
    )


def is_train_step(function: Callable[..., Any]) -> bool:
    """Whether a function is a Keras model's `train_step`."""
    return _is_method(function, "train_step")


def _is_method(function: Any, name: str) -> bool:
    return isinstance(
        getattr(function, "__self__", None), keras.Model
    ) and getattr(function, "__name__", None) == name


def mixes_strategies(error: RuntimeError) -> bool:
    """Whether TensorFlow found things of two strategies together."""
    return "Mixing different tf.distribute.Strategy objects" in str(error)


def lacks_call(error: RuntimeError) -> bool:
    """Whether Keras could not build a model that has no `call`."""
    text = str(error)
    return (
        "Unable to automatically build the model" in text
        and "does not have a `call()` method implemented" in text
    )


def is_mean(reduce_op: Any) -> bool:
    """Whether a reduction, by name or as `ReduceOp`, is the mean."""
    return tf.distribute.ReduceOp.MEAN in (
        reduce_op,
        getattr(tf.distribute.ReduceOp, str(reduce_op).upper(), None),
    )


def first_if_no_mean(value: Any) -> Any:
    """The first component of per-replica values that cannot be averaged.

    These are tensors of unlike shapes, of booleans or strings, and ragged or
    sparse ones.

    Args:
        value: of any kind.

    Returns:
        The first component, or `value` if it has a mean or is not per-replica.
    """
    if not isinstance(value, values.PerReplica):
        return value
    parts = value.values
    has_mean = all(
        isinstance(part, tf.Tensor)
        and (part.dtype.is_floating or part.dtype.is_integer)
        for part in parts
    )
    if has_mean:
        shapes = {
            tuple(part.shape.as_list()) if part.shape.rank is not None else None
            for part in parts
        }
        has_mean = len(shapes) < 2
    return value if has_mean else parts[0]


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


def clock_and_rate(optimizer: keras.optimizers.Optimizer) -> tuple[Any, Any]:
    """An optimizer's count of calls, and what its learning rate is.

    Both as TensorFlow has them; the second is no variable where a schedule or
    a function gives the rate.
    """
    return (
        native_variable(optimizer._iterations),
        native_variable(optimizer._learning_rate),
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
    second goes through `update`.

    Args:
        optimizer: any `keras.optimizers.Optimizer`; changed in place.
        update: called as `update(step, grads, variables, learning_rate)`,
            where `step(grads, variables, learning_rate)` is the optimizer's
            own update.
    """
    step = optimizer._backend_update_step
    optimizer._all_reduce_sum_gradients = list
    optimizer._backend_update_step = lambda grads, variables, learning_rate: (
        update(step, grads, variables, learning_rate)
    )


def leave_saving(optimizer: keras.optimizers.Optimizer) -> None:
    """Makes a Keras optimizer save nothing: the one around it does.

    Args:
        optimizer: any `keras.optimizers.Optimizer`; changed in place.
    """
    optimizer.save_own_variables = lambda store: None
    optimizer.load_own_variables = lambda store: None


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

    Relies on the protocol buffers that `context` has imported (their own place
    has moved), on `Context.coordination_service`,
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
            tf_context.coordination_config_pb2.CoordinatedJob(
                name=job, num_tasks=spec.num_tasks(job)
            )
            for job in jobs
            if job in spec.jobs
        ],
    )


def build_by_specification() -> None:
    """Makes Keras build models of our strategies without a pass over data.

    Before `fit` and `evaluate` Keras takes a first batch to learn its shape,
    then begins anew. Data that cannot begin anew, a Python generator's, has
    lost by then what was read ahead. What is to be learned stands in the
    specification of the data set. For other strategies nothing changes. Done
    once for a process.

    Relies on `TensorFlowTrainer._maybe_symbolic_build(iterator, data_batch)`
    and on `TFEpochIterator._distributed_dataset`.
    """
    original = keras.Model._maybe_symbolic_build
    if hasattr(original, "__wrapped__"):
        return

    @functools.wraps(original)
    def build(self: Any, iterator: Any = None, data_batch: Any = None) -> None:
        dataset = getattr(iterator, "_distributed_dataset", None)
        whole = getattr(dataset, "whole", None)
        if whole is not None:
            iterator = None
            data_batch = _symbolic_batch(whole)
        original(self, iterator=iterator, data_batch=data_batch)

    keras.Model._maybe_symbolic_build = build


def _symbolic_batch(dataset: tf.data.Dataset) -> Any:
    """What has the shapes and dtypes of a batch."""
    spec = dataset.element_spec
    if all(_has_shape(leaf) for leaf in tf.nest.flatten(spec)):
        return tf.nest.map_structure(
            lambda leaf: None if _is_optional(leaf) else leaf, spec
        )
    return next(iter(dataset.take(1)))


def _has_shape(spec: Any) -> bool:
    return _is_optional(spec) or (
        isinstance(
            spec, (tf.TensorSpec, tf.RaggedTensorSpec, tf.SparseTensorSpec)
        )
        and spec.shape.rank is not None
    )


def _is_optional(spec: Any) -> bool:
    return isinstance(spec, tf.OptionalSpec)


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
