"""What a virtual tree has come to: bytes by level, and what was lost."""

from tf_elastic.timeline.virtual import moves
from tf_elastic.timeline.virtual.moves import Move
from tf_elastic.timeline.virtual.nodes import Nodes
from tf_elastic.timeline.virtual.totals import EXCHANGING
from tf_elastic.timeline.virtual.totals import WAITING
from tf_elastic.timeline.virtual.totals import Totals
from tf_elastic.timeline.virtual.workload import Workload


class TreeTotals(Totals):
    """Adds up moves, one after another, as they are made or followed.

    The center is the root: `updates` and `staleness` are its own. A step's
    work counts as brought (`goodput`) when the worker's parent has followed a
    point that is as new.

    Args:
        workload: of the timeline.
        nodes: of the tree.

    Example:

    >>> from tf_elastic.core import rules
    >>> from tf_elastic.core import topology
    >>> from tf_elastic.timeline.virtual import Timing
    >>> from tf_elastic.timeline.virtual import TreeTimeline
    >>> load = Workload(rules.Elastic(), "blocking", bytes_up=8, bytes_down=8)
    >>> tree = topology.tree(2, 2, topology.answered(1, 2))
    >>> timeline = TreeTimeline(Timing(step=1.0), load, tree)
    >>> totals = TreeTotals(load, timeline.nodes)
    >>> for move, _ in zip(timeline.moves(), range(4 * 5 * 2 + 2 * 4)):
    ...     totals(move)
    >>> totals.seconds, totals.bytes_by_level, totals.updates
    (2.0, [32, 128], 2)

    Attributes:
        bytes: of points that have left, through all links.
        not_sent: points that were lost before they left, since newer ones
            came, or the worker died.
        not_seen: points that were lost likewise after they had left.
    """

    def __init__(self, workload: Workload, nodes: Nodes) -> None:
        super().__init__(workload, nodes.num_workers)
        self._nodes = nodes
        self._parent = list(nodes.parent)  # as of now
        self._by_level = [0] * nodes.depth
        self.not_sent = self.not_seen = 0
        # Of workers' points under way, by their rows.
        self._under_way: dict[int, tuple[int, int]] = {}

    @property
    def bytes_by_level(self) -> list[int]:
        """Through the root's links, both ways, those below it, and so on."""
        return list(self._by_level)

    def __call__(self, move: Move) -> None:
        """Adds one move."""
        kind = move.kind
        if kind not in _OF_TREES:
            super().__call__(move)
            return
        self.seconds = move.time
        self._count_points(move)
        if kind == moves.SEND:
            self._under_way[move.row] = move.worker, move.clock
        elif kind in _FROM_CHILD and move.row in self._under_way:
            worker, clock = self._under_way.pop(move.row)
            own = self._workers[worker]
            if kind in _ADDS:
                own.spend(own.doing, move.time)
                own.doing = WAITING
            self._reached += max(clock - own.given, 0)
            own.given = max(own.given, clock)
        elif kind in _LOST and move.count:
            self._under_way.pop(move.row, None)
        if kind == moves.ROOT_FROM_CHILD:
            self.updates += 1
            self.staleness[move.staleness] += 1
        elif kind == moves.ROOT_COLLECT:
            self.updates += 1
        elif kind in _DOWN:
            self._end_waiting(move)
        if kind in (moves.ATTACH, moves.NODE_JOIN):
            self._parent[move.worker] = move.count
        is_own = kind in (moves.SEND, moves.FOLLOW)
        if is_own and not self._nodes.down_period[self._parent[move.worker]]:
            self._count_seconds(self._workers[move.worker], move)

    def _end_waiting(self, move: Move) -> None:
        """A node's children are told: who waited for the others goes on."""
        for child in self._nodes.children[move.worker]:
            if child < self._nodes.num_workers:
                own = self._workers[child]
                if own.doing == WAITING:
                    own.spend(WAITING, move.time)
                    own.doing = EXCHANGING

    def _count_points(self, move: Move) -> None:
        """Of those that leave, and of those that are lost."""
        load, kind = self._workload, move.kind
        level = self._nodes.level[move.worker]
        above = self._nodes.level[self._parent[move.worker]]
        if kind in _UP:
            self._add(above, load.bytes_up)
        elif kind in _DOWN:
            self._add(level, load.bytes_down * move.count)
        elif kind in _LOST:
            self.dropped += 1
            self.not_seen += kind == moves.NOT_SEEN
        if kind == moves.NOT_SENT:
            self.not_sent += 1
            self._add(
                above, -(load.bytes_up if move.count else load.bytes_down)
            )

    def _add(self, level: int, size: int) -> None:
        self._by_level[level] += size
        self.bytes += size


_UP = (moves.SEND, moves.NODE_UP)
_DOWN = (moves.NODE_DOWN, moves.ROOT_DOWN)
_ADDS = (moves.NODE_ADD, moves.ROOT_ADD)
_FROM_CHILD = (moves.NODE_FROM_CHILD, moves.ROOT_FROM_CHILD, *_ADDS)
_LOST = (moves.NOT_SENT, moves.NOT_SEEN)
_OF_TREES = frozenset(range(moves.SEND, moves.ATTACH + 1))
