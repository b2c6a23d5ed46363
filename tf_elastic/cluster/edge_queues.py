"""What waits on the edges between a node and its neighbours."""

import collections
import threading
from collections.abc import Hashable
from typing import NamedTuple

import numpy as np

Arrays = list[np.ndarray]


class Waiting(NamedTuple):
    """A message that waits."""

    number: int  # from 1, grows with each message of whatever edge
    values: Arrays
    # A message's number at whoever has it from there. In a child's outbox: of
    # the parent's newest that it has followed; in an inbox: of this one, by
    # its sender.
    parents: int = 0
    restart: bool = False  # the receiver is to begin again from here
    step_sent: int = 0  # the sender's own steps, when it was sent
    # In an inbox: which life of the child it belongs to, and of a parent's
    # point which center server that is.
    incarnation: int = 0
    parent: int = 0


class Put(NamedTuple):
    """What came of a message that was put."""

    number: int
    dropped: Waiting | None  # that it has superseded


class EdgeQueues:
    """For each edge a bounded queue, first in, first out. Thread-safe.

    A message that is one too many takes the place of the oldest: it is where
    a node was, and a newer one supersedes it. With `most` = 1 the newest wins.

    Args:
        most: messages that wait on one edge, at least 1; one beside them may
            be in hand, see `first`.

    Raises:
        ValueError: `most` is no such number.
    """

    def __init__(self, most: int) -> None:
        if type(most) is not int or most < 1:
            raise ValueError(
                "`most_waiting` must be an integer >= 1. Received: "
                f"most_waiting={most!r}."
            )
        self._most = most
        self._number = 0
        self._queues: dict[Hashable, collections.deque[Waiting]] = {}
        self._in_hand: dict[Hashable, int] = {}
        self._overflowed: collections.Counter[Hashable] = collections.Counter()
        self._lock = threading.Lock()

    def put(
        self,
        edge: Hashable,
        values: Arrays,
        restart: bool = False,
        **fields: int,
    ) -> Put:
        """Takes a message, which nobody changes any more.

        Args:
            edge: of the message.
            values: where its sender is.
            restart: whether the receiver is to begin again from there.
            **fields: further ones of `Waiting`.
        """
        with self._lock:
            self._number += 1
            queue = self._queues.setdefault(edge, collections.deque())
            queue.append(
                Waiting(self._number, values, restart=restart, **fields)
            )
            dropped = None
            oldest = int(queue[0].number == self._in_hand.get(edge))
            if len(queue) - oldest > self._most:
                if queue[oldest].restart:  # From a newer point, then.
                    newer = queue[oldest + 1]._replace(restart=True)
                    queue[oldest + 1] = newer
                dropped = queue[oldest]
                del queue[oldest]
                self._overflowed[edge] += 1
            return Put(self._number, dropped)

    def edges(self) -> list[Hashable]:
        """The edge of each message that waits, in the order of arrival."""
        with self._lock:
            waiting = [
                (each.number, edge)
                for edge, queue in self._queues.items()
                for each in queue
            ]
        return [edge for _, edge in sorted(waiting, key=lambda each: each[0])]

    def take(self, edge: Hashable) -> Waiting:
        """Takes the oldest message of an edge, which there is, away."""
        with self._lock:
            return self._queues[edge].popleft()

    def first(self, edge: Hashable, after: int) -> Waiting | None:
        """The next message of an edge, for who may have to ask again.

        It is in hand until the next one is asked for, and so can't be
        superseded.

        Args:
            edge: of the message.
            after: the number of the last one that came; 0 for none. (One
                that is none of these queues' counts as 0: they are newer.)

        Returns:
            None if no message waits.
        """
        with self._lock:
            queue = self._queues.get(edge)
            while queue and queue[0].number <= after <= self._number:
                queue.popleft()
            self._in_hand.pop(edge, None)
            if not queue:
                return None
            self._in_hand[edge] = queue[0].number
            return queue[0]

    def forget(self, edge: Hashable) -> None:
        """Forgets what waits on an edge."""
        with self._lock:
            self._queues.pop(edge, None)
            self._in_hand.pop(edge, None)

    def overflowed(self) -> dict[Hashable, int]:
        """How many messages were superseded before they got on, by edge."""
        with self._lock:
            return dict(self._overflowed)

    def overflowed_by_name(self) -> dict[str, int]:
        """The same for a status; JSON."""
        return {str(edge): n for edge, n in self.overflowed().items()}
