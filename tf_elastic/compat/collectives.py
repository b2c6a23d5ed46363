"""Collectives and the coordination of several processes."""

from collections.abc import Callable
from collections.abc import Sequence
from typing import Any

import tensorflow as tf
from tensorflow.python.distribute import collective_all_reduce_strategy
from tensorflow.python.distribute import cross_device_utils
from tensorflow.python.distribute import multi_worker_util
from tensorflow.python.eager import context as tf_context
from tensorflow.python.framework import ops

MultiWorkerExtended = collective_all_reduce_strategy.CollectiveAllReduceExtended


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


class CountedLauncher(cross_device_utils.CollectiveReplicaLauncher):
    """Launches the k-th collective of each process as one, wherever it is.

    TensorFlow's own are counted as functions are called, also those that a
    call has not come to: where the data of one process end within a step, its
    count is ahead of the others', and all wait for ever. And they are called
    by the iteration of the loop that they are in, which is another one where
    a process' epoch, and with it an execution of several steps, ends earlier.

    Relies on `_next_instance_key`, on `_group_key`, `_group_size`,
    `_collective_keys`, `_device` and `_options`, on
    `CollectiveKeys._get_new_group_key`, and on `_noinline`, by which a
    function is not in its caller's loop.
    """

    count: tf.Variable

    def _next_instance_key(self) -> Any:
        with tf.device("/device:CPU:0"):
            return self.count.assign_add(1, read_value=True)

    def all_reduce(
        self, input_tensor: Any, control_input: Any = None, options: Any = None
    ) -> tf.Tensor:
        """See its base."""
        after = [] if control_input is None else [control_input]
        with tf.control_dependencies(after):
            return self._function(options)(tf.convert_to_tensor(input_tensor))

    def _function(self, options: Any) -> Callable[[tf.Tensor], tf.Tensor]:
        merged = self._options.merge(options)
        key = merged.implementation, merged.timeout_seconds
        functions = self.__dict__.setdefault("_functions", {})
        if key not in functions:
            reduce = super().all_reduce
            functions[key] = tf.function(
                lambda value: reduce(value, None, options),
                autograph=False,
                experimental_attributes={"_noinline": True},
            )
        return functions[key]

    def apart(self) -> "CountedLauncher":
        """Another one, for collectives that have an order of their own.

        All processes make it together.
        """
        keys, device = self._collective_keys, self._device
        other = CountedLauncher(
            keys._get_new_group_key([device]),
            self._group_size,
            keys,
            device,
            self._options,
        )
        other.count = _new_count()
        return other


def _new_count() -> tf.Variable:
    with tf.init_scope(), tf.device("/device:CPU:0"):
        return tf.Variable(0, dtype=tf.int32, trainable=False)


def count_collectives(extended: MultiWorkerExtended) -> None:
    """Makes all collectives of a strategy those of `CountedLauncher`.

    Relies on `_cross_device_ops` and `_host_cross_device_ops`, each with its
    `_launchers`, and on their `_group_key` and `_device`.
    """
    counts: dict[tuple[int, str], tf.Variable] = {}
    for operations in (
        extended._cross_device_ops,
        extended._host_cross_device_ops,
    ):
        for launcher in operations._launchers:
            # On hosts without other devices both are one group.
            key = launcher._group_key, launcher._device
            if key not in counts:
                counts[key] = _new_count()
            launcher.count = counts[key]
            launcher.__class__ = CountedLauncher


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


def has_collective_server() -> bool:
    """Whether this process' TensorFlow server is there, by a first strategy.

    Relies on `Context._collective_ops_server_def`.
    """
    return tf_context.context()._collective_ops_server_def is not None


def host_sums(
    extended: MultiWorkerExtended,
) -> Callable[[tf.Tensor], tf.Tensor]:
    """Makes sums over processes, which they ask for anywhere.

    One may ask in the graph of a step where another one asks in eager code:
    the k-th time of each is the same sum. Waiting holds no thread of a graph,
    whose peers may need it. All processes make it together.

    Relies on what `sum_on_hosts` does, after `count_collectives`.

    Args:
        extended: of their strategy.
    """
    [launcher] = extended._host_cross_device_ops._launchers
    return launcher.apart().all_reduce


def sum_on_hosts(extended: MultiWorkerExtended, value: tf.Tensor) -> tf.Tensor:
    """The sum of what all processes have, on all; eager or in a graph.

    All of them ask for the same sums in the same order.

    Relies on `_host_cross_device_ops`, which has `_launchers`, one for this
    process' host, and on their `all_reduce`.

    Args:
        extended: of their strategy.
        value: of the same shape and dtype in each; bfloat16, half, float,
            double, int32 or int64, and not empty.
    """
    [launcher] = extended._host_cross_device_ops._launchers
    return launcher.all_reduce(value)


def sum_on_devices(
    extended: MultiWorkerExtended, values: Sequence[Any]
) -> list[Any]:
    """Sums over the devices of all processes, in cross-replica context.

    Relies on `_cross_device_ops`.

    Args:
        extended: of their strategy.
        values: per-replica tensors or `IndexedSlices`.
    """
    return extended._cross_device_ops.batch_reduce(
        tf.distribute.ReduceOp.SUM, [(value, value) for value in values]
    )


def peer_answers(task: int, timeout_s: float) -> bool:
    """Whether another process of the collectives is there, and the same one.

    Relies on `Context.check_collective_ops_peer_health`.

    Args:
        task: of the job `worker`.
        timeout_s: how long it may take to answer.
    """
    try:
        tf_context.context().check_collective_ops_peer_health(
            f"/job:worker/replica:0/task:{task}", int(1000 * timeout_s)
        )
    except (
        tf.errors.UnavailableError,  # it is not there
        tf.errors.FailedPreconditionError,  # another one is in its place
        tf.errors.DeadlineExceededError,
    ):
        return False
    return True


def abort_collectives(message: str) -> None:
    """Ends all collectives, under way or to come, with UnavailableError.

    Relies on `Context.abort_collective_ops`.

    Args:
        message: of the error.
    """
    tf_context.context().abort_collective_ops(tf.errors.UNAVAILABLE, message)
