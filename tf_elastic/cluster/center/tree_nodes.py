"""The nodes of a tree that one server of the job `ps` has, and their threads.

One for each optimizer, as in a star; see `groups`.
"""

import threading
from collections.abc import Callable

from tf_elastic.cluster.center.groups import Groups
from tf_elastic.cluster.center.node import Node
from tf_elastic.cluster.center.node_threads import NodeThreads
from tf_elastic.cluster.launch.cluster_tree import ClusterTree
from tf_elastic.cluster.launch.security import Security
from tf_elastic.cluster.worker.edge_to import edge_to
from tf_elastic.cluster.worker.patience import Timeouts
from tf_elastic.cluster.worker.surroundings import Surroundings
from tf_elastic.cluster.worker.upstream import Upstream
from tf_elastic.core import congestion

# How long a step is as long as no child has told of its own.
DEFAULT_STEP_S = 0.05


class TreeNodes:
    """What makes a center server a node of a tree.

    Args:
        tree: in which this process is of the job `ps`.
        security: token and certificates.
        timeouts: of the way to its parent.
        step_s: of the node, until its children tell of theirs.
    """

    def __init__(
        self,
        tree: ClusterTree,
        security: Security,
        timeouts: Timeouts | None = None,
        step_s: float = DEFAULT_STEP_S,
    ) -> None:
        self.tree = tree
        self.place = tree.own_place
        self.settings = tree.settings()
        self._security = security
        self._timeouts = timeouts or Timeouts()
        self._step_s = step_s
        self._stopped = threading.Event()
        self._threads: list[NodeThreads] = []
        self._nodes: list[Node] = []

    def upstream(self, group: int) -> Upstream | None:
        """The edge to the parent's node of a group; None for the root."""
        place, shard = self.place, self.tree.shard
        if not place.parents:
            return None
        first, *further = (shards[shard] for shards in place.parents)
        return edge_to(
            first,
            shard,
            place.number,
            may_begin=place.begins,
            most_waiting=self.settings.most_waiting,
            expected=place.siblings,
            group=group,
            further=further,
            centers=[shards[shard] for shards in place.centers],
            move_s=self.tree.move_s,
            most_stretch=congestion.DEFAULT_MOST,
            security=self._security,
            timeouts=self._timeouts,
            around=self._around(),
        )

    def _around(self) -> Surroundings:
        return Surroundings(stopped=self._stopped)

    def look_after(self, groups: Groups) -> None:
        """Lets nodes go on by themselves that do not yet; call it again."""
        for node in list(groups)[len(self._threads) :]:
            threads = NodeThreads(
                node, self._step_s, self._timeouts, self._around()
            )
            self._threads.append(threads)
            threads.start()

    def failure(self) -> Exception | None:
        """Why one of the nodes can't go on; None if all can."""
        found = (threads.failure for threads in self._threads)
        return next(filter(None, found), None)

    def is_alive(self) -> bool:
        """Whether all threads live."""
        return all(threads.is_alive() for threads in self._threads)

    def stop(self) -> None:
        """Ends all threads. Never raises."""
        self._stopped.set()
        for threads in self._threads:
            threads.stop()


def maker(
    nodes: TreeNodes | None, make: Callable[..., Node]
) -> Callable[[int], Node]:
    """Makes nodes by group, as `Groups` asks for them.

    Args:
        nodes: of a tree; None for a star.
        make: of the group's number, and of the arguments of a `Node` that
            takes part in a tree.
    """
    if nodes is None:
        return make
    return lambda group: make(
        group, one_way=nodes.settings, upstream=nodes.upstream(group)
    )
