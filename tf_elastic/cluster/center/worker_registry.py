"""What a center server remembers of each worker.

A push is numbered (worker, incarnation, sequence). An *incarnation* is one
life of a worker: a process, or what it is after it has lost its slot. A later
incarnation shuts out the earlier ones, and within one every sequence number is
taken once. A worker has its slot as long as it is heard of within its *lease*.
"""

from collections.abc import Callable
from collections.abc import Container
from typing import Any

from absl import logging

from tf_elastic.cluster import errors
from tf_elastic.cluster import tree_numbers
from tf_elastic.cluster.center.registration import PushId
from tf_elastic.cluster.center.registration import Registration
from tf_elastic.cluster.instruction import Instruction

# For how long the workers that a cluster was begun with count in p before they
# have joined.
_EXPECT_S = 120.0
MAX_WORKERS = 256
# By how much an incarnation may go beyond the last one, so that nobody can use
# up the numbers.
_MOST_LIVES = 1_000_000


class WorkerRegistry:
    """The workers of one center server, and their leases.

    Args:
        lease_s: seconds after which a silent worker loses its slot, > 0.
        now: a clock, in seconds.
        max_workers: that may ever join.
        chiefs: those whose instructions are passed on: the chief, and in a
            tree the nodes above it.
    """

    def __init__(
        self,
        lease_s: float,
        now: Callable[[], float],
        max_workers: int = MAX_WORKERS,
        chiefs: Container[int] = (0,),
    ) -> None:
        self.lease_s = lease_s
        self._chiefs = chiefs
        self.max_workers = max_workers
        self.members: dict[int, Registration] = {}
        self.expected = 0  # workers that the run was begun with
        self.run = 0  # a center may outlast several
        self.instruction = Instruction()  # the chief's newest
        self._now = now
        self._last_tick = now()
        self._first_join: float | None = None

    @property
    def present(self) -> list[int]:
        """The workers that have their slot."""
        return sorted(w for w, m in self.members.items() if m.present)

    def members_present(self) -> list[Registration]:
        """What is known of these; may be called at any time."""
        return [m for m in list(self.members.values()) if m.present]

    @property
    def num_workers(self) -> int:
        """p: the present ones, those still expected, those that have finished.

        The last of a finishing cluster are not to be pulled the harder for it.
        In another run, see `join`, there is another count.
        """
        finished = sum(m.finished for m in self._of_this_run)
        return max(len(self.present) + finished, self._still_expected())

    @property
    def awaited(self) -> int:
        """How many have to come to a synchronous exchange."""
        return max(len(self.present), self._still_expected())

    @property
    def _of_this_run(self) -> list[Registration]:
        return [m for m in self.members.values() if m.run == self.run]

    def _still_expected(self) -> int:
        if len(self._of_this_run) >= self.expected or self._first_join is None:
            return 1
        return self.expected

    def last_incarnation(self, worker: int) -> int:
        """The newest incarnation of a worker that was here; 0 for none."""
        member = self.members.get(worker)
        return member.incarnation if member else 0

    def join(
        self,
        worker: int,
        incarnation: int,
        expected: int,
        process: str,
        previous: int = 0,
    ) -> Registration:
        """Gives a worker a slot.

        Another run begins, perhaps of fewer workers, with whoever joins after
        all have finished, or a new process of one that has.

        Args:
            worker: who joins.
            incarnation: the one that begins.
            expected: workers that its cluster was begun with.
            process: a name for the process, of which it is another life or
                the first.
            previous: the incarnation that the same process had, or tried to
                get, here before; 0 for none.

        Raises:
            ReplacedError: a newer process of this worker was here.
            CenterRefusedError: there are too many workers.
        """
        before = self.members.get(worker)
        self._check_numbers(worker, incarnation, expected)
        if before and (
            incarnation <= before.incarnation
            or (
                before.process != process and 0 < previous <= before.incarnation
            )
        ):
            raise errors.ReplacedError(
                f"worker {worker} has incarnation {before.incarnation} at "
                f"the center already. Received: incarnation={incarnation}. "
                "A newer process has taken its place"
            )
        now = self._now()
        if not self.present:  # Nobody is left whom it was said to.
            self.instruction = self.instruction._replace(stop=False)
        if self.members and (
            all(m.finished for m in self.members.values())
            or (before and before.finished and before.process != process)
        ):
            self._begin_run(now)
        member = Registration(
            incarnation, process, last_seen=now, read_time=now, run=self.run
        )
        if before:
            member.clock = before.clock
            member.earlier_samples = before.earlier_samples
            if before.process == process:
                member.samples = before.samples
            else:
                member.earlier_samples += before.samples
        self.members[worker] = member
        self.expected = max(self.expected, expected)
        if self._first_join is None:
            self._first_join = now
        logging.info(
            "%s has joined (incarnation %d); p = %d.",
            tree_numbers.name(worker),
            incarnation,
            self.num_workers,
        )
        return member

    def _begin_run(self, now: float) -> None:
        """Whoever has ended before does not count any more."""
        self.run += 1
        self.expected = 0
        self._first_join = now
        for member in self.members.values():
            member.finished = False
            if member.present:  # It was a little quicker to join.
                member.run = self.run

    def admit(self, worker: int, incarnation: int) -> Registration:
        """The slot of a worker that calls.

        Raises:
            UnknownWorkerError, ReplacedError, LostSlotError: it has none (any
                more).
        """
        member = self.check(worker, incarnation)
        member.last_seen = self._now()
        return member

    def admit_push(self, push_id: PushId) -> Registration:
        """The slot of a worker whose push was not applied yet.

        Raises:
            DuplicatePushError: it was; and as `admit`.
        """
        member = self.admit(push_id.worker, push_id.incarnation)
        if push_id.sequence <= member.sequence:
            member.refused += 1
            raise errors.DuplicatePushError(
                f"push {push_id.sequence} of worker {push_id.worker} was "
                f"applied before (the last one is {member.sequence})"
            )
        return member

    def refuse_push(self, push_id: PushId) -> None:
        """Uses up the number of a push that is not applied."""
        member = self.members[push_id.worker]
        member.sequence = push_id.sequence
        member.refused += 1

    def note_push(self, push_id: PushId) -> Registration:
        """Notes that a push is applied; its worker."""
        member = self.members[push_id.worker]
        member.sequence = push_id.sequence
        member.pushes += 1
        member.hear(push_id.clock, push_id.samples)
        return member

    def instruct(
        self, worker: int, incarnation: int, told: Instruction
    ) -> None:
        """Takes what the chief tells all workers.

        Raises:
            MessageError: it is not the chief that tells; and as `admit`.
        """
        self.admit(worker, incarnation)
        if worker not in self._chiefs:
            raise errors.MessageError(
                "Only the chief, worker 0, instructs the others. "
                f"Received: worker={worker}."
            )
        if told.number > self.instruction.number:
            self.instruction = told

    def _check_numbers(
        self, worker: int, incarnation: int, expected: int
    ) -> None:
        if len(self.members) >= self.max_workers:
            # Who is gone and has given nothing makes room.
            self.members = {
                other: member
                for other, member in self.members.items()
                if member.present or member.finished or member.pushes
            }
        full = len(self.members) >= self.max_workers
        known = worker in self.members
        if expected > self.max_workers or (full and not known):
            raise errors.CenterRefusedError(
                f"A center takes at most {self.max_workers} workers, of "
                f"which {len(self.members)} have joined. Received: worker "
                f"{worker} of a cluster of {expected}. Start the centers "
                "with a larger --max_workers"
            )
        most = self.last_incarnation(worker) + _MOST_LIVES
        if incarnation > most:
            raise errors.MessageError(
                f"The next incarnation of worker {worker} must be at most "
                f"{most}. Received: incarnation={incarnation}"
            )

    def check(self, worker: int, incarnation: int) -> Registration:
        """As `admit`, but does not count as a sign of life; needs no lock."""
        member = self.members.get(worker)
        if member is None:
            raise errors.UnknownWorkerError(
                f"worker {worker} has not joined this center"
            )
        if incarnation != member.incarnation:
            member.refused += 1
            if incarnation > member.incarnation:  # Its join was forgotten.
                raise errors.UnknownWorkerError(
                    f"incarnation {incarnation} of worker {worker} has not "
                    "joined this center"
                )
            raise errors.ReplacedError(
                f"worker {worker} of incarnation {incarnation} is late: "
                f"incarnation {member.incarnation} has taken its place"
            )
        if not member.present:
            member.refused += 1
            raise errors.LostSlotError(
                f"worker {worker} was not heard of for {self.lease_s:g} s "
                "and has lost its slot"
            )
        return member

    def leave(self, worker: int, incarnation: int, finished: bool) -> None:
        """Takes a worker's slot back; others' alpha follows, or not.

        Args:
            worker: who leaves.
            incarnation: of it.
            finished: whether it has done its part; it still counts in p.
        """
        member = self.admit(worker, incarnation)
        member.present, member.finished = False, finished
        logging.info(
            "%s has %s; p = %d.",
            tree_numbers.name(worker),
            "finished" if finished else "left",
            self.num_workers,
        )

    def tick(self) -> list[int]:
        """Takes the slots of workers that were silent for too long.

        To be called every second or so. If it was not (this process was
        stopped), nobody could be heard, and leases are longer by that time.

        Returns:
            The workers that have lost their slots now.
        """
        now = self._now()
        if self._first_join is not None and (
            len(self._of_this_run) < self.expected
            and now - self._first_join > _EXPECT_S
        ):
            logging.warning(
                "only %d of %d workers have joined within %g s: p = %d from "
                "now on.",
                len(self._of_this_run),
                self.expected,
                _EXPECT_S,
                len(self.present),
            )
            self.expected = 0
        pause = now - self._last_tick
        self._last_tick = now
        if pause > self.lease_s / 3:
            for member in self.members.values():
                member.last_seen = min(now, member.last_seen + pause)
        lost = [
            worker
            for worker in self.present
            if now - self.members[worker].last_seen > self.lease_s
        ]
        for worker in lost:
            member = self.members[worker]
            member.present = False
            logging.warning(
                "%s (incarnation %d) was not heard of for %g s: its "
                "slot is free, p = %d. It may join again.",
                tree_numbers.name(worker),
                member.incarnation,
                self.lease_s,
                self.num_workers,
            )
        return lost

    @property
    def total_samples(self) -> int:
        """Samples that all workers have trained on, all incarnations."""
        return sum(m.samples + m.earlier_samples for m in self.members.values())

    def status(self) -> dict[str, Any]:
        """All that is known of each worker; JSON."""
        now = self._now()
        return {
            str(worker): {
                **member.to_json(),
                "refused": member.refused,
                "silent_s": now - member.last_seen,
                "notes": member.notes,
            }
            for worker, member in self.members.items()
        }

    def to_json(self) -> dict[str, Any]:
        """What a snapshot keeps."""
        return {
            "expected": self.expected,
            "run": self.run,
            "instruction": self.instruction._asdict(),
            "members": {str(w): m.to_json() for w, m in self.members.items()},
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Takes over what `to_json` gave; all leases begin anew."""
        now = self._now()
        self.expected = state["expected"]
        self.run = state.get("run", 0)
        self.instruction = Instruction.from_json(state.get("instruction"))
        self.members = {
            int(worker): Registration(**fields, last_seen=now, read_time=now)
            for worker, fields in state["members"].items()
        }
        self._first_join = now if self.members else None
