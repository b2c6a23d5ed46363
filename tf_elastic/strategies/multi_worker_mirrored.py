"""TensorFlow's synchronous training on several machines, for Keras 3."""

import contextlib
import faulthandler
import socket
import time
from collections.abc import Iterator
from typing import Any

import tensorflow as tf
from absl import logging

from tf_elastic import compat

_POLL_S = 0.1  # between two looks at the tasks that have not come yet
_CONNECT_S = 1.0  # for one attempt to reach a task
_TRAINING_JOBS = ("chief", "worker")


class MultiWorkerMirroredStrategy(tf.distribute.MultiWorkerMirroredStrategy):
    """`tf.distribute.MultiWorkerMirroredStrategy` that Keras 3 can train with.

    Use it where the tutorial "Multi-worker training with Keras" uses
    TensorFlow's strategy. Every worker runs the same program, with its own
    `TF_CONFIG`; all take each step together, on the sum of their gradients.
    Without `TF_CONFIG` it trains on the devices of this process.

    TensorFlow's own fails in Keras' `fit`. Here `fit`, `evaluate`, `predict`,
    `save` and callbacks work, with any `steps_per_execution`. Metrics are
    those of all workers together, the same on each. `predict` returns on each
    worker the predictions of all.

    Everything that reads metrics or takes a step is done by all workers
    together: call `fit`, `evaluate`, `predict` and `save` on each of them, in
    the same order. Let each write to a place of its own.

    # Security

    Each worker starts a TensorFlow server. It listens on all interfaces,
    without encryption or authentication, and runs whatever it is sent. Keep
    the ports of `TF_CONFIG` inside a network that you trust.

    # Deadlines

    A worker that is not there `startup_timeout_s` after the first one is a
    `TimeoutError`. One that dies while training ends the others' step with a
    `tf.errors.OpError` that names it, after about `peer_timeout_s`; start all
    again, with `keras.callbacks.BackupAndRestore`. One that lives but does
    not take part (it called something that the others did not) is waited for:
    set `timeout_seconds` of `communication_options` to find it.

    Args:
        cluster_resolver: `tf.distribute.cluster_resolver.ClusterResolver`, or
            None to read `TF_CONFIG`.
        communication_options:
            `tf.distribute.experimental.CommunicationOptions`, or None for
            TensorFlow's defaults.
        startup_timeout_s: how long to wait for the other tasks, in seconds.
        peer_timeout_s: how long a task may be silent, in seconds.

    Raises:
        TimeoutError: not all tasks have come.
        ValueError: a time is not positive, or the cluster is not a valid one.

    Example:

    ```python
    strategy = te.strategies.MultiWorkerMirroredStrategy()
    with strategy.scope():
        model = te.models.digits_convnet()
        model.compile("sgd", loss="sparse_categorical_crossentropy")
    model.fit(train, epochs=3, steps_per_epoch=70)
    ```

    If a step is slow and the network is not, raise `steps_per_execution`.
    """

    def __init__(
        self,
        cluster_resolver: Any = None,
        communication_options: Any = None,
        *,
        startup_timeout_s: float = 600.0,
        peer_timeout_s: float = 60.0,
    ) -> None:
        for name, value in (
            ("startup_timeout_s", startup_timeout_s),
            ("peer_timeout_s", peer_timeout_s),
        ):
            if not value > 0:
                raise ValueError(
                    f"`{name}` must be positive, in seconds. "
                    f"Received: {name}={value}."
                )
        if communication_options is None:
            options = tf.distribute.experimental.CommunicationOptions()
        else:
            options = communication_options
        tf.distribute.Strategy.__init__(
            self,
            MultiWorkerMirroredExtended(
                self,
                cluster_resolver,
                options,
                startup_timeout_s,
                peer_timeout_s,
            ),
        )
        compat.share_backups()

    @property
    def shares_backups(self) -> bool:
        """Whether a backup is the chief's alone, and restored on all."""
        return self.num_replicas_in_sync > len(self.extended.worker_devices)

    @property
    def is_chief(self) -> bool:
        """Whether this is the task that writes backups."""
        return self.extended.should_checkpoint

    def from_chief(self, value: Any) -> tf.Tensor:
        """The chief's value, on all workers, to the bit.

        All workers call it together, in eager code, with values of one shape
        and dtype.
        """
        value = tf.convert_to_tensor(value)
        bits = tf.cast(value, tf.int32) if value.dtype.is_bool else value
        if not self.is_chief:
            bits = tf.zeros_like(bits)
        return tf.cast(super().reduce("SUM", bits, axis=None), value.dtype)

    def reduce(self, reduce_op: Any, value: Any, axis: Any) -> Any:
        """Reduces a per-replica value; see `tf.distribute.Strategy.reduce`.

        Two things that Keras asks for are taken besides: a structure of
        values, of which it wants to learn the shapes only, gives the first
        replica's; and a scalar is reduced over the replicas, whatever the
        axis.
        """
        if tf.nest.is_nested(value) and not tf.is_tensor(value):
            return tf.nest.map_structure(self._first, value)
        if axis is not None and self._first(value).shape.rank == 0:
            axis = None
        return super().reduce(reduce_op, value, axis)

    def _first(self, value: Any) -> Any:
        return self.experimental_local_results(value)[0]


