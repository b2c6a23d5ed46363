"""The two ends of an edge of a tree, each given its own events in order."""

from tf_elastic.timeline import event as events
from tf_elastic.timeline.checks import fields
from tf_elastic.timeline.checks.members import Members
from tf_elastic.timeline.checks.tree_messages import Stream
from tf_elastic.timeline.checks.violation import SLACK_S
from tf_elastic.timeline.checks.violation import Entry
from tf_elastic.timeline.checks.violation import Report
from tf_elastic.timeline.event import Event

Place = tuple[int | None, int | None]  # parent, the child's life there


class Steps:
    """Whoever's own steps do not go back.

    Args:
        report: is told what is wrong.
    """

    def __init__(self, report: Report) -> None:
        self._report = report
        self._step = 0

    def begins(self, step: int = 0) -> None:
        """A process begins, or a step is known."""
        self._step = step

    def __call__(self, entry: Entry, step: int | None) -> None:
        """Something is done at a step; None: nobody says."""
        if step is None:
            return
        if step < self._step:
            self._report(entry, f"step {step} comes after step {self._step}")
        self._step = step


class Child:
    """A worker, or a node as its parent's child.

    Args:
        report: is told what is wrong.

    Attributes:
        life: its processes so far.
    """

    def __init__(self, report: Report) -> None:
        self.life = 0
        self._report = report
        self._steps = Steps(report)
        self._at: dict[int | None, int | None] = {}  # lives, by parent
        self._places: set[Place] = set()  # where it was, in this life
        self._streams: dict[int | None, Stream] = {}  # by parent
        self._numbers: dict[int, int] = {}  # by stream
        self._has_sent = self._has_started = False
        self._waited_until = float("-inf")

    def begins(self) -> None:
        """A node's process begins."""
        if self._has_sent:
            self._new_life()

    def _new_life(self) -> None:
        self.life += 1
        self._at, self._places, self._streams = {}, set(), {}
        self._has_sent = self._has_started = False

    def was_at(self, parent: int | None, life: int | None) -> bool:
        """Whether it was known there as such a life."""
        return (parent, life) in self._places

    def stream(self, entry: Entry, most_waiting: int | None) -> Stream:
        """Of the points that it sends up."""
        parent = entry.event.parent
        if parent not in self._streams:
            self._streams[parent] = Stream(self._report, most_waiting)
        return self._streams[parent]

    def __call__(self, entry: Entry) -> None:
        """Looks at the next event."""
        event = entry.event
        if event.kind == events.ATTACH:
            self._attach(entry)
        elif event.kind == events.START:
            self._check_life(entry)
            self._has_started = True
            self._waited_until = event.time
            self._steps.begins(event.step_applied or 0)
        elif event.kind == events.END:
            self._check_life(entry)
            self._steps(entry, event.step_applied)
        elif event.kind == events.WAIT:
            self._wait(entry)
        elif event.kind == events.SEND:
            self._send(entry)
        elif event.kind == events.DROP and event.call == events.UP:
            self._check_place(entry)
        elif event.child is not None and event.teller.startswith("worker"):
            self._steps(entry, event.step_applied)
        self._check_started(entry)

    def _check_started(self, entry: Entry) -> None:
        is_worker = entry.event.teller.startswith("worker")
        early = (
            *(events.ATTACH, events.START, events.DROP),
            *(events.AWAY, events.BACK),
        )
        if is_worker and entry.event.kind not in early:
            if not self._has_started:
                self._report(entry, "this worker has not started")

    def _check_life(self, entry: Entry) -> None:
        lives = self._at.values()
        if lives and entry.event.incarnation not in lives:
            self._report(entry, f"life {entry.event.incarnation} has no parent")

    def _attach(self, entry: Entry) -> None:
        event = entry.event
        before = event.parent_before
        if before is None:
            # A worker joins all shards of its parent before it starts.
            is_worker = event.teller.startswith("worker")
            if not is_worker and self.was_at(event.parent, event.incarnation):
                self._report(entry, "it was there already")
            if self._has_started or (self._at and not is_worker):
                self._new_life()
            if (event.parent, event.incarnation) in self._places:
                self._report(entry, "it was there already")
        elif before not in self._at:
            self._report(entry, f"it was no child of center {before}")
        else:
            life = self._at.pop(before)
            if before == event.parent and (event.incarnation or 0) < (
                life or 0
            ):
                self._report(
                    entry, f"life {event.incarnation} comes after life {life}"
                )
            stream = self._streams.pop(before, None)
            if stream is not None:
                self._streams[event.parent] = stream
        self._at[event.parent] = event.incarnation
        self._places.add((event.parent, event.incarnation))

    def _check_place(self, entry: Entry) -> None:
        event = entry.event
        known = self._at.get(event.parent)
        if event.incarnation != known or (self._at and known is None):
            self._report(
                entry,
                f"it is no child of center {event.parent} as life "
                f"{event.incarnation}",
            )

    def _send(self, entry: Entry) -> None:
        event = entry.event
        self._check_place(entry)
        stream = id(self.stream(entry, None))
        self._check_number(entry, stream)
        self._has_sent = True
        if event.teller.startswith("worker"):
            self._steps(entry, event.step_sent)

    def _check_number(self, entry: Entry, stream: int) -> None:
        number, last = entry.event.sequence or 0, self._numbers.get(stream, 0)
        if number != last + 1:
            self._report(entry, f"point {number} leaves after point {last}")
        self._numbers[stream] = number

    def _wait(self, entry: Entry) -> None:
        event = entry.event
        if event.time - (event.seconds or 0.0) < self._waited_until - SLACK_S:
            self._report(entry, "it waited already")
        self._waited_until = event.time


