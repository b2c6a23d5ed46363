"""The protocols: when a worker's parameters leave, and what comes back when.

`blocking`     Algorithms 1 and 2: at the start of a period the worker reads
               the center, pushes the difference, and goes on.
`overlapped`   section 2.2: at the start of a period the parameters leave; the
               difference comes back while training goes on, and is applied at
               the period's end.
`synchronous`  eqs. 2.3 and 2.4: at the start of a period all workers meet.

In all of them a worker that has taken no local step since it began at the
center has nothing to give: it pushes nothing, and nobody waits for it.
"""

import concurrent.futures
import functools
from collections.abc import Callable
from collections.abc import Sequence

import numpy as np
from absl import logging

from tf_elastic.cluster.transport import shared_memory
from tf_elastic.cluster.worker.client import CenterClient
from tf_elastic.cluster.worker.client import RatesOf
from tf_elastic.cluster.worker.moved import NOTHING
from tf_elastic.cluster.worker.moved import Moved
from tf_elastic.cluster.worker.reliable_push import Moment
from tf_elastic.cluster.worker.shard_session import ShardSession
from tf_elastic.core import protocols
from tf_elastic.core import rules
from tf_elastic.timeline import event as happened

PROTOCOLS = ("overlapped", "blocking", "synchronous")

# Of (p, the worker's clock, numbers of the moment).
Rates = Callable[[int, int, Sequence[float]], rules.Rates]


class Room:
    """Arrays of all sections, used again and again.

    If a center server is on this host it shares them.

    Args:
        client: joined.
    """

    def __init__(self, client: CenterClient) -> None:
        self._client = client
        self._arrays: list[np.ndarray] | None = None
        self._is_shared = False

    def arrays(self) -> list[np.ndarray]:
        """The same ones as before, unless somebody else may use them yet."""
        shares = self._client.shares_memory
        if (
            self._arrays is None
            or self._is_shared != shares
            or shared_memory.is_spoiled(self._arrays)
        ):
            self._arrays = self._client.layout.empty(shares)
            self._is_shared = shares
        return self._arrays


