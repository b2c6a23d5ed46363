"""Whether a log of events can have been so.

Versions grow by one, nothing is applied twice, staleness is what versions
say, both halves of each exchange are told of or counted as lost, a worker does
one thing at a time, and the times of each teller are in order. What a log
cannot say is not found: values, and what is as likely as what has happened (a
rate that nobody else tells of; a time or a duration that is wrong by less than
a second).
"""

import collections
import heapq
import os
from collections.abc import Iterable
from collections.abc import Iterator
from collections.abc import Sequence

from tf_elastic.timeline import event as events
from tf_elastic.timeline.checks import fields
from tf_elastic.timeline.checks import settings
from tf_elastic.timeline.checks import tree
from tf_elastic.timeline.checks import tree_fields
from tf_elastic.timeline.checks.center import CenterCheck
from tf_elastic.timeline.checks.messages import MessageCheck
from tf_elastic.timeline.checks.violation import Entry
from tf_elastic.timeline.checks.violation import Report
from tf_elastic.timeline.checks.violation import Violation
from tf_elastic.timeline.checks.worker import WorkerCheck
from tf_elastic.timeline.event import Event
from tf_elastic.timeline.growing_file import GrowingFile

__all__ = ["Violation", "entries", "verify"]


def entries(*paths: str | os.PathLike[str]) -> Iterator[Entry]:
    """The events of files with their lines, those of each file in order.

    Args:
        *paths: of files that an `EventFile` has written.

    Raises:
        OSError: a file cannot be read.
        ValueError: a line is no event; file and line are named.
    """
    return heapq.merge(
        *(
            [
                Entry(f"{os.fspath(path)}:{line}", event)
                for line, event in enumerate(GrowingFile(path).news(), start=1)
            ]
            for path in paths
        ),
        key=lambda entry: entry.event.time,
    )


def verify(found: Iterable[Event | Entry]) -> list[Violation]:
    """What is wrong in a log; nothing, if it can have been so.

    Args:
        found: the events, those of each teller in the order in which they
            were told (a file has them so), or with their places.
    """
    given = [
        one if isinstance(one, Entry) else Entry(f"event {place}", one)
        for place, one in enumerate(found, start=1)
    ]
    wrong: list[Violation] = []

    def report(entry: Entry, what: str) -> None:
        wrong.append(Violation(*entry, what))

    if tree.is_tree(given):
        whole = [e for e in given if tree_fields.check(e, report)]
        _check_times(whole, report)
        tree.check(whole, report)
    else:
        log = fields.Told.of(given)
        whole = [e for e in given if fields.check(e, report, log)]
        _check_times(whole, report)
        for check in (_check_centers, _check_workers, _check_messages):
            check(whole, report)
    places = {entry.place: place for place, entry in enumerate(given)}
    return sorted(wrong, key=lambda violation: places[violation.place])


def _check_times(given: Sequence[Entry], report: Report) -> None:
    last: dict[tuple[str, int], float] = {}
    for entry in given:
        event = entry.event
        who = event.teller, event.group
        before = last.get(who, event.time)
        if event.time < before:
            report(
                entry,
                f"it is told {before - event.time:.3f} s before what was told "
                "before it",
            )
        last[who] = event.time


def _check_centers(given: Sequence[Entry], report: Report) -> None:
    starts: dict[int, list[Entry]] = collections.defaultdict(list)
    for entry in given:
        if entry.event.kind == events.START:
            starts[entry.event.group].append(entry)
    ways = {
        group: settings.check(told, report) for group, told in starts.items()
    }
    checks: dict[tuple[int | None, int], CenterCheck] = {}
    for entry in given:
        event = entry.event
        if event.teller.startswith("center"):
            key = event.shard, event.group
            if key not in checks:
                checks[key] = CenterCheck(report, ways.get(event.group))
            checks[key](entry)


def _check_workers(given: Sequence[Entry], report: Report) -> None:
    lives: dict[int | None, set[int]] = collections.defaultdict(set)
    counts: dict[int, set[int]] = collections.defaultdict(set)
    servers: dict[int, set[int | None]] = collections.defaultdict(set)
    checks: dict[tuple[int | None, int], WorkerCheck] = {}
    set_back = _is_set_back(given)
    for entry in given:
        event = entry.event
        if event.teller.startswith("center"):
            lives[event.worker].add(event.incarnation or 0)
            counts[event.group].add(event.num_workers or 0)
            servers[event.group].add(event.shard)
    for entry in given:
        event = entry.event
        key = event.worker, event.group
        if event.teller.startswith("center"):
            continue
        if servers and event.group not in servers:
            report(entry, f"no center tells of optimizer {event.group}")
        if key not in checks:
            checks[key] = WorkerCheck(
                report,
                lives[event.worker],
                counts[event.group],
                len(servers[event.group]),
                set_back,
            )
        checks[key](entry)


def _check_messages(given: Sequence[Entry], report: Report) -> None:
    centers: dict[int, dict[int, int]] = collections.defaultdict(dict)
    checks: dict[tuple[int, int], MessageCheck] = {}
    set_back = _is_set_back(given)
    for entry in given:
        event = entry.event
        if event.teller.startswith("center"):
            newest = centers[event.group]
            shard = event.shard or 0
            newest[shard] = max(newest.get(shard, 0), _version_after(event))
        if event.worker is not None:
            key = event.worker, event.group
            if key not in checks:
                checks[key] = MessageCheck(
                    report, centers[event.group], set_back
                )
            checks[key](entry)
    for check in checks.values():
        check.end()


def _version_after(event: Event) -> int:
    """A center's, after what it tells of."""
    at = event.version_applied or 0
    if event.kind == events.ROUND:
        return at + 1
    is_sum = event.call == events.DEPOSIT
    return at if is_sum else max(at, event.version_settled or 0)


def _is_set_back(given: Sequence[Entry]) -> bool:
    """Whether a center server has begun anew."""
    begun = collections.Counter(
        entry.event.teller
        for entry in given
        if entry.event.kind == events.BEGIN and not entry.event.group
    )
    return any(count > 1 for count in begun.values())
