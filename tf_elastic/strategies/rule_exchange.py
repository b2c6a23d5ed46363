"""An exchange between the workers of one process and their center.

The rule is `core`'s, and so is the order in which workers and center move;
here is where their arrays are, and what is compiled together: of each device
one function over all variables for each piece of the order.
"""

import contextlib
from collections.abc import Mapping
from collections.abc import Sequence

import tensorflow as tf

from tf_elastic import core
from tf_elastic.core import orders
from tf_elastic.core import rules
from tf_elastic.core.arrays import wide_dtype
from tf_elastic.core.arrays import widened
from tf_elastic.core.rules import Context
from tf_elastic.core.rules import Rates
from tf_elastic.core.rules import Rule
from tf_elastic.optimizers.exchange_spec import ExchangeSpec
from tf_elastic.optimizers.exchange_spec import in_float64
from tf_elastic.strategies import conservation
from tf_elastic.strategies.device_exchange import DeviceExchange
from tf_elastic.strategies.device_exchange import Tensors
from tf_elastic.strategies.elastic_variable import ElasticVariable
from tf_elastic.strategies.meeting import PARAMETERS
from tf_elastic.strategies.meeting import STATISTICS
from tf_elastic.strategies.meeting import Meeting
from tf_elastic.strategies.meeting import Parents
from tf_elastic.strategies.meeting import RatesByRole

_CENTER = "center"


