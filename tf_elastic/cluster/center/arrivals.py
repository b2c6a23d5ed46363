"""Messages that arrive at a center server, and what is told of them."""

import contextlib
import threading
from collections.abc import Callable
from collections.abc import Iterator
from collections.abc import Sequence
from typing import Any

import numpy as np

from tf_elastic.cluster import errors
from tf_elastic.cluster.center.center_state import CenterState
from tf_elastic.cluster.center.registration import PushId
from tf_elastic.cluster.center.registration import Registration
from tf_elastic.cluster.center.worker_registry import WorkerRegistry
from tf_elastic.core.rules import Rates
from tf_elastic.timeline import event as happened
from tf_elastic.timeline.stream import Stream

# What becomes of a message that is not applied.
_NOT_APPLIED = {
    errors.DuplicatePushError: happened.DUPLICATE,
    errors.LatePushError: happened.LATE,
    errors.NonFiniteError: happened.REFUSED,
    errors.MessageError: happened.REFUSED,
}


class Arrivals:
    """Lets workers' messages in, each once, one at a time.

    Args:
        state: what the server holds.
        registry: its workers.
        changed: held while a message is dealt with.
        now: a clock, in seconds.
        events: is told of each.
    """

    def __init__(
        self,
        state: CenterState,
        registry: WorkerRegistry,
        changed: threading.Condition,
        now: Callable[[], float],
        events: Stream,
    ) -> None:
        self._state = state
        self._registry = registry
        self._changed = changed
        self._now = now
        self._events = events

    @contextlib.contextmanager
    def of(
        self,
        push_id: PushId,
        rates: Rates,
        answers_difference: bool | None = None,
    ) -> Iterator[Registration]:
        """A message is here: nothing else changes inside the block.

        If it is not applied, by an error, that is told.

        Args:
            push_id: whose.
            rates: of the push.
            answers_difference: see `CenterState.check`.
        """
        with self._changed:
            self._state.check_begun()
            try:
                member = self._registry.admit_push(push_id)
                self._state.check(rates, answers_difference, push_id.at_rest)
                yield member
            except tuple(_NOT_APPLIED) as error:
                [outcome, *_] = (
                    outcome
                    for kind, outcome in _NOT_APPLIED.items()
                    if isinstance(error, kind)
                )
                self._tell(push_id, outcome, self._state.version)
                raise

    def note(
        self,
        push_id: PushId,
        rates: Rates,
        moved: Sequence[np.ndarray],
        outcome: str = happened.APPLIED,
    ) -> Registration:
        """Notes that one is taken, before the version counts it.

        Args:
            push_id: whose.
            rates: of the push.
            moved: the arrays that travel, both ways.
            outcome: what becomes of it.
        """
        member = self._registry.note_push(push_id)
        self._tell(
            push_id,
            outcome,
            self._state.version + 1,
            rates=rates,
            bytes=sum(array.nbytes for array in moved),
            seconds=self._now() - member.read_time,
        )
        return member

    def _tell(
        self, push_id: PushId, outcome: str, settled: int, **fields: Any
    ) -> None:
        self._events.tell(
            happened.EXCHANGE,
            worker=push_id.worker,
            incarnation=push_id.incarnation,
            sequence=push_id.sequence,
            step_sent=push_id.clock,
            version_read=push_id.version_read,
            version_applied=self._state.version,
            version_settled=settled,
            num_workers=self._registry.num_workers,
            outcome=outcome,
            **fields,
        )
