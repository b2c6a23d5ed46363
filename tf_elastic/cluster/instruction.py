"""What the chief tells all workers: to stop, or another learning rate."""

from typing import Any
from typing import NamedTuple


class Instruction(NamedTuple):
    """The newest word of the chief; center servers pass it on.

    Callbacks that decide on what they see of the center, `EarlyStopping` or
    `ReduceLROnPlateau`, are the chief's. Others hear of it with the next
    answer of any center server.
    """

    number: int = 0  # from 1; a later one replaces it
    stop: bool = False  # training is over
    learning_rate: float | None = None  # None: as the script has it
    instead_of: float | None = None  # what the script has

    @classmethod
    def from_json(cls, told: Any) -> "Instruction":
        """What `_asdict` gave; a server of old tells none."""
        return cls(**told) if told else cls()

    def rate_for(self, own: float) -> float | None:
        """The rate for a worker whose script has another; None to keep it.

        Args:
            own: the worker's own, as its script has it.
        """
        return self.learning_rate if own == self.instead_of else None
