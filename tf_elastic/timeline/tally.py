"""Counts of what has happened."""

import collections
import threading

from tf_elastic.timeline import event as events
from tf_elastic.timeline.event import Event


class Tally:
    """Counts events, as a listener of one stream or of a file's. Thread-safe.

    What several center servers tell of one message counts once for each.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._numbers: collections.Counter[tuple[str, str | None]]
        self._numbers = collections.Counter()
        self._amounts: collections.Counter[str] = collections.Counter()
        self._bytes: collections.Counter[str] = collections.Counter()
        self._seconds: dict[str, float] = collections.defaultdict(float)
        self._staleness = 0

    def __call__(self, event: Event) -> None:
        """Counts one event."""
        kind = event.kind
        with self._lock:
            self._numbers[kind, event.outcome] += 1
            self._amounts[kind] += event.amount or 0
            self._bytes[kind] += event.bytes or 0
            self._seconds[kind] += event.seconds or 0.0
            if event.outcome == events.APPLIED:
                self._staleness += event.staleness or 0

    def number(self, kind: str, outcome: str | None = None) -> int:
        """How many there were of a kind, with this outcome, None for any."""
        with self._lock:
            return sum(
                number
                for (its_kind, its_outcome), number in self._numbers.items()
                if its_kind == kind and outcome in (None, its_outcome)
            )

    def amount(self, kind: str) -> int:
        """The sum of their `amount`s."""
        with self._lock:
            return self._amounts[kind]

    def seconds(self, kind: str) -> float:
        """The sum of their `seconds`."""
        with self._lock:
            return self._seconds[kind]

    def bytes(self, kind: str) -> int:
        """The sum of their `bytes`."""
        with self._lock:
            return self._bytes[kind]

    @property
    def mean_staleness(self) -> float:
        """Of the exchanges that were applied; 0 if there were none."""
        applied = self.number(events.EXCHANGE, events.APPLIED)
        with self._lock:
            return self._staleness / applied if applied else 0.0
