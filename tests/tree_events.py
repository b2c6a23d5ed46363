"""What the nodes of a tree have told of what they followed."""

import dataclasses
import time

from tf_elastic.timeline import event as happened
from tf_elastic.timeline.event import Event


@dataclasses.dataclass
class Center:
    """One process of the job `ps`, and those after it."""

    applied: int = 0  # messages of children that were followed
    lost: int = 0  # of these, forgotten with a killed process
    restored: int = 0  # times that it went on from a snapshot
    doubled: int = 0  # messages that came twice, and were left out
    late: int = 0
    version: int = 0


def read(path):
    """All events so far; the last line may be half written."""
    lines = path.read_text().splitlines() if path.exists() else []
    made = []
    for line in lines:
        try:
            made.append(Event.from_json(line))
        except ValueError:
            assert line is lines[-1], line
    return made


def check(path):
    """{center: what it did}; raises if something was applied twice.

    A message is known by its child, that one's incarnation and its number.
    What a killed process has followed after its last snapshot is forgotten,
    and so may be followed again.
    """
    found, ids = {}, {}
    for event in read(path):
        if not event.teller.startswith("center"):
            continue
        center = found.setdefault(event.shard, Center())
        known = ids.setdefault(event.shard, {})
        if event.kind == happened.BEGIN:
            if event.outcome == happened.RESTORED:
                center.restored += 1
            lost = [v for v in known if v >= event.version_applied]
            center.lost += len(lost)
            for version in lost:
                del known[version]
            center.version = event.version_applied
        elif event.kind == happened.EXCHANGE:
            center.doubled += event.outcome == happened.DUPLICATE
            center.late += event.outcome == happened.LATE
            if event.outcome != happened.APPLIED:
                continue
            assert event.version_applied >= center.version, event
            center.version = event.version_applied
            if event.call == happened.UP:
                number = event.child, event.incarnation, event.sequence
                assert number not in known.values(), f"twice: {event}"
                known[event.version_applied] = number
                center.applied += 1
    return found


def until_followed(path, centers, count, seconds, cluster):
    """Waits until each has followed so many more children's messages.

    Args:
        path: of the events.
        centers: by the index of their tasks.
        count: messages.
        seconds: how long at most.
        cluster: that is to be alive meanwhile.
    """
    before = len(read(path))
    end = time.monotonic() + seconds
    while True:
        followed = [
            event.shard
            for event in read(path)[before:]
            if event.kind == happened.EXCHANGE
            and event.outcome == happened.APPLIED
            and event.call == happened.UP
        ]
        if all(followed.count(center) >= count for center in centers):
            return
        told = {center: followed.count(center) for center in centers}
        assert time.monotonic() < end, f"followed since then: {told}"
        alive = cluster.process("worker", 0)
        assert not alive.ended, alive.last_lines()
        time.sleep(0.25)
