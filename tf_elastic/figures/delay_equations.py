"""The figure of the paper on differential equations for ASGD."""

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from tf_elastic.figures.figure import Figure
from tf_elastic.figures.figure import Table
from tf_elastic.theory import delay_equations

if TYPE_CHECKING:
    import matplotlib.figure

_SEED = 0  # its run 0 is the one that is drawn
_RUNS = 200  # for the distance that is to be expected
_DELAY = 10
_PAIRS = (("asgd", "sdde", _DELAY), ("sgd", "sde", 0))


def _paths() -> Table:
    """A path of each, and how far two of them are apart as a rule."""
    paths = delay_equations.compare_paths(delay=_DELAY, runs=_RUNS, seed=_SEED)
    columns: dict[str, NDArray[np.float64]] = {
        "iteration": np.arange(len(paths.time), dtype=np.float64),
        "time": paths.time,
    }
    for first, second, _ in _PAIRS:
        discrete = getattr(paths, first)
        continuous = getattr(paths, second)
        columns[first] = discrete[:, 0]
        columns[second] = continuous[:, 0]
        columns[f"{first}_{second}_rms_distance"] = np.sqrt(
            np.mean((discrete - continuous) ** 2, axis=1)
        )
    return columns


def _draw(table: Table, figure: "matplotlib.figure.Figure") -> None:
    axes = figure.subplots(2, 2, sharex=True, sharey="row")
    numbers = {
        name: np.asarray(values, dtype=np.float64)
        for name, values in table.items()
    }
    for column, (first, second, delay) in enumerate(_PAIRS):
        top, bottom = axes[:, column]
        discrete, continuous = first.upper(), second.upper()
        top.plot(
            numbers["iteration"],
            numbers[first],
            color="tab:blue",
            label=discrete,
        )
        top.plot(
            numbers["iteration"],
            numbers[second],
            color="tab:red",
            linestyle="--",
            linewidth=1.0,
            label=continuous,
        )
        top.set_title(
            f"({'ab'[column]}) {discrete} and {continuous}, delay {delay}"
        )
        top.legend()
        expected = 2 * numbers[f"{first}_{second}_rms_distance"]
        bottom.fill_between(
            numbers["iteration"],
            -expected,
            expected,
            color="0.85",
            label=f"twice the rms of {_RUNS} pairs",
        )
        bottom.plot(
            numbers["iteration"],
            numbers[first] - numbers[second],
            color="black",
            linewidth=0.8,
            label=f"{discrete} - {continuous}",
        )
        bottom.set_title(f"({'cd'[column]}) their difference")
        bottom.set_xlabel("iteration")
        bottom.legend(loc="upper right", fontsize=8)
    axes[0, 0].set_ylabel("x")
    axes[1, 0].set_ylabel("difference of x")
    axes[1, 0].set_ylim(-0.45, 0.45)


FIGURES = (
    Figure(
        name="sdde-1",
        caption="Paths of ASGD and SDDE, of SGD and SDE: F(x) = (x + 1)^2 / 2 "
        "+ (x - 1)^2 / 2, eta = 0.005, 2000 iterations, delay 10, x(0) = 4.",
        compute=_paths,
        draw=_draw,
        size=(9.0, 6.5),
    ),
)
