"""The part of the center that one server holds.

No network here: whatever thread calls, one call at a time changes anything, so
that each exchange is atomic on each shard. The rules are `core`'s.
"""

import collections
import functools
import threading
import time
from collections.abc import Callable
from collections.abc import Hashable
from collections.abc import Sequence
from typing import Any
from typing import NamedTuple

import numpy as np
from absl import logging

from tf_elastic.cluster import bootstrap_election
from tf_elastic.cluster import codec as codecs
from tf_elastic.cluster import errors
from tf_elastic.cluster import ledger
from tf_elastic.cluster import meeting
from tf_elastic.cluster.center_state import Arrays
from tf_elastic.cluster.center_state import CenterState
from tf_elastic.cluster.instruction import Instruction
from tf_elastic.cluster.layout import Layout
from tf_elastic.cluster.layout import difference
from tf_elastic.cluster.layout import other_release
from tf_elastic.cluster.total_momentum import TotalMomentum
from tf_elastic.core import lateness
from tf_elastic.core import rules
from tf_elastic.core.rules import Context

_STALENESS_KEPT = 4096
# Calls to `release` of one worker. The one before may not know yet that nobody
# listens to it any more.
_MOST_WAITS = 4

# By name, the numbers of a push; see `core.rules`.
Rates = dict[str, Any]


class PushId(NamedTuple):
    """What every push carries."""

    worker: int
    incarnation: int
    sequence: int  # from 1, grows within an incarnation
    version_read: int  # the center's version that the worker knew
    clock: int = 0  # the worker's local steps
    samples: int = 0  # that the worker has trained on
    # What is further behind, twice, is refused; see `core.lateness`.
    max_lag: float | None = None
    # The round that the worker takes part in, if it is on time.
    round: int | None = None


