"""Whose turn it is: a timeline's moves, grouped by training steps."""

import collections
from collections.abc import Callable
from collections.abc import Collection
from collections.abc import Iterator
from collections.abc import Sequence
from typing import NamedTuple
from typing import Protocol

import numpy as np

from tf_elastic.timeline.virtual import moves
from tf_elastic.timeline.virtual.moves import Move
from tf_elastic.timeline.virtual.policies import Decisions
from tf_elastic.timeline.virtual.totals import Totals


class Timeline(Protocol):
    """What happens in a virtual cluster."""

    @property
    def num_workers(self) -> int:
        """p, of all that ever come."""

    def moves(self) -> Iterator[Move]:
        """All that happens, in order; each call begins anew."""


_WRITING = frozenset(
    (
        *(moves.MAKE, moves.TURN_OVER, moves.READ, moves.APPLY),
        *(moves.ARRIVE, moves.ADD, moves.ANSWER),
    )
)


class Turn(NamedTuple):
    """What comes between two training steps, and the next one."""

    early: Sequence[Move]  # before the gradient of the step is taken
    late: Sequence[Move]  # may wait until it is: the worker does not move
    step: Move | None  # None: the timeline has ended


class Turns:
    """Gives turn after turn, and can go back to an earlier one.

    Args:
        timeline: whose moves they are.
        kinds: of moves that there may be.
        waits: kinds of moves that wait until the next gradient is taken, where
            they can: a message that is made then is of the statistics of its
            step, and who looks at the center meanwhile sees it as it is.
        new_totals: makes what adds up the moves, from the beginning.
        tell: is told of each move once, as it comes near; None for nobody.
    """

    def __init__(
        self,
        timeline: Timeline,
        kinds: Collection[int],
        waits: Collection[int],
        new_totals: Callable[[], Totals],
        tell: Callable[[Move], None] | None = None,
    ) -> None:
        self._tell = tell
        self._told = 0  # moves
        self.timeline = timeline
        self._new_totals = new_totals
        self._kinds = kinds
        self.waits = waits
        self._begin()

    @property
    def decisions(self) -> Decisions | None:
        """Of a policy that looks at values; None if there is none."""
        return getattr(self.timeline, "decisions", None)

    def see(self, number: int, distance: float) -> None:
        """Tells the policy of a step that was taken.

        Args:
            number: of the step, from 0: of the newest turn.
            distance: of its worker, see `timeline.virtual.Seen`.
        """
        step, decisions = self.turn(number).step, self.decisions
        if step is not None and decisions is not None:
            decisions.see(step.worker, step.clock + 1, distance)

    def resume(self, made: np.ndarray, seen: np.ndarray) -> None:
        """Goes on by what another run has decided; as `Decisions.resume`."""
        if self.decisions is not None:
            self.decisions.resume(made, seen)
            self._begin()

    @property
    def has_early(self) -> bool:
        """Whether anything may come that cannot wait."""
        if not set(self._kinds) <= set(self.waits):
            return True
        return bool(getattr(self.timeline, "restarts", True))

    def _begin(self) -> None:
        self._moves = self._all_moves()
        self._number = -1  # of the newest turn
        self._newest = Turn((), (), None)
        self.time = 0.0  # s, of the last step before the newest turn
        # How often a message has had how many updates between its worker's
        # reading and itself.
        self.staleness: collections.Counter[int] = collections.Counter()
        # By worker, the kind of the move that has written its mail last, of all
        # up to what is early in the newest turn; -1 for none.
        self._written = [-1] * self.timeline.num_workers
        # Of the steps before the newest turn, and what has come after them.
        self.totals = self._new_totals()

    def _all_moves(self) -> Iterator[Move]:
        """Of the timeline; new ones are told of."""
        for i, move in enumerate(self.timeline.moves()):
            if self._tell is not None and i >= self._told:
                self._told = i + 1
                self._tell(move)
            yield move

    def turn(self, number: int) -> Turn:
        """A turn by its number; 0 comes before the first step.

        Args:
            number: of steps before it. Quick for the newest and the next one.

        Raises:
            ValueError: the timeline has ended before.
        """
        if number < self._number:
            self._begin()
        while self._number < number:
            self._go_on()
        return self._newest

    def _go_on(self) -> None:
        if self._number >= 0:
            if self._newest.step is None:
                raise ValueError(
                    "The timeline has ended; there is no training step number "
                    f"{self._number + 1} in it. Received: a record of "
                    f"{self._number} steps. Train no more than these."
                )
            self.time = self._newest.step.time
            self.totals(self._newest.step)
        between: list[Move] = []
        step = None
        for move in self._moves:
            if move.kind in moves.UPDATES:
                is_one = move.kind == moves.ROOT_FROM_CHILD
                self.staleness[move.staleness] += 1 if is_one else move.count
            if move.kind in moves.STEPS:
                step = move
                break
            if move.kind not in self._kinds:
                raise ValueError(
                    "The timeline is of another protocol. Received: a move "
                    f"{moves.NAMES[move.kind]!r}, {move}."
                )
            between.append(move)
            self.totals(move)
        early = self._num_early(between, step)
        for move in (*self._newest.late, *between[:early]):
            if move.kind in _WRITING:
                self._written[move.worker] = move.kind
        self._newest = Turn(between[:early], between[early:], step)
        self._number += 1

    def _num_early(self, between: Sequence[Move], step: Move | None) -> int:
        """How many moves cannot wait: up to the last that must not."""
        if self._number < 0 and self.waits:
            return 0  # All is as the worker is, that begins.
        must_not = [
            i + 1
            for i, move in enumerate(between)
            if move.kind not in self.waits
            or (
                move.kind in moves.MOVING
                and (step is None or move.worker == step.worker)
            )
        ]
        return max(must_not, default=0)

    def early(self, number: int) -> tuple[np.ndarray, np.ndarray]:
        """What is done before a step, for a graph.

        Args:
            number: as of `turn`.

        Returns:
            The moves, int64 of shape (n, 8), all of `Move` but the time, and
            the step, shape (7,), without a row. Of a step that is not there
            the kind is -1, and the worker the first.
        """
        turn = self.turn(number)
        step = turn.step or Move(0.0, -1, 0)
        return _rows(turn.early), np.array(step[1:-1], np.int64)

    def written(self, number: int) -> np.ndarray:
        """What a worker's mail is by now: of which kind its last move was.

        Args:
            number: as of `turn`, when what is early was done.

        Returns:
            Kinds of `moves`, int64 of shape (p,); -1 where there is no mail.
        """
        self.turn(number)
        return np.array(self._written, np.int64)

    def late(self, number: int) -> np.ndarray:
        """What is done when its gradient is taken; as of `early`."""
        return _rows(self.turn(number).late)


def first_steps(timeline: Timeline, count: int) -> Iterator[Move]:
    """The moves of so many steps, and of what follows them.

    Args:
        timeline: whose.
        count: training steps, at least 0.
    """
    for move in timeline.moves():
        if move.kind in moves.STEPS:
            if not count:
                return
            count -= 1
        yield move


def _rows(found: Sequence[Move]) -> np.ndarray:
    rows = np.array([move[1:] for move in found], np.int64)
    return rows.reshape(-1, len(Move._fields) - 1)
