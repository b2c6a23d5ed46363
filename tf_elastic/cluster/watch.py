"""What the chief sees of a cluster: workers, staleness, bytes, waiting."""

import dataclasses
import math
import time
from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any
from typing import NamedTuple

import numpy as np

from tf_elastic.timeline import status_table
from tf_elastic.timeline.status_table import CenterRow
from tf_elastic.timeline.status_table import StalenessRow
from tf_elastic.timeline.status_table import WorkerRow

# Of each server; None: it is away.
Statuses = Sequence[Mapping[str, Any] | None]

# Among a worker's notes: whether it is in the midst of training.
TRAINS = "trains"
# In a tree: how long its steps are, in seconds.
STEP_S = "step_s"
# And of a node: what has become of the workers below it. One is there, all
# have finished, or else they are gone.
BELOW = "below"
THERE, FINISHED, GONE = "there", "finished", "gone"
# And in one whose messages are answered: the optimizer's beta, or its alpha.
BETA, MOVING_RATE = "beta", "moving_rate"


class Staleness(NamedTuple):
    """How old the center was that pushes were computed from."""

    versions: np.ndarray  # int64, one for each push since the last look
    ms: np.ndarray  # float64, likewise


class ClusterView(NamedTuple):
    """One look at all center servers."""

    statuses: Statuses
    staleness: Staleness
    steps_per_s: Mapping[int, float]  # of each worker, since the last look
    samples_per_s: Mapping[int, float]

    @property
    def first(self) -> Mapping[str, Any] | None:
        """The first server that is there."""
        return first(self.statuses)

    @property
    def members(self) -> dict[int, Mapping[str, Any]]:
        """What the first server knows of each worker."""
        return members(self.statuses)


def first(statuses: Statuses) -> Mapping[str, Any] | None:
    """The first server that is there."""
    return next(filter(None, statuses), None)


def members(statuses: Statuses) -> dict[int, Mapping[str, Any]]:
    """What the first server that is there knows of each worker."""
    there = first(statuses) or {"members": {}}
    return {int(worker): m for worker, m in there["members"].items()}


class ClusterWatch:
    """Looks at the center servers again and again.

    Args:
        look: gives every center server's status, such as
            `ElasticMultiWorkerStrategy.center_status`.
    """

    def __init__(self, look: Any) -> None:
        self._look = look
        self._at = time.monotonic()
        self._before: dict[int, tuple[int, int, int]] = {}
        self._pushes_seen = 0

    def view(self) -> ClusterView:
        """What there is to see now, and since the last time."""
        statuses = self._look()
        now = time.monotonic()
        passed, self._at = now - self._at, now
        there = first(statuses)
        entries = there["staleness"] if there else []
        if entries and entries[-1][0] < self._pushes_seen:
            self._pushes_seen = 0  # The server has begun anew.
        new = [entry for entry in entries if entry[0] > self._pushes_seen]
        if new:
            self._pushes_seen = new[-1][0]
        steps, samples = {}, {}
        for worker, member in members(statuses).items():
            count = (member["incarnation"], member["clock"], member["samples"])
            before = self._before.get(worker)
            if before and before[0] == count[0] and passed > 0:
                steps[worker] = (count[1] - before[1]) / passed
                samples[worker] = (count[2] - before[2]) / passed
            self._before[worker] = count
        return ClusterView(
            statuses,
            Staleness(
                np.array([entry[2] for entry in new], np.int64),
                np.array([entry[3] for entry in new], np.float64),
            ),
            steps,
            samples,
        )


def finite(notes: Mapping[str, Any]) -> dict[str, Any]:
    """Notes that can be told: JSON knows no infinity, the center takes none."""
    return {
        name: value
        for name, value in notes.items()
        if not isinstance(value, float) or math.isfinite(value)
    }


def in_training(statuses: Statuses) -> list[int]:
    """The workers that are in the midst of it, by the first server there is."""
    return [
        worker
        for worker, member in members(statuses).items()
        if member["present"] and member["notes"].get(TRAINS)
    ]


def scalars(view: ClusterView) -> dict[str, float]:
    """What TensorBoard plots of a view, by tag."""
    if view.first is None:
        return {"cluster/center_servers_away": len(view.statuses)}
    result = {
        "cluster/num_workers": view.first["num_workers"],
        "cluster/version": view.first["version"],
        "cluster/center_servers_away": sum(s is None for s in view.statuses),
    }
    for worker, member in view.members.items():
        result[f"worker_{worker}/clock"] = member["clock"]
        for name, value in member["notes"].items():
            is_number = isinstance(value, (int, float))
            if is_number and not isinstance(value, bool):
                result[f"worker_{worker}/{name}"] = value
    for worker, value in view.steps_per_s.items():
        result[f"worker_{worker}/steps_per_s"] = value
    for worker, value in view.samples_per_s.items():
        result[f"worker_{worker}/samples_per_s"] = value
    if view.staleness.ms.size:
        result["staleness/mean_versions"] = float(
            view.staleness.versions.mean()
        )
        result["staleness/mean_ms"] = float(view.staleness.ms.mean())
    return result


def table(view: ClusterView) -> str:
    """A view as lines for a terminal.

    Example:

    >>> print(table(ClusterView([None], Staleness([], []), {}, {})))
    center 0 is away
    """
    staleness, count = None, len(view.staleness.ms)
    if count:
        staleness = StalenessRow(
            count,
            float(view.staleness.versions.mean()),
            float(view.staleness.ms.mean()),
        )
    return status_table.table(
        {
            k: status
            if status is None
            else CenterRow(
                status["version"], status["num_workers"], status["applied"]
            )
            for k, status in enumerate(view.statuses)
        },
        [
            _row(worker, member, view.steps_per_s.get(worker))
            for worker, member in sorted(view.members.items())
        ],
        staleness,
    )


def _row(
    worker: int, member: Mapping[str, Any], steps_per_s: float | None
) -> WorkerRow:
    notes = member["notes"]
    return WorkerRow(
        worker,
        member["incarnation"],
        member["clock"],
        status_table.state(
            member["present"],
            bool(member.get("finished")),
            member["silent_s"],
        ),
        steps_per_s,
        *(
            notes.get(name)
            for name in ("loss", "distance", "wait_share", "missed", "late")
        ),
    )


def notes_of(counts: Any, client: Any, loss: float | None) -> dict[str, Any]:
    """What a worker tells the others with its signs of life.

    Args:
        counts: its `Counts`.
        client: its `CenterClient`, for the bytes.
        loss: its newest training loss.
    """
    notes: dict[str, Any] = {
        **dataclasses.asdict(counts),
        "bytes_sent": sum(k.connection.bytes_sent for k in client.sessions),
        "bytes_received": sum(
            k.connection.bytes_received for k in client.sessions
        ),
    }
    del notes["forgotten"]  # Others have no use for it.
    if loss is not None and np.isfinite(loss):
        notes["loss"] = float(loss)
    return notes
