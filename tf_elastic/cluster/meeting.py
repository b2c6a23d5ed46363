"""Where all workers meet at a center server: the synchronous rounds."""

import collections
from collections.abc import Collection
from collections.abc import Hashable

import numpy as np

from tf_elastic.cluster.blocks import blocks

Arrays = list[np.ndarray]


class Meeting:
    """Who is in the round that is open, and the sum of what was brought.

    Not thread-safe.
    """

    def __init__(self) -> None:
        self.round = 0  # that is open
        self._here: set[int] = set()
        # By what it is to be done with: one kind, unless p has just changed.
        self._summed: dict[Hashable, Arrays] = {}
        self._parts: collections.Counter[Hashable] = collections.Counter()

    def add(self, worker: int, values: Arrays, kind: Hashable) -> None:
        """Takes a worker's part.

        It may be here with an earlier part, whose answer it has not got: that
        half is lost, and it takes part with this one.

        Args:
            worker: whose part.
            values: one array for each section.
            kind: parts of one kind are added up.
        """
        if kind not in self._summed:
            self._summed[kind] = [np.zeros_like(value) for value in values]
        for value, total in zip(values, self._summed[kind], strict=True):
            for part in blocks(value.size):
                total[part] += value[part]
        self._parts[kind] += 1
        self._here.add(worker)

    def attend(self, worker: int) -> None:
        """Takes note of a worker that brings nothing to this round."""
        self._here.add(worker)

    def leave(self, worker: int) -> None:
        """Waits for a worker no more; what it has brought stays."""
        self._here.discard(worker)

    def has_known(self, worker: int, number: int) -> bool:
        """Whether a worker's part of a round is, or was, here."""
        if number == self.round:
            return worker in self._here
        return number < self.round

    def missing(self, present: Collection[int]) -> list[int]:
        """The workers, of those that are present, that have not come."""
        return sorted(set(present) - self._here)

    def is_complete(self, present: Collection[int], awaited: int) -> bool:
        """Whether all have come, and `awaited` at least."""
        return (
            bool(self._here)
            and not self.missing(present)
            and len(self._here) >= awaited
        )

    def end(self) -> list[tuple[Hashable, int, Arrays]]:
        """Ends the round.

        Returns:
            Of each kind: how many parts have come, and their sum.
        """
        ended = [
            (kind, self._parts[kind], summed)
            for kind, summed in self._summed.items()
        ]
        self._summed, self._here = {}, set()
        self._parts.clear()
        self.round += 1
        return ended
