"""The workers of a virtual cluster: their steps, and their lives."""

from collections.abc import Iterator

from tf_elastic.timeline.virtual import steps
from tf_elastic.timeline.virtual import streams
from tf_elastic.timeline.virtual.center import Center
from tf_elastic.timeline.virtual.exchanges import BlockingAfter
from tf_elastic.timeline.virtual.exchanges import BlockingBefore
from tf_elastic.timeline.virtual.exchanges import Exchanges
from tf_elastic.timeline.virtual.exchanges import Overlapped
from tf_elastic.timeline.virtual.exchanges import Parts
from tf_elastic.timeline.virtual.exchanges import Visits
from tf_elastic.timeline.virtual.lives import Lives
from tf_elastic.timeline.virtual.lives import dies
from tf_elastic.timeline.virtual.moves import DIE
from tf_elastic.timeline.virtual.moves import JOIN
from tf_elastic.timeline.virtual.moves import STEP
from tf_elastic.timeline.virtual.policies import MayExchange
from tf_elastic.timeline.virtual.rounds import Rounds
from tf_elastic.timeline.virtual.scheduler import WORKER
from tf_elastic.timeline.virtual.scheduler import Process
from tf_elastic.timeline.virtual.scheduler import Scheduler
from tf_elastic.timeline.virtual.timing import Timing
from tf_elastic.timeline.virtual.workload import Workload


class Cluster:
    """All that happens in a virtual cluster, from its beginning.

    The arguments are those of `VirtualTimeline`, checked; `may_exchange` is
    asked before each exchange but those of a worker that has just come, if
    there is a policy.
    """

    def __init__(
        self,
        timing: Timing,
        workload: Workload,
        num_workers: int,
        seed: int,
        max_lag: float | None,
        quorum: int | None,
        max_staleness: int | None,
        merged: bool,
        may_exchange: MayExchange | None = None,
    ) -> None:
        self._timing = timing
        self._workload = workload
        self._seed = seed
        self._merged = merged
        self._may_exchange = may_exchange
        self.center = Center(
            timing,
            num_workers,
            seed,
            workload.rule.answers_difference,
            max_lag,
            max_staleness,
        )
        self.moves = self.center.moves
        self._scheduler = Scheduler()
        self._clocks = [0] * num_workers
        self._exchanges = self._make_exchanges(quorum)
        # A worker that is stopped in between has taken some of its steps.
        self._can_merge = merged and quorum is None and not dies(timing)
        self._seconds = [
            self._seconds_of(worker) for worker in range(num_workers)
        ]
        lives = Lives(timing, seed, self._scheduler, self._begin, self._end)
        lives.start(num_workers)

    def advance(self, enough: int) -> bool:
        """Goes on until there are so many moves.

        Returns:
            Whether there may be more.
        """
        return self._scheduler.run(self.center.moves, enough)

    def _make_exchanges(self, quorum: int | None) -> Exchanges:
        load = self._workload
        given = self.center, load, self._scheduler, self._clocks
        if load.protocol == "synchronous":
            return Rounds(*given, quorum, self._begin_again)
        if load.protocol == "overlapped":
            return Overlapped(*given)
        if load.takes_steps:
            return Parts(*given)
        if self._timing.is_instant:
            return Visits(*given)
        return (
            BlockingBefore(*given) if load.is_before else BlockingAfter(*given)
        )

    def _seconds_of(self, worker: int) -> Iterator[float]:
        if not self._can_merge:
            return steps.seconds(self._timing, self._seed, worker)
        period, phase = self._workload.due_of(worker)
        return steps.merged_seconds(
            self._timing, self._seed, worker, phase + 1, period
        )

    def _begin(self, worker: int, time: float) -> None:
        """A worker is at the center, and begins to work."""
        self.center.present += 1
        self.center.settled[worker] = self.center.version
        if time > 0:
            self.center.note(JOIN, time, worker, self._clocks[worker])
        self._exchanges.begins(worker)
        self._scheduler.start(worker, WORKER, self._work(worker, time))

    def _end(self, worker: int, time: float) -> None:
        """A worker dies, and what it has sent is lost."""
        self.center.present -= 1
        self.center.note(DIE, time, worker, self._clocks[worker])
        self._scheduler.stop([worker])
        self._exchanges.leaves(worker, time)

    def _begin_again(self, worker: int, time: float) -> None:
        """A worker leaves what it does; it is at the center at a time."""
        process = self._work_again(worker, time)
        self._scheduler.start(worker, WORKER, process)

    def _work_again(self, worker: int, time: float) -> Process:
        time = yield time
        self.center.restart(time, worker, self._clocks[worker])
        yield from self._work(worker, time)

    def _work(self, worker: int, time: float) -> Process:
        """Steps and exchanges, without an end."""
        center, clocks, clock = self.center, self._clocks, self._clocks[worker]
        add = center.moves.append
        period, phase = self._workload.due_of(worker)
        exchange, steps_at_once = self._exchanges.exchange, 1
        visit = None
        if isinstance(self._exchanges, Visits):
            visit = self._exchanges.visit
        if self._can_merge:
            clock, steps_at_once = phase, period
        is_listed, overheads = not self._merged, self._overheads(worker)
        begun, asks = clock, self._may_exchange
        load = self._workload
        due = load.period_of(worker) if load.takes_steps else 1
        for seconds in self._seconds[worker]:
            time = yield time + seconds
            if clock % period != phase or (
                asks is not None
                and clock > begun
                and not asks(worker, clock, time)
            ):
                if is_listed:
                    at, present = center.version, center.present
                    add((time, STEP, worker, clock, at, 0, present, 1, -1))
            else:
                if visit is not None:
                    visit(worker, time, clock)
                else:
                    time = yield from exchange(worker, time, clock)
                if overheads is not None and (clock + 1) % due == 0:
                    time += next(overheads)
            clocks[worker] = clock = clock + steps_at_once

    def _overheads(self, worker: int) -> Iterator[float] | None:
        overhead = self._timing.overhead_of(self._workload.protocol)
        if overhead.is_nothing:
            return None
        return streams.of(overhead, self._seed, streams.OVERHEAD, worker)
