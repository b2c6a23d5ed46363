"""What one center server tells: versions, slots and messages."""

import dataclasses

from tf_elastic.timeline import event as events
from tf_elastic.timeline.checks.members import Members
from tf_elastic.timeline.checks.settings import Ways
from tf_elastic.timeline.checks.violation import SLACK_S
from tf_elastic.timeline.checks.violation import Entry
from tf_elastic.timeline.checks.violation import Report
from tf_elastic.timeline.event import Event


@dataclasses.dataclass
class CenterCheck:
    """Of one center server and optimizer, given its events in order.

    Args:
        report: is told what is wrong.
        ways: of the exchanges; None if no worker has told.
    """

    report: Report
    ways: Ways | None

    def __post_init__(self) -> None:
        self._version: int | None = None
        self._forgotten = 0  # the newest version, before it was set back
        self._members = Members(self.report)
        self._brought = 0  # to the round
        self._bytes: dict[str | None, int] = {}
        self._share: bool | None = None  # whether pull and push are equal

    def __call__(self, entry: Entry) -> None:
        """Looks at the next event."""
        event = entry.event
        if event.kind == events.BEGIN:
            self._begin(entry)
        elif event.kind == events.EXCHANGE:
            self._members.check_p(entry)
            self._exchange(entry)
        elif event.kind == events.ROUND:
            self._members.check_p(entry)
            self._round(entry)
        elif event.kind in (events.JOIN, events.LEAVE, events.DEATH):
            self._members(entry)

    def _begin(self, entry: Entry) -> None:
        event = entry.event
        version = event.version_applied or 0
        self._forgotten = max(self._forgotten, self._version or 0)
        if event.outcome == events.FIRST:
            self._members.check_p(entry)
            self._members.find(entry)
            if self._version is None and version:
                self.report(entry, f"a new center begins at version {version}")
        else:
            self._members.restored()
            if self._version is not None and version > self._version:
                self.report(
                    entry,
                    f"its version is {version}, and was {self._version} at "
                    "most",
                )
        self._version, self._brought = version, 0

    def _exchange(self, entry: Entry) -> None:
        event = entry.event
        is_applied = event.outcome == events.APPLIED
        if self.ways is not None and event.call not in self.ways.calls:
            self.report(entry, f"by this protocol there is no {event.call}")
        is_round = event.call == events.DEPOSIT
        grows = is_applied or (is_round and event.outcome == events.LATE)
        self._check_version(entry)
        at = event.version_applied or 0
        if event.version_settled != at + grows:
            self.report(
                entry,
                f"it leads from version {at} to {event.version_settled}",
            )
        read = event.version_read or 0
        if read > max(at, self._forgotten):
            self.report(entry, f"version {read} was read before it was there")
        if is_applied:
            self._brought += is_round
            self._check_moved(entry)
            if not is_round:
                self._version = at + 1
        self._check_message(entry)

    def _check_version(self, entry: Entry) -> None:
        at = entry.event.version_applied
        if self._version is None:
            self.report(entry, "the center has no parameters yet")
            self._version = at
        elif at != self._version:
            self.report(
                entry, f"the center is at version {self._version}, and not {at}"
            )
            self._version = at

    def _check_message(self, entry: Entry) -> None:
        event = entry.event
        member = self._members.find(entry)
        if member is None:
            return
        number, last = event.sequence or 0, member.sequence
        is_twice = event.outcome == events.DUPLICATE
        if last is not None and (number <= last) != is_twice:
            self.report(
                entry,
                f"message {number} comes after message {last}"
                + (", and is no duplicate" if is_twice else ""),
            )
        if event.outcome in (events.APPLIED, events.LATE):
            step = event.step_sent or 0
            if step < member.step:
                self.report(
                    entry, f"it left at step {step}, after step {member.step}"
                )
            member.sequence = number
            member.step = step
        if event.seconds is not None:
            since = event.time - member.time
            if event.seconds > since + SLACK_S:
                self.report(
                    entry,
                    f"its center was read {event.seconds:.3f} s before, and "
                    f"{since:.3f} s ago was the message before",
                )
        member.time = event.time

    def _check_moved(self, entry: Entry) -> None:
        """What a message is made of."""
        event = entry.event
        expected = self._bytes.setdefault(event.call, event.bytes or 0)
        same = self.ways is not None and self.ways.same_bytes
        if same and event.bytes != expected:
            self.report(
                entry, f"it is of {event.bytes} bytes, others of {expected}"
            )
        shared = pull_is_push(event)
        if self._share is None:
            self._share = shared
        elif shared is not None and shared != self._share:
            self.report(
                entry,
                "the worker moves by another share of the difference than the "
                "center, and the sum of all changes",
            )

    def _round(self, entry: Entry) -> None:
        self._check_version(entry)
        if entry.event.amount != self._brought:
            self.report(
                entry,
                f"{entry.event.amount} took part, and {self._brought} "
                "messages have come",
            )
        self._brought = 0
        self._version = (entry.event.version_applied or 0) + 1


def pull_is_push(event: Event) -> bool | None:
    """Whether a worker moves by as much as the center; None: by no rates."""
    rates = event.rates or {}
    alpha, beta = rates.get("moving_rate"), rates.get("beta")
    p = rates.get("num_workers")
    if alpha is None or beta is None or p is None:
        return None
    return abs(alpha * p - beta) <= 1e-9 * max(abs(beta), 1e-9)
