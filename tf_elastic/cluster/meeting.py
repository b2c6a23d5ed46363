"""Where all workers meet at a center server: the synchronous rounds."""

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
        # By the rate that their workers sent: one, unless p has just changed.
        self._summed: dict[Hashable, Arrays] = {}

    def add(self, worker: int, values: Arrays, rate: Hashable) -> None:
        """Takes a worker's part.

        It may be here with an earlier part, whose answer it has not got: that
        half is lost, and it takes part with this one.
        """
        if rate not in self._summed:
            self._summed[rate] = [np.zeros_like(value) for value in values]
        for value, total in zip(values, self._summed[rate], strict=True):
            for part in blocks(value.size):
                total[part] += value[part]
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

    def end(self) -> list[tuple[Hashable, Arrays]]:
        """Ends the round; each rate, and the sum of what came with it."""
        summed, self._summed = self._summed, {}
        self._here = set()
        self.round += 1
        return list(summed.items())
