"""What events tell, as bars and marks over time, for `timeline.picture`."""

import collections
from collections.abc import Iterable
from collections.abc import Sequence
from typing import NamedTuple

from tf_elastic.timeline import event as events
from tf_elastic.timeline.event import Event

# Kinds of bars.
HERE = "here"  # a worker has its slot, a center server its parameters
TRAVEL = "travel"  # from a message to its answer
WAIT = "wait"  # training stands still
AWAY = "away"  # a worker does not reach a center server

_OUTCOMES = (
    *(events.APPLIED, events.LATE, events.DUPLICATE),
    *(events.REFUSED, events.MISSED),
)
_COMINGS = (events.JOIN, events.LEAVE, events.DEATH)
_OF_EDGES = (events.ATTACH, events.DROP)
_LOSSES = (events.LOST_HALF, events.FORGOTTEN, events.RESTART)


class Bar(NamedTuple):
    """Something that lasts."""

    kind: str
    lane: str  # "worker 1", "center 0"
    begin: float  # as the events' times
    end: float


class Mark(NamedTuple):
    """Something that happens."""

    kind: str  # an outcome of an exchange, or a kind of events
    lane: str
    time: float


class Lanes(NamedTuple):
    """All that is drawn of a cluster, a lane for each process."""

    names: Sequence[str]  # of lanes: workers, then center servers
    bars: Sequence[Bar]
    marks: Sequence[Mark]


def of(found: Sequence[Event]) -> Lanes:
    """Bars and marks of events.

    An exchange with several center servers is one bar and one mark in its
    worker's lane, and a mark in each server's. In a tree a point that is
    followed is a mark in the lane of whoever follows it, and of the worker
    that it is of.

    Args:
        found: in the order of their times.
    """
    workers = sorted({e.worker for e in found if e.worker is not None})
    centers = sorted({e.shard for e in found if e.shard is not None})
    names = [f"worker {w}" for w in workers] + [f"center {k}" for k in centers]
    return Lanes(
        names,
        [*_lives(found), *_lasting(found), *_away(found)],
        [*_happening(found), *_messages(found)],
    )


def messages(found: Iterable[Event]) -> list[Event]:
    """One event for each message of a worker and what became of it.

    Args:
        found: those of several center servers, which tell of it each.
    """
    return [
        e
        for e in _told_first(found)
        if e.worker is not None
        and e.call != events.DOWN
        and (
            (e.kind == events.EXCHANGE and e.outcome in _OUTCOMES)
            or (e.kind == events.ANSWER and e.outcome == events.MISSED)
        )
    ]


def _told_first(found: Iterable[Event]) -> Iterable[Event]:
    """Leaves out what another one has told before."""
    times: collections.Counter[tuple[object, ...]] = collections.Counter()
    told: set[tuple[object, ...]] = set()
    for e in found:
        what: tuple[object, ...] = (e.kind, e.group, _whose(e), e.incarnation)
        if e.kind in (events.EXCHANGE, events.ANSWER):
            what += (e.outcome, e.sequence, e.call, e.parent)
        # What one tells again happens again.
        times[e.teller, what] += 1
        what += (times[e.teller, what],)
        if what not in told:
            told.add(what)
            yield e


def _lives(found: Sequence[Event]) -> Iterable[Bar]:
    """From when to when each process was there."""
    last = found[-1].time if found else 0.0
    open_since: dict[str, float] = {}
    heard: dict[str, float] = {}
    lives: dict[str, int] = {}

    def ended(lane: str, time: float) -> Iterable[Bar]:
        if lane in open_since:
            yield Bar(HERE, lane, open_since.pop(lane), time)

    for e in found:
        lane = f"worker {e.worker}"
        if e.kind == events.DEATH and e.worker is None and e.child is not None:
            yield from ended(e.child, e.time)
        if e.worker is None and e.kind in _COMINGS:
            continue  # Of a node in a tree: it tells of its own beginning.
        if e.kind == events.BEGIN:
            yield from ended(e.teller, heard.get(e.teller, e.time))
            open_since[e.teller] = e.time
        if e.kind == events.JOIN:
            life = e.incarnation or 0
            if lane in open_since and life != lives[lane]:
                # Nobody has told that the one before has died.
                yield from ended(lane, heard[lane])
            lives[lane] = life
            open_since.setdefault(lane, e.time)
        elif e.kind in (events.LEAVE, events.DEATH):
            yield from ended(lane, e.time)
        if e.kind != events.JOIN:  # Workers join before it has parameters.
            heard[e.teller] = e.time
        if e.worker is not None:
            heard[lane] = e.time
    for lane in list(open_since):
        yield from ended(lane, last)


def _lasting(found: Iterable[Event]) -> Iterable[Bar]:
    """What is told when it is over."""
    kinds = {events.ANSWER: TRAVEL, events.WAIT: WAIT}
    for e in found:
        if e.kind in kinds and e.seconds and e.worker is not None:
            lane = f"worker {e.worker}"
            yield Bar(kinds[e.kind], lane, e.time - e.seconds, e.time)


def _away(found: Sequence[Event]) -> Iterable[Bar]:
    """When somebody did not reach a center server, each such time once."""
    since: dict[int | None, float] = {}
    missing: dict[int | None, set[int | None]] = {}
    for e in found:
        if e.kind == events.AWAY:
            since.setdefault(e.shard, e.time)
            missing.setdefault(e.shard, set()).add(e.worker)
        elif e.kind == events.BACK and e.shard in since:
            missing[e.shard].discard(e.worker)
            if not missing[e.shard]:
                yield Bar(AWAY, f"center {e.shard}", since.pop(e.shard), e.time)
    for shard, begin in since.items():
        yield Bar(AWAY, f"center {shard}", begin, found[-1].time)


def _whose(e: Event) -> str | None:
    """The lane of the worker, or of the child of a node, that it is of."""
    return f"worker {e.worker}" if e.worker is not None else e.child


def _happening(found: Iterable[Event]) -> Iterable[Mark]:
    """Comings and goings, and what is lost."""
    for e in _told_first(found):
        if e.kind in _COMINGS and (lane := _whose(e)) is not None:
            yield Mark(e.kind, lane, e.time)
    for e in found:
        if e.kind in _LOSSES:
            lane = f"worker {e.worker}" if e.child is None else e.teller
            yield Mark(e.kind, lane, e.time)
        elif e.kind in _OF_EDGES:
            yield Mark(e.kind, e.teller, e.time)
        elif e.kind == events.BEGIN:
            yield Mark(e.kind, e.teller, e.time)
        elif e.kind == events.MISS:
            yield Mark(e.kind, f"center {e.shard}", e.time)


def _messages(found: Sequence[Event]) -> Iterable[Mark]:
    """What became of each message."""
    for e in messages(found):
        yield Mark(str(e.outcome), f"worker {e.worker}", e.time)
    for e in found:
        is_here = e.shard is not None or e.call == events.DOWN
        if e.kind == events.EXCHANGE and is_here:
            yield Mark(str(e.outcome), e.teller, e.time)
