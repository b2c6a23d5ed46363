"""Who a process is, and what is around it: time, network and threads."""

import concurrent.futures
import dataclasses
import threading
import time
from collections.abc import Callable
from typing import NamedTuple

from tf_elastic.cluster.transport.connection import Connection
from tf_elastic.cluster.transport.line import Line
from tf_elastic.cluster.worker.patience import Patience
from tf_elastic.timeline.stream import Listener
from tf_elastic.timeline.stream import Stream
from tf_elastic.timeline.stream import of_worker


class Identity(NamedTuple):
    """Who a process is, to the center servers."""

    worker: int | None  # its index; None for a process that only looks
    is_chief: bool  # its parameters may begin a new center
    expected_workers: int  # that the cluster is begun with
    process: str  # a name of the process


@dataclasses.dataclass(frozen=True)
class Surroundings:
    """As they are for a process; a test may give others."""

    now: Callable[[], float] = time.monotonic  # a clock, in seconds
    # What events are dated by, in seconds; and who is told of them.
    time_of_day: Callable[[], float] = time.time
    events: Listener | None = None
    # Makes the line to a server: of address, shard, security and group.
    connect: Callable[..., Line] = Connection
    # Of as many threads as there are servers; None for some of its own.
    pool: concurrent.futures.Executor | None = None
    # Set when the client leaves.
    stopped: threading.Event = dataclasses.field(
        default_factory=threading.Event
    )
    # Whether signs of life are given by themselves, and not when told.
    beats: bool = True

    def stream(self, worker: int | None, group: int) -> Stream:
        """What a worker tells, to whom events are told here."""
        events = of_worker(worker, group, self.time_of_day)
        if self.events:
            events.listen(self.events)
        return events

    def patience(self, seconds: float) -> Patience:
        """For so long, and not longer than the client is there."""
        return Patience(seconds, self.stopped, self.now)
