"""What events tell, as a text for a terminal."""

from collections.abc import Iterable
from collections.abc import Sequence

from tf_elastic.timeline import event as events
from tf_elastic.timeline.event import Event
from tf_elastic.timeline.tally import Tally

_COLUMNS = (
    *("worker", "lives", "applied", "late", "duplicate", "lost halves"),
    *("missed", "restarts", "staleness", "MB", "waited", "ended"),
)


def of(found: Sequence[Event]) -> str:
    """A table of all workers, and a line for each center server.

    Args:
        found: the events, in the order of their times.
    """
    if not found:
        return "No events."
    seconds = found[-1].time - found[0].time
    workers = sorted({e.worker for e in found if e.worker is not None})
    centers = sorted({e.shard for e in found if e.shard is not None})
    rows = [
        _row(worker, [e for e in found if e.worker == worker])
        for worker in workers
    ]
    return "\n".join(
        [
            f"{len(found)} events in {seconds:.1f} s",
            *table([_COLUMNS, *rows]),
            *(
                _of_center(k, [e for e in found if e.teller == f"center {k}"])
                for k in centers
            ),
        ]
    )


def tallied(found: Iterable[Event]) -> Tally:
    """The counts of events."""
    tally = Tally()
    for event in found:
        tally(event)
    return tally


def _row(worker: int, found: Sequence[Event]) -> tuple[str, ...]:
    tally = tallied(found)
    lives = {e.incarnation for e in found if e.kind == events.JOIN}
    own = tallied(e for e in found if e.teller == f"worker {worker}")
    others = tallied(e for e in found if e.teller != f"worker {worker}")
    last = [e for e in found if e.kind in (events.LEAVE, events.DEATH)]
    return (
        str(worker),
        str(len(lives)),
        str(others.number(events.EXCHANGE, events.APPLIED)),
        str(own.number(events.EXCHANGE, events.LATE)),
        str(tally.number(events.EXCHANGE, events.DUPLICATE)),
        str(tally.amount(events.LOST_HALF)),
        str(tally.number(events.MISS)),
        str(tally.number(events.RESTART)),
        f"{tally.mean_staleness:.2f}",
        f"{tally.bytes(events.EXCHANGE) / 1e6:.1f}",
        f"{tally.seconds(events.WAIT):.1f} s",
        (last[-1].outcome or "died") if last else "",
    )


def _of_center(shard: int, found: Sequence[Event]) -> str:
    arrived = [e for e in found if e.kind == events.EXCHANGE]
    applied = [e for e in arrived if e.outcome == events.APPLIED]
    seconds = arrived[-1].time - arrived[0].time if arrived else 0.0
    rate = f", {len(arrived) / seconds:.1f} a second" if seconds else ""
    most = max((e.num_workers or 0 for e in found), default=0)
    return (
        f"center {shard}: {len(applied)} of {len(arrived)} messages "
        f"applied{rate}; p at most {most}"
    )


def table(rows: Sequence[Sequence[str]], left: int = 0) -> list[str]:
    """The lines of a table, its columns to the right.

    Args:
        rows: of as many cells each.
        left: so many columns, the first ones, are to the left.
    """
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(
            cell.ljust(width) if k < left else cell.rjust(width)
            for k, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        for row in rows
    ]
