"""What is on the edges of a virtual tree, and who waits there."""

import collections
from collections.abc import Callable
from collections.abc import Generator
from collections.abc import Iterator
from typing import NamedTuple

from tf_elastic.timeline.virtual.moves import NOT_SEEN
from tf_elastic.timeline.virtual.moves import NOT_SENT
from tf_elastic.timeline.virtual.nodes import Nodes
from tf_elastic.timeline.virtual.scheduler import MESSAGE
from tf_elastic.timeline.virtual.scheduler import Process
from tf_elastic.timeline.virtual.scheduler import Scheduler
from tf_elastic.timeline.virtual.timing import Timing
from tf_elastic.timeline.virtual.tree_links import TreeLinks
from tf_elastic.timeline.virtual.tree_places import Places
from tf_elastic.timeline.virtual.workload import Workload


class Point(NamedTuple):
    """A node's point on its way along an edge."""

    child: int  # whose edge
    up: bool
    row: int
    # The parent's version: of a point that comes down as it left, of one that
    # goes up as the child was last told.
    mark: int


class TreeEdges:
    """The edges, with a queue at each end of each, both ways.

    One point at a time is on its way along an edge in each direction. Those
    that come meanwhile wait, as do those that have arrived until the node's
    next turn: `most_waiting` of them, of more the oldest is lost.

    Args:
        timing: of the cluster.
        workload: what a point weighs.
        nodes: of the tree.
        places: of them, as of now.
        seed: of the timeline.
        most_waiting: at least 1.
        scheduler: of the cluster.
        lost: called of (kind of the move, time, the point that is lost).

    Attributes:
        inbox: of each node, the points that have arrived, in order.
    """

    def __init__(
        self,
        timing: Timing,
        workload: Workload,
        nodes: Nodes,
        places: Places,
        seed: int,
        most_waiting: int,
        scheduler: Scheduler,
        lost: Callable[[int, float, Point], None],
    ) -> None:
        everyone = range(len(nodes))
        self._num_nodes = len(nodes)
        self._places = places
        self._links = TreeLinks(timing, nodes, seed, places.parent)
        self._is_instant = timing.is_instant
        self._bytes = workload.bytes_down, workload.bytes_up
        self._most = most_waiting
        self._scheduler = scheduler
        self._lost = lost
        self.inbox: list[collections.deque[Point]]
        self.inbox = [collections.deque() for _ in everyone]
        # By channel: a node's to its parent, and len(nodes) further from it.
        self._on_the_way: dict[int, Point] = {}
        self._unsent: dict[int, collections.deque[Point]] = {}
        self._unseen = [0] * 2 * len(nodes)  # of the inbox

    def channels(self, child: int) -> tuple[int, int]:
        """The numbers of an edge's two directions, up and down."""
        return child, self._num_nodes + child

    def send(self, point: Point, time: float) -> None:
        """A point leaves, or waits until it can."""
        channel = self._channel(point)
        parent = self._places.parent[point.child]
        if not point.up or self._places.is_alive[parent]:
            if self._is_instant:
                self._arrive(point, time)
                return
            if channel not in self._on_the_way:
                process = self._transit(channel, point, time)
                self._scheduler.start(channel, MESSAGE, process)
                return
        unsent = self._unsent.setdefault(channel, collections.deque())
        unsent.append(point)
        if len(unsent) > self._most:
            self._lost(NOT_SENT, time, unsent.popleft())

    def resume(self, child: int, time: float) -> None:
        """A node has a living parent again: what waits there leaves."""
        channel, _ = self.channels(child)
        unsent = self._unsent.get(channel)
        while unsent and self._is_instant:
            self._arrive(unsent.popleft(), time)
        if unsent and channel not in self._on_the_way:
            process = self._transit(channel, unsent.popleft(), time)
            self._scheduler.start(channel, MESSAGE, process)

    def taken(self, node: int) -> Iterator[Point]:
        """The points that have arrived at a node, one after another."""
        inbox = self.inbox[node]
        while inbox:
            point = inbox.popleft()
            self._unseen[self._channel(point)] -= 1
            yield point

    def travel(
        self, child: int, up: bool, time: float
    ) -> Generator[float, float, float]:
        """A question or its answer goes along an edge; see `TreeLinks`."""
        if self._is_instant:
            return time
        return (yield from self._links.travel(child, up, self._bytes[up], time))

    def clear(self, child: int, time: float) -> None:
        """Loses what is on a child's edge up, or waits at its end of it.

        What has arrived at its parent stays.
        """
        for point in self.taken(child):
            self._lost(NOT_SEEN, time, point)
        for channel in self.channels(child):
            if channel in self._on_the_way:
                self._lost(NOT_SEEN, time, self._on_the_way.pop(channel))
            for point in self._unsent.pop(channel, ()):
                self._lost(NOT_SENT, time, point)

    def clear_node(self, node: int, time: float) -> None:
        """Loses what is on all of an inner node's edges, or waits with it.

        What waits at its children for it stays.
        """
        self.clear(node, time)
        for child in self._places.children[node]:
            up, down = self.channels(child)
            self._scheduler.silence((up, down))
            for channel in (up, down):
                if channel in self._on_the_way:
                    point = self._on_the_way.pop(channel)
                    self._lost(NOT_SEEN, time, point)
            for point in self._unsent.pop(down, ()):
                self._lost(NOT_SENT, time, point)

    def _channel(self, point: Point) -> int:
        return self.channels(point.child)[not point.up]

    def _transit(self, channel: int, point: Point, time: float) -> Process:
        """Points along an edge, until none is left."""
        unsent = None
        while True:
            self._on_the_way[channel] = point
            time = yield from self.travel(point.child, point.up, time)
            del self._on_the_way[channel]
            self._arrive(point, time)
            unsent = self._unsent.get(channel)
            if not unsent:
                break
            point = unsent.popleft()
        yield None

    def _arrive(self, point: Point, time: float) -> None:
        up, channel = point.up, self._channel(point)
        node = self._places.parent[point.child] if up else point.child
        inbox = self.inbox[node]
        inbox.append(point)
        self._unseen[channel] += 1
        if self._unseen[channel] > self._most:
            self._unseen[channel] -= 1
            oldest = next(
                p for p in inbox if p.child == point.child and p.up == up
            )
            inbox.remove(oldest)
            self._lost(NOT_SEEN, time, oldest)
