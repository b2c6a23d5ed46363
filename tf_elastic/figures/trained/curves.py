"""Figures 4.1 to 4.13 of the thesis: losses and errors over virtual time."""

import functools
from collections.abc import Callable
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from tf_elastic.figures.figure import Figure
from tf_elastic.figures.figure import Table
from tf_elastic.figures.trained import records
from tf_elastic.figures.trained.records import Runs
from tf_elastic.figures.trained.settings import IMAGENET
from tf_elastic.figures.trained.settings import METHODS
from tf_elastic.figures.trained.settings import SEQUENTIAL
from tf_elastic.figures.trained.settings import Setting
from tf_elastic.figures.trained.settings import settings

if TYPE_CHECKING:
    import matplotlib.figure

_PANELS = {
    "train_loss": "training loss",
    "test_loss": "test loss",
    "test_error": "test error",
}
_COLUMNS = (
    "workers",
    "period",
    "learning_rate",
    "decay",
    "seed",
    "step",
    "virtual_seconds",
    *_PANELS,
)
_ELASTIC = ("EASGD", "EAMSGD")
_SECTION_4_2 = (*_ELASTIC, "DOWNPOUR", "MDOWNPOUR", *SEQUENTIAL)
# The thesis' text does not tell which gamma its curves have.
_DECAYS = (0.0, 1e-4)

Choose = Callable[[Runs, Sequence[Setting]], Sequence[Setting]]


def all_there_are(runs: Runs, wanted: Sequence[Setting]) -> list[Setting]:
    """Every run that is there."""
    return [setting for setting in wanted if setting in runs]


def best_rates(runs: Runs, wanted: Sequence[Setting]) -> list[Setting]:
    """Of each method the learning rate with the smallest test error."""
    return list(records.best_of_each(runs, wanted).values())


def curves(runs: Runs, wanted: Sequence[Setting], choose: Choose) -> Table:
    """A row for each look at a center.

    Raises:
        ValueError: there is no run to draw.
    """
    chosen = choose(runs, wanted)
    if not chosen:
        raise ValueError(
            "The file of runs has none of this figure, which are "
            f"{', '.join(setting.name for setting in wanted)}. Give a --scale "
            "to train them."
        )
    rows = [(s, record) for s in chosen for record in runs[s]]
    table: dict[str, np.ndarray] = {
        "method": np.array([setting.method for setting, _ in rows])
    }
    for name in _COLUMNS:
        table[name] = np.array([getattr(record, name) for _, record in rows])
    return table


def draw(table: Table, figure: "matplotlib.figure.Figure", varied: str) -> None:
    """Three panels: training loss, test loss, test error.

    Args:
        table: of `curves`.
        figure: what to draw into.
        varied: the columns that lines are told apart by, beside the method.
    """
    names = varied.split()
    keys = list(zip(table["method"], *(table[n] for n in names), strict=True))
    unit, size = _unit(float(np.max(table["virtual_seconds"])))
    for panel, (column, label) in zip(
        figure.subplots(1, len(_PANELS)), _PANELS.items(), strict=True
    ):
        for key in dict.fromkeys(keys):
            rows = np.array([other == key for other in keys])
            values = table[column][rows]
            line = ", ".join(
                (
                    str(key[0]),
                    *(
                        f"{_SYMBOLS[n]} = {v:g}"
                        for n, v in zip(names, key[1:], strict=True)
                    ),
                )
            )
            dashed = key[0] in SEQUENTIAL
            panel.plot(
                table["virtual_seconds"][rows] / size,
                100 * values if column == "test_error" else values,
                "--" if dashed else "-",
                linewidth=1.2,
                label=line,
            )
        panel.set_xlabel(f"virtual time [{unit}]")
        panel.set_ylabel(label + (" [%]" if column == "test_error" else ""))
        panel.grid(alpha=0.3)
    figure.legend(
        *panel.get_legend_handles_labels(),
        loc="outside lower center",
        ncols=4,
        fontsize=8,
    )


_SYMBOLS = {
    "workers": "p",
    "period": "τ",
    "learning_rate": "η",
    "decay": "γ",
    "seed": "run",
}


def _unit(seconds: float) -> tuple[str, float]:
    return ("min", 60.0) if seconds > 300 else ("s", 1.0)


def _figure(
    number: int,
    caption: str,
    wanted: Sequence[Setting],
    choose: Choose = best_rates,
    varied: str = "learning_rate",
) -> Figure:
    return Figure(
        f"thesis-4.{number}",
        caption,
        functools.partial(curves, wanted=wanted, choose=choose),
        functools.partial(draw, varied=varied),
        (14.0, 5.0),
        tuple(wanted),
    )


def _of_period(period: int) -> list[Setting]:
    """Section 4.2, p = 4; MDOWNPOUR exchanges at each step."""
    names = [n for n in METHODS if n != "MDOWNPOUR" or period == 1]
    return list(settings(names, 4, period))


def _of_workers(workers: int) -> list[Setting]:
    return list(settings(_SECTION_4_2, workers))


def _of_decays() -> list[Setting]:
    return [
        Setting(method, 16, period, 0.01, decay)
        for method in _ELASTIC
        for decay in _DECAYS
        for period in (1, 10, 100, 1000)
    ]


_WHAT = "training and test loss and test error over virtual time"

FIGURES = (
    *(
        _figure(
            number,
            f"CIFAR, p = 4, tau = {period}: {_WHAT}, all methods, each with "
            "its best rate of Table 4.1.",
            _of_period(period),
        )
        for number, period in ((1, 1), (2, 4), (3, 16), (4, 64))
    ),
    *(
        _figure(
            number,
            f"CIFAR, p = {p}: {_WHAT}; tau = 10 for EASGD and EAMSGD, 1 for "
            "DOWNPOUR and MDOWNPOUR; each with its best rate of Table 4.2.",
            _of_workers(p),
        )
        for number, p in ((5, 4), (6, 8), (7, 16))
    ),
    *(
        _figure(
            number,
            f"What ImageNet is trained with, p = {p}: {_WHAT}; rates of Table "
            "4.3, cut by 5 and by 2 when the loss stagnates; on the data of "
            "the scale, not on ImageNet.",
            list(
                settings(
                    (*_ELASTIC, "DOWNPOUR", *SEQUENTIAL),
                    p,
                    experiment=IMAGENET,
                )
            ),
        )
        for number, p in ((8, 4), (9, 8))
    ),
    _figure(
        10,
        f"CIFAR, one worker: {_WHAT} of SGD, ASGD, MVASGD and MSGD.",
        list(settings(SEQUENTIAL, 1)),
    ),
    _figure(
        11,
        f"What ImageNet is trained with, one worker: {_WHAT}; averages begin "
        "at the first cut of the rate; on the data of the scale.",
        list(settings(SEQUENTIAL, 1, experiment=IMAGENET)),
    ),
    _figure(
        12,
        "CIFAR, p = 16, tau = 10: EAMSGD and EASGD with each of their rates.",
        list(settings(_ELASTIC, 16)),
        all_there_are,
    ),
    _figure(
        13,
        "CIFAR, p = 16, eta = 0.01: EASGD and EAMSGD with tau = 1 to 1000, "
        "with and without a decay of the rate, 1 / (1 + gamma t)^0.5.",
        _of_decays(),
        all_there_are,
        "period decay",
    ),
)