class Shard:
    """Parameters, versions and members of one center server.

    Args:
        index: of this server among the center servers.
        num_shards: how many of them there are.
        lease_s: after how many silent seconds a worker loses its slot.
        grace_s: how many seconds of offers are compared if this server
            holds no parameters.
        now: a clock, in seconds.
        max_workers: that may ever join.
    """

    def __init__(
        self,
        index: int = 0,
        num_shards: int = 1,
        lease_s: float = 15.0,
        grace_s: float = 1.0,
        now: Callable[[], float] = time.monotonic,
        max_workers: int = ledger.MAX_WORKERS,
    ) -> None:
        self.index = index
        self.center = CenterState(index)
        # Of a center with momentum whose workers push gradients.
        self._total_momentum: TotalMomentum | None = None
        self.empty_twin = functools.partial(
            Shard, index, num_shards, lease_s, grace_s, now, max_workers
        )
        self.num_shards = num_shards
        self.ledger = ledger.Ledger(lease_s, now, max_workers)
        self.offers = bootstrap_election.BootstrapElection(grace_s, now)
        self.applied = 0  # pushes, by this process
        self._now = now
        self._changed = threading.Condition()
        self._references: dict[int, list[Any]] = {}
        self._meeting = meeting.Meeting()
        self._rates_of_round: dict[Hashable, Rates] = {}
        self._waiting: collections.Counter[int] = collections.Counter()
        self._refusals = 0  # of processes that did not fit
        self._last_refusal = ""
        self._staleness: collections.deque = collections.deque(
            maxlen=_STALENESS_KEPT
        )

    @property
    def version(self) -> int:
        """Pushes (synchronous: rounds) that the center has seen."""
        return self.center.version

    @property
    def arrays(self) -> Arrays | None:
        """The center, one array for each section; None if there is none."""
        return self.center.arrays

    @property
    def layout(self) -> Layout | None:
        """Of the model; None if none is known."""
        return self.center.layout

    # Who is there.

    def hello(self, worker: int | None) -> dict[str, Any]:
        """What a process needs to know before it joins."""
        with self._changed:
            member = self.ledger.members.get(worker)
            return {
                **self._news(),
                "description": self.center.description,
                "last_incarnation": member.incarnation if member else 0,
                "pushes": member.pushes if member else 0,
                "clock": member.clock if member else 0,
                "present": bool(member and member.present),
            }

    def join(
        self,
        worker: int,
        incarnation: int,
        expected: int,
        description: dict[str, Any],
        process: str,
        previous: int = 0,
    ) -> dict[str, Any]:
        """Gives a worker a slot; see `Ledger.join`.

        Raises:
            CenterRefusedError: its model is not the center's.
            ReplacedError: a newer process of this worker was here.
        """
        with self._changed:
            self._check(worker, description)
            self.ledger.join(
                worker, incarnation, expected, process, previous
            )
            self._references.pop(worker, None)
            self._forget_points(worker)
            self._meeting.leave(worker)
            return self._news()

    def leave(
        self, worker: int, incarnation: int, finished: bool = False
    ) -> dict[str, Any]:
        """Takes a worker's slot back."""
        with self._changed:
            self.ledger.leave(worker, incarnation, finished)
            self._forget([worker])
            return self._news()

    def heartbeat(
        self,
        worker: int,
        incarnation: int,
        clock: int,
        samples: int,
        notes: dict[str, Any],
    ) -> dict[str, Any]:
        """Hears of a worker."""
        with self._changed:
            member = self.ledger.admit(worker, incarnation)
            member.hear(clock, samples)
            member.notes = notes
            return self._news(member)

    def instruct(
        self, worker: int, incarnation: int, **instruction: Any
    ) -> dict[str, Any]:
        """Passes on what the chief tells all workers.

        Args:
            worker: who tells it.
            incarnation: of it.
            **instruction: the fields of `Instruction`.

        Raises:
            MessageError: it is not the chief.
        """
        told = Instruction(**instruction)
        with self._changed:
            self.ledger.admit(worker, incarnation)
            if worker != 0:
                raise errors.MessageError(
                    "Only the chief, worker 0, instructs the others. "
                    f"Received: worker={worker}."
                )
            if told.number > self.ledger.instruction.number:
                self.ledger.instruction = told
            return self._news()

    def tick(self) -> None:
        """Looks after leases; to be called every second or so."""
        with self._changed:
            self._forget(self.ledger.tick())

    def _forget(self, workers: Sequence[int]) -> None:
        for worker in workers:
            self._references.pop(worker, None)
            self._forget_points(worker)
            self.offers.withdraw(worker)
        self._end_round_if_complete()

    def _check(self, worker: int, description: dict[str, Any]) -> None:
        try:
            self._compare(worker, description)
        except errors.CenterRefusedError as error:
            self._refusals += 1
            self._last_refusal = str(error)
            logging.warning("%s", error)
            raise

    def _compare(self, worker: int, description: dict[str, Any]) -> None:
        where = f"Center {self.index} cannot take worker {worker}: "
        if description.get("num_shards") != self.num_shards:
            raise errors.CenterRefusedError(
                f"{where}it is one of {self.num_shards} center servers. "
                f"Received: num_shards={description.get('num_shards')!r:.80}. "
                "Give all processes the same cluster."
            )
        unlike = other_release(description)
        if unlike is None:
            Layout.from_description(description)  # Or it is none.
            others = set(self.ledger.present) - {worker}
            known = self.center.description
            if known is None or (self.arrays is None and not others):
                # Of one that was told before, nobody is here any more.
                self.center.describe(description)
                self._total_momentum = self._meter()
            unlike = difference(self.center.description, description)
        if unlike:
            raise errors.CenterRefusedError(
                f"{where}{unlike}. Start all processes with the same script "
                "and release, or this center with an empty snapshot folder."
            )

    def _meter(self) -> TotalMomentum | None:
        return TotalMomentum.of(self.center.rule, self.layout, self.index)

    def _forget_points(self, worker: int) -> None:
        """Forgets what a worker was sent."""
        self.center.forget(worker)
        if self._total_momentum:
            self._total_momentum.forget(worker)

    def _points(self, worker: int, room: Arrays | None = None) -> Arrays:
        """What a worker goes on from, in new arrays or in `room`."""
        points = self.center.points(worker, room)
        if self._total_momentum:
            self._total_momentum.give(worker, self.version, self.arrays)
        return points

    def _news(self, member: ledger.Member | None = None) -> dict[str, Any]:
        """What every answer tells, and of the samples the asker's own."""
        own = {} if member is None else {"own_samples": member.samples}
        return {
            **own,
            "shard": self.index,
            "num_shards": self.num_shards,
            "version": self.version,
            "ready": self.arrays is not None,
            "num_workers": self.ledger.num_workers,
            "total_samples": self.ledger.total_samples,
            "round": self._meeting.round,
            "instruction": self.ledger.instruction._asdict(),
            "refusals": self._refusals,
            "last_refusal": self._last_refusal,
        }

    # First values.

    def offer(
        self, worker: int, incarnation: int, version_seen: int, is_chief: bool
    ) -> dict[str, Any]:
        """A worker offers its parameters to a center that has none.

        Returns:
            What `hello` says, and "upload": whether to send them now.
        """
        with self._changed:
            self.ledger.admit(worker, incarnation)
            upload = self.arrays is None and self.offers.make(
                worker, version_seen, is_chief
            )
            return {**self._news(), "upload": upload}

    def initialize(
        self, worker: int, incarnation: int, version: int, values: Arrays
    ) -> dict[str, Any]:
        """Takes the parameters of the worker whose offer was accepted."""
        with self._changed:
            self.ledger.admit(worker, incarnation)
            if self.arrays is None and self.offers.accepted == worker:
                self.center.check_finite(values, worker)
                self.center.begin(values)
                self.center.version = max(version, 0)
                logging.info(
                    "center %d begins with the parameters of worker %d, "
                    "version %d.",
                    self.index,
                    worker,
                    self.version,
                )
                self._changed.notify_all()
            return self._news()

    # Reading and moving the center.

    def read(
        self,
        worker: int | None = None,
        incarnation: int = 0,
        out: Arrays | None = None,
    ) -> tuple[dict[str, Any], Arrays]:
        """A copy of the center; by a worker, or by somebody who only looks.

        Args:
            worker: who reads; None for one who only looks.
            incarnation: of the worker.
            out: what a worker's answer may be put in.

        Raises:
            CenterEmptyError: there is nothing to read.
            LostSlotError: the worker has no slot.
        """
        with self._changed:
            self._need_arrays()
            if worker is None:
                return self._news(), self.center.shown()
            member = self.ledger.admit(worker, incarnation)
            self._note_read(member)
            return self._news(member), self._points(worker, out)

    def take(
        self, push_id: PushId, messages: Arrays, rates: Rates
    ) -> tuple[dict[str, Any], Arrays]:
        """Does with one worker's message what the center's rule says.

        Args:
            push_id: who pushes what.
            messages: the worker's; of statistics, its values. Overwritten.
            rates: of the push.

        Returns:
            News, and the point that the worker is to go on from.

        Raises:
            LostSlotError, DuplicatePushError, NonFiniteError,
            CenterEmptyError: nothing was applied.
            MessageError: the rule is another one, or cannot take `rates`.
        """
        with self._changed:
            member = self._admit(push_id, rates)
            self.center.check_finite(messages, push_id.worker)
            self._need_rule(answers_difference=False)
            self._refuse_late(push_id, member)
            context = Context(
                float(self.version),
                float(max(self.version - push_id.version_read, 1)),
            )
            deltas = self.center.put_deltas(messages)
            sent = self.center.sent_to(push_id.worker, push_id.version_read)
            now = self.center.apply(deltas, rates, context, sent=sent)
            news = self._applied(push_id, member)
            self._note_read(member)
            if self._total_momentum:
                self._total_momentum.take(
                    push_id.worker,
                    push_id.version_read,
                    self.version,
                    self.arrays,
                    deltas,
                    now,
                )
            return news, self._points(push_id.worker, messages)

    def push(
        self, push_id: PushId, deltas: Arrays, rates: Rates
    ) -> dict[str, Any]:
        """Moves the center by one worker's deltas: Algorithm 1, step b).

        Raises:
            LostSlotError, DuplicatePushError, NonFiniteError,
            CenterEmptyError: nothing was applied.
        """
        with self._changed:
            member = self._admit(push_id, rates)
            context = Context(float(self.version))
            self.center.apply(deltas, rates, context, push_id.worker)
            return self._applied(push_id, member)

    def exchange(
        self,
        push_id: PushId,
        values: Arrays,
        rates: Rates,
        codec: str = "none",
        whole: bool = True,
        out: Arrays | None = None,
    ) -> tuple[dict[str, Any], list[Any]]:
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
        with self._changed:
            member = self._admit(push_id, rates)
            self._need_rule(answers_difference=True)
            self._refuse_late(push_id, member)
            answer: list[Any]
            if codec == "none":
                answer = values if out is None else out
                squares = self.center.exchange(
                    values, rates, push_id.worker, answer
                )
            else:
                points = self._decoded(push_id.worker, values, codec, whole)
                answer = self._deltas(points, codec, push_id.worker)
                squares = self._follow(answer, codec, rates)
            news = self._applied(push_id, member)
            self._note_read(member)
            return {**news, "squares": squares}, answer

    def _deltas(self, points: Arrays, codec: str, worker: int) -> list[Any]:
        """A worker's deltas to the center, encoded."""
        # The points are read-only.
        deltas = self.center.put_deltas(
            points, [np.empty_like(point) for point in points]
        )
        self.center.check_finite(deltas, worker)
        return [codecs.encode(codec, moved) for moved in deltas]

    def _follow(self, encoded: list[Any], codec: str, rates: Rates) -> float:
        """Moves the center by what a worker will decode."""
        deltas = [
            codecs.decode(codec, moved, center.dtype, center.size)
            for moved, center in zip(encoded, self.arrays, strict=True)
        ]
        self.center.apply(deltas, rates, Context(float(self.version)))
        return self.center.squares(deltas)

    def _decoded(
        self, worker: int, values: Sequence[Any], codec: str, whole: bool
    ) -> Arrays:
        receivers = self._references.get(worker)
        if whole:
            receivers = []
            for array, value in zip(self.arrays, values, strict=True):
                receiver = codecs.ReferenceReceiver(
                    codec, array.dtype, array.size
                )
                receiver.restart(value)
                receivers.append(receiver)
            self._references[worker] = receivers
            return list(values)
        if receivers is None:
            raise errors.LostReferenceError(
                f"center {self.index} has not what worker {worker}'s "
                "compressed parameters are relative to"
            )
        return [
            receiver.receive(value)
            for receiver, value in zip(receivers, values, strict=True)
        ]

    # Synchronous exchanges.

    def deposit(
        self, push_id: PushId, values: Arrays, rates: Rates
    ) -> tuple[dict[str, Any], Arrays]:
        """Takes one worker's part of a synchronous exchange: eq. 2.4.

        The center moves when all present workers have come.

        Args:
            push_id: who pushes what.
            values: what the rule says that workers send. Overwritten.
            rates: of the push.

        Returns:
            News, in which "round" is the one taken part in, and the
            differences to the center as it is in this round (nothing, if the
            worker is to read the center afterwards).
        """
        with self._changed:
            member = self._admit(push_id, rates)
            if self.center.rule.answers_difference:
                self._refuse_late(push_id, member)
            deltas = self.center.put_deltas(values)
            self.center.check_finite(deltas, push_id.worker)
            # Parts of one kind are added up.
            kind: Hashable = None
            if self.center.rule.answers_difference:
                kind = tuple(sorted(rates.items()))
            late = (
                kind is None
                and push_id.round is not None
                and push_id.round != self._meeting.round
            )
            if late:  # It has not begun from the last round's answer.
                self._meeting.attend(push_id.worker)
            else:
                self._rates_of_round[kind] = rates
                self._meeting.add(push_id.worker, deltas, kind)
            self._note_push(push_id, member)
            self._note_read(member)
            news = {
                **self._news(member), "pushes": member.pushes, "late": late
            }
            self._end_round_if_complete()
            return news, deltas if kind is not None else []

    def release(
        self, worker: int, incarnation: int, round_: int, wait_s: float,
        force: bool,
    ) -> dict[str, Any]:
        """Waits for a round's end, for `wait_s` at most.

        Args:
            worker: who waits.
            incarnation: of it.
            round_: what `deposit` gave.
            wait_s: seconds.
            force: end the round now, with those who have come.

        Returns:
            News, and "missing": the workers that have not come.

        Raises:
            UnknownWorkerError: the worker's part is not here (any more).
        """
        with self._changed:
            member = self.ledger.admit(worker, incarnation)
            if not self._meeting.has_known(worker, round_):
                raise errors.UnknownWorkerError(
                    f"center {self.index} has begun anew, and does not know "
                    f"the part of worker {worker} in exchange {round_}"
                )
            if force and self._meeting.round == round_:
                self.ledger.expect_no_more()
                self._end_round()
            if self._waiting[worker] >= _MOST_WAITS:
                raise errors.MessageError(
                    f"A worker may wait {_MOST_WAITS} times at once. "
                    f"Received: one more of worker {worker}"
                )
            self._waiting[worker] += 1
            try:
                self._changed.wait_for(
                    lambda: self._meeting.round != round_, wait_s
                )
            finally:
                self._waiting[worker] -= 1
            missing = (
                self._meeting.missing(self.ledger.present)
                if self._meeting.round == round_
                else []
            )
            return {**self._news(member), "missing": missing}

    def _end_round_if_complete(self) -> None:
        if self._meeting.is_complete(self.ledger.present, self.ledger.awaited):
            self._end_round()

    def _end_round(self) -> None:
        context = Context(float(self.version))
        for kind, came, summed in self._meeting.end():
            rates = self._rates_of_round[kind]
            if kind is None and self.center.rule.sends == rules.POINT:
                # The mean of those who have come.
                rates = {**rates, "num_workers": came}
            try:
                self.center.apply(
                    summed, rates, context._replace(count=came)
                )
            except errors.NonFiniteError as error:
                # Nobody's call alone: the round ends without it.
                logging.error("%s.", error)
        self._rates_of_round.clear()
        self.center.version += 1
        self._changed.notify_all()

    # Snapshots and status.

    def state(self) -> tuple[dict[str, Any], Arrays] | None:
        """A consistent copy of all that a snapshot keeps; None if empty."""
        with self._changed:
            if self.arrays is None:
                return None
            kept, arrays = self.center.kept()
            return {
                **kept,
                "shard": self.index,
                "num_shards": self.num_shards,
                "round": self._meeting.round,
                "ledger": self.ledger.to_json(),
            }, arrays

    def restore(self, state: dict[str, Any], arrays: Arrays) -> None:
        """Takes over what `state` gave.

        Raises:
            CenterRefusedError: it is another shard's.
        """
        for key, ours in (
            ("shard", self.index),
            ("num_shards", self.num_shards),
        ):
            if state[key] != ours:
                raise errors.CenterRefusedError(
                    f"The snapshot is of another center: {key} is "
                    f"{state[key]} in it. Received: {key}={ours}. Give every "
                    "center server a snapshot folder of its own."
                )
        with self._changed:
            self.center.keep(state, arrays)
            self._total_momentum = self._meter()
            self._meeting.round = state["round"]
            self.ledger.restore(state["ledger"])

    def status(self, staleness_since: int = 0) -> dict[str, Any]:
        """Everything worth watching; JSON.

        Args:
            staleness_since: pushes seen before, whose staleness is left out.
        """
        meter = self._total_momentum
        readings = meter.readings() if meter else []  # Nobody waits for it.
        with self._changed:
            now = self._now()
            return {
                **self._news(),
                "applied": self.applied,
                "members": {
                    str(worker): {
                        **member.to_json(),
                        "refused": member.refused,
                        "silent_s": now - member.last_seen,
                        "notes": member.notes,
                    }
                    for worker, member in self.ledger.members.items()
                },
                "staleness": [
                    entry
                    for entry in self._staleness
                    if entry[0] > staleness_since
                ],
                "total_momentum": readings,
            }

    # Pieces.

    def _need_arrays(self) -> None:
        if self.arrays is None:
            raise errors.CenterEmptyError(
                f"center {self.index} holds no parameters yet"
            )

    def _refuse_late(self, push_id: PushId, member: ledger.Member) -> None:
        """The worker looks before; this is for what happens meanwhile."""
        versions = self.version - push_id.version_read
        bound = None if push_id.max_lag is None else 2 * push_id.max_lag
        if not lateness.is_late(versions, self.ledger.num_workers, bound):
            return
        member.sequence = push_id.sequence
        member.refused += 1
        raise errors.LatePushError(
            f"worker {push_id.worker} has read center {self.index} "
            f"{versions} updates ago"
        )

    def _need_rule(self, answers_difference: bool) -> None:
        rule = self.center.rule
        if rule.answers_difference != answers_difference:
            raise errors.MessageError(
                f"center {self.index} goes by the rule {rule.name!r}, which "
                "has no such exchange"
            )

    def _admit(self, push_id: PushId, rates: Rates) -> ledger.Member:
        self._need_arrays()
        member = self.ledger.admit(push_id.worker, push_id.incarnation)
        if push_id.sequence <= member.sequence:
            member.refused += 1
            raise errors.DuplicatePushError(
                f"push {push_id.sequence} of worker {push_id.worker} was "
                f"applied before (the last one is {member.sequence})"
            )
        self.center.check(rates)
        return member

    def _applied(
        self, push_id: PushId, member: ledger.Member
    ) -> dict[str, Any]:
        self._note_push(push_id, member)
        self.center.version += 1
        entry = self._staleness[-1]
        return {
            **self._news(member),
            "pushes": member.pushes,
            "staleness": entry[2],
            "age_ms": entry[3],
        }

    def _note_push(self, push_id: PushId, member: ledger.Member) -> None:
        member.sequence = push_id.sequence
        member.pushes += 1
        member.hear(push_id.clock, push_id.samples)
        self.applied += 1
        number = self._staleness[-1][0] + 1 if self._staleness else 1
        self._staleness.append(
            (
                number,
                push_id.worker,
                max(self.version - push_id.version_read, 0),
                1000 * (self._now() - member.read_time),
            )
        )

    def _note_read(self, member: ledger.Member) -> None:
        member.read_time = self._now()
