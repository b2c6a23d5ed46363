"""What a child sees of its parent: a center."""

from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any
from typing import Protocol

import numpy as np

from tf_elastic.cluster import errors
from tf_elastic.cluster.layout import Layout
from tf_elastic.cluster.transport.line import Line
from tf_elastic.cluster.worker.patience import Patience

Arrays = list[np.ndarray]
News = dict[str, Any]


class Center(Protocol):
    """One node above, as a child sees it; `ShardSession` is one.

    A child joins it, reads it, pushes to it and waits for the answer, sends
    to it and listens, and leaves. All arrays are the node's part of each
    section. What fails raises a `ClusterError`.
    """

    layout: Layout  # of the model; to be set before anything is asked
    incarnation: int  # the child's; another one each time that it joins
    connection: Line  # to it

    @property
    def away_since(self) -> float | None:
        """When it was found to be away; None if it is there."""

    def as_worker(self) -> dict[str, Any]:
        """By what it knows the child."""

    def patience(self) -> Patience:
        """For as long as an exchange may take."""

    def enter(self, values: Arrays, out: Arrays, patience: Patience) -> None:
        """Joins, and reads.

        Args:
            values: the child's; to fill an empty center with.
            out: what to fill with the center's.
            patience: until when it is tried.
        """

    def join(self, values: Arrays, patience: Patience) -> None:
        """Joins (again), as `enter`, and reads nothing."""

    def read(self, out: Arrays) -> News:
        """Reads what a child goes on from."""

    def control(self, name: str, **arguments: Any) -> News:
        """A call of one message each way, which may wait: see `wire`."""

    def stream(
        self,
        name: str,
        header: Mapping[str, Any],
        sent: Sequence[Any],
        out: Sequence[np.ndarray] = (),
    ) -> News:
        """A call with arrays, to push, to send or to listen: see `wire`."""

    def went_away(self, reason: errors.ClusterError) -> None:
        """Notes that it does not answer; `beat` looks for it."""

    def beat(self, progress: Mapping[str, Any]) -> None:
        """A sign of life, or a look for a center that is away.

        Args:
            progress: the child's "clock", "samples" and "notes".
        """

    def leave(
        self, progress: Mapping[str, Any], finished: bool, patience_s: float
    ) -> None:
        """Gives the child's place back. Never raises."""
