"""Momentum on two levels: regional servers below a global one."""

import dataclasses
from collections.abc import Mapping
from typing import ClassVar

from tf_elastic.core import elastic
from tf_elastic.core.arrays import Array
from tf_elastic.core.arrays import Scalar
from tf_elastic.core.rules.base import CENTER
from tf_elastic.core.rules.base import Context
from tf_elastic.core.rules.base import Rates
from tf_elastic.core.rules.base import Rule
from tf_elastic.core.rules.base import Slots
from tf_elastic.core.rules.base import rule
from tf_elastic.core.rules.delayed import DelayedNesterov
from tf_elastic.core.rules.gradients import MOMENTUM_RANGES
from tf_elastic.core.topology import ACCUMULATED

# Where a regional server was when it last merged: it sends up its way since.
MERGED = "merged"
# The rates of a regional server are called as those of the global one, with
# this before.
REGIONAL = "regional_"
MERGE_WEIGHT = "merge_weight"
_OWN_RATES = ("learning_rate", "momentum", "delay")
_RANGES = {**MOMENTUM_RANGES, "delay": (1.0, 2.0**31)}


@rule("global_server")
@dataclasses.dataclass(frozen=True)
class GlobalServer(DelayedNesterov):
    """HALoS: delayed Nesterov momentum at the root, and at each region.

    The root moves by what regional servers send as `DelayedNesterov` does,
    and answers with where it is; `inner` is a regional server. Without a tree
    it is the only one.

    Rates: those of `DelayedNesterov`, and of `RegionalServer`.

    Reference:
        Kim et al. (2025), "HALoS", Algorithm 1.
    """

    tree_protocols: ClassVar[tuple[str, ...]] = (ACCUMULATED,)
    ranges: ClassVar[Mapping[str, tuple[float, float]]] = {
        **DelayedNesterov.ranges,
        **{REGIONAL + name: _RANGES[name] for name in _OWN_RATES},
        MERGE_WEIGHT: (0.0, 1.0),
    }

    @property
    def inner(self) -> Rule:
        """A regional server."""
        return RegionalServer()


@rule("regional_server")
@dataclasses.dataclass(frozen=True)
class RegionalServer(DelayedNesterov):
    r"""A server of workers that is a child too: HALoS' local server.

    What children send moves it as `DelayedNesterov` has it. Of an answer y of
    its parent, with m where it was when it last merged:

    .. math:: x \leftarrow (1 - \alpha) x + \alpha y, \quad m \leftarrow x

    and what it sends up is x - m.

    Rates: "regional_learning_rate", "regional_momentum", "regional_delay";
    "merge_weight" (alpha in [0, 1]).

    Reference:
        Kim et al. (2025), "HALoS", Algorithm 1.
    """

    ranges: ClassVar[Mapping[str, tuple[float, float]]] = {
        name: GlobalServer.ranges[name]
        for name in (*(REGIONAL + own for own in _OWN_RATES), MERGE_WEIGHT)
    }

    def init(self, center: Array) -> dict[str, Array]:
        """It has merged where it begins."""
        return {**super().init(center), MERGED: 1 * center}

    def check(self, rates: Rates) -> None:
        """See `Rule.check`."""
        Rule.check(self, rates)

    def rates_at(self, rates: Rates, context: Context) -> Rates:
        """By its own learning rate, momentum and delay."""
        own = {name: rates[REGIONAL + name] for name in _OWN_RATES}
        found = super().rates_at({**own, "activation": 0.0}, context)
        return {**found, MERGE_WEIGHT: rates[MERGE_WEIGHT]}

    def apply(
        self,
        parent: Slots[Array],
        total: Array,
        rates: Rates,
        sent: Array | None = None,
    ) -> dict[str, Array]:
        """Takes a step; where it has merged stays. See `Rule.apply`."""
        moved = super().apply(parent, total, rates, sent)
        return {**moved, MERGED: parent[MERGED]}

    def settle(self, point: Array, difference: Array, rates: Rates) -> Array:
        """Merges the parent's point, by alpha."""
        weight: Scalar[Array] = rates[MERGE_WEIGHT]
        return elastic.pull(point, difference, weight)

    def merged(
        self, slots: Slots[Array], answer: Array, rates: Rates
    ) -> dict[str, Array]:
        """What it keeps, after its parent's answer.

        Args:
            slots: before it.
            answer: the parent's point.
            rates: as `rates_at` gives them.

        Example:

        >>> slots = {**RegionalServer().init(4.0), "merged": 3.0}
        >>> RegionalServer().merged(slots, 8.0, {"merge_weight": 0.25})
        {'center': 5.0, 'velocity': 0.0, 'buffer': 0.0, 'merged': 5.0}
        """
        point = slots[CENTER]
        merged = self.settle(point, point - answer, rates)
        return {**slots, CENTER: merged, MERGED: merged}
