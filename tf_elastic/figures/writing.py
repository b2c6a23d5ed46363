"""Writes a figure: a picture and the numbers in it."""

import csv
import os

from tf_elastic import extras
from tf_elastic import files
from tf_elastic.figures.figure import Figure
from tf_elastic.figures.trained.records import Runs


def write(
    figure: Figure,
    folder: str | os.PathLike[str],
    runs: Runs | None = None,
) -> tuple[str, str]:
    """Computes a figure and writes `NAME.png` and `NAME.csv`.

    Args:
        figure: one of `all_figures()`.
        folder: where to write; made if it is not there.
        runs: what was trained, for a figure that has `runs`.

    Returns:
        The paths of the picture and of the numbers. The CSV has a line of
        names, then a row for each point; numbers are written in full (what is
        read back is the same float64).

    Raises:
        ImportError: matplotlib is not installed.
        ValueError: of a figure's runs there is none.
    """
    extras.require("matplotlib", "A figure")
    # Drawn without a display, and without a state that others share.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure as Canvas

    table = figure.compute(runs or {}) if figure.runs else figure.compute()
    os.makedirs(folder, exist_ok=True)
    stem = os.path.join(os.fspath(folder), figure.name)
    columns = [column.tolist() for column in table.values()]
    with (
        files.whole(f"{stem}.csv") as partial,
        open(partial, "w", newline="", encoding="utf-8") as file,
    ):
        writer = csv.writer(file)
        writer.writerow(table)
        writer.writerows(zip(*columns, strict=True))
    canvas = Canvas(figsize=figure.size, layout="constrained")
    FigureCanvasAgg(canvas)
    figure.draw(table, canvas)
    with files.whole(f"{stem}.png") as partial:
        canvas.savefig(partial, dpi=120)
    return f"{stem}.png", f"{stem}.csv"
