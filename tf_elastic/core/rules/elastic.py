"""Elastic averaging: workers and center attract each other."""

import dataclasses
from collections.abc import Mapping
from typing import ClassVar

from tf_elastic.core import elastic
from tf_elastic.core.arrays import Array
from tf_elastic.core.arrays import Scalar
from tf_elastic.core.rules.base import CENTER
from tf_elastic.core.rules.base import POINT
from tf_elastic.core.rules.base import Context
from tf_elastic.core.rules.base import Rates
from tf_elastic.core.rules.base import Rule
from tf_elastic.core.rules.base import Slots
from tf_elastic.core.rules.base import rule

# Further, and the center jumps beyond a worker by more than it was away.
LARGEST_SHARE = 2.0


@rule("elastic")
@dataclasses.dataclass(frozen=True)
class Elastic(Rule):
    r"""Elastic averaging.

    .. math::
        d = x^i - \tilde x, \quad x^i \leftarrow x^i - \alpha d, \quad
            \tilde x \leftarrow \tilde x + \frac{\beta}{p} \sum d

    Rates: "moving_rate" (alpha), "beta".

    Reference:
        Zhang (2016), eqs. 2.3 and 2.4, Algorithms 1 and 2.
    """

    sends: ClassVar[str] = POINT
    answers_difference: ClassVar[bool] = True
    works_both_ways: ClassVar[bool] = True
    ranges: ClassVar[Mapping[str, tuple[float, float]]] = {"beta": (0, 2**32)}

    def check(self, rates: Rates) -> None:
        """See `Rule.check`; a center may not jump far beyond the workers."""
        super().check(rates)
        if rates["beta"] > LARGEST_SHARE * rates["num_workers"]:
            raise ValueError(
                f"`beta` must be at most {LARGEST_SHARE:g} for each of "
                f"num_workers={rates['num_workers']} workers. Received: "
                f"beta={rates['beta']!r:.80}."
            )

    def closing(self, rates: Rates) -> Rates:
        """The center goes no more than all of the way; see `Rule.closing`."""
        return {**rates, "beta": follow_rate(rates["beta"])}

    def delta(self, message: Array, parent: Slots[Array]) -> Array:
        """The difference to the center."""
        return elastic.elastic_difference(message, parent[CENTER])

    def apply(
        self,
        parent: Slots[Array],
        total: Array,
        rates: Rates,
        sent: Array | None = None,
    ) -> dict[str, Array]:
        """Moves the center; see `Rule.apply`."""
        del sent
        moved = elastic.push(
            parent[CENTER], total, rates["beta"], rates["num_workers"]
        )
        return {CENTER: moved}

    def reached(
        self, size: float, message: float, rates: Rates
    ) -> float | None:
        """See `Rule.reached`."""
        share = abs(float(rates["beta"])) / float(rates["num_workers"])
        return size + share * message

    def settle(self, point: Array, difference: Array, rates: Rates) -> Array:
        """The worker moves to the center, by alpha."""
        moving_rate: Scalar[Array] = rates["moving_rate"]
        return elastic.pull(point, difference, moving_rate)


@rule("follow")
@dataclasses.dataclass(frozen=True)
class Follow(Elastic):
    """Statistics: the center follows the workers' mean, they keep their own.

    Rates: "beta", of which no more than 1 counts; without it 1.
    """

    def rates_at(self, rates: Rates, context: Context) -> Rates:
        """See `Rule.rates_at`."""
        del context
        return {
            "beta": follow_rate(rates.get("beta", 1.0)),
            "num_workers": rates["num_workers"],
        }

    def settle(self, point: Array, difference: Array, rates: Rates) -> Array:
        """A worker's statistics stay its own."""
        del difference, rates
        return point


def follow_rate(beta: Array) -> Array:
    """min(beta, 1), of a number or a scalar tensor.

    A center that went beyond the mean would have variances below zero.

    Example:

    >>> follow_rate(0.9), follow_rate(1.9)
    (0.9, 1.0)
    """
    beyond = beta - 1.0
    return beta - (beyond + abs(beyond)) / 2
