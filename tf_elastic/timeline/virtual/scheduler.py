"""Processes of a virtual cluster, each resumed when its time has come.

A *process* is a generator: it does what is done at once, yields the time at
which it wants to go on, and is sent that time. One that yields None *parks*:
it goes on when somebody wakes it, or never.

Who is due at the same time goes on by the number of its worker, then by the
kind of process.
"""

import heapq
from collections.abc import Collection
from collections.abc import Generator
from collections.abc import Sequence

Process = Generator[float | None, float, None]

# Kinds of processes; of each a worker has one at a time.
MESSAGE = 0  # on its way, while the worker goes on
WORKER = 1
LIFE = 2  # comes, dies, comes again


class Scheduler:
    """Resumes processes in the order of their times."""

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, int, Process]] = []
        self._parked: dict[int, Process] = {}  # by worker
        # What is to be done once the process that goes on now has yielded:
        # who is to be resumed when. None for one that is parked, until then.
        self._changes: list[tuple[float, int, int, Process | None]] = []
        self._stopped: set[int] = set()  # before that
        self._silenced: set[int] = set()  # whose messages are

    def start(self, worker: int, kind: int, process: Process) -> None:
        """Lets a process begin: what it does first, it does at once."""
        time = next(process)
        if time is not None:
            self._changes.append((time, worker, kind, process))
        elif kind == WORKER:
            self._parked[worker] = process

    def wake(self, time: float, worker: int) -> None:
        """Lets a parked worker go on, at a time."""
        self._changes.append((time, worker, WORKER, None))

    def stop(self, workers: Collection[int]) -> None:
        """Ends what workers do, and what they have sent on its way."""
        self._stopped.update(workers)

    def silence(self, workers: Collection[int]) -> None:
        """Ends what workers have sent on its way, and nothing else."""
        self._silenced.update(workers)

    def run(self, results: Sequence[object], enough: int) -> bool:
        """Resumes one process after another.

        Args:
            results: to which the processes append what is found.
            enough: how many of them to come back with.

        Returns:
            Whether there are processes left that want to go on.
        """
        replace, pop, heap = heapq.heapreplace, heapq.heappop, self._heap
        changes, stopped = self._changes, self._stopped
        silenced = self._silenced
        self._change()
        while heap and len(results) < enough:
            time, worker, kind, process = heap[0]
            then = process.send(time)
            if then is not None:
                replace(heap, (then, worker, kind, process))
            else:
                pop(heap)
                if kind == WORKER:
                    self._parked[worker] = process
            if changes or stopped or silenced:
                self._change()
        return bool(heap)

    def _change(self) -> None:
        heap, stopped, silenced = self._heap, self._stopped, self._silenced
        if stopped or silenced:
            heap[:] = [
                entry
                for entry in heap
                if (entry[1] not in stopped or entry[2] == LIFE)
                and (entry[1] not in silenced or entry[2] != MESSAGE)
            ]
            heapq.heapify(heap)
            for worker in stopped:
                self._parked.pop(worker, None)
            stopped.clear()
            silenced.clear()
        for time, worker, kind, process in self._changes:
            goes_on = process or self._parked.pop(worker)
            heapq.heappush(heap, (time, worker, kind, goes_on))
        self._changes.clear()
