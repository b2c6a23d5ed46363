"""What an exchange has come to."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

# What a worker is to do; numbers, for a graph.
NOTHING = 0
PULL = 1  # move by alpha times the differences
TAKE = 2  # go on from the points; NaN where there is none
RESTART = 3  # begin again from the center's values, velocity zero


class Moved(NamedTuple):
    """What a worker is to do after an exchange."""

    kind: int  # NOTHING to RESTART
    arrays: Sequence[np.ndarray] = ()  # one for each section, but of NOTHING
    moving_rate: float = 0.0  # alpha, by which the worker is pulled

    @property
    def restart(self) -> bool:
        """Whether the worker begins again."""
        return self.kind == RESTART
