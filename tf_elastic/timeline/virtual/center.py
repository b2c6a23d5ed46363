"""The center of a virtual cluster: its version, its queue, who is too late."""

import math
from collections.abc import Generator
from collections.abc import Iterator

import numpy as np

from tf_elastic.core import lateness
from tf_elastic.timeline.virtual import streams
from tf_elastic.timeline.virtual.durations import Duration
from tf_elastic.timeline.virtual.faults import Losses
from tf_elastic.timeline.virtual.moves import ANSWER
from tf_elastic.timeline.virtual.moves import COLLECT
from tf_elastic.timeline.virtual.moves import DROP
from tf_elastic.timeline.virtual.moves import RESTART
from tf_elastic.timeline.virtual.timing import Timing

# The fields of a `Move`.
Fields = tuple[float, int, int, int, int, int, int, int, int]


class Center:
    """Who is present, how often it has moved, and when it is free again.

    Args:
        timing: of the cluster.
        num_workers: p, all that there may be.
        seed: of the timeline.
        answers_difference: see `core.rules.Rule`.
        max_lag: see `core.lateness`; None for no bound.
        max_staleness: a message that is so stale is left out, R in
            arXiv 2501.16168; None for no bound.
    """

    def __init__(
        self,
        timing: Timing,
        num_workers: int,
        seed: int,
        answers_difference: bool,
        max_lag: float | None = None,
        max_staleness: int | None = None,
    ) -> None:
        self.moves: list[Fields] = []  # that were made and not taken yet
        self.version = 0
        self.present = 0
        # By worker, the version that it was last told.
        self.settled = [0] * num_workers
        self._answers_difference = answers_difference
        self._max_lag = max_lag
        self._max_staleness = (
            math.inf if max_staleness is None else max_staleness
        )
        self._is_bounded = max_lag is not None or max_staleness is not None
        self._links = Links(timing, num_workers, seed)
        self._is_instant = timing.center_is_instant
        self._service = streams.of(
            timing.service, seed, streams.SERVICE, streams.CENTER
        )
        bandwidth = timing.center_bandwidth
        self._per_byte = 0.0 if bandwidth is None else 1 / bandwidth
        self._free_at = 0.0

    def reach(
        self, worker: int, time: float, up: int, both: int
    ) -> Generator[float, float, float]:
        """A worker's message goes to the center, and is served.

        Args:
            worker: whose.
            time: when it leaves.
            up: its bytes.
            both: with those of the answer.

        Returns:
            When the center is done with it.
        """
        first = time + next(self._links.delays[worker])
        last = first + up * self._links.per_byte[worker]
        if self._is_instant:
            return (yield last)
        time = yield first
        begin = self._free_at if self._free_at > time else time
        served = begin + next(self._service) + both * self._per_byte
        self._free_at = served
        return (yield served if served > last else last)

    def answer_arrives(self, worker: int, time: float, down: int) -> float:
        """When an answer that leaves now is with its worker.

        Args:
            worker: whose.
            time: now.
            down: its bytes.
        """
        delay = next(self._links.delays[worker])
        return time + delay + down * self._links.per_byte[worker]

    def is_late(self, worker: int) -> bool:
        """Whether a worker's exchange is left out, by its lag."""
        return self._max_lag is not None and lateness.is_late(
            self.version - self.settled[worker], self.present, self._max_lag
        )

    def take(
        self,
        kind: int,
        time: float,
        worker: int,
        clock: int,
        read: int,
        may_be_late: bool = True,
    ) -> bool:
        """Moves by a message, or leaves it out.

        A worker whose rule wants a point gets the newest one then, too.

        Args:
            kind: of the move.
            time: now.
            worker: whose message.
            clock: the worker's.
            read: the version that the message was made with.
            may_be_late: whether it is asked for the worker's lag.

        Returns:
            Whether the worker is answered: else it has to begin again.
        """
        version = self.version
        staleness = version - read
        if self._is_bounded and (
            (may_be_late and self.is_late(worker))
            or staleness >= self._max_staleness
        ):
            self.drop(time, worker, clock, staleness)
            if self._answers_difference:
                return False
            self.answer(time, worker, clock)
            return True
        self.moves.append(
            (time, kind, worker, clock, version, staleness, self.present, 1, -1)
        )
        self.version = self.settled[worker] = version + 1
        return True

    def drop(
        self, time: float, worker: int, clock: int, staleness: int = 0
    ) -> None:
        """Leaves a message out."""
        at, present = self.version, self.present
        self.moves.append(
            (time, DROP, worker, clock, at, staleness, present, 1, -1)
        )

    def answer(self, time: float, worker: int, clock: int) -> None:
        """Tells a worker the point to go on from."""
        self.note(ANSWER, time, worker, clock)
        self.settled[worker] = self.version

    def restart(self, time: float, worker: int, clock: int) -> None:
        """A worker goes on from the center as it is now."""
        self.note(RESTART, time, worker, clock)
        self.settled[worker] = self.version

    def note(self, kind: int, time: float, worker: int, clock: int) -> None:
        """Adds a move that changes no version."""
        self.moves.append(
            (time, kind, worker, clock, self.version, 0, self.present, 1, -1)
        )

    def collect(self, time: float, workers: set[int], count: int) -> None:
        """Moves by the sum of a round.

        Args:
            time: now.
            workers: that are told.
            count: messages in the sum.
        """
        at, present = self.version, self.present
        self.moves.append((time, COLLECT, -1, 0, at, 0, present, count, -1))
        self.version += 1
        for worker in workers:
            self.settled[worker] = self.version


class Links:
    """The workers' links: how long it takes until a first byte arrives.

    Args:
        timing: of the cluster.
        num_workers: p.
        seed: of the timeline.
    """

    def __init__(self, timing: Timing, num_workers: int, seed: int) -> None:
        every = range(num_workers)
        self.delays = [
            delays(timing.of_worker("latency", w), timing.losses, seed, w)
            for w in every
        ]
        bounds = [timing.of_worker("bandwidth", worker) for worker in every]
        self.per_byte = [0.0 if b is None else 1 / b for b in bounds]


def delays(
    latency: Duration, losses: Losses | None, seed: int, link: int
) -> Iterator[float]:
    """How long it takes a link's first bytes, with those that are lost.

    Args:
        latency: one way.
        losses: of messages; None for none.
        seed: of the timeline.
        link: its number.
    """
    if losses is None or losses.chance == 0:
        return streams.of(latency, seed, streams.LATENCY, link)
    chance, again = losses.chance, losses.resend_after
    draw = streams.sampler(latency, seed, streams.LATENCY, link)
    rng = streams.generator(seed, streams.LOSS, link)

    def delay(count: int) -> np.ndarray:
        lost = rng.geometric(1 - chance, count) - 1
        return np.asarray(draw(count) + lost * again)

    return streams.one_by_one(delay)
