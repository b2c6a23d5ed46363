"""Collectives and the coordination of several processes."""

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
