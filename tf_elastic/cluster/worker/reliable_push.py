"""A push to one center server, whatever befalls it.

What the server does not get is kept in the session's outbox, what was not
answered is sent again by its own number, and a server that has begun anew is
joined anew.
"""

from collections.abc import Callable
from collections.abc import Sequence
from typing import Any
from typing import NamedTuple

import numpy as np

from tf_elastic.cluster import errors
from tf_elastic.cluster.transport import wire
from tf_elastic.cluster.worker.patience import Patience
from tf_elastic.cluster.worker.shard_session import Arrays
from tf_elastic.cluster.worker.shard_session import News
from tf_elastic.cluster.worker.shard_session import ShardSession
from tf_elastic.core import lateness
from tf_elastic.core.rules import Rates

# Among the news of a call: the version that its message was made with, if that
# is another than of the push before.
MADE_WITH = "made_with"


class Moment(NamedTuple):
    """When an exchange is, by how far the worker is."""

    clock: int  # its local steps
    samples: int  # that it has trained on
    numbers: Sequence[float] = ()  # that the rates depend on
    # Runs of variables that it does not train; see `layout.runs_of`.
    at_rest: Sequence[Sequence[int]] = ()


class Push(NamedTuple):
    """One exchange, as it is with every center server."""

    # How it is done with one of them: of its part of the message, and of what
    # comes back, to fill. See `exchanges`.
    call: "Callable[[ShardSession, Push, Arrays, Arrays], News]"
    sequence: int
    at: Moment  # when its message was made
    rates: Rates
    adds_up: bool  # what cannot be sent now is sent later
    takes_points: bool  # is answered by points
    overlapped: bool  # made before the answer to the push before was there
    barrier_s: float  # of waiting for other workers
    max_lag: float | None = None  # None: it is never late

    def is_late(self, session: ShardSession, version: int) -> bool:
        """Whether a center has gone on too far without this worker.

        Args:
            session: with the server.
            version: that it has now.
        """
        return lateness.is_late(
            version - session.version_read,
            self.rates["num_workers"],
            self.max_lag,
        )

    def of_all(self) -> "Push":
        """The same, where nothing is at rest."""
        return self._replace(at=self.at._replace(at_rest=()))

    def header(
        self, session: ShardSession, version_read: int | None = None
    ) -> dict[str, Any]:
        """What its call begins with.

        Args:
            session: with the server.
            version_read: that its message was made with, if that is another
                than of the push before.
        """
        if version_read is None:
            version_read = session.version_read
        id_ = {
            **session.as_worker(),
            "sequence": self.sequence,
            "version_read": version_read,
            "clock": self.at.clock,
            "samples": self.at.samples,
        }
        if self.at.at_rest:
            id_["at_rest"] = [list(run) for run in self.at.at_rest]
        if self.max_lag is not None:
            id_.update(max_lag=self.max_lag, round=session.round)
        return {"id": id_, "rate": dict(self.rates)}


class Outcome(NamedTuple):
    """What came of a push to one server."""

    took_part: bool  # the server has
    lost_slot: errors.LostSlotError | None = None  # why the worker may not
    squares: float | None = 0.0  # of what came back, if the server has told
    late: bool = False  # the server leaves it out


def deliver(
    session: ShardSession,
    push: Push,
    message: Arrays,
    out: Arrays,
    known: Arrays,
) -> Outcome:
    """Brings a message to a server, if it is there.

    Args:
        session: with the server.
        push: which.
        message: the server's part of it.
        out: what to fill with the answer.
        known: what to begin a server with that has forgotten all.
    """
    if session.standing.push_begins():
        try:
            news = session.joined_anew(
                lambda: _push(session, push, message, out), known
            )
            session.standing.answered(news["pushes"])
            return Outcome(True, squares=news.get("squares"))
        except errors.LostSlotError as error:
            _keep(session, push, message)
            return Outcome(False, error)
        except errors.LatePushError:
            return Outcome(False, late=True)
        except (errors.CenterUnavailableError, *errors.BEGUN_ANEW) as error:
            session.went_away(error)
        finally:
            session.standing.push_ends()
    _keep(session, push, message)
    session.version_held = session.version_read
    return Outcome(False)


def _push(
    session: ShardSession, push: Push, message: Arrays, out: Arrays
) -> News:
    outbox = session.outbox
    if push.adds_up:
        _send_again(session, push)
        if outbox.unsent is not None:  # Of what has come to rest, too.
            push = push.of_all()
        message = outbox.with_message(message, session.layout.sections)
    try:
        news = push.call(session, push, message, out)
    except errors.CenterUnavailableError:
        if push.adds_up:
            outbox.await_answer((session.incarnation, push.sequence), message)
        raise
    outbox.unsent = None
    session.news.note(news)
    session.version_made_with = news.get(MADE_WITH, session.version_read)
    session.version_held = session.version_read
    session.version_read = news["version"]
    session.round = news["round"]
    return news


def _send_again(session: ShardSession, push: Push) -> None:
    """Sends what was not answered, by its own number.

    Args:
        session: with the server.
        push: that is next.
    """
    parts = session.outbox.unanswered
    if parts is None:
        return
    incarnation, sequence = session.outbox.number
    # In between the slot may have been lost, and the numbers have begun anew:
    # rather not at all than twice.
    if incarnation == session.incarnation:
        # Where all meet, too: nobody is to wait for what is late.
        takes = push.takes_points
        room = [np.empty_like(part) for part in parts] if takes else []
        header = push.of_all()._replace(sequence=sequence).header(session)
        name = wire.TAKE if takes else wire.PUSH
        try:
            news = session.stream(name, header, parts, room)
            # Whatever comes of the push that follows.
            session.standing.answered(news["pushes"])
        except errors.DuplicatePushError:
            pass  # The center has had it.
    session.outbox.unanswered = None


def _keep(session: ShardSession, push: Push, message: Arrays) -> None:
    """Keeps what adds up and was not sent, for the next message."""
    outbox = session.outbox
    was_sent = outbox.number[1] == push.sequence
    if push.adds_up and not (was_sent and outbox.unanswered is not None):
        session.outbox.keep(message, session.layout.sections)


def begin_again(
    session: ShardSession,
    own: Arrays,
    out: Arrays,
    patience: Patience,
    forget: bool,
) -> bool:
    """Joins as a new incarnation.

    Args:
        session: with the server.
        own: the server's part of the worker's.
        out: what to fill with the center's.
        patience: until when it is tried.
        forget: whether what was not pushed is forgotten, too.

    Returns:
        Whether the server is there.
    """
    joined = session.if_there(lambda: session.join(own, patience, out))
    if joined is None:
        return False
    if forget:
        session.outbox.clear()
    return True
