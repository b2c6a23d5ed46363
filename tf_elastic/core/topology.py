"""Who exchanges with whom, and how often."""

import json
import pathlib
from collections.abc import Sequence
from typing import NamedTuple


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
        edges: every node but the root is the child of one of them.

    Raises:
        ValueError: they make no tree, or a period is none.

    Example:

    >>> tree(degree=2, depth=2, up_period=10).leaves
    ('0.0', '0.1', '1.0', '1.1')
    """

    def __init__(self, edges: Sequence[Edge]) -> None:
        self.edges = tuple(edges)
        self._edge_of = {edge.child: edge for edge in self.edges}
        self._check()
        [self.root] = self._parents() - set(self._edge_of)

    def _parents(self) -> set[str]:
        return {edge.parent for edge in self.edges}

    def _check(self) -> None:
        if len(self._edge_of) != len(self.edges):
            names = [edge.child for edge in self.edges]
            twice = sorted({name for name in names if names.count(name) > 1})
            raise ValueError(
                "`edges` must give each node one parent. Received: several "
                f"for {twice}."
            )
        for edge in self.edges:
            for name in ("up_period", "down_period"):
                period = getattr(edge, name)
                if period is None and name == "down_period":
                    continue
                if type(period) is not int or period < 1:
                    raise ValueError(
                        f"`{name}` must be an integer >= 1. Received: "
                        f"{name}={period!r} of {edge.child!r}."
                    )
        roots = self._parents() - set(self._edge_of)
        if len(roots) != 1:
            raise ValueError(
                "`edges` must have one node that is nobody's child, the root. "
                f"Received: {sorted(roots) or 'none'}."
            )
        [root] = roots
        for child in self._edge_of:
            node = child
            for _ in self.edges:
                if node == root:
                    break
                node = self._edge_of[node].parent
            if node != root:
                raise ValueError(
                    "`edges` must lead from every node to the root. Received: "
                    f"a loop at {child!r}."
                )

    @property
    def nodes(self) -> tuple[str, ...]:
        """The root, then all others in the order of the edges."""
        return (self.root, *self._edge_of)

    @property
    def leaves(self) -> tuple[str, ...]:
        """Those who have no children: the workers."""
        parents = self._parents()
        return tuple(name for name in self._edge_of if name not in parents)

    def edge_of(self, child: str) -> Edge:
        """The edge to a node's parent."""
        return self._edge_of[child]

    def children(self, parent: str) -> tuple[str, ...]:
        """A node's children, in the order of the edges."""
        return tuple(e.child for e in self.edges if e.parent == parent)

    def to_json(self) -> list[list[object]]:
        """The edges; see `from_file`."""
        return [list(edge) for edge in self.edges]


def star(num_workers: int, up_period: int) -> Topology:
    """All workers at one center.

    Args:
        num_workers: p, at least 1.
        up_period: tau.
    """
    names = [str(i) for i in range(num_workers)]
    return Topology([Edge(name, "root", up_period) for name in names])


def tree(
    degree: int,
    depth: int,
    up_period: int,
    down_period: int | None = None,
    leaf_period: int | None = None,
) -> Topology:
    """A tree in which every node but the leaves has so many children.

    The thesis' first scheme (section 6.1.1) has `leaf_period` = tau_1 and the
    others tau_2; its second one has `up_period` = tau_u and `down_period` =
    tau_d.

    Args:
        degree: d, at least 1.
        depth: edges between the root and a leaf, at least 1.
        up_period: of every edge.
        down_period: of every edge; None: what comes up is answered.
        leaf_period: of the leaves' edges instead, both ways.

    Raises:
        ValueError: an argument is out of its range.
    """
    for name, value in (("degree", degree), ("depth", depth)):
        if type(value) is not int or value < 1:
            raise ValueError(
                f"`{name}` must be an integer >= 1. Received: {name}={value!r}."
            )
    edges: list[Edge] = []
    level = ["root"]
    for of_depth in range(1, depth + 1):
        below = []
        up, down = up_period, down_period
        if of_depth == depth and leaf_period is not None:
            up, down = leaf_period, down_period and leaf_period
        for parent in level:
            prefix = "" if parent == "root" else f"{parent}."
            for i in range(degree):
                below.append(f"{prefix}{i}")
                edges.append(Edge(below[-1], parent, up, down))
        level = below
    return Topology(edges)


def from_file(path: str | pathlib.Path) -> Topology:
    """Reads what `Topology.to_json` gave, from a JSON file.

    Raises:
        ValueError: it is no list of edges.
    """
    text = pathlib.Path(path).read_text(encoding="utf-8")
    try:
        return Topology([Edge(*row) for row in json.loads(text)])
    except (TypeError, ValueError) as error:
        raise ValueError(f"{path} is no topology: {error}") from error
