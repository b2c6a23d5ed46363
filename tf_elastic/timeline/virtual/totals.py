"""What a virtual cluster has come to: seconds, bytes, staleness, goodput."""

import collections
from typing import NamedTuple

from tf_elastic.timeline.virtual import moves
from tf_elastic.timeline.virtual.moves import Move
from tf_elastic.timeline.virtual.workload import Workload


class Seconds(NamedTuple):
    """What the time of a worker, up to its last move, was spent on."""

    computing: float  # steps, with data loading and pauses
    exchanging: float  # messages that it stood still for, and the queue
    waiting: float  # for the others of a round, or an answer that is overdue
    away: float  # before it has come, and dead


class Totals:
    """Adds up moves, one after another, as they are made or followed.

    Args:
        workload: of the timeline.
        num_workers: p, of the timeline.

    Example:

    >>> from tf_elastic.core import rules
    >>> from tf_elastic.timeline.virtual.timing import Timing
    >>> from tf_elastic.timeline.virtual.engine import VirtualTimeline
    >>> load = Workload(rules.Elastic(), "blocking", bytes_up=8)
    >>> totals = Totals(load, 2)
    >>> moves = VirtualTimeline(Timing(step=1.0), load, 2).moves()
    >>> for move, _ in zip(moves, range(6)):
    ...     totals(move)
    >>> totals.seconds, totals.bytes, totals.of_worker(1).computing
    (3.0, 48, 3.0)

    Attributes:
        seconds: of virtual time, up to the last move.
        steps: calls of the optimizer, of all workers.
        updates: of the center.
        bytes: of messages and answers.
        staleness: how many updates have had which; a round has none.
        dropped: messages that were left out, or whose round has ended.
        restarts: of workers, without a death.
        deaths: of workers.
    """

    def __init__(self, workload: Workload, num_workers: int) -> None:
        self._workload = workload
        self._is_overlapped = workload.protocol == "overlapped"
        self._is_synchronous = workload.protocol == "synchronous"
        self._may_leave_out_visits = (
            workload.protocol == "blocking" and not workload.takes_steps
        )
        self._round_ended_at = 0.0
        self.seconds = 0.0
        self.steps = self.updates = self.bytes = 0
        self.staleness: collections.Counter[int] = collections.Counter()
        self.dropped = self.restarts = self.deaths = 0
        self._workers = [_Worker() for _ in range(num_workers)]
        self._reached = self._lost = 0

    @property
    def bytes_by_level(self) -> list[int]:
        """Through the center's links, and in a tree level by level below."""
        return [self.bytes]

    @property
    def goodput(self) -> float:
        """The share of local steps whose work has reached the center.

        Of those of which it is known: not of those that a worker has yet to
        bring, or that are on their way.
        """
        known = self._reached + self._lost
        return self._reached / known if known else 1.0

    @property
    def mean_staleness(self) -> float:
        """Of all updates but rounds; 0 if there were none."""
        total = sum(count * value for value, count in self.staleness.items())
        count = sum(self.staleness.values())
        return total / count if count else 0.0

    def of_worker(self, worker: int) -> Seconds:
        """What a worker has spent its time on."""
        return Seconds(*self._workers[worker].spent)

    @property
    def of_all(self) -> Seconds:
        """The same of all workers together."""
        each = [self.of_worker(w) for w in range(len(self._workers))]
        return Seconds(*map(sum, zip(*each, strict=True)))

    def __call__(self, move: Move) -> None:
        """Adds one move."""
        self.seconds = move.time
        if move.kind == moves.COLLECT:
            self.updates += 1
            self._end_round(move.time)
            return
        own = self._workers[move.worker]
        if move.kind in moves.UPDATES:
            self.updates += 1
            self.staleness[move.staleness] += 1
        self._count_bytes(move)
        self._count_steps(own, move)
        self._count_seconds(own, move)

    def _count_bytes(self, move: Move) -> None:
        load = self._workload
        if move.kind == (moves.ANSWER if load.takes_steps else moves.READ):
            self.bytes += load.bytes_read
        elif move.kind in _BROUGHT:
            self.bytes += load.bytes_up + load.bytes_down
            if move.kind == moves.VISITING_STEP:
                self.bytes += load.bytes_read

    def _count_steps(self, own: "_Worker", move: Move) -> None:
        kind, clock = move.kind, move.clock
        if kind in _LEAVES:
            own.brings, own.given = clock - own.given, clock
        if kind in _REACHES:
            self._reached += own.brings
            own.brings = 0
        elif kind == moves.DROP:
            self.dropped += 1
            self._lost += own.brings
            own.brings = 0
        elif kind == moves.ANSWER and self._may_leave_out_visits:
            # Of a visit that was left out: nothing was made for it.
            self._lost += clock - own.given
            own.given = clock
        elif kind in _BEGINS_AGAIN:
            self.restarts += kind == moves.RESTART
            self.deaths += kind == moves.DIE
            self._lost += own.brings + clock - own.given
            own.brings, own.given = 0, clock
        if kind in moves.STEPS:
            self.steps += clock + 1 - own.clock
            own.clock = clock + 1
        elif kind == moves.JOIN:
            own.clock = own.given = clock

    def _count_seconds(self, own: "_Worker", move: Move) -> None:
        kind = move.kind
        if kind not in _THEN:
            return  # It happens meanwhile.
        doing = own.doing
        if kind == moves.JOIN:
            doing = _AWAY
        elif kind in _FOLLOWED and self._is_overlapped:
            doing = WAITING
        elif kind == moves.RESTART and self._is_synchronous:
            # The round's end has broken off what it did.
            own.spend(doing, max(own.since, self._round_ended_at))
            doing = EXCHANGING
        own.spend(doing, move.time)
        own.doing = _THEN[kind]
        if kind == moves.MAKE and self._is_overlapped:
            own.doing = _COMPUTING

    def _end_round(self, time: float) -> None:
        self._round_ended_at = time
        for own in self._workers:
            if own.doing == WAITING:
                own.spend(WAITING, time)
                own.doing = EXCHANGING


