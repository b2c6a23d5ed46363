"""Points on the edges of a tree: first in, first out, and none twice.

What the two ends of an edge tell is put side by side, each in its own order:
their clocks may differ. Upward a stream of points is that of one process of the
child, whoever its parent is by then; downward that of one edge.
"""

import collections
import dataclasses
import statistics
from collections.abc import Sequence

from tf_elastic.timeline import event as events
from tf_elastic.timeline.checks.violation import SLACK_S
from tf_elastic.timeline.checks.violation import Entry
from tf_elastic.timeline.checks.violation import Report
from tf_elastic.timeline.event import Event


@dataclasses.dataclass
class _Sent:
    """A point that has left, or waits until it can."""

    entry: Entry
    life: int  # of its sender's process
    is_dropped: bool = False  # by its sender
    is_done: bool = False  # was followed, left out or dropped by its receiver
    may_again: bool = False  # who has followed it has forgotten that since


class Stream:
    """The points that go one way along an edge.

    Args:
        report: is told what is wrong.
        most_waiting: that may wait at each end; None: not known.
    """

    def __init__(self, report: Report, most_waiting: int | None) -> None:
        self._report = report
        self._most = most_waiting
        self._sent: list[_Sent] = []
        self._places: dict[object, list[int]]  # by what `_key` says
        self._places = collections.defaultdict(list)
        self._forgets: list[int] = []  # places before which all is forgotten
        self._waiting: list[_Sent] = []  # of the newest life, not dropped
        # What its receivers have told, by (parent, the child's life there), in
        # the order of the child's lives. None: what waited there is lost.
        self._came: dict[object, list[Entry | None]] = {}
        self._next = 0  # all before are done with
        self._life = -1  # of the sender, of the last that was looked at
        self._may_skip = True

    # What is told, in the order of each teller.

    def sends(self, entry: Entry, life: int) -> None:
        """A point leaves."""
        is_late = entry.event.outcome == events.LATE
        if is_late or (self._sent and self._sent[-1].life != life):
            self._waiting.clear()
        if is_late:  # Its receiver is; what waited for it is forgotten.
            self._forgets.append(len(self._sent))
        self._places[_key(entry.event)].append(len(self._sent))
        self._sent.append(_Sent(entry, life))
        self._waiting.append(self._sent[-1])

    def drops(self, entry: Entry) -> None:
        """Its sender has dropped one: the oldest of those that waited."""
        number = entry.event.sequence
        newer = next(
            (
                newer
                for newer, sent in enumerate(reversed(self._waiting))
                if sent.entry.event.sequence == number
            ),
            None,
        )
        if newer is None:
            self._report(entry, f"point {number} does not wait there")
            return
        if self._most is not None and newer != self._most:
            self._report(
                entry,
                f"{newer} newer points wait, and {self._most} may: it is not "
                "the oldest that waits",
            )
        sent = self._waiting.pop(-1 - newer)
        sent.is_dropped = True
        self._compare(sent.entry.event, entry)

    def receiver(self, key: object) -> None:
        """A receiver begins to get them, after those before."""
        self._came.setdefault(key, [])

    def comes(self, key: object, entry: Entry | None) -> None:
        """One is looked at, or dropped, by its receiver.

        Args:
            key: of the receiver.
            entry: None: what waited there is lost.
        """
        self._came.setdefault(key, []).append(entry)

    # All was told.

    def end(self) -> list[tuple[Entry, Entry]]:
        """Puts both sides together.

        Returns:
            Pairs of what the sender and the receiver tell of one point.
        """
        pairs: list[tuple[Entry, Entry]] = []
        for came in self._came.values():
            self._may_skip = True  # What waited at the receiver before.
            for entry in came:
                if entry is None:
                    self._may_skip = True
                    continue
                sent = self._match(entry)
                if sent is not None:
                    self._compare(sent.entry.event, entry)
                    pairs.append((sent.entry, entry))
        return pairs

    def _match(self, entry: Entry) -> _Sent | None:
        """The point that a receiver has told of."""
        event, number = entry.event, entry.event.sequence
        places = self._places.get(_key(event), [])
        if not places:
            self._report(entry, f"nobody has sent point {number}")
        if not places or event.outcome == events.DUPLICATE:
            return None
        fresh = [k for k in places if not self._sent[k].is_done]
        # Numbers begin anew with a process; nobody's steps go back by as much.
        place = next(
            (
                k
                for k in fresh
                if self._sent[k].entry.event.step_sent == event.step_sent
            ),
            fresh[0] if fresh else None,
        )
        if place is None:
            place = next((k for k in places if self._sent[k].may_again), None)
            if place is None:
                self._report(entry, f"point {number} was looked at before")
                return None
            self._sent[place].may_again = False
            return self._sent[place]
        sent = self._sent[place]
        if sent.is_dropped:
            self._report(entry, f"its sender has dropped point {number}")
        sent.is_done = True
        if event.outcome != events.LATE:  # Which has not waited its turn.
            self._check_order(entry, place)
        return sent

    def _check_order(self, entry: Entry, place: int) -> None:
        """Those before it are done with, or lost."""
        life, begin = self._sent[place].life, self._next
        before = self._sent[begin:place]
        skipped = [
            sent
            for k, sent in enumerate(before, start=begin)
            if not (sent.is_done or sent.is_dropped)
            and sent.life == life
            and not any(k < late <= place for late in self._forgets)
        ]
        if skipped and not (self._may_skip or life != self._life):
            self._report(
                entry,
                f"point {skipped[0].entry.event.sequence} was sent before, and "
                "nobody has told what became of it",
            )
        for sent in before:
            sent.is_done = True
        self._next, self._may_skip = max(begin, place + 1), False
        self._life = life

    def _compare(self, sent: Event, entry: Entry) -> None:
        event = entry.event
        for name in ("step_sent", "bytes"):
            its, said = getattr(event, name), getattr(sent, name)
            if its is not None and its != said:
                self._report(entry, f"its {name} is {its}, its sender's {said}")

    def forgets(self, version: int, parent: int) -> None:
        """A node goes on from a snapshot: what it has followed since is gone.

        To be called before `end` of what was told so far.
        """
        for came in self._came.values():
            for entry in came:
                if entry is None or entry.event.shard != parent:
                    continue
                event = entry.event
                if (event.version_applied or 0) >= version:
                    for place in self._places.get(_key(event), ()):
                        self._sent[place].may_again = True


