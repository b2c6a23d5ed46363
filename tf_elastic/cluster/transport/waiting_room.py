"""What others have begun and not finished: few things, and not for long.

A half-sent message, a connection that has not shown a token: whoever leaves
many of them is not to take the place of those who come after.
"""

import collections
import contextlib
import threading
import time
from collections.abc import Callable
from collections.abc import Hashable
from collections.abc import Iterator
from typing import NamedTuple


class _Visit(NamedTuple):
    """Something that was begun."""

    whose: Hashable
    until: float  # on the room's clock
    end: Callable[[], None]


class WaitingRoom:
    """Has room for whoever comes, at the cost of who has waited longest.

    Where there are too many, the oldest of the one that has the most is
    ended: so who floods it meets but himself, if he has an address (or a
    number) of his own, and whoever is quick gets through in any case.

    Args:
        most: how many at once.
        seconds: that one may last; `tick` ends it then.
        most_each: of them of one.
        now: a clock, in seconds.
    """

    def __init__(
        self,
        most: int,
        seconds: float,
        most_each: int | None = None,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._most = most
        self._most_each = most if most_each is None else most_each
        self._seconds = seconds
        self._now = now
        self._lock = threading.Lock()
        self._visits: dict[int, _Visit] = {}  # the oldest first
        self._counts: collections.Counter[Hashable] = collections.Counter()
        self._number = 0

    def __len__(self) -> int:
        return len(self._visits)

    def enter(
        self,
        whose: Hashable,
        end: Callable[[], None],
        seconds: float | None = None,
    ) -> int:
        """Notes that something has begun.

        Args:
            whose: it is; a host, say.
            end: ends it from outside; quick, and never waits. It is not
                called after `leave`.
            seconds: that it may last; None for the room's.

        Returns:
            Its number, for `leave`.
        """
        until = self._now() + (self._seconds if seconds is None else seconds)
        with self._lock:
            while self._counts[whose] >= self._most_each:
                self._end_oldest_of(whose)
            while len(self._visits) >= self._most:
                count_of = self._counts.__getitem__
                self._end_oldest_of(max(self._counts, key=count_of))
            self._number += 1
            self._visits[self._number] = _Visit(whose, until, end)
            self._counts[whose] += 1
            return self._number

    def leave(self, number: int) -> None:
        """Notes that something is finished, or was given up."""
        with self._lock:
            self._forget(number)

    @contextlib.contextmanager
    def visit(
        self,
        whose: Hashable,
        end: Callable[[], None],
        seconds: float | None = None,
    ) -> Iterator[None]:
        """Notes something that lasts as long as the block."""
        number = self.enter(whose, end, seconds)
        try:
            yield
        finally:
            self.leave(number)

    def tick(self) -> None:
        """Ends what has lasted too long; to be called every second or so."""
        now = self._now()
        with self._lock:
            late = [n for n, v in self._visits.items() if v.until <= now]
            for number in late:
                self._end(number)

    def _end_oldest_of(self, whose: Hashable) -> None:
        self._end(next(n for n, v in self._visits.items() if v.whose == whose))

    def _end(self, number: int) -> None:
        found = self._forget(number)
        if found is not None:
            found.end()

    def _forget(self, number: int) -> _Visit | None:
        found = self._visits.pop(number, None)
        if found is not None:
            self._counts[found.whose] -= 1
            if not self._counts[found.whose]:
                del self._counts[found.whose]
        return found
