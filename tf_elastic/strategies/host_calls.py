"""What the graph of a training step asks of the host, by NumPy arrays."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import tensorflow as tf

from tf_elastic.cluster.worker.moved import NOTHING
from tf_elastic.cluster.worker.moved import PULL
from tf_elastic.cluster.worker.moved import RESTART
from tf_elastic.cluster.worker.moved import Moved
from tf_elastic.cluster.worker.reliable_push import Moment

if TYPE_CHECKING:
    from tf_elastic.strategies.center_session import CenterSession

# What a graph gives and gets: arrays, and scalars of NumPy.
Value = np.ndarray | np.generic
Outputs = list[Value]

# The scalars of an answer: what to do, alpha, a learning rate.
ANSWER = (tf.int32, tf.float64, tf.float64)

# What a worker may be told here beside: that it is at the center.
_SHOW = 4


class TracedStep:
    """A training step that was traced, or is taken."""

    def __init__(self) -> None:
        self.trained_by: set[CenterSession] = set()


class HostCalls:
    """Of one optimizer's session; each is called by `tf.numpy_function`.

    Args:
        session: with its center.
        at_rest: runs of variables that the step does not train; see
            `layout.runs_of`.
    """

    def __init__(
        self, session: CenterSession, at_rest: Sequence[Sequence[int]] = ()
    ) -> None:
        self._session = session
        self._at_rest = at_rest

    def begin(
        self,
        step: TracedStep,
        clock: np.int64,
        rate: np.float64,
        *points: np.ndarray,
    ) -> Outputs:
        """Begins at the center, for the first training step.

        Returns:
            Four scalars, the last one being the worker's clock, and arrays.
        """
        if self._session not in step.trained_by:
            nothing = [np.int32(NOTHING), np.float64(0.0)]
            return [*nothing, np.float64(np.nan), np.int64(0), *self._empty()]
        if self._session.exchanger is None:
            moved = self._session.enter(points)
        else:
            moved = self._session.exchanger.begin(Moment(int(clock), 0))
            moved = moved._replace(kind=kind_of(points, moved.arrays))
        if self._session.group.size > 1:
            # The others of the group may be elsewhere.
            moved = moved._replace(kind=RESTART)
        self._session.chiefs_word.begins(rate)
        kind, moving_rate, told, *arrays = self.outputs(moved)
        clock = np.int64(self._session.client.clock)
        return [kind, moving_rate, told, clock, *arrays]

    # Calls of an exchange that is due. They are given when it is, see `_at`,
    # and then arrays.

    def now(self, *inputs: Value) -> Outputs:
        """Exchanges while the worker waits, if it has something."""
        moment, values = self._heard(inputs)
        moved = Moved(NOTHING)
        if self._session.exchanger.has_something(moment):
            moved = self._session.exchanger.now(moment, self.laid_out(values))
        return self.outputs(moved)

    def collect(self, *inputs: Value) -> Outputs:
        """Takes the answer to what has left."""
        moment, _ = self._heard(inputs)
        return self.outputs(self._session.exchanger.collect(moment))

    def send(self, *inputs: Value) -> Outputs:
        """Lets a message leave; whether it does."""
        moment, values = self._at(*inputs)
        live = self._session.exchanger
        if live.in_flight or not live.has_something(moment):
            return [np.False_]
        live.send(moment, self.laid_out(values))
        return [np.True_]

    def read_points(self, *inputs: Value) -> Outputs:
        """Reads where to go on from."""
        moment, _ = self._heard(inputs)
        return self.outputs(self._session.exchanger.read(moment))

    def push(self, *inputs: Value) -> Outputs:
        """Brings differences; nothing comes back."""
        self._session.exchanger.push(*self._at(*inputs))
        return []

    # What the leader of a group does, the others do.

    def leads(self, rate: np.float64) -> Outputs:
        """The leader's learning rate, and whether its training is stopped."""
        self._session.group.trains(True)
        return [rate, np.bool_(self._session.chiefs_word.is_stopped)]

    def follows(self, is_stopped: np.bool_) -> Outputs:
        """Stops training if the leader's is."""
        self._session.group.trains(True)
        if is_stopped:
            self._session.chiefs_word.stop()
        return []

    def _at(
        self,
        clock: np.int64,
        samples: np.int64,
        numbers: np.ndarray,
        rate: np.float64,
        *values: np.ndarray,
    ) -> tuple[Moment, Sequence[np.ndarray]]:
        """When an exchange is, and what it brings."""
        del rate
        at_rest = self._at_rest
        return Moment(int(clock), int(samples), numbers, at_rest), values

    def _heard(
        self, inputs: Sequence[Value]
    ) -> tuple[Moment, Sequence[np.ndarray]]:
        """The same; the chief's word is told, or heard, with it."""
        self._session.join()
        self._session.client.trains = True
        self._session.chiefs_word.tell(inputs[3])
        return self._at(*inputs)

    def laid_out(self, values: Sequence[np.ndarray]) -> list[np.ndarray]:
        """One flat array for each section, of what is outgoing."""
        room = self._session.exchanger.room_to_send
        return self._session.exchange.laid_out(values, room)

    def read(self) -> Outputs:
        """The center, and whether it can be read."""
        center = self._session.center()
        return [np.bool_(bool(center)), *(center or self._empty())]

    def outputs(self, moved: Moved) -> Outputs:
        """What a graph gets of what an exchange has come to."""
        exchange = self._session.exchange
        arrays = moved.arrays
        if moved.kind == NOTHING:
            arrays = self._empty()
        elif moved.kind != PULL or not exchange.only_reads:
            # TensorFlow may keep what it is given, and so does the client.
            arrays = exchange.layout.copies(arrays)
        return [
            np.int32(moved.kind),
            np.float64(moved.moving_rate),
            np.float64(self._session.chiefs_word.rate_to_take()),
            *arrays,
        ]

    def _empty(self) -> list[np.ndarray]:
        return [
            np.empty(0, layout_dtype.as_numpy_dtype)
            for layout_dtype in self._session.exchange.dtypes
        ]


def kind_of(points: Sequence[np.ndarray], center: Sequence[np.ndarray]) -> int:
    """What a worker that begins is to do: nothing if it is there already."""
    is_there = all(
        mine.tobytes() == theirs.tobytes()
        for mine, theirs in zip(points, center, strict=True)
    )
    return _SHOW if is_there else RESTART
