"""Who exchanges with whom, and how often."""

from collections.abc import Mapping
from collections.abc import Sequence
from typing import NamedTuple

from tf_elastic.core.tree_schemes import ACCUMULATED
from tf_elastic.core.tree_schemes import DEFAULT_SCHEME
from tf_elastic.core.tree_schemes import ONE_WAY
from tf_elastic.core.tree_schemes import SCHEMES
from tf_elastic.core.tree_schemes import SECOND_PERIOD
from tf_elastic.core.tree_schemes import SYNCHRONOUS
from tf_elastic.core.tree_schemes import Periods
from tf_elastic.core.tree_schemes import Scheme
from tf_elastic.core.tree_schemes import TopologyError
from tf_elastic.core.tree_schemes import accumulated
from tf_elastic.core.tree_schemes import answered
from tf_elastic.core.tree_schemes import multi_scale
from tf_elastic.core.tree_schemes import scheme
from tf_elastic.core.tree_schemes import synchronous
from tf_elastic.core.tree_schemes import up_down

ROOT = "root"


class Edge(NamedTuple):
    """A child and its parent."""

    child: str
    parent: str
    up_period: int  # the child's local steps between two messages up
    # The parent's between two messages down; None: it answers what came up.
    down_period: int | None = None


class Topology:
    """Nodes and their parents: one root, no loops.

    Args:
        edges: every node but the root is the child of one of them. All
            children of a node have the same `down_period`.
        protocol: ONE_WAY (default); or SYNCHRONOUS or ACCUMULATED, in which
            whatever comes up is answered (`down_period` is None), and the
            `up_period` of a node with children counts its own updates.

    Raises:
        TopologyError: they make no tree, or a period or the protocol is none.

    Example:

    >>> tree(2, 2, multi_scale(leaf_period=1, upper_period=10)).leaves
    ('0.0', '0.1', '1.0', '1.1')
    """

    def __init__(self, edges: Sequence[Edge], protocol: str = ONE_WAY) -> None:
        self.edges = tuple(edges)
        self.protocol = protocol
        self._edge_of = {edge.child: edge for edge in self.edges}
        self._children: dict[str, list[str]] = {}
        for edge in self.edges:
            self._children.setdefault(edge.parent, []).append(edge.child)
        self._check()
        [self.root] = set(self._children) - set(self._edge_of)

    def _check(self) -> None:
        for edge in self.edges:
            for name in ("up_period", "down_period"):
                period = getattr(edge, name)
                if period is None and name == "down_period":
                    continue
                if type(period) is not int or period < 1:
                    raise TopologyError(
                        f"`{name}` must be an integer >= 1. Received: "
                        f"{name}={period!r} of {edge.child!r}.",
                        [edge.child],
                    )
        self._check_protocol()
        if len(self._edge_of) != len(self.edges):
            names = [edge.child for edge in self.edges]
            twice = sorted({name for name in names if names.count(name) > 1})
            raise TopologyError(
                "`edges` must give each node one parent. Received: several "
                f"for {twice}.",
                twice,
            )
        roots = sorted(set(self._children) - set(self._edge_of))
        if not self.edges or len(roots) > 1:
            raise TopologyError(
                "`edges` must have one node that is nobody's child, the root. "
                f"Received: {roots or 'none'}.",
                roots,
            )
        self._check_no_loop(roots)
        for parent in self._children:
            self._check_down_periods(parent)

    def _check_protocol(self) -> None:
        if self.protocol not in (ONE_WAY, SYNCHRONOUS, ACCUMULATED):
            raise TopologyError(
                f"`protocol` must be {ONE_WAY!r}, {SYNCHRONOUS!r} or "
                f"{ACCUMULATED!r}. Received: protocol={self.protocol!r:.80}."
            )
        if self.protocol == ONE_WAY:
            return
        for edge in self.edges:
            if edge.down_period is not None:
                raise TopologyError(
                    f"In a tree of the protocol {self.protocol!r} whatever "
                    "comes up is answered. Received: "
                    f"down_period={edge.down_period} of {edge.child!r}. Leave "
                    "it out.",
                    [edge.child],
                )

    def _check_no_loop(self, roots: Sequence[str]) -> None:
        reached = set(roots)
        waiting = list(roots)
        while waiting:
            children = self._children.get(waiting.pop(), ())
            reached.update(children)
            waiting.extend(children)
        for child in self._edge_of:
            if child not in reached:
                raise TopologyError(
                    "`edges` must lead from every node to the root. Received: "
                    f"a loop at {child!r}.",
                    [child],
                )

    def _check_down_periods(self, parent: str) -> None:
        first, *others = self._children[parent]
        expected = self._edge_of[first].down_period
        for child in others:
            if self._edge_of[child].down_period != expected:
                raise TopologyError(
                    "All children of a node must have the same `down_period`: "
                    "it sends to all of them at once. Received: "
                    f"{expected} of {first!r} and "
                    f"{self._edge_of[child].down_period} of {child!r}, the "
                    f"children of {parent!r}.",
                    [child],
                )

    @property
    def nodes(self) -> tuple[str, ...]:
        """The root, then all others in the order of the edges."""
        return (self.root, *self._edge_of)

    @property
    def leaves(self) -> tuple[str, ...]:
        """Those who have no children: the workers."""
        return tuple(n for n in self._edge_of if n not in self._children)

    @property
    def inner(self) -> tuple[str, ...]:
        """Those who have a parent and children, those near the root first."""
        found = [n for n in self._edge_of if n in self._children]
        return tuple(sorted(found, key=self.level))

    @property
    def depth(self) -> int:
        """Edges between the root and the leaf that is farthest from it."""
        return max(map(self.level, self.leaves))

    def edge_of(self, child: str) -> Edge:
        """The edge to a node's parent."""
        return self._edge_of[child]

    def parent(self, node: str) -> str | None:
        """A node's parent; None of the root."""
        edge = self._edge_of.get(node)
        return edge.parent if edge else None

    def ancestors(self, node: str) -> tuple[str, ...]:
        """A node's parent, that one's parent and so on, to the root."""
        found = []
        while (parent := self.parent(node)) is not None:
            found.append(parent)
            node = parent
        return tuple(found)

    def level(self, node: str) -> int:
        """Edges between the root and a node."""
        return len(self.ancestors(node))

    def children(self, parent: str) -> tuple[str, ...]:
        """A node's children, in the order of the edges."""
        return tuple(self._children.get(parent, ()))

    def up_period(self, node: str) -> int | None:
        """A node's steps between two messages up; None of the root."""
        edge = self._edge_of.get(node)
        return edge.up_period if edge else None

    def down_period(self, node: str) -> int | None:
        """A node's steps between two messages to its children.

        Returns:
            None of a leaf, and of a node that answers what comes up.
        """
        children = self._children.get(node)
        return self._edge_of[children[0]].down_period if children else None

    def to_json(self) -> list[list[object]]:
        """The edges; see `topology_file.read`."""
        return [list(edge) for edge in self.edges]


