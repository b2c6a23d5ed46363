"""Who is told of events."""

import threading
from collections.abc import Callable
from typing import Any

from tf_elastic.timeline.event import Event

Listener = Callable[[Event], None]


def of_center(index: int, group: int, now: Callable[[], float]) -> "Stream":
    """What a center server tells.

    Args:
        index: of it.
        group: the optimizer whose center it is.
        now: the time of day, in seconds.
    """
    return Stream(f"center {index}", now, shard=index, group=group)


def of_worker(
    worker: int | None, group: int, now: Callable[[], float]
) -> "Stream":
    """What a worker tells, or a process that only looks; as `of_center`."""
    teller = "onlooker" if worker is None else f"worker {worker}"
    return Stream(teller, now, worker=worker, group=group)


class Stream:
    """Passes events on, in the thread of whoever tells them.

    Thread-safe; they are passed on in the order of their times.

    Args:
        teller: who tells: "center 0", "worker 1".
        now: the time of day, in seconds.
        **known: fields that all of its events have.
    """

    def __init__(
        self, teller: str, now: Callable[[], float], **known: Any
    ) -> None:
        self.teller = teller
        self._now = now
        self._known = known
        self._listeners: list[Listener] = []
        self._lock = threading.Lock()

    @property
    def shard(self) -> int | None:
        """Of a center server its index."""
        return self._known.get("shard")

    def listen(self, listener: Listener) -> None:
        """Has events told to somebody more. It must not wait, nor raise."""
        self._listeners.append(listener)

    def tell(self, kind: str, **fields: Any) -> None:
        """Tells all of an event.

        Args:
            kind: of `event.KINDS`.
            **fields: of `Event`.
        """
        if not self._listeners:
            return
        with self._lock:
            event = Event(
                kind, self._now(), self.teller, **{**self._known, **fields}
            )
            for listener in self._listeners:
                listener(event)
