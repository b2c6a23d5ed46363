"""Exchanges that depend on what is learned: somebody looks at values.

A timeline is made before training, as time does not depend on what is learned.
With a *policy* it does: when an exchange is due, the policy is asked whether
it takes place. So the timeline is made no further than to the next training
step, and is told what was seen at each.
"""

import dataclasses
import math
from collections.abc import Callable
from typing import NamedTuple
from typing import Protocol

import numpy as np


class Seen(NamedTuple):
    """What is known of a worker when its exchange is due."""

    worker: int
    clock: int  # calls of its optimizer, so far
    time: float  # virtual s, now
    # |x - center|, L2 over all parameters, after the worker's last step and
    # as the center was then. Not finite where the worker is not.
    distance: float
    # The same when it last exchanged; None if no exchange was asked for yet.
    last_distance: float | None


class Policy(Protocol):
    """Which exchanges take place.

    The answer depends on what is seen alone: then a run that is resumed goes on
    to the bit.
    """

    def exchanges(self, seen: Seen) -> bool:
        """Whether a worker exchanges now, or steps on until its next period.

        Args:
            seen: of the worker whose exchange is due.
        """


@dataclasses.dataclass(frozen=True)
class SkipSmallMoves:
    """A worker that has moved little skips its exchange.

    It exchanges if its distance to the center is at least `share` of what that
    was when it last exchanged; what is not finite never goes to the center.
    Messages are spared where they would say little, as in lazily aggregated
    gradients (LAG, arXiv 1805.09965), which compares with earlier moves, too.

    Args:
        share: from 0, with which all that is finite is exchanged.

    Raises:
        ValueError: an argument is out of its range.

    Example:

    >>> policy = SkipSmallMoves(share=0.5)
    >>> policy.exchanges(Seen(0, 10, 1.5, distance=0.4, last_distance=1.0))
    False
    """

    share: float = 0.5

    def __post_init__(self) -> None:
        share = self.share
        is_number = isinstance(share, int | float) and type(share) is not bool
        if not is_number or not 0 <= share < math.inf:
            raise ValueError(
                "`share` must be a finite number that is not negative. "
                f"Received: share={share!r:.80}. 0.5 skips what is below half "
                "of the last distance."
            )

    def exchanges(self, seen: Seen) -> bool:
        """See `Policy.exchanges`."""
        if not math.isfinite(seen.distance):
            return False
        last = seen.last_distance
        return last is None or seen.distance >= self.share * last


# Asked by a worker, its clock, and the time.
MayExchange = Callable[[int, int, float], bool]


class Decisions:
    """What a policy has decided, in the order in which it was asked.

    A timeline that begins anew asks for the same, and is answered from here;
    so is one that is resumed, by what `state` gave.

    Args:
        policy: which is asked.
        num_workers: p.
    """

    def __init__(self, policy: Policy, num_workers: int) -> None:
        self.policy = policy
        self._num_workers = num_workers
        self.begin()

    def begin(self) -> None:
        """Nothing has been seen or decided yet."""
        self._made = bytearray()  # 1 for each exchange, 0 if it is skipped
        # Of each worker its clock when it was seen, its distance then, and
        # when it last exchanged.
        self._seen = np.full((self._num_workers, 3), np.nan)

    def see(self, worker: int, clock: int, distance: float) -> None:
        """A training step was taken.

        Args:
            worker: whose.
            clock: calls of its optimizer, this one too.
            distance: see `Seen`.
        """
        self._seen[worker, :2] = clock, distance

    @property
    def state(self) -> tuple[np.ndarray, np.ndarray]:
        """All that there is: uint8 of shape (decisions,), float64 (p, 3)."""
        return np.frombuffer(bytes(self._made), np.uint8), self._seen.copy()

    def resume(self, made: np.ndarray, seen: np.ndarray) -> None:
        """Goes on from what `state` gave.

        Args:
            made: the decisions.
            seen: what was seen of the workers.
        """
        self._made = bytearray(np.asarray(made, np.uint8).tobytes())
        self._seen = np.array(seen, np.float64)

    def from_the_first(self) -> MayExchange:
        """Gives one decision after another; new ones are made in the end."""
        number = 0

        def may_exchange(worker: int, clock: int, time: float) -> bool:
            nonlocal number
            if number == len(self._made):
                self._made.append(self._decide(worker, clock, time))
            number += 1
            return bool(self._made[number - 1])

        return may_exchange

    def _decide(self, worker: int, clock: int, time: float) -> bool:
        seen_at, distance, last = self._seen[worker].tolist()
        if seen_at != clock:
            raise ValueError(
                "With a policy it is not known ahead what happens: a worker's "
                "exchange is decided when its steps before it were taken. "
                f"Received: worker {worker} at its step {clock}, after which "
                f"of its steps it was last seen: {seen_at}. Ask for no moves "
                "beyond the training, and give the data to all workers in "
                "turn, not to each by `distribute_datasets_from_function`."
            )
        found = self.policy.exchanges(
            Seen(
                worker,
                clock,
                time,
                distance,
                None if math.isnan(last) else last,
            )
        )
        if type(found) not in (bool, np.bool_):
            raise ValueError(
                "`exchanges` of a policy must give True or False. Received: "
                f"{found!r:.80}, of {self.policy!r:.80}."
            )
        if found:
            self._seen[worker, 2] = distance
        return bool(found)
