"""The edge from a node, or a worker, to its parent; nothing is answered.

Whoever takes the child's steps is never kept waiting: what it puts here leaves
when somebody carries it, and what the parent sends is in the inbox when
somebody has listened. If the parent is away the child goes on alone.
"""

import threading
from collections.abc import Callable
from collections.abc import Mapping
from collections.abc import Sequence

import numpy as np
from absl import logging

from tf_elastic.cluster import errors
from tf_elastic.cluster.edge_queues import EdgeQueues
from tf_elastic.cluster.instruction import Instruction
from tf_elastic.cluster.layout import Layout
from tf_elastic.cluster.slow_edge import SlowEdge
from tf_elastic.cluster.transport import wire
from tf_elastic.cluster.watch import STEP_S
from tf_elastic.cluster.worker.edge_events import EdgeEvents
from tf_elastic.cluster.worker.edge_progress import EdgeProgress
from tf_elastic.cluster.worker.patience import Patience
from tf_elastic.cluster.worker.shard_session import Arrays
from tf_elastic.cluster.worker.shard_session import News
from tf_elastic.cluster.worker.shard_session import ShardSession
from tf_elastic.core.one_way import DEFAULT_MOVE_S
from tf_elastic.core.protocols import PARENT
from tf_elastic.timeline.stream import Stream


