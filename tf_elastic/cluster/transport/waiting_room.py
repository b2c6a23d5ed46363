"""What others have begun and not finished: few things, and not for long.

A half-sent message, a connection that has not shown a token: whoever leaves
many of them is not to take the place of those who come after.
"""

import collections
import contextlib
import dataclasses
import threading
import time
from collections.abc import Callable
from collections.abc import Hashable
from collections.abc import Iterator


@dataclasses.dataclass(frozen=True, eq=False)
class _Visit:
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
        most_each: of them of one.
        now: a clock, in seconds.
    """

    def __init__(
        self,
        most: int,
        most_each: int | None = None,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._most = most
        self._most_each = most if most_each is None else most_each
        self._now = now
        self._lock = threading.Lock()
        self._visits: list[_Visit] = []  # the oldest first

    def __len__(self) -> int:
        return len(self._visits)

    @contextlib.contextmanager
    def visit(
        self, whose: Hashable, end: Callable[[], None], seconds: float
    ) -> Iterator[None]:
        """Notes something that lasts as long as the block.

        Args:
            whose: it is; a host, say.
            end: ends it from outside; quick, and never waits. It is not
                called after the block.
            seconds: that it may last; `tick` ends it then.
        """
        visit = _Visit(whose, self._now() + seconds, end)
        with self._lock:
            self._make_room(whose)
            self._visits.append(visit)
        try:
            yield
        finally:
            with self._lock:
                if visit in self._visits:
                    self._visits.remove(visit)

    def tick(self) -> None:
        """Ends what has lasted too long; to be called every second or so."""
        now = self._now()
        with self._lock:
            for visit in [v for v in self._visits if v.until <= now]:
                self._end(visit)

    def _make_room(self, whose: Hashable) -> None:
        while True:
            counts = collections.Counter(v.whose for v in self._visits)
            if counts[whose] >= self._most_each:
                crowd = whose
            elif len(self._visits) >= self._most:
                crowd = max(counts, key=counts.__getitem__)
            else:
                return
            self._end(next(v for v in self._visits if v.whose == crowd))

    def _end(self, visit: _Visit) -> None:
        self._visits.remove(visit)
        visit.end()
