"""What one worker tells: it does one thing at a time."""

import dataclasses

from tf_elastic.core import rules
from tf_elastic.timeline import event as events
from tf_elastic.timeline.checks import settings
from tf_elastic.timeline.checks.violation import SLACK_S
from tf_elastic.timeline.checks.violation import Entry
from tf_elastic.timeline.checks.violation import Report
from tf_elastic.timeline.event import Event


@dataclasses.dataclass
class _Server:
    """A center server, as a worker sees it."""

    away_since: float | None = None
    missed: int = 0  # exchanges since


class WorkerCheck:
    """Of one worker and optimizer, given its events in order.

    Args:
        report: is told what is wrong.
        lives: of the worker, that some center server has told of.
        counts: all p that center servers have told of; empty: not known.
        servers: how many center servers tell something; 0: none.
        set_back: whether one of them has begun anew.
    """

    def __init__(
        self,
        report: Report,
        lives: set[int],
        counts: set[int],
        servers: int,
        set_back: bool,
    ) -> None:
        self._set_back = set_back
        self._report = report
        self._lives, self._counts = lives, counts
        self._servers = servers
        self._by_shard: dict[int | None, _Server] = {}
        self._protocol = ""
        self._rule: rules.Rule | None = None
        self._settings: object = None
        self._life = 0
        self._step = 0  # as far as it has told
        self._left: Event | None = None  # its message, answered or late
        self._is_settled = True
        self._followed_at: int | None = None  # step; the next leaves then
        self._ended_at = 0
        self._missed = 0  # by servers, of the message under way
        self._waited_until = self._answered_at = float("-inf")
        self._answer: Event | None = None  # since it has waited
        # Versions that it goes on from, and from before the last answer.
        self._last: int | None = None
        self._held: int | None = None

    def __call__(self, entry: Entry) -> None:
        """Looks at the next event."""
        event = entry.event
        if event.incarnation is not None:
            self._check_life(entry)
        p = event.num_workers
        if p is not None and self._counts and p not in self._counts:
            self._report(entry, f"p is {p}, as no center has told")
        handle = {
            events.START: self._start,
            events.END: self._end,
            events.ANSWER: self._take_answer,
            events.EXCHANGE: self._come_late,
            events.SETTLE: self._settle,
            events.WAIT: self._wait,
            events.MISS: self._miss,
            events.RESTART: self._restart,
            events.AWAY: self._go_away,
            events.BACK: self._come_back,
        }.get(event.kind)
        if handle is not None:
            handle(entry)

    def _check_life(self, entry: Entry) -> None:
        life = entry.event.incarnation or 0
        if self._lives and life not in self._lives:
            self._report(entry, f"life {life} has not joined")
        if life < self._life:
            self._report(entry, f"life {life} comes after life {self._life}")
        if life > self._life:
            self._left, self._is_settled = None, True
        self._life = max(self._life, life)

    # Its training.

    def _start(self, entry: Entry) -> None:
        event = entry.event
        told = dict(event.settings or {})
        self._protocol = str(told.get("protocol"))
        self._rule = settings.rule_of(told)
        if self._settings is not None and told != self._settings:
            self._report(entry, "its settings have changed")
        self._settings = told
        self._step, self._ended_at = event.step_applied or 0, 0
        self._is_settled, self._followed_at = True, None
        self._last = self._held = event.version_read

    def _restart(self, entry: Entry) -> None:
        del entry
        self._is_settled, self._followed_at = True, None

    def _end(self, entry: Entry) -> None:
        # An answer to what left before may come yet.
        before = self._step
        self._go_on_to(entry, entry.event.step_applied or 0)
        self._step, self._ended_at = before, entry.event.step_applied or 0

    def _go_on_to(self, entry: Entry, step: int) -> None:
        if step < self._step:
            self._report(entry, f"step {step} comes after step {self._step}")
        self._step = step

    # Messages.

    def _leaves(self, entry: Entry) -> None:
        """A message is told of, by what became of it."""
        event = entry.event
        before = self._left
        if before is not None and (event.sequence or 0) <= (
            before.sequence or 0
        ):
            self._report(
                entry,
                f"message {event.sequence} comes after message "
                f"{before.sequence}",
            )
        # The parts of ADMM are not answered.
        is_part = isinstance(self._rule, rules.MeanOfParts)
        if not self._is_settled and not is_part:
            self._report(
                entry,
                f"it is under way with message {before and before.sequence}",
            )
        step = event.step_sent or 0
        self._go_on_to(entry, step)
        at = self._followed_at
        if self._protocol == "overlapped" and at not in (None, step):
            self._report(
                entry, f"it left at step {step}, and not with the answer, {at}"
            )
        self._left, self._is_settled = event, False
        self._followed_at = None

    def _take_answer(self, entry: Entry) -> None:
        event = entry.event
        self._leaves(entry)
        missed, self._missed = self._missed, 0
        if (event.outcome == events.MISSED) != (event.amount == 0):
            self._report(entry, f"{event.amount} servers have answered")
        if self._servers and (event.amount or 0) + missed != self._servers:
            self._report(
                entry,
                f"{event.amount} of {self._servers} servers have answered, "
                f"{missed} were missed",
            )
        seconds = event.seconds or 0.0
        if event.time - seconds < self._answered_at - SLACK_S:
            self._report(entry, "it left before the last was answered")
        self._answered_at = event.time
        self._answer = event
        self._check_versions(entry)

    def _check_versions(self, entry: Entry) -> None:
        event = entry.event
        read, settled = event.version_read, event.version_settled
        if event.outcome == events.MISSED:
            self._held = self._last
        if read is None or settled is None:
            return
        if read > settled and not self._set_back:
            self._report(
                entry, f"version {read} was read, and {settled} answered"
            )
        known = {self._last, self._held} - {None}
        is_known = read in known or self._may_read(read) or self._set_back
        if known and not is_known:
            self._report(
                entry,
                f"it is made with version {read}, and the worker had "
                f"{' or '.join(map(str, sorted(known, key=str)))}",
            )
        self._held, self._last = self._last, settled

    def _may_read(self, read: int) -> bool:
        """Whether a worker has looked again, before it made a difference."""
        if self._rule is not None and self._rule.sends != rules.POINT:
            return isinstance(self._rule, rules.MeanOfParts)
        waits = self._protocol in ("", "blocking")
        is_last = self._left is not None and (
            self._left.step_sent == self._ended_at
        )
        return (waits or is_last) and read >= (self._last or 0)

    def _come_late(self, entry: Entry) -> None:
        self._leaves(entry)
        self._missed = 0

    def _settle(self, entry: Entry) -> None:
        event, left = entry.event, self._left
        step = event.step_applied or 0
        if left is None or self._is_settled:
            self._report(entry, "there is no answer to follow")
        elif left.sequence != event.sequence:
            self._report(
                entry,
                f"it follows message {event.sequence}, and {left.sequence} was "
                "answered",
            )
        elif left.step_sent != event.step_sent:
            self._report(entry, f"its message left at step {left.step_sent}")
        elif left.kind == events.EXCHANGE:
            self._held, self._last = self._last, event.version_settled
        elif left.outcome == events.APPLIED and (
            event.version_settled != left.version_settled
        ):
            self._report(
                entry, f"its answer was of version {left.version_settled}"
            )
        self._is_settled = True
        if self._protocol in ("blocking", "synchronous") and (
            step != event.step_sent
        ):
            self._report(
                entry,
                f"it waited at step {event.step_sent}, and follows at {step}",
            )
        self._go_on_to(entry, step)
        if step < self._ended_at:
            self._report(entry, f"training has ended at step {self._ended_at}")
        self._followed_at = None if step == self._ended_at else step

    # Time.

    def _wait(self, entry: Entry) -> None:
        event = entry.event
        seconds = event.seconds or 0.0
        if event.time - seconds < self._waited_until - SLACK_S:
            self._report(entry, "it waited already")
        self._waited_until = event.time
        answer, self._answer = self._answer, None
        waits = self._protocol in ("blocking", "synchronous")
        if (
            waits
            and answer is not None
            and seconds < (answer.seconds or 0.0) - SLACK_S
        ):
            self._report(
                entry, f"the answer took {answer.seconds:.3f} s to come"
            )

    # Servers.

    def _miss(self, entry: Entry) -> None:
        self._missed += 1
        self._server(entry).missed += 1

    def _go_away(self, entry: Entry) -> None:
        server = self._server(entry)
        if server.away_since is not None:
            self._report(entry, "it is away already")
        server.away_since, server.missed = entry.event.time, 0

    def _come_back(self, entry: Entry) -> None:
        event, server = entry.event, self._server(entry)
        if server.away_since is None:
            self._report(entry, "it was not away")
            return
        gone_s = event.time - server.away_since
        if abs(gone_s - (event.seconds or 0.0)) > SLACK_S:
            self._report(entry, f"it was away for {gone_s:.3f} s")
        if event.amount != server.missed:
            self._report(entry, f"{server.missed} exchanges were missed")
        server.away_since = None

    def _server(self, entry: Entry) -> _Server:
        return self._by_shard.setdefault(entry.event.shard, _Server())
