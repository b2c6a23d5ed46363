"""Processes that are one worker of a cluster together.

Those of a group take each step together, on the sum of their gradients, as
under `MultiWorkerMirroredStrategy`, which sums them. To the center they are
one worker: the leader exchanges, and what is replied all of them get, and
follow. They hold the same parameters at all times, to the bit.
"""

from collections.abc import Callable
from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf
from absl import logging

from tf_elastic import compat
from tf_elastic.cluster.launch.configuration import ClusterConfiguration
from tf_elastic.cluster.launch.configuration import members_of_group
from tf_elastic.optimizers.strategy_interface import Gradient
from tf_elastic.strategies import device_gradients
from tf_elastic.strategies import group_meeting
from tf_elastic.strategies.group_meeting import GroupMeeting
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

    def at_its_end(self, stop: Callable[[], None]) -> None:
        """Notes what stops training here.

        Args:
            stop: called when another process has ended its own.
        """

    def comes_to_step(self, batch: Sequence[tf.Tensor]) -> list[tf.Tensor]:
        """Waits for all to come to a step of `fit`, in a graph or not.

        Args:
            batch: what is to be here first.

        Returns:
            What is there only when all have come. Where one comes no more,
            `tf.errors.OutOfRangeError` is raised, as if the data had ended.
        """
        del batch
        return []

    def ends_training(self) -> None:
        """Training is over for now; waits until it is for all, eager."""

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
        step_timeout_s: how long the others wait for one that answers to come
            to a step, in seconds.
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
        step_timeout_s: float,
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
        compat.count_collectives(self._extended)
        self.devices = tuple(self._extended.worker_devices)
        first = configuration.index - self.member
        self._names = [
            f"worker {first + member} ({address})"
            for member, address in enumerate(addresses)
        ]
        self._watch = PeerWatch(
            {
                member: name
                for member, name in enumerate(self._names)
                if member != self.member
            },
            peer_timeout_s,
            step_timeout_s,
            compat.peer_answers,
            compat.abort_collectives,
        )
        self._sums = compat.host_sums(self._extended)
        self._meeting = GroupMeeting(self.member, size, self._summed_now)
        self._stop: Callable[[], None] = lambda: None

    def trains(self, is_on: bool) -> None:
        """Looks whether all are there while they train."""
        self._watch.look(is_on)

    def at_its_end(self, stop: Callable[[], None]) -> None:
        """See `Alone`."""
        self._stop = stop

    def comes_to_step(self, batch: Sequence[tf.Tensor]) -> list[tf.Tensor]:
        """See `Alone`."""
        said = self._meeting.says(group_meeting.STEP)
        if tf.executing_eagerly():
            self.trains(True)
            if not self._all_come(self._summed_now(said)):
                raise tf.errors.OutOfRangeError(None, None, "Its group ended.")
            return []

        def waits() -> np.bool_:
            self.trains(True)
            self._watch.wait()
            return np.True_

        def come(heard: np.ndarray) -> np.bool_:
            self._watch.wait_no_more()
            if not self._all_come(heard):
                raise StopIteration  # In a graph it is OutOfRangeError.
            return np.True_

        with tf.control_dependencies(batch):
            waiting = tf.numpy_function(waits, [], tf.bool)
        with tf.control_dependencies([waiting]):
            heard = self._sums(tf.constant(said))
        return [tf.numpy_function(come, [heard], tf.bool)]

    def _all_come(self, heard: np.ndarray) -> bool:
        """Whether all come to a step; if some have ended, it ends here."""
        all_come, ended = self._meeting.comes_to_step(heard)
        self._end_with(ended)
        return all_come

    def _summed_now(self, said: np.ndarray) -> np.ndarray:
        """Of all; waits for them, in eager code."""
        self._watch.wait()
        try:
            return np.asarray(self._sums(tf.constant(said)))
        finally:
            self._watch.wait_no_more()

    def ends_training(self) -> None:
        """See `Alone`."""
        self._meeting.end()

    def _end_with(self, ended: Sequence[int]) -> None:
        """Stops training here if it has ended elsewhere."""
        if not ended:
            return
        logging.warning(
            "%s has ended its training: its data has ended, or a callback has "
            "stopped it. The processes of a group take each step together, so "
            "training ends here, too. Give all of them the same number of "
            "steps, by `steps_per_epoch` or by endless data.",
            " and ".join(self._names[k] for k in ended),
        )
        self._stop()

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
        """See `Alone`; where training has ended elsewhere, one's own."""
        agreed, ended = self._meeting.agree(list(map(int, numbers)))
        self._end_with(ended)
        return agreed

    def _told(
        self,
        values: Sequence[tf.Tensor],
        scalars: Sequence[tf.DType],
        arrays: Sequence[tf.DType],
    ) -> list[tf.Tensor]:
        """The leader's values, the sizes of whose arrays it alone knows.

        Scalars and sizes travel together, as float64: exact for integers up to
        2^53, such as a clock.
        """
        count = len(scalars)
        if not self.is_leader:
            values = [
                *(tf.zeros([], dtype) for dtype in scalars),
                *(tf.zeros([0], dtype) for dtype in arrays),
            ]
        numbers = [tf.reshape(value, []) for value in values[:count]]
        flat = [tf.reshape(value, [-1]) for value in values[count:]]
        numbers += [tf.size(value) for value in flat]
        head = self._from_leader(
            tf.stack([tf.cast(number, tf.float64) for number in numbers])
        )
        told = [tf.cast(head[k], dtype) for k, dtype in enumerate(scalars)]
        return told + [
            self._all_of(value, tf.cast(head[count + k], tf.int32))
            for k, value in enumerate(flat)
        ]

    def _all_of(self, value: tf.Tensor, size: tf.Tensor) -> tf.Tensor:
        """The leader's flat value, which may be empty."""
        if not self.is_leader:
            value = tf.zeros([size], value.dtype)
        return tf.cond(
            size > 0, lambda: self._from_leader(value), lambda: value
        )

    def _from_leader(self, value: tf.Tensor) -> tf.Tensor:
        """The leader's value, of a shape and dtype that all know."""
        if not self.is_leader:
            value = tf.zeros_like(value)
        total = compat.sum_on_hosts(self._extended, value)
        return tf.ensure_shape(total, value.shape)

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
