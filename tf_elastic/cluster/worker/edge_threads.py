"""The threads of a child in a tree: the way to its parent, and back."""

import threading
from collections.abc import Callable
from collections.abc import Mapping

from absl import logging

from tf_elastic.cluster.worker.patience import Timeouts
from tf_elastic.cluster.worker.upstream import Upstream

_LISTEN_S = 1.0


class RoundThreads:
    """Threads that each do one thing again and again, until they are stopped.

    Args:
        whose: for the log and the threads' names.
        rounds: what each does; it waits by itself where there is nothing.
        stopped: ends them all.
    """

    def __init__(
        self,
        whose: str,
        rounds: Mapping[str, Callable[[], None]],
        stopped: threading.Event,
    ) -> None:
        self.failure: Exception | None = None  # why one can't go on
        self._whose = whose
        self._stopped = stopped
        self._threads = [
            threading.Thread(
                target=self._repeat,
                args=(do,),
                name=f"{whose} {name}",
                daemon=True,
            )
            for name, do in rounds.items()
        ]

    def start(self) -> None:
        """Begins."""
        for thread in self._threads:
            thread.start()

    def join(self, patience_s: float) -> None:
        """Waits for their ends, for each so long at most."""
        for thread in self._threads:
            if thread.is_alive():
                thread.join(patience_s)

    def is_alive(self) -> bool:
        """Whether all of them live."""
        return all(thread.is_alive() for thread in self._threads)

    def _repeat(self, do: Callable[[], None]) -> None:
        while not self._stopped.is_set():
            try:
                do()
            except Exception as error:
                self.failure = error
                logging.error("%s: %s.", self._whose, error)
                return


class EdgeRounds:
    """What there is to do, again and again, for one edge to a parent.

    Args:
        upstream: the edge; until the child has joined nothing is done.
        timeouts: of it.
        stopped: ends all waiting.
        after_beat: called after each sign of life.
    """

    def __init__(
        self,
        upstream: Upstream,
        timeouts: Timeouts,
        stopped: threading.Event,
        after_beat: Callable[[], None] = lambda: None,
    ) -> None:
        self._upstream = upstream
        self._timeouts = timeouts
        self._stopped = stopped
        self._after_beat = after_beat

    def by_name(self) -> dict[str, Callable[[], None]]:
        """For `RoundThreads`."""
        return {"carry": self._carry, "hear": self._hear, "beat": self._beat}

    @property
    def longest_s(self) -> float:
        """How long one of them may take, once all is stopped."""
        return _LISTEN_S + self._timeouts.control_s

    @property
    def _rests(self) -> bool:
        return self._upstream.is_away or not self._upstream.joined

    def _carry(self) -> None:
        if self._rests:
            self._stopped.wait(self._timeouts.heartbeat_s)
        elif not self._upstream.carry():
            self._upstream.leaves.wait(self._timeouts.heartbeat_s)

    def _hear(self) -> None:
        if self._rests:
            self._stopped.wait(self._timeouts.heartbeat_s)
        else:
            self._upstream.hear(_LISTEN_S)

    def _beat(self) -> None:
        if not self._stopped.wait(self._timeouts.heartbeat_s):
            self._upstream.beat()
            self._after_beat()
