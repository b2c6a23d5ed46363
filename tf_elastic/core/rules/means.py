"""Children send where they are; the center goes by their mean."""

import dataclasses
from collections.abc import Mapping
from typing import ClassVar

from tf_elastic.core.arrays import Array
from tf_elastic.core.local_steps import lookahead_momentum_step
from tf_elastic.core.rules.base import CENTER
from tf_elastic.core.rules.base import POINT
from tf_elastic.core.rules.base import Context
from tf_elastic.core.rules.base import Rates
from tf_elastic.core.rules.base import Rule
from tf_elastic.core.rules.base import Slots
from tf_elastic.core.rules.base import rule
from tf_elastic.core.rules.gradients import MOMENTUM_RANGES
from tf_elastic.core.rules.gradients import VELOCITY
from tf_elastic.core.rules.gradients import momentum_reaches
from tf_elastic.core.topology import SYNCHRONOUS


@rule("mean")
@dataclasses.dataclass(frozen=True)
class Mean(Rule):
    r"""Local SGD: :math:`\tilde x \leftarrow \frac1p \sum_i x^i`.

    Reference:
        Stich (2019).
    """

    sends: ClassVar[str] = POINT
    tree_protocols: ClassVar[tuple[str, ...]] = (SYNCHRONOUS,)

    def rates_at(self, rates: Rates, context: Context) -> Rates:
        """Adds the share that each has in the mean."""
        del context
        return {**rates, "share": 1 / rates["num_workers"]}

    def apply(
        self,
        parent: Slots[Array],
        total: Array,
        rates: Rates,
        sent: Array | None = None,
    ) -> dict[str, Array]:
        """Goes to the mean; see `Rule.apply`."""
        del sent
        return {CENTER: parent[CENTER] + rates["share"] * total}

    def reached(
        self, size: float, message: float, rates: Rates
    ) -> float | None:
        """See `Rule.reached`."""
        return size + float(rates["share"]) * message


@rule("outer_nesterov")
@dataclasses.dataclass(frozen=True)
class OuterNesterov(Mean):
    r"""DiLoCo: the mean way is a gradient for Nesterov's momentum.

    .. math::
        d = \frac1p \sum_i (x^i - \tilde x), \quad
        v \leftarrow \mu v + \eta d, \quad
        \tilde x \leftarrow \tilde x + \mu v + \eta d

    Rates: "learning_rate" (eta), "momentum" (mu).

    Reference:
        Douillard et al. (2023), Algorithm 1.
    """

    moves_by_itself: ClassVar[bool] = True
    tree_protocols: ClassVar[tuple[str, ...]] = ()
    ranges: ClassVar[Mapping[str, tuple[float, float]]] = MOMENTUM_RANGES

    def init(self, center: Array) -> dict[str, Array]:
        """No velocity yet."""
        return {CENTER: center, VELOCITY: 0 * center}

    def apply(
        self,
        parent: Slots[Array],
        total: Array,
        rates: Rates,
        sent: Array | None = None,
    ) -> dict[str, Array]:
        """Takes an outer step; see `Rule.apply`."""
        del sent
        moved = lookahead_momentum_step(
            parent[CENTER],
            parent[VELOCITY],
            -(rates["share"] * total),
            rates["learning_rate"],
            rates["momentum"],
        )
        return {CENTER: moved.parameters, VELOCITY: moved.velocity}

    def rest(self, parent: Slots[Array]) -> dict[str, Array]:
        """No velocity any more; see `Rule.rest`."""
        return {**parent, VELOCITY: 0 * parent[VELOCITY]}

    def reached(
        self, size: float, message: float, rates: Rates
    ) -> float | None:
        """See `Rule.reached`."""
        return momentum_reaches(size, rates["share"] * message, rates)
