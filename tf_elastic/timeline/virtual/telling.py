"""The moves of a virtual cluster, as the events that a live one tells."""

from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Iterator
from collections.abc import Mapping
from typing import Any

from tf_elastic.timeline import event as events
from tf_elastic.timeline.event import Event
from tf_elastic.timeline.virtual import moves
from tf_elastic.timeline.virtual.engine import VirtualTimeline
from tf_elastic.timeline.virtual.moves import Move
from tf_elastic.timeline.virtual.tree_engine import TreeTimeline
from tf_elastic.timeline.virtual.tree_telling import TreeTeller

# Those of an exchange.
RatesOf = Callable[[Move], Mapping[str, float | None]]


def events_of(
    timeline: VirtualTimeline | TreeTimeline,
    made: Iterable[Move] | None = None,
    **options: Any,
) -> Iterator[Event]:
    """The events of a timeline, in the order of time.

    Args:
        timeline: whose.
        made: its moves, as far as they are wanted; None for all, which may
            have no end.
        **options: of `Teller`, or of `TreeTeller` if it is that of a tree.
    """
    teller: Teller | TreeTeller
    if isinstance(timeline, TreeTimeline):
        teller = TreeTeller(timeline, **options)
    else:
        teller = Teller(timeline, **options)
    yield from teller.begin()
    for move in timeline.moves() if made is None else made:
        yield from teller(move)
    yield from teller.end()


class Teller:
    """Tells of moves, one after another, as they are made or followed.

    When an answer arrives at a worker that goes on meanwhile no move says; its
    event is of the time at which the center has given it.

    Args:
        timeline: whose moves.
        rates: of an exchange, by the move of the center; None to tell none.
        model: the fingerprint of the variables; see `timeline.fingerprint`.
        accumulation: calls of the optimizer that make a local step.
    """

    def __init__(
        self,
        timeline: VirtualTimeline,
        rates: RatesOf | None = None,
        model: str = "",
        accumulation: int = 1,
    ) -> None:
        load = timeline.workload
        self._workload = load
        self._num_workers = timeline.num_workers
        self._late = {worker for worker, _ in timeline.timing.joins}
        self._rates = rates
        self._calls_a_step = accumulation
        self._settings = {
            "protocol": load.protocol,
            "rule": load.rule.config(),
            "compression": "none",
            "model": model,
        }
        self._is_overlapped = load.protocol == "overlapped"
        self._workers = [_Worker(w) for w in range(timeline.num_workers)]
        self._here: list[_Worker] = []  # in the round that is open
        self._time = 0.0

    def begin(self) -> list[Event]:
        """What is told before the first move."""
        there = [own for own in self._workers if own.number not in self._late]
        told = [self._join(0.0, own, len(there)) for own in there]
        told.append(
            Event(
                events.BEGIN,
                0.0,
                "center 0",
                worker=there[0].number,
                shard=0,
                incarnation=1,
                version_applied=0,
                num_workers=len(there),
                outcome=events.FIRST,
            )
        )
        return told + [self._start(0.0, own, 0, 0) for own in there]

    def end(self) -> list[Event]:
        """What is told when no more moves are wanted."""
        return [
            self._by_worker(
                events.END,
                self._time,
                own,
                incarnation=own.incarnation,
                step_applied=own.calls // self._calls_a_step,
            )
            for own in self._workers
            if own.is_alive
        ]

    def __call__(self, move: Move) -> list[Event]:
        """What is told of one move."""
        self._time = move.time
        if move.kind == moves.COLLECT:
            return [self._round(move)]
        own = self._workers[move.worker]
        told = []
        if move.kind in _WAITS and not self._is_overlapped:
            own.waits_since = move.time
        if move.kind == moves.TURN_OVER:
            told += self._settle(move, own)
        if move.kind in _MAKES or (
            move.kind == moves.DROP and own.message is None
        ):
            step = move.clock // self._calls_a_step
            own.make(move.time, step)
        if move.kind == moves.READ:
            own.read_at = move.time
        elif move.kind in _MOVES:
            told.append(self._exchange(move, own, events.APPLIED))
            own.settled = move.version + 1
            own.read_at = move.time
            if self._is_overlapped:
                told.append(self._answer(move, own))
        elif move.kind == moves.ADD:
            told.append(self._exchange(move, own, events.APPLIED))
            own.read_at = move.time
            self._here.append(own)
        elif move.kind == moves.DROP:
            told.append(self._exchange(move, own, events.LATE))
            own.is_late = True
        elif move.kind == moves.ANSWER:
            own.settled, own.read_at = move.version, move.time
        if move.kind in _SETTLES:
            told += self._settle(move, own)
        elif move.kind == moves.RESTART:
            told += self._restart(move, own)
        elif move.kind == moves.JOIN:
            told.append(self._join(move.time, own, move.num_workers))
            told.append(self._start(move.time, own, move.clock, move.version))
        elif move.kind == moves.DIE:
            told.append(self._die(move, own))
        if move.kind in moves.STEPS:
            own.calls = move.clock + 1
            own.waits_since = move.time
        return told

    # By the center.

    def _by_center(self, kind: str, time: float, **fields: Any) -> Event:
        return Event(kind, time, "center 0", shard=0, **fields)

    def _join(self, time: float, own: "_Worker", num_workers: int) -> Event:
        own.begin()
        return self._by_center(
            events.JOIN,
            time,
            worker=own.number,
            incarnation=own.incarnation,
            num_workers=num_workers,
        )

    def _die(self, move: Move, own: "_Worker") -> Event:
        own.is_alive, own.message = False, None
        return self._by_center(
            events.DEATH,
            move.time,
            worker=own.number,
            incarnation=own.incarnation,
            num_workers=move.num_workers,
        )

    def _exchange(self, move: Move, own: "_Worker", outcome: str) -> Event:
        load, fields = self._workload, dict[str, Any]()
        settled = move.version
        own.read = move.version - move.staleness
        own.num_workers = move.num_workers
        if outcome == events.APPLIED:
            settled += 1
            fields["bytes"] = load.bytes_up + load.bytes_down
            fields["seconds"] = move.time - own.read_at
            if move.kind == moves.VISITING_STEP:
                fields["seconds"] = 0.0  # It was read at once.
            if self._rates is not None:
                fields["rates"] = self._rates(move)
        return self._by_center(
            events.EXCHANGE,
            move.time,
            worker=own.number,
            **own.message_fields,
            version_read=own.read,
            version_applied=move.version,
            version_settled=settled,
            num_workers=move.num_workers,
            outcome=outcome,
            call=self._call,
            **fields,
        )

    @property
    def _call(self) -> str:
        if self._workload.protocol == "synchronous":
            return events.DEPOSIT
        if self._workload.takes_steps:
            return events.PUSH
        if not self._workload.rule.answers_difference:
            return events.TAKE
        return events.EXCHANGE if self._is_overlapped else events.PUSH

    def _round(self, move: Move) -> Event:
        for own in self._here:
            own.settled = move.version + 1
        self._here.clear()
        return self._by_center(
            events.ROUND,
            move.time,
            version_applied=move.version,
            num_workers=move.num_workers,
            amount=move.count,
        )

    # By workers.

    def _by_worker(
        self, kind: str, time: float, own: "_Worker", **fields: Any
    ) -> Event:
        teller = f"worker {own.number}"
        return Event(kind, time, teller, worker=own.number, **fields)

    def _start(
        self, time: float, own: "_Worker", clock: int, version: int
    ) -> Event:
        own.settled, own.read_at, own.calls = version, time, clock
        return self._by_worker(
            events.START,
            time,
            own,
            incarnation=own.incarnation,
            step_applied=clock // self._calls_a_step,
            version_read=version,
            settings=self._settings,
        )

    def _answer(self, move: Move, own: "_Worker") -> Event:
        return self._by_worker(
            events.ANSWER,
            move.time,
            own,
            **own.message_fields,
            version_read=own.read,
            version_settled=own.settled,
            num_workers=own.num_workers,
            seconds=move.time - own.made_at,
            amount=1,
            outcome=events.APPLIED,
        )

    def _settle(self, move: Move, own: "_Worker") -> list[Event]:
        told = []
        if self._workload.takes_steps:  # Nothing is answered.
            own.message = None
            return self._wait(move, own)
        if own.is_late:
            told.append(self._late_message(move, own))
        elif not self._is_overlapped:
            told.append(self._answer(move, own))
        told += self._wait(move, own)
        told.append(
            self._by_worker(
                events.SETTLE,
                move.time,
                own,
                **own.message_fields,
                step_applied=move.clock // self._calls_a_step,
                version_settled=own.settled,
                num_workers=move.num_workers,
            )
        )
        own.message, own.is_late = None, False
        return told

    def _restart(self, move: Move, own: "_Worker") -> list[Event]:
        if own.is_late:
            told = [self._late_message(move, own)]
        else:
            told = [self._by_worker(events.RESTART, move.time, own)]
        told += self._wait(move, own)
        own.message, own.is_late = None, False
        return [*told, self._start(move.time, own, move.clock, move.version)]

    def _late_message(self, move: Move, own: "_Worker") -> Event:
        return self._by_worker(
            events.EXCHANGE,
            move.time,
            own,
            **own.message_fields,
            num_workers=own.num_workers,
            outcome=events.LATE,
        )

    def _wait(self, move: Move, own: "_Worker") -> list[Event]:
        seconds = move.time - own.waits_since
        if seconds <= 0:
            return []
        return [self._by_worker(events.WAIT, move.time, own, seconds=seconds)]


