"""What time needs to know of the training that is rehearsed."""

from collections.abc import Sequence
from typing import NamedTuple

from tf_elastic.core import protocols
from tf_elastic.core.rules import Rule


class Workload(NamedTuple):
    """What the optimizer and the strategy say of an exchange."""

    rule: Rule
    protocol: str  # "blocking", "overlapped" or "synchronous"
    # Calls of the optimizer between two exchanges of a worker. A worker's call
    # c, from 0, is due if c % period == phase: the exchange comes before its
    # step (a difference's) or after it.
    period: int = 1
    phase: int = 0
    # Of one exchange, all arrays. `bytes_read` is what a worker reads that
    # waits for a difference before it brings it; else all goes up and down.
    bytes_up: int = 0
    bytes_down: int = 0
    bytes_read: int = 0
    calls: int = 1  # of the optimizer, for one local step
    # Of each worker its own period, instead of `period`; empty: all the same.
    own_periods: tuple[int, ...] = ()
    # Whether steps are a part of the exchange, as ADMM's are: a worker reads
    # as a period begins, and brings its part as it ends. It has no phase.
    takes_steps: bool = False

    def period_of(self, worker: int) -> int:
        """A worker's period."""
        return self.own_periods[worker] if self.own_periods else self.period

    def due_of(self, worker: int) -> tuple[int, int]:
        """Which of a worker's calls it exchanges at: period and phase."""
        if self.takes_steps:
            return 1, 0
        if not self.own_periods:
            return self.period, self.phase
        period = self.own_periods[worker]
        return period, self.calls - 1 if self.is_before else period - 1

    @property
    def communication_period(self) -> int:
        """The local steps between two exchanges of a worker."""
        return self.period // self.calls

    def matched(self, speeds: Sequence[float]) -> "Workload":
        """The same, with periods that last about as long for all workers.

        Worker i takes floor(tau v_i / max v) local steps, at least one, between
        two of its exchanges: dynamic local updates, arXiv 2401.09135.

        Args:
            speeds: v_i, of each worker, above 0.

        Example:

        >>> from tf_elastic.core import rules
        >>> load = Workload(rules.Add(), "blocking", period=10, phase=9)
        >>> load.matched([1.0, 0.55, 0.01]).own_periods
        (10, 5, 1)
        """
        tau = self.communication_period
        fastest = max(speeds)
        steps = (max(int(tau * speed / fastest), 1) for speed in speeds)
        return self._replace(own_periods=tuple(n * self.calls for n in steps))

    @property
    def is_before(self) -> bool:
        """Whether an exchange comes before the step that is due."""
        kind = protocols.PROTOCOLS[self.protocol]
        return kind(self.rule).moments == (protocols.GRADIENT,)

    def check(self) -> None:
        """Refuses what cannot be.

        Raises:
            ValueError: there is no such protocol, or a number is out of its
                range.
        """
        if self.protocol not in PROTOCOLS:
            raise ValueError(
                f"`protocol` must be one of {', '.join(PROTOCOLS)}. "
                f"Received: protocol={self.protocol!r:.80}."
            )
        if self.period < 1 or not 0 <= self.phase < self.period:
            raise ValueError(
                "`period` must be at least 1, and `phase` from 0 to "
                f"period - 1. Received: period={self.period}, "
                f"phase={self.phase}."
            )
        if any(period < 1 for period in self.own_periods):
            raise ValueError(
                "`own_periods` must be at least 1. Received: "
                f"own_periods={self.own_periods}."
            )
        for name in ("bytes_up", "bytes_down", "bytes_read"):
            if getattr(self, name) < 0:
                raise ValueError(
                    f"`{name}` must not be negative. "
                    f"Received: {name}={getattr(self, name)}."
                )


PROTOCOLS = ("blocking", "overlapped", "synchronous")
