"""One worker's membership of the cluster, as one center server knows it."""

import dataclasses
from collections.abc import Sequence
from typing import Any
from typing import NamedTuple


class PushId(NamedTuple):
    """What every push carries."""

    worker: int
    incarnation: int
    sequence: int  # from 1, grows within an incarnation
    version_read: int  # the center's version that the worker knew
    clock: int = 0  # the worker's local steps
    samples: int = 0  # that it has trained on
    # What is further behind, twice, is refused; see `core.lateness`.
    max_lag: float | None = None
    # The round that the worker takes part in, if it is on time.
    round: int | None = None
    # Runs of variables that it does not train; see `layout.runs_of`.
    at_rest: Sequence[Sequence[int]] = ()


@dataclasses.dataclass
class Registration:
    """One worker's membership, as one center server knows it."""

    incarnation: int
    process: str = ""  # whose life this is
    sequence: int = 0  # the last one applied
    pushes: int = 0  # how many were applied
    present: bool = True  # has its slot
    finished: bool = False  # has left after its part was done
    last_seen: float = 0.0  # the server's clock, seconds
    clock: int = 0  # local steps, of those before as well
    samples: int = 0  # of this process
    earlier_samples: int = 0  # of those before
    notes: dict[str, Any] = dataclasses.field(default_factory=dict)
    read_time: float = 0.0
    refused: int = 0  # calls that were turned away
    run: int = 0  # which of the registry's it belongs to

    def hear(self, clock: int, samples: int) -> None:
        """Notes how far it is; what comes late does not set it back."""
        self.clock = max(self.clock, clock)
        self.samples = max(self.samples, samples)

    def to_json(self) -> dict[str, Any]:
        """What a snapshot keeps."""
        gone = ("last_seen", "notes", "read_time", "refused")
        return {k: v for k, v in vars(self).items() if k not in gone}
