"""A worker's place at one center server, and what is counted there."""

import dataclasses
import math
import threading
import time
from collections.abc import Sequence
from typing import Any
from typing import NamedTuple

import numpy as np

from tf_elastic.cluster import codec as codecs
from tf_elastic.cluster import offers
from tf_elastic.cluster.connection import Connection
from tf_elastic.cluster.debt import Debt


class Timeouts(NamedTuple):
    """How long a worker waits for what, in seconds."""

    join_s: float = 120.0  # for all center servers, at the start
    exchange_s: float = 10.0  # for an exchange, and more for large models
    heartbeat_s: float = 1.0  # between two signs of life
    control_s: float = 5.0  # for the answer to a short message
    barrier_s: float = 60.0  # for the others, in a synchronous exchange


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


class Link:
    """A worker's place at one center server."""

    def __init__(
        self, connection: Connection, shard: int, codec: str
    ) -> None:
        self.connection = connection
        self.shard = shard
        self.incarnation = 0
        self.version = offers.NEVER  # the newest that was heard of
        self.version_read = 0  # of the parameters that were last exchanged
        # The same at the start of the push before: overlapped, a message was
        # made before the answer to the one before it was there.
        self.version_held = 0
        self.heard_at = 0.0  # of anything
        # The synchronous round that comes after the last one taken part in.
        self.round = 0
        self.joined = False
        self.clock_before = 0  # of the life before this one, local steps
        self.away_since: float | None = None
        self.missed = 0  # exchanges, since it is away
        self.pushes = 0  # of this incarnation, that were answered
        self.pushing = False  # an exchange is under way
        self.debt = Debt()
        self.refusals: int | None = None  # of others, that were told of
        self._codec = codec
        self._senders: list[codecs.ReferenceSender] | None = None

    def encode(
        self, parts: Sequence[np.ndarray], whole: bool
    ) -> tuple[list[Any], bool]:
        """What to send for a worker's points, and whether it is whole."""
        if self._codec == "none":
            return list(parts), True
        senders = self._senders  # The heartbeat's thread may forget them.
        if senders is None or whole:
            senders = self._senders = [
                codecs.ReferenceSender(self._codec, part.dtype, part.size)
                for part in parts
            ]
            return [
                sender.restart(part)
                for sender, part in zip(senders, parts, strict=True)
            ], True
        return [
            sender.compress(part)
            for sender, part in zip(senders, parts, strict=True)
        ], False

    def forget_reference(self) -> None:
        """The next message has to be whole."""
        self._senders = None

    @property
    def codec_error(self) -> float:
        """The largest relative error of the last message's sections."""
        senders = self._senders or ()
        return max((sender.relative_error for sender in senders), default=0.0)


class Patience:
    """Until when something is tried, by several threads."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self._end = time.monotonic() + seconds
        self._given_up = threading.Event()

    def give_up(self) -> None:
        """The others have failed: it is of no use any more."""
        self._given_up.set()

    def is_over(self) -> bool:
        """Whether this is not to be tried again."""
        return self._given_up.is_set() or time.monotonic() > self._end
