"""Which fields an event of each kind has, and what they may be."""

from collections.abc import Iterable
from typing import NamedTuple

from tf_elastic.timeline import event as events
from tf_elastic.timeline.checks.violation import Entry
from tf_elastic.timeline.checks.violation import Report
from tf_elastic.timeline.event import Event

_ALWAYS = {"kind", "time", "teller", "group"}
_MEMBER = {"worker", "incarnation", "num_workers"}
_MESSAGE = {
    *_MEMBER,
    *("sequence", "step_sent", "version_read", "version_applied"),
    *("version_settled", "outcome"),
}
_MOVED = {"bytes", "seconds"}
_OWN_MESSAGE = {"incarnation", "sequence", "step_sent", "num_workers"}

# What a center server tells, beside `shard`.
_OF_CENTER = {
    events.JOIN: _MEMBER,
    events.LEAVE: {*_MEMBER, "outcome"},
    events.DEATH: _MEMBER,
    events.ROUND: {"version_applied", "num_workers", "amount"},
}
# What a worker tells, beside `worker`.
OF_WORKER: dict[str, set[str]] = {
    events.ANSWER: {*_OWN_MESSAGE, "seconds", "amount", "outcome"},
    events.SETTLE: {*_OWN_MESSAGE, "step_applied"},
    events.START: {"incarnation", "step_applied", "version_read", "settings"},
    events.END: {"incarnation", "step_applied"},
    events.EXCHANGE: {*_OWN_MESSAGE, "outcome"},
    events.WAIT: {"seconds"},
    events.MISS: {"shard"},
    events.LOST_HALF: {"amount"},
    events.FORGOTTEN: {"shard", "amount"},
    events.RESTART: set(),
    events.AWAY: {"shard"},
    events.BACK: {"shard", "seconds", "amount"},
}
MAY_OF_WORKER = {
    events.ANSWER: {"version_read", "version_settled"},
    events.SETTLE: {"version_settled"},
    events.LOST_HALF: {"shard"},
    # An older release has not told it.
    events.EXCHANGE: {"call"},
}
# What a process that only looks tells: it has no number.
OF_ONLOOKER = {events.AWAY: {"shard"}, events.BACK: OF_WORKER[events.BACK]}
_OUTCOMES = {
    ("center", events.LEAVE): {events.FINISHED, events.LEFT},
    ("worker", events.ANSWER): {events.APPLIED, events.MISSED},
    ("worker", events.EXCHANGE): {events.LATE},
}
_LEAST = {"incarnation": 1, "sequence": 1, "num_workers": 1}
_NUMBERS = (
    *("worker", "group", "shard", "incarnation", "sequence", "step_sent"),
    *("step_applied", "version_settled", "version_read", "version_applied"),
    *("num_workers", "bytes", "seconds", "amount", "parent", "parent_before"),
)


class Told(NamedTuple):
    """What a log tells at all."""

    starts: bool  # with what workers start; an older release does not
    rates: bool  # of exchanges; a rehearsed one need not

    @classmethod
    def of(cls, entries: Iterable[Entry]) -> "Told":
        """What is told anywhere."""
        found = [entry.event for entry in entries]
        return cls(
            any(event.kind == events.START for event in found),
            any(event.rates is not None for event in found),
        )


def check(entry: Entry, report: Report, log: Told) -> bool:
    """Looks at one event by itself.

    Args:
        entry: the event.
        report: is told what is wrong.
        log: what is told in it at all.

    Returns:
        Whether it can be looked at among the others.
    """
    event = entry.event
    found: list[str] = []
    who = event.teller.partition(" ")[0]
    if not is_teller(event):
        found.append(f"{event.teller!r} cannot have told it")
    elif (sets := _fields(event, who, log)) is None:
        found.append(f"a {who} does not tell of a {event.kind}")
    else:
        found += differences(event, *sets)
    outcomes = _OUTCOMES.get((who, event.kind))
    if outcomes and event.outcome not in outcomes:
        found.append(f"its outcome is {event.outcome}")
    found += out_of_range(event)
    for what in found:
        report(entry, what)
    return not found


# How a message of an EXCHANGE may have come that is answered.
ANSWERED = (events.TAKE, events.PUSH, events.EXCHANGE, events.DEPOSIT)


def differences(event: Event, must: set[str], may: set[str]) -> list[str]:
    """What is wrong with the fields that an event has.

    Args:
        event: which.
        must: that it must have, beside those that all have.
        may: that it may have.
    """
    there = {
        name
        for name, value in event._asdict().items()
        if value is not None and name not in _ALWAYS
    }
    return [
        *(f"it has no {name}" for name in sorted(must - there)),
        *(f"it has a {name}" for name in sorted(there - must - may)),
    ]


def is_teller(event: Event) -> bool:
    """Whether who tells is who the event says."""
    who, _, number = event.teller.partition(" ")
    if who == "onlooker":
        return not number and event.worker is None
    if who not in ("center", "worker"):
        return False
    return number == str(event.shard if who == "center" else event.worker)


def _fields(
    event: Event, who: str, log: Told
) -> tuple[set[str], set[str]] | None:
    """The fields that it must have, and that it may have; None: no such."""
    kind = event.kind
    if who == "onlooker":
        return _with(OF_ONLOOKER.get(kind), ())
    if who == "worker":
        must = _with(OF_WORKER.get(kind), ["worker"])
        if must is None:
            return None
        may = set(MAY_OF_WORKER.get(kind, ())) - {"call"}
        if log.starts and kind in (events.ANSWER, events.SETTLE):
            missed = event.outcome == events.MISSED
            must = must if missed else (must[0] | may, set())
        return must[0], may
    if kind == events.BEGIN:
        of_worker = _MEMBER if event.outcome == events.FIRST else set()
        return {"shard", "version_applied", "outcome", *of_worker}, set()
    if kind == events.EXCHANGE:
        return of_exchange(event, log)
    return _with(_OF_CENTER.get(kind), ["shard"])


def of_exchange(event: Event, log: Told) -> tuple[set[str], set[str]]:
    """The fields of a message that a center server has got, likewise."""
    must = {"shard", *_MESSAGE}
    may = set(MAY_OF_WORKER[events.EXCHANGE])
    if log.starts:
        must |= may
    is_taken = event.outcome == events.APPLIED or (
        event.outcome == events.LATE and event.bytes is not None
    )
    if is_taken:
        must |= {*_MOVED, *(["rates"] if log.rates else [])}
    return must, may


def _with(
    fields: set[str] | None, more: Iterable[str]
) -> tuple[set[str], set[str]] | None:
    return None if fields is None else ({*fields, *more}, set())


def out_of_range(event: Event) -> list[str]:
    """What is wrong with the numbers of an event."""
    found = []
    for name in _NUMBERS:
        value = getattr(event, name)
        if value is not None and value < _LEAST.get(name, 0):
            found.append(f"its {name} is {value}")
    if event.rates is not None:
        p = event.rates.get("num_workers")
        if p is not None and p < 1:
            found.append(f"its rates are of {p} workers")
    return found
