"""The part of the center that one server holds.

No network here: whatever thread calls, one call at a time changes anything, so
that each exchange is atomic on each shard. The rules are `core`'s.
"""

import collections
import math
import threading
import time
from collections.abc import Callable
from collections.abc import Sequence
from typing import Any
from typing import NamedTuple

import numpy as np
from absl import logging

from tf_elastic import core
from tf_elastic.cluster import codec as codecs
from tf_elastic.cluster import errors
from tf_elastic.cluster import ledger
from tf_elastic.cluster import offers
from tf_elastic.cluster.blocks import blocks
from tf_elastic.cluster.blocks import check_finite
from tf_elastic.cluster.blocks import put_differences
from tf_elastic.cluster.layout import PARAMETERS
from tf_elastic.cluster.layout import Layout
from tf_elastic.cluster.layout import difference
from tf_elastic.core import center_rules

_STALENESS_KEPT = 4096

Arrays = list[np.ndarray]


class PushId(NamedTuple):
    """What every push carries."""

    worker: int
    incarnation: int
    sequence: int  # from 1, grows within an incarnation
    version_read: int  # the center's version that the worker knew
    clock: int = 0  # the worker's local steps
    samples: int = 0  # that the worker has trained on


class Rate(NamedTuple):
    """How far one worker's push moves the center: core.push."""

    beta: float
    num_workers: int


class PushRate(NamedTuple):
    """By which numbers a center rule takes one worker's push."""

    rates: core.PushRates
    num_workers: int


