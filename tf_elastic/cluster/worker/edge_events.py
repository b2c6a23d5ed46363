"""What the child of an edge tells: where it is, what leaves, what is lost.

Its parent tells what it has got; see `center.one_way_exchanges`.
"""

import threading

from tf_elastic.cluster.edge_queues import Arrays
from tf_elastic.cluster.edge_queues import Put
from tf_elastic.cluster.edge_queues import Waiting
from tf_elastic.core.rules import Rates
from tf_elastic.timeline import event as happened
from tf_elastic.timeline.stream import Stream


class EdgeEvents:
    """Of one edge, in the order in which it happens. Thread-safe.

    Args:
        events: what the child tells.
        parent: the index of the first parent among the center servers.
    """

    def __init__(self, events: Stream, parent: int) -> None:
        self.stream = events
        self._parent = parent
        self._incarnation: int | None = None  # until it has joined
        self._lock = threading.Lock()

    def attach(self, parent: int, incarnation: int) -> None:
        """The child has joined a parent, the first one or another.

        Args:
            parent: its index.
            incarnation: by which the child is known there.
        """
        with self._lock:
            before = None if self._incarnation is None else self._parent
            self._parent, self._incarnation = parent, incarnation
            self._tell(happened.ATTACH, parent_before=before)

    def sends(self, put: Put, values: Arrays, clock: int) -> None:
        """A point leaves, or waits until it can.

        Args:
            put: how it was put.
            values: the point.
            clock: the child's own steps.
        """
        with self._lock:
            self._tell(
                happened.SEND,
                call=happened.UP,
                sequence=put.number,
                step_sent=clock,
                bytes=nbytes(values),
            )
            if put.dropped is not None:
                self._tell(
                    happened.DROP,
                    call=happened.UP,
                    sequence=put.dropped.number,
                    step_sent=put.dropped.step_sent,
                )

    def drops(self, waiting: Waiting | None) -> None:
        """A parent's point that waited has made room for a newer one."""
        if waiting is not None:
            sent = waiting.step_sent
            self._of_parents(happened.DROP, waiting, step_sent=sent)

    def follows(
        self, waiting: Waiting, clock: int, rate: float | None = None
    ) -> None:
        """The child moves by its parent's point, or begins again from it.

        Args:
            waiting: the point.
            clock: the child's own steps.
            rate: alpha, by which it moves; None if it begins again.
        """
        if rate is None:
            steps = {"step_sent": waiting.step_sent, "step_applied": clock}
            self._of_parents(happened.RESTART, waiting, **steps)
            return
        rates = {"moving_rate": rate, "beta": rate, "num_workers": 1}
        self._of_parents(
            happened.EXCHANGE,
            waiting,
            **came(waiting, clock, rates),
            outcome=happened.APPLIED,
        )

    def _of_parents(
        self, kind: str, waiting: Waiting, **fields: object
    ) -> None:
        number = {"call": happened.DOWN, "sequence": waiting.parents}
        self.stream.tell(
            kind, **{**of_parents(self.stream, waiting), **number, **fields}
        )

    def _tell(self, kind: str, **fields: object) -> None:
        own = {"child": self.stream.teller, "parent": self._parent}
        self.stream.tell(kind, **own, incarnation=self._incarnation, **fields)


def of_parents(events: Stream, waiting: Waiting) -> dict[str, object]:
    """The fields of a child's event that say which edge a point has come by."""
    return {
        "child": events.teller,
        "parent": waiting.parent,
        "incarnation": waiting.incarnation,
    }


def came(waiting: Waiting, clock: int, rates: Rates) -> dict[str, object]:
    """The fields of an event that a point is looked at.

    Args:
        waiting: the point.
        clock: the receiver's own steps.
        rates: by which it would move.
    """
    return {
        "step_sent": waiting.step_sent,
        "step_applied": clock,
        "bytes": nbytes(waiting.values),
        "rates": rates,
    }


def nbytes(values: Arrays) -> int:
    """What a point weighs."""
    return sum(array.nbytes for array in values)
