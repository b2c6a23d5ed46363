"""What a worker brings its center when training is over for now."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import tensorflow as tf

from tf_elastic.cluster.worker.moved import Moved
from tf_elastic.cluster.worker.reliable_push import Moment
from tf_elastic.strategies.host_calls import ANSWER
from tf_elastic.strategies.host_calls import HostCalls

if TYPE_CHECKING:
    from tf_elastic.strategies.center_session import CenterSession


def bring_what_is_left(
    session: CenterSession, moment: Moment, closing: bool
) -> None:
    """What is under way is followed, then there may be one exchange more.

    In eager code; of a group all call it, and its leader exchanges.

    Args:
        session: that has begun.
        moment: of the end.
        closing: whether there is one more, if there is something to bring.
    """
    group, exchange, live = session.group, session.exchange, session.exchanger
    if live is not None:
        live.ends(moment)
    [is_under_way] = group.agreed([bool(live and live.in_flight)])
    if is_under_way:
        _follow(session, lambda: live.collect(moment))
    left = []
    if closing and live and live.has_something(moment) and not live.in_flight:
        left = [tensor.numpy() for tensor in exchange.left_over()]
    [has_left] = group.agreed([len(left)])
    if has_left and exchange.takes_steps:
        if live is not None:
            live.push(moment, left)
    elif has_left:
        exchange.sent(tf.constant(True))
        laid_out = HostCalls(session).laid_out
        _follow(session, lambda: live.now(moment, laid_out(left)))
    group.trains(False)


def _follow(session: CenterSession, do: Callable[[], Moved]) -> None:
    """Does what an exchange of the leader comes to."""
    outputs = []
    if session.group.is_leader:
        outputs = HostCalls(session).outputs(do())
    kind, moving_rate, rate, *arrays = session.group.shared(
        outputs, ANSWER, session.exchange.dtypes
    )
    session.exchange.follow(kind, moving_rate, arrays)
    session.clock.take_rate(rate)
