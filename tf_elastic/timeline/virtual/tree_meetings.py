"""A virtual tree whose nodes meet their children: hierarchical local SGD."""

from collections.abc import Generator

from tf_elastic.timeline.virtual import moves
from tf_elastic.timeline.virtual.scheduler import MESSAGE
from tf_elastic.timeline.virtual.scheduler import Process
from tf_elastic.timeline.virtual.tree_cluster import TreeCluster
from tf_elastic.timeline.virtual.tree_edges import Point


class MeetingTree(TreeCluster):
    """A worker sends its point each H steps and waits, as a block does.

    A node moves when all its children's points have come. Then it tells them
    where it is; but after so many of its meetings as its `up_period` says it
    goes to its parent's meeting first, and tells them what comes of that.

    Arguments: see `TreeCluster`. Nobody comes or dies.
    """

    def _start_nodes(self) -> None:
        """A node does something only when its children have come."""
        nodes = self._nodes
        self._here = [0] * len(nodes)  # of each node, children that have come
        self._below = [*map(nodes.workers_below, range(len(nodes)))]

    def _ask(
        self, node: int, time: float
    ) -> Generator[float | None, float, float]:
        """A worker goes to the meeting of its parent, and waits."""
        yield from self._come(node, time)
        return (yield None)  # Who is told of it wakes it.

    def _go_up(self, node: int, time: float) -> Process:
        """A node does, while its children wait."""
        yield from self._come(node, time)
        yield None

    def _come(self, child: int, time: float) -> Generator[float, float, None]:
        row = self._put(self._up_kind(child), child, time, 1)
        time = yield from self._edges.travel(child, True, time)
        node = self._nodes.parent[child]
        is_root = node == self._nodes.root
        kind = moves.ROOT_ADD if is_root else moves.NODE_ADD
        self._note(kind, time, node, count=self._below[child], row=row)
        self._rows.release(row)
        self._here[node] += 1
        if self._here[node] == len(self._nodes.children[node]):
            self._here[node] = 0
            self._meet(node, time)

    def _meet(self, node: int, time: float) -> None:
        is_root = node == self._nodes.root
        kind = moves.ROOT_COLLECT if is_root else moves.NODE_COLLECT
        self._note(kind, time, node, count=self._below[node])
        self._versions[node] += 1
        if is_root or self._versions[node] % self._nodes.up_period[node]:
            self._tell(node, time)
        else:
            self._scheduler.start(node, MESSAGE, self._go_up(node, time))

    def _tell(self, node: int, time: float) -> None:
        """The node's point, to all its children."""
        children = self._nodes.children[node]
        row = self._put(self._down_kind(node), node, time, len(children))
        for child in children:
            _, channel = self._edges.channels(child)
            process = self._come_down(child, time, row)
            self._scheduler.start(channel, MESSAGE, process)

    def _come_down(self, child: int, time: float, row: int) -> Process:
        time = yield from self._edges.travel(child, False, time)
        parent = self._nodes.parent[child]
        point = Point(child, False, row, self._versions[parent])
        self._follow_parent(child, time, point)
        self._rows.release(row)
        if child < self._nodes.num_workers:
            self._scheduler.wake(time, child)
        else:
            self._tell(child, time)
        yield None
