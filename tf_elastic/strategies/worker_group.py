"""Processes that are one worker of a cluster together.

Those of a group take each step together, on the sum of their gradients, as
under `MultiWorkerMirroredStrategy`, which sums them. To the center they are
one worker: the leader exchanges, and what is replied all of them get, and
follow. They hold the same parameters at all times, to the bit.
"""

from collections.abc import Callable
from collections.abc import Sequence
from typing import Any

import tensorflow as tf

from tf_elastic import compat
from tf_elastic.cluster.launch.configuration import ClusterConfiguration
from tf_elastic.cluster.launch.configuration import members_of_group
from tf_elastic.optimizers.strategy_interface import Gradient
from tf_elastic.strategies import device_gradients
from tf_elastic.strategies.multi_worker_mirrored import (
    MultiWorkerMirroredStrategy,
)
from tf_elastic.strategies.peer_watch import PeerWatch


class Alone:
    """A process that is a worker by itself: the group that is none."""

    size = 1
    member = 0
    is_leader = True
    devices: tuple[str, ...] | None = None  # As asked for.

    def ask(
        self,
        function: Callable[..., Any],
        inputs: Sequence[Any],
        scalars: Sequence[tf.DType],
        arrays: Sequence[tf.DType] = (),
    ) -> list[tf.Tensor]:
        """Asks the host something, in a graph or not.

        Args:
            function: gets arrays of NumPy and gives back such, in order: the
                scalars, then flat arrays of any size.
            inputs: what it gets, tensors.
            scalars: their dtypes.
            arrays: theirs.
        """
        return _asked(function, inputs, [*scalars, *arrays])

    def shared(
        self,
        values: Sequence[Any],
        scalars: Sequence[tf.DType],
        arrays: Sequence[tf.DType] = (),
    ) -> list[tf.Tensor]:
        """The leader's values, in eager code; all ask together.

        Args:
            values: the leader's, as `ask` has them from a function.
            scalars: their dtypes.
            arrays: theirs.
        """
        del scalars, arrays
        return [tf.constant(value) for value in values]

    def agreed(self, numbers: Sequence[int]) -> list[int]:
        """The leader's integers, as of `shared`."""
        return list(numbers)

    def trains(self, is_on: bool) -> None:
        """Tells whether the group is in the midst of training."""

    def end(self) -> None:
        """The process leaves its cluster."""

    def summed(self, grads: Sequence[Gradient]) -> list[Gradient]:
        """Gradients over all devices of the worker, in a replica."""
        if tf.distribute.get_strategy().num_replicas_in_sync == 1:
            return list(grads)
        return device_gradients.summed(grads)


