"""A picture of what a cluster's events tell, over time."""

import math
import os
from collections.abc import Callable
from collections.abc import Mapping
from collections.abc import Sequence
from typing import TYPE_CHECKING
from typing import NamedTuple

import numpy as np

from tf_elastic import extras
from tf_elastic import files
from tf_elastic.timeline import event as events
from tf_elastic.timeline import lanes
from tf_elastic.timeline.event import Event
from tf_elastic.timeline.lanes import Lanes

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_WIDTH, _DPI = 12.0, 130  # inches; dots in each
# Marks of a kind that are closer in a lane are one.
_MARKS_OF_A_LANE = 1200
_MOST_BINS = 120
_EVENTS_OF_A_BIN = 2  # at least, on the average

# Colors of Okabe and Ito, told apart by everybody.
_BLUE, _SKY, _GREEN, _ORANGE = "#0072B2", "#56B4E9", "#009E73", "#E69F00"
_RED, _PURPLE, _BLACK, _GREY = "#D55E00", "#CC79A7", "#000000", "#E6E6E6"


class _BarStyle(NamedTuple):
    label: str
    color: str
    top: float  # in a lane from -0.5 (above) to 0.5
    bottom: float


class _MarkStyle(NamedTuple):
    label: str
    color: str
    marker: str
    at: float  # in a lane


# In the order in which they are drawn, over each other.
_BARS = {
    lanes.HERE: _BarStyle("there", _GREY, -0.42, 0.42),
    lanes.TRAVEL: _BarStyle("message to answer", _SKY, -0.36, 0.0),
    lanes.WAIT: _BarStyle("training waits", _ORANGE, 0.0, 0.36),
    lanes.AWAY: _BarStyle("not reached", _RED, -0.42, 0.42),
}
_MARKS = {
    events.APPLIED: _MarkStyle("applied", _BLUE, "|", -0.18),
    events.LATE: _MarkStyle("late", _RED, "v", -0.18),
    events.DUPLICATE: _MarkStyle("duplicate", _PURPLE, "^", -0.18),
    events.REFUSED: _MarkStyle("refused", _BLACK, "x", -0.18),
    events.MISSED: _MarkStyle("missed by all", _RED, "s", -0.18),
    events.MISS: _MarkStyle("missed by one", _BLACK, "|", 0.18),
    events.LOST_HALF: _MarkStyle("lost half", _PURPLE, "D", 0.18),
    events.FORGOTTEN: _MarkStyle("forgotten", _PURPLE, "p", 0.18),
    events.RESTART: _MarkStyle("begins again", _ORANGE, "*", 0.0),
    events.BEGIN: _MarkStyle("has parameters", _GREEN, "o", 0.0),
    events.JOIN: _MarkStyle("joins", _GREEN, ">", 0.0),
    events.LEAVE: _MarkStyle("leaves", _BLACK, "<", 0.0),
    events.DEATH: _MarkStyle("dies", _RED, "X", 0.0),
    events.ATTACH: _MarkStyle("has a parent", _SKY, "^", 0.3),
    events.DROP: _MarkStyle("dropped", _ORANGE, "v", 0.18),
}


def plot(
    found: Sequence[Event],
    path: str | os.PathLike[str],
    title: str | None = None,
) -> None:
    """Draws events into a PNG.

    A lane for each worker and each center server (in a tree these are the
    inner nodes and the root) over the seconds since the first event: when it
    was there, messages on their way, waits, and what became of each message.
    Below, staleness and exchanges a second. What of a worker's lane is empty it
    has spent on computing, and on its data.

    Args:
        found: events, in the order of their times.
        path: the file to write, ending in `.png`; its folder is made.
        title: what to write above.

    Raises:
        ImportError: matplotlib is not installed.
        ValueError: there are no events, or `path` is no `.png`.
        FileNotWrittenError: the disk is full, say.
    """
    if not os.fspath(path).endswith(".png"):
        raise ValueError(
            "The picture must end in '.png'. Received: "
            f"{os.fspath(path)!r}. Give another name."
        )
    figure = draw(found, title)
    with files.whole(path) as partial:
        figure.savefig(partial, format="png")


def draw(found: Sequence[Event], title: str | None = None) -> "Figure":
    """The picture as a `matplotlib.figure.Figure`; see `plot`."""
    if not found:
        raise ValueError(
            "There must be an event to draw. Received: none. Give a file "
            "that --events has written."
        )
    extras.require("matplotlib", "A plot", "or have a table made instead")
    # Here, since it is slow to import and not always needed. Figure and
    # canvas by hand, without pyplot: nothing global is touched.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    drawn = lanes.of(found)
    heights = [_lane_height(len(drawn.names)) * len(drawn.names), 1.4, 1.4]
    figure = Figure(
        figsize=(_WIDTH, sum(heights) + 1.4), dpi=_DPI, layout="constrained"
    )
    FigureCanvasAgg(figure)
    if title:
        figure.suptitle(title, fontsize=11)
    above, staleness, speed = figure.subplots(
        3, 1, sharex=True, height_ratios=heights
    )
    begin, end = found[0].time, found[-1].time
    _draw_lanes(above, drawn, begin, end)
    pushes = lanes.messages(found)
    _draw_staleness(staleness, pushes, begin, end)
    _draw_speed(speed, pushes, begin, end)
    speed.set_xlabel("seconds")
    margin = 0.01 * _length(begin, end)
    speed.set_xlim(-margin, _length(begin, end) + margin)
    figure.legend(
        loc="outside lower center", ncols=9, frameon=False, fontsize=7
    )
    return figure


