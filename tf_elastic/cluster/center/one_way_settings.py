"""How a node takes part in a tree."""

from collections.abc import Collection
from collections.abc import Mapping
from collections.abc import Sequence
from typing import NamedTuple

from tf_elastic.core import lateness
from tf_elastic.core import one_way
from tf_elastic.core.rules import Rates


class OneWaySettings(NamedTuple):
    """How a node takes part.

    Attributes:
        moving_rate: alpha, by which it moves to whatever comes, at least 0;
            None for what its children tell of their optimizer, by the number
            of its children: see `core.one_way.node_rate`.
        up_period: its own steps between two messages to its parent, >= 1.
        down_period: between two messages to its children, >= 1.
        most_waiting: messages that wait on each edge; see `EdgeQueues`.
        max_lag: how late a child's message may come, in turns of all other
            neighbours; None for no bound. See `core.lateness`.
        further_periods: `up_period` where it has gone to its parent's parent,
            that one's, and so on; the last one is for all further ones.
        most_stretch: by how much a slow edge's period is stretched at most, a
            power of 2; 1 for never. See `core.congestion`.
        chiefs: the children whose instructions are passed on.
        answers: whether messages are answered, and nothing is sent else.
    """

    moving_rate: float | None
    up_period: int
    down_period: int
    most_waiting: int = 4
    max_lag: float | None = lateness.DEFAULT_MAX_LAG
    further_periods: Sequence[int] = ()
    most_stretch: int = 1
    chiefs: Collection[int] = (0,)
    answers: bool = False

    def check(self) -> None:
        """Refuses what is out of its range.

        Raises:
            ValueError: something is.
        """
        one_way.check_periods(self.up_period, self.down_period)
        lateness.check_max_lag(self.max_lag)
        self.rates(None, num_children=1)

    def up_period_after(self, moves: int) -> int:
        """The period upward, after so many moves to a parent's parent."""
        if not moves or not self.further_periods:
            return self.up_period
        last = len(self.further_periods) - 1
        return self.further_periods[min(moves - 1, last)]

    def rates(
        self, told: Mapping[str, float | None] | None, num_children: int
    ) -> Rates:
        """By what the node moves to whatever comes.

        Args:
            told: "beta" and "moving_rate" of the optimizer, as a child has
                told; None for the default.
            num_children: d.
        """
        rate = self.moving_rate
        if rate is None:
            told = told or {}
            rate = one_way.node_rate(
                num_children, told.get("beta"), told.get("moving_rate")
            )
        return one_way.rates(rate)
