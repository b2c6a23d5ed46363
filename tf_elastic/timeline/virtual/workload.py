"""What time needs to know of the training that is rehearsed."""

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
        for name in ("bytes_up", "bytes_down", "bytes_read"):
            if getattr(self, name) < 0:
                raise ValueError(
                    f"`{name}` must not be negative. "
                    f"Received: {name}={getattr(self, name)}."
                )


PROTOCOLS = ("blocking", "overlapped", "synchronous")
