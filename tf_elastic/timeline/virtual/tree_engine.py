"""What happens in a virtual tree, in the order of time."""

from collections.abc import Iterator

from tf_elastic.core import one_way
from tf_elastic.core import tree_rules
from tf_elastic.core.topology import ACCUMULATED
from tf_elastic.core.topology import ONE_WAY
from tf_elastic.core.topology import SYNCHRONOUS
from tf_elastic.core.topology import Topology
from tf_elastic.timeline.virtual import moves
from tf_elastic.timeline.virtual.engine import check_seed
from tf_elastic.timeline.virtual.engine import in_parts
from tf_elastic.timeline.virtual.moves import Move
from tf_elastic.timeline.virtual.nodes import Nodes
from tf_elastic.timeline.virtual.timing import Timing
from tf_elastic.timeline.virtual.tree_accumulation import AccumulatingTree
from tf_elastic.timeline.virtual.tree_cluster import TreeCluster
from tf_elastic.timeline.virtual.tree_meetings import MeetingTree
from tf_elastic.timeline.virtual.tree_totals import TreeTotals
from tf_elastic.timeline.virtual.workload import Workload


class TreeTimeline:
    """The moves of a tree that is not there, made by its timing.

    Algorithm 6 of the thesis. Its first part, which is before the gradient,
    is done after each step here, with the clock t + 1: no point is moved
    between a gradient and its step. Each call of `moves` begins anew and
    gives the same. Where nothing takes time but steps, and these are equal,
    all nodes have their turns in order: the workers, the inner nodes, those
    near the root first, and the root.

    An inner node's steps are like those of the first worker below it. Nothing
    is trained in them.

    By the other protocols of `core.topology` inner nodes have no steps of
    their own: see `MeetingTree` and `AccumulatingTree`.

    Args:
        timing: how long things take, and what goes wrong.
        workload: what is exchanged. The topology says how often.
        topology: the tree; its leaves are the workers.
        seed: of all that is drawn.
        most_waiting: points that may wait at each end of an edge, each way,
            at least 1; of more the oldest is lost. Of points that go one way.

    Raises:
        ValueError: an argument is out of its range, or does not go with the
            others.

    Example:

    >>> from tf_elastic.core import rules
    >>> from tf_elastic.core import topology
    >>> timeline = TreeTimeline(
    ...     Timing(step=1.0),
    ...     Workload(rules.Elastic(), "blocking"),
    ...     topology.tree(2, 1, topology.answered(1)),
    ... )
    >>> found = timeline.moves()
    >>> [moves.NAMES[next(found).kind] for _ in range(5)]
    ['step', 'send', 'root_from_child', 'root_down', 'follow']
    """

    is_before = False

    def __init__(
        self,
        timing: Timing,
        workload: Workload,
        topology: Topology,
        *,
        seed: int = 0,
        most_waiting: int = one_way.DEFAULT_MOST_WAITING,
    ) -> None:
        self.nodes = Nodes(topology)
        self.num_workers = self.nodes.num_workers
        workload.check()
        tree_rules.check_rule(workload.rule, topology.protocol)
        one_way.check_most_waiting(most_waiting)
        timing.check(self.num_workers)
        timing.check_nodes(self.nodes.inner_per_level)
        check_seed(seed)
        if topology.protocol == SYNCHRONOUS and (timing.deaths or timing.joins):
            raise ValueError(
                "In a tree whose nodes meet all workers have to be there all "
                f"the time. Received: scheme={SYNCHRONOUS!r}, with "
                f"deaths={timing.deaths!r:.80}, joins={timing.joins!r:.80}. "
                "Leave these out of the `Timing`, or use another scheme."
            )
        if topology.protocol != ONE_WAY and timing.node_deaths:
            raise ValueError(
                "Inner nodes die in trees of elastic averaging alone. "
                f"Received: scheme={topology.protocol!r}, with "
                f"node_deaths={timing.node_deaths!r:.80}. Leave these out of "
                "the `Timing`, or use another scheme."
            )
        self.timing = timing
        self.workload = workload
        self.topology = topology
        self.seed = seed
        self.most_waiting = most_waiting

    @property
    def kinds(self) -> frozenset[int]:
        """Of the moves that there may be."""
        is_one = self.topology.protocol == SYNCHRONOUS
        return moves.KINDS["synchronous_tree" if is_one else "tree"]

    @property
    def p_varies(self) -> bool:
        """Whether rates follow those who are present: a tree's do not."""
        return False

    @property
    def tells(self) -> bool:
        """Whether its moves can be told of, as a live tree does."""
        return self.topology.protocol == ONE_WAY

    @property
    def moves_nodes(self) -> bool:
        """Whether inner nodes may die, and others go to other parents."""
        return bool(self.timing.node_deaths)

    @property
    def restarts(self) -> bool:
        """Whether a worker may begin again."""
        return bool(self.timing.deaths or self.timing.joins)

    def new_totals(self) -> TreeTotals:
        """What adds up its moves."""
        return TreeTotals(self.workload, self.nodes)

    def moves(self) -> Iterator[Move]:
        """All moves, from the beginning."""
        cluster = _CLUSTERS[self.topology.protocol]
        return in_parts(
            cluster(
                self.timing,
                self.workload,
                self.nodes,
                self.seed,
                self.most_waiting,
            )
        )


_CLUSTERS = {
    ONE_WAY: TreeCluster,
    SYNCHRONOUS: MeetingTree,
    ACCUMULATED: AccumulatingTree,
}
