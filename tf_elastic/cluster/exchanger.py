"""The protocols: when a worker's parameters leave, and what comes back when.

`blocking`     Algorithms 1 and 2: at the start of a period the worker reads
               the center, pushes the difference, and goes on.
`overlapped`   section 2.2: at the start of a period the parameters leave; the
               difference comes back while training goes on, and is applied at
               the period's end.
`synchronous`  eqs. 2.3 and 2.4: at the start of a period all workers meet.
"""

import concurrent.futures
import time
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from absl import logging

from tf_elastic.cluster.client import CenterClient
from tf_elastic.cluster.client import Moved
from tf_elastic.cluster.client import Rates

PROTOCOLS = ("overlapped", "blocking", "synchronous")

# What a worker is to do.
NOTHING = 0
PULL = 1  # towards the center, by alpha times the differences
RESTART = 2  # from the center's values, with velocity zero


class Order(NamedTuple):
    """What a worker is to do at the start of a period."""

    kind: int
    moving_rate: float
    arrays: Sequence[np.ndarray]  # one for each section; empty for NOTHING


class Exchanger:
    """One worker's exchanges, by one of the protocols.

    Args:
        client: the worker's side of the center, joined.
        protocol: one of `PROTOCOLS`.
        rates: alpha and beta for p workers at the worker's clock.
    """

    def __init__(
        self, client: CenterClient, protocol: str, rates: Rates
    ) -> None:
        self.client = client
        self.protocol = protocol
        self._rates = rates
        self._pending: concurrent.futures.Future[Moved] | None = None
        self._late = False
        self._sender = concurrent.futures.ThreadPoolExecutor(
            1, thread_name_prefix="exchange"
        )

    def now(
        self, clock: int, samples: int, values: Sequence[np.ndarray]
    ) -> Order:
        """An exchange while the worker waits.

        Args:
            clock: the worker's local steps.
            samples: that it has trained on.
            values: its points, one array for each section.
        """
        self._tell(clock, samples)
        do = (
            self.client.meet
            if self.protocol == "synchronous"
            else self.client.read_and_push
        )
        begin = time.monotonic()
        moved = do(list(values), self._rates)
        self.client.counts.wait_s += time.monotonic() - begin
        return _order(moved)

    def collect(self, clock: int, samples: int) -> Order:
        """Takes what has come back from the parameters sent a period ago."""
        self._tell(clock, samples)
        if self._pending is None:
            return Order(NOTHING, 0.0, ())
        begin = time.monotonic()
        try:
            moved = self._pending.result(
                timeout=self.client.timeouts.exchange_s
            )
        except concurrent.futures.TimeoutError:
            if not self._late:
                logging.warning(
                    "worker %d waited %g s for an exchange and trains on; the "
                    "answer is applied when it comes.",
                    self.client.worker,
                    self.client.timeouts.exchange_s,
                )
            self._late = True
            return Order(NOTHING, 0.0, ())
        finally:
            self.client.counts.wait_s += time.monotonic() - begin
        self._pending, self._late = None, False
        return _order(moved)

    def send(self, values: Sequence[np.ndarray]) -> None:
        """Lets parameters leave; returns at once."""
        if self._pending is None:
            clock = self.client.clock  # It may be another when they leave.
            self._pending = self._sender.submit(
                self.client.exchange,
                list(values),
                lambda num_workers, _: self._rates(num_workers, clock),
            )

    @property
    def in_flight(self) -> bool:
        """Whether parameters have left whose difference was not collected."""
        return self._pending is not None

    def _tell(self, clock: int, samples: int) -> None:
        self.client.clock, self.client.samples = int(clock), int(samples)

    def stop(self, finished: bool = False) -> None:
        """Leaves the center and ends the thread. Never raises.

        Args:
            finished: whether this worker has done its part.
        """
        if self._pending is not None:
            concurrent.futures.wait(
                [self._pending], self.client.timeouts.control_s
            )
            self._pending = None
        self._sender.shutdown(wait=False, cancel_futures=True)
        self.client.leave(finished)


def _order(moved: Moved) -> Order:
    return Order(
        RESTART if moved.restart else PULL, moved.moving_rate, moved.arrays
    )
