"""An elastic exchange between the workers of one process and their center."""

import contextlib
from collections.abc import Sequence
from typing import Any

import tensorflow as tf

from tf_elastic import core
from tf_elastic.optimizers.exchange_rules import ElasticRule
from tf_elastic.strategies import conservation
from tf_elastic.strategies.device_exchange import DeviceExchange
from tf_elastic.strategies.device_exchange import Tensors
from tf_elastic.strategies.device_exchange import sum_in_order
from tf_elastic.strategies.variables import ElasticVariable


class Exchange(DeviceExchange):
    """An elastic exchange, by one of three schemes.

    Args:
        rule: what is pulled and pushed, and the rates.
        scheme: one of `theory.EXCHANGES`.
        check_conservation: whether every exchange is checked.
        statistics, devices, jit_compile: see `DeviceExchange`.
    """

    def __init__(
        self,
        rule: ElasticRule,
        scheme: str,
        check_conservation: bool,
        statistics: Sequence[ElasticVariable],
        devices: Sequence[str],
        jit_compile: bool | str,
    ) -> None:
        super().__init__(rule.parameters, statistics, devices, jit_compile)
        self._rates = rule.rates
        self._scheme = scheme
        self._check_conservation = check_conservation

    @property
    def moments(self) -> tuple[str, ...]:
        """When it happens: "before" or "after" a local step.

        Jacobi and round robin exchange the points that the gradient was taken
        at; Gauss-Seidel those that the step has led to.
        """
        return ("after",) if self._scheme == "gauss_seidel" else ("before",)

    def run(self, clock: tf.Tensor, count: tf.Tensor) -> None:
        """Exchanges once.

        Args:
            clock: local steps of each worker, integer scalar.
            count: exchanges before this one, integer scalar.
        """
        del count
        rates = self._rates(self.num_workers, clock)
        checks = contextlib.nullcontext()
        if self._check_conservation:
            checks = conservation.checked(self, self._scheme, rates)
        with checks:
            scheme = getattr(self, self._scheme)
            scheme(*(tf.convert_to_tensor(r, tf.float64) for r in rates))

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

    def centers_after(self, clock: tf.Tensor, count: tf.Tensor) -> Tensors:
        """What the centers would be: they go no more than all of the way."""
        del count
        differences = [
            self._on(i, self._differ) for i in range(len(self._devices))
        ]
        beta = self._rates(self.num_workers, clock).beta
        beta = tf.minimum(tf.convert_to_tensor(beta, tf.float64), 1.0)
        return self._centers_of(differences, beta)

    def _push(
        self, differences: Sequence[Sequence[tf.Tensor]], beta: tf.Tensor
    ) -> None:
        """Adds all workers' differences to the center."""
        self._set_centers(self._centers_of(differences, beta))

    def _centers_of(
        self, differences: Sequence[Sequence[tf.Tensor]], beta: tf.Tensor
    ) -> Tensors:
        """The center with all workers' differences, each at its owner."""
        centers: list[tf.Tensor | None] = [None] * len(self._variables)
        for owner in sorted(set(self._owners)):
            mine = self._owned_by(owner)
            pushed = self._on(
                owner,
                self._push_owned,
                beta,
                [[per_worker[k] for per_worker in differences] for k in mine],
            )
            for k, center in zip(mine, pushed, strict=True):
                centers[k] = center
        return centers

    def _push_owned(
        self,
        owner: int,
        beta: tf.Tensor,
        differences: Sequence[Sequence[tf.Tensor]],
    ) -> Tensors:
        mine = self._owned_by(owner)
        return [
            self._pushed(
                k,
                self._variables[k].center_copies[owner],
                sum_in_order(from_workers),
                beta,
            )
            for k, from_workers in zip(mine, differences, strict=True)
        ]
