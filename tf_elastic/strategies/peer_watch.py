"""Looks whether the other processes of a group are there."""

import threading
import time
from collections.abc import Callable
from collections.abc import Mapping

_EVERY_S = 1.0


class PeerWatch:
    """A thread that looks after processes without which this one hangs.

    Args:
        peers: what each is called, by its number.
        patience_s: how long one may be silent, in seconds.
        longest_s: how long one that answers may be waited for, in seconds.
        answers: whether a peer, by its number, answers within so many
            seconds.
        give_up: is told a sentence, once, when one does not.
    """

    def __init__(
        self,
        peers: Mapping[int, str],
        patience_s: float,
        longest_s: float,
        answers: Callable[[int, float], bool],
        give_up: Callable[[str], None],
    ) -> None:
        self._peers = dict(peers)
        self._patience_s = patience_s
        self._longest_s = longest_s
        self._answers = answers
        self._give_up = give_up
        self._ended = threading.Event()
        self._is_on = threading.Event()
        # Until when this process waits for the others, if it does.
        self._deadline: float | None = None
        self._thread = threading.Thread(
            target=self._watch, name="peer watch", daemon=True
        )
        self._thread.start()

    def look(self, is_on: bool) -> None:
        """Looks from now on, or not: peers may end when nobody trains."""
        if is_on:
            self._is_on.set()
        else:
            self._is_on.clear()

    def wait(self) -> None:
        """This process waits for the others from now on, and looks at them."""
        self._deadline = time.monotonic() + self._longest_s

    def wait_no_more(self) -> None:
        """They have come."""
        self._deadline = None

    def end(self) -> None:
        """Looks no more."""
        self._ended.set()

    def _is_needed(self) -> bool:
        return self._is_on.is_set() or self._deadline is not None

    def _watch(self) -> None:
        try:
            while not self._ended.wait(_EVERY_S):
                if not self._is_needed():
                    continue
                deadline = self._deadline
                if deadline is not None and time.monotonic() > deadline:
                    self._lose(
                        f"{' or '.join(self._peers.values())} has not come "
                        f"to where this process waits for {self._longest_s:g} "
                        "s. Did its training end with an error that its "
                        "program goes on after, or does it evaluate for "
                        "longer (`Timeouts.group_s`)?"
                    )
                    return
                for peer, name in self._peers.items():
                    # Once more, if a connection has broken off.
                    if not any(
                        self._answers(peer, self._patience_s) for _ in range(2)
                    ):
                        self._lose(f"{name} is lost: it does not answer.")
                        return
        except BaseException as error:
            self._lose(f"The thread that looks for the others died: {error!r}.")

    def _lose(self, what: str) -> None:
        if self._is_needed() and not self._ended.is_set():
            self._give_up(
                f"{what} The processes of a group take each step together, so "
                "that none goes on without it. Start all of the group again "
                "(a local cluster does, with `restart_workers`): it joins as "
                "a worker that comes late, and the other groups train on."
            )
