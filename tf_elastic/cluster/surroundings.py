"""What is around a worker's client: time, network and threads."""

import concurrent.futures
import dataclasses
import threading
import time
from collections.abc import Callable

from tf_elastic.cluster.connection import Connection
from tf_elastic.cluster.patience import Patience
from tf_elastic.cluster.patience import Stop


@dataclasses.dataclass(frozen=True)
class Surroundings:
    """As they are for a process; a test may give others."""

    now: Callable[[], float] = time.monotonic  # a clock, in seconds
    # Makes the line to a server: of address, shard, security and group.
    connect: Callable[..., Connection] = Connection
    # Of as many threads as there are servers; None for some of its own.
    pool: concurrent.futures.Executor | None = None
    # Set when the client leaves.
    stopped: Stop = dataclasses.field(default_factory=threading.Event)
    # Whether signs of life are given by themselves, and not when told.
    beats: bool = True

    def patience(self, seconds: float) -> Patience:
        """For so long, and not longer than the client is there."""
        return Patience(seconds, self.stopped, self.now)
