"""One exchange of a worker with all center servers, whatever befalls them.

What a server does not get is owed to it, what was not answered is sent again
by its own number, and a worker whose slot is lost begins again.
"""

import math
import time
from collections.abc import Callable
from typing import Any
from typing import NamedTuple

import numpy as np
from absl import logging

from tf_elastic.cluster import errors
from tf_elastic.cluster import wire
from tf_elastic.cluster.blocks import squares_of_parameters
from tf_elastic.cluster.layout import Layout
from tf_elastic.cluster.link import Link
from tf_elastic.cluster.link import Patience
from tf_elastic.cluster.membership import BEGUN_ANEW
from tf_elastic.cluster.membership import Arrays
from tf_elastic.cluster.membership import Membership
from tf_elastic.core import lateness
from tf_elastic.core import rules
from tf_elastic.core.rules import Rates

# Of (p, the worker's clock).
RatesOf = Callable[[int, int], Rates]

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


class Delivery(Membership):
    """Brings something to all center servers at once, and what comes back.

    For its arguments see `Membership`.
    """

    # What the center has last given this worker to go on from.
    _known: Arrays = ()
    _was_late = False

    @property
    def shares_memory(self) -> bool:
        """Whether a center server is on this host, and let into memory."""
        return any(link.connection.shares_memory for link in self.links)

    def join(self, layout: Layout, values: Arrays) -> Arrays:
        """Joins all center servers; see `Membership.join`."""
        center = super().join(layout, values)
        self._known = center
        return center

    def _with_all(
        self,
        do: Callable[[Link, dict, dict, Arrays], dict[str, Any]],
        values: Arrays,
        flat: Arrays,
        rates: RatesOf,
        kind: str = PULL,
    ) -> Moved:
        """Does one exchange with every center server that is there.

        Args:
            do: makes it with one of them, sending it the part that it is
                given, and fills its part of `flat`.
            values: what is sent.
            flat: what comes back; where nothing does, no difference, or NaN
                for no point.
            rates: of the exchange.
            kind: what the worker is to do with `flat`.
        """
        if self.failure is not None:
            raise self.failure
        # A part of ADMM's center is the worker's own, however old.
        leaves_out = kind == TAKE or self.layout.rule.answers_difference
        if leaves_out and self._is_late():
            return self._come_late(values, kind)
        begin = time.monotonic()
        # What adds up and cannot be sent now is sent later.
        owes = self.layout.rule.sends == rules.INCREMENT
        self.sequence += 1
        num_workers = self.num_workers  # Heartbeats change it.
        now = rates(num_workers, self.clock)
        rate = {**now, "num_workers": num_workers}
        points = self._known if owes or kind == TAKE else values
        sections = self.layout.sections
        # Of what came back from each server, if it has told them.
        squares: list[float | None] = [0.0] * len(self.links)

        def push(link: Link) -> dict[str, Any]:
            """The news."""
            parts = self.layout.parts(values, link.shard)
            push_id = {
                "worker": self.worker,
                "incarnation": link.incarnation,
                "sequence": self.sequence,
                "version_read": link.version_read,
                "clock": self.clock,
                "samples": self.samples,
            }
            if self.max_lag is not None and leaves_out:
                push_id["max_lag"] = self.max_lag
                push_id["round"] = link.round
            if owes:
                self._send_again(link, push_id, rate, takes=kind == TAKE)
                parts = link.debt.with_message(parts, sections)
            try:
                news = do(link, push_id, rate, parts)
            except errors.CenterUnavailableError:
                if owes:
                    number = link.incarnation, self.sequence
                    link.debt.doubt(number, parts)
                raise
            link.debt.settled()
            squares[link.shard] = news.get("squares")
            self._note(link, news)
            link.version_held = link.version_read
            link.version_read = news["version"]
            link.round = news["round"]
            return news

        def owe(link: Link) -> None:
            doubtful = link.debt.doubtful
            if owes and (doubtful is None or doubtful[0][1] != self.sequence):
                link.debt.owe(self.layout.parts(values, link.shard), sections)

        def one(
            link: Link,
        ) -> bool | errors.LostSlotError | errors.LatePushError:
            """Whether the server took part, or why this worker may not."""
            with self._lock:
                link.pushing = link.away_since is None
            if link.pushing:
                try:
                    try:
                        news = push(link)
                    except BEGUN_ANEW:
                        # So does this worker, there.
                        self._join(link, points, Patience(self._exchange_s()))
                        news = push(link)
                    with self._lock:
                        self._settle(link, news["pushes"], answered=1)
                        link.pushing = False
                    return True
                except errors.LostSlotError as error:
                    owe(link)
                    return error
                except errors.LatePushError as error:
                    return error
                except (errors.CenterUnavailableError, *BEGUN_ANEW) as error:
                    self._went_away(link, error)
                finally:
                    link.pushing = False
            owe(link)
            link.version_held = link.version_read
            return False

        outcomes = self._with_links(one)
        took_part = sum(outcome is True for outcome in outcomes)
        for outcome in outcomes:
            if isinstance(outcome, errors.LostSlotError):
                with self._lock:
                    self.counts.lost_halves += took_part
                return self._restart(points, outcome, forget=kind == TAKE)
        if any(isinstance(o, errors.LatePushError) for o in outcomes):
            with self._lock:
                self.counts.lost_halves += took_part
            return self._come_late(values, kind)
        self._was_late = False
        if took_part < len(self.links):
            # What was to be filled may be written to by one that is late.
            flat = self.layout.copies(flat)
        for link, outcome in zip(self.links, outcomes, strict=True):
            if outcome:
                continue
            link.missed += 1
            self.counts.missed += 1
            for part in self.layout.parts(flat, link.shard):
                part[...] = 0 if kind == PULL else np.nan
        if self.codec != "none":
            self.counts.codec_error = max(k.codec_error for k in self.links)
        self.counts.exchanges += took_part > 0
        self.counts.exchange_s += time.monotonic() - begin
        if owes or kind == TAKE or None in squares:
            sent = values if owes or kind == TAKE else flat
            squares = [squares_of_parameters(self.layout, sent)]
        self.counts.distance = sum(squares) ** 0.5
        if kind == TAKE:
            self._know(flat, [outcome is True for outcome in outcomes])
            return Moved(TAKE, flat)
        return Moved(PULL, flat, float(now.get("moving_rate", 0.0)))

    def _is_late(self) -> bool:
        """Whether the others have gone on too far without this worker.

        What is known of a center is as old as the last sign of life. If that
        is overdue this process was stopped, and asks.
        """
        if self.max_lag is None:
            return False
        here = [k for k in self.links if k.joined and k.away_since is None]
        heard = min((link.heard_at for link in here), default=math.inf)
        if time.monotonic() - heard > 2 * self.timeouts.heartbeat_s:
            self.signal()
        return any(self._has_gone_on(link, link.version) for link in here)

    def _has_gone_on(self, link: Link, version: int) -> bool:
        """Whether a center of this version is too far for this worker."""
        versions = version - link.version_read
        return lateness.is_late(versions, self.num_workers, self.max_lag)

    def _come_late(self, values: Arrays, kind: str) -> Moved:
        """Leaves out what the worker brings; it goes on from the center.

        Of a center server that is away it keeps what it has.

        Args:
            values: the worker's.
            kind: what it would be to do.
        """
        self.sequence += 1  # Nothing of this one is to be sent again.
        self.counts.late += 1
        if not self._was_late:
            versions = max(k.version - k.version_read for k in self.links)
            logging.warning(
                "worker %d is late: the others have moved the center %d times "
                "since it was there (%.0f turns of each; max_lag=%g). What it "
                "has done since is left out, and it goes on from the center. "
                "Let it exchange more often (communication_period), or raise "
                "max_lag.",
                self.worker,
                versions,
                lateness.lag(versions, self.num_workers),
                self.max_lag,
            )
        self._was_late = True
        for link in self.links:
            link.debt.clear()
            link.forget_reference()
        if kind == TAKE:
            return self.read_points()
        return Moved(RESTART, self._center_or(values))

    def _center_or(self, values: Arrays) -> Arrays:
        """The center; of a server that is away, the worker's own values."""
        center = [array.copy() for array in values]

        def read(link: Link) -> None:
            if link.away_since is not None:
                return
            parts = self.layout.parts(center, link.shard)
            try:
                news = self._read(link, parts)
                link.version_read = link.version_held = news["version"]
            except (errors.CenterUnavailableError, *BEGUN_ANEW) as error:
                self._went_away(link, error)

        self._with_links(read)
        return center

    def _know(self, flat: Arrays, here: list[bool]) -> None:
        """Notes what was given, and what was not keeps its last value."""
        if all(here):
            self._known = flat
            return
        known = [array.copy() for array in flat]
        for link, given in zip(self.links, here, strict=True):
            if given:
                continue
            for old, new in zip(
                self.layout.parts(self._known, link.shard),
                self.layout.parts(known, link.shard),
                strict=True,
            ):
                new[...] = old
        self._known = known

    def _send_again(
        self,
        link: Link,
        push_id: dict[str, Any],
        rate: dict[str, Any],
        takes: bool,
    ) -> None:
        """Sends what was not answered, by its own number.

        Args:
            link: to the server.
            push_id: of the push that is next.
            rate: of it.
            takes: whether pushes of this kind are answered by points.
        """
        doubtful = link.debt.doubtful
        if doubtful is None:
            return
        (incarnation, sequence), parts = doubtful
        if incarnation != link.incarnation:
            # In between the slot was lost, and the numbers have begun anew:
            # rather not at all than twice.
            link.debt.doubt_ends()
            return
        # Where all meet, too: nobody is to wait for what is late.
        room = [np.empty_like(part) for part in parts] if takes else []
        try:
            news = link.connection.stream(
                wire.TAKE if takes else wire.PUSH,
                self._exchange_s(),
                {"id": {**push_id, "sequence": sequence}, "rate": rate},
                parts,
                room,
            )
            with self._lock:  # Whatever comes of the push that follows.
                self._settle(link, news["pushes"], answered=1)
        except errors.DuplicatePushError:
            pass  # The center has had it.
        link.debt.doubt_ends()

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
        logging.warning(
            "%s: worker %d begins again from the center.", reason, self.worker
        )
        self.counts.restarts += 1
        center = [array.copy() for array in values]
        patience = Patience(self._exchange_s())

        def enter(link: Link) -> None:
            if link.away_since is None:
                try:
                    self._enter(link, values, center, patience)
                    if forget:
                        link.debt.clear()
                    return
                except errors.CenterUnavailableError as error:
                    self._went_away(link, error)
            for own, part in zip(
                self.layout.parts(values, link.shard),
                self.layout.parts(center, link.shard),
                strict=True,
            ):
                part[...] = own

        self._with_links(enter, patience)
        self._known = center
        return Moved(RESTART, center)
