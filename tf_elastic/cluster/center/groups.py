"""The nodes that one server holds: one for each optimizer of a model.

An optimizer and the variables that it trains are a *group*, numbered from 0 in
the order in which the optimizers were built. Groups know nothing of each other:
each has its own layout, rule, version, members and rounds, so that a GAN's two
networks have two centers on the same servers.
"""

import threading
from collections.abc import Callable
from collections.abc import Iterator

from tf_elastic.cluster.center.node import Node
from tf_elastic.cluster.transport import wire


class Groups:
    """The nodes of one server, by group; each is made when it is asked for.

    Args:
        make_node: makes one that is empty, of a group's number.
    """

    def __init__(self, make_node: Callable[[int], Node]) -> None:
        self._make = make_node
        self._lock = threading.Lock()
        self._nodes = [make_node(0)]

    def __getitem__(self, group: int) -> Node:
        """The node of a group, below `wire.MAX_GROUPS`."""
        with self._lock:
            while len(self._nodes) <= group < wire.MAX_GROUPS:
                self._nodes.append(self._make(len(self._nodes)))
            return self._nodes[group]

    def __iter__(self) -> Iterator[Node]:
        with self._lock:
            return iter(list(self._nodes))

    @property
    def first(self) -> Node:
        """The one of the first optimizer."""
        return self[0]

    @classmethod
    def of(cls, nodes: "Node | Groups") -> "Groups":
        """Groups whose first one is a node that is there already."""
        if isinstance(nodes, Groups):
            return nodes
        first, twin = nodes, nodes.empty_twin
        return cls(lambda group: twin(group=group) if group else first)
