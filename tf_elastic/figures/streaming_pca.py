"""Figure 1 of the momentum paper: how much delay each momentum bears."""

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike

from tf_elastic.figures.figure import Figure
from tf_elastic.figures.figure import Table
from tf_elastic.theory import streaming_pca

if TYPE_CHECKING:
    import matplotlib.figure

COVARIANCE = np.diag([4.0, 3.0, 2.0, 1.0])
LEARNING_RATE = 5e-4
RUNS = 100
MOMENTA = (0.7, 0.8, 0.85, 0.9, 0.95)
# The paper's axis ends at 100, its text names an optimal delay of 120.
DELAYS = np.arange(141)
# By then one run in ten thousand is still on its way from the saddle, where
# momentum is least; an error is forgotten within some hundreds of steps.
STEPS = 13_000
SETTLED = range(9000, STEPS + 1, 250)


def errors(
    momenta: ArrayLike = MOMENTA, delays: ArrayLike = DELAYS, seed: int = 1
) -> Table:
    """The error at which Async-MSGD settles, for each momentum and delay.

    Args:
        momenta: those of the figure by default.
        delays: those of the figure by default.
        seed: of the runs.

    Returns:
        A row for each pair: `momentum`, `delay`, the mean squared `error` over
        runs and over steps after all have settled, and the standard deviation
        of a run's error from step to step and run to run, `deviation`. Both
        are infinite where a run diverged.
    """
    momentum, delay = np.broadcast_arrays(
        np.asarray(momenta, np.float64)[:, None], np.asarray(delays)
    )
    _, points = streaming_pca.simulate(
        momentum=momentum,
        delay=delay,
        learning_rate=LEARNING_RATE,
        covariance=COVARIANCE,
        steps=STEPS,
        runs=RUNS,
        seed=seed,
        record=SETTLED,
    )
    error = streaming_pca.squared_error(points, covariance=COVARIANCE)
    with np.errstate(over="ignore", invalid="ignore"):
        mean = error.mean(axis=(0, -1))
        deviation = error.std(axis=(0, -1))
    settled = np.isfinite(mean) & np.isfinite(deviation)
    return {
        "momentum": momentum.ravel(),
        "delay": delay.ravel(),
        "error": np.where(settled, mean, np.inf).ravel(),
        "deviation": np.where(settled, deviation, np.inf).ravel(),
    }


def _draw(table: Table, figure: "matplotlib.figure.Figure") -> None:
    axes = figure.subplots()
    momentum, delay = table["momentum"], table["delay"]
    for number, mu in enumerate(np.unique(momentum)):
        rows = momentum == mu
        level = streaming_pca.optimal_delay(delay[rows], table["error"][rows])
        rows &= np.isfinite(table["error"].astype(float))
        delays = delay[rows]
        error = table["error"][rows].astype(float)
        deviation = table["deviation"][rows].astype(float)
        color = f"C{number}"
        axes.plot(
            delays,
            error,
            color=color,
            label=rf"$\mu$ = {mu:g}: on its level until {level:.0f}",
        )
        axes.fill_between(
            delays,
            np.maximum(error - deviation, 0),
            error + deviation,
            color=color,
            alpha=0.15,
            linewidth=0,
        )
        axes.plot(level, error[delays == level], "o", color=color)
    axes.set_xlim(delay.min(), delay.max())
    axes.set_ylim(0, 0.6)
    axes.set_xlabel(r"delay $\tau$")
    axes.set_ylabel("optimization error")
    axes.legend(loc="lower center", bbox_to_anchor=(0.5, 1), ncols=2)


FIGURES = (
    Figure(
        "momentum-1",
        "Async-MSGD for streaming PCA, its error against the delay for five "
        "momenta; covariance diag(4, 3, 2, 1), eta = 0.0005, 100 runs; the "
        "shade is a standard deviation.",
        errors,
        _draw,
        (7.0, 5.5),
    ),
)
