"""The drawings of thesis chapter 6: a tree, and who sends how often."""

from typing import TYPE_CHECKING

import numpy as np

from tf_elastic.core import topology
from tf_elastic.core.topology import Topology
from tf_elastic.figures.figure import Figure
from tf_elastic.figures.figure import Table

if TYPE_CHECKING:
    import matplotlib.axes
    import matplotlib.figure

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
    columns = zip(*rows, strict=True)
    return {
        name: np.array(column)
        for name, column in zip(names.split(), columns, strict=True)
    }


def _draw_schemes(table: Table, figure: "matplotlib.figure.Figure") -> None:
    panels = figure.subplots(1, len(_SCHEMES))
    for panel, name in zip(panels, _SCHEMES, strict=True):
        rows = np.flatnonzero(table["scheme"] == name)
        shortest = min(
            table[column][rows].min() for column in ("up_period", "down_period")
        )
        for row in rows:
            _draw_edge(panel, table, row, shortest)
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
        (child - aside, parent - aside, "up_period", "tab:red"),
        (parent + aside, child + aside, "down_period", "tab:blue"),
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
            panel.text(
                *(0.5 * (begin + end) + (-2 if is_up else 2) * aside),
                f"{period:g}",
                color=color,
                fontsize=9,
                ha="right" if is_up else "left",
                va="center",
            )


FIGURES = (
    Figure(
        "thesis-6.2",
        "The two communication schemes of the EASGD Tree, degree 2, depth 3: "
        "periods in steps of who sends, up in red and down in blue.",
        _schemes,
        _draw_schemes,
        (10.0, 4.0),
    ),
)
