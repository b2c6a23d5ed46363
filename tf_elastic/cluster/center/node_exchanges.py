"""How workers read and move what one center server holds.

Whatever thread calls, one call at a time changes anything, so that each
exchange is atomic on each server.
"""

from typing import Any

import numpy as np
from absl import logging

from tf_elastic.cluster import errors
from tf_elastic.cluster import layout as layouts
from tf_elastic.cluster.center.arrivals import arrival
from tf_elastic.cluster.center.arrivals import note
from tf_elastic.cluster.center.center_state import Arrays
from tf_elastic.cluster.center.node_parts import News
from tf_elastic.cluster.center.node_parts import NodeParts
from tf_elastic.cluster.center.registration import PushId
from tf_elastic.cluster.center.staleness_log import StalenessLog
from tf_elastic.cluster.center.total_momentum import TotalMomentum
from tf_elastic.cluster.transport import codec as codecs
from tf_elastic.cluster.transport.reference_codec import Reference
from tf_elastic.cluster.transport.reference_codec import begun
from tf_elastic.core import lateness
from tf_elastic.core import rules
from tf_elastic.core.rules import Context
from tf_elastic.core.rules import Rates
from tf_elastic.timeline import event as happened


class NodeExchanges:
    """The exchanges of all workers with one center server.

    Calls of a worker that has no slot (any more) raise `UnknownWorkerError`,
    `ReplacedError` or `LostSlotError`. A push that was not applied raises
    `DuplicatePushError`, `NonFiniteError`, `CenterEmptyError`, or
    `MessageError` if the center's rule cannot take it or its rates.

    Args:
        parts: of the server.
    """

    def __init__(self, parts: NodeParts) -> None:
        # By worker, what its compressed points are relative to.
        self.references: dict[int, list[Reference]] = {}
        self.staleness = StalenessLog()
        parts.events.listen(self.staleness)
        # Of a center with momentum whose workers push gradients.
        self.total_momentum: TotalMomentum | None = None
        self._parts = parts
        self._state = parts.state
        self._registry = parts.registry
        self._rounds = parts.rounds

    def begin(self) -> None:
        """Takes notice of another model, or a restored one."""
        layout = self._state.layout
        self.total_momentum = None
        # A gradient is taken at what the rule answers.
        if layout is not None and isinstance(layout.rule, rules.HeavyBall):
            self.total_momentum = TotalMomentum(layout, self._state.index)

    def forget(self, worker: int) -> None:
        """Forgets what a worker has sent, and was sent."""
        self.references.pop(worker, None)
        self._state.sent.forget(worker)
        if self.total_momentum:
            self.total_momentum.forget(worker)

    def read(
        self,
        worker: int | None = None,
        incarnation: int = 0,
        out: Arrays | None = None,
    ) -> tuple[News, Arrays]:
        """A copy of the center; by a worker, or by somebody who only looks.

        Args:
            worker: who reads; None for one who only looks.
            incarnation: of the worker.
            out: what a worker's answer may be put in.
        """
        with self._parts.changed:
            self._state.check_begun()
            if worker is None:
                return self._parts.news(), self._state.shown()
            member = self._registry.admit(worker, incarnation)
            member.read_time = self._parts.now()
            return self._parts.news(member), self._points(worker, out)

    def take(
        self, push_id: PushId, messages: Arrays, rates: Rates
    ) -> tuple[News, Arrays]:
        """Does with one worker's message what the center's rule says.

        Args:
            push_id: who pushes what.
            messages: the worker's; of statistics, its values. Overwritten.
            rates: of the push.

        Returns:
            News, and the point that the worker is to go on from.
        """
        worker, read, state = push_id.worker, push_id.version_read, self._state
        with arrival(self._parts, happened.TAKE, push_id, rates) as member:
            self._refuse_late(push_id)
            state.check_finite(messages, worker)
            staleness = float(max(state.version - read, 1))
            context = Context(float(state.version), staleness)
            deltas = state.put_deltas(messages)
            sent = state.sent.at(worker, read)
            state.apply(
                deltas, rates, context, sent=sent, at_rest=push_id.at_rest
            )
            moved = [*messages, *messages]
            news = self._applied(happened.TAKE, push_id, rates, moved)
            member.read_time = self._parts.now()
            if self.total_momentum:
                now = state.rule.rates_at(rates, context)
                self.total_momentum.take(
                    worker, read, state.version, state.values, deltas, now
                )
            return news, self._points(worker, messages)

    def push(self, push_id: PushId, deltas: Arrays, rates: Rates) -> News:
        """Moves the center by one worker's deltas: Algorithm 1, step b)."""
        with arrival(self._parts, happened.PUSH, push_id, rates):
            self._state.apply(
                deltas, rates, None, push_id.worker, at_rest=push_id.at_rest
            )
            return self._applied(happened.PUSH, push_id, rates, deltas)

    def exchange(
        self,
        push_id: PushId,
        values: Arrays,
        rates: Rates,
        codec: str = "none",
        whole: bool = True,
        out: Arrays | None = None,
    ) -> tuple[News, list[Any]]:
        """Takes a worker's parameters, moves the center, answers.

        Args:
            push_id: who pushes what.
            values: the worker's points, or, compressed, what has changed.
            rates: of the push.
            codec: how `values` and the answer are compressed.
            whole: whether `values` are whole, although a codec is used.
            out: what an answer that is not compressed is put in; None to
                overwrite `values`.

        Returns:
            News, and the deltas by which the center has moved (times the
            rate), encoded: the worker is to move by the same.
        """
        worker, came = push_id.worker, values
        with arrival(self._parts, happened.EXCHANGE, push_id, rates) as member:
            self._refuse_late(push_id)
            if codec == "none":
                answer = values if out is None else out
                squares = self._state.exchange(values, rates, worker, answer)
            else:
                if not whole:
                    values = self._received(worker, values)
                answer = self._deltas(values, codec, worker)
                if whole:
                    self.references[worker] = begun(codec, values)
                squares = self._follow(answer, codec, rates)
            moved = [*came, *answer]
            news = self._applied(happened.EXCHANGE, push_id, rates, moved)
            member.read_time = self._parts.now()
            return {**news, "squares": squares}, answer

    def _received(self, worker: int, messages: Arrays) -> Arrays:
        """A worker's points, of compressed messages; to read only."""
        if worker not in self.references:
            raise errors.LostReferenceError(
                f"this center has not what worker {worker}'s compressed "
                "parameters are relative to"
            )
        pairs = zip(self.references[worker], messages, strict=True)
        return [reference.receive(message) for reference, message in pairs]

    def _deltas(self, points: Arrays, codec: str, worker: int) -> list[Any]:
        """A worker's deltas to the center, encoded."""
        # The points are read-only.
        room = [np.empty_like(point) for point in points]
        deltas = self._state.put_deltas(points, room)
        self._state.check_finite(deltas, worker)
        return [codecs.encode(codec, moved) for moved in deltas]

    def _follow(self, encoded: list[Any], codec: str, rates: Rates) -> float:
        """Moves the center by what a worker will decode."""
        deltas = [
            codecs.decode(codec, moved, dtype, center.size)
            for moved, dtype, center in zip(
                encoded, self._state.dtypes, self._state.values, strict=True
            )
        ]
        squares: float = self._state.apply(deltas, rates)
        return squares

    def _points(self, worker: int, room: Arrays | None = None) -> Arrays:
        """What a worker goes on from, in new arrays or in `room`."""
        points = self._state.points(worker, room)
        if self.total_momentum:
            values = self._state.values
            self.total_momentum.give(worker, self._state.version, values)
        return points

    # Synchronous exchanges.

    def deposit(
        self, push_id: PushId, values: Arrays, rates: Rates
    ) -> tuple[News, Arrays]:
        """Takes one worker's part of a synchronous exchange: eq. 2.4.

        The center moves when all present workers have come.

        Args:
            push_id: who pushes what.
            values: what the rule says that workers send. Overwritten.
            rates: of the push.

        Returns:
            News, in which "entered" is the round taken part in, and the
            differences to the center as it is in this round. By a rule that
            answers points: these, if the round has ended by this part, else
            nothing.
        """
        call = happened.DEPOSIT
        with arrival(self._parts, call, push_id, rates) as member:
            answers = self._state.rule.answers_difference
            if answers:
                self._refuse_late(push_id)
            deltas = self._state.put_deltas(values)
            self._state.check_finite(deltas, push_id.worker)
            late = not answers and push_id.round not in (
                None,
                self._rounds.round,
            )
            at_rest = layouts.members_of(push_id.at_rest)
            if late:  # It has not begun from the last round's answer.
                self._rounds.attend(push_id.worker)
            else:
                self._rounds.add(
                    push_id.worker, deltas, rates, not answers, at_rest
                )
            outcome = happened.LATE if late else happened.APPLIED
            moved = [*deltas, *deltas]
            note(self._parts, call, push_id, rates, moved, outcome)
            member.read_time = self._parts.now()
            entered = self._rounds.round
            self.end_round_if_complete()
            news = {
                **self._parts.news(member),
                "entered": entered,
                "pushes": member.pushes,
                "late": late,
            }
            if not answers and entered != self._rounds.round:
                return news, self._points(push_id.worker, values)
            return news, deltas if answers else []

    def ended(
        self, worker: int, incarnation: int, entered: int, wait_s: float
    ) -> tuple[News, Arrays]:
        """Waits as `release`, and gives points if the rule answers these.

        Args:
            worker: who waits.
            incarnation: of it.
            entered: what `deposit` gave.
            wait_s: seconds.

        Returns:
            As `release`; and the points to go on from, if there are any and
            the round has ended.
        """
        with self._parts.changed:
            news = self.release(worker, incarnation, entered, wait_s, False)
            if news["round"] == entered or self._state.rule.answers_difference:
                return news, []
            read, points = self.read(worker, incarnation)
            return {**news, **read}, points

    def release(
        self,
        worker: int,
        incarnation: int,
        round_: int,
        wait_s: float,
        force: bool,
    ) -> News:
        """Waits for a round's end, for `wait_s` at most.

        Args:
            worker: who waits.
            incarnation: of it.
            round_: that it has `entered`.
            wait_s: seconds.
            force: end the round now, with those who have come.

        Returns:
            News, and "missing": the workers that have not come.

        Raises:
            UnknownWorkerError: the worker's part is not here (any more).
        """
        with self._parts.changed:
            member = self._registry.admit(worker, incarnation)
            self._rounds.check_known(worker, round_)
            if force and self._rounds.round == round_:
                self._registry.expected = 0  # Nobody waits for more.
                self._end_round()
            missing = []
            with self._rounds.waits(worker):
                if not self._parts.changed.wait_for(
                    lambda: self._rounds.round != round_, wait_s
                ):
                    missing = self._rounds.missing(self._registry.present)
            return {**self._parts.news(member), "missing": missing}

    def end_round_if_complete(self) -> None:
        """Ends the round if all are here that are waited for."""
        registry = self._registry
        if self._rounds.is_complete(registry.present, registry.awaited):
            self._end_round()

    def _end_round(self) -> None:
        context = Context(float(self._state.version))
        rule, present = self._state.rule, 0
        for rates, came, deltas, resting in self._rounds.end():
            present += came
            if not rule.answers_difference and rule.sends == rules.POINT:
                # The mean of those who have come.
                rates = {**rates, "num_workers": came}
            try:
                self._state.apply(
                    deltas,
                    rates,
                    context._replace(count=came),
                    at_rest=layouts.runs_of(list(resting)),
                )
            except errors.NonFiniteError as error:
                # Nobody's call alone: the round ends without it.
                logging.error("%s.", error)
        self._parts.events.tell(
            happened.ROUND,
            version_applied=self._state.version,
            num_workers=self._registry.num_workers,
            amount=present,
        )
        self._state.version += 1
        self._parts.changed.notify_all()

    # Pieces.

    def _refuse_late(self, push_id: PushId) -> None:
        """The worker looks before; this is for what happens meanwhile."""
        versions = self._state.version - push_id.version_read
        bound = None if push_id.max_lag is None else 2 * push_id.max_lag
        if lateness.is_late(versions, self._registry.num_workers, bound):
            self._registry.refuse_push(push_id)
            raise errors.LatePushError(
                f"worker {push_id.worker} has read center "
                f"{self._state.index} {versions} updates ago"
            )

    def _applied(
        self, call: str, push_id: PushId, rates: Rates, moved: Arrays
    ) -> News:
        member = note(self._parts, call, push_id, rates, moved)
        self._state.version += 1
        newest = self.staleness.newest
        return {
            **self._parts.news(member),
            "pushes": member.pushes,
            "staleness": newest.versions,
            "age_ms": newest.age_ms,
        }
