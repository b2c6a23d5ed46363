"""An exchange with all center servers at once, whatever befalls them.

What one of them does not get is up to `reliable_push`. Here is what becomes of
the worker then: it goes on without the parts of servers that are away, and one
whose slot is lost begins again from the center.
"""

import contextlib
import dataclasses
import math
from collections.abc import Iterator
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from absl import logging

from tf_elastic.cluster import errors
from tf_elastic.cluster.blocks import squares_of_parameters
from tf_elastic.cluster.layout import Layout
from tf_elastic.cluster.worker import reliable_push
from tf_elastic.cluster.worker.fanout import Fanout
from tf_elastic.cluster.worker.reliable_push import Outcome
from tf_elastic.cluster.worker.reliable_push import Push
from tf_elastic.cluster.worker.shard_session import Arrays
from tf_elastic.cluster.worker.shard_session import ShardSession
from tf_elastic.cluster.worker.surroundings import Surroundings
from tf_elastic.core import lateness
from tf_elastic.timeline import event as happened
from tf_elastic.timeline.stream import Stream
from tf_elastic.timeline.tally import Tally

# What a worker is to do after an exchange.
PULL = "pull"  # move by alpha times the differences
TAKE = "take"  # go on from the points; NaN where there is none
RESTART = "restart"  # begin again from the center's values, velocity zero


class Moved(NamedTuple):
    """What an exchange has come to."""

    kind: str  # PULL, TAKE or RESTART
    arrays: Arrays  # one for each section
    moving_rate: float = 0.0  # alpha, by which the worker is pulled

    @property
    def restart(self) -> bool:
        """Whether the worker begins again."""
        return self.kind == RESTART


@dataclasses.dataclass
class Counts:
    """What happened between a worker and the center so far."""

    exchanges: int = 0  # in which at least one center server took part
    missed: int = 0  # parts of exchanges, a center server being away
    lost_halves: int = 0  # the center has moved, the worker has not
    forgotten: int = 0  # the worker has, the center was set back since
    restarts: int = 0  # times that the worker began again from the center
    late: int = 0  # exchanges that were left out: see `core.lateness`
    exchange_s: float = 0.0  # from the call to the answer
    wait_s: float = 0.0  # of which training stood still
    codec_error: float = 0.0  # relative, of the last compressed message
    distance: float = 0.0  # |x - center| at the last exchange, L2

    @classmethod
    def of_all(cls, counts: Sequence["Counts"]) -> "Counts":
        """Of several optimizers' centers."""
        columns = list(zip(*map(dataclasses.astuple, counts), strict=True))
        all_ = cls(*map(sum, columns))
        all_.codec_error = max(c.codec_error for c in counts)
        all_.distance = math.hypot(*(c.distance for c in counts))
        return all_


