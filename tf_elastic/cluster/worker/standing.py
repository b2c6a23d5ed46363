"""Whether a center server is there, and which pushes of a worker it has.

No network, and nobody is asked for the time.
"""

import threading

from tf_elastic.timeline import event as happened
from tf_elastic.timeline.stream import Stream


class Standing:
    """One worker's with one center server. Thread-safe.

    The server counts the pushes of an incarnation that it has applied, the
    worker those that were answered. Where they differ a push has come without
    its answer: one half of an exchange is lost. Or the server has applied
    fewer: it was set back, and has forgotten what the worker has done.

    Args:
        shard: the server.
        events: is told of what is missed, lost or forgotten.
    """

    def __init__(self, shard: int, events: Stream) -> None:
        self.away_since: float | None = None
        self.pushing = False  # an exchange is under way
        self._shard = shard
        self._events = events
        self._missed = 0  # parts of exchanges since it went away
        self._pushes = 0  # of this incarnation, as the server last counted
        self._lock = threading.Lock()

    def goes_away(self, now: float) -> bool:
        """Notes that the server does not answer; whether that is new."""
        with self._lock:
            if self.away_since is not None:
                return False
            self.away_since = now
            self._missed = 0
            self._events.tell(happened.AWAY, shard=self._shard)
            return True

    def misses(self) -> None:
        """An exchange is without the server."""
        with self._lock:
            self._missed += 1
            self._events.tell(happened.MISS, shard=self._shard)

    def comes_back(
        self, now: float, pushes: int | None
    ) -> tuple[float, int, int] | None:
        """Notes that the server answers again.

        Args:
            now: the time.
            pushes: as it counts them; None if it knows another incarnation.

        Returns:
            For how long it was away, the parts missed meanwhile and halves
            lost; None if it was not away.
        """
        with self._lock:
            if self.away_since is None:
                return None
            gone_s = now - self.away_since
            self.away_since = None
            lost = 0
            # Of a push that comes later still, the next answer tells.
            if pushes is not None and not self.pushing:
                lost = self._compare(pushes, answered=0)
            self._events.tell(
                happened.BACK,
                shard=self._shard,
                seconds=gone_s,
                amount=self._missed,
            )
            return gone_s, self._missed, lost

    def joins(self) -> None:
        """The server has taken this worker: it is there."""
        with self._lock:
            self.away_since = None

    def begins_anew(self, pushes: int) -> None:
        """An incarnation begins; `pushes` is the last heard of that before."""
        with self._lock:
            self._compare(pushes, answered=0)
            self._pushes = 0

    def push_begins(self) -> bool:
        """Whether there is a server to push to."""
        with self._lock:
            self.pushing = self.away_since is None
            return self.pushing

    def answered(self, pushes: int) -> None:
        """A push was answered; so many were applied, as the server counts."""
        with self._lock:
            self._compare(pushes, answered=1)

    def push_ends(self) -> None:
        """No push is under way any more."""
        with self._lock:
            self.pushing = False

    def _compare(self, pushes: int, answered: int) -> int:
        """How many halves are lost since the last comparison."""
        more = pushes - self._pushes - answered
        self._pushes = pushes
        if more:
            kind = happened.LOST_HALF if more > 0 else happened.FORGOTTEN
            self._events.tell(kind, shard=self._shard, amount=abs(more))
        return max(more, 0)
