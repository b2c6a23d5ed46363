"""A time average of any rule's center."""

import dataclasses
from collections.abc import Mapping

from tf_elastic.core.arrays import Array
from tf_elastic.core.averages import FIRST_CUT
from tf_elastic.core.averages import averaging_rate
from tf_elastic.core.averages import check_average_from
from tf_elastic.core.averages import first_cut
from tf_elastic.core.averages import is_before
from tf_elastic.core.averages import time_average
from tf_elastic.core.rules.base import CENTER
from tf_elastic.core.rules.base import Context
from tf_elastic.core.rules.base import Rates
from tf_elastic.core.rules.base import Rule
from tf_elastic.core.rules.base import Slots
from tf_elastic.core.rules.base import rule
from tf_elastic.core.rules.increments import Add

AVERAGE = "average"
# A rate: 1 if a child has taken a step at a learning rate below its largest.
IS_CUT = "is_cut"
_IS_BEFORE = "is_before_average"  # 1 or 0
# Numbers of an average that begins with the first cut.
_HAS_BEGUN, _BEGINS_AT = "average_has_begun", "average_begins_at"


@rule("time_average")
@dataclasses.dataclass(frozen=True)
class TimeAverage(Rule):
    r"""What is shown is an average over time; else the rule is another one's.

    .. math:: z_{t+1} = (1 - a_{t+1}) z_t + a_{t+1} \tilde x_t

    It takes in the center as it was before each update. It may begin later,
    at the center's version s: until then :math:`z_t = \tilde x_t`, and then
    all goes on as if the center had begun there.

    Rates: those of the rule inside, and "averaging_rate" (a); None or
    missing for :math:`1 / (t - s + 1)`, the mean of all since then. With
    `from_first_cut` also "is_cut": 1 if the child has taken a step at a
    learning rate below its largest one, else 0.

    Args:
        of: the rule inside.
        average_from: s, in updates of the center, an integer >= 0.
        from_first_cut: instead, s is the center's version when a child first
            says that its rate is cut.

    Raises:
        ValueError: `average_from` is out of its range, or both are given.

    Reference:
        Zhang (2016), chapter 4 (ADOWNPOUR, MVADOWNPOUR), eq. 3.13, and
        section 4.3.1 for an average that begins later.
    """

    of: Rule = Add()
    average_from: int = 0
    from_first_cut: bool = False

    def __post_init__(self) -> None:
        """Checks the fields, which may have come by the network."""
        check_average_from(self.average_from)
        if self.from_first_cut and self.average_from:
            raise ValueError(
                "An average begins at a number of updates or with the first "
                f"cut. Received: average_from={self.average_from}, "
                "from_first_cut=True."
            )

    @classmethod
    def beginning(cls, of: Rule, average_from: int | str) -> "TimeAverage":
        """An average that begins as an optimizer's `average_from` says.

        Args:
            of: the rule inside.
            average_from: updates of the center, or "first_cut".
        """
        if isinstance(average_from, str):
            return cls(of, from_first_cut=average_from == FIRST_CUT)
        return cls(of, average_from)

    @property
    def sends(self) -> str:  # type: ignore[override]
        """As the rule inside."""
        return self.of.sends

    @property
    def answers_difference(self) -> bool:  # type: ignore[override]
        """As the rule inside."""
        return self.of.answers_difference

    @property
    def works_both_ways(self) -> bool:  # type: ignore[override]
        """As the rule inside; but what is not answered tells of no cut."""
        return self.of.works_both_ways and not self.from_first_cut

    @property
    def inner(self) -> Rule:
        """As of the rule inside: the root's average alone is shown."""
        return self.of.inner

    @property
    def by_variable(self) -> bool:  # type: ignore[override]
        """As the rule inside."""
        return self.of.by_variable

    @property
    def remembers(self) -> bool:
        """As the rule inside."""
        return self.of.remembers

    @property
    def moves_by_itself(self) -> bool:  # type: ignore[override]
        """The average does."""
        return True

    @property
    def numbers(self) -> Mapping[str, float]:
        """Also when the average has begun, if that depends."""
        own = {_HAS_BEGUN: 0.0, _BEGINS_AT: 0.0} if self.from_first_cut else {}
        return {**self.of.numbers, **own}

    @property
    def shown(self) -> str:
        """The average."""
        return AVERAGE

    def init(self, center: Array) -> dict[str, Array]:
        """An average of the first center alone."""
        return {**self.of.init(center), AVERAGE: 1 * center}

    def rates_at(self, rates: Rates, context: Context) -> Rates:
        """Also the averaging rate, and whether the average has begun."""
        version, own = context.version, {}
        start: float = self.average_from
        if self.from_first_cut:
            kept = {**self.numbers, **context.kept}
            begun, start = first_cut(
                version, rates[IS_CUT], kept[_HAS_BEGUN], kept[_BEGINS_AT]
            )
            own = {_HAS_BEGUN: begun, _BEGINS_AT: start}
        rate = averaging_rate(version, rates.get("averaging_rate"), start)
        now = {
            **self.of.rates_at(rates, context),
            **own,
            "averaging_rate": rate,
        }
        if self._begins_later:
            now[_IS_BEFORE] = is_before(version, start)
        return now

    @property
    def _begins_later(self) -> bool:
        return self.from_first_cut or self.average_from > 0

    def check(self, rates: Rates) -> None:
        """See `Rule.check`."""
        self.of.check(rates)
        rate = rates.get("averaging_rate")
        if rate is not None and not 0 <= rate <= 1:
            raise ValueError(
                "The rate `averaging_rate` must be from 0 to 1, or None. "
                f"Received: averaging_rate={rate!r:.80}."
            )
        is_cut = rates.get(IS_CUT)
        if self.from_first_cut and is_cut not in (0, 1):
            raise ValueError(
                f"The rate `{IS_CUT}` must be 0 or 1. Received: "
                f"{IS_CUT}={is_cut!r:.80}."
            )

    def closing(self, rates: Rates) -> Rates:
        """As the rule inside."""
        return self.of.closing(rates)

    def delta(self, message: Array, parent: Slots[Array]) -> Array:
        """As the rule inside."""
        return self.of.delta(message, parent)

    def apply(
        self,
        parent: Slots[Array],
        total: Array,
        rates: Rates,
        sent: Array | None = None,
    ) -> dict[str, Array]:
        """Averages, then moves; see `Rule.apply`."""
        average = time_average(
            parent[AVERAGE], parent[CENTER], rates["averaging_rate"]
        )
        inside = {k: v for k, v in parent.items() if k != AVERAGE}
        moved = self.of.apply(inside, total, rates, sent)
        if self._begins_later:  # Until then it is the center as it is now.
            average = time_average(average, moved[CENTER], rates[_IS_BEFORE])
        return {**moved, AVERAGE: average}

    def rest(self, parent: Slots[Array]) -> dict[str, Array]:
        """The average stays as well; see `Rule.rest`."""
        inside = {k: v for k, v in parent.items() if k != AVERAGE}
        return {**self.of.rest(inside), AVERAGE: parent[AVERAGE]}

    def begin(self, parent: Slots[Array], rates: Rates) -> Array:
        """As the rule inside."""
        return self.of.begin(parent, rates)

    def reached(
        self, size: float, message: float, rates: Rates
    ) -> float | None:
        """As the rule inside: an average is no larger than its like."""
        return self.of.reached(size, message, rates)

    def settle(self, point: Array, difference: Array, rates: Rates) -> Array:
        """As the rule inside."""
        return self.of.settle(point, difference, rates)
