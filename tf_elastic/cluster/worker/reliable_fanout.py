"""An exchange with all center servers at once, whatever befalls them.

What one of them does not get is up to `reliable_push`. Here is what becomes of
the worker then: it goes on without the parts of servers that are away, and one
whose slot is lost begins again from the center.
"""

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from absl import logging

from tf_elastic.cluster import errors
from tf_elastic.cluster.blocks import squares_of_parameters
from tf_elastic.cluster.layout import Layout
from tf_elastic.cluster.worker import reliable_push
from tf_elastic.cluster.worker.all_sessions import AllSessions
from tf_elastic.cluster.worker.moved import PULL
from tf_elastic.cluster.worker.moved import RESTART
from tf_elastic.cluster.worker.moved import TAKE
from tf_elastic.cluster.worker.moved import Moved
from tf_elastic.cluster.worker.reliable_push import Outcome
from tf_elastic.cluster.worker.reliable_push import Push
from tf_elastic.cluster.worker.shard_session import Arrays
from tf_elastic.cluster.worker.surroundings import Surroundings
from tf_elastic.core import lateness
from tf_elastic.timeline import event as happened
from tf_elastic.timeline.stream import Stream
from tf_elastic.timeline.tally import Tally


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
        sessions: with them.
        around: time and threads.
        events: is told what comes of it, and counted from.
    """

    def __init__(
        self,
        sessions: AllSessions,
        around: Surroundings,
        events: Stream,
    ) -> None:
        # What the center has last given this worker to go on from.
        self.known: Arrays = []
        self._sessions = sessions.each
        self._all = sessions
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

    def push(self, push: Push, values: Arrays, out: Arrays) -> Moved:
        """Does one exchange with every center server that is there.

        Args:
            push: how.
            values: what is sent.
            out: what to fill with what comes back. Where nothing does, it is
                no difference, or NaN for no point; then other arrays are
                given instead.
        """
        read = [session.version_read for session in self._sessions]
        if any(
            push.is_late(session, session.news.version)
            for session in self._sessions
            if session.joined and session.away_since is None
        ):
            return self._come_late(push, values, read)
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
        lost = [o.lost_slot for o in outcomes if o.lost_slot is not None]
        if lost or any(outcome.late for outcome in outcomes):
            if any(took_part):  # That is not followed.
                self._events.tell(happened.LOST_HALF, amount=sum(took_part))
            if lost:
                return self._restart(known, lost[0], push.takes_points)
            return self._come_late(push, values, read)
        self._was_late = False
        for session, came in zip(self._sessions, took_part, strict=True):
            if not came:
                session.standing.misses()
        nothing = np.nan if push.takes_points else 0.0
        out = self._completed(out, took_part, nothing)
        self._measure(outcomes, values if apart else out, apart)
        first = self._sessions[0]
        self._events.tell(
            happened.ANSWER,
            incarnation=first.incarnation,
            sequence=push.sequence,
            step_sent=push.at.clock,
            version_read=first.version_made_with if took_part[0] else None,
            version_settled=first.version_read if took_part[0] else None,
            num_workers=push.rates["num_workers"],
            seconds=self._around.now() - begin,
            amount=sum(took_part),
            outcome=happened.APPLIED if any(took_part) else happened.MISSED,
        )
        if push.takes_points:
            self.known = self._completed(out, took_part, self.known)
            return Moved(TAKE, out)
        return Moved(PULL, out, float(push.rates.get("moving_rate", 0.0)))

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

    def _come_late(
        self, push: Push, values: Arrays, read: Sequence[int]
    ) -> Moved:
        """Leaves out what the worker brings; it goes on from the center.

        Of a center server that is away it keeps what it has.

        Args:
            push: that is late.
            values: the worker's.
            read: each server's version that it is made with.
        """
        self._events.tell(
            happened.EXCHANGE,
            incarnation=self._sessions[0].incarnation,
            sequence=push.sequence,
            step_sent=push.at.clock,
            num_workers=push.rates["num_workers"],
            outcome=happened.LATE,
        )
        for session in self._sessions:
            session.outbox.clear()
            session.points.forget()
        moved = (
            self.read_points()
            if push.takes_points
            else self._read(RESTART, values, values)
        )
        if not self._was_late:  # How late it is is known by now.
            versions = max(
                session.news.version - version
                for session, version in zip(self._sessions, read, strict=True)
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
        return moved

    def read_points(self) -> Moved:
        """Reads where to go on from, and pushes nothing."""
        return self._read(TAKE, self.known, np.nan)

    def begin(self) -> Moved:
        """Reads the center, for a worker that has taken no step yet.

        Of a center server that is away it has what it got before.
        """
        return self._read(RESTART, self.known, self.known)

    def _read(self, kind: int, own: Arrays, otherwise: Arrays | float) -> Moved:
        """Reads the center.

        Args:
            kind: what the worker is to do with it.
            own: what to begin a server with that has forgotten all.
            otherwise: what stands for the parts of servers that are away.
        """
        flat = self._layout.empty()
        try:
            here = self._all.do(
                lambda s: s.read_point(s.part(flat), s.part(own))
            )
        except errors.LostSlotError as error:
            return self._restart(own, error)
        self.known = self._completed(flat, here, self.known)
        return Moved(kind, self._completed(flat, here, otherwise))

    def _restart(
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
        flat, patience = self._layout.empty(), first.patience()
        here = self._all.do(
            lambda s: reliable_push.begin_again(
                s, s.part(values), s.part(flat), patience, forget
            ),
            patience,
        )
        self.known = self._completed(flat, here, values)
        return Moved(RESTART, self.known)

    @property
    def _layout(self) -> Layout:
        return self._sessions[0].layout

    def _completed(
        self, flat: Arrays, here: Sequence[bool], otherwise: Arrays | float
    ) -> Arrays:
        """What has come, and something else where nothing has.

        Args:
            flat: what was to be filled.
            here: of each server, whether it has.
            otherwise: values, or one for all.
        """
        if all(here):
            return flat
        # One that is late may write there yet.
        flat = self._layout.copies(flat)
        for session, came in zip(self._sessions, here, strict=True):
            if came:
                continue
            parts = session.part(flat)
            values: Sequence[Any] = [otherwise] * len(parts)
            if not isinstance(otherwise, float):
                values = session.part(otherwise)
            for part, value in zip(parts, values, strict=True):
                part[...] = value
        return flat
