"""What events tell of how a cluster is now."""

import collections
import statistics

from tf_elastic.timeline import event as events
from tf_elastic.timeline import status_table
from tf_elastic.timeline.event import Event
from tf_elastic.timeline.status_table import CenterRow
from tf_elastic.timeline.status_table import StalenessRow
from tf_elastic.timeline.status_table import WorkerRow
from tf_elastic.timeline.tally import Tally

_SPEED_OF = 10  # exchanges of a worker
_STALENESS_OF = 100  # pushes


class Status:
    """Follows a cluster by its events, given in the order of their times.

    Of a model that has several optimizers the first one's, as `--status`.
    """

    def __init__(self) -> None:
        self._centers: dict[int, _Center] = {}
        self._workers: dict[int, _Worker] = {}
        self._newest: collections.deque[Event] = collections.deque(
            maxlen=_STALENESS_OF
        )
        self.time = 0.0  # of the last event

    def __call__(self, event: Event) -> None:
        """Takes in one event."""
        if event.group:
            return
        self.time = event.time
        if event.shard is not None:
            center = self._centers.setdefault(event.shard, _Center())
            center.hear(event)
        if event.worker is not None:
            worker = self._workers.get(event.worker)
            if worker is None or worker.is_another(event):
                worker = self._workers[event.worker] = _Worker(event)
            worker.hear(event)
        is_push = event.kind == events.EXCHANGE and event.staleness is not None
        if is_push and event.outcome == events.APPLIED:
            self._newest.append(event)

    @property
    def has_ended(self) -> bool:
        """Whether workers have come, and none is left."""
        joined = [w for w in self._workers.values() if w.has_joined]
        return bool(joined) and not any(w.is_present for w in joined)

    def table(self, now: float | None = None) -> str:
        """The table, see `status_table`.

        Args:
            now: the time; None for that of the last event.
        """
        now = self.time if now is None else now
        if not self._centers and not self._workers:
            return "No events."
        return status_table.table(
            {k: center.row() for k, center in sorted(self._centers.items())},
            [
                worker.row(number, now)
                for number, worker in sorted(self._workers.items())
                if worker.has_joined
            ],
            self._staleness(),
        )

    def _staleness(self) -> StalenessRow | None:
        if not self._newest:
            return None
        first = min(e.shard or 0 for e in self._newest)
        newest = [e for e in self._newest if (e.shard or 0) == first]
        return StalenessRow(
            len(newest),
            statistics.fmean(e.staleness or 0 for e in newest),
            1000 * statistics.fmean(e.seconds or 0.0 for e in newest),
        )


class _Center:
    """One center server."""

    def __init__(self) -> None:
        self._version = 0
        self._num_workers = 1
        self._applied = 0
        self._is_away_for: set[int | None] = set()  # workers

    def hear(self, event: Event) -> None:
        """Takes in what it tells, or what a worker tells of it."""
        if event.kind == events.AWAY:
            self._is_away_for.add(event.worker)
        elif event.kind == events.BACK:
            self._is_away_for.discard(event.worker)
        if not event.teller.startswith("center"):
            return
        self._is_away_for.clear()
        self._num_workers = event.num_workers or self._num_workers
        if event.kind == events.BEGIN:
            self._applied = 0
            self._version = event.version_applied or 0
        elif event.kind == events.ROUND:
            self._version = (event.version_applied or 0) + 1
        elif event.kind == events.EXCHANGE:
            self._applied += event.outcome == events.APPLIED
            if event.version_settled is not None:
                self._version = event.version_settled

    def row(self) -> CenterRow | None:
        """Its line; None while workers do not reach it, and it is silent."""
        if self._is_away_for:
            return None
        return CenterRow(self._version, self._num_workers, self._applied)


class _Worker:
    """One life of a worker.

    Args:
        event: the first that is told of it.
    """

    def __init__(self, event: Event) -> None:
        self.is_present = self._has_finished = self._begins_again = False
        self._incarnations: dict[int, int] = {}  # by center server
        self._begin = self._heard = event.time
        self._tally = Tally()
        self._steps: collections.deque[tuple[float, int]] = collections.deque(
            maxlen=_SPEED_OF
        )

    @property
    def has_joined(self) -> bool:
        """Whether a center server has ever taken it."""
        return bool(self._incarnations)

    def is_another(self, event: Event) -> bool:
        """Whether a new life begins with this event."""
        if event.kind != events.JOIN or not self.has_joined:
            return False
        if self._begins_again:
            return False
        known = self._incarnations.values()
        return self._has_finished or (event.incarnation or 1) not in known

    def hear(self, event: Event) -> None:
        """Takes in what it tells, or what a center tells of it."""
        if event.kind == events.JOIN:
            self._incarnations[event.shard or 0] = event.incarnation or 1
            self.is_present, self._begins_again = True, False
        elif event.kind == events.RESTART:
            self._begins_again = True  # It joins anew, and lives on.
        elif event.kind in (events.LEAVE, events.DEATH):
            self.is_present = False
            self._has_finished = event.outcome == events.FINISHED
        if event.kind != events.DEATH:
            self._heard = event.time
        if event.teller.startswith("worker"):
            self._tally(event)
        steps = event.worker_step
        if steps and (not self._steps or steps > self._steps[-1][1]):
            self._steps.append((event.time, steps))

    def row(self, number: int, now: float) -> WorkerRow:
        """Its line."""
        waited, lived = self._tally.seconds(events.WAIT), self._lived()
        return WorkerRow(
            number,
            self._incarnations[min(self._incarnations)],
            self._steps[-1][1] if self._steps else 0,
            status_table.state(
                self.is_present, self._has_finished, now - self._heard
            ),
            steps_per_s=self._speed(),
            wait_share=min(waited / lived, 1.0) if lived > 0 else None,
            missed=self._tally.number(events.MISS),
            late=self._tally.number(events.EXCHANGE, events.LATE),
        )

    def _lived(self) -> float:
        return self._heard - self._begin

    def _speed(self) -> float | None:
        if len(self._steps) < 2:
            return None
        (first, before), (last, after) = self._steps[0], self._steps[-1]
        return (after - before) / (last - first) if last > first else None
