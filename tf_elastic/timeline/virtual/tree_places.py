"""Who is whose child in a tree by now, and who lives."""

from tf_elastic.timeline.virtual.nodes import Nodes


class Places:
    """As in the topology, until nodes die.

    Args:
        nodes: of the tree.

    Attributes:
        parent: of each node; of one that is dead, the one that it had.
        children: of each, without inner nodes that are dead.
        up_period: see `Nodes`; of who has moved, its dead parent's.
        is_alive: whether each is there; the workers are not yet.
    """

    def __init__(self, nodes: Nodes) -> None:
        self.parent = list(nodes.parent)
        self.children = [list(children) for children in nodes.children]
        self.up_period = list(nodes.up_period)
        self.is_alive = [n >= nodes.num_workers for n in range(len(nodes))]

    def living_above(self, node: int) -> int:
        """The nearest node above that is there; the root always is."""
        above = self.parent[node]
        while not self.is_alive[above]:
            above = self.parent[above]
        return above

    def move(self, child: int, to: int) -> None:
        """A child of a dead node becomes another's, and sends as seldom."""
        before = self.parent[child]
        self.children[before].remove(child)
        self.children[to].append(child)
        self.parent[child] = to
        self.up_period[child] = self.up_period[before]

    def die(self, node: int) -> None:
        """An inner node is nobody's child any more."""
        self.is_alive[node] = False
        self.children[self.parent[node]].remove(node)

    def come_back(self, node: int, to: int) -> None:
        """It is a child again."""
        self.is_alive[node] = True
        self.children[to].append(node)
        self.parent[node] = to

    def has_children(self, node: int) -> bool:
        """Whether any child is there."""
        return any(map(self.is_alive.__getitem__, self.children[node]))
