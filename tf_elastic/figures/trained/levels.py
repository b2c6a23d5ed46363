"""Figures 4.14 and 4.15 of the thesis: the time to levels of the test error."""

import functools
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from tf_elastic.figures.figure import Figure
from tf_elastic.figures.figure import Table
from tf_elastic.figures.trained import records
from tf_elastic.figures.trained.records import Runs
from tf_elastic.figures.trained.settings import CIFAR
from tf_elastic.figures.trained.settings import IMAGENET
from tf_elastic.figures.trained.settings import SEQUENTIAL
from tf_elastic.figures.trained.settings import settings

if TYPE_CHECKING:
    import matplotlib.figure

    from tf_elastic.figures.trained.settings import Setting

CIFAR_LEVELS = (0.21, 0.20, 0.19, 0.18)
IMAGENET_LEVELS = (0.49, 0.47, 0.45, 0.43)
# Where a training that is much shorter than the thesis' gets to.
EARLY_LEVELS = (0.60, 0.50, 0.40, 0.35, 0.30, 0.27)


def times(
    runs: Runs, wanted: Sequence["Setting"], levels: Sequence[float]
) -> Table:
    """A row for each level, method and p that was run, with its best rate.

    `seconds` is nan where a run never got there, `speed_up` where no
    sequential method did.
    """
    rows = []
    chosen = records.best_of_each(runs, wanted)
    for level in sorted({*levels, *EARLY_LEVELS}, reverse=True):
        alone = records.fastest_sequential(runs, chosen.values(), level)
        for (method, p), setting in chosen.items():
            seconds = records.time_to_level(runs[setting], level)
            speed_up = alone[1] / seconds if alone and seconds else np.nan
            reached = np.nan if seconds is None else seconds
            rate = setting.learning_rate
            rows.append((level, method, p, rate, reached, speed_up))
    if not rows:
        raise ValueError(
            "The file of runs has none of this figure. Give a --scale to "
            "train them."
        )
    names = "level method workers learning_rate seconds speed_up".split()
    columns = zip(*rows, strict=True)
    return {n: np.array(c) for n, c in zip(names, columns, strict=True)}


def draw(table: Table, figure: "matplotlib.figure.Figure") -> None:
    """A panel of bars for each level that somebody has reached."""
    reached = np.isfinite(table["seconds"].astype(float))
    levels = sorted(set(table["level"][reached]), reverse=True)[-6:]
    methods = list(dict.fromkeys(table["method"]))
    workers = sorted(set(table["workers"]))
    panels = figure.subplots(1, max(len(levels), 1), squeeze=False)[0]
    panels[0].set_ylabel("virtual time [s]")
    for panel, level in zip(panels, levels, strict=False):
        for i, method in enumerate(methods):
            rows = (table["level"] == level) & (table["method"] == method)
            panel.bar(
                [
                    workers.index(p) + 0.8 * (i / len(methods) - 0.5)
                    for p in table["workers"][rows]
                ],
                np.nan_to_num(table["seconds"][rows].astype(float)),
                0.8 / len(methods),
                align="edge",
                color=f"C{i}",
                label=method,
            )
        panel.set_xticks(range(len(workers)), [f"{p}" for p in workers])
        panel.set_xlabel("p")
        panel.set_title(f"{level:.0%}")
    figure.legend(
        *panels[0].get_legend_handles_labels(),
        loc="outside lower center",
        ncols=5,
        fontsize=8,
    )


def _figure(
    number: int,
    experiment: str,
    methods: Sequence[str],
    workers: Sequence[int],
    levels: Sequence[float],
    speed_up: str,
) -> Figure:
    wanted = tuple(
        dict.fromkeys(
            setting
            for p in workers
            for setting in settings(methods, p, experiment=experiment)
        )
    )
    printed = ", ".join(f"{level:.0%}" for level in levels)
    what = "CIFAR" if experiment == CIFAR else "What ImageNet is trained with"
    return Figure(
        f"thesis-4.{number}",
        f"{what}: virtual time to a test error of {printed}, and to earlier "
        "levels, over p; missing bars were never reached. Printed speed-up "
        f"of EAMSGD over the next best: {speed_up}.",
        functools.partial(times, wanted=wanted, levels=levels),
        draw,
        (14.0, 4.5),
        wanted,
    )


FIGURES = (
    _figure(
        14,
        CIFAR,
        ("EASGD", "EAMSGD", "DOWNPOUR", "MDOWNPOUR", *SEQUENTIAL),
        (4, 8, 16),
        CIFAR_LEVELS,
        "11.1 with p = 16 at 21 %",
    ),
    _figure(
        15,
        IMAGENET,
        ("EASGD", "EAMSGD", "DOWNPOUR", *SEQUENTIAL),
        (4, 8),
        IMAGENET_LEVELS,
        "1.8 with p = 8 at 49 %",
    ),
)
