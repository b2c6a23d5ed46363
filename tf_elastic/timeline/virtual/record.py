"""A log of a real cluster, sorted: what each worker did, message by message."""

import dataclasses
from collections.abc import Sequence
from typing import Any
from typing import NamedTuple
from typing import NoReturn

from tf_elastic.core import protocols
from tf_elastic.core import rules
from tf_elastic.timeline import event as events
from tf_elastic.timeline.event import Event

# Number of a message: a worker's incarnation, and its own.
Number = tuple[int, int]


class Line(NamedTuple):
    """One event of a log."""

    line: int  # its place, from 1
    event: Event
    wait_s: float = 0.0  # that training stood still for, before it

    def refuse(self, why: str) -> NoReturn:
        """Raises a `ValueError` that names the event."""
        raise ValueError(
            f"A log must be one that training can repeat, but {why}. "
            f"Received, as event {self.line}: {self.event.to_json():.300}."
        )

    def number(self, name: str) -> int:
        """A field that has to be there."""
        value = getattr(self.event, name)
        if value is None:
            self.refuse(f"{name!r} is not told")
        return int(value)

    @property
    def num_workers(self) -> int:
        """p, by which a message's rates were made."""
        rates = self.event.rates or {}
        p = rates.get("num_workers")
        return int(p) if p else self.number("num_workers")


@dataclasses.dataclass
class Message:
    """What a worker has sent, and what became of it."""

    number: Number
    first: Line  # that is told of it
    arrived: Line | None = None  # as the center server tells
    answered: Line | None = None  # as the worker does
    settled: Line | None = None
    is_late: bool = False
    is_refused: bool = False
    # By the moves so far.
    is_made: bool = False
    is_sent: bool = False

    @property
    def step(self) -> int:
        """The worker's local steps when it left."""
        told = self.answered or self.first
        return told.number("step_sent")

    @property
    def left_at(self) -> float:
        """The time at which it left."""
        told = self.answered or self.first
        seconds = told.event.seconds or 0.0
        return told.event.time - (seconds if self.answered else 0.0)

    @property
    def is_missed(self) -> bool:
        """Whether its worker has got no answer, and has gone on without."""
        told = self.answered
        return told is not None and told.event.outcome == events.MISSED


@dataclasses.dataclass
class WorkerRecord:
    """All that is told of one worker."""

    # What its own training has told, in order: START, SETTLE, END, RESTART.
    told: list[Line] = dataclasses.field(default_factory=list)
    messages: dict[Number, Message] = dataclasses.field(default_factory=dict)
    # Of lives that have ended before their part was done.
    deaths: dict[int, Line] = dataclasses.field(default_factory=dict)


class Record:
    """A sorted log.

    Args:
        found: its events; those of each teller in their order.

    Raises:
        ValueError: training cannot repeat it, with the event and the reason.
    """

    def __init__(self, found: Sequence[Event]) -> None:
        self.workers: dict[int, WorkerRecord] = {}
        self.rounds: list[Line] = []
        self._begins = False
        self._wait_s: dict[int, float] = {}
        self._settings: dict[str, Any] | None = None
        for line, event in enumerate(found, start=1):
            self._take(Line(line, event))
        self._check_whole()

    @property
    def settings(self) -> dict[str, Any]:
        """What the workers have told as they started: the same."""
        return self._settings or {}

    @property
    def num_workers(self) -> int:
        """The workers are numbered from 0."""
        return max(self.workers) + 1

    def _take(self, told: Line) -> None:
        event = told.event
        if event.group:
            told.refuse("it is of several optimizers: give the events of one")
        if event.shard:
            told.refuse("it is of several center servers: training has one")
        if event.kind == events.BEGIN:
            self._take_begin(told)
        elif event.kind == events.FORGOTTEN:
            told.refuse("the center was set back")
        elif event.kind == events.ROUND:
            self.rounds.append(told)
        elif event.worker is not None:
            own = self.workers.setdefault(event.worker, WorkerRecord())
            self._take_of_worker(own, told)
        elif event.kind == events.EXCHANGE:
            told.refuse("it is of a node of a tree")

    def _take_begin(self, told: Line) -> None:
        if self._begins:
            told.refuse("the center has begun anew")
        if told.event.outcome != events.FIRST or told.number("version_applied"):
            told.refuse("the center does not begin with a worker's parameters")
        self._begins = True

    def _take_of_worker(self, own: WorkerRecord, told: Line) -> None:
        event = told.event
        worker = told.number("worker")
        if event.kind == events.WAIT:
            self._wait_s[worker] = event.seconds or 0.0
            return
        if event.kind in (
            *(events.START, events.SETTLE, events.END, events.RESTART),
        ):
            if event.kind == events.START:
                self._take_settings(told)
            wait_s = self._wait_s.pop(worker, 0.0)
            told = told._replace(wait_s=wait_s)
            own.told.append(told)
        if event.kind == events.DEATH or event.outcome == events.LEFT:
            own.deaths[told.number("incarnation")] = told
        elif event.kind in (events.EXCHANGE, events.ANSWER, events.SETTLE):
            self._take_of_message(own, told)

    def _take_of_message(self, own: WorkerRecord, told: Line) -> None:
        event = told.event
        number = told.number("incarnation"), told.number("sequence")
        if event.outcome == events.DUPLICATE:
            return
        message = own.messages.setdefault(number, Message(number, told))
        if event.kind == events.ANSWER:
            message.answered = told
        elif event.kind == events.SETTLE:
            message.settled = told
        elif not event.teller.startswith("center"):
            message.is_late = True
            own.told.append(told)
        else:
            if event.call is None:
                told.refuse("'call' is not told: it is of an older release")
            message.arrived = told
            message.is_late |= event.outcome == events.LATE
            message.is_refused |= event.outcome == events.REFUSED

    def _take_settings(self, told: Line) -> None:
        settings = dict(told.event.settings or {})
        if not {"protocol", "rule", "model"} <= settings.keys():
            told.refuse("what the worker starts with is not told")
        if self._settings is None:
            self._settings = settings
        if settings != self._settings:
            told.refuse("this worker has started with other settings")
        if settings["rule"].get("rule") == "mean_of_parts":
            told.refuse("the steps of ADMM are a part of its exchanges")

    def _check_whole(self) -> None:
        if not self._begins:
            raise ValueError(
                "A log must have the center's beginning ('begin'). Received: "
                "one without. Give the files of all processes, from the first "
                "event on."
            )
        for worker, own in sorted(self.workers.items()):
            started = any(t.event.kind == events.START for t in own.told)
            if not started and own.messages:
                raise ValueError(
                    "A log must have all that its workers tell. Received: no "
                    f"'start' of worker {worker}. Give the files of all "
                    "processes; an older release has not told it."
                )
        if self._settings is None:
            raise ValueError(
                "A log must have a worker. Received: one in which none starts."
            )


class Ways(NamedTuple):
    """What a worker's exchanges are like, by rule and protocol."""

    rule: rules.Rule
    protocol: str
    every: int  # calls of the optimizer for a local step

    @property
    def comes_before(self) -> bool:
        """Whether an exchange comes between a gradient and its step."""
        kind = protocols.PROTOCOLS[self.protocol](self.rule)
        return protocols.GRADIENT in kind.moments

    @property
    def turns_over(self) -> bool:
        """Whether what leaves is made before an answer is followed."""
        return (
            protocols.PROTOCOLS[self.protocol].answers_later
            and self.rule.sends != rules.POINT
        )
