"""What all exchanges within one process share.

The rules are those of `core`; a variable's store has their operands. Worker i
and one copy of the center are on device i. What concerns one device is one
XLA-compiled function there, over all variables at once. What crosses devices
is one tensor per variable: for the sum over workers each variable has an
owner, so that the devices share the traffic.
"""

from collections.abc import Callable
from collections.abc import Sequence

import tensorflow as tf

from tf_elastic.optimizers.compiled import compile_for
from tf_elastic.optimizers.exchange_spec import AdmmVariable
from tf_elastic.optimizers.exchange_spec import ExchangedVariable
from tf_elastic.strategies.closing import Closing
from tf_elastic.strategies.elastic_variable import ElasticVariable
from tf_elastic.strategies.following import follow_mean

Tensors = list[tf.Tensor]


class DeviceExchange:
    """Base class: a fixed set of variables on a set of devices.

    Args:
        parameters: of the rule: what is exchanged, trainable variables.
        statistics: floating variables that are not trained, such as a batch
            normalisation's moving mean. Workers keep their own; the center's
            follow the workers' mean at the rate min(beta, 1).
        devices: one for each worker.
        jit_compile: whether to use XLA: True, False, or "auto" for where the
            device can.
    """

    under_way = None  # Nothing is between two steps.

    def __init__(
        self,
        parameters: Sequence[ExchangedVariable | AdmmVariable],
        statistics: Sequence[ElasticVariable],
        devices: Sequence[str],
        jit_compile: bool | str,
    ) -> None:
        self.parameters = list(parameters)
        self._statistics = list(statistics)
        self._devices = list(devices)
        self._variables = [p.variable for p in parameters] + list(statistics)
        self._owners = _share_out(
            [v.shape.num_elements() for v in self._variables], len(devices)
        )
        self._jit_compile = jit_compile
        # Set where training may end in the middle of a period.
        self.closing: Closing | None = None
        self._centers_after: Callable[..., Tensors] | None = None
        # What the newest step assigns to beside, on the workers.
        self.followers: list[ElasticVariable] = []
        self._compiled: dict[tuple[str, int], Callable[..., Tensors]] = {}

    @property
    def statistics(self) -> list[ElasticVariable]:
        """What is taken along."""
        return self._statistics

    def can_close(self) -> None:
        """Prepares to show what an exchange would make of the centers."""
        if self.closing is None:
            self.closing = Closing(self._variables, self._owners)

    def close(self, clock: tf.Tensor, count: tf.Tensor) -> None:
        """Shows what an exchange now would make of the centers.

        Args:
            clock: local steps of each worker, integer scalar.
            count: exchanges so far, integer scalar.
        """
        if self._centers_after is None:
            self._centers_after = tf.function(
                self.centers_after, autograph=False
            )
        self.closing.show(
            self._centers_after(
                tf.convert_to_tensor(clock), tf.convert_to_tensor(count)
            )
        )

    def centers_after(self, clock: tf.Tensor, count: tf.Tensor) -> Tensors:
        """What an exchange of all at once would make of the centers.

        Args:
            clock: local steps of each worker, integer scalar.
            count: exchanges so far, integer scalar.
        """
        raise NotImplementedError

    @property
    def num_workers(self) -> int:
        """The number of workers, p."""
        return len(self._devices)

    def results(self) -> Tensors:
        """Small tensors that are there only when all updates are done."""
        smallest = min(
            self.parameters,
            key=lambda parameter: parameter.variable.shape.num_elements(),
        ).variable.store
        centers = [copy.read_value() for copy in smallest.centers]
        return smallest.values() + centers

    def _on(
        self, i: int, function: Callable[..., Tensors], *args: object
    ) -> Tensors:
        """Runs `function(i, *args)` on worker i's device, compiled there."""
        key = (function.__name__, i)
        with tf.device(self._devices[i]):
            if key not in self._compiled:
                self._compiled[key] = compile_for(
                    self._devices[i],
                    lambda *args: function(i, *args),
                    self._jit_compile,
                )
            return self._compiled[key](*args)

    def _owned_by(self, owner: int) -> list[int]:
        """The variables whose sums are made on a device, by index."""
        return [k for k, o in enumerate(self._owners) if o == owner]

    def follow(self, variables: Sequence[ElasticVariable]) -> None:
        """Moves centers to the mean of what the workers have."""
        follow_mean(variables, self.num_workers)

    def _set_centers(self, centers: Sequence[tf.Tensor]) -> None:
        for variable, center in zip(self._variables, centers, strict=True):
            variable.store.set_center(center)


def _share_out(sizes: Sequence[int], num_devices: int) -> list[int]:
    """Gives each variable an owner such that owners hold about as much."""
    held = [0] * num_devices
    owners = [0] * len(sizes)
    for k in sorted(range(len(sizes)), key=lambda k: -sizes[k]):
        owners[k] = held.index(min(held))
        held[owners[k]] += sizes[k]
    return owners
