"""Who has a slot at a center server, and what p follows."""

import dataclasses

from tf_elastic.timeline import event as events
from tf_elastic.timeline.checks.violation import Entry
from tf_elastic.timeline.checks.violation import Report
from tf_elastic.timeline.event import Event

# Workers that are expected, and do not join, are given up after two minutes.
_EXPECTED_S = 100.0


@dataclasses.dataclass
class Member:
    """One worker, as far as a log tells."""

    incarnation: int
    present: bool = True
    finished: bool = False
    sequence: int | None = 0  # of the last message; None: not known
    step: int = 0  # at which it left
    time: float = 0.0  # when it has come


class Members:
    """Follows who comes and goes, and p.

    Args:
        report: is told what is wrong.
    """

    def __init__(self, report: Report) -> None:
        self._report = report
        self._known: dict[int | str, Member] = {}
        self._p: int | None = None  # as was told last
        self._is_restored = False  # others may be known than were told of
        self._first_join: float | None = None
        self._has_rounds = False  # by which they may be given up earlier

    def restored(self) -> None:
        """A snapshot has taken the place of what was told."""
        self._is_restored = True
        for member in self._known.values():
            member.sequence = None

    def find(self, entry: Entry) -> Member | None:
        """The member that an event is of; None if there is none such."""
        event = entry.event
        worker, life = _who(event), event.incarnation or 0
        member = self._known.get(worker)
        if member is None and self._is_restored:
            member = self._known[worker] = Member(life, sequence=None)
        if member is None:
            self._report(entry, "this worker has not joined")
        elif member.incarnation != life:
            self._report(
                entry,
                f"it is of life {life}, and life {member.incarnation} has "
                "joined",
            )
        elif not member.present and not self._is_restored:
            self._report(entry, "this worker has left")
        else:
            return member
        return None

    def __call__(self, entry: Entry) -> None:
        """Somebody comes or goes."""
        if entry.event.kind == events.JOIN:
            self._join(entry)
        else:
            self._go(entry)

    def check_p(self, entry: Entry) -> None:
        """Looks at the p of an event by which nobody comes or goes."""
        p = entry.event.num_workers
        self._has_rounds |= entry.event.call == events.DEPOSIT
        if self._p is not None and not self._is_restored:
            expected = {self._p}
            if self._are_given_up(entry):
                expected.add(max(self._count(), 1))
            if p not in expected:
                self._report(entry, f"p is {p}, and was {self._p}")
        self._p = p

    def _are_given_up(self, entry: Entry) -> bool:
        """Whether nobody may be expected any more that has not joined."""
        begin = self._first_join
        is_long_ago = begin is not None and (
            entry.event.time - begin > _EXPECTED_S
        )
        return is_long_ago or self._has_rounds

    def _count(self) -> int:
        """Those that are present, or have finished."""
        return sum(m.present or m.finished for m in self._known.values())

    def _join(self, entry: Entry) -> None:
        event = entry.event
        worker, life = _who(event), event.incarnation or 0
        before = self._known.get(worker)
        if before is not None and life <= before.incarnation:
            self._report(
                entry, f"life {life} begins after life {before.incarnation}"
            )
        ended = self._known and all(m.finished for m in self._known.values())
        if ended or (before is not None and before.finished):
            for member in self._known.values():  # Another run begins.
                member.finished = False
        step = before.step if before is not None else 0
        self._known[worker] = Member(life, step=step, time=event.time)
        if self._first_join is None:
            self._first_join = event.time
        p, count = event.num_workers or 0, self._count()
        least = count
        if (
            not ended
            and not self._are_given_up(entry)
            and (len(self._known) < (self._p or 0))
        ):
            least = max(count, self._p or 0)
        if p < least:
            self._report(entry, f"p is {p} of {least} workers")
        self._p = p

    def _go(self, entry: Entry) -> None:
        event = entry.event
        before, p = self._count(), self._p
        member = self.find(entry)
        if member is None:
            self._p = event.num_workers
            return
        member.present = False
        member.finished = event.outcome == events.FINISHED
        count = max(self._count(), 1)
        expected = {count} if p in (None, before) else {p}
        if self._are_given_up(entry):
            expected.add(count)
        if event.num_workers not in expected and not self._is_restored:
            self._report(
                entry,
                f"p is {event.num_workers} afterwards, of {count} workers",
            )
        self._p = event.num_workers


def _who(event: Event) -> int | str:
    """Which worker, or which child of a node of a tree."""
    return event.child or event.worker or 0
