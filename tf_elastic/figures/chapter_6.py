"""The drawings of thesis chapter 6: a tree, and who sends how often."""

from collections.abc import Iterable
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from tf_elastic.core import rules
from tf_elastic.core import topology
from tf_elastic.core.topology import Topology
from tf_elastic.figures.figure import Figure
from tf_elastic.figures.figure import Table
from tf_elastic.timeline import virtual
from tf_elastic.timeline.virtual import moves
from tf_elastic.timeline.virtual.tree_engine import TreeTimeline

if TYPE_CHECKING:
    import matplotlib.axes
    import matplotlib.figure

# Figure 6.1: some steps of a small tree, which last unequally long.
_SECONDS = 9.0
_TIMING = virtual.Timing(step=virtual.LogNormal(1.0, 0.2), latency=0.4)
_SENDS = (moves.SEND, moves.NODE_UP, moves.NODE_DOWN, moves.ROOT_DOWN)
_FOLLOWS = (
    moves.FOLLOW,
    moves.NODE_FROM_PARENT,
    moves.NODE_FROM_CHILD,
    moves.ROOT_FROM_CHILD,
)
_COLORS = {"up": "tab:red", "down": "tab:blue"}
# Figure 6.2.
_DEGREE, _DEPTH = 2, 3
# Those of Figures 6.3 and 6.4.
_SCHEMES = {
    "multi_scale": topology.multi_scale(leaf_period=10, upper_period=100),
    "up_down": topology.up_down(up_period=8, down_period=80),
}
_TITLES = {
    "multi_scale": r"first: $\tau_1$ at the leaves, $\tau_2$ above",
    "up_down": r"second: $\tau_u$ upward, $\tau_d$ downward",
}


def _columns(names: str, rows: Iterable[Sequence[object]]) -> Table:
    columns = zip(*rows, strict=True)
    return {
        name: np.array(column)
        for name, column in zip(names.split(), columns, strict=True)
    }


def _behavior() -> Table:
    """Steps, and messages from when they leave to when they are followed."""
    scheme = topology.multi_scale(leaf_period=1, upper_period=2)
    timeline = TreeTimeline(
        _TIMING,
        virtual.Workload(rules.Elastic(), "blocking"),
        topology.tree(2, 2, scheme),
    )
    level = timeline.nodes.level
    sent: dict[int, moves.Move] = {}
    rows = []
    for move in timeline.moves():
        if move.time > _SECONDS:
            break
        node = move.worker
        if move.kind in moves.STEPS:
            rows.append(("step", node, node, move.time, move.time))
        elif move.kind in _SENDS and move.time > 0:
            sent[move.row] = move
        elif move.kind in _FOLLOWS and move.row in sent:
            left = sent[move.row]
            way = "up" if level[left.worker] > level[node] else "down"
            rows.append((way, left.worker, node, left.time, move.time))
    return _columns("what sender receiver begin end", rows)


def _draw_behavior(table: Table, figure: "matplotlib.figure.Figure") -> None:
    panel = figure.subplots()
    root = int(table["receiver"].max())
    names = [f"leaf {i}" for i in range(4)] + ["node 4", "node 5", "root"]
    # Who are near each other in the tree are near each other here.
    height = {0: 0, 1: 1, 4: 2, root: 3, 5: 4, 2: 5, 3: 6}
    for node, y in height.items():
        panel.axhline(y, color="0.85", zorder=0)
        at = table["begin"][
            (table["what"] == "step") & (table["sender"] == node)
        ]
        panel.plot(at, np.full(len(at), y), "k|", markersize=9)
    for what, color in _COLORS.items():
        for row in np.flatnonzero(table["what"] == what):
            panel.annotate(
                "",
                (table["end"][row], height[table["receiver"][row]]),
                (table["begin"][row], height[table["sender"][row]]),
                arrowprops={"arrowstyle": "-|>", "color": color},
            )
    panel.set_xlim(0, _SECONDS)
    panel.set_yticks(list(height.values()), [names[n] for n in height])
    panel.set_xlabel("time [steps]")