def _lane_height(count: int) -> float:
    """In inches."""
    return min(max(10 / max(count, 1), 0.06), 0.5)


def _length(begin: float, end: float) -> float:
    """Of what is drawn, in seconds; that of one moment is not 0."""
    return end - begin or 1.0


# Lanes.


def _draw_lanes(axes: "Axes", drawn: Lanes, begin: float, end: float) -> None:
    from matplotlib.collections import PolyCollection

    rows = {name: row for row, name in enumerate(drawn.names)}
    for kind, bar_style in _BARS.items():
        corners = [
            _corners(bar, rows[bar.lane], bar_style, begin)
            for bar in drawn.bars
            if bar.kind == kind
        ]
        if corners:
            axes.add_collection(
                PolyCollection(
                    corners,
                    facecolor=bar_style.color,
                    linewidth=0,
                    label=bar_style.label,
                )
            )
    height = _lane_height(len(rows)) * 72  # points
    for kind, mark_style in _MARKS.items():
        times, at = _thinned(
            [m for m in drawn.marks if m.kind == kind], rows, begin, end
        )
        if len(times):
            size = height * (0.36 if mark_style.marker == "|" else 0.3)
            axes.scatter(
                times,
                at + mark_style.at,
                s=min(max(size, 2.0), 7.0) ** 2,
                color=mark_style.color,
                marker=mark_style.marker,
                linewidth=0.6,
                label=mark_style.label,
                zorder=3,
            )
    axes.set_ylim(len(rows) - 0.5, -0.5)
    every = math.ceil(8 / height)  # So that names do not touch.
    axes.set_yticks(
        range(0, len(rows), every), drawn.names[::every], fontsize=7
    )
    axes.tick_params(axis="y", length=0)
    _plain(axes)


def _corners(
    bar: lanes.Bar, row: int, style: _BarStyle, begin: float
) -> list[tuple[float, float]]:
    left, right = bar.begin - begin, bar.end - begin
    top, bottom = row + style.top, row + style.bottom
    return [(left, top), (right, top), (right, bottom), (left, bottom)]


def _thinned(
    marks: Sequence[lanes.Mark],
    rows: Mapping[str, int],
    begin: float,
    end: float,
) -> tuple[np.ndarray, np.ndarray]:
    """Times and rows of marks, without those that would hide each other."""
    step = _length(begin, end) / _MARKS_OF_A_LANE
    kept: dict[tuple[int, int], float] = {}
    for mark in marks:
        time = mark.time - begin
        kept.setdefault((rows[mark.lane], int(time / step)), time)
    at = np.array([row for row, _ in kept], np.float64)
    return np.array(list(kept.values()), np.float64), at


# What is below.


def _bins(count: int, begin: float, end: float) -> np.ndarray:
    """Edges for so many events."""
    number = min(max(count // _EVENTS_OF_A_BIN, 1), _MOST_BINS)
    return np.linspace(0.0, _length(begin, end), number + 1)


def _draw_staleness(
    axes: "Axes", pushes: Sequence[Event], begin: float, end: float
) -> None:
    known = [
        (e.time - begin, e.staleness)
        for e in pushes
        if e.outcome == events.APPLIED and e.staleness is not None
    ]
    times, values = np.array(known, np.float64).reshape(-1, 2).T
    edges = _bins(len(known), begin, end)
    parts = [values[_in_bin(times, edges) == k] for k in range(len(edges) - 1)]

    def of_each(take: Callable[[np.ndarray], np.float64]) -> list[float]:
        return [float(take(part)) if part.size else math.nan for part in parts]

    middles = (edges[:-1] + edges[1:]) / 2
    axes.fill_between(
        middles,
        of_each(np.min),
        of_each(np.max),
        color=_SKY,
        alpha=0.4,
        linewidth=0,
        label="least to most",
    )
    axes.plot(
        middles,
        of_each(np.mean),
        ".-",
        color=_BLUE,
        markersize=3,
        linewidth=1,
        label="mean",
    )
    axes.set_ylabel("staleness\n(versions)", fontsize=8)
    axes.set_ylim(0, max(1.0, axes.get_ylim()[1]))
    _plain(axes)


def _in_bin(times: np.ndarray, edges: np.ndarray) -> np.ndarray:
    """The number of the bin that each time is in; the last has its end."""
    number = np.searchsorted(edges, times, side="right") - 1
    return np.clip(number, 0, len(edges) - 2)


def _draw_speed(
    axes: "Axes", pushes: Sequence[Event], begin: float, end: float
) -> None:
    edges = _bins(len(pushes), begin, end)
    times = np.array([e.time - begin for e in pushes], np.float64)
    applied = np.array([e.outcome == events.APPLIED for e in pushes], bool)
    numbers = _in_bin(times, edges)
    for label, which, color in (
        ("applied, a second", applied, _BLUE),
        ("not applied, a second", ~applied, _RED),
    ):
        if which.any():
            counts = np.bincount(numbers[which], minlength=len(edges) - 1)
            axes.stairs(
                counts / np.diff(edges), edges, color=color, label=label
            )
    axes.set_ylabel("exchanges\na second", fontsize=8)
    axes.set_ylim(bottom=0)
    _plain(axes)


def _plain(axes: "Axes") -> None:
    axes.grid(True, axis="x", color="#DDDDDD", linewidth=0.6)
    axes.set_axisbelow(True)
    axes.tick_params(labelsize=7)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
