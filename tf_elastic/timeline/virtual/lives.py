"""When workers come, die and come again."""

from collections.abc import Callable
from collections.abc import Iterator

from tf_elastic.timeline.virtual import streams
from tf_elastic.timeline.virtual.durations import Exponential
from tf_elastic.timeline.virtual.scheduler import LIFE
from tf_elastic.timeline.virtual.scheduler import Process
from tf_elastic.timeline.virtual.scheduler import Scheduler
from tf_elastic.timeline.virtual.timing import Timing


class Lives:
    """The lives of all workers.

    Args:
        timing: of the cluster.
        seed: of the timeline.
        scheduler: of the cluster.
        begin: called of (worker, time) as one begins to work.
        end: likewise as one dies.
    """

    def __init__(
        self,
        timing: Timing,
        seed: int,
        scheduler: Scheduler,
        begin: Callable[[int, float], None],
        end: Callable[[int, float], None],
    ) -> None:
        self._timing = timing
        self._seed = seed
        self._scheduler = scheduler
        self._begin = begin
        self._end = end

    def start(self, num_workers: int) -> None:
        """All begin who are there from the beginning.

        Args:
            num_workers: p, with those that come late.
        """
        late = dict(self._timing.joins)
        for worker in range(num_workers):
            if worker not in late:
                self._begin(worker, 0.0)
            if worker in late or dies(self._timing):
                life = self._live(worker, late.get(worker))
                self._scheduler.start(worker, LIFE, life)

    def _live(self, worker: int, joins_at: float | None) -> Process:
        """A worker comes, dies, and comes again."""
        time = 0.0
        if joins_at is not None:
            time = yield joins_at
            self._begin(worker, time)
        recoveries = self._recoveries(worker)
        deaths = _Deaths(self._timing, self._seed, worker)
        while (dies_at := deaths.after(time)) is not None:
            time = yield dies_at
            self._end(worker, time)
            if recoveries is None:
                break
            time = yield time + next(recoveries)
            self._begin(worker, time)
        yield None

    def _recoveries(self, worker: int) -> Iterator[float] | None:
        recovery = self._timing.recovery
        if recovery is None:
            return None
        return streams.of(recovery, self._seed, streams.RECOVERY, worker)


class _Deaths:
    """When a worker dies: at its times, or by a rate.

    Args:
        timing: of the cluster.
        seed: of the timeline.
        worker: which.
    """

    def __init__(self, timing: Timing, seed: int, worker: int) -> None:
        self._listed: list[float] = []
        self._lives: Iterator[float] | None = None
        if not isinstance(timing.deaths, int | float):
            self._listed = [t for w, t in timing.deaths if w == worker]
        elif timing.deaths:
            life = Exponential(1 / timing.deaths)
            self._lives = streams.of(life, seed, streams.DEATH, worker)

    def after(self, time: float) -> float | None:
        """When a worker dies that lives at a time; None for never."""
        if self._lives is not None:
            return time + next(self._lives)
        return next((t for t in self._listed if t > time), None)


def dies(timing: Timing) -> bool:
    """Whether anybody may die."""
    return bool(timing.deaths)
