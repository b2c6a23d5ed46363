"""Whose parameters an empty center server begins with.

The rule: the offers of `grace_s` seconds are compared, counted from the first.
The worker that has seen the newest version of the center wins, the lowest
index among equals. If none has seen any, the chief's are taken, once it comes.
So a new cluster begins with the chief's parameters, and a center server that
has lost its memory with the freshest worker's.
"""

from collections.abc import Callable

NEVER = -1  # The version seen by a worker that has seen none.
_UPLOAD_S = 60.0


class BootstrapElection:
    """The offers made to one center server.

    Args:
        grace_s: seconds.
        now: a clock, in seconds.
    """

    def __init__(self, grace_s: float, now: Callable[[], float]) -> None:
        self._grace_s = grace_s
        self._now = now
        self._made: dict[int, tuple[int, bool]] = {}
        self._first = 0.0
        self._accepted_at = 0.0
        self.accepted: int | None = None

    def make(self, worker: int, version_seen: int, is_chief: bool) -> bool:
        """Notes an offer.

        Args:
            worker: who offers.
            version_seen: the newest version it knows, or `NEVER`.
            is_chief: whether it may begin a new center.

        Returns:
            Whether it is accepted: the worker is to send its parameters.
        """
        now = self._now()
        if not self._made:
            self._first = now
        self._made[worker] = (version_seen, is_chief)
        if self.accepted is not None and now - self._accepted_at > _UPLOAD_S:
            self._made.pop(self.accepted)  # It has died over it.
            self.accepted = None
        if self.accepted is None and now - self._first >= self._grace_s:
            self.accepted = self._best()
            self._accepted_at = now
        return self.accepted == worker

    def withdraw(self, worker: int) -> None:
        """Takes back the offer of a worker that is gone."""
        self._made.pop(worker, None)
        if self.accepted == worker:
            self.accepted = None

    def _best(self) -> int | None:
        candidates = [
            (-version, worker)
            for worker, (version, is_chief) in self._made.items()
            if version > NEVER or is_chief
        ]
        return min(candidates)[1] if candidates else None
