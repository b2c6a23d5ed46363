"""How long a worker waits for what, and what it says when that is over."""

import threading
from collections.abc import Callable
from typing import NamedTuple
from typing import TypeVar

from tf_elastic.cluster import errors

T = TypeVar("T")

_POLL_S = 0.05


class Timeouts(NamedTuple):
    """How long a worker waits for what, in seconds."""

    join_s: float = 120.0  # for all center servers, at the start
    exchange_s: float = 10.0  # for an exchange, and more for large models
    heartbeat_s: float = 1.0  # between two signs of life
    control_s: float = 5.0  # for the answer to a short message
    barrier_s: float = 60.0  # for the others, in a synchronous exchange
    group_s: float = 1800.0  # for those of its group, to come to a step


class Patience:
    """Until when something is tried, by several threads.

    Args:
        seconds: from now on.
        stopped: ends it, too.
        now: a clock, in seconds.
    """

    def __init__(
        self,
        seconds: float,
        stopped: threading.Event,
        now: Callable[[], float],
    ) -> None:
        self._seconds = seconds
        self._stopped = stopped
        self._now = now
        self._end = now() + seconds
        self._given_up = threading.Event()

    def give_up(self) -> None:
        """The others have failed: it is of no use any more."""
        self._given_up.set()

    def is_over(self) -> bool:
        """Whether this is not to be tried again."""
        return self._given_up.is_set() or self._now() > self._end

    def pause(self) -> None:
        """Waits a moment before something is looked at again."""
        self._stopped.wait(2 * _POLL_S)

    def wait(self, who: str, server: str, reason: object) -> None:
        """Waits a moment before the next attempt.

        Args:
            who: waits.
            server: whose parameters are waited for.
            reason: why they are not there.

        Raises:
            CenterUnavailableError: it is over.
        """
        if self.is_over() or self._stopped.wait(_POLL_S):
            raise errors.CenterUnavailableError(
                f"{who} waited {self._seconds:g} s for the parameters of "
                f"{server}: {reason}. Look at the chief's log"
            )

    def call(self, who: str, server: str, call: Callable[[], T]) -> T:
        """Calls until there is an answer, or the deadline is over."""
        begin, attempts = self._now(), 0
        while True:
            attempts += 1
            try:
                return call()
            except errors.CenterUnavailableError as error:
                waited = self._now() - begin
                if self.is_over() or self._stopped.is_set():
                    raise errors.CenterUnavailableError(
                        f"{who} waited {waited:.1f} s for {server}, in "
                        f"{attempts} attempts; the last: {error}. Is it "
                        "started, and is its address right?"
                    ) from error
                self._stopped.wait(4 * _POLL_S)
