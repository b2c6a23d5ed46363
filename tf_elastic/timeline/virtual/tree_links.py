"""The links of a tree: when a message that leaves a node is at the next."""

from collections.abc import Generator
from collections.abc import Sequence

from tf_elastic.timeline.virtual import streams
from tf_elastic.timeline.virtual.center import delays
from tf_elastic.timeline.virtual.nodes import Nodes
from tf_elastic.timeline.virtual.timing import Timing


class TreeLinks:
    """Edges with a latency and a bandwidth, and nodes that serve one by one.

    A message passes the link of the node that sends it, if that has a
    bandwidth of its own, then the edge, then the link of the node that gets
    it; its first byte goes on before the last is there. A node's link serves
    messages one after another, both ways together, as they come to it.

    Args:
        timing: of all.
        nodes: of the tree.
        seed: of the timeline.
        parent: of each node, as of now.
    """

    def __init__(
        self, timing: Timing, nodes: Nodes, seed: int, parent: Sequence[int]
    ) -> None:
        p, root = nodes.num_workers, nodes.root
        self._parent = parent
        latencies = [timing.of_worker("latency", w) for w in range(p)]
        bounds = [timing.of_worker("bandwidth", w) for w in range(p)]
        own: list[float | None] = [None] * p
        for level in nodes.level[p:root]:
            latencies.append(timing.of_level("node_latency", level))
            bounds.append(None)
            own.append(timing.of_level("node_bandwidth", level))
        own.append(timing.center_bandwidth)
        self._delays = [
            delays(latency, timing.losses, seed, child)
            for child, latency in enumerate(latencies)
        ]
        self._edge_per_byte = [0.0 if b is None else 1 / b for b in bounds]
        self._per_byte = [0.0 if b is None else 1 / b for b in own]
        self._serves = [
            node >= p
            and not (self._per_byte[node] == 0.0 and timing.service.is_nothing)
            for node in range(len(nodes))
        ]
        self._service = [
            streams.of(timing.service, seed, streams.SERVICE, node)
            for node in range(len(nodes))
        ]
        self._free_at = [0.0] * len(nodes)

    def travel(
        self, child: int, up: bool, size: int, time: float
    ) -> Generator[float, float, float]:
        """A message goes from a node to its parent, or down.

        Args:
            child: the node.
            up: to its parent, not from it.
            size: bytes.
            time: when it is ready to leave.

        Returns:
            When its last byte is there, and it is served.
        """
        parent, free_at = self._parent[child], self._free_at
        sender, receiver = (child, parent) if up else (parent, child)
        own = size * self._per_byte[sender]
        if own:
            time = max(time, free_at[sender])
            free_at[sender] = time + own
        first = time + next(self._delays[child])
        last = first + max(own, size * self._edge_per_byte[child])
        if not self._serves[receiver]:
            return (yield last)
        time = yield first
        served = max(time, free_at[receiver]) + next(self._service[receiver])
        served += size * self._per_byte[receiver]
        free_at[receiver] = served
        return (yield max(served, last))
