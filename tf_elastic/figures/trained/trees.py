"""Figures 6.3 to 6.12 of the thesis: the root of a tree over virtual time."""

import functools
from collections.abc import Iterable
from collections.abc import Iterator
from collections.abc import Sequence

from tf_elastic.figures.figure import Figure
from tf_elastic.figures.trained import curves
from tf_elastic.figures.trained import records
from tf_elastic.figures.trained import scale
from tf_elastic.figures.trained.records import Runs
from tf_elastic.figures.trained.settings import LONG_PERIOD
from tf_elastic.figures.trained.settings import LOWRANK
from tf_elastic.figures.trained.settings import METHODS
from tf_elastic.figures.trained.settings import SINGLE
from tf_elastic.figures.trained.settings import TREES
from tf_elastic.figures.trained.settings import Setting

# "We run this experiment six times independently (labeled with a,b,c,d,e,f)".
_RUNS = 6
# Section 6.1.2 has an image for each step, and this learning rate, in the
# first two figures, and p = 16 for the methods without a tree in the last.
_SINGLE_RATE = 5e-3
_STAR_WORKERS = 16


def _of_tree(
    method: str, period: int, experiment: str, rate: float | None = None
) -> Iterator[Setting]:
    """Six runs, with the leaves of each scale."""
    for leaves in scale.ALL_LEAVES:
        for seed in range(_RUNS):
            yield Setting(
                method,
                leaves,
                period,
                TREES[method].rates[0] if rate is None else rate,
                seed=seed,
                experiment=experiment,
            )


def _of_stars() -> Iterator[Setting]:
    """With "a wide range of the learning rates", of which no more is told."""
    for method, period in (("DOWNPOUR", 1), ("EASGD", LONG_PERIOD)):
        for rate in METHODS[method].rates:
            yield Setting(
                method, _STAR_WORKERS, period, rate, experiment=LOWRANK
            )


def largest_trees(runs: Runs, wanted: Sequence[Setting]) -> list[Setting]:
    """All runs that are there, of trees those of the most leaves."""
    found = curves.all_there_are(runs, wanted)
    most = max((s.workers for s in found if s.method in TREES), default=0)
    return [s for s in found if s.method not in TREES or s.workers == most]


def best_of_trees(runs: Runs, wanted: Sequence[Setting]) -> list[Setting]:
    """Of each method the run with the smallest test error."""
    found = largest_trees(runs, wanted)
    return list(records.best_of_each(runs, found).values())


def _figure(
    number: int,
    caption: str,
    wanted: Iterable[Setting],
    choose: curves.Choose = largest_trees,
    varied: str = "seed",
) -> Figure:
    runs = tuple(wanted)
    return Figure(
        f"thesis-6.{number}",
        caption,
        functools.partial(curves.curves, wanted=runs, choose=choose),
        functools.partial(curves.draw, varied=varied),
        (14.0, 5.0),
        runs,
    )


_WHAT = "training and test loss and test error of the root over virtual time"
_SCHEMES = {
    1: "the first scheme, tau_1 = {} and tau_2 = {}",
    2: "the second scheme, tau_u = {} and tau_d = {}",
}


def _caption(number: int, period: int, rest: str) -> str:
    scheme = _SCHEMES[number].format(period, 10 * period)
    return f"EASGD Tree, {scheme}, {rest}, six runs: {_WHAT}."


FIGURES = (
    *(
        _figure(
            figure,
            _caption(number, period, "eta = 0.005, an image for each step"),
            _of_tree(f"Tree{number}-0", period, SINGLE, _SINGLE_RATE),
        )
        for figure, number, period in ((3, 1, 10), (4, 2, 8))
    ),
    *(
        _figure(
            2 + 3 * number + k,
            _caption(number, 1, f"eta = {rate:g}, delta = {momentum:g}"),
            _of_tree(f"Tree{number}-{momentum:g}", 1, LOWRANK),
        )
        for number in (1, 2)
        for k, (rate, momentum) in enumerate(
            ((5e-2, 0.0), (5e-3, 0.9), (5e-4, 0.99))
        )
    ),
    _figure(
        11,
        f"EASGD Tree with momentum, both schemes: {_WHAT}, the best run of "
        "Figures 6.5 to 6.10 each.",
        (s for method in TREES for s in _of_tree(method, 1, LOWRANK)),
        best_of_trees,
        "learning_rate",
    ),
    _figure(
        12,
        "DOWNPOUR and EASGD with 16 workers at one center, and the trees, "
        f"without momentum: {_WHAT}, the best run of each.",
        (
            *_of_stars(),
            *_of_tree("Tree1-0", 1, LOWRANK),
            *_of_tree("Tree2-0", 1, LOWRANK),
        ),
        best_of_trees,
        "workers learning_rate",
    ),
)
