"""Children send what they have done since they last read."""

import dataclasses
from typing import ClassVar

from tf_elastic.core.arrays import Array
from tf_elastic.core.rules.base import CENTER
from tf_elastic.core.rules.base import INCREMENT
from tf_elastic.core.rules.base import Context
from tf_elastic.core.rules.base import Rates
from tf_elastic.core.rules.base import Rule
from tf_elastic.core.rules.base import Slots
from tf_elastic.core.rules.base import rule


@rule("add")
@dataclasses.dataclass(frozen=True)
class Add(Rule):
    r"""DOWNPOUR: :math:`\tilde x \leftarrow \tilde x + m`.

    Reference:
        Zhang (2016), Algorithm 3.
    """

    sends: ClassVar[str] = INCREMENT

    def apply(
        self,
        parent: Slots[Array],
        total: Array,
        rates: Rates,
        sent: Array | None = None,
    ) -> dict[str, Array]:
        """Adds what was done; see `Rule.apply`."""
        del rates, sent
        return {CENTER: parent[CENTER] + total}

    def reached(
        self, size: float, message: float, rates: Rates
    ) -> float | None:
        """See `Rule.reached`."""
        del rates
        return size + message


@rule("mean_of_parts")
@dataclasses.dataclass(frozen=True)
class MeanOfParts(Rule):
    r"""ADMM: the center is the mean of the workers' parts.

    A worker sends what its part has changed by, of which the center takes a
    p-th: :math:`\tilde x \leftarrow \tilde x + m / p`.

    Reference:
        Zhang (2016), eq. 3.54.
    """

    sends: ClassVar[str] = INCREMENT

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
        """Takes a p-th; see `Rule.apply`."""
        del sent
        return {CENTER: parent[CENTER] + rates["share"] * total}

    def reached(
        self, size: float, message: float, rates: Rates
    ) -> float | None:
        """See `Rule.reached`."""
        return size + float(rates["share"]) * message
