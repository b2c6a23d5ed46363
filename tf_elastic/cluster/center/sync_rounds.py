"""The synchronous rounds of a center server, in which all workers meet."""

import collections
import contextlib
from collections.abc import Collection
from collections.abc import Iterator
from typing import Any
from typing import NamedTuple

import numpy as np

from tf_elastic.cluster import errors
from tf_elastic.cluster.blocks import blocks
from tf_elastic.core.arrays import wide_dtype
from tf_elastic.core.rules import Rates

Arrays = list[np.ndarray]

# Of one worker for a round's end. The one before may not know yet that nobody
# listens to it any more.
_MOST_WAITS = 4


class Sum(NamedTuple):
    """What several workers have brought, added up."""

    rates: Rates  # of all, or the newest
    came: int  # how many
    arrays: Arrays
    at_rest: frozenset[int]  # variables that nobody has trained


class SyncRounds:
    """Who is in the round that is open, and the sum of what was brought.

    Not thread-safe.
    """

    def __init__(self) -> None:
        self.round = 0  # that is open
        self._here: set[int] = set()
        # By what it is to be done with: one kind, unless p has just changed.
        self._sums: dict[tuple[Any, ...], Sum] = {}
        # Calls of each worker that wait for the end.
        self.waiting: collections.Counter[int] = collections.Counter()

    def add(
        self,
        worker: int,
        values: Arrays,
        rates: Rates,
        together: bool,
        at_rest: frozenset[int] = frozenset(),
    ) -> None:
        """Takes a worker's part.

        It may be here with an earlier part, whose answer it has not got: that
        half is lost, and it takes part with this one.

        Args:
            worker: whose part.
            values: one array for each section.
            rates: of it; parts of the same rates are added up.
            together: whether those of others are, too, and the newest count.
            at_rest: the variables that it does not train.
        """
        kind = () if together else tuple(sorted(rates.items()))
        if kind not in self._sums:
            zeros = [
                np.zeros(value.shape, wide_dtype(value.dtype.name))
                for value in values
            ]
            self._sums[kind] = Sum(rates, 0, zeros, at_rest)
        before = self._sums[kind]
        for value, total in zip(values, before.arrays, strict=True):
            for part in blocks(value.size):
                total[part] += value[part]
        self._sums[kind] = Sum(
            rates,
            before.came + 1,
            before.arrays,
            before.at_rest & at_rest,
        )
        self._here.add(worker)

    def attend(self, worker: int) -> None:
        """Takes note of a worker that brings nothing to this round."""
        self._here.add(worker)

    def leave(self, worker: int) -> None:
        """Waits for a worker no more; what it has brought stays."""
        self._here.discard(worker)

    def check_known(self, worker: int, round_: int) -> None:
        """Refuses a worker whose part of a round is not, and was not, here.

        Raises:
            UnknownWorkerError: it is not.
        """
        known = round_ < self.round
        if round_ == self.round:
            known = worker in self._here
        if not known:
            raise errors.UnknownWorkerError(
                "this center has begun anew, and does not know the part of "
                f"worker {worker} in exchange {round_}"
            )

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

    def end(self) -> list[Sum]:
        """Ends the round; of each kind of parts, their sum."""
        ended = list(self._sums.values())
        self._sums, self._here = {}, set()
        self.round += 1
        return ended

    @contextlib.contextmanager
    def waits(self, worker: int) -> Iterator[None]:
        """A worker waits for a round's end, inside the block.

        Raises:
            MessageError: it waits several times already.
        """
        if self.waiting[worker] >= _MOST_WAITS:
            raise errors.MessageError(
                f"A worker may wait {_MOST_WAITS} times at once. "
                f"Received: one more of worker {worker}"
            )
        self.waiting[worker] += 1
        try:
            yield
        finally:
            self.waiting[worker] -= 1
