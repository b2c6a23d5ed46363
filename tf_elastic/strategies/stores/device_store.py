"""Workers that are devices."""

from collections.abc import Callable
from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any

import tensorflow as tf

from tf_elastic.strategies.stores.masters import exact_center
from tf_elastic.strategies.stores.masters import masters_of
from tf_elastic.strategies.stores.masters import set_all_copies
from tf_elastic.strategies.stores.worker_store import Create
from tf_elastic.strategies.stores.worker_store import TensorLike


class DeviceStore:
    """One worker on each device, and a copy of the center beside it.

    Args:
        workers: the workers' copies, in the order of the devices.
        centers: the center's, likewise; none if there is no center.
        masters: of the centers; none if they are exact enough, or the center
            is another process'.
    """

    def __init__(
        self,
        workers: Sequence[tf.Variable],
        centers: Sequence[tf.Variable] = (),
        masters: Sequence[tf.Variable] = (),
    ) -> None:
        self.live = tuple(workers)
        self.centers = tuple(centers)
        self.masters = tuple(masters)

    @classmethod
    def make(
        cls,
        create: Create,
        arguments: Mapping[str, Any],
        has_center: Callable[[tf.DType], bool],
        is_moved_here: bool = True,
    ) -> "DeviceStore":
        """Makes a store whose workers, and center, have the initial value.

        Args:
            create: makes one variable on each device, of `arguments`.
            arguments: of a variable creator.
            has_center: whether a variable of a dtype has a center.
            is_moved_here: whether that is moved by this process.
        """
        copies = create(**arguments)
        if not has_center(copies[0].dtype):
            return cls(copies)
        return cls(
            create(**workers_arguments(arguments, copies[0])),
            copies,
            masters_of(copies, create, arguments) if is_moved_here else (),
        )

    @property
    def num_workers(self) -> int:
        """See `WorkerStore`."""
        return len(self.live)

    @property
    def shown(self) -> tuple[tf.Variable, ...]:
        """The center if there is one, else the workers: the first's is read."""
        return self.centers or self.live

    def read(self, worker: int) -> tf.Tensor:
        """See `WorkerStore`."""
        return self.live[worker].value()

    def assign(self, worker: int, value: TensorLike) -> tf.Operation | None:
        """See `WorkerStore`."""
        return self.live[worker].assign(value, read_value=False)

    def center_at(self, worker: int) -> tf.Variable:
        """See `WorkerStore`."""
        return self.centers[worker]

    def read_center(self, worker: int) -> tf.Tensor:
        """See `WorkerStore`."""
        master = self.masters[worker] if self.masters else None
        return exact_center(self.centers[worker], master)

    def values(self) -> list[tf.Tensor]:
        """See `WorkerStore`."""
        return [copy.value() for copy in self.live]

    def set_all(self, value: TensorLike) -> None:
        """See `WorkerStore`."""
        set_all_copies(self.live, (), value)
        self.set_center(value)

    def set_center(self, value: TensorLike) -> None:
        """See `WorkerStore`."""
        set_all_copies(self.centers, self.masters, value)

    def update_all(self, update: Callable[[int, tf.Variable], object]) -> None:
        """See `WorkerStore`."""
        for copies in (self.live, self.centers):
            for i, copy in enumerate(copies):
                with tf.device(copy.device):
                    update(i, copy)


def workers_arguments(
    arguments: Mapping[str, Any], center: tf.Variable
) -> dict[str, Any]:
    """What workers' copies are made of, whose center is there already."""
    name = arguments.get("name") or "Variable"
    return {
        **arguments,
        "initial_value": center.read_value,
        "name": f"{name}/worker",
    }
