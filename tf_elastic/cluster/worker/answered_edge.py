"""An edge of a tree whose messages are answered: a node and its parent.

The "locally synchronous" protocol (section 6.1.1): a child brings where it is,
its parent moves by the difference and answers it, the child moves by it too.
"""

import numpy as np

from tf_elastic.cluster.worker import exchanges
from tf_elastic.cluster.worker import reliable_push
from tf_elastic.cluster.worker.reliable_push import Moment
from tf_elastic.cluster.worker.reliable_push import Push
from tf_elastic.cluster.worker.shard_session import Arrays
from tf_elastic.cluster.worker.upstream import Upstream
from tf_elastic.core.rules import Rates


class AnsweredEdge:
    """A node's exchanges with its parent.

    Args:
        upstream: by which it has joined, and is known.
    """

    def __init__(self, upstream: Upstream) -> None:
        self._upstream = upstream
        self.sequence = 0  # of the last message

    def exchange(
        self, values: Arrays, at: Moment, rates: Rates
    ) -> Arrays | None:
        """Brings the parent where the node is, and waits for the answer.

        Args:
            values: the node's points, one array for each section.
            at: its own clock, and the samples below it.
            rates: by which the parent moves, with "num_workers".

        Returns:
            The differences, child less parent; None if the parent is away,
            or the node has lost its place, and joins again.
        """
        session = self._upstream.parent
        self.sequence += 1
        push = Push(
            exchanges.exchange,
            self.sequence,
            at,
            rates,
            adds_up=False,
            takes_points=False,
            overlapped=False,
            barrier_s=0.0,
        )
        out = [np.empty_like(array) for array in values]
        came = reliable_push.deliver(session, push, values, out, values)
        if came.lost_slot is not None:
            session.if_there(lambda: session.join(values, session.patience()))
        return out if came.took_part else None
