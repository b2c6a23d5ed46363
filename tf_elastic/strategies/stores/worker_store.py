"""What a store of workers is, whatever holds their values."""

from collections.abc import Callable
from collections.abc import Sequence
from typing import Protocol
from typing import TypeAlias

import tensorflow as tf

# What a variable can be set to: a tensor, another variable, an array, a number.
TensorLike: TypeAlias = tf.types.experimental.TensorLike

# Makes one variable on each device, of a variable creator's arguments.
Create = Callable[..., Sequence[tf.Variable]]


class WorkerStore(Protocol):
    """All workers' values of one variable, and the copies of its center.

    Workers are numbered from 0 to p - 1. A process of a cluster is one worker,
    and all its devices hold the same; there each device counts as one here.

    A replica does not ask a store: it trains on the live copy of its device.
    """

    @property
    def num_workers(self) -> int:
        """The number of workers, p."""

    @property
    def live(self) -> tuple[tf.Variable, ...]:
        """What replicas read and assign: one copy on each device."""

    @property
    def centers(self) -> tuple[tf.Variable, ...]:
        """One copy on each device, all equal; none if there is no center."""

    @property
    def shown(self) -> tuple[tf.Variable, ...]:
        """What is read outside of replicas, one copy on each device."""

    def read(self, worker: int) -> tf.Tensor:
        """A worker's value, as it is now.

        Args:
            worker: its number, from 0.
        """

    def assign(self, worker: int, value: TensorLike) -> tf.Operation | None:
        """Sets a worker's value.

        Args:
            worker: its number, from 0.
            value: of the variable's shape and dtype.

        Returns:
            The operation, in a graph.
        """

    def center_at(self, worker: int) -> tf.Variable:
        """The center's copy on a worker's device.

        Args:
            worker: its number, from 0.
        """

    @property
    def masters(self) -> tuple[tf.Variable, ...]:
        """Of each of `centers` the master; none of 32 bits and more."""

    def read_center(self, worker: int) -> tf.Tensor:
        """The center as exact as it is known here: its master.

        Args:
            worker: on whose device, by its number.

        Returns:
            Of the variable's `core.arrays.wide_dtype` if there are masters,
            else of its dtype.
        """

    def values(self) -> list[tf.Tensor]:
        """All workers' values, in their order."""

    def set_all(self, value: TensorLike) -> None:
        """Sets all workers, and the center.

        Args:
            value: of the variable's shape and dtype.
        """

    def set_center(self, value: TensorLike) -> None:
        """Sets the center, and its masters, on every device; workers stay.

        Args:
            value: of the variable's shape; of its dtype or, if there are
                masters, of theirs.
        """

    def update_all(self, update: Callable[[int, tf.Variable], object]) -> None:
        """Updates all workers, and the center, each by what it holds.

        Args:
            update: of the device, by its number, and a variable on it that
                holds a value: assigns to it.
        """
