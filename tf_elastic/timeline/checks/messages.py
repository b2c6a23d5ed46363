"""What a worker and the center servers tell of the same messages."""

import collections
import dataclasses
import statistics
from collections.abc import Mapping
from collections.abc import Sequence

from tf_elastic.timeline import event as events
from tf_elastic.timeline.checks.violation import SLACK_S
from tf_elastic.timeline.checks.violation import Entry
from tf_elastic.timeline.checks.violation import Report

_WHILE_THERE = (
    *(events.START, events.ANSWER, events.SETTLE, events.WAIT, events.END),
    *(events.MISS, events.LOST_HALF),
)
_SEEN = (events.APPLIED, events.LATE, events.DUPLICATE)


@dataclasses.dataclass
class _Message:
    answer: Entry | None = None
    arrived: list[Entry] = dataclasses.field(default_factory=list)


class MessageCheck:
    """Of one worker and optimizer: both halves of its exchanges.

    Args:
        report: is told what is wrong.
        centers: the newest versions of those that tell something.
        set_back: whether one of them has begun anew: nobody counts then which
            halves are lost, and which are forgotten.
    """

    def __init__(
        self, report: Report, centers: Mapping[int, int], set_back: bool
    ) -> None:
        self._report = report
        self._set_back = set_back
        self._centers = centers
        self._messages: dict[tuple[int, int], _Message] = {}
        self._lost = 0
        self._loser: Entry | None = None
        self._tells = False
        self._own: list[Entry] = []
        self._joins: dict[int, list[Entry]] = collections.defaultdict(list)
        self._left: dict[int, Entry] = {}

    def __call__(self, entry: Entry) -> None:
        """Takes an event of the worker."""
        event = entry.event
        if event.teller.startswith("worker"):
            self._own.append(entry)
        elif event.kind == events.JOIN:
            self._joins[event.shard or 0].append(entry)
        elif event.kind == events.LEAVE:
            self._left[event.shard or 0] = entry
        if event.kind == events.LOST_HALF:
            self._lost += event.amount or 0
            self._loser = entry
        if event.kind not in (events.ANSWER, events.EXCHANGE):
            return
        number = event.incarnation or 0, event.sequence or 0
        message = self._messages.setdefault(number, _Message())
        if event.kind == events.ANSWER:
            self._tells = True
            message.answer = entry
        elif event.teller.startswith("center"):
            message.arrived.append(entry)

    def end(self) -> None:
        """All was told."""
        if not self._centers:
            return
        for message in self._messages.values():
            if message.answer is not None:
                self._compare(message.answer, message.arrived)
        self._check_end()
        if self._tells:
            if not self._set_back:
                self._count_halves()
            for shard in sorted(self._centers):
                self._check_clocks(shard)

    def _compare(self, answer: Entry, arrived: Sequence[Entry]) -> None:
        told = answer.event
        came = [
            entry
            for entry in arrived
            if entry.event.outcome in _SEEN
            and not self._is_again(answer, entry)
        ]
        if told.outcome == events.MISSED:
            return
        shards = {entry.event.shard for entry in came}
        if len(shards) < (told.amount or 0):
            self._report(
                answer,
                f"{told.amount} servers have answered, and {len(shards)} have "
                "got it",
            )
        for entry in came:
            event = entry.event
            if event.outcome == events.DUPLICATE:
                continue
            if event.step_sent != told.step_sent:
                self._report(
                    entry, f"its worker says it left at step {told.step_sent}"
                )
            p = (event.rates or {}).get("num_workers", told.num_workers)
            if p != told.num_workers:
                self._report(entry, f"its worker says p = {told.num_workers}")
            if event.shard == 0:
                self._compare_versions(entry, answer)

    def _is_again(self, answer: Entry, entry: Entry) -> bool:
        """Whether a message was not answered, and came with the next one."""
        told = answer.event
        is_partial = (told.amount or 0) < len(self._centers)
        later = (entry.event.step_sent or 0) > (told.step_sent or 0)
        return is_partial and later

    def _compare_versions(self, entry: Entry, answer: Entry) -> None:
        event, told = entry.event, answer.event
        if told.version_read not in (None, event.version_read):
            self._report(
                entry,
                f"its worker says it is made with version {told.version_read}",
            )
        if told.version_settled is None:
            return
        after, settled = told.version_settled, event.version_settled or 0
        is_round = event.call == events.DEPOSIT
        newest = self._centers[0] if is_round else settled
        if not settled <= after <= newest:
            self._report(
                answer, f"its center says the answer is of version {settled}"
            )

    def _count_halves(self) -> None:
        """The other half of all that was applied is followed, or lost."""
        unanswered, trailing = 0, 0
        last: dict[int, int] = collections.defaultdict(int)
        for (life, number), message in self._messages.items():
            if message.answer is not None:
                last[life] = max(last[life], number)
        for (life, number), message in self._messages.items():
            answer = message.answer
            applied = [
                e for e in message.arrived if e.event.outcome == events.APPLIED
            ]
            if answer is None:
                trailing += len(applied)
                if number < last[life]:
                    unanswered += len(applied)
            else:
                again = [e for e in applied if self._is_again(answer, e)]
                lost = len(applied) - len(again) - (answer.event.amount or 0)
                unanswered += max(lost, 0)
                trailing += max(lost, 0)
        entry = self._loser or self._first()
        if entry is None or unanswered <= self._lost <= trailing:
            return
        self._report(
            entry,
            f"{self._lost} halves are lost by this worker, and {unanswered} "
            "of its messages were applied without an answer",
        )

    def _first(self) -> Entry | None:
        """An applied message that was not answered."""
        for message in self._messages.values():
            applied = [
                e for e in message.arrived if e.event.outcome == events.APPLIED
            ]
            amount = message.answer.event.amount if message.answer else 0
            if len(applied) > (amount or 0):
                return applied[-1]
        return None

    def _check_clocks(self, shard: int) -> None:
        """A message arrives when it has left, and not when it is answered.

        By how much the clocks of two machines differ is one number.
        """
        found = []
        for message in self._messages.values():
            answer = message.answer
            if answer is None or answer.event.outcome != events.APPLIED:
                continue
            for entry in message.arrived:
                is_again = self._is_again(answer, entry)
                if entry.event.shard == shard and not is_again:
                    high = answer.event.time - entry.event.time
                    low = high - (answer.event.seconds or 0.0)
                    found.append((low, high, entry))
        if not found:
            return
        shift = statistics.median((low + high) / 2 for low, high, _ in found)
        self._check_stay(shard, shift)
        for low, high, entry in found:
            if not low - SLACK_S <= shift <= high + SLACK_S:
                self._report(
                    entry,
                    "its worker says it left "
                    f"{shift - low:.3f} s before, and was answered "
                    f"{high - shift:.3f} s after",
                )

    def _check_stay(self, shard: int, shift: float) -> None:
        """It tells of its exchanges while it has its slot.

        Args:
            shard: the center server.
            shift: by how much the worker's clock is ahead of the server's.
        """
        joins, left = self._joins.get(shard), self._left.get(shard)
        if not joins:
            return
        begin = joins[0].event.time + shift - SLACK_S
        end = float("inf")
        if left is not None and left.event.time >= joins[-1].event.time:
            end = left.event.time + shift + SLACK_S
        for entry in self._own:
            event = entry.event
            since = event.time - (event.seconds or 0.0)
            if (
                event.kind not in _WHILE_THERE
                or begin <= since
                and (event.time <= end)
            ):
                continue
            self._report(
                entry, f"the worker was at center {shard} at other times"
            )

    def _check_end(self) -> None:
        """Who has finished has told of its end, after all of its steps."""
        left = self._left.get(min(self._centers))
        ends = [e for e in self._own if e.event.kind == events.END]
        if left is None or left.event.outcome != events.FINISHED or not ends:
            return
        life = left.event.incarnation
        steps = [
            max(e.event.step_sent or 0, e.event.step_applied or 0)
            for e in self._own
            if e.event.incarnation == life
        ]
        if ends[-1].event.incarnation == life and (
            (ends[-1].event.step_applied or 0) < max(steps)
        ):
            self._report(ends[-1], f"it was at step {max(steps)} already")
