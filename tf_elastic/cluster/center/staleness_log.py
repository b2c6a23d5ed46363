"""How old the center was that pushes were made from."""

import collections
from typing import NamedTuple

from tf_elastic.timeline import event as events
from tf_elastic.timeline.event import Event

_KEPT = 4096


class Staleness(NamedTuple):
    """Of one push. JSON."""

    number: int  # from 1, grows while the server lives
    worker: int  # whose push
    versions: int  # applied since the worker has read the center
    age_ms: float  # since then


class StalenessLog:
    """Of the newest pushes to one center server, a listener of its events."""

    def __init__(self) -> None:
        self.count = 0  # pushes so far
        self._entries: collections.deque[Staleness] = collections.deque(
            maxlen=_KEPT
        )

    def __call__(self, event: Event) -> None:
        """Notes a push that was applied."""
        if event.kind != events.EXCHANGE or event.outcome != events.APPLIED:
            return
        if event.staleness is None:  # It came one way.
            return
        self.count += 1
        self._entries.append(
            Staleness(
                self.count,
                event.worker or 0,
                event.staleness or 0,
                1000 * (event.seconds or 0.0),
            )
        )

    @property
    def newest(self) -> Staleness:
        """Of the push that was noted last."""
        return self._entries[-1]

    def since(self, number: int) -> list[Staleness]:
        """Of the pushes after that one, as far as they are kept."""
        return [entry for entry in self._entries if entry.number > number]
