"""What the nodes and the workers of a tree tell.

A child has one parent at a time, and is known there; a node's versions grow by
one with each point that it follows; points are numbered, and nobody's own
steps go back. The points themselves are looked at in `tree_messages`.
"""

import collections
from collections.abc import Iterable
from collections.abc import Sequence

from tf_elastic.timeline import event as events
from tf_elastic.timeline.checks import fields
from tf_elastic.timeline.checks import settings
from tf_elastic.timeline.checks.center import pull_is_push
from tf_elastic.timeline.checks.tree_ends import Center
from tf_elastic.timeline.checks.tree_ends import Child
from tf_elastic.timeline.checks.tree_messages import Stream
from tf_elastic.timeline.checks.tree_messages import check_clocks
from tf_elastic.timeline.checks.violation import Entry
from tf_elastic.timeline.checks.violation import Report
from tf_elastic.timeline.event import Event


def is_tree(found: Iterable[Entry]) -> bool:
    """Whether a log is that of a tree."""
    return any(entry.event.child is not None for entry in found)


def check(given: Sequence[Entry], report: Report) -> None:
    """Looks at the log of a tree.

    Args:
        given: of which each is what it may be by itself.
        report: is told what is wrong.
    """
    groups: dict[int, list[Entry]] = collections.defaultdict(list)
    for entry in given:
        groups[entry.event.group].append(entry)
    for found in groups.values():
        _Tree(found, report).check()


class _Tree:
    """Of one optimizer."""

    def __init__(self, given: Sequence[Entry], report: Report) -> None:
        self._given, self._report = given, report
        starts = [e for e in given if e.event.kind == events.START]
        most = settings.compare(starts, report) if starts else {}
        number = most.get("most_waiting")
        self._most = number if type(number) is int else None
        self._centers: dict[str, Center] = {}
        self._children: dict[str, Child] = {}
        self._joined: set[tuple[object, ...]] = set()  # (parent, child, life)
        # By (child, parent, its life there), and by (parent, child).
        self._up: dict[tuple[object, ...], Stream] = {}
        self._down: dict[tuple[object, ...], Stream] = {}
        self._bytes: dict[tuple[object, ...], int | None] = {}
        self._tellers = {entry.event.teller for entry in given}
        # Then nobody tells what leaves.
        self._is_answered = any(
            entry.event.call in fields.ANSWERED for entry in given
        )

    def check(self) -> None:
        """Looks at all of it."""
        for entry in self._given:
            event = entry.event
            if event.kind == events.JOIN:
                key = event.teller, event.child, event.incarnation
                self._joined.add(key)
        self._check_children()
        self._check_centers()
        pairs = []
        for stream in {id(s): s for s in self._streams()}.values():
            pairs += stream.end()
        check_clocks(pairs, self._report)

    def _streams(self) -> list[Stream]:
        return [*self._up.values(), *self._down.values()]

    def _check_children(self) -> None:
        """What each tells of its way up."""
        for entry in self._given:
            event = entry.event
            is_own = event.child == event.teller
            if not (is_own or event.teller.startswith("worker")):
                if event.kind == events.BEGIN and event.teller in (
                    self._children
                ):
                    self._children[event.teller].begins()
                continue
            if event.teller not in self._children:
                self._children[event.teller] = Child(self._report)
            child = self._children[event.teller]
            child(entry)
            if event.kind == events.ATTACH:
                self._attach(entry, child)
            elif event.kind == events.START:
                for key, stream in self._down.items():
                    if key[1] == event.teller:
                        stream.comes(None, None)
            elif event.kind == events.SEND:
                child.stream(entry, self._most).sends(entry, child.life)
                self._weigh(entry)
            elif event.kind == events.DROP and event.call == events.UP:
                child.stream(entry, self._most).drops(entry)
            elif event.call == events.DOWN:
                self._comes_down(entry, child)

    def _attach(self, entry: Entry, child: Child) -> None:
        event = entry.event
        parent = f"center {event.parent}"
        joined = (parent, event.teller, event.incarnation) in self._joined
        if not joined and parent in self._tellers:
            self._report(
                entry, f"{parent} knows of no life {event.incarnation} of it"
            )
        stream = child.stream(entry, self._most)
        self._up[event.teller, event.parent, event.incarnation] = stream
        stream.receiver((event.parent, event.incarnation))
        self._down_stream(entry).comes(None, None)

    def _comes_down(self, entry: Entry, child: Child) -> None:
        event = entry.event
        if not child.was_at(event.parent, event.incarnation):
            self._report(
                entry,
                f"it was no child of center {event.parent} as life "
                f"{event.incarnation}",
            )
        self._check_moved(entry)
        parent = f"center {event.parent}"
        if self._is_answered or parent not in self._tellers:
            return
        stream = self._down_stream(entry)
        if event.kind == events.RESTART:  # What waited is forgotten.
            stream.comes(None, None)
        stream.comes(None, entry)

    def _down_stream(self, entry: Entry) -> Stream:
        key = entry.event.parent, entry.event.child
        if key not in self._down:
            self._down[key] = Stream(self._report, self._most)
        return self._down[key]

    def _check_centers(self) -> None:
        """What each tells of its versions, and of its children."""
        for entry in self._given:
            event = entry.event
            if not event.teller.startswith("center"):
                continue
            if event.teller not in self._centers:
                self._centers[event.teller] = Center(self._report)
            center = self._centers[event.teller]
            center(entry)
            if event.child == event.teller:
                continue
            if event.kind == events.BEGIN:
                self._begins(event)
            elif event.kind == events.SEND:
                self._down_stream(entry).sends(entry, center.life)
                self._weigh(entry)
            elif event.kind == events.DROP and event.call == events.DOWN:
                self._down_stream(entry).drops(entry)
            elif event.kind == events.JOIN:
                stream = self._up_stream(event)
                if stream is not None:
                    stream.comes((event.shard, event.incarnation), None)
            elif event.call == events.UP:
                self._comes_up(entry)

    def _begins(self, event: Event) -> None:
        """A node's process has begun, and knows no more than a snapshot has."""
        for (_, parent, life), stream in self._up.items():
            if parent == event.shard:
                version = event.version_applied or 0
                stream.forgets(version, event.shard or 0)
                stream.comes((parent, life), None)

    def _up_stream(self, event: Event) -> Stream | None:
        return self._up.get((event.child, event.shard, event.incarnation))

    def _comes_up(self, entry: Entry) -> None:
        event = entry.event
        self._check_moved(entry)
        if event.child not in self._tellers:
            return
        stream = self._up_stream(event)
        if stream is None:
            self._report(
                entry,
                f"{event.child} does not say that it was there as life "
                f"{event.incarnation}",
            )
            return
        stream.comes((event.shard, event.incarnation), entry)

    def _check_moved(self, entry: Entry) -> None:
        event = entry.event
        if event.kind != events.EXCHANGE:
            return
        if pull_is_push(event) is not True:
            self._report(entry, f"it moves by {dict(event.rates or {})}")
        self._weigh(entry)

    def _weigh(self, entry: Entry) -> None:
        """All points on an edge weigh the same."""
        event = entry.event
        key = event.child, event.parent
        expected = self._bytes.setdefault(key, event.bytes)
        if event.bytes != expected:
            self._report(
                entry, f"it is of {event.bytes} bytes, others of {expected}"
            )
