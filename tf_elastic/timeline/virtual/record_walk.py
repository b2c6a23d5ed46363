"""The moves of one worker of a real cluster, in its own order."""

import collections
from collections.abc import Iterator
from typing import NamedTuple

from tf_elastic.core import rules
from tf_elastic.timeline import event as events
from tf_elastic.timeline.virtual import moves
from tf_elastic.timeline.virtual.record import Line
from tf_elastic.timeline.virtual.record import Message
from tf_elastic.timeline.virtual.record import Ways
from tf_elastic.timeline.virtual.record import WorkerRecord

# Of what looks at the center at some version, and of what moves it there.
LOOKS, MOVES = 0, 1


class Stop(NamedTuple):
    """A move, and where in the center's history it is."""

    move: moves.Move  # its `version` is to be filled in
    # (version, LOOKS or MOVES); None for what does not touch the center.
    place: tuple[int, int] | None = None
    line: Line | None = None  # that tells of it


class Walk:
    """One worker's way through a log.

    Args:
        worker: which.
        own: what is told of it.
        ways: what its exchanges are like.
    """

    def __init__(self, worker: int, own: WorkerRecord, ways: Ways) -> None:
        self._worker = worker
        self._own = own
        self._ways = ways
        self._calls = 0  # of its optimizer, so far
        self._time = 0.0  # at which the last of them was over
        self._num_workers = 1
        self._ended_at: int | None = None  # local steps
        self._is_first = True  # life
        self._again = False  # it begins again, and is the same process
        self._life = 0
        self._unsent = collections.deque(
            own.messages[number] for number in sorted(own.messages)
        )
        for message in self._unsent:
            message.is_made = message.is_sent = False

    def stops(self) -> Iterator[Stop]:
        """Its moves, in order."""
        told = self._own.told
        if self._unsent:
            first = self._unsent[0]
            self._num_workers = (first.arrived or first.first).num_workers
        for k, line in enumerate(told):
            kind = line.event.kind
            if kind == events.START:
                after = told[k + 1 :]
                if after and after[0].event.kind == events.START:
                    continue  # It has looked again before its first step.
                yield from self._start(line)
            elif kind == events.SETTLE:
                number = line.number("incarnation"), line.number("sequence")
                message = self._own.messages[number]
                yield from self._send_until(message)
                yield from self._settle(message, line)
                self._again = False
            elif kind == events.END:
                yield from self._end(line)
            else:  # A RESTART, or one that is late.
                self._again = True
        while self._unsent:
            yield from self._send(self._unsent.popleft())
        died = self._own.deaths.get(self._life)
        if died is not None:
            yield self._stop(moves.DIE, died.event.time)

    # What its training tells.

    def _start(self, line: Line) -> Iterator[Stop]:
        step, read = line.number("step_applied"), line.number("version_read")
        life, again = line.number("incarnation"), self._again
        while self._unsent and self._is_over(self._unsent[0], life, again):
            yield from self._send(self._unsent.popleft())
        if again and not self._is_first:
            before = self._ways.comes_before and step != self._ended_at
            yield from self._steps(
                self._calls_at(step, before), line.event.time
            )
        if not again and not self._is_first:
            died = self._own.deaths.get(self._life, line)
            yield self._stop(moves.DIE, died.event.time)
        self._life, self._again = life, False
        self._time = line.event.time
        if not again:
            self._calls = self._calls_at(step)
        kind = moves.RESTART if again else moves.JOIN
        if not (self._is_first and read == 0):  # It is there already.
            yield self._stop(kind, line.event.time, (read, LOOKS), line)
        self._is_first = False

    def _is_over(self, message: Message, life: int, again: bool) -> bool:
        """Whether a message left before a worker began, or began again."""
        return message.number[0] < life or (again and message.is_late)

    def _end(self, line: Line) -> Iterator[Stop]:
        step = line.number("step_applied")
        while self._unsent and self._unsent[0].step < step:
            yield from self._send(self._unsent.popleft())
        yield from self._steps(self._calls_at(step), line.event.time)
        self._ended_at = step

    # Messages.

    def _send_until(self, message: Message) -> Iterator[Stop]:
        while not message.is_sent:
            yield from self._send(self._unsent.popleft())

    def _send(self, message: Message) -> Iterator[Stop]:
        message.is_sent = True
        before = self._comes_before(message)
        until = self._calls_at(message.step, before)
        yield from self._steps(until, message.left_at, before)
        told = message.arrived or message.first
        self._num_workers = told.num_workers
        if not message.is_made and self._leaves(message):
            message.is_made = True
            yield self._stop(moves.MAKE, message.left_at)
        if message.is_made:
            yield from self._arrive(message)

    def _comes_before(self, message: Message) -> bool:
        return self._ways.comes_before and message.step != self._ended_at

    def _leaves(self, message: Message) -> bool:
        """Whether it has left, or is with the next."""
        if not message.is_missed or self._ways.rule.sends == rules.GRADIENT:
            return True
        if message.arrived is None:
            return False
        if self._ways.rule.sends == rules.INCREMENT:
            message.arrived.refuse(
                "what it brings was answered for the second time only, or not "
                "at all, and its worker could not know"
            )
        return True

    def _arrive(self, message: Message) -> Iterator[Stop]:
        """What the center does with it."""
        line = message.arrived
        if line is None or message.is_late or message.is_refused:
            if line is not None or message.is_late or message.is_missed:
                yield self._stop(moves.DROP, (line or message.first).event.time)
            if message.is_late and not self._ways.rule.answers_difference:
                yield from self._answer(message)
            return
        event = line.event
        at = line.number("version_applied")
        stale = event.staleness or 0
        if event.call == events.DEPOSIT:
            yield self._stop(moves.ADD, event.time, (at, LOOKS), line)
            if not self._ways.rule.answers_difference:
                yield from self._answer(message)
        elif event.call == events.PUSH:
            if not self._ways.rule.answers_difference:
                line.refuse("it has come for the second time")
            read_at = event.time - (event.seconds or 0.0)
            read = line.number("version_read"), LOOKS
            yield self._stop(moves.READ, read_at, read, line)
            yield self._stop(moves.APPLY, event.time, (at, MOVES), line, stale)
        else:
            yield self._stop(moves.ARRIVE, event.time, (at, MOVES), line, stale)

    def _answer(self, message: Message) -> Iterator[Stop]:
        line = message.settled
        if line is not None:
            place = line.number("version_settled"), LOOKS
            yield self._stop(moves.ANSWER, line.event.time, place, line)

    def _settle(self, message: Message, line: Line) -> Iterator[Stop]:
        event = line.event
        if not message.is_made:
            return
        if message.is_missed:
            if message.arrived is not None:
                yield self._stop(moves.DROP, event.time)
            return
        if self._comes_before(message):
            yield self._stop(moves.SETTLING_STEP, event.time)
            self._calls += 1
            self._time = event.time
            return
        step = line.number("step_applied")
        yield from self._steps(self._calls_at(step), event.time - line.wait_s)
        self._time = event.time
        follower = self._unsent[0] if self._unsent else None
        if (
            follower is not None
            and self._ways.turns_over
            and follower.step == step
            and self._leaves(follower)
        ):
            follower.is_made = True
            yield self._stop(moves.TURN_OVER, event.time)
        else:
            yield self._stop(moves.SETTLE, event.time)

    # Pieces.

    def _calls_at(self, step: int, before: bool = False) -> int:
        """The calls of the optimizer after so many local steps.

        Args:
            step: their number.
            before: as of an exchange before the next one's last call.
        """
        every = self._ways.every
        return step * every + (every - 1 if before else 0)

    def _steps(
        self, until: int, time: float, and_gradient: bool = False
    ) -> Iterator[Stop]:
        """Its steps, equally long.

        Args:
            until: so many calls.
            time: at which they were over.
            and_gradient: whether the next one's gradient was, too.
        """
        count = until - self._calls
        if count <= 0:
            return
        length = (time - self._time) / (count + and_gradient)
        begin = self._time
        for k in range(1, count + 1):
            yield self._stop(moves.STEP, begin + k * length)
            self._calls += 1
        self._time = begin + count * length

    def _stop(
        self,
        kind: int,
        time: float,
        place: tuple[int, int] | None = None,
        line: Line | None = None,
        staleness: int = 0,
    ) -> Stop:
        move = moves.Move(
            time,
            kind,
            self._worker,
            self._calls,
            staleness=staleness,
            num_workers=self._num_workers,
        )
        return Stop(move, place, line)
