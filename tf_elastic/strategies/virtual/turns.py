"""Whose turn it is: a timeline's moves, grouped by training steps."""

import collections
from collections.abc import Iterator
from collections.abc import Sequence
from typing import NamedTuple
from typing import Protocol

import numpy as np

from tf_elastic.timeline.virtual import moves
from tf_elastic.timeline.virtual.moves import Move


class Timeline(Protocol):
    """What happens in a virtual cluster."""

    @property
    def num_workers(self) -> int:
        """p, of all that ever come."""

    def moves(self) -> Iterator[Move]:
        """All that happens, in order; each call begins anew."""


class Turn(NamedTuple):
    """What comes between two training steps, and the next one."""

    between: Sequence[Move]
    step: Move | None  # None: the timeline has ended


class Turns:
    """Gives turn after turn, and can go back to an earlier one.

    Args:
        timeline: whose moves they are.
    """

    def __init__(self, timeline: Timeline) -> None:
        self.timeline = timeline
        self._begin()

    def _begin(self) -> None:
        self._moves = self.timeline.moves()
        self._number = -1  # of the newest turn
        self._newest = Turn((), None)
        self.time = 0.0  # s, of the last step before the newest turn
        # How often a message has had how many updates between its worker's
        # reading and itself.
        self.staleness: collections.Counter[int] = collections.Counter()

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
        between = []
        step = None
        for move in self._moves:
            if move.kind in moves.UPDATES:
                self.staleness[move.staleness] += move.count
            if move.kind in moves.STEPS:
                step = move
                break
            between.append(move)
        self._newest = Turn(between, step)
        self._number += 1

    def as_arrays(self, number: int) -> tuple[np.ndarray, np.ndarray]:
        """A turn for a graph.

        Args:
            number: as of `turn`.

        Returns:
            The moves between, int64 of shape (n, 7), and the step, shape (7,):
            all of `Move` but the time. Of a step that is not there the kind
            is -1, and the worker the first.
        """
        turn = self.turn(number)
        step = turn.step or Move(0.0, -1, 0)
        return (
            np.array([move[1:] for move in turn.between], np.int64).reshape(
                -1, 7
            ),
            np.array(step[1:], np.int64),
        )
