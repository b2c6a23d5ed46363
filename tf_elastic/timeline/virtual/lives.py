"""When workers come, die and come again."""

from collections.abc import Callable
from collections.abc import Iterator
from collections.abc import Sequence

from tf_elastic.timeline.virtual import streams
from tf_elastic.timeline.virtual.durations import Exponential
from tf_elastic.timeline.virtual.nodes import Nodes
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
        deaths = _Deaths(self._timing.deaths, self._seed, worker)
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


class NodeLives:
    """The lives of the inner nodes of a tree.

    Args:
        timing: of the tree.
        nodes: of it.
        seed: of the timeline.
        scheduler: of the tree.
        begin: called of (node, time) as one begins a new life.
        end: likewise as one dies.
        give_up: likewise as its children do not wait for it any more.
    """

    def __init__(
        self,
        timing: Timing,
        nodes: Nodes,
        seed: int,
        scheduler: Scheduler,
        begin: Callable[[int, float], None],
        end: Callable[[int, float], None],
        give_up: Callable[[int, float], None],
    ) -> None:
        self._timing = timing
        self._nodes = nodes
        self._seed = seed
        self._scheduler = scheduler
        self._begin, self._end, self._give_up = begin, end, give_up

    def start(self) -> None:
        """All are there."""
        nodes, deaths = self._nodes, self._timing.node_deaths
        if not deaths:
            return
        listed: list[tuple[int, float]] | float = []
        if isinstance(deaths, int | float):
            listed = float(deaths)
        else:
            listed = [(nodes.inner(k, i), time) for k, i, time in deaths]
        for node in range(nodes.num_workers, nodes.root):
            own = _Deaths(listed, self._seed, node)
            self._scheduler.start(node, LIFE, self._live(node, own))

    def _live(self, node: int, deaths: "_Deaths") -> Process:
        """A node dies, its children go away, and it comes again."""
        time, recovery = 0.0, self._timing.node_recovery
        recoveries = None
        if recovery is not None:
            seed, purpose = self._seed, streams.RECOVERY
            recoveries = streams.of(recovery, seed, purpose, node)
        while (dies_at := deaths.after(time)) is not None:
            time = yield dies_at
            self._end(node, time)
            back = None if recoveries is None else time + next(recoveries)
            deadline = time + self._timing.move_s
            if back is None or back > deadline:
                time = yield deadline
                self._give_up(node, time)
            if back is None:
                break
            time = yield back
            self._begin(node, time)
        yield None


class _Deaths:
    """When a worker, or a node, dies: at its times, or by a rate.

    Args:
        deaths: a rate, or pairs of who dies and when.
        seed: of the timeline.
        number: of whom.
    """

    def __init__(
        self,
        deaths: float | Sequence[tuple[int, float]],
        seed: int,
        number: int,
    ) -> None:
        self._listed: list[float] = []
        self._lives: Iterator[float] | None = None
        if not isinstance(deaths, int | float):
            self._listed = [time for who, time in deaths if who == number]
        elif deaths:
            life = Exponential(1 / deaths)
            self._lives = streams.of(life, seed, streams.DEATH, number)

    def after(self, time: float) -> float | None:
        """When a worker dies that lives at a time; None for never."""
        if self._lives is not None:
            return time + next(self._lives)
        return next((t for t in self._listed if t > time), None)


def dies(timing: Timing) -> bool:
    """Whether anybody may die."""
    return bool(timing.deaths)