def _places(tree: Topology) -> dict[str, tuple[float, float]]:
    """Of each node, from left to right and from the root, at 0, downwards."""
    leaves = {leaf: float(k) for k, leaf in enumerate(tree.leaves)}

    def across(node: str) -> float:
        if node in leaves:
            return leaves[node]
        return float(np.mean([across(child) for child in tree.children(node)]))

    return {n: (across(n), -float(tree.level(n))) for n in tree.nodes}


def _schemes() -> Table:
    rows = []
    for name, scheme in _SCHEMES.items():
        tree = topology.tree(_DEGREE, _DEPTH, scheme)
        places = _places(tree)
        for edge in tree.edges:
            child, parent = places[edge.child], places[edge.parent]
            rows.append((name, *edge, *child, *parent))
    names = "scheme child parent up_period down_period x y parent_x parent_y"
    return _columns(names, rows)


def _draw_schemes(table: Table, figure: "matplotlib.figure.Figure") -> None:
    panels = figure.subplots(1, len(_SCHEMES))
    for panel, name in zip(panels, _SCHEMES, strict=True):
        rows = np.flatnonzero(table["scheme"] == name)
        shortest = min(
            table[column][rows].min() for column in ("up_period", "down_period")
        )
        for row in rows:
            _draw_edge(panel, table, int(row), shortest)
        panel.plot(table["x"][rows], table["y"][rows], "ko", markersize=5)
        roots = rows[table["parent_y"][rows] == 0]
        panel.plot(
            table["parent_x"][roots],
            table["parent_y"][roots],
            "ks",
            markersize=8,
        )
        panel.set_title(_TITLES[name], fontsize=10)
        panel.set_axis_off()


def _draw_edge(
    panel: "matplotlib.axes.Axes", table: Table, row: int, shortest: float
) -> None:
    """An arrow each way, the thicker the oftener.

    The first one of each level has its period beside it.
    """
    child = np.array([table["x"][row], table["y"][row]])
    parent = np.array([table["parent_x"][row], table["parent_y"][row]])
    aside = np.array([0.05, 0.0])
    of_level = table["scheme"] == table["scheme"][row]
    of_level &= table["y"] == table["y"][row]
    is_first = child[0] == table["x"][of_level].min()
    for begin, end, column, color in (
        (child - aside, parent - aside, "up_period", _COLORS["up"]),
        (parent + aside, child + aside, "down_period", _COLORS["down"]),
    ):
        period = table[column][row]
        panel.annotate(
            "",
            end,
            begin,
            arrowprops={
                "arrowstyle": "-|>",
                "color": color,
                "linewidth": 0.7 + 1.8 * shortest / period,
                "shrinkA": 7,
                "shrinkB": 7,
            },
        )
        is_up = column == "up_period"
        if is_first:
            x, y = 0.5 * (begin + end) + (-2 if is_up else 2) * aside
            panel.text(
                x,
                y,
                f"{period:g}",
                color=color,
                fontsize=9,
                ha="right" if is_up else "left",
                va="center",
            )


FIGURES = (
    Figure(
        "thesis-6.1",
        "Algorithm 6 on a tree of degree 2 and depth 2, tau_1 = 1 and tau_2 = "
        "2: steps of the leaves, and messages up (red) and down (blue), from "
        "when they leave to when they are followed, at the receiver's next "
        "step.",
        _behavior,
        _draw_behavior,
        (10.0, 4.0),
    ),
    Figure(
        "thesis-6.2",
        "The two communication schemes of the EASGD Tree, degree 2, depth 3: "
        "periods in steps of who sends, up in red and down in blue.",
        _schemes,
        _draw_schemes,
        (10.0, 4.0),
    ),
)
