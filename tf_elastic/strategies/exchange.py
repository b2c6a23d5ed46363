"""An exchange between the workers of one process and their center.

The rules are those of `core`; here is where their operands live. Worker i and
one copy of the center are on device i. What concerns one device is one
XLA-compiled function there, over all variables at once. What crosses devices
is one tensor per variable: for the sum over workers each variable has an
owner, so that the devices share the traffic.
"""

from collections.abc import Callable
from collections.abc import Sequence
from typing import Any

import tensorflow as tf

from tf_elastic import core
from tf_elastic.optimizers.compiled import compile_for
from tf_elastic.optimizers.elastic_parameter import ElasticParameter
from tf_elastic.strategies.variables import ElasticVariable

Tensors = list[tf.Tensor]


class Exchange:
    """The exchange of a fixed set of variables, by one of three schemes.

    Args:
        parameters: what is pulled and pushed: the trainable variables.
        statistics: floating variables that are not trained, such as a batch
            normalisation's moving mean. Workers keep their own; the center's
            follow the workers' mean at the rate min(beta, 1).
        devices: one for each worker.
        rates: alpha and beta of p workers at a worker's clock.
        jit_compile: whether to use XLA: True, False, or "auto" for where the
            device can.
    """

    def __init__(
        self,
        parameters: Sequence[ElasticParameter],
        statistics: Sequence[ElasticVariable],
        devices: Sequence[str],
        rates: Callable[[int, Any], core.ElasticRates],
        jit_compile: bool | str,
    ) -> None:
        self.parameters = list(parameters)
        self.rates = rates
        self._devices = list(devices)
        self._variables = [p.variable for p in parameters] + list(statistics)
        self._owners = _share_out(
            [v.shape.num_elements() for v in self._variables], len(devices)
        )
        self._jit_compile = jit_compile
        self._compiled: dict[tuple[str, int], Callable[..., Tensors]] = {}

    @property
    def num_workers(self) -> int:
        """The number of workers, p."""
        return len(self._devices)

    def jacobi(self, moving_rate: tf.Tensor, beta: tf.Tensor) -> None:
        """All workers at once: eqs. 2.3 and 2.4."""
        differences = [
            self._on(i, self._differ_and_pull, moving_rate)
            for i in range(len(self._devices))
        ]
        self._push(differences, beta)

    def gauss_seidel(self, moving_rate: tf.Tensor, beta: tf.Tensor) -> None:
        """The center first, then the workers: eq. 6.3."""
        differences = [
            self._on(i, self._differ) for i in range(len(self._devices))
        ]
        self._push(differences, beta)
        for i in range(len(self._devices)):
            self._on(i, self._pull_to_center, moving_rate)

    def round_robin(self, moving_rate: tf.Tensor, beta: tf.Tensor) -> None:
        """One worker after another: Algorithm 1 in a fixed order."""
        centers = [v.center_copies[0].read_value() for v in self._variables]
        for i in range(len(self._devices)):
            centers = self._on(i, self._visit, moving_rate, beta, centers)
        self._set_centers(centers)

    def conserved(self, scheme: str, beta: tf.Tensor) -> Tensors:
        """What an exchange with beta = p * alpha leaves as it was.

        Args:
            scheme: one of `theory.EXCHANGES`.
            beta: of the exchange.

        Returns:
            For each parameter sum(workers) + center, in the Gauss-Seidel form
            sum(workers) + (1 - beta) * center.
        """
        share = 1 - beta if scheme == "gauss_seidel" else tf.ones_like(beta)
        return [
            core.conserved_sum(
                [parameter.point(i) for i in range(len(self._devices))],
                parameter.variable.center_copies[0].read_value(),
                tf.cast(share, parameter.variable.dtype),
            )
            for parameter in self.parameters
        ]

    def results(self) -> Tensors:
        """Small tensors that are there only when all updates are done."""
        smallest = min(
            self.parameters,
            key=lambda parameter: parameter.variable.shape.num_elements(),
        ).variable
        copies = smallest.worker_copies + smallest.center_copies
        return [copy.read_value() for copy in copies]

    def _on(self, i: int, function: Callable[..., Any], *args: Any) -> Tensors:
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

    def _differ(self, i: int) -> Tensors:
        return [
            core.elastic_difference(point, variable.center_copies[i])
            for point, variable in zip(
                self._points(i), self._variables, strict=True
            )
        ]

    def _differ_and_pull(self, i: int, moving_rate: tf.Tensor) -> Tensors:
        differences = self._differ(i)
        self._pull(i, differences, moving_rate)
        return differences

    def _pull_to_center(self, i: int, moving_rate: tf.Tensor) -> Tensors:
        self._pull(i, self._differ(i), moving_rate)
        return []

    def _visit(
        self,
        i: int,
        moving_rate: tf.Tensor,
        beta: tf.Tensor,
        centers: Sequence[tf.Tensor],
    ) -> Tensors:
        differences = [
            core.elastic_difference(point, center)
            for point, center in zip(self._points(i), centers, strict=True)
        ]
        self._pull(i, differences, moving_rate)
        return [
            self._pushed(k, center, difference, beta)
            for k, (center, difference) in enumerate(
                zip(centers, differences, strict=True)
            )
        ]

    def _points(self, i: int) -> Tensors:
        """What worker i brings: its points, then its statistics."""
        return [parameter.point(i) for parameter in self.parameters] + [
            variable.worker_copies[i].read_value()
            for variable in self._variables[len(self.parameters) :]
        ]

    def _pull(
        self, i: int, differences: Sequence[tf.Tensor], moving_rate: tf.Tensor
    ) -> None:
        """Moves worker i's parameters; its statistics stay its own."""
        count = len(self.parameters)
        for variable, difference in zip(
            self._variables[:count], differences[:count], strict=True
        ):
            copy = variable.worker_copies[i]
            rate = tf.cast(moving_rate, copy.dtype)
            copy.assign(core.pull(copy, difference, rate), read_value=False)

    def _pushed(
        self, k: int, center: Any, total: tf.Tensor, beta: tf.Tensor
    ) -> tf.Tensor:
        if k >= len(self.parameters):
            beta = tf.minimum(beta, 1.0)
        return core.push(
            center, total, tf.cast(beta, total.dtype), len(self._devices)
        )

    def _push(
        self, differences: Sequence[Sequence[tf.Tensor]], beta: tf.Tensor
    ) -> None:
        """Adds all workers' differences to the center, each at its owner."""
        centers: list[tf.Tensor | None] = [None] * len(self._variables)
        for owner in sorted(set(self._owners)):
            mine = [k for k, o in enumerate(self._owners) if o == owner]
            pushed = self._on(
                owner,
                self._push_owned,
                beta,
                [[per_worker[k] for per_worker in differences] for k in mine],
            )
            for k, center in zip(mine, pushed, strict=True):
                centers[k] = center
        self._set_centers(centers)

    def _push_owned(
        self,
        owner: int,
        beta: tf.Tensor,
        differences: Sequence[Sequence[tf.Tensor]],
    ) -> Tensors:
        mine = [k for k, o in enumerate(self._owners) if o == owner]
        return [
            self._pushed(
                k,
                self._variables[k].center_copies[owner],
                _sum_in_order(from_workers),
                beta,
            )
            for k, from_workers in zip(mine, differences, strict=True)
        ]

    def _set_centers(self, centers: Sequence[tf.Tensor]) -> None:
        for i, device in enumerate(self._devices):
            with tf.device(device):
                for variable, center in zip(
                    self._variables, centers, strict=True
                ):
                    variable.center_copies[i].assign(center, read_value=False)


def _sum_in_order(tensors: Sequence[tf.Tensor]) -> tf.Tensor:
    total = tensors[0]
    for tensor in tensors[1:]:
        total = total + tensor
    return total


def _share_out(sizes: Sequence[int], num_devices: int) -> list[int]:
    """Gives each variable an owner such that owners hold about as much."""
    held = [0] * num_devices
    owners = [0] * len(sizes)
    for k in sorted(range(len(sizes)), key=lambda k: -sizes[k]):
        owners[k] = held.index(min(held))
        held[owners[k]] += sizes[k]
    return owners
