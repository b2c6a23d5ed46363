"""Which fields an event of a tree has, and what they may be.

One that is told by an end of an edge names the edge: by its child, "worker 1"
or "center 3", and by its parent, a center server.
"""

import re

from tf_elastic.timeline import event as events
from tf_elastic.timeline.checks import fields
from tf_elastic.timeline.checks.violation import Entry
from tf_elastic.timeline.checks.violation import Report
from tf_elastic.timeline.event import Event

Sets = tuple[set[str], set[str]]  # that it must have, that it may have

_MEMBER = {"child", "incarnation", "num_workers"}
_EDGE = {"child", "parent", "incarnation"}
_MESSAGE = {*_EDGE, "call", "sequence"}
_SENT = {*_MESSAGE, "step_sent", "bytes"}
_CAME = {*_SENT, "step_applied", "rates", "outcome"}
_AGAIN = {*_MESSAGE, "step_sent", "step_applied"}
_VERSIONS = {"version_applied", "version_settled", "num_workers"}
# Until it has joined its parent a node is not known there.
_ALONE = {"incarnation"}

_OF_CENTER: dict[str, Sets] = {
    events.JOIN: (_MEMBER, {"worker"}),
    events.LEAVE: ({*_MEMBER, "outcome"}, {"worker"}),
    events.DEATH: (_MEMBER, {"worker"}),
    events.EXCHANGE: ({*_CAME, *_VERSIONS}, {"worker"}),
    events.RESTART: ({*_AGAIN, "version_applied"}, set()),
}
_OF_WORKER: dict[str, Sets] = {
    **{
        kind: (must, fields.MAY_OF_WORKER.get(kind, set()))
        for kind, must in fields.OF_WORKER.items()
    },
    events.EXCHANGE: (_CAME, set()),
    events.RESTART: (_AGAIN, set()),
}
_OF_BOTH: dict[str, Sets] = {
    events.ATTACH: (_EDGE, {"parent_before"}),
    events.SEND: (_SENT - _ALONE, {*_ALONE, "outcome"}),
    events.DROP: ({*_MESSAGE, "step_sent"} - _ALONE, _ALONE),
}
_OUTCOMES: dict[tuple[str, str], set[str | None]] = {
    ("center", events.LEAVE): {events.FINISHED, events.LEFT},
    ("worker", events.SEND): {None},
    ("center", events.SEND): {None, events.LATE},
    ("center", events.BEGIN): {events.FIRST, events.RESTORED},
    ("worker", events.EXCHANGE): {events.APPLIED},
    ("center", events.EXCHANGE): {
        *(events.APPLIED, events.LATE, events.DUPLICATE, events.REFUSED)
    },
}
_NAME = re.compile(r"(worker|center) \d+")


def check(entry: Entry, report: Report) -> bool:
    """Looks at one event by itself.

    Args:
        entry: the event.
        report: is told what is wrong.

    Returns:
        Whether it can be looked at among the others.
    """
    event = entry.event
    found: list[str] = []
    who = event.teller.partition(" ")[0]
    sets = _sets(event, who)
    if not fields.is_teller(event):
        found.append(f"{event.teller!r} cannot have told it")
    elif sets is None:
        found.append(f"in a tree a {who} does not tell of a {event.kind}")
    else:
        must, may = sets
        found += fields.differences(event, must, may)
    outcomes = _OUTCOMES.get((who, event.kind))
    if outcomes and event.outcome not in outcomes:
        found.append(f"its outcome is {event.outcome}")
    found += fields.out_of_range(event)
    if event.child is not None and not found:
        found += _of_edge(event)
    for what in found:
        report(entry, what)
    return not found


def _sets(event: Event, who: str) -> Sets | None:
    kind = event.kind
    own = {"center": "shard", "worker": "worker"}.get(who)
    if own is None:
        must = fields.OF_ONLOOKER.get(kind)
        return None if must is None else (must, set())
    if kind == events.BEGIN and who == "center":
        is_first = event.outcome == events.FIRST
        must = {"shard", "version_applied", "outcome"}
        if is_first:
            must.add("num_workers")
        of_child = {"child", "incarnation"}
        if event.child is not None:
            return must | of_child, {"worker"}
        return must, set()
    if kind == events.EXCHANGE and event.call in fields.ANSWERED:
        must, may = fields.of_exchange(event, fields.Told(True, True))
        must = {*must, "child"} - {"worker"}
        return (must, {*may, "worker"}) if who == "center" else None
    table = _OF_CENTER if who == "center" else _OF_WORKER
    found = _OF_BOTH.get(kind) or table.get(kind)
    if found is None:
        return None
    return {*found[0], own}, found[1]


def _of_edge(event: Event) -> list[str]:
    """Whether an event is of an edge of its teller's, and told by that end."""
    child, kind = str(event.child), event.kind
    if not _NAME.fullmatch(child):
        return [f"its child is {child!r}"]
    found = []
    is_child = child == event.teller
    if event.parent is not None:
        is_parent = event.teller == f"center {event.parent}"
        if is_child == is_parent:
            found.append(f"the edge is that of {child} to {event.parent}")
    elif is_child:
        found.append("it tells of itself as its own child")
    told_by_child = {
        events.ATTACH: True,
        events.RESTART: True,
        events.SEND: event.call == events.UP,
        events.EXCHANGE: event.call == events.DOWN,
    }.get(kind, is_child)
    if is_child != told_by_child:
        found.append(f"its {'child' if is_child else 'parent'} has told it")
    if event.call is not None and event.call not in (
        *(events.UP, events.DOWN),
        *(fields.ANSWERED if kind == events.EXCHANGE else ()),
    ):
        found.append(f"in a tree no point goes by {event.call}")
    if kind == events.SEND and is_child and event.outcome is not None:
        found.append(f"its outcome is {event.outcome}")
    if kind == events.RESTART and event.call != events.DOWN:
        found.append("nobody begins again from a child")
    names_worker = child.startswith("worker") and not is_child
    names_worker = names_worker and kind in (
        *(events.BEGIN, events.JOIN, events.LEAVE, events.DEATH),
        events.EXCHANGE,
    )
    if names_worker and child != f"worker {event.worker}":
        found.append(f"its child is {child}, its worker {event.worker}")
    if event.worker is not None and not (names_worker or is_child):
        found.append(f"its worker is {event.worker}")
    return found