class RuleExchange(DeviceExchange):
    """Workers and center exchange by a rule, in one of `core.orders`.

    Args:
        spec: what is exchanged, by which rule and numbers.
        order: one of `core.orders.ORDERS`.
        check_conservation: whether every exchange is checked.
        statistics, devices, jit_compile: see `DeviceExchange`.
        has_parent: whether the center is itself a child of another one: then
            alpha = beta / (p + 1), as an inner node of a tree has it.
    """

    def __init__(
        self,
        spec: ExchangeSpec,
        order: str,
        check_conservation: bool,
        statistics: Sequence[ElasticVariable],
        devices: Sequence[str],
        jit_compile: bool | str,
        has_parent: bool = False,
    ) -> None:
        super().__init__(spec.parameters, statistics, devices, jit_compile)
        self._spec = spec
        # With how many the center exchanges.
        self._num_neighbors = self.num_workers + has_parent
        self._order = order
        self._check_conservation = check_conservation
        self._by_role: dict[str, Rule] = {
            PARAMETERS: spec.rule,
            STATISTICS: rules.Follow(),
        }

    @property
    def moments(self) -> tuple[str, ...]:
        """When it happens: "before" or "after" a local step.

        Differences in Jacobi's order and in round robin are those of the
        points that the gradient was taken at; all else is of what the step
        has led to.
        """
        at_gradient = (
            self._spec.rule.answers_difference
            and self._order != orders.GAUSS_SEIDEL
        )
        return ("before",) if at_gradient else ("after",)

    def run(self, clock: tf.Tensor, count: tf.Tensor) -> None:
        """Exchanges once.

        Args:
            clock: local steps of each worker, integer scalar.
            count: exchanges before this one, integer scalar.
        """
        rates = self._rates_of(clock)
        checks = contextlib.nullcontext()
        if self._check_conservation:
            checks = conservation.checked(self, self._order, rates)
        with checks:
            meeting = Meeting(self, rates, count)
            orders.ORDERS[self._order](meeting)
            meeting.end()

    def centers_after(self, clock: tf.Tensor, count: tf.Tensor) -> Tensors:
        """What would be shown if the center took what all have to bring."""
        rates = self._spec.rule.closing(self._rates_of(clock))
        if self._order == orders.ROUND_ROBIN:  # The center has moved for each.
            count = count * self.num_workers
        meeting = Meeting(self, rates, count)
        after = self.collected(
            [meeting.differ(i) for i in meeting.children()], meeting.rates_now
        )
        return [parent[self._rule(k).shown] for k, parent in enumerate(after)]

    def _rates_of(self, clock: tf.Tensor) -> Rates:
        numbers = self._spec.numbers(clock)
        rates = self._spec.rates(
            self._num_neighbors,
            clock,
            tf.unstack(numbers, num=numbers.shape[0]),
        )
        return {**rates, "num_workers": self._num_neighbors}

    def rates_at(self, rates: Rates, context: Context) -> RatesByRole:
        """What each role's rule makes of rates, by role."""
        return {
            role: rule.rates_at(rates, context)
            for role, rule in self._by_role.items()
        }

    def conserved(self, order: str, beta: tf.Tensor) -> Tensors:
        """What an exchange with beta = p * alpha leaves as it was.

        Args:
            order: one of `core.orders.ORDERS`.
            beta: of the exchange.

        Returns:
            For each parameter sum(workers) + center, in the Gauss-Seidel form
            sum(workers) + (1 - beta) * center.
        """
        in_turn = order == orders.GAUSS_SEIDEL
        share = 1 - beta if in_turn else tf.ones_like(beta)
        return [
            core.conserved_sum(
                [
                    widened(parameter.point(i))
                    for i in range(len(self._devices))
                ],
                self._parent(k, 0)[_CENTER],
                tf.cast(share, wide_dtype(parameter.variable.dtype.name)),
            )
            for k, parameter in enumerate(self.parameters)
        ]

    @property
    def kept(self) -> dict[str, tf.Tensor]:
        """The numbers that the rule keeps."""
        return {
            name: tf.convert_to_tensor(variable.value)
            for name, variable in self._spec.kept.items()
        }

    def keep(self, numbers: Mapping[str, tf.Tensor]) -> None:
        """Sets the numbers that the rule keeps, on all devices.

        Args:
            numbers: by name, and others.
        """
        for name, variable in self._spec.kept.items():
            variable.assign(numbers[name])

    # The pieces of an order, on the devices.

    def differ(self, i: int) -> Tensors:
        """Worker i's deltas to the center."""
        return self._on(i, self._differ)

    def leave(self, i: int, now: RatesByRole) -> Tensors:
        """The same, and the worker settles."""
        return self._on(i, self._leave, *_packed(now))

    def come_back(self, i: int, now: RatesByRole) -> None:
        """Worker i goes to the center."""
        self._on(i, self._come_back, *_packed(now))

    def visit(self, i: int, now: RatesByRole, parents: Parents) -> Parents:
        """Worker i and the center move by each other."""
        return self._on(i, self._visit, parents, *_packed(now))

    def collected(self, deltas: Sequence[Tensors], now: RatesByRole) -> Parents:
        """The center with all workers' deltas, each at its owner."""
        after: Parents = [{} for _ in self._variables]
        for owner in sorted(set(self._owners)):
            mine = self._owned_by(owner)
            moved = self._on(
                owner,
                self._collect_owned,
                [[of_worker[k] for of_worker in deltas] for k in mine],
                *_packed(now),
            )
            for k, parent in zip(mine, moved, strict=True):
                after[k] = parent
        return after

    def read(self) -> Parents:
        """The center, as the first device has it."""
        return [self._parent(k, 0) for k in range(len(self._variables))]

    def write(self, parents: Parents) -> None:
        """Sets the center, on all devices."""
        self._set_centers(
            [parent[self._rule(k).shown] for k, parent in enumerate(parents)]
        )
        for i, device in enumerate(self._devices):
            with tf.device(device):
                for parameter, parent in zip(
                    self.parameters, parents, strict=False
                ):
                    for name, slot in parameter.parent.items():
                        slot.store.assign(i, parent[name])

    # Compiled on one device.

    def _differ(self, i: int) -> Tensors:
        return [
            self._rule(k).delta(message, self._parent(k, i))
            for k, message in enumerate(self._messages(i))
        ]

    def _leave(self, i: int, *packed: tf.Tensor) -> Tensors:
        deltas = []
        for k, message in enumerate(self._messages(i)):
            copy = self._variables[k].store.read(i)
            delta, point = orders.leave(
                self._rule(k),
                message,
                copy,
                self._parent(k, i),
                self._rates(k, packed),
            )
            self._go(k, i, point)
            deltas.append(delta)
        return deltas

    def _come_back(self, i: int, *packed: tf.Tensor) -> Tensors:
        for k, message in enumerate(self._messages(i)):
            copy = self._variables[k].store.read(i)
            point = orders.come_back(
                self._rule(k),
                message,
                copy,
                self._parent(k, i),
                self._rates(k, packed),
            )
            self._go(k, i, point)
        return []

    def _visit(self, i: int, parents: Parents, *packed: tf.Tensor) -> Parents:
        after = []
        for k, message in enumerate(self._messages(i)):
            copy = self._variables[k].store.read(i)
            sent = None
            if k < len(self.parameters) and self._spec.rule.remembers:
                sent = self.parameters[k].point(i)
            visited = orders.visit(
                self._rule(k),
                message,
                copy,
                parents[k],
                self._rates(k, packed),
                sent,
            )
            self._go(k, i, visited.point)
            after.append(visited.parent)
        return after

    def _collect_owned(
        self,
        owner: int,
        deltas: Sequence[Sequence[tf.Tensor]],
        *packed: tf.Tensor,
    ) -> Parents:
        return [
            orders.collect(
                self._rule(k),
                self._parent(k, owner),
                from_workers,
                self._rates(k, packed),
            )
            for k, from_workers in zip(
                self._owned_by(owner), deltas, strict=True
            )
        ]

    # Of one variable, by its number.

    def _role(self, k: int) -> str:
        return PARAMETERS if k < len(self.parameters) else STATISTICS

    def _rule(self, k: int) -> Rule:
        rule = self._by_role[self._role(k)]
        return rules.for_dtype(rule, self._variables[k].dtype.name)

    def _rates(self, k: int, packed: Sequence[tf.Tensor]) -> Rates:
        dtype = wide_dtype(self._variables[k].dtype.name)
        of_role = packed[0 if self._role(k) == PARAMETERS else 1]
        return {
            "num_workers": self._num_neighbors,
            **{name: tf.cast(rate, dtype) for name, rate in of_role.items()},
        }

    def _parent(self, k: int, i: int) -> dict[str, tf.Tensor]:
        """What the center keeps, as device i has it."""
        shown = self._variables[k].store.read_center(i)
        if self._role(k) == STATISTICS:
            return {_CENTER: shown}
        return {
            self._spec.rule.shown: shown,
            **{
                name: slot.store.read(i)
                for name, slot in self.parameters[k].parent.items()
            },
        }

    def _messages(self, i: int) -> Tensors:
        """What worker i sends; of statistics, its own."""
        sends = self._spec.rule.sends
        own = [v.store.read(i) for v in self._statistics]
        return [p.message(sends, i) for p in self.parameters] + own

    def _go(self, k: int, i: int, point: tf.Tensor) -> None:
        """Worker i goes to a point; its statistics stay its own."""
        if self._role(k) == STATISTICS:
            return
        parameter = self.parameters[k]
        parameter.variable.store.assign(i, point)
        if self._spec.rule.sends == rules.INCREMENT:
            parameter.slot.store.assign(i, point)


def _packed(now: RatesByRole) -> list[dict[str, tf.Tensor]]:
    """Rates as tensors, for a compiled function; p is no tensor."""
    return [
        {
            name: in_float64(rate)
            for name, rate in now[role].items()
            if name != "num_workers"
        }
        for role in (PARAMETERS, STATISTICS)
    ]
