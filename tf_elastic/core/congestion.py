"""When an edge of a tree is too slow for its period, and by how much.

The thesis leaves open what is to happen when messages wait (section 6.1).
Here the period of such an edge is stretched: doubled when several messages in
a row took longer than their period, or others were superseded meanwhile; and
halved again when many in a row were quick.
"""

# Below `lateness.DEFAULT_MAX_LAG`: who is stretched would else be late.
DEFAULT_MOST = 8
# So many slow messages one after another stretch the period, and so many quick
# ones let it be shorter again: one that was held up is neither.
_SLOW = 3
_CALM = 8
# Quick is what takes less than this part of the period as it is; so that half
# of that period is enough, with some to spare.
_QUICK = 0.4


class Stretch:
    """By how much the period of one edge is longer than it is set to be.

    No clock and no thread: who sends notes what became of each message.

    Args:
        most: the largest factor, a power of 2, at least 1: never.

    Raises:
        ValueError: `most` is none.

    Example:

    >>> slow = Stretch()
    >>> [slow.note(round_trip_s=3.0, period_s=1.0) for _ in range(3)]
    [False, False, True]
    >>> slow.factor
    2
    """

    def __init__(self, most: int = DEFAULT_MOST) -> None:
        if type(most) is not int or most < 1 or most & (most - 1):
            raise ValueError(
                "`most_stretch` must be a power of 2, at least 1. Received: "
                f"most_stretch={most!r}."
            )
        self.factor = 1
        self.round_trip_s = 0.0  # the newest
        self._most = most
        self._slow = self._quick = 0  # in a row

    def note(
        self, round_trip_s: float, period_s: float, overflowed: bool = False
    ) -> bool:
        """Notes a message that was sent and has come.

        Args:
            round_trip_s: from then until it was acknowledged.
            period_s: the edge's as it is set, in seconds; 0 if that is not
                known.
            overflowed: whether others were superseded since the last one.

        Returns:
            Whether the factor is another one now.
        """
        self.round_trip_s = round_trip_s
        before, now_s = self.factor, self.factor * period_s
        slow = overflowed or bool(period_s and round_trip_s > now_s)
        quick = not slow and (not period_s or round_trip_s < _QUICK * now_s)
        self._slow = self._slow + 1 if slow else 0
        self._quick = self._quick + 1 if quick else 0
        if self._slow >= _SLOW:
            self.factor = min(2 * before, self._most)
            self._slow = 0
        elif self._quick >= _CALM:
            self.factor = max(before // 2, 1)
            self._quick = 0
        return self.factor != before
