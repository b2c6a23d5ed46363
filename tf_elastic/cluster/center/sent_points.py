"""What each worker was sent, by versions of the center."""

from typing import Generic
from typing import TypeVar

T = TypeVar("T")

# A worker is at one version, and another is on its way; more if answers of
# the center are lost.
_MOST = 8  # of each worker


class SentPoints(Generic[T]):
    """Remembers where workers were when they made their messages.

    Not thread-safe.
    """

    def __init__(self) -> None:
        self._of: dict[int, dict[int, T]] = {}

    def note(self, worker: int, version: int, sent: T) -> None:
        """Notes what a worker is sent of a version."""
        known = self._of.setdefault(worker, {})
        known[version] = sent
        while len(known) > _MOST:
            del known[next(iter(known))]

    def at(self, worker: int, version: int) -> T | None:
        """What a worker was sent of a version, if that is known.

        Forgets what is older. (What is newer was under way meanwhile.)
        """
        known = self._of.get(worker, {})
        for older in [v for v in known if v < version]:
            del known[older]
        return known.get(version)

    def forget(self, worker: int) -> None:
        """Forgets what a worker was sent."""
        self._of.pop(worker, None)
