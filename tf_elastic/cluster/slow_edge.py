"""Watches whether an edge of a tree keeps up, and says so in the log."""

from absl import logging

from tf_elastic.core.congestion import Stretch


class SlowEdge:
    """One way of one edge: how long messages take, by what it is stretched.

    Args:
        whose: for the log, the beginning of a sentence.
        most: see `core.congestion`.
    """

    def __init__(self, whose: str, most: int) -> None:
        self._whose = whose
        self._stretch = Stretch(most)
        self._overflowed = 0
        self._told = False

    @property
    def factor(self) -> int:
        """By what the period is to be multiplied."""
        return self._stretch.factor

    @property
    def round_trip_s(self) -> float:
        """Of the newest message, in seconds."""
        return self._stretch.round_trip_s

    def note(
        self, round_trip_s: float, period_s: float, overflowed: int
    ) -> None:
        """Notes a message that has come.

        Args:
            round_trip_s: until it was acknowledged.
            period_s: of the edge as it is set, in seconds; 0 if not known.
            overflowed: messages of the edge that were superseded so far.
        """
        more, self._overflowed = overflowed > self._overflowed, overflowed
        before = self.factor
        if not self._stretch.note(round_trip_s, period_s, more):
            return
        level = logging.INFO if self._told else logging.WARNING
        if self.factor == 1:
            text = "%s is quick again: its period is as set."
            logging.log(level, text, self)
            self._told = True  # The first time is worth a warning.
        elif before == 1:
            text = (
                "%s is slow, %.3g s for a message: its period is stretched, "
                "as far as it needs."
            )
            logging.log(level, text, self, round_trip_s)

    def __str__(self) -> str:
        return self._whose