class Exchanger:
    """One worker's exchanges, by one of the protocols.

    Args:
        client: the worker's side of the center, joined.
        protocol: one of `PROTOCOLS`.
        rates: of an exchange.
    """

    def __init__(
        self,
        client: CenterClient,
        protocol: str,
        rates: Rates,
    ) -> None:
        self.client = client
        self.protocol = protocol
        self._rates = rates
        self._pending: concurrent.futures.Future[Moved] | None = None
        self._late = False
        # The worker's clock when it began at the center, None if it began
        # somewhere else; and when it last gave what it had.
        self._began_at: int | None = None
        self._given_at: int | None = None
        self._away, self._back = Room(client), Room(client)
        self._sender = concurrent.futures.ThreadPoolExecutor(
            1, thread_name_prefix="exchange"
        )

    def begins(self, moment: Moment) -> None:
        """Notes that the worker is at the center as it was read just now."""
        self._tell(moment)
        self._starts(moment.clock)

    def ends(self, moment: Moment) -> None:
        """Notes that training is over for now."""
        self._tell(moment)
        self.client.events.tell(
            happened.END,
            incarnation=self._first.incarnation,
            step_applied=moment.clock,
        )

    def begin(self, moment: Moment) -> Moved:
        """Reads the center for a worker that has taken no step yet.

        Returns:
            What to do: begin there.
        """
        moved = self.client.begin()
        self.begins(moment)
        return moved

    def follow_rates(self, rates: Rates) -> None:
        """Takes the rates, and the clock, of another optimizer from now on."""
        self._rates = rates
        self._began_at = None

    def has_something(self, moment: Moment) -> bool:
        """Whether the worker has taken a step since it began, or gave.

        (Its clock may be set back, by a file that is loaded.)
        """
        return moment.clock not in (self._began_at, self._given_at)

    def now(self, moment: Moment, values: Sequence[np.ndarray]) -> Moved:
        """An exchange while the worker waits.

        Args:
            moment: of the exchange.
            values: its points or messages, one array for each section.

        Returns:
            What to do. Differences are overwritten by the next exchange.
        """
        self._tell(moment)
        if moment.clock == self._began_at:
            return Moved(NOTHING)
        out = None if self._is_push else self._back.arrays()
        moved = self._bring(self._way(), moment, values, out)
        return self._settled(moved, moment)

    def _way(self) -> Callable[..., Moved]:
        """How something is brought while the worker waits.

        By the worker's protocol, or what it does at the end instead.
        """
        kind = protocols.PROTOCOLS[self.protocol]
        if kind.answers_later:
            kind = protocols.Blocking
        plan = kind(self.client.layout.rule).plan(protocols.END)
        if protocols.MEET in plan:
            is_push, client = self._is_push, self.client
            return client.meet_and_read if is_push else client.meet
        if protocols.READ in plan:
            return self.client.read_and_push
        return self.client.take

    def read(self, moment: Moment) -> Moved:
        """Reads where to go on from, while the worker waits."""
        self._tell(moment)
        with self.client.waiting():
            return self._noted(self.client.read_points())

    def push(self, moment: Moment, differences: Sequence[np.ndarray]) -> Moved:
        """Brings the center differences, while the worker waits."""
        self._tell(moment)
        moved = self._bring(self.client.push, moment, differences)
        return self._noted(moved)

    def _bring(
        self,
        way: Callable[..., Moved],
        moment: Moment,
        values: Sequence[np.ndarray],
        out: list[np.ndarray] | None = None,
    ) -> Moved:
        self._given_at = moment.clock
        with self.client.waiting():
            return way(list(values), self._rates_at(moment), out, moment)

    def _settled(self, moved: Moved, moment: Moment) -> Moved:
        """Tells that the worker does what the answer to its message says."""
        if not moved.restart:
            self.client.events.tell(
                happened.SETTLE,
                incarnation=self._first.incarnation,
                sequence=self.client.sequence,
                step_sent=self._given_at,
                step_applied=moment.clock,
                version_settled=self._first.version_read,
                num_workers=self.client.num_workers,
            )
        return self._noted(moved)

    def _noted(self, moved: Moved) -> Moved:
        if moved.restart:
            self._starts(self.client.clock)
        return moved

    def _starts(self, clock: int) -> None:
        """Notes, and tells, that the worker is at the center as it was read."""
        self._began_at = clock
        self.client.events.tell(
            happened.START,
            incarnation=self._first.incarnation,
            step_applied=clock,
            version_read=self._first.version_read,
            settings={
                "protocol": self.protocol,
                "rule": self.client.layout.rule.config(),
                "compression": self._first.points.codec,
                "model": self.client.layout.fingerprint,
            },
        )

    @property
    def _first(self) -> ShardSession:
        """With the first center server: of its versions events tell."""
        return self.client.sessions[0]

    @property
    def _is_push(self) -> bool:
        return not self.client.layout.rule.answers_difference

    def room_to_send(self) -> list[np.ndarray]:
        """Arrays for the worker's points, one for each section.

        They may be filled anew when the exchange before has ended.
        """
        return self._away.arrays()

    def _rates_at(self, moment: Moment) -> RatesOf:
        return lambda num_workers, _: self._rates(
            num_workers, moment.clock, moment.numbers
        )

    def collect(self, moment: Moment) -> Moved:
        """Takes what has come back from what was sent a period ago.

        Returns:
            What to do. Differences are overwritten by what `send` begins.
        """
        self._tell(moment)
        if self._pending is None:
            return Moved(NOTHING)
        patience_s = self.client.timeouts.exchange_s
        try:
            with self.client.waiting():
                moved = self._pending.result(timeout=patience_s)
        except concurrent.futures.TimeoutError:
            if not self._late:
                logging.warning(
                    "worker %d waited %g s for an exchange and trains on; the "
                    "answer is applied when it comes.",
                    self.client.worker,
                    patience_s,
                )
            self._late = True
            return Moved(NOTHING)
        self._pending, self._late = None, False
        return self._settled(moved, moment)

    def send(self, moment: Moment, values: Sequence[np.ndarray]) -> bool:
        """Lets parameters or messages leave; returns at once.

        Returns:
            Whether they leave: they do not while others are on their way,
            or where the worker has nothing to give.
        """
        if self._pending is not None or moment.clock == self._began_at:
            return False
        if self._is_push:
            do = functools.partial(self.client.take, overlapped=True)
        else:
            out = self._back.arrays()
            do = functools.partial(self.client.exchange, out=out)
        self._given_at = moment.clock
        self._pending = self._sender.submit(
            do, list(values), self._rates_at(moment), at=moment
        )
        return True

    @property
    def in_flight(self) -> bool:
        """Whether parameters have left whose difference was not collected."""
        return self._pending is not None

    def _tell(self, moment: Moment) -> None:
        self.client.clock = moment.clock
        self.client.samples = moment.samples

    def stop(self, finished: bool = False) -> None:
        """Leaves the center and ends the thread. Never raises.

        Args:
            finished: whether this worker has done its part.
        """
        if self._pending is not None:
            patience_s = self.client.timeouts.control_s if finished else 0.0
            concurrent.futures.wait([self._pending], patience_s)
            self._pending = None
        self._sender.shutdown(wait=False, cancel_futures=True)
        self.client.leave(finished)
