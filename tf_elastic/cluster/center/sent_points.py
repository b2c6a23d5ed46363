"""Where workers were when they made their messages."""

import numpy as np

Arrays = list[np.ndarray]


class SentPoints:
    """What each worker was sent, by version, for a rule that remembers.

    Not thread-safe.
    """

    def __init__(self) -> None:
        self._of: dict[int, dict[int, Arrays]] = {}

    def note(self, worker: int, version: int, points: Arrays) -> None:
        """Copies what a worker is sent.

        Args:
            worker: its index.
            version: of the center.
            points: one array for each section.
        """
        copies = [array.copy() for array in points]
        self._of.setdefault(worker, {})[version] = copies

    def at(self, worker: int, version: int) -> Arrays | None:
        """Where a worker was when it made a message, if that is known.

        Forgets what is older. (What is newer was under way meanwhile.)

        Args:
            worker: its index.
            version: of the center that it knew.
        """
        sent = self._of.get(worker, {})
        for older in [v for v in sent if v < version]:
            del sent[older]
        return sent.get(version)

    def forget(self, worker: int) -> None:
        """Forgets what a worker was sent."""
        self._of.pop(worker, None)
