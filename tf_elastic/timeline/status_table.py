"""A cluster as it is now, as a table for a terminal.

The same for one that is looked at (`cluster.watch`) and for what its events
tell (`timeline.status`).
"""

from collections.abc import Mapping
from collections.abc import Sequence
from typing import NamedTuple

# Longer than signs of life are apart.
_SILENT_S = 5


class CenterRow(NamedTuple):
    """One center server."""

    version: int
    num_workers: int  # p
    applied: int  # pushes


class WorkerRow(NamedTuple):
    """One worker; what is not known is None."""

    worker: int
    incarnation: int
    steps: int
    state: str  # see `state`
    steps_per_s: float | None = None
    loss: float | None = None
    distance: float | None = None
    wait_share: float | None = None
    missed: int | None = None
    late: int | None = None


class StalenessRow(NamedTuple):
    """Of the newest pushes."""

    pushes: int
    mean_versions: float
    mean_ms: float


def table(
    centers: Mapping[int, CenterRow | None],
    workers: Sequence[WorkerRow],
    staleness: StalenessRow | None = None,
) -> str:
    """Lines for a terminal.

    Args:
        centers: by their numbers; None: the server is away.
        workers: the rows.
        staleness: None if nothing was pushed.

    Example:

    >>> print(table({0: None, 1: CenterRow(7, 2, 6)}, []))
    center 0 is away
    center 1: version 7, p = 2, 6 pushes applied
    """
    lines = [_of_center(k, row) for k, row in centers.items()]
    if not workers:
        return "\n".join(lines)
    lines.append(
        f"{'worker':>6} {'life':>4} {'steps':>8} {'steps/s':>8} "
        f"{'loss':>8} {'distance':>8} {'wait':>6} {'missed':>6} {'late':>4}"
        "  state"
    )
    lines += [_of_worker(row) for row in workers]
    if staleness is not None:
        lines.append(
            f"staleness: {staleness.mean_versions:.1f} versions, "
            f"{staleness.mean_ms:.0f} ms (of the newest "
            f"{staleness.pushes} pushes)"
        )
    return "\n".join(lines)


def state(present: bool, finished: bool, silent_s: float) -> str:
    """What a worker does, in words.

    Args:
        present: whether it has a slot.
        finished: whether it has done its part.
        silent_s: for how long it was not heard of.

    Example:

    >>> state(True, False, 7.2)
    'silent for 7 s'
    """
    if present:
        is_heard = silent_s < _SILENT_S
        return "trains" if is_heard else f"silent for {silent_s:.0f} s"
    return "has finished" if finished else "is gone"


def _of_center(k: int, row: CenterRow | None) -> str:
    if row is None:
        return f"center {k} is away"
    return (
        f"center {k}: version {row.version}, p = {row.num_workers}, "
        f"{row.applied} pushes applied"
    )


def _of_worker(row: WorkerRow) -> str:
    return (
        f"{row.worker:>6} {row.incarnation:>4} {row.steps:>8} "
        f"{_number(row.steps_per_s, '.1f'):>8} "
        f"{_number(row.loss, '.4f'):>8} "
        f"{_number(row.distance, '.3g'):>8} "
        f"{_number(row.wait_share, '.1%'):>6} "
        f"{_number(row.missed, 'd'):>6} "
        f"{_number(row.late, 'd'):>4}  {row.state}"
    )


def _number(value: float | None, form: str) -> str:
    return "-" if value is None else format(value, form)
