"""Tables 4.1 to 4.4 of the thesis."""

import functools
from collections.abc import Mapping
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from tf_elastic.core import rules
from tf_elastic.figures.figure import Figure
from tf_elastic.figures.figure import Table
from tf_elastic.figures.trained import records
from tf_elastic.figures.trained.records import Runs
from tf_elastic.figures.trained.settings import CIFAR
from tf_elastic.figures.trained.settings import IMAGENET
from tf_elastic.figures.trained.settings import METHODS
from tf_elastic.figures.trained.settings import Setting
from tf_elastic.figures.trained.settings import settings
from tf_elastic.timeline.virtual import presets
from tf_elastic.timeline.virtual.engine import VirtualTimeline
from tf_elastic.timeline.virtual.totals import Totals
from tf_elastic.timeline.virtual.workload import Workload

if TYPE_CHECKING:
    import matplotlib.figure

Printed = Mapping[tuple[int, int], tuple[int, int, int]]
# Table 4.4: seconds of computation, loading and communication by (tau, p).
CIFAR_SECONDS: Printed = {
    (1, 4): (11, 2, 3),
    (1, 8): (11, 2, 5),
    (1, 16): (11, 2, 9),
    (10, 4): (11, 2, 1),
    (10, 8): (11, 2, 1),
    (10, 16): (12, 2, 1),
}
IMAGENET_SECONDS: Printed = {
    (1, 4): (1323, 24, 173),
    (1, 8): (1239, 61, 284),
    (10, 4): (1254, 58, 7),
    (10, 8): (1266, 84, 11),
}
_STEPS = {CIFAR: 400, IMAGENET: 1024}
# Of the parameters.
_BYTES = {CIFAR: 1_408_000, IMAGENET: 233_000_000}
_REPEATS = 5  # one after another, for the mean


def tried(runs: Runs, wanted: Sequence[Setting]) -> Table:
    """A row for each learning rate: what came of it, and which is the best."""
    best = set(records.best_of_each(runs, wanted).values())
    found = [runs.get(setting, ()) for setting in wanted]
    return {
        "method": np.array([setting.method for setting in wanted]),
        "workers": np.array([setting.workers for setting in wanted]),
        "learning_rate": np.array([s.learning_rate for s in wanted]),
        "steps": np.array(
            [max((r.step for r in seen), default=0) for seen in found]
        ),
        "smallest_error": np.array(
            [records.smallest_error(seen) if seen else np.nan for seen in found]
        ),
        "best": np.array([setting in best for setting in wanted]),
    }


def seconds(experiment: str, printed: Printed) -> Table:
    """A row for each cell of Table 4.4, printed and in virtual time.

    Computation and loading are one number of a virtual worker.
    """
    rows = []
    for (period, p), (computed, loaded, sent) in printed.items():
        busy, exchanging = virtual_seconds(experiment, period, p)
        rows.append((period, p, computed + loaded, busy, sent, exchanging))
    names = (
        "period",
        "workers",
        "printed_computing",
        "computing",
        "printed_communication",
        "communication",
    )
    columns = zip(*rows, strict=True)
    return {n: np.array(c) for n, c in zip(names, columns, strict=True)}


def virtual_seconds(
    experiment: str, period: int, num_workers: int
) -> tuple[float, float]:
    """Of a worker: computing with loading, and communication, in a table's run.

    DOWNPOUR where the period is 1, else EASGD, as in the table.
    """
    size, is_elastic = _BYTES[experiment], period > 1
    workload = Workload(
        rule=rules.Elastic() if is_elastic else rules.Add(),
        protocol="blocking",
        period=period,
        phase=0 if is_elastic else period - 1,
        bytes_up=size,
        bytes_down=0 if is_elastic else size,
        bytes_read=size if is_elastic else 0,
    )
    timing = presets.preset(f"thesis-{experiment}")
    timeline = VirtualTimeline(timing, workload, num_workers)
    totals = Totals(workload, num_workers)
    repeats = _REPEATS * num_workers
    for move in timeline.moves():
        totals(move)
        if totals.steps >= repeats * _STEPS[experiment]:
            break
    spent = totals.of_all
    return spent.computing / repeats, spent.exchanging / repeats


def draw(table: Table, figure: "matplotlib.figure.Figure") -> None:
    """The rows of a table as text."""
    from matplotlib.transforms import Bbox

    axes = figure.subplots()
    axes.set_axis_off()
    rows = zip(*table.values(), strict=True)
    drawn = axes.table(
        [[_text(value) for value in row] for row in rows],
        colLabels=[name.replace("_", " ") for name in table],
        bbox=Bbox.unit(),
    )
    drawn.auto_set_font_size(False)
    drawn.set_fontsize(8)


def _text(value: object) -> str:
    if isinstance(value, (float, np.floating)):
        return "-" if np.isnan(value) else f"{value:.4g}"
    return str(value)


def _rates(number: int, caption: str, wanted: Sequence[Setting]) -> Figure:
    once = tuple(dict.fromkeys(wanted))
    return Figure(
        f"thesis-table-4.{number}",
        caption,
        functools.partial(tried, wanted=once),
        draw,
        (8.0, 1.0 + 0.2 * len(once)),
        once,
    )


_SECTION_4_2 = [n for n in METHODS if n not in ("ADOWNPOUR", "MVADOWNPOUR")]
_OF_IMAGENET = [n for n, m in METHODS.items() if m.imagenet_rates]

FIGURES = (
    _rates(
        1,
        "Learning rates tried on CIFAR with p = 4, tau = 1, and what came of "
        "them.",
        list(settings(tuple(METHODS), 4, 1)),
    ),
    _rates(
        2,
        "Learning rates tried on CIFAR with p = 4, 8, 16, and what came of "
        "them.",
        [s for p in (4, 8, 16) for s in settings(_SECTION_4_2, p)],
    ),
    _rates(
        3,
        "Learning rates of ImageNet with p = 4, 8, and what came of them on "
        "the data of the scale.",
        [
            s
            for p in (4, 8)
            for s in settings(_OF_IMAGENET, p, experiment=IMAGENET)
        ],
    ),
    *(
        Figure(
            f"thesis-table-4.4-{experiment}",
            f"Seconds of {_STEPS[experiment]} mini-batches of a worker, of "
            f"{experiment} with tau = 1 and 10: printed, and in virtual time.",
            functools.partial(seconds, experiment, printed),
            draw,
            (8.0, 3.0),
        )
        for experiment, printed in (
            (CIFAR, CIFAR_SECONDS),
            (IMAGENET, IMAGENET_SECONDS),
        )
    ),
)
