"""What a worker of a virtual cluster does when an exchange is due.

Each protocol is a class of the same methods. What happens at a moment, and in
which order, `core.protocols` says; here is when, and it is asked once.
"""

import abc
from collections.abc import Generator

from tf_elastic.core import protocols
from tf_elastic.timeline.virtual.center import Center
from tf_elastic.timeline.virtual.moves import APPLY
from tf_elastic.timeline.virtual.moves import ARRIVE
from tf_elastic.timeline.virtual.moves import ASK
from tf_elastic.timeline.virtual.moves import MAKE
from tf_elastic.timeline.virtual.moves import READ
from tf_elastic.timeline.virtual.moves import SETTLE
from tf_elastic.timeline.virtual.moves import SETTLING_STEP
from tf_elastic.timeline.virtual.moves import STEP
from tf_elastic.timeline.virtual.moves import TURN_OVER
from tf_elastic.timeline.virtual.moves import VISIT
from tf_elastic.timeline.virtual.moves import VISITING_STEP
from tf_elastic.timeline.virtual.scheduler import MESSAGE
from tf_elastic.timeline.virtual.scheduler import Process
from tf_elastic.timeline.virtual.scheduler import Scheduler
from tf_elastic.timeline.virtual.workload import Workload

# Until the worker goes on; returns when that is.
Exchange = Generator[float | None, float, float]


class Exchanges(abc.ABC):
    """Base class: exchanges of all workers, by one protocol.

    Args:
        center: of the cluster.
        workload: what is exchanged.
        scheduler: of the cluster.
        clocks: by worker, the calls of its optimizer, where it is to go on
            after a break.
    """

    def __init__(
        self,
        center: Center,
        workload: Workload,
        scheduler: Scheduler,
        clocks: list[int],
    ) -> None:
        self.center = center
        self.workload = workload
        self.is_before = workload.is_before
        self.scheduler = scheduler
        self.clocks = clocks

    @abc.abstractmethod
    def exchange(self, worker: int, time: float, clock: int) -> Exchange:
        """An exchange, with the step that is due.

        Args:
            worker: whose.
            time: now, when the step's gradient is there.
            clock: calls of its optimizer before the step.
        """

    def begins(self, worker: int) -> None:  # noqa: B027
        """A worker is at the center, in a new life or once more."""

    def leaves(self, worker: int, time: float) -> None:  # noqa: B027
        """A worker has died."""


class Visits(Exchanges):
    """Blocking, where nothing takes time."""

    def visit(self, worker: int, time: float, clock: int) -> None:
        """An exchange, at once."""
        center = self.center
        version = center.version
        if not self.is_before:
            center.note(STEP, time, worker, clock)
            read = center.settled[worker]
            center.take(VISIT, time, worker, clock + 1, read)
            if center.version == version:  # It was left out.
                center.note(SETTLE, time, worker, clock + 1)
        elif not center.take(VISITING_STEP, time, worker, clock, version):
            center.restart(time, worker, clock)
            center.note(STEP, time, worker, clock)

    def exchange(self, worker: int, time: float, clock: int) -> Exchange:
        """See `Exchanges.exchange`."""
        self.visit(worker, time, clock)
        yield from ()
        return time


class BlockingBefore(Exchanges):
    """Algorithm 1: a worker reads, brings its difference, and then steps."""

    def exchange(self, worker: int, time: float, clock: int) -> Exchange:
        """See `Exchanges.exchange`."""
        center, load = self.center, self.workload
        center.note(MAKE, time, worker, clock)
        time = yield from center.reach(worker, time, 0, load.bytes_read)
        in_time, read = not center.is_late(worker), center.version
        if in_time:
            center.note(READ, time, worker, clock)
        else:
            center.drop(time, worker, clock)
        time = yield center.answer_arrives(worker, time, load.bytes_read)
        if in_time:
            time = yield from center.reach(
                worker, time, load.bytes_up, load.bytes_up + load.bytes_down
            )
            in_time = center.take(APPLY, time, worker, clock, read, False)
            time = yield center.answer_arrives(worker, time, load.bytes_down)
        if in_time:
            center.note(SETTLING_STEP, time, worker, clock)
        else:
            center.restart(time, worker, clock)
            center.note(STEP, time, worker, clock)
        return time


