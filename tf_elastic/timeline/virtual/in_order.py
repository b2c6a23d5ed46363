"""Equal workers that meet whenever an exchange is due, in a given order."""

import itertools
from collections.abc import Iterator

from tf_elastic.core import orders
from tf_elastic.timeline.virtual import moves
from tf_elastic.timeline.virtual.moves import Move
from tf_elastic.timeline.virtual.workload import Workload


class InOrder:
    """All workers take one step after another, and nothing takes time.

    Args:
        workload: what is exchanged; its protocol does not matter.
        num_workers: p.
        order: of `core.orders`.

    Example:

    >>> from tf_elastic.core import rules
    >>> timeline = InOrder(Workload(rules.Elastic(), "blocking"), 2, "jacobi")
    >>> found = timeline.moves()
    >>> [moves.NAMES[next(found).kind] for _ in range(7)]
    ['make', 'add', 'make', 'add', 'collect', 'settling_step', 'settling_step']
    """

    p_varies = restarts = False

    def __init__(
        self, workload: Workload, num_workers: int, order: str
    ) -> None:
        self._workload = workload
        self.num_workers = num_workers
        self._order = order

    @property
    def protocol(self) -> str:
        """Whose moves these are."""
        in_turn = self._order == orders.ROUND_ROBIN
        return "blocking" if in_turn else "synchronous"

    def moves(self) -> Iterator[Move]:
        """All that happens, in order, without an end."""
        if self._workload.takes_steps:
            yield from self._in_parts()
            return
        period, is_before = self._workload.period, self.is_before
        phase = self._workload.calls - 1 if is_before else period - 1
        clock = version = 0
        while True:
            is_due = clock % period == phase
            step = moves.STEP
            if is_due and is_before:
                step = moves.SETTLING_STEP
                if self._order == orders.ROUND_ROBIN:
                    step = moves.VISITING_STEP
                else:
                    yield from self._meeting(clock, clock, version)
            for worker in range(self.num_workers):
                now = version
                if step == moves.VISITING_STEP:
                    now += worker
                yield self._move(step, worker, clock, clock + 1, now)
            if is_due and not is_before:
                yield from self._meeting(clock + 1, clock + 1, version)
            if is_due:
                in_turn = self._order == orders.ROUND_ROBIN
                version += self.num_workers if in_turn else 1
            clock += 1

    def _in_parts(self) -> Iterator[Move]:
        """The same, if steps are a part of the exchange: one by one."""
        load, version = self._workload, 0
        read = [0] * self.num_workers
        for clock in itertools.count():
            begins = clock % load.period == load.calls - 1
            ends = (clock + 1) % load.period == 0
            now = clock + 1
            for i in range(self.num_workers):
                if begins:
                    yield self._move(moves.ANSWER, i, clock, now, version)
                    read[i] = version
                step = moves.SETTLING_STEP if begins else moves.STEP
                yield self._move(step, i, clock, now, version)
                if ends:
                    yield self._move(moves.MAKE, i, now, now, version)
                    arrives = self._move(moves.ARRIVE, i, now, now, version)
                    yield arrives._replace(staleness=version - read[i])
                    version += 1

    @property
    def is_before(self) -> bool:
        """Whether it is the point of the gradient that is exchanged."""
        return (
            self._workload.rule.answers_difference
            and self._order != orders.GAUSS_SEIDEL
        )

    def _meeting(self, clock: int, time: int, version: int) -> Iterator[Move]:
        """What all do that meet, but what they do in their steps."""
        workers = range(self.num_workers)
        if self._order == orders.ROUND_ROBIN:
            for i in workers:
                yield self._move(moves.VISIT, i, clock, time, version + i)
            return
        for i in workers:
            yield self._move(moves.MAKE, i, clock, time, version)
            yield self._move(moves.ADD, i, clock, time, version)
        yield self._move(moves.COLLECT, -1, clock, time, version)
        if self.is_before:
            return
        version += 1
        answers_difference = self._workload.rule.answers_difference
        for i in workers:
            if answers_difference:  # to the center as it is now
                yield self._move(moves.MAKE, i, clock, time, version)
                yield self._move(moves.READ, i, clock, time, version)
            else:
                yield self._move(moves.ANSWER, i, clock, time, version)
            yield self._move(moves.SETTLE, i, clock, time, version)

    def _move(
        self, kind: int, worker: int, clock: int, time: int, version: int
    ) -> Move:
        p = self.num_workers
        staleness = 0
        if kind in (moves.VISIT, moves.VISITING_STEP):
            is_first = float(version < p)
            staleness = int(orders.others_since(worker, p, is_first))
        count = p if kind == moves.COLLECT else 1
        return Move(
            float(time), kind, worker, clock, version, staleness, p, count
        )
