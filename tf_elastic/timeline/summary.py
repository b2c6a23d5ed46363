"""What the events of a run come to, in numbers."""

import collections
from collections.abc import Iterable
from collections.abc import Mapping
from collections.abc import Sequence
from typing import NamedTuple

from tf_elastic.timeline import event as events
from tf_elastic.timeline import lanes
from tf_elastic.timeline.event import Event
from tf_elastic.timeline.tally import Tally


class Summary(NamedTuple):
    """Of one run, and one optimizer."""

    workers: int
    seconds: float  # from the first worker's start to the last one's end
    steps: int  # local ones, of all workers
    exchanges: int  # that have moved the center, or were part of a round
    left_out: int  # late, or refused
    missed: int  # that came to no center
    lost_halves: int
    restarts: int
    staleness: Mapping[int, int]  # how many exchanges have had which
    lived_s: float  # of all workers together
    waited_s: float  # of which training stood still
    travelled_s: float  # of which a message, or its answer, was on its way
    bytes: int
    ends: Mapping[str, int]  # how many workers have ended how

    @property
    def steps_per_s(self) -> float | None:
        """Of all workers together; None if no time has passed."""
        return self.steps / self.seconds if self.seconds > 0 else None

    @property
    def exchanges_per_s(self) -> float | None:
        """Likewise."""
        return self.exchanges / self.seconds if self.seconds > 0 else None

    @property
    def mean_staleness(self) -> float | None:
        """In versions; None if there were no exchanges."""
        count = sum(self.staleness.values())
        total = sum(value * times for value, times in self.staleness.items())
        return total / count if count else None

    @property
    def wait_share(self) -> float | None:
        """Of the workers' time, that for which training stood still."""
        return self.waited_s / self.lived_s if self.lived_s > 0 else None

    @property
    def exchange_share(self) -> float | None:
        """Of the workers' time, that for which a message was on its way."""
        return self.travelled_s / self.lived_s if self.lived_s > 0 else None


def summary(found: Sequence[Event]) -> Summary:
    """Adds up the events of a run.

    Of a model that has several optimizers the first one's.

    Args:
        found: in the order of their times.
    """
    found = [event for event in found if not event.group]
    tally = Tally()
    for event in found:
        tally(event)
    workers = sorted({e.worker for e in found if e.worker is not None})
    lives = [
        life
        for worker in workers
        for life in _lives([e for e in found if e.worker == worker])
    ]
    messages = lanes.messages(found)
    applied = [e for e in messages if e.outcome == events.APPLIED]
    begin = min((life.begin for life in lives), default=0.0)
    end = max((life.end for life in lives), default=0.0)
    return Summary(
        workers=len(workers),
        seconds=end - begin,
        steps=sum(life.steps for life in lives),
        exchanges=len(applied),
        left_out=sum(
            e.outcome in (events.LATE, events.REFUSED) for e in messages
        ),
        missed=sum(e.outcome == events.MISSED for e in messages),
        lost_halves=tally.amount(events.LOST_HALF),
        restarts=tally.number(events.RESTART),
        staleness=collections.Counter(
            e.staleness for e in applied if e.staleness is not None
        ),
        lived_s=sum(life.end - life.begin for life in lives),
        waited_s=tally.seconds(events.WAIT),
        travelled_s=tally.seconds(events.ANSWER),
        bytes=tally.bytes(events.EXCHANGE),
        ends=collections.Counter(_ends(found, workers)),
    )


def steady(found: Sequence[Event], skipped: int = 2) -> list[Event]:
    """The part of a log in which all workers train.

    Graphs are traced before, and some have ended after it.

    Args:
        found: as of `summary`; on the clocks of one machine.
        skipped: exchanges of each worker that are left out.

    Raises:
        ValueError: there is no such part.
    """
    settled: dict[int, list[float]] = collections.defaultdict(list)
    for event in found:
        if event.kind == events.SETTLE and not event.group:
            settled[event.worker or 0].append(event.time)
    if min(map(len, settled.values()), default=0) < skipped + 2:
        counts = {worker: len(settled[worker]) for worker in sorted(settled)}
        raise ValueError(
            f"A log must have {skipped + 2} exchanges of each worker that "
            f"were followed. Received, by workers: {counts}."
        )
    begin = max(times[skipped] for times in settled.values())
    end = min(times[-1] for times in settled.values())
    return [event for event in found if begin <= event.time <= end]


class _Life(NamedTuple):
    """From a worker's start until it is not heard of any more."""

    begin: float
    end: float
    steps: int


def _lives(found: Iterable[Event]) -> Iterable[_Life]:
    """Of one worker, each process and each time that it has begun again."""
    life: int | None = None
    begin = end = 0.0
    first = last = 0
    for event in found:
        if not event.teller.startswith("worker"):
            continue
        told = event.incarnation
        # In a tree a child that goes to another parent lives on.
        if told is not None and told != life and event.child is None:
            if life is not None:
                yield _Life(begin, end, last - first)
            life, begin = told, event.time - (event.seconds or 0.0)
            first = last = event.step_applied or event.step_sent or 0
        elif event.kind == events.START and last == first:
            begin = event.time  # It has looked again before its first step.
        last = max(last, event.worker_step)
        end = event.time
    if life is not None:
        yield _Life(begin, end, last - first)


def _ends(found: Sequence[Event], workers: Sequence[int]) -> Iterable[str]:
    for worker in workers:
        told = [
            e
            for e in found
            if e.worker == worker
            and e.kind in (events.JOIN, events.LEAVE, events.DEATH)
        ]
        if told and told[-1].kind == events.DEATH:
            yield "died"
        elif told and told[-1].kind == events.LEAVE:
            yield told[-1].outcome or events.LEFT
        else:
            yield "is there"
