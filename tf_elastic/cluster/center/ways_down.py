"""The ways from a node to its children: which of them are slow."""

from collections.abc import Mapping

from tf_elastic.cluster import tree_numbers
from tf_elastic.cluster.slow_edge import SlowEdge


class WaysDown:
    """How long messages take to each child. Not thread-safe.

    A child asks for the next one as soon as it has one: from handing it out
    until then is the round trip.

    Args:
        whose: the node's name, for the log.
        most_stretch: see `core.congestion`.
    """

    def __init__(self, whose: str, most_stretch: int) -> None:
        self._whose = whose
        self._most = most_stretch
        self._handed_out: dict[int, tuple[int, float]] = {}
        self._ways: dict[int, SlowEdge] = {}

    def hands_out(self, child: int, number: int, now: float) -> None:
        """Notes that a message leaves."""
        self._handed_out[child] = number, now

    def asks(
        self,
        child: int,
        after: int,
        now: float,
        period_s: float,
        overflowed: Mapping[object, int],
    ) -> None:
        """A child asks for more: it has what it was given.

        Args:
            child: which.
            after: the number of the message that it has.
            now: the time, in seconds.
            period_s: between two messages, as it is set; 0 if not known.
            overflowed: by child, the messages that were superseded.
        """
        number, since = self._handed_out.pop(child, (0, 0.0))
        if not number or number != after:
            return
        if child not in self._ways:
            whose = f"{self._whose}'s way down to {tree_numbers.name(child)}"
            self._ways[child] = SlowEdge(whose, self._most)
        lost = overflowed.get(child, 0)
        self._ways[child].note(now - since, period_s, lost)

    def is_due(self, child: int, clock: int, period: int) -> bool:
        """Whether a message leaves for a child, at one of all that are due."""
        way = self._ways.get(child)
        return way is None or clock % (period * way.factor) == 0

    def forget(self, child: int) -> None:
        """Forgets a child."""
        self._handed_out.pop(child, None)
        self._ways.pop(child, None)

    def factors(self) -> dict[str, int]:
        """By what the period is stretched, by child."""
        return {str(child): way.factor for child, way in self._ways.items()}