class MultiWorkerMirroredExtended(compat.MultiWorkerExtended):
    """Starts the cluster with deadlines, and collectives that may be nested."""

    def __init__(
        self,
        container_strategy: tf.distribute.Strategy,
        cluster_resolver: Any,
        communication_options: Any,
        startup_timeout_s: float,
        peer_timeout_s: float,
    ) -> None:
        self._startup_timeout_s = startup_timeout_s
        self._peer_timeout_s = peer_timeout_s
        super().__init__(
            container_strategy, cluster_resolver, communication_options
        )

    def _initialize_local(
        self, cluster_resolver: Any, devices: Any = None
    ) -> None:
        super()._initialize_local(cluster_resolver, devices)
        compat.nest_collectives(self)

    def _initialize_multi_worker(self, cluster_resolver: Any) -> None:
        logging.warning(
            "MultiWorkerMirroredStrategy starts a TensorFlow server, which "
            "listens on all interfaces without encryption or authentication. "
            "Keep its port inside a trusted network."
        )
        compat.configure_coordination(
            cluster_resolver,
            startup_timeout_s=self._startup_timeout_s,
            peer_timeout_s=self._peer_timeout_s,
            shutdown_timeout_s=self._peer_timeout_s,
        )
        deadline = time.monotonic() + self._startup_timeout_s
        if not compat.has_collective_server():
            _wait_for_tasks(cluster_resolver, self._startup_timeout_s)
        with _exit_after(deadline - time.monotonic() + self._peer_timeout_s):
            super()._initialize_multi_worker(cluster_resolver)
        compat.nest_collectives(self)

    def _experimental_distribute_dataset(
        self, dataset: tf.data.Dataset, options: Any
    ) -> Any:
        per_replica = tf.distribute.InputReplicationMode.PER_REPLICA
        if options and options.experimental_replication_mode == per_replica:
            # It refuses this.
            return super()._experimental_distribute_dataset(dataset, options)
        return compat.UntunedDistributedDataset(
            self._input_workers_with_options(options),
            self._container_strategy(),
            dataset,
            num_replicas_in_sync=self._num_replicas_in_sync,
            input_context=self._make_input_context(),
            options=options,
        )


def _wait_for_tasks(resolver: Any, timeout_s: float) -> None:
    """Waits until every other task can be connected to.

    TensorFlow waits for them too, but without an end, and deaf to all else. So
    each task opens its port, looks for the others, and closes it again for
    TensorFlow's server; a task is there if either of the two listens.

    Raises:
        TimeoutError: some did not come; it names them.
        OSError: this task's port is taken.
    """
    own = (resolver.task_type, resolver.task_id)
    cluster = resolver.cluster_spec().as_dict()
    tasks = {
        (job, index): address
        for job in _TRAINING_JOBS
        for index, address in _numbered(cluster.get(job, ()))
    }
    if own not in tasks:
        return  # TensorFlow says what is wrong with it; or an evaluator.
    pending = {task: a for task, a in tasks.items() if task != own}
    begin = time.monotonic()
    with _open_port(tasks[own]):
        while pending:
            pending = {
                task: address
                for task, address in pending.items()
                if not _listens(address)
            }
            waited_s = time.monotonic() - begin
            if pending and waited_s > timeout_s:
                missing = ", ".join(
                    f"{job} {index} ({address})"
                    for (job, index), address in sorted(pending.items())
                )
                raise TimeoutError(
                    f"{own[0]} {own[1]} waited {waited_s:.0f} s for tasks "
                    f"that did not come: {missing}. Start them with the same "
                    "cluster in TF_CONFIG, see that their ports can be reached "
                    "from here, or raise startup_timeout_s."
                )
            if pending:
                time.sleep(_POLL_S)


def _numbered(addresses: Any) -> Iterator[tuple[int, str]]:
    """The tasks of a job, which is a list or, if sparse, a dict."""
    if isinstance(addresses, dict):
        return iter(addresses.items())
    return enumerate(addresses)


def _split(address: str) -> tuple[str, int]:
    host, _, port = address.rpartition(":")
    return host.strip("[]"), int(port)


def _open_port(address: str) -> socket.socket:
    """Listens on the port of an address; nobody is ever answered."""
    _, port = _split(address)
    try:
        if socket.has_dualstack_ipv6():
            return socket.create_server(
                ("", port), family=socket.AF_INET6, dualstack_ipv6=True
            )
        return socket.create_server(("", port))
    except OSError as error:
        raise OSError(
            error.errno,
            f"The port of this task, {address} in TF_CONFIG, cannot be opened "
            f"({error.strerror}). Stop what uses it, or give another.",
        ) from error


def _listens(address: str) -> bool:
    try:
        socket.create_connection(_split(address), _CONNECT_S).close()
    except OSError:
        return False
    return True


@contextlib.contextmanager
def _exit_after(timeout_s: float) -> Iterator[None]:
    """Ends the process if the block takes longer.

    For a task that dies between the first contact and the start of its
    server: TensorFlow waits in a call that no other Python thread can end.
    """
    faulthandler.dump_traceback_later(timeout_s, exit=True)
    try:
        yield
    finally:
        faulthandler.cancel_dump_traceback_later()