class _Worker:
    """One worker, so far."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.is_alive = False
        self.incarnation = 0
        self.calls = 0  # of its optimizer
        self.sequence = 0  # of messages, in this life
        # (sequence, local steps) of the one that is on its way, or answered.
        self.message: tuple[int, int] | None = None
        self.made_at = 0.0
        self.is_late = False  # the message
        self.waits_since = 0.0  # if it waits
        self.read_at = 0.0  # when it was last given something
        self.read = 0  # the version that the message was made with
        self.num_workers = 1  # p, as it came
        self.settled = 0  # the version of the newest answer

    @property
    def message_fields(self) -> dict[str, int]:
        """Which message it is."""
        sequence, step = self.message or (0, 0)
        return {
            "incarnation": self.incarnation,
            "sequence": sequence,
            "step_sent": step,
        }

    def begin(self) -> None:
        """A life begins."""
        self.is_alive, self.is_late, self.message = True, False, None
        self.incarnation += 1
        self.sequence = 0

    def make(self, time: float, step: int) -> None:
        """Makes a message."""
        self.sequence += 1
        self.message, self.made_at = (self.sequence, step), time


_MOVES = (moves.VISIT, moves.VISITING_STEP, moves.APPLY, moves.ARRIVE)
_MAKES = (moves.MAKE, moves.TURN_OVER, moves.VISIT, moves.VISITING_STEP)
_WAITS = (*_MAKES, moves.ASK)
_SETTLES = (
    *(moves.VISIT, moves.VISITING_STEP),
    *(moves.SETTLING_STEP, moves.SETTLE),
)