class Shard:
    """Parameters, versions and members of one center server.

    Args:
        index: of this server among the center servers.
        num_shards: how many of them there are.
        lease_s: after how many silent seconds a worker loses its slot.
        grace_s: how many seconds of offers are compared if this server
            holds no parameters.
        now: a clock, in seconds.
    """

    def __init__(
        self,
        index: int = 0,
        num_shards: int = 1,
        lease_s: float = 15.0,
        grace_s: float = 1.0,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self.index = index
        self.num_shards = num_shards
        self.version = 0  # pushes (synchronous: rounds) applied
        self.arrays: Arrays | None = None
        self.description: dict[str, Any] | None = None
        self.layout: Layout | None = None
        self.rule: core.CenterRule | None = None  # None: elastic averaging
        # What the rule keeps beside the center; empty for statistics.
        self.slots: dict[str, Arrays] = {}
        self.ledger = ledger.Ledger(lease_s, now)
        self.offers = offers.Offers(grace_s, now)
        self.applied = 0  # pushes, by this process
        self._now = now
        self._changed = threading.Condition()
        self._references: dict[int, list[Any]] = {}
        self._round = 0
        self._deposits: set[int] = set()  # who is in this round
        # Of this round, by the rate that their workers sent: one, unless p has
        # just changed.
        self._summed: dict[Rate | None, Arrays] = {}
        self._last_rate = PushRate(core.PushRates(), 1)
        # By worker and version, what it was sent, for a rule that compensates.
        self._sent: dict[int, dict[int, Arrays]] = {}
        self._refusals = 0  # of processes that did not fit
        self._last_refusal = ""
        self._staleness: collections.deque = collections.deque(
            maxlen=_STALENESS_KEPT
        )

    # Who is there.

    def hello(self, worker: int | None) -> dict[str, Any]:
        """What a process needs to know before it joins."""
        with self._changed:
            member = self.ledger.members.get(worker)
            return {
                **self._news(),
                "description": self.description,
                "last_incarnation": member.incarnation if member else 0,
                "pushes": member.pushes if member else 0,
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
            self._sent.pop(worker, None)
            self._deposits.discard(worker)
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
            member.clock, member.samples = clock, samples
            member.notes = notes
            return self._news()

    def tick(self) -> None:
        """Looks after leases; to be called every second or so."""
        with self._changed:
            self._forget(self.ledger.tick())

    def _forget(self, workers: Sequence[int]) -> None:
        for worker in workers:
            self._references.pop(worker, None)
            self._sent.pop(worker, None)
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
                f"Received: num_shards={description.get('num_shards')}. Give "
                "all processes the same cluster."
            )
        if self.description is None:
            self._describe(description)
            return
        unlike = difference(self.description, description)
        if unlike:
            raise errors.CenterRefusedError(
                f"{where}{unlike}. Start all processes with the same script "
                "and release, or this center with an empty snapshot folder."
            )

    def _describe(self, description: dict[str, Any]) -> None:
        self.description = description
        self.layout = Layout.from_description(description)
        rule = self.layout.rule
        if rule is not None and rule["method"] in center_rules.METHODS:
            self.rule = core.CenterRule(**rule)

    def _news(self) -> dict[str, Any]:
        return {
            "shard": self.index,
            "num_shards": self.num_shards,
            "version": self.version,
            "ready": self.arrays is not None,
            "num_workers": self.ledger.num_workers,
            "total_samples": self.ledger.total_samples,
            "round": self._round,
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
                self._check_finite(values, worker)
                self.arrays = values
                self._begin_slots()
                self.version = max(version, 0)
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
        self, worker: int | None = None, incarnation: int = 0
    ) -> tuple[dict[str, Any], Arrays]:
        """A copy of the center; by a worker, or by somebody who only looks.

        Raises:
            CenterEmptyError: there is nothing to read.
            LostSlotError: the worker has no slot.
        """
        with self._changed:
            self._need_arrays()
            if worker is None:
                shown = self.slots.get("average", self.arrays)
                return self._news(), [
                    (average if average.size else array).copy()
                    for array, average in zip(self.arrays, shown, strict=True)
                ]
            self._note_read(self.ledger.admit(worker, incarnation))
            return self._news(), self._points(worker)

    def take(
        self, push_id: PushId, messages: Arrays, rate: PushRate
    ) -> tuple[dict[str, Any], Arrays]:
        """Does with one worker's message what the center's rule says.

        Args:
            push_id: who pushes what.
            messages: the worker's; of statistics, its values. Overwritten.
            rate: of the push.

        Returns:
            News, and the point that the worker is to go on from.

        Raises:
            LostSlotError, DuplicatePushError, NonFiniteError,
            CenterEmptyError: nothing was applied.
            MessageError: this center averages elastically.
        """
        with self._changed:
            if self.rule is None:
                raise errors.MessageError(
                    f"center {self.index} averages elastically, and takes no "
                    "other pushes"
                )
            member = self._admit(push_id)
            self._check_finite(messages, push_id.worker)
            staleness = max(self.version - push_id.version_read, 1)
            self._statistics_differ(messages)
            self._take(messages, rate, staleness, self._sent_to(push_id))
            news = self._applied(push_id, member)
            self._note_read(member)
            return news, self._points(push_id.worker, messages)

    def push(
        self, push_id: PushId, differences: Arrays, rate: Rate
    ) -> dict[str, Any]:
        """Moves the center by one worker's difference: Algorithm 1, step b).

        Raises:
            LostSlotError, DuplicatePushError, NonFiniteError,
            CenterEmptyError: nothing was applied.
        """
        with self._changed:
            member = self._admit_push(push_id, rate)
            self._check_finite(differences, push_id.worker)
            self._apply(differences, rate)
            return self._applied(push_id, member)

    def exchange(
        self,
        push_id: PushId,
        values: Arrays,
        rate: Rate,
        codec: str = "none",
        whole: bool = True,
    ) -> tuple[dict[str, Any], list[Any]]:
        """Takes a worker's parameters, moves the center, answers.

        Args:
            push_id: who pushes what.
            values: the worker's points, or, compressed, what has changed.
                Overwritten.
            rate: of the push.
            codec: how `values` and the answer are compressed.
            whole: whether `values` are whole, although a codec is used.

        Returns:
            News, and the differences by which the center has moved (times
            the rate), encoded: the worker is to move by the same.
        """
        with self._changed:
            member = self._admit_push(push_id, rate)
            points = values
            if codec != "none":
                points = self._decoded(push_id.worker, values, codec, whole)
            answer = values
            if codec != "none":  # The points are read-only.
                answer = [np.empty_like(point) for point in points]
            differences = answer
            if not put_differences(points, self.arrays, answer, check=True):
                # Finite parameters may be too far from the center, too.
                self._check_finite(differences, push_id.worker)
            if codec != "none":
                answer = [codecs.encode(codec, moved) for moved in differences]
                differences = [
                    codecs.decode(codec, encoded, moved.dtype, moved.size)
                    for encoded, moved in zip(answer, differences, strict=True)
                ]
            self._apply(differences, rate)
            news = self._applied(push_id, member)
            self._note_read(member)
            return news, answer

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
        self,
        push_id: PushId,
        values: Arrays,
        rate: Rate | PushRate,
        differ: bool = True,
    ) -> tuple[dict[str, Any], Arrays]:
        """Takes one worker's part of a synchronous exchange: eq. 2.4.

        The center moves when all present workers have come.

        Args:
            push_id: who pushes what.
            values: the worker's points; or, with `differ` false, its message.
                Overwritten.
            rate: of the push.
            differ: whether what counts is their difference to the center.

        Returns:
            News, in which "round" is the one taken part in, and the
            differences to the center as it is in this round (nothing, if the
            worker is to read the center afterwards: if this has a rule).
        """
        with self._changed:
            if self.rule is None:
                member = self._admit_push(push_id, rate)
                key = rate
            else:
                member = self._admit(push_id)
                self._last_rate, key = rate, None
            if differ:
                put_differences(values, self.arrays, values)
            else:
                self._statistics_differ(values)
            self._check_finite(values, push_id.worker)
            if key not in self._summed:
                self._summed[key] = [np.zeros_like(a) for a in self.arrays]
            for value, total in zip(values, self._summed[key], strict=True):
                for part in blocks(value.size):
                    total[part] += value[part]
            # A worker may be here with an earlier part, whose answer it has
            # not got: that half is lost, and it takes part with this one.
            self._deposits.add(push_id.worker)
            self._note_push(push_id, member)
            self._note_read(member)
            news = {**self._news(), "pushes": member.pushes}
            self._end_round_if_complete()
            return news, values if self.rule is None else []

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
            self.ledger.admit(worker, incarnation)
            if self._round < round_ or (
                self._round == round_ and worker not in self._deposits
            ):
                raise errors.UnknownWorkerError(
                    f"center {self.index} has begun anew, and does not know "
                    f"the part of worker {worker} in exchange {round_}"
                )
            if force and self._round == round_:
                self.ledger.expect_no_more()
                self._end_round()
            self._changed.wait_for(lambda: self._round != round_, wait_s)
            missing = (
                sorted(set(self.ledger.present) - self._deposits)
                if self._round == round_
                else []
            )
            return {**self._news(), "missing": missing}

    def _end_round_if_complete(self) -> None:
        present = set(self.ledger.present)
        if (
            self._deposits
            and present <= self._deposits
            and len(self._deposits) >= self.ledger.awaited
        ):
            self._end_round()

    def _end_round(self) -> None:
        for rate, summed in self._summed.items():
            if rate is None:
                self._take(summed, self._last_rate, 1)
            else:
                self._apply(summed, rate)
        self.version += 1
        self._round += 1
        self._deposits = set()
        self._summed = {}
        self._changed.notify_all()

    # Snapshots and status.

    def state(self) -> tuple[dict[str, Any], Arrays] | None:
        """A consistent copy of all that a snapshot keeps; None if empty."""
        with self._changed:
            if self.arrays is None:
                return None
            return {
                "shard": self.index,
                "num_shards": self.num_shards,
                "version": self.version,
                "round": self._round,
                "description": self.description,
                "ledger": self.ledger.to_json(),
                "slots": list(self.slots),
                "rates": [list(self._last_rate.rates), *self._last_rate[1:]],
            }, [
                array.copy()
                for arrays in (self.arrays, *self.slots.values())
                for array in arrays
            ]

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
            self._describe(state["description"])
            self.version = state["version"]
            self._round = state["round"]
            self.ledger.restore(state["ledger"])
            rates, num_workers = state["rates"]
            self._last_rate = PushRate(core.PushRates(*rates), num_workers)
            n = len(self.layout.sections)
            self.arrays = arrays[:n]
            self.slots = {
                name: arrays[(k + 1) * n : (k + 2) * n]
                for k, name in enumerate(state["slots"])
            }

    def status(self, staleness_since: int = 0) -> dict[str, Any]:
        """Everything worth watching; JSON.

        Args:
            staleness_since: pushes seen before, whose staleness is left out.
        """
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
            }

    # Pieces.

    def _need_arrays(self) -> None:
        if self.arrays is None:
            raise errors.CenterEmptyError(
                f"center {self.index} holds no parameters yet"
            )

    def _check_finite(self, values: Arrays, worker: int) -> None:
        for section, array in zip(self.layout.sections, values, strict=True):
            check_finite(
                array,
                worker,
                self.layout,
                section,
                self.layout.cut(section, self.index).start,
            )

    def _admit_push(self, push_id: PushId, rate: Rate) -> ledger.Member:
        if not (0 <= rate.beta < math.inf and rate.num_workers >= 1):
            raise errors.MessageError(
                "A push must have beta >= 0 and num_workers >= 1. Received: "
                f"beta={rate.beta}, num_workers={rate.num_workers}"
            )
        return self._admit(push_id)

    def _admit(self, push_id: PushId) -> ledger.Member:
        self._need_arrays()
        member = self.ledger.admit(push_id.worker, push_id.incarnation)
        if push_id.sequence <= member.sequence:
            member.refused += 1
            raise errors.DuplicatePushError(
                f"push {push_id.sequence} of worker {push_id.worker} was "
                f"applied before (the last one is {member.sequence})"
            )
        return member

    def _apply(self, differences: Arrays, rate: Rate) -> None:
        for section, center, moved in zip(
            self.layout.sections, self.arrays, differences, strict=True
        ):
            beta = rate.beta
            if section.role != PARAMETERS:
                beta = min(beta, 1.0)
            for part in blocks(center.size):
                center[part] = core.push(
                    center[part], moved[part], beta, rate.num_workers
                )

    def _begin_slots(self) -> None:
        """What the rule keeps, of a center that begins."""
        if self.rule is None:
            return
        states = [
            center_rules.initial_state(self.rule, array)
            for array in self.arrays
        ]
        self.slots = {
            name: [
                getattr(state, name) if section.role == PARAMETERS
                else np.empty(0, array.dtype)
                for section, array, state in zip(
                    self.layout.sections, self.arrays, states, strict=True
                )
            ]
            for name in ("velocity", "average")
            if getattr(states[0], name) is not None
        }

    def _statistics_differ(self, values: Arrays) -> None:
        """Turns a worker's statistics into differences, in place."""
        chosen = [
            k
            for k, section in enumerate(self.layout.sections)
            if section.role != PARAMETERS
        ]
        ours = [values[k] for k in chosen]
        put_differences(ours, [self.arrays[k] for k in chosen], ours)

    def _take(
        self,
        messages: Arrays,
        rate: PushRate,
        staleness: int,
        sent: Arrays | None = None,
    ) -> None:
        """`core.center_rules.take`, block by block."""
        rule = self.rule
        now = center_rules.rates_at(
            rule, rate.rates, float(self.version), float(staleness)
        )
        self._last_rate = rate
        sent = sent or self.arrays
        for k, section in enumerate(self.layout.sections):
            center, message = self.arrays[k], messages[k]
            for part in blocks(center.size):
                if section.role != PARAMETERS:
                    center[part] = core.push(
                        center[part], message[part], 1.0, rate.num_workers
                    )
                    continue
                state = self._state(k, part)
                moved = center_rules.take(
                    rule, state, message[part], now, sent[k][part]
                )
                for kept, value in zip(state, moved, strict=True):
                    if kept is not None:
                        kept[...] = value

    def _state(self, k: int, part: slice) -> core.CenterState:
        """Views of a block of the center and of what is kept beside it."""
        return core.CenterState(
            self.arrays[k][part],
            *(
                self.slots[name][k][part] if name in self.slots else None
                for name in ("velocity", "average")
            ),
        )

    def _points(self, worker: int, room: Arrays | None = None) -> Arrays:
        """What a worker goes on from, in new arrays or in `room`."""
        if room is None:
            room = [np.empty_like(array) for array in self.arrays]
        rates = self._last_rate.rates
        for k, section in enumerate(self.layout.sections):
            for part in blocks(room[k].size):
                room[k][part] = (
                    self.arrays[k][part]
                    if self.rule is None or section.role != PARAMETERS
                    else center_rules.answer(
                        self.rule, self._state(k, part), rates
                    )
                )
        if self.rule is not None and self.rule.compensates:
            self._sent.setdefault(worker, {})[self.version] = [
                array.copy() for array in room
            ]
        return room

    def _sent_to(self, push_id: PushId) -> Arrays | None:
        """Where a worker was when it made a message, if that is known.

        Forgets what is older. (What is newer was under way meanwhile.)
        """
        sent = self._sent.get(push_id.worker, {})
        for version in [v for v in sent if v < push_id.version_read]:
            del sent[version]
        return sent.get(push_id.version_read)

    def _applied(
        self, push_id: PushId, member: ledger.Member
    ) -> dict[str, Any]:
        self._note_push(push_id, member)
        self.version += 1
        entry = self._staleness[-1]
        return {
            **self._news(),
            "pushes": member.pushes,
            "staleness": entry[2],
            "age_ms": entry[3],
        }

    def _note_push(self, push_id: PushId, member: ledger.Member) -> None:
        member.sequence = push_id.sequence
        member.pushes += 1
        member.clock, member.samples = push_id.clock, push_id.samples
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
