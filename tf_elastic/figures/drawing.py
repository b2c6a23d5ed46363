"""Drawings that several figures share."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike

from tf_elastic.figures.figure import Table

if TYPE_CHECKING:
    import matplotlib.axes
    import matplotlib.figure

# The papers' own: deep blue is low, dark red is high.
COLOR_MAP = "jet"


def grid_table(**columns: ArrayLike) -> Table:
    """Columns of a grid: what broadcasts together becomes rows.

    Args:
        **columns: arrays that broadcast against each other.

    Returns:
        The columns, each flat and of the same length.

    Example:

    >>> import numpy as np
    >>> eta, alpha = np.array([1.0, 2.0]), np.array([[3.0], [4.0]])
    >>> grid_table(eta=eta, alpha=alpha)["alpha"]
    array([3., 3., 4., 4.])
    """
    arrays = np.broadcast_arrays(*columns.values())
    return dict(zip(columns, [array.ravel() for array in arrays], strict=True))


def heat_map(
    table: Table,
    figure: "matplotlib.figure.Figure",
    x: str,
    y: str,
    value: str,
    *,
    labels: tuple[str, str],
    limits: tuple[float, float] | None = None,
    contours: Sequence[float] = (),
    axes: "matplotlib.axes.Axes | None" = None,
) -> "matplotlib.axes.Axes":
    """Draws a column over the grid of two others, as in the thesis.

    Args:
        table: a full grid, in any order.
        figure: what to draw into.
        x: the column along the horizontal axis.
        y: the column along the vertical axis.
        value: the column that the color shows.
        labels: of the two axes.
        limits: the values of the lowest and of the highest color; by default
            those of the column.
        contours: values at which a line is drawn, 1 for the edge of stability.
        axes: where to draw; a new one by default.

    Returns:
        The axes.
    """
    axes = figure.subplots() if axes is None else axes
    across, column = np.unique(table[x], return_inverse=True)
    upward, row = np.unique(table[y], return_inverse=True)
    grid = np.full((len(upward), len(across)), np.nan)
    grid[row, column] = table[value]
    low, high = limits if limits is not None else (None, None)
    mesh = axes.pcolormesh(
        across,
        upward,
        grid,
        cmap=COLOR_MAP,
        vmin=low,
        vmax=high,
        shading="nearest",
        rasterized=True,
    )
    if len(contours):
        lines = axes.contour(
            across, upward, grid, levels=sorted(contours), colors="black"
        )
        axes.clabel(lines, fontsize=8)
    axes.set_xlabel(labels[0])
    axes.set_ylabel(labels[1])
    figure.colorbar(mesh, ax=axes)
    return axes
