"""The edge from a node, or a worker, to its parent; nothing is answered.

Whoever takes the child's steps is never kept waiting: what it puts here leaves
when somebody carries it, and what the parent sends is in the inbox when
somebody has listened. If the parent is away the child goes on alone.
"""

import threading
import uuid
from collections.abc import Sequence

import numpy as np

from tf_elastic.cluster import errors
from tf_elastic.cluster.edge_queues import EdgeQueues
from tf_elastic.cluster.launch.security import Security
from tf_elastic.cluster.layout import Layout
from tf_elastic.cluster.transport import wire
from tf_elastic.cluster.worker.patience import Timeouts
from tf_elastic.cluster.worker.shard_session import Arrays
from tf_elastic.cluster.worker.shard_session import News
from tf_elastic.cluster.worker.shard_session import ShardSession
from tf_elastic.cluster.worker.surroundings import Identity
from tf_elastic.cluster.worker.surroundings import Surroundings
from tf_elastic.core.protocols import PARENT


class Upstream:
    """A child's messages to its parent, and from it.

    `carry` and `hear` are to be called again and again, each by one thread.

    Args:
        parent: the child's session with it.
        most_waiting: messages that wait each way; see `EdgeQueues`.
    """

    def __init__(self, parent: ShardSession, most_waiting: int) -> None:
        # Of all neighbours, if the child is a node: in the order of arrival.
        self.inbox = EdgeQueues(most_waiting)
        self.leaves = threading.Event()  # something was put, to be carried
        # The parent's newest message that the child has followed, by the
        # number that it has there: kept by who takes it from the inbox.
        self.followed = 0
        self._parent = parent
        self._outbox = EdgeQueues(most_waiting)
        self._carried = 0  # the last message that has come there
        self._heard = 0  # the last one that has come here
        self._clock = 0
        self._samples = 0
        self._known: Arrays = []  # what to begin a parent with
        self._joining = threading.Lock()

    @classmethod
    def to(
        cls,
        address: str,
        shard: int,
        child: int,
        *,
        may_begin: bool,
        most_waiting: int,
        security: Security | None = None,
        timeouts: Timeouts | None = None,
        around: Surroundings | None = None,
    ) -> "Upstream":
        """The edge to a node by its address.

        Args:
            address: the parent's.
            shard: its index among the servers that share a model, and the
                child's.
            child: the child's number among the parent's children.
            may_begin: whether the child's values may begin an empty parent;
                of one child they may.
            most_waiting: messages that wait each way.
            security: token and certificates.
            timeouts: how long the child waits for what.
            around: time, network and threads; None for the usual ones.
        """
        around = around or Surroundings()
        session = ShardSession(
            around.connect(address, shard, security or Security()),
            shard,
            Identity(child, may_begin, 1, uuid.uuid4().hex),
            "none",
            timeouts or Timeouts(),
            around,
            around.stream(child, 0),
        )
        return cls(session, most_waiting)

    def join(self, layout: Layout, values: Arrays) -> Arrays:
        """Joins the parent; waits for it, as long as for an exchange.

        Args:
            layout: of the model.
            values: the child's part of each section; to begin a parent with
                that has none.

        Returns:
            Where the parent is, from which a child begins.

        Raises:
            CenterUnavailableError: it was not there in time.
            CenterRefusedError: it is of another model.
        """
        self._parent.layout = layout
        center = [np.empty_like(array) for array in values]
        self._parent.join(values, self._parent.patience(), center)
        self._known = center
        return center

    def put(self, values: Arrays, clock: int, samples: int) -> None:
        """Lets a message leave; returns at once.

        Args:
            values: where the child is, which nobody changes any more.
            clock: the child's own steps.
            samples: that it, and all below it, have trained on.
        """
        self._clock, self._samples = clock, samples
        self._known = values
        self._outbox.put(PARENT, values, parents=self.followed)
        self.leaves.set()

    def carry(self) -> bool:
        """Brings the parent the oldest message that waits.

        Returns:
            Whether one has come there: else none waits, or the parent is
            away.

        Raises:
            ReplacedError, NonFiniteError, CenterRefusedError, MessageError:
                it can't go on.
        """
        self.leaves.clear()
        waiting = self._outbox.first(PARENT, self._carried)
        if waiting is None:
            return False
        header = {
            **self._parent.as_worker(),
            "number": waiting.number,
            "followed": waiting.parents,
            "clock": self._clock,
            "samples": self._samples,
        }
        came = self._asked(wire.SEND, header, waiting.values)
        if came is not None:
            self._carried = waiting.number
        return came is not None

    def hear(self, wait_s: float) -> bool:
        """Waits for what the parent sends, and puts it into the inbox.

        Args:
            wait_s: seconds, at most.

        Returns:
            Whether something has come: else nothing was sent, or the parent
            is away. For errors see `carry`.
        """
        # Not the same again: after an error somebody may still write there.
        values = [np.empty_like(array) for array in self._known]

        header = {
            **self._parent.as_worker(),
            "after": self._heard,
            "wait_s": wait_s,
        }
        try:
            news = self._asked(wire.LISTEN, header, (), values)
        except errors.NothingSentError:
            return False
        if news is None:
            return False
        self._heard = news["number"]
        self.inbox.put(
            PARENT, values, parents=self._heard, restart=news["restart"]
        )
        return True

    def beat(self) -> None:
        """A sign of life, or a look for a parent that is away."""
        self._parent.beat(self._progress())

    def leave(self, finished: bool = False, patience_s: float = 1.0) -> None:
        """Leaves the parent, and closes the line to it. Never raises.

        Args:
            finished: whether the child has done its part.
            patience_s: for each call.
        """
        self._parent.leave(self._progress(), finished, patience_s)
        self._parent.connection.close()

    @property
    def is_away(self) -> bool:
        """Whether the parent is."""
        return self._parent.away_since is not None

    def overflowed(self) -> int:
        """Messages to the parent that newer ones have superseded."""
        return self._outbox.overflowed().get(PARENT, 0)

    def _progress(self) -> dict[str, object]:
        clock, samples = self._clock, self._samples
        return {"clock": clock, "samples": samples, "notes": {}}

    def _asked(
        self,
        name: str,
        header: dict[str, object],
        sent: Sequence[np.ndarray],
        out: Sequence[np.ndarray] = (),
    ) -> News | None:
        """What comes of a call; None if the parent is away, or was begun anew.

        Then the child has joined it anew, and may try again.
        """
        parent, incarnation = self._parent, header["incarnation"]
        try:
            return parent.if_there(
                lambda: parent.stream(name, header, sent, out)
            )
        except (*errors.BEGUN_ANEW, errors.LostSlotError):
            with self._joining:
                if parent.incarnation == incarnation:  # Nobody has yet.
                    parent.if_there(self._join_anew)
        except errors.ReplacedError:
            # Perhaps by this child itself, while the call was under way.
            if parent.incarnation == incarnation:
                raise
        return None

    def _join_anew(self) -> News:
        self._heard = self.followed = 0
        return self._parent.join(self._known, self._parent.patience())
