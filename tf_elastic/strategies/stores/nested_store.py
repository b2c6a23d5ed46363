"""Workers that are devices, around a center of their own in a cluster."""

from collections.abc import Callable
from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any

import tensorflow as tf

from tf_elastic.strategies.stores.device_store import DeviceStore
from tf_elastic.strategies.stores.device_store import workers_arguments
from tf_elastic.strategies.stores.worker_store import Create
from tf_elastic.strategies.stores.worker_store import TensorLike
from tf_elastic.strategies.stores.worker_store import WorkerStore


class NestedStore:
    """One worker on each device, their local center, and the cluster's center.

    It is a tree of two levels: `inside` are the workers and the local center,
    `outside` the local center, as a worker, and what it sees of the cluster's.
    Each device holds a copy of both centers.

    Args:
        workers: the workers' copies, in the order of the devices.
        local: the local center's, likewise.
        centers: the cluster's center's, likewise: what is shown.
    """

    def __init__(
        self,
        workers: Sequence[tf.Variable],
        local: Sequence[tf.Variable],
        centers: Sequence[tf.Variable],
    ) -> None:
        self.inside = DeviceStore(workers, local)
        self.outside = DeviceStore(local, centers)

    @classmethod
    def make(
        cls,
        create: Create,
        arguments: Mapping[str, Any],
        has_center: Callable[[tf.DType], bool],
    ) -> WorkerStore:
        """Makes a store in which all have the initial value.

        Args:
            create: makes one variable on each device, of `arguments`.
            arguments: of a variable creator.
            has_center: whether a variable of a dtype has a center.

        Returns:
            A `DeviceStore` for what has no center.
        """
        centers = create(**arguments)
        if not has_center(centers[0].dtype):
            return DeviceStore(centers)
        own = workers_arguments(arguments, centers[0])
        local = create(**{**own, "name": f"{own['name']}s_center"})
        return cls(create(**own), local, centers)

    @property
    def num_workers(self) -> int:
        """See `WorkerStore`."""
        return self.inside.num_workers

    @property
    def live(self) -> tuple[tf.Variable, ...]:
        """See `WorkerStore`."""
        return self.inside.live

    @property
    def centers(self) -> tuple[tf.Variable, ...]:
        """The cluster's center."""
        return self.outside.centers

    @property
    def shown(self) -> tuple[tf.Variable, ...]:
        """The cluster's center."""
        return self.outside.centers

    def read(self, worker: int) -> tf.Tensor:
        """See `WorkerStore`."""
        return self.inside.read(worker)

    def assign(self, worker: int, value: TensorLike) -> tf.Operation | None:
        """See `WorkerStore`."""
        return self.inside.assign(worker, value)

    def center_at(self, worker: int) -> tf.Variable:
        """See `WorkerStore`."""
        return self.outside.center_at(worker)

    @property
    def masters(self) -> tuple[tf.Variable, ...]:
        """None: the cluster's center is another process'."""
        return self.outside.masters

    def read_center(self, worker: int) -> tf.Tensor:
        """See `WorkerStore`."""
        return self.outside.read_center(worker)

    def values(self) -> list[tf.Tensor]:
        """See `WorkerStore`."""
        return self.inside.values()

    def set_all(self, value: TensorLike) -> None:
        """Sets all workers, and both centers."""
        self.inside.set_all(value)
        self.outside.set_center(value)

    def set_center(self, value: TensorLike) -> None:
        """Sets both centers; the workers stay."""
        self.inside.set_center(value)
        self.outside.set_center(value)

    def update_all(self, update: Callable[[int, tf.Variable], object]) -> None:
        """See `WorkerStore`."""
        self.inside.update_all(update)
        for i, copy in enumerate(self.centers):
            with tf.device(copy.device):
                update(i, copy)