class ReliableFanout:
    """Brings a worker's messages to all center servers, each once.

    Args:
        fanout: does something with all sessions at once.
        around: time and threads.
        events: is told what comes of it, and counted from.
    """

    def __init__(
        self,
        fanout: Fanout[ShardSession],
        around: Surroundings,
        events: Stream,
    ) -> None:
        # What the center has last given this worker to go on from.
        self.known: Arrays = []
        self._sessions = fanout.each
        self._all = fanout
        self._around = around
        self._events = events
        self._tally = Tally()
        events.listen(self._tally)
        self._codec_error = self._distance = 0.0
        self._was_late = False

    @property
    def counts(self) -> Counts:
        """What happened so far, as of now."""
        tally = self._tally
        return Counts(
            exchanges=tally.number(happened.ANSWER, happened.APPLIED),
            missed=tally.number(happened.MISS),
            lost_halves=tally.amount(happened.LOST_HALF),
            forgotten=tally.amount(happened.FORGOTTEN),
            restarts=tally.number(happened.RESTART),
            late=tally.number(happened.EXCHANGE, happened.LATE),
            exchange_s=tally.seconds(happened.ANSWER),
            wait_s=tally.seconds(happened.WAIT),
            codec_error=self._codec_error,
            distance=self._distance,
        )

    @contextlib.contextmanager
    def waiting(self) -> Iterator[None]:
        """Counts for how long training stands still, inside the block."""
        begin = self._around.now()
        try:
            yield
        finally:
            seconds = self._around.now() - begin
            self._events.tell(happened.WAIT, seconds=seconds)

    def push(self, push: Push, values: Arrays, out: Arrays) -> Moved:
        """Does one exchange with every center server that is there.

        Args:
            push: how.
            values: what is sent.
            out: what to fill with what comes back. Where nothing does, it is
                no difference, or NaN for no point; then other arrays are
                given instead.
        """
        if any(
            push.is_late(session, session.news.version)
            for session in self._sessions
            if session.joined and session.away_since is None
        ):
            return self._come_late(push, values)
        begin = self._around.now()
        # What a center gives is not always made of what it is sent.
        apart = push.adds_up or push.takes_points
        known = self.known if apart else values
        outcomes = self._all.do(
            lambda s: reliable_push.deliver(
                s, push, s.part(values), s.part(out), s.part(known)
            )
        )
        took_part = [outcome.took_part for outcome in outcomes]
        for outcome in outcomes:
            if outcome.lost_slot is not None:
                self._lose(took_part)
                return self.restart(
                    known, outcome.lost_slot, forget=push.takes_points
                )
        if any(outcome.late for outcome in outcomes):
            self._lose(took_part)
            return self._come_late(push, values)
        self._was_late = False
        if not all(took_part):
            # What was to be filled may be written to by one that is late.
            out = self._layout.copies(out)
        for session, came in zip(self._sessions, took_part, strict=True):
            if not came:
                session.standing.misses()
                for part in session.part(out):
                    part[...] = np.nan if push.takes_points else 0
        self._measure(outcomes, values if apart else out, apart)
        self._events.tell(
            happened.ANSWER,
            incarnation=self._sessions[0].incarnation,
            sequence=push.sequence,
            step_sent=push.at.clock,
            num_workers=push.rates["num_workers"],
            seconds=self._around.now() - begin,
            amount=sum(took_part),
            outcome=happened.APPLIED if any(took_part) else happened.MISSED,
        )
        if push.takes_points:
            self._know(out, took_part)
            return Moved(TAKE, out)
        return Moved(PULL, out, float(push.rates.get("moving_rate", 0.0)))

    def _lose(self, took_part: Sequence[bool]) -> None:
        """What some servers have taken is not followed."""
        if any(took_part):
            self._events.tell(happened.LOST_HALF, amount=sum(took_part))

    def _measure(
        self, outcomes: Sequence[Outcome], sent: Arrays, measured: bool
    ) -> None:
        """Measures an exchange.

        Args:
            outcomes: of it.
            sent: its distance from the center.
            measured: whether that is not for the servers to tell.
        """
        self._codec_error = max(s.points.error for s in self._sessions)
        told = [o.squares for o in outcomes if o.squares is not None]
        if measured or len(told) < len(outcomes):
            told = [squares_of_parameters(self._layout, sent)]
        self._distance = math.sqrt(sum(told))

    def _come_late(self, push: Push, values: Arrays) -> Moved:
        """Leaves out what the worker brings; it goes on from the center.

        Of a center server that is away it keeps what it has.
        """
        self._events.tell(
            happened.EXCHANGE,
            incarnation=self._sessions[0].incarnation,
            sequence=push.sequence,
            step_sent=push.at.clock,
            num_workers=push.rates["num_workers"],
            outcome=happened.LATE,
        )
        if not self._was_late:
            versions = max(
                s.news.version - s.version_read for s in self._sessions
            )
            logging.warning(
                "worker %d is late: the others have moved the center %d times "
                "since it was there (%.0f turns of each; max_lag=%g). What it "
                "has done since is left out, and it goes on from the center. "
                "Let it exchange more often (communication_period), or raise "
                "max_lag.",
                self._sessions[0].identity.worker,
                versions,
                lateness.lag(versions, push.rates["num_workers"]),
                push.max_lag,
            )
        self._was_late = True
        for session in self._sessions:
            session.outbox.clear()
            session.points.forget()
        if push.takes_points:
            return self.read_points()
        center = [array.copy() for array in values]
        self._all.do(lambda s: s.read_or_keep(s.part(center)))
        return Moved(RESTART, center)

    def read_points(self) -> Moved:
        """Reads where to go on from, and pushes nothing."""
        flat, known = self._layout.empty(), self.known
        try:
            here = self._all.do(
                lambda s: s.read_point(s.part(flat), s.part(known))
            )
        except errors.LostSlotError as error:
            return self.restart(known, error)
        self._know(flat, here)
        return Moved(TAKE, flat)

    def begin(self) -> Moved:
        """Reads the center, for a worker that has taken no step yet.

        Of a center server that is away it has what it got before.
        """
        moved = self.read_points()
        if moved.restart:
            return moved
        return Moved(RESTART, [array.copy() for array in self.known])

    def restart(
        self,
        values: Arrays,
        reason: errors.ClusterError,
        forget: bool = False,
    ) -> Moved:
        """Begins again from the center, as a new incarnation.

        Of a center server that is away, the part stays as it is.

        Args:
            values: the worker's.
            reason: why.
            forget: whether what was not pushed is forgotten, too.
        """
        first = self._sessions[0]
        logging.warning(
            "%s: worker %d begins again from the center.",
            reason,
            first.identity.worker,
        )
        self._events.tell(happened.RESTART)
        center = [array.copy() for array in values]
        patience = first.patience()
        self._all.do(
            lambda s: reliable_push.begin_again(
                s, s.part(values), s.part(center), patience, forget
            ),
            patience,
        )
        self.known = center
        return Moved(RESTART, center)

    @property
    def _layout(self) -> Layout:
        return self._sessions[0].layout

    def _know(self, flat: Arrays, here: list[bool]) -> None:
        """Notes what was given, and what was not keeps its last value."""
        if all(here):
            self.known = flat
            return
        known = [array.copy() for array in flat]
        for session, given in zip(self._sessions, here, strict=True):
            if given:
                continue
            for old, new in zip(
                session.part(self.known), session.part(known), strict=True
            ):
                new[...] = old
        self.known = known
