"""A process' sessions with all center servers, at once."""

import concurrent.futures
import functools
import threading
from collections.abc import Callable
from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any
from typing import TypeVar

from absl import logging

from tf_elastic.cluster import errors
from tf_elastic.cluster.worker.patience import Patience
from tf_elastic.cluster.worker.patience import Timeouts
from tf_elastic.cluster.worker.shard_session import ShardSession
from tf_elastic.cluster.worker.surroundings import Surroundings

T = TypeVar("T")

_BREAK_OFF_S = 0.7
# A worker goes on after these, if the other servers tell of nothing worse.
_GOES_ON = (
    *errors.BEGUN_ANEW,
    errors.CenterUnavailableError,
    errors.LostSlotError,
)


class AllSessions:
    """Does something with all sessions, and keeps them by signs of life.

    Args:
        each: the sessions.
        progress: what signs of life tell; see `ShardSession.beat`.
        timeouts: see `Timeouts`.
        around: time and threads.
    """

    def __init__(
        self,
        each: Sequence[ShardSession],
        progress: Callable[[], Mapping[str, Any]],
        timeouts: Timeouts,
        around: Surroundings,
    ) -> None:
        self.each = each
        self.failure: BaseException | None = None  # why training cannot go on
        self._progress = progress
        self._timeouts = timeouts
        self._around = around
        self._pool = around.pool or concurrent.futures.ThreadPoolExecutor(
            len(each), thread_name_prefix="center"
        )
        self._leaving = threading.Lock()
        self._hearts: list[threading.Thread] = []

    def do(
        self, do: Callable[[ShardSession], T], patience: Patience | None = None
    ) -> list[T]:
        """Does something with all of them at once, and waits.

        Of several errors the one is raised after which nothing can go on.

        Args:
            do: called with each, in threads.
            patience: that ends for all after an error of one.

        Returns:
            What came of each, in their order.
        """
        futures = [self._pool.submit(do, session) for session in self.each]
        for future in concurrent.futures.as_completed(futures):
            if patience and future.exception():
                patience.give_up()
        found = [error for f in futures if (error := f.exception())]
        if found:
            raise min(found, key=lambda e: isinstance(e, _GOES_ON))
        return [future.result() for future in futures]

    # Signs of life.

    def begin_to_beat(self) -> None:
        """From now on each gives signs of life, from a thread of its own."""
        if self._hearts or not self._around.beats:
            return
        self._hearts = [
            threading.Thread(
                target=self._beat,
                args=(session,),
                name=f"heartbeat-{session.shard}",
                daemon=True,
            )
            for session in self.each
        ]
        for heart in self._hearts:
            heart.start()

    def _beat(self, session: ShardSession) -> None:
        while not self._around.stopped.wait(self._timeouts.heartbeat_s):
            try:
                session.beat(self._progress())
            except Exception as error:
                self.failure = error
                worker = session.identity.worker
                logging.error("worker %d: %s.", worker, error)
                return

    def check(self) -> None:
        """Raises why training cannot go on, if something is."""
        if self.failure is not None:
            raise self.failure

    def signal(self) -> None:
        """A sign of life to all at once, not when its time has come."""
        self.do(lambda session: session.beat(self._progress()))

    def ask_if_overdue(self) -> None:
        """Asks how all are, if a sign of life is overdue.

        Then this process was stopped, and what it knows is old.
        """
        now = self._around.now()
        heard = [
            session.heard_at
            for session in self.each
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
            for session in self.each:
                session.connection.break_off()
        until = self._around.now() + patience_s
        for heart in self._hearts:
            heart.join(timeout=max(until - self._around.now(), 0.0))
        leave = functools.partial(
            ShardSession.leave,
            progress=self._progress(),
            finished=finished,
            patience_s=patience_s,
        )
        try:
            # After what is still going on with each.
            self.do(leave)
        except RuntimeError:  # Python ends, and takes no work for threads.
            for session in self.each:
                leave(session)
        self._pool.shutdown(wait=False, cancel_futures=True)
        for session in self.each:
            session.connection.close()