class WorkerGroup(Alone):
    """One process of a group, a member.

    Args:
        configuration: of the cluster, as this process' TF_CONFIG has it.
        size: of each group: members are workers of neighboring numbers.
        peer_timeout_s: how long a member may be silent, in seconds, before
            the others' training ends with an error.
        startup_timeout_s: how long to wait for the others to start.
        communication_options: see `MultiWorkerMirroredStrategy`.

    Raises:
        TimeoutError: the others have not come.
    """

    def __init__(
        self,
        configuration: ClusterConfiguration,
        size: int,
        peer_timeout_s: float,
        startup_timeout_s: float,
        communication_options: Any = None,
    ) -> None:
        self.size = size
        self.member = configuration.index % size
        self.is_leader = self.member == 0
        addresses = members_of_group(configuration, size)
        self._strategy = MultiWorkerMirroredStrategy(
            tf.distribute.cluster_resolver.SimpleClusterResolver(
                tf.train.ClusterSpec({"worker": list(addresses)}),
                task_type="worker",
                task_id=self.member,
                num_accelerators={
                    "GPU": len(tf.config.list_physical_devices("GPU"))
                },
                rpc_layer="grpc",
            ),
            communication_options,
            startup_timeout_s=startup_timeout_s,
            peer_timeout_s=peer_timeout_s,
        )
        self._extended = self._strategy.extended
        self.devices = tuple(self._extended.worker_devices)
        first = configuration.index - self.member
        self._watch = PeerWatch(
            {
                member: f"worker {first + member} ({address})"
                for member, address in enumerate(addresses)
                if member != self.member
            },
            peer_timeout_s,
            compat.peer_answers,
            compat.abort_collectives,
        )

    def trains(self, is_on: bool) -> None:
        """Looks whether all are there while they train."""
        self._watch.look(is_on)

    def end(self) -> None:
        """The others may end from now on."""
        self._watch.end()

    def ask(
        self,
        function: Callable[..., Any],
        inputs: Sequence[Any],
        scalars: Sequence[tf.DType],
        arrays: Sequence[tf.DType] = (),
    ) -> list[tf.Tensor]:
        """The leader asks its host, and all get the whole reply."""
        dtypes = [*scalars, *arrays]
        replied = []
        if self.is_leader:
            replied = _asked(function, inputs, dtypes)
        return self._told(replied, scalars, arrays) if dtypes else []

    def shared(
        self,
        values: Sequence[Any],
        scalars: Sequence[tf.DType],
        arrays: Sequence[tf.DType] = (),
    ) -> list[tf.Tensor]:
        """See `Alone`."""
        return self._told(list(map(tf.constant, values)), scalars, arrays)

    def agreed(self, numbers: Sequence[int]) -> list[int]:
        """See `Alone`."""
        own = tf.constant(list(map(int, numbers)), tf.int64)
        return [int(number) for number in self._from_leader(own).numpy()]

    def _told(
        self,
        values: Sequence[tf.Tensor],
        scalars: Sequence[tf.DType],
        arrays: Sequence[tf.DType],
    ) -> list[tf.Tensor]:
        """The leader's values, whose sizes it alone knows."""
        if not self.is_leader:
            values = [tf.zeros([0], dtype) for dtype in [*scalars, *arrays]]
        flat = [tf.reshape(value, [-1]) for value in values]
        sizes = self._from_leader(tf.stack([tf.size(v) for v in flat]))
        told = [self._all_of(value, sizes[k]) for k, value in enumerate(flat)]
        count = len(scalars)
        return [*(tf.reshape(v, []) for v in told[:count]), *told[count:]]

    def _all_of(self, value: tf.Tensor, size: tf.Tensor) -> tf.Tensor:
        """The leader's flat value, which may be empty."""
        if not self.is_leader:
            value = tf.zeros([size], value.dtype)
        return tf.cond(
            size > 0, lambda: self._from_leader(value), lambda: value
        )

    def _from_leader(self, value: tf.Tensor) -> tf.Tensor:
        """The leader's value, of a shape and dtype that all know."""
        bits = tf.cast(value, tf.int32) if value.dtype.is_bool else value
        if not self.is_leader:
            bits = tf.zeros_like(bits)
        total = compat.sum_on_hosts(self._extended, bits)
        total = tf.ensure_shape(total, value.shape)
        return tf.cast(total, value.dtype)

    def summed(self, grads: Sequence[Gradient]) -> list[Gradient]:
        """Gradients over all devices of all members, in a replica."""
        return device_gradients.summed_by(
            lambda values: compat.sum_on_devices(self._extended, values), grads
        )


def _asked(
    function: Callable[..., Any],
    inputs: Sequence[Any],
    dtypes: Sequence[tf.DType],
) -> list[tf.Tensor]:
    """What the host replies, always as a list."""
    replied = tf.numpy_function(function, inputs, dtypes)
    return tf.nest.flatten(replied) if dtypes else []


def check_groups(
    workers_per_group: int, inside: str, devices: Sequence[str] | None
) -> None:
    """Refuses what groups cannot be.

    Raises:
        ValueError: it is; the message names the argument.
    """
    if type(workers_per_group) is not int or workers_per_group < 1:
        raise ValueError(
            "`workers_per_group` must be an integer >= 1. Received: "
            f"workers_per_group={workers_per_group!r}."
        )
    if inside != "mirrored" or devices is not None:
        raise ValueError(
            "Processes of a group are mirrored, on all their GPUs or their "
            f"CPU. Received: workers_per_group={workers_per_group} with "
            f"inside={inside!r}, devices={devices!r}. Leave these two out."
        )