class BlockingAfter(Exchanges):
    """A worker brings what it has, and waits for the answer."""

    def exchange(self, worker: int, time: float, clock: int) -> Exchange:
        """See `Exchanges.exchange`."""
        center, load = self.center, self.workload
        center.note(STEP, time, worker, clock)
        self.clocks[worker] = clock = clock + 1
        center.note(MAKE, time, worker, clock)
        read = center.settled[worker]
        time = yield from center.reach(
            worker, time, load.bytes_up, load.bytes_up + load.bytes_down
        )
        center.take(ARRIVE, time, worker, clock, read)
        time = yield center.answer_arrives(worker, time, load.bytes_down)
        center.note(SETTLE, time, worker, clock)
        return time


class Parts(Exchanges):
    """ADMM: a worker reads as a period begins, and brings its part at its end.

    A part counts however late it comes.
    """

    def exchange(self, worker: int, time: float, clock: int) -> Exchange:
        """See `Exchanges.exchange`; of every step."""
        center, load = self.center, self.workload
        period, step = load.period_of(worker), STEP
        if clock % period == load.calls - 1:
            center.note(ASK, time, worker, clock)
            time = yield from center.reach(worker, time, 0, load.bytes_read)
            center.answer(time, worker, clock)
            time = yield center.answer_arrives(worker, time, load.bytes_read)
            step = SETTLING_STEP
        center.note(step, time, worker, clock)
        self.clocks[worker] = clock = clock + 1
        if clock % period == 0:
            center.note(MAKE, time, worker, clock)
            read = center.settled[worker]
            time = yield from center.reach(
                worker, time, load.bytes_up, load.bytes_up + load.bytes_down
            )
            center.take(ARRIVE, time, worker, clock, read, False)
            time = yield center.answer_arrives(worker, time, load.bytes_down)
            center.note(SETTLE, time, worker, clock)
        return time


class Overlapped(Exchanges):
    """Section 2.2: a worker goes on, and follows the answer a period later.

    The answer may be there at once: it is followed a period later all the
    same.
    """

    def __init__(
        self,
        center: Center,
        workload: Workload,
        scheduler: Scheduler,
        clocks: list[int],
    ) -> None:
        super().__init__(center, workload, scheduler, clocks)
        everyone = range(len(clocks))
        self._settles_first = protocols.Overlapped(workload.rule).settles_first
        self._has_sent = [False for _ in everyone]
        # When the answer arrives; None as long as that is not known.
        self._answer_at: list[float | None] = [None for _ in everyone]
        self._is_answered = [True for _ in everyone]
        self._waits = [False for _ in everyone]
        # The version of the point that the worker has gone on from.
        self._held = [0 for _ in everyone]

    def begins(self, worker: int) -> None:
        """See `Exchanges.begins`."""
        self._has_sent[worker] = self._waits[worker] = False
        self._held[worker] = self.center.settled[worker]

    def exchange(self, worker: int, time: float, clock: int) -> Exchange:
        """See `Exchanges.exchange`."""
        center = self.center
        center.note(STEP, time, worker, clock)
        self.clocks[worker] = clock = clock + 1
        turned_over = False
        if self._has_sent[worker]:
            answer_at = self._answer_at[worker]
            if answer_at is None:
                self._waits[worker] = True
                time = yield None
            elif answer_at > time:
                time = yield answer_at
            if not self._is_answered[worker]:
                center.restart(time, worker, clock)
                self.begins(worker)
                return time
            turned_over = not self._settles_first
            kind = TURN_OVER if turned_over else SETTLE
            center.note(kind, time, worker, clock)
        read = self._held[worker]
        self._held[worker] = center.settled[worker]
        if self._settles_first:
            read = self._held[worker]
        if not turned_over:
            center.note(MAKE, time, worker, clock)
        self._has_sent[worker], self._answer_at[worker] = True, None
        self.scheduler.start(
            worker, MESSAGE, self._message(worker, time, clock, read)
        )
        return time

    def _message(
        self, worker: int, time: float, clock: int, read: int
    ) -> Process:
        center, load = self.center, self.workload
        time = yield from center.reach(
            worker, time, load.bytes_up, load.bytes_up + load.bytes_down
        )
        self._is_answered[worker] = center.take(
            ARRIVE, time, worker, clock, read
        )
        back = center.answer_arrives(worker, time, load.bytes_down)
        self._answer_at[worker] = back
        if self._waits[worker]:
            self._waits[worker] = False
            self.scheduler.wake(back, worker)
        yield None
