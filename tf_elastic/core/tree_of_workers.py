"""Trees over the workers of a cluster, by a few words: "2", "16:2".

Leaves are called "worker:0", "worker:1" and so on, all other nodes "ps:0",
"ps:1": the root first, then level by level.
"""

from collections.abc import Sequence
from typing import NamedTuple

from tf_elastic.core import topology
from tf_elastic.core.topology import Scheme
from tf_elastic.core.topology import Topology
from tf_elastic.core.topology import TopologyError


class TreeShape(NamedTuple):
    """What a tree is to look like.

    Attributes:
        degree: d, children of each node, at least 2.
        depth: edges between the root and a leaf; None for as many as the
            workers need.
    """

    degree: int
    depth: int | None = None


def worker(index: int) -> str:
    """The name of a worker, a leaf."""
    return f"worker:{index}"


def node(index: int) -> str:
    """The name of a node that has children; 0 is the root."""
    return f"ps:{index}"


def shape(text: str) -> TreeShape:
    """Reads "degree" or "degree:depth".

    Raises:
        TopologyError: it is neither, or a number is out of its range.

    Example:

    >>> shape("16:2")
    TreeShape(degree=16, depth=2)
    """
    parts = text.split(":")
    if len(parts) > 2 or not all(part.strip().isdecimal() for part in parts):
        raise TopologyError(
            'A tree must be "degree", such as "2", or "degree:depth", such as '
            f'"16:2". Received: {text!r}.'
        )
    degree, *rest = map(int, parts)
    topology.check_degree(degree)
    if rest and rest[0] < 1:
        raise TopologyError(
            f"`depth` must be an integer >= 1. Received: depth={rest[0]}."
        )
    return TreeShape(degree, *rest)


def over(hosts: Sequence[str], wanted: TreeShape, scheme: Scheme) -> Topology:
    """A tree whose leaves are the workers of a cluster.

    Workers of one host are under one parent, or under several, so that each
    has `degree` of them at least and less than twice as many; workers that
    are alone on their hosts are put together likewise, as are all the nodes
    above. With a depth all nodes above the workers' parents have `degree`
    children, and workers are dealt out evenly, in their order.

    Args:
        hosts: of each worker, by its index.
        wanted: degree, and perhaps depth.
        scheme: of the periods.

    Raises:
        TopologyError: there are too few workers.

    Example:

    >>> made = over(["a"] * 4, TreeShape(2), topology.multi_scale(1, 10))
    >>> [edge[:2] for edge in made.edges][:3]
    [('ps:1', 'ps:0'), ('ps:2', 'ps:0'), ('worker:0', 'ps:1')]
    """
    groups = (
        _by_host(hosts, wanted.degree)
        if wanted.depth is None
        else _dealt(len(hosts), wanted.degree, wanted.depth)
    )
    levels = [groups]  # of the indices of who is below
    while len(levels[0]) > 1:
        below = range(len(levels[0]))
        levels.insert(0, _split(below, len(below) // wanted.degree))
    parents: dict[str, str] = {}
    begin = 0  # the number of a level's first node
    for depth, level in enumerate(levels):
        after = begin + len(level)
        is_lowest = depth == len(levels) - 1
        for number, members in enumerate(level, start=begin):
            for i in members:
                child = worker(i) if is_lowest else node(after + i)
                parents[child] = node(number)
        begin = after
    return topology.from_parents(parents, scheme)


def num_nodes(made: Topology) -> int:
    """How many nodes of a topology are no leaves, the root included."""
    return len(made.nodes) - len(made.leaves)


def check_names(made: Topology, num_workers: int, nodes: int) -> None:
    """Refuses a topology that is not of a cluster's tasks.

    Args:
        made: by a user, say.
        num_workers: p.
        nodes: how many there are beside the workers.

    Raises:
        TopologyError: a task has no place in it, or a place has no task.
    """
    inner = {*made.nodes} - {*made.leaves}
    for kind, found, expected, job in (
        (
            "leaves",
            {*made.leaves},
            {*map(worker, range(num_workers))},
            "worker",
        ),
        ("nodes with children", inner, {*map(node, range(nodes))}, "ps"),
    ):
        unknown = sorted(found - expected)
        if unknown:
            raise TopologyError(
                f"The {kind} of the tree must be tasks of the job {job!r}, of "
                f"which there are {len(expected)}. Received: {unknown}.",
                unknown,
            )
        missing = sorted(expected - found)
        if missing:
            raise TopologyError(
                f"Each task of the job {job!r} must have its place among the "
                f"{kind} of the tree. Received: none for {missing}.",
                missing,
            )
    if made.root != node(0):
        raise TopologyError(
            f"The root must be {node(0)!r}: what it holds is evaluated and "
            f"saved. Received: {made.root!r}.",
            [made.root],
        )


def _by_host(hosts: Sequence[str], degree: int) -> list[list[int]]:
    """Workers with the same parent, those of a host together."""
    if len(hosts) < 2:
        raise TopologyError(
            "A tree needs at least 2 workers. Received: "
            f"num_workers={len(hosts)}."
        )
    of_host: dict[str, list[int]] = {}
    for i, host in enumerate(hosts):
        of_host.setdefault(host, []).append(i)
    groups = []
    alone = []
    for members in of_host.values():
        if len(members) == 1:
            alone += members
        else:
            groups += _split(members, len(members) // degree)
    if len(alone) == 1 and groups:
        min(groups, key=len).extend(alone)
    elif alone:
        groups += _split(alone, len(alone) // degree)
    return sorted(groups)


def _dealt(workers: int, degree: int, depth: int) -> list[list[int]]:
    parents = degree ** (depth - 1)
    if workers < 2 * parents:
        raise TopologyError(
            f"A tree of degree {degree} and depth {depth} needs at least "
            f"{2 * parents} workers, two for each of the {parents} nodes above "
            f"them. Received: num_workers={workers}. Make it less deep."
        )
    return _split(range(workers), parents)


def _split(members: Sequence[int], parts: int) -> list[list[int]]:
    """So many parts, in order, of almost equal sizes."""
    parts = max(parts, 1)
    bounds = [len(members) * k // parts for k in range(parts + 1)]
    return [
        list(members[begin:end])
        for begin, end in zip(bounds, bounds[1:], strict=False)
    ]
