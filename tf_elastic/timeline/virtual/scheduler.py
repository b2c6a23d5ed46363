"""Processes of a virtual cluster, each resumed when its time has come.

A *process* is a generator: it does what is done at once, yields the time at
which it wants to go on, and is sent that time. One that yields None *parks*:
it goes on when somebody wakes it, or never.

Who is due at the same time goes on by the number of its worker, then by the
kind of process.
"""

import heapq
from collections.abc import Callable
from collections.abc import Collection
from collections.abc import Generator
from collections.abc import Sequence

Process = Generator[float | None, float, None]

# Kinds of processes; of each a worker has one at a time.
MESSAGE = 0  # on its way, while the worker goes on
WORKER = 1
LIFE = 2  # comes, dies, comes again

_Entry = tuple[float, int, int, Callable[[float], float | None]]


class Scheduler:
    """Resumes processes in the order of their times."""

    def __init__(self) -> None:
        self._heap: list[_Entry] = []
        self._parked: dict[int, Callable[[float], float | None]] = {}
        # To be done once the process that is going on now has yielded.
        self._changes: list[Callable[[], None]] = []

    def start(self, worker: int, kind: int, process: Process) -> None:
        """Lets a process begin: what it does first, it does at once."""
        time = next(process)
        entry = worker, kind, process.send
        self._changes.append(lambda: self._put(time, *entry))

    def wake(self, time: float, workers: Collection[int]) -> None:
        """Lets parked workers go on, at a time."""

        def put() -> None:
            for worker in workers:
                self._put(time, worker, WORKER, self._parked.pop(worker))

        self._changes.append(put)

    def stop(self, workers: Collection[int]) -> None:
        """Ends what workers do, and what they have sent on its way."""
        gone = frozenset(workers)

        def remove() -> None:
            self._heap[:] = [
                entry
                for entry in self._heap
                if entry[1] not in gone or entry[2] == LIFE
            ]
            heapq.heapify(self._heap)
            for worker in gone:
                self._parked.pop(worker, None)

        self._changes.append(remove)

    def run(self, results: Sequence[object], enough: int) -> bool:
        """Resumes one process after another.

        Args:
            results: to which the processes append what is found.
            enough: how many of them to come back with.

        Returns:
            Whether there are processes left that want to go on.
        """
        replace, pop, changes = heapq.heapreplace, heapq.heappop, self._changes
        self._change()
        heap = self._heap
        while heap and len(results) < enough:
            time, worker, kind, resume = heap[0]
            then = resume(time)
            if then is not None:
                replace(heap, (then, worker, kind, resume))
            else:
                pop(heap)
                if kind == WORKER:
                    self._parked[worker] = resume
            if changes:
                self._change()
        return bool(heap)

    def _change(self) -> None:
        for change in self._changes:
            change()
        self._changes.clear()

    def _put(
        self,
        time: float | None,
        worker: int,
        kind: int,
        resume: Callable[[float], float | None],
    ) -> None:
        if time is not None:
            heapq.heappush(self._heap, (time, worker, kind, resume))
        elif kind == WORKER:
            self._parked[worker] = resume
