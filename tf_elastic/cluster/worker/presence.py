"""How a process stays known to all center servers, until it leaves."""

import functools
import threading
from collections.abc import Callable
from collections.abc import Mapping
from typing import Any

from absl import logging

from tf_elastic.cluster.worker.fanout import Fanout
from tf_elastic.cluster.worker.patience import Timeouts
from tf_elastic.cluster.worker.shard_session import ShardSession
from tf_elastic.cluster.worker.surroundings import Surroundings

_BREAK_OFF_S = 0.7


class Presence:
    """Signs of life to all center servers, each from a thread of its own.

    Args:
        fanout: does something with all sessions at once.
        progress: what is told; see `ShardSession.beat`.
        timeouts: see `Timeouts`.
        around: time and threads.
    """

    def __init__(
        self,
        fanout: Fanout[ShardSession],
        progress: Callable[[], Mapping[str, Any]],
        timeouts: Timeouts,
        around: Surroundings,
    ) -> None:
        self.failure: BaseException | None = None  # why training cannot go on
        self._sessions = fanout.each
        self._all = fanout
        self._progress = progress
        self._timeouts = timeouts
        self._around = around
        self._leaving = threading.Lock()
        self._threads: list[threading.Thread] = []

    def start(self) -> None:
        """Begins, if it has not begun."""
        if self._threads or not self._around.beats:
            return
        self._threads = [
            threading.Thread(
                target=self._beat,
                args=(session,),
                name=f"heartbeat-{session.shard}",
                daemon=True,
            )
            for session in self._sessions
        ]
        for thread in self._threads:
            thread.start()

    def check(self) -> None:
        """Raises why training cannot go on, if something is."""
        if self.failure is not None:
            raise self.failure

    def _beat(self, session: ShardSession) -> None:
        while not self._around.stopped.wait(self._timeouts.heartbeat_s):
            try:
                session.beat(self._progress())
            except Exception as error:
                self.failure = error
                worker = session.identity.worker
                logging.error("worker %d: %s.", worker, error)
                return

    def signal(self) -> None:
        """A sign of life to all at once, not when its time has come."""
        self._all.do(lambda session: session.beat(self._progress()))

    def ask_if_overdue(self) -> None:
        """Asks how all are, if a sign of life is overdue.

        Then this process was stopped, and what it knows is old.
        """
        now = self._around.now()
        heard = [
            session.heard_at
            for session in self._sessions
            if session.joined and session.away_since is None
        ]
        if heard and now - min(heard) > 2 * self._timeouts.heartbeat_s:
            self.signal()

    def leave(self, finished: bool) -> None:
        """Gives the slots back, and closes everything. Never raises.

        Args:
            finished: whether this worker has done its part.
        """
        with self._leaving:
            if self._around.stopped.is_set():
                return
            self._around.stopped.set()
        # Whoever breaks off waits for nobody: its lease ends by itself.
        patience_s = self._timeouts.control_s
        if not finished:
            patience_s = min(patience_s, _BREAK_OFF_S)
            for session in self._sessions:
                session.connection.break_off()
        until = self._around.now() + patience_s
        for thread in self._threads:
            thread.join(timeout=max(until - self._around.now(), 0.0))
        leave = functools.partial(
            ShardSession.leave,
            progress=self._progress(),
            finished=finished,
            patience_s=patience_s,
        )
        try:
            # After what is still going on with each.
            self._all.do(leave)
        except RuntimeError:  # Python ends, and takes no work for threads.
            for session in self._sessions:
                leave(session)
        self._all.close()
        for session in self._sessions:
            session.connection.close()
