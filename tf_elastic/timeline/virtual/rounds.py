"""Synchronous exchanges of a virtual cluster: all meet, or the fastest."""

from collections.abc import Callable

from tf_elastic.timeline.virtual.center import Center
from tf_elastic.timeline.virtual.exchanges import Exchange
from tf_elastic.timeline.virtual.exchanges import Exchanges
from tf_elastic.timeline.virtual.moves import ADD
from tf_elastic.timeline.virtual.moves import ANSWER
from tf_elastic.timeline.virtual.moves import MAKE
from tf_elastic.timeline.virtual.moves import SETTLE
from tf_elastic.timeline.virtual.moves import SETTLING_STEP
from tf_elastic.timeline.virtual.moves import STEP
from tf_elastic.timeline.virtual.scheduler import Scheduler
from tf_elastic.timeline.virtual.workload import Workload


class Rounds(Exchanges):
    """Eqs. 2.3 and 2.4: a round ends when all who are present have come.

    A message is one call. Differences come back as soon as it is there, and a
    word when the round has ended; who ends it gets both at once. Points come
    back when it has. With a quorum it ends when so many messages are there. All
    others leave what they do, and begin again from the center.

    Args:
        center: of the cluster.
        workload: what is exchanged.
        scheduler: of the cluster.
        clocks: see `Exchanges`.
        quorum: how many messages are enough; None for those of all.
        begin_again: is told of a worker that a round has ended without, and
            when it hears of that.
    """

    def __init__(
        self,
        center: Center,
        workload: Workload,
        scheduler: Scheduler,
        clocks: list[int],
        quorum: int | None,
        begin_again: Callable[[int, float], None],
    ) -> None:
        super().__init__(center, workload, scheduler, clocks)
        self._quorum = quorum
        self._begin_again = begin_again
        self._present: set[int] = set()
        self._here: set[int] = set()  # of them, who has come
        # Of those who have, when they have their differences.
        self._answered_at: dict[int, float] = {}
        self._count = 0  # messages that have come, of the dead too
        self._on_its_way: set[int] = set()  # whose message is

    def begins(self, worker: int) -> None:
        """See `Exchanges.begins`."""
        self._present.add(worker)

    def leaves(self, worker: int, time: float) -> None:
        """See `Exchanges.leaves`."""
        for some in (self._present, self._here, self._on_its_way):
            some.discard(worker)
        self._answered_at.pop(worker, None)
        self._end_if_complete(time)

    def exchange(self, worker: int, time: float, clock: int) -> Exchange:
        """See `Exchanges.exchange`."""
        center, load = self.center, self.workload
        if not self.is_before:
            center.note(STEP, time, worker, clock)
            self.clocks[worker] = clock = clock + 1
        center.note(MAKE, time, worker, clock)
        self._on_its_way.add(worker)
        time = yield from center.reach(
            worker, time, load.bytes_up, load.bytes_up + load.bytes_down
        )
        center.note(ADD, time, worker, clock)
        self._on_its_way.discard(worker)
        self._here.add(worker)
        self._count += 1
        self._end_if_complete(time)
        if worker in self._here and self.is_before:
            self._answered_at[worker] = center.answer_arrives(
                worker, time, load.bytes_down
            )
        time = yield None
        if self.is_before:  # It is woken by the answer.
            center.note(SETTLING_STEP, time, worker, clock)
            return time
        center.note(ANSWER, time, worker, clock)
        back = center.answer_arrives(worker, time, load.bytes_down)
        if back > time:
            time = yield back
        center.note(SETTLE, time, worker, clock)
        return time

    def _end_if_complete(self, time: float) -> None:
        here = len(self._here)
        enough = self._quorum is not None and self._count >= self._quorum
        if not here or not (enough or here == len(self._present)):
            return
        center, down = self.center, self.workload.bytes_down
        center.collect(time, self._here, self._count)
        for worker in sorted(self._here):
            wakes_at = time
            if self.is_before:
                answered_at = self._answered_at.pop(worker, None)
                nbytes = down if answered_at is None else 0
                wakes_at = center.answer_arrives(worker, time, nbytes)
                wakes_at = max(wakes_at, answered_at or 0.0)
            self.scheduler.wake(wakes_at, worker)
        left_out = sorted(self._present - self._here)
        self._here, self._count = set(), 0
        if not left_out:
            return
        self.scheduler.stop(left_out)
        for worker in left_out:
            if worker in self._on_its_way:
                center.drop(time, worker, self.clocks[worker])
            back = center.answer_arrives(worker, time, down)
            self._begin_again(worker, back)
        self._on_its_way.difference_update(left_out)