class Upstream:
    """A child's messages to its parent, and from it.

    `carry`, `hear` and `beat` are to be called again and again, each by one
    thread.

    Args:
        parent: the child's session with it.
        most_waiting: messages that wait each way; see `EdgeQueues`.
        events: is told what happens on the edge.
        further: for the parent's parent, that one's and so on, makes the
            child's session with it; none for a child that waits for its
            parent without an end.
        move_s: after how many seconds without its parent a child goes to the
            next of them, and stays there.
        most_stretch: by how much a slow edge's period is stretched at most;
            see `core.congestion`.
    """

    def __init__(
        self,
        parent: ShardSession,
        most_waiting: int,
        events: Stream,
        further: Sequence[Callable[[], ShardSession]] = (),
        move_s: float = DEFAULT_MOVE_S,
        most_stretch: int = 1,
    ) -> None:
        # Of all neighbours, if the child is a node: in the order of arrival.
        self.inbox = EdgeQueues(most_waiting)
        self.leaves = threading.Event()  # something was put, to be carried
        # The parent's newest message that the child has followed, by the
        # number that it has there: kept by who takes it from the inbox.
        self.followed = 0
        # What parents move by, as the optimizer has it; see `Node.one_way`.
        self.elastic: Mapping[str, float | None] | None = None
        self.notes: dict[str, object] = {}  # for the parent's status
        self.speed = SlowEdge(f"{parent.who}'s way up", most_stretch)
        self.moves = 0  # 1: at the parent's parent by now, and so on
        self.events = EdgeEvents(events, parent.center)
        self._parent = parent
        self._further = list(further)
        self._move_s = move_s
        self._period_s = 0.0
        self._outbox = EdgeQueues(most_waiting)
        self.sent = 0  # messages, so far
        self._carried = 0  # the last message that has come there
        self._heard = 0  # the last one that has come here
        self._progress = EdgeProgress()
        self._known: Arrays = []  # what to begin a parent with
        self._joining = threading.Lock()

    def join(
        self,
        layout: Layout,
        values: Arrays | None,
        patience: Patience | None = None,
    ) -> Arrays:
        """Joins the parent; waits for it, as long as for an exchange.

        Args:
            layout: of the model.
            values: the child's part of each section; to begin a parent with
                that has none. None for a child that has none itself.
            patience: until when it is tried.

        Returns:
            Where the parent is, from which a child begins.

        Raises:
            CenterUnavailableError: it was not there in time.
            CenterRefusedError: it is of another model.
        """
        parent = self._parent
        parent.layout = layout
        center = layout.empty_parts(parent.shard)
        parent.join(values, patience or parent.patience(), center)
        self._known = center
        self.events.attach(parent.center, parent.incarnation)
        return center

    def progress(self, clock: int, samples: int) -> None:
        """Notes how far the child is; see `put`."""
        self._progress.note(clock, samples)

    def read(self) -> Arrays:
        """Where the parent is; if it is away, where it was last read."""
        out, parent = [np.empty_like(a) for a in self._known], self._parent
        if parent.if_there(lambda: parent.read(out)) is None:
            return self._known
        return out

    def put(
        self, values: Arrays, clock: int, samples: int, period_s: float = 0.0
    ) -> None:
        """Lets a message leave; returns at once.

        Args:
            values: where the child is, which nobody changes any more.
            clock: the child's own steps.
            samples: that it, and all below it, have trained on.
            period_s: between two such messages, as it is set, in seconds; 0
                if that is not known.
        """
        self.progress(clock, samples)
        self._known = values
        self._period_s = period_s
        put = self._outbox.put(
            PARENT, values, parents=self.followed, step_sent=clock
        )
        self.events.sends(put, values, clock)
        self.sent = put.number
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
        parent, samples = self._parent, self._progress.own
        header: dict[str, object] = {
            **parent.as_worker(),
            **self._progress.told(),
            "number": waiting.number,
            "followed": waiting.parents,
            "step_sent": waiting.step_sent,
        }
        if self.elastic is not None:
            header["elastic"] = self.elastic
        if STEP_S in self.notes:
            header["step_s"] = self.notes[STEP_S]
        begin = parent.now()
        came = self._asked(parent, wire.SEND, header, waiting.values)
        if came is not None:
            self._carried = waiting.number
            self._progress.acknowledge(samples)
            seconds = parent.now() - begin
            self.speed.note(seconds, self._period_s, self.overflowed())
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

        parent = self._parent
        header = {
            **parent.as_worker(),
            "after": self._heard,
            "wait_s": wait_s,
        }
        try:
            news = self._asked(parent, wire.LISTEN, header, (), values)
        except errors.NothingSentError:
            return False
        if news is None or parent is not self._parent:
            return False
        self._heard = news["number"]
        put = self.inbox.put(
            PARENT,
            values,
            parents=self._heard,
            restart=news["restart"],
            step_sent=news["clock"],
            incarnation=header["incarnation"],
            parent=parent.center,
        )
        self.events.drops(put.dropped)
        return True

    def beat(self) -> None:
        """A sign of life, or a look for a parent that is away.

        After `move_s` without it also for the parent's parent.
        """
        parent = self._parent
        parent.beat(self._told())
        since = parent.away_since
        if since is None:
            self._progress.acknowledge(self._progress.own)
        elif self._further and parent.now() - since > self._move_s:
            self._move()

    def _move(self) -> None:
        """Goes to the parent's parent, as a further child, if it is there.

        What it has trained on has come there already, through its parent.
        """
        before, new = self._parent, self._further[0]()
        new.layout = before.layout
        try:
            new.join(self._known, new.patience())
        except (errors.CenterUnavailableError, *errors.BEGUN_ANEW) as error:
            new.connection.close()
            text = "%s: the next parent is away, too: %s."
            logging.warning(text, before.who, error)
            # That one's parent next time, then the first one again.
            self._further.append(self._further.pop(0))
            return
        with self._joining:
            self._progress.moves()
            self._parent = new
            self._heard = self.followed = 0
            del self._further[0]
            self.moves += 1
            self.events.attach(new.center, new.incarnation)
        logging.warning(
            "%s was without its parent (%s) for %g s: it goes to %s instead, "
            "and stays there.",
            before.who,
            before.connection.address,
            self._move_s,
            new.connection.address,
        )
        before.connection.close()

    def leave(self, finished: bool = False, patience_s: float = 1.0) -> None:
        """Leaves the parent, and closes the line to it. Never raises.

        Args:
            finished: whether the child has done its part.
            patience_s: for each call.
        """
        self._parent.leave(self._told(), finished, patience_s)
        self._parent.connection.close()

    # What the parent has told.

    @property
    def parent(self) -> ShardSession:
        """The session with the parent as of now."""
        return self._parent

    def instruct(self, told: Instruction) -> None:
        """Passes on what the chief tells all workers, if the parent's there."""
        self._parent.instruct(told)

    @property
    def samples_of_others(self) -> int:
        """And of the child's earlier processes, as far as was heard."""
        others = self._parent.news.samples_of_others
        return max(others - self._progress.elsewhere, 0)

    @property
    def waits(self) -> bool:
        """Whether a message waits that has not come there yet."""
        return self._carried < self.sent

    @property
    def joined(self) -> bool:
        """Whether the child has joined a parent."""
        return self._parent.joined and bool(self._known)

    @property
    def is_away(self) -> bool:
        """Whether the parent is."""
        return self._parent.away_since is not None

    def overflowed(self) -> int:
        """Messages to the parent that newer ones have superseded."""
        return self._outbox.overflowed().get(PARENT, 0)

    def _told(self) -> dict[str, object]:
        return {**self._progress.told(), "notes": dict(self.notes)}

    def _asked(
        self,
        parent: ShardSession,
        name: str,
        header: dict[str, object],
        sent: Sequence[np.ndarray],
        out: Sequence[np.ndarray] = (),
    ) -> News | None:
        """What comes of a call; None if the parent is away, or was begun anew.

        Then the child has joined it anew, and may try again.
        """
        incarnation = header["incarnation"]
        try:
            return parent.if_there(
                lambda: parent.stream(name, header, sent, out)
            )
        except (*errors.BEGUN_ANEW, errors.LostSlotError):
            with self._joining:
                if parent.incarnation == incarnation:  # Nobody has yet.
                    parent.if_there(lambda: self._join_anew(parent))
        except errors.ReplacedError:
            # Perhaps by this child itself, while the call was under way.
            if parent.incarnation == incarnation:
                raise
        return None

    def _join_anew(self, parent: ShardSession) -> News:
        self._heard = self.followed = 0
        news = parent.join(self._known, parent.patience())
        self.events.attach(parent.center, parent.incarnation)
        return news
