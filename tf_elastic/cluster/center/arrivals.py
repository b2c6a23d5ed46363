"""Messages that arrive at a center server, and what is told of them."""

import contextlib
from collections.abc import Iterator
from collections.abc import Sequence
from typing import Any

import numpy as np

from tf_elastic.cluster import errors
from tf_elastic.cluster.center.node_parts import NodeParts
from tf_elastic.cluster.center.registration import PushId
from tf_elastic.cluster.center.registration import Registration
from tf_elastic.core.rules import Rates
from tf_elastic.timeline import event as happened

# What becomes of a message that is not applied.
_NOT_APPLIED = {
    errors.DuplicatePushError: happened.DUPLICATE,
    errors.LatePushError: happened.LATE,
    errors.NonFiniteError: happened.REFUSED,
    errors.MessageError: happened.REFUSED,
}
# See `CenterState.check`.
_ANSWERS_DIFFERENCE = {happened.TAKE: False, happened.EXCHANGE: True}


@contextlib.contextmanager
def arrival(
    parts: NodeParts,
    call: str,
    push_id: PushId,
    rates: Rates,
) -> Iterator[Registration]:
    """A message is here: nothing else changes inside the block.

    If it is not applied, by an error, that is told.

    Args:
        parts: of the server.
        call: how it has come; of `timeline.event.CALLS`.
        push_id: whose.
        rates: of the push.
    """
    with parts.changed:
        parts.state.check_begun()
        try:
            member = parts.registry.admit_push(push_id)
            answers = _ANSWERS_DIFFERENCE.get(call)
            parts.state.check(rates, answers, push_id.at_rest)
            yield member
        except tuple(_NOT_APPLIED) as error:
            outcome = next(
                outcome
                for kind, outcome in _NOT_APPLIED.items()
                if isinstance(error, kind)
            )
            _tell(parts, call, push_id, outcome, parts.state.version)
            raise


def note(
    parts: NodeParts,
    call: str,
    push_id: PushId,
    rates: Rates,
    moved: Sequence[np.ndarray],
    outcome: str = happened.APPLIED,
) -> Registration:
    """Notes that one is taken, before the version counts it.

    Args:
        parts: of the server.
        call: how it has come.
        push_id: whose.
        rates: of the push.
        moved: the arrays that travel, both ways.
        outcome: what becomes of it.
    """
    member = parts.registry.note_push(push_id)
    _tell(
        parts,
        call,
        push_id,
        outcome,
        parts.state.version + 1,
        rates=rates,
        bytes=sum(array.nbytes for array in moved),
        seconds=parts.now() - member.read_time,
    )
    return member


def _tell(
    parts: NodeParts,
    call: str,
    push_id: PushId,
    outcome: str,
    settled: int,
    **fields: Any,
) -> None:
    parts.events.tell(
        happened.EXCHANGE,
        **parts.told(push_id.worker),
        incarnation=push_id.incarnation,
        sequence=push_id.sequence,
        step_sent=push_id.clock,
        version_read=push_id.version_read,
        version_applied=parts.state.version,
        version_settled=settled,
        num_workers=parts.registry.num_workers,
        outcome=outcome,
        call=call,
        **fields,
    )
