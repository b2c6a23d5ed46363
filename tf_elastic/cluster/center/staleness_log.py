"""How old the center was that pushes were made from."""

import collections
from typing import NamedTuple

_KEPT = 4096


class Staleness(NamedTuple):
    """Of one push. JSON."""

    number: int  # from 1, grows while the server lives
    worker: int  # whose push
    versions: int  # applied since the worker has read the center
    age_ms: float  # since then


class StalenessLog:
    """Of the newest pushes to one center server."""

    def __init__(self) -> None:
        self.count = 0  # pushes so far
        self._entries: collections.deque[Staleness] = collections.deque(
            maxlen=_KEPT
        )

    def note(self, worker: int, versions: int, age_s: float) -> None:
        """Notes a push.

        Args:
            worker: whose.
            versions: applied since it has read the center.
            age_s: seconds since then.
        """
        self.count += 1
        entry = Staleness(self.count, worker, max(versions, 0), 1000 * age_s)
        self._entries.append(entry)

    @property
    def newest(self) -> Staleness:
        """Of the push that was noted last."""
        return self._entries[-1]

    def since(self, number: int) -> list[Staleness]:
        """Of the pushes after that one, as far as they are kept."""
        return [entry for entry in self._entries if entry.number > number]