class Center:
    """A node that is no worker, or one shard of it.

    Args:
        report: is told what is wrong.

    Attributes:
        life: its processes so far.
    """

    def __init__(self, report: Report) -> None:
        self.life = 0
        self._report = report
        self._steps = Steps(report)
        self._version: int | None = None
        self._members = Members(report)
        self._number = 0  # of its points that go down

    def __call__(self, entry: Entry) -> None:
        """Looks at the next event."""
        event = entry.event
        if event.kind == events.BEGIN:
            self._begin(entry)
        elif event.kind in (events.JOIN, events.LEAVE, events.DEATH):
            self._members(entry)
        elif event.kind == events.SEND:
            self._send(entry)
        elif event.kind == events.EXCHANGE:
            self._members.check_p(entry)
            self._exchange(entry)
        elif event.kind == events.RESTART:
            self._steps(entry, event.step_applied)
            self._check_version(entry, (event.version_applied or 0) - 1)
            self._version = event.version_applied
        elif event.kind == events.DROP and event.child != event.teller:
            self._check_child(entry)

    def _begin(self, entry: Entry) -> None:
        event, version = entry.event, entry.event.version_applied or 0
        if event.outcome == events.RESTORED:
            self._members.restored()
            if self._version is not None and version > self._version:
                self._report(entry, f"its version was {self._version} at most")
        elif event.child is not None:
            self._members.check_p(entry)
            self._members.find(entry)
        elif self._version is not None:  # It remembers nobody.
            self._members = Members(self._report)
        if event.outcome == events.FIRST and version:
            self._report(entry, f"a new node begins at version {version}")
        if self._version is not None or event.outcome == events.RESTORED:
            self.life += 1
        self._version, self._number = version, 0
        self._steps.begins()

    def _send(self, entry: Entry) -> None:
        event = entry.event
        self._check_begun(entry)
        self._steps(entry, event.step_sent)
        if event.child == event.teller:
            return
        number = event.sequence or 0
        if number != self._number + 1:
            self._report(
                entry, f"point {number} leaves after point {self._number}"
            )
        self._number = number
        self._check_child(entry)

    def _check_child(self, entry: Entry) -> None:
        self._members.find(entry)

    def _check_begun(self, entry: Entry) -> None:
        if self._version is None:
            self._report(entry, "the node has no parameters yet")
            self._version = entry.event.version_applied

    def _check_version(self, entry: Entry, version: int) -> None:
        self._check_begun(entry)
        if version != self._version:
            self._report(
                entry,
                f"the node is at version {self._version}, and not {version}",
            )

    def _exchange(self, entry: Entry) -> None:
        event = entry.event
        at, is_applied = event.version_applied or 0, _is_applied(event)
        self._check_version(entry, at)
        if event.version_settled != at + is_applied:
            self._report(
                entry, f"it leads from version {at} to {event.version_settled}"
            )
        self._version = at + is_applied
        if event.call in fields.ANSWERED:
            self._members.find(entry)
            return
        self._steps(entry, event.step_applied)


def _is_applied(event: Event) -> bool:
    return event.outcome == events.APPLIED
