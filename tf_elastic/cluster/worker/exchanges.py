"""What a worker does with one center server in an exchange.

Each of these sends the server its part of a message, puts what comes back
into `out`, and gives the server's answer. They fail as the network does; see
`reliable_push` for what is made of that.
"""

from typing import Any

from absl import logging

from tf_elastic.cluster import errors
from tf_elastic.cluster.blocks import check_finite
from tf_elastic.cluster.blocks import put_deltas
from tf_elastic.cluster.transport import wire
from tf_elastic.cluster.worker.reliable_push import MADE_WITH
from tf_elastic.cluster.worker.reliable_push import Push
from tf_elastic.cluster.worker.shard_session import Arrays
from tf_elastic.cluster.worker.shard_session import News
from tf_elastic.cluster.worker.shard_session import ShardSession

# How long a center server lets a call wait for the others.
_WAIT_S = 1.0


def take(
    session: ShardSession, push: Push, message: Arrays, out: Arrays
) -> News:
    """A message there, the point to go on from back."""
    read = session.version_read
    if push.overlapped:
        read = session.version_held
    header = push.header(session, read)
    news = session.stream(wire.TAKE, header, message, out)
    return {**news, MADE_WITH: read}


def push_only(
    session: ShardSession, push: Push, message: Arrays, out: Arrays
) -> News:
    """Differences there, and nothing back."""
    for part in out:
        part[...] = 0
    return session.stream(wire.PUSH, push.header(session), message)


def exchange(
    session: ShardSession, push: Push, message: Arrays, out: Arrays
) -> News:
    """Points there, differences back: one way there and back."""
    points, whole = session.points, False
    while True:
        sent, whole = _encode(session, message, whole)
        header = {**push.header(session), "codec": points.codec, "whole": whole}
        room = points.room(out)
        try:
            news = session.stream(wire.EXCHANGE, header, sent, room)
            break
        except errors.LostReferenceError:
            whole = True
    points.decode(room, out)
    return news


def _encode(
    session: ShardSession, message: Arrays, whole: bool
) -> tuple[list[Any], bool]:
    try:
        return session.points.encode(message, whole)
    except ValueError:
        # A codec takes finite values only.
        worker = session.identity.worker
        check_finite(session.layout, session.shard, message, worker)
        return session.points.encode(message, True)


def read_and_push(
    session: ShardSession, push: Push, message: Arrays, out: Arrays
) -> News:
    """Algorithm 1: reads the center, then pushes the difference."""
    news = session.read(out)
    if push.is_late(session, news["version"]):
        raise errors.LatePushError("it was read just now")
    put_deltas(session.layout, {"center": out}, message, out)
    read = news["version"]
    news = session.stream(wire.PUSH, push.header(session, read), out)
    return {**news, MADE_WITH: read}


def meet(
    session: ShardSession, push: Push, message: Arrays, out: Arrays
) -> News:
    """All workers at once, points there and differences back."""
    return _deposit(session, push, message, out)


def meet_and_read(
    session: ShardSession, push: Push, message: Arrays, out: Arrays
) -> News:
    """All workers at once; the center as it then is comes back."""
    news = _deposit(session, push, message, out)
    return {**news, **session.read(out)} if news[wire.EMPTY] else news


def _deposit(
    session: ShardSession, push: Push, message: Arrays, out: Arrays
) -> News:
    """One call, unless others let it wait for long."""
    begin = session.now()
    wait_s = min(_WAIT_S, push.barrier_s, session.exchange_s / 4)
    header = {**push.header(session), "wait_s": wait_s}
    news = session.stream(wire.DEPOSIT, header, message, out)
    if news["round"] == news["entered"]:
        news |= _wait_for_round(session, push, news["entered"], begin)
    return news


def _wait_for_round(
    session: ShardSession, push: Push, round_: int, begin: float
) -> News:
    """Asks again and again whether a round has ended, since `begin`."""
    force = False
    while True:
        left_s = max(begin + push.barrier_s - session.now(), 0.0)
        news = session.control(
            wire.RELEASE,
            **session.as_worker(),
            round_=round_,
            wait_s=min(_WAIT_S, left_s),
            force=force,
        )
        session.news.note(news)
        if news["round"] != round_:
            return news
        if session.now() - begin >= push.barrier_s:
            logging.warning(
                "worker %d waited %g s for worker(s) %s at exchange %d "
                "and goes on without them.",
                session.identity.worker,
                push.barrier_s,
                ", ".join(map(str, news["missing"])) or "yet to join",
                round_,
            )
            force = True


# Those that are answered by points to go on from, and not by differences.
FOR_POINTS = (take, meet_and_read)
