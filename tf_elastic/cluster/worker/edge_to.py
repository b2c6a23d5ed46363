"""Makes the edge from a node, or a worker, to its parent's address."""

import functools
import uuid
from collections.abc import Sequence

from tf_elastic.cluster.launch.security import Security
from tf_elastic.cluster.worker.patience import Timeouts
from tf_elastic.cluster.worker.shard_session import ShardSession
from tf_elastic.cluster.worker.surroundings import Identity
from tf_elastic.cluster.worker.surroundings import Surroundings
from tf_elastic.cluster.worker.upstream import Upstream
from tf_elastic.core.one_way import DEFAULT_MOVE_S
from tf_elastic.timeline.stream import Stream


def edge_to(
    address: str,
    shard: int,
    child: int,
    *,
    may_begin: bool,
    most_waiting: int,
    expected: int = 1,
    group: int = 0,
    further: Sequence[str] = (),
    centers: Sequence[int] | None = None,
    move_s: float = DEFAULT_MOVE_S,
    most_stretch: int = 1,
    security: Security | None = None,
    timeouts: Timeouts | None = None,
    around: Surroundings | None = None,
    events: Stream | None = None,
) -> Upstream:
    """The edge to a node by its address.

    Args:
        address: the parent's.
        shard: its index among the servers that share a model, and the
            child's.
        child: the child's number among the parent's children.
        may_begin: whether its values may begin an empty parent.
        most_waiting: messages that wait each way.
        expected: how many children the parent begins with.
        group: which optimizer's center is meant, from 0.
        further: addresses of the parent's parent, and so on.
        centers: the indices of all these in the job ps; None if all are
            its shards of the same index.
        move_s: after how many seconds without its parent it goes there.
        most_stretch: see `core.congestion`.
        security: token and certificates.
        timeouts: how long the child waits for what.
        around: time, network and threads; None for the usual ones.
        events: what the child tells; None for a stream of its own.
    """
    around = around or Surroundings()
    identity = Identity(child, may_begin, expected, uuid.uuid4().hex)
    told = events or around.stream(child, group)
    centers = centers or [shard] * (1 + len(further))

    def session(to: str, center: int) -> ShardSession:
        return ShardSession(
            around.connect(to, shard, security or Security(), group),
            shard,
            identity,
            "none",
            timeouts or Timeouts(),
            around,
            told,
            center,
        )

    first, *others = (
        functools.partial(session, to, center)
        for to, center in zip((address, *further), centers, strict=True)
    )
    return Upstream(first(), most_waiting, told, others, move_s, most_stretch)