class _Worker:
    """One worker, so far."""

    def __init__(self) -> None:
        self.spent = [0.0] * len(Seconds._fields)
        self.since = 0.0  # until when its time is accounted for
        self.doing = _COMPUTING
        self.clock = 0  # calls of its optimizer
        self.given = 0  # those of them that a message was made of
        self.brings = 0  # those that the message on its way is of

    def spend(self, what: int, until: float) -> None:
        """Accounts for its time up to a moment."""
        self.spent[what] += until - self.since
        self.since = until


_COMPUTING, EXCHANGING, WAITING, _AWAY = range(4)  # as of `Seconds`
# What a worker does after a move.
_THEN = {
    moves.STEP: _COMPUTING,
    moves.SETTLING_STEP: _COMPUTING,
    moves.VISITING_STEP: _COMPUTING,
    moves.ASK: EXCHANGING,
    moves.SEND: EXCHANGING,  # In a tree, if it is answered.
    moves.FOLLOW: _COMPUTING,
    moves.MAKE: EXCHANGING,
    moves.ADD: WAITING,
    moves.SETTLE: _COMPUTING,
    moves.TURN_OVER: _COMPUTING,
    moves.RESTART: _COMPUTING,
    moves.JOIN: _COMPUTING,
    moves.DIE: _AWAY,
}
_FOLLOWED = (moves.SETTLE, moves.TURN_OVER, moves.RESTART)
_LEAVES = (moves.MAKE, moves.TURN_OVER, moves.VISIT, moves.VISITING_STEP)
_REACHES = (
    *(moves.VISIT, moves.VISITING_STEP),
    *(moves.APPLY, moves.ARRIVE, moves.ADD),
)
_BROUGHT = (*_REACHES, moves.DROP)
_BEGINS_AGAIN = (moves.RESTART, moves.DIE)
