"""Figure 2 of the momentum paper: which momentum suits how many workers."""

import functools

from tf_elastic.figures.figure import Figure
from tf_elastic.figures.trained import curves
from tf_elastic.figures.trained.settings import MOMENTA
from tf_elastic.figures.trained.settings import MOMENTUM
from tf_elastic.figures.trained.settings import settings

_RUNS = tuple(
    setting
    for p in (1, 8)
    for setting in settings(tuple(MOMENTA), p, experiment=MOMENTUM)
)

FIGURES = (
    Figure(
        "momentum-2",
        "Async-MSGD with momentum 0.1 to 0.9, 1 and 8 workers, rates cut by 5 "
        "after 60, 120 and 160 passes; the thesis' network on the data of the "
        "scale, not SphereResNet on CIFAR-100.",
        functools.partial(
            curves.curves, wanted=_RUNS, choose=curves.all_there_are
        ),
        functools.partial(curves.draw, varied="workers"),
        (14.0, 5.0),
        _RUNS,
    ),
)
