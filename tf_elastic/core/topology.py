"""Who exchanges with whom, and how often."""

from collections.abc import Callable
from collections.abc import Mapping
from collections.abc import Sequence
from typing import NamedTuple

ROOT = "root"


class TopologyError(ValueError):
    """A topology is none; the message says why.

    Args:
        message: what is wrong, and what to do.
        nodes: who is at fault.
    """

    def __init__(self, message: str, nodes: Sequence[str] = ()) -> None:
        super().__init__(message)
        self.nodes = tuple(nodes)


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

    Raises:
        TopologyError: they make no tree, or a period is none.

    Example:

    >>> tree(2, 2, multi_scale(leaf_period=1, upper_period=10)).leaves
    ('0.0', '0.1', '1.0', '1.1')
    """

    def __init__(self, edges: Sequence[Edge]) -> None:
        self.edges = tuple(edges)
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


class Periods(NamedTuple):
    """Of an edge; see `Edge`."""

    up: int
    down: int | None


class Scheme(NamedTuple):
    """How often whom: a period for each edge, by where it is.

    Use `multi_scale` or `up_down` for those of the thesis.

    Attributes:
        name: for messages.
        levels: of the leaves' edges, of those above, and so on; the last one
            is of all further ones.
    """

    name: str
    levels: tuple[Periods, ...]

    def periods(self, height: int) -> Periods:
        """Of an edge whose child is so high above the leaves, from 0."""
        return self.levels[min(height, len(self.levels) - 1)]


def multi_scale(leaf_period: int, upper_period: int) -> Scheme:
    r"""The first scheme: fast at the bottom, slow above.

    Args:
        leaf_period: :math:`\tau_1`, between the leaves and their parents, both
            ways, in steps.
        upper_period: :math:`\tau_2`, between all other nodes.

    Reference:
        Zhang (2016), section 6.1.1, Figure 6.2.
    """
    pairs = (leaf_period, leaf_period), (upper_period, upper_period)
    return Scheme("multi_scale", tuple(Periods(*pair) for pair in pairs))


def up_down(up_period: int, down_period: int) -> Scheme:
    r"""The second scheme: often upward, seldom downward.

    Args:
        up_period: :math:`\tau_u`, of every node but the root, in steps.
        down_period: :math:`\tau_d`, of every node but the leaves.

    Reference:
        Zhang (2016), section 6.1.1, Figure 6.2.
    """
    return Scheme("up_down", (Periods(up_period, down_period),))


def answered(leaf_period: int, upper_period: int | None = None) -> Scheme:
    """What comes up is answered, and nothing else is sent down.

    The "locally synchronous" protocol of section 6.1.1.

    Args:
        leaf_period: of the leaves, in their steps.
        upper_period: of all other nodes; None for the same.
    """
    levels = (leaf_period, upper_period or leaf_period)
    return Scheme("answered", tuple(Periods(up, None) for up in levels))


SCHEMES: dict[str, Callable[[int, int], Scheme]] = {
    "multi_scale": multi_scale,
    "up_down": up_down,
    "answered": answered,
}
DEFAULT_SCHEME = "up_down"  # of the two the one that diverges less often
# The second period of a scheme, of the first: the thesis' 100 of 10, 10 of 1
# and 80 of 8.
SECOND_PERIOD = 10


def scheme(name: str, first: int, second: int | None = None) -> Scheme:
    """A scheme by its name.

    Args:
        name: one of SCHEMES.
        first: its first period, in steps.
        second: its second one; None for ten times the first.

    Raises:
        TopologyError: there is none of this name, or a period is none.

    Example:

    >>> scheme("up_down", 1) == up_down(up_period=1, down_period=10)
    True
    """
    if name not in SCHEMES:
        raise TopologyError(
            f"`scheme` must be one of {', '.join(SCHEMES)}. Received: "
            f"scheme={name!r:.80}."
        )
    periods = (first, SECOND_PERIOD * first if second is None else second)
    if any(type(period) is not int or period < 1 for period in periods):
        raise TopologyError(
            f"`periods` must be two integers >= 1, of the scheme {name!r}. "
            f"Received: periods={periods!r}."
        )
    return SCHEMES[name](*periods)


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
    return Topology(edges)


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
