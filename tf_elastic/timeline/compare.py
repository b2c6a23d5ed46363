"""Runs side by side, as a text for a terminal."""

from collections.abc import Mapping

from tf_elastic.timeline import event as events
from tf_elastic.timeline import report
from tf_elastic.timeline.summary import Summary

_ENDS = (events.FINISHED, events.LEFT, "died", "is there")
# Bounds of what is counted together, the last one without an end.
_STALENESS = (0, 1, 2, 3, 5, 9, 17, 33)


def table(runs: Mapping[str, Summary]) -> str:
    """A line for each number, a column for each run.

    Of two runs the last column says how often the first one's number is in
    the second one's.

    Args:
        runs: by their names; in this order.
    """
    rows = [("", *runs), *_rows(list(runs.values()))]
    if len(runs) == 2:
        rows = [(*row, _ratio(row)) for row in rows]
    return "\n".join(line.rstrip() for line in report.table(rows, left=1))


def _rows(runs: list[Summary]) -> list[tuple[str, ...]]:
    def row(name: str, form: str, values: list[float | None]) -> None:
        cells = ["-" if v is None else format(v, form) for v in values]
        rows.append((name, *cells))

    rows: list[tuple[str, ...]] = []
    row("workers", "d", [run.workers for run in runs])
    row("seconds", ".2f", [run.seconds for run in runs])
    row("steps", "d", [run.steps for run in runs])
    row("steps a second", ".2f", [run.steps_per_s for run in runs])
    row("exchanges", "d", [run.exchanges for run in runs])
    row("exchanges a second", ".2f", [run.exchanges_per_s for run in runs])
    row("left out", "d", [run.left_out for run in runs])
    row("missed", "d", [run.missed for run in runs])
    row("lost halves", "d", [run.lost_halves for run in runs])
    row("restarts", "d", [run.restarts for run in runs])
    row("mean staleness", ".2f", [run.mean_staleness for run in runs])
    for least, name in _bins(runs):
        row(f"staleness {name}", ".1%", [_share(run, least) for run in runs])
    row("time waiting", ".1%", [run.wait_share for run in runs])
    row("time exchanging", ".1%", [run.exchange_share for run in runs])
    row("MB", ".2f", [run.bytes / 1e6 for run in runs])
    for end in _ENDS:
        if any(run.ends.get(end) for run in runs):
            row(end, "d", [run.ends.get(end, 0) for run in runs])
    return rows


def _bins(runs: list[Summary]) -> list[tuple[int, str]]:
    """The least of each bin that a run has something in, and its name."""
    most = max((max(r.staleness, default=-1) for r in runs), default=-1)
    bins = []
    for least, after in zip(_STALENESS, (*_STALENESS[1:], None), strict=True):
        if least > most:
            break
        name = f"{least} or more"
        if after is not None:
            name = (
                f"{least}" if after == least + 1 else f"{least} to {after - 1}"
            )
        bins.append((least, name))
    return bins


def _share(run: Summary, least: int) -> float | None:
    """Of the exchanges, those whose staleness is in a bin."""
    later = [bound for bound in _STALENESS if bound > least]
    count = sum(run.staleness.values())
    inside = sum(
        times
        for value, times in run.staleness.items()
        if value >= least and (not later or value < later[0])
    )
    return inside / count if count else None


def _ratio(row: tuple[str, ...]) -> str:
    if not row[0]:
        return "ratio"
    try:
        first, second = (float(cell.rstrip("%")) for cell in row[1:])
    except ValueError:
        return ""
    return f"{second / first:.2f}" if first else ""