def from_parents(parents: Mapping[str, str], scheme: Scheme) -> Topology:
    """A topology of given nodes.

    Args:
        parents: {child: its parent}.
        scheme: of the periods. How high an edge is counts from the lowest leaf
            below it.

    Raises:
        TopologyError: it is none.

    Example:

    >>> scheme = multi_scale(leaf_period=1, upper_period=10)
    >>> made = from_parents({"a": "x", "b": "x", "x": "r", "y": "r"}, scheme)
    >>> made.edge_of("x").up_period, made.leaves
    (10, ('a', 'b', 'y'))
    """
    # Loops, and what else there may be, before heights are asked for.
    shape = Topology([Edge(c, p, 1, None) for c, p in parents.items()])
    heights = dict.fromkeys(shape.nodes, 0)
    for leaf in shape.leaves:
        for height, node in enumerate(shape.ancestors(leaf), start=1):
            heights[node] = max(heights[node], height)
    edges = []
    for child, parent in parents.items():
        # Of the parent: all its children have the same.
        up, down = scheme.periods(heights[parent] - 1)
        edges.append(Edge(child, parent, up, down))
    return Topology(edges, scheme.protocol)


def star(num_workers: int, up_period: int) -> Topology:
    """All workers at one center, which answers them.

    Args:
        num_workers: p, at least 1.
        up_period: tau.
    """
    names = [str(i) for i in range(num_workers)]
    return Topology([Edge(name, ROOT, up_period) for name in names])


def tree(degree: int, depth: int, scheme: Scheme) -> Topology:
    """A tree in which every node but the leaves has so many children.

    Args:
        degree: d, at least 2.
        depth: edges between the root and a leaf, at least 1.
        scheme: of the periods.

    Raises:
        TopologyError: an argument is out of its range.
    """
    check_degree(degree)
    if type(depth) is not int or depth < 1:
        raise TopologyError(
            f"`depth` must be an integer >= 1. Received: depth={depth!r}."
        )
    parents: dict[str, str] = {}
    level = [ROOT]
    for _ in range(depth):
        below = []
        for parent in level:
            prefix = "" if parent == ROOT else f"{parent}."
            names = [f"{prefix}{i}" for i in range(degree)]
            parents.update(dict.fromkeys(names, parent))
            below += names
        level = below
    return from_parents(parents, scheme)


def check_degree(degree: object) -> None:
    """Refuses a degree of which no tree can be made.

    Raises:
        TopologyError: it is no integer of at least 2.
    """
    if type(degree) is not int or degree < 2:
        raise TopologyError(
            "`degree` must be an integer >= 2: a node with one child does "
            f"nothing that the child does not. Received: degree={degree!r}."
        )


__all__ = [
    "ACCUMULATED",
    "DEFAULT_SCHEME",
    "Edge",
    "ONE_WAY",
    "Periods",
    "ROOT",
    "SCHEMES",
    "SECOND_PERIOD",
    "SYNCHRONOUS",
    "Scheme",
    "Topology",
    "TopologyError",
    "accumulated",
    "answered",
    "check_degree",
    "from_parents",
    "multi_scale",
    "scheme",
    "star",
    "synchronous",
    "tree",
    "up_down",
]
