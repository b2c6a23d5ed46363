"""What the graph of a training step asks of the host, by NumPy arrays."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from tf_elastic.cluster.worker import exchanger

if TYPE_CHECKING:
    from tf_elastic.strategies.center_session import CenterSession

# What a graph gets: arrays, and scalars of NumPy.
Outputs = list[np.ndarray | np.generic]

# What an order of `exchanger` may be here: the worker is at the center.
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
        """Begins at the center, for the first training step."""
        if self._session not in step.trained_by:
            nothing = [np.int32(exchanger.NOTHING), np.float64(0.0)]
            return [*nothing, np.float64(np.nan), *self._empty(), np.int64(0)]
        if self._session.exchanger is None:
            order = self._session.enter(points)
        else:
            order = self._session.exchanger.begin(exchanger.Moment(clock, 0))
            order = order._replace(kind=kind_of(points, order.arrays))
        self._session.chiefs_word.begins(rate)
        return [*self.outputs(order), np.int64(self._session.client.clock)]

    def now(
        self,
        clock: np.int64,
        samples: np.int64,
        numbers: np.ndarray,
        rate: np.float64,
        *values: np.ndarray,
    ) -> Outputs:
        """Exchanges while the worker waits, if it has something."""
        moment = self._moment(clock, samples, numbers, rate)
        order = exchanger.Order(exchanger.NOTHING, 0.0, ())
        if self._session.exchanger.has_something(moment):
            order = self._session.exchanger.now(moment, self.laid_out(values))
        return self.outputs(order)

    def collect(
        self,
        clock: np.int64,
        samples: np.int64,
        numbers: np.ndarray,
        rate: np.float64,
    ) -> Outputs:
        """Takes the answer to what has left."""
        moment = self._moment(clock, samples, numbers, rate)
        return self.outputs(self._session.exchanger.collect(moment))

    def send(
        self,
        clock: np.int64,
        samples: np.int64,
        numbers: np.ndarray,
        rate: np.float64,
        *values: np.ndarray,
    ) -> np.bool_:
        """Lets a message leave; whether it does."""
        del rate
        moment = self._at(clock, samples, numbers)
        live = self._session.exchanger
        if live.in_flight or not live.has_something(moment):
            return np.False_
        live.send(moment, self.laid_out(values))
        return np.True_

    def _at(
        self, clock: np.int64, samples: np.int64, numbers: np.ndarray
    ) -> exchanger.Moment:
        return exchanger.Moment(clock, samples, numbers, self._at_rest)

    def _moment(
        self,
        clock: np.int64,
        samples: np.int64,
        numbers: np.ndarray,
        rate: np.float64,
    ) -> exchanger.Moment:
        """Of an exchange; the chief's word is told, or heard, with it."""
        self._session.join()
        self._session.client.trains = True
        self._session.chiefs_word.tell(rate)
        return self._at(clock, samples, numbers)

    def laid_out(self, values: Sequence[np.ndarray]) -> list[np.ndarray]:
        """One flat array for each section, of what is outgoing."""
        room = self._session.exchanger.room_to_send
        return self._session.exchange.laid_out(values, room)

    def read_points(
        self,
        clock: np.int64,
        samples: np.int64,
        numbers: np.ndarray,
        rate: np.float64,
    ) -> Outputs:
        """Reads where to go on from."""
        moment = self._moment(clock, samples, numbers, rate)
        return self.outputs(self._session.exchanger.read(moment))

    def push(
        self,
        clock: np.int64,
        samples: np.int64,
        numbers: np.ndarray,
        rate: np.float64,
        *values: np.ndarray,
    ) -> Outputs:
        """Brings differences; nothing comes back."""
        del rate
        moment = self._at(clock, samples, numbers)
        self._session.exchanger.push(moment, values)
        return []

    def read(self) -> Outputs:
        """The center, and whether it can be read."""
        center = self._session.center()
        return [np.bool_(bool(center)), *(center or self._empty())]

    def outputs(self, order: exchanger.Order) -> Outputs:
        """What a graph gets of an order."""
        exchange = self._session.exchange
        arrays = order.arrays
        if order.kind == exchanger.NOTHING:
            arrays = self._empty()
        elif order.kind != exchanger.PULL or not exchange.only_reads:
            # TensorFlow may keep what it is given, and so does the client.
            arrays = exchange.layout.copies(arrays)
        return [
            np.int32(order.kind),
            np.float64(order.moving_rate),
            np.float64(self._session.chiefs_word.rate_to_take()),
            *arrays,
        ]

    def _empty(self) -> list[np.ndarray]:
        return [
            np.empty(0, layout_dtype.as_numpy_dtype)
            for layout_dtype in self._session.exchange.dtypes
        ]


def kind_of(
    points: Sequence[np.ndarray], center: Sequence[np.ndarray]
) -> int:
    """What a worker that begins is to do: nothing if it is there already."""
    is_there = all(
        mine.tobytes() == theirs.tobytes()
        for mine, theirs in zip(points, center, strict=True)
    )
    return _SHOW if is_there else exchanger.RESTART
