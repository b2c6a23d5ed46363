"""A virtual tree of servers that send up what updates came to: HALoS."""

from tf_elastic.timeline.virtual.scheduler import MESSAGE
from tf_elastic.timeline.virtual.scheduler import Process
from tf_elastic.timeline.virtual.tree_cluster import TreeCluster
from tf_elastic.timeline.virtual.tree_edges import Point


class AccumulatingTree(TreeCluster):
    """A worker sends each H steps what it has done, and is answered at once.

    A node that has moved K times since it last merged sends up what that came
    to, and goes on serving its children; its parent moves and answers at once,
    and the node merges the answer when it comes. Until then it sends nothing
    more.

    Arguments: see `TreeCluster`.
    """

    def _start_nodes(self) -> None:
        """A node does something only when it is asked, or answered."""
        self._merged_at = [0] * len(self._nodes)  # of each, its version then
        self._asking: set[int] = set()  # nodes whose answer is to come

    def _follow_child(self, node: int, time: float, point: Point) -> None:
        super()._follow_child(node, time, point)
        if node == self._nodes.root or node in self._asking:
            return
        moved = self._versions[node] - self._merged_at[node]
        if moved >= self._nodes.up_period[node]:
            self._asking.add(node)
            self._scheduler.start(node, MESSAGE, self._exchange(node, time))

    def _exchange(self, node: int, time: float) -> Process:
        """With its parent, while its children go on."""
        yield from self._ask(node, time)
        self._merged_at[node] = self._versions[node]
        self._asking.remove(node)
        yield None
