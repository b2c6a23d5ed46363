"""The nodes of a tree by number."""

from tf_elastic.core.topology import Topology


class Nodes:
    """The workers, then the inner nodes, those near the root first, the root.

    Args:
        topology: of the tree. A worker is the leaf of its number: by name
            ("worker:0") if all are called so, else in their order.

    Attributes:
        num_workers: p.
        num_inner: q, of inner nodes, without the root.
        root: its number, p + q.
        names: of all.
        parent: of each, -1 of the root.
        children: of each.
        up_period: of each, its local steps between two messages to its
            parent; 0 of the root.
        down_period: likewise to its children; 0 of a leaf, and of a node that
            answers what comes up.
        level: of each, edges between it and the root.

    Example:

    >>> from tf_elastic.core import topology
    >>> Nodes(topology.tree(2, 2, topology.up_down(1, 10))).parent
    [4, 4, 5, 5, 6, 6, -1]
    """

    def __init__(self, topology: Topology) -> None:
        leaves = _in_order(topology.leaves)
        self.num_workers = len(leaves)
        self.num_inner = len(topology.inner)
        self.root = self.num_workers + self.num_inner
        self.names = (*leaves, *topology.inner, topology.root)
        number = {name: i for i, name in enumerate(self.names)}
        parents = map(topology.parent, self.names)
        self.parent = [-1 if p is None else number[p] for p in parents]
        self.children = [
            sorted(number[child] for child in topology.children(name))
            for name in self.names
        ]
        self.up_period = [topology.up_period(n) or 0 for n in self.names]
        self.down_period = [topology.down_period(n) or 0 for n in self.names]
        self.level = [topology.level(name) for name in self.names]

    def __len__(self) -> int:
        """How many there are, the root among them."""
        return len(self.names)

    @property
    def depth(self) -> int:
        """Edges between the root and the leaf that is farthest from it."""
        return max(self.level)

    @property
    def inner_per_level(self) -> list[int]:
        """How many inner nodes there are of levels 1, 2 and so on."""
        levels = self.level[self.num_workers : self.root]
        return [levels.count(k + 1) for k in range(max(levels, default=0))]

    def inner(self, level: int, index: int) -> int:
        """An inner node by its place in its level, from 0."""
        inner = range(self.num_workers, self.root)
        return [node for node in inner if self.level[node] == level][index]

    def leaf_below(self, node: int) -> int:
        """The first worker below a node."""
        while self.children[node]:
            node = self.children[node][0]
        return node

    def workers_below(self, node: int) -> int:
        """How many workers are below a node; of a worker 1."""
        return sum(map(self.workers_below, self.children[node])) or 1

    def is_answered(self, child: int) -> bool:
        """Whether what a node sends to its parent is answered."""
        return self.down_period[self.parent[child]] == 0


def _in_order(leaves: tuple[str, ...]) -> tuple[str, ...]:
    by_number = tuple(f"worker:{i}" for i in range(len(leaves)))
    return by_number if set(by_number) == set(leaves) else leaves