def _key(event: Event) -> object:
    """Which point it is, of those of a stream.

    Downward numbers begin anew with each process of the parent, at which the
    child has another life then.
    """
    is_down = event.call == events.DOWN
    return event.sequence, event.incarnation if is_down else None


def check_clocks(pairs: Sequence[tuple[Entry, Entry]], report: Report) -> None:
    """A point comes after it has left, whatever the clocks of two machines say.

    By how much they differ is one number: it is known as far as points go both
    ways.

    Args:
        pairs: of what the sender and the receiver tell of one point.
        report: is told what is wrong.
    """
    lags: dict[tuple[str, str], list[tuple[float, Entry]]]
    lags = collections.defaultdict(list)
    for sent, came in pairs:
        if came.event.kind != events.DROP:
            key = sent.event.teller, came.event.teller
            lags[key].append((came.event.time - sent.event.time, came))
    for (one, other), there in lags.items():
        back = lags.get((other, one))
        if back is None or one > other:
            continue
        least = min(there, key=_lag), min(back, key=_lag)
        total = least[0][0] + least[1][0]
        if total < -SLACK_S:
            middle = [statistics.median(map(_lag, k)) for k in (there, back)]
            far = [middle[k] - least[k][0] for k in (0, 1)]
            _, entry = least[far[1] > far[0]]
            report(
                entry,
                f"points go there and back in {total:.3f} s: one of them comes "
                "before it has left",
            )


def _lag(pair: tuple[float, Entry]) -> float:
    return pair[0]
