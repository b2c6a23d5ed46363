"""What holds wherever each device of a process is a worker."""

from collections.abc import Sequence

from tf_elastic import compat
from tf_elastic.optimizers import registry
from tf_elastic.optimizers.strategy_interface import Gradient


class DeviceWorkers:
    """A part of an `ElasticExtended`, which has the attributes."""

    _asked_order: str | None
    _num_replicas_in_sync: int

    @property
    def gradient_scale(self) -> float:
        """Undoes Keras' division of the loss by the number of replicas."""
        return 1.0 / compat.loss_scale_of(self._num_replicas_in_sync)

    def worker_gradients(self, grads: Sequence[Gradient]) -> list[Gradient]:
        """A worker's own gradients: this replica's, as they are."""
        return list(grads)

    def order_of(self, method: str) -> str:
        """In which order workers and center move, one of `theory.ORDERS`.

        Args:
            method: the name that the optimizer is registered by.

        Raises:
            ValueError: the strategy's is none that the method has.
        """
        return registry.chosen(method, "order", self._asked_order)

    def overlaps(self, method: str) -> bool:
        """Whether what comes back is applied a period later: here never."""
        del method
        return False
