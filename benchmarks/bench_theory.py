"""Figure 1 of the momentum paper at full size, and all figures of the papers.

    python benchmarks/bench_theory.py [--loop_steps=2000] [--json=PATH]

The figure's simulation against plain Python loops that are read off equation
2.1, one run after another: with NumPy vectors, and with floats alone. The loops
would take hours: they run a few thousand steps of some settings, and their time
for a step is taken times the steps of the figure. Figures are computed, not
drawn.
"""

import random
import statistics
import time

import _report
import numpy as np

from tf_elastic import figures
from tf_elastic.figures import streaming_pca as figure

ETA = figure.LEARNING_RATE
STEPS_OF_FIGURE = (
    len(figure.MOMENTA) * len(figure.DELAYS) * figure.RUNS * figure.STEPS
)
# Settings that stay on their level: none is spared the loop's work.
SETTINGS = [(0.7, 0), (0.7, 100), (0.8, 50), (0.9, 20), (0.95, 5)]


def vector_loop(momentum, delay, steps, seed=0):
    """Equation 2.1 with NumPy vectors, as one would write it down."""
    generator = np.random.default_rng(seed)
    deviation = np.sqrt(np.diag(figure.COVARIANCE))
    start = np.eye(4)[1]
    path = [start] * (delay + 2)
    for _ in range(steps):
        x = deviation * generator.standard_normal(4)
        stale = path[-1 - delay]
        projection = np.eye(4) - np.outer(stale, stale)
        path.append(
            path[-1]
            + momentum * (path[-1] - path[-2])
            + ETA * projection @ x * (x @ stale)
        )
    return path[-1]


def float_loop(momentum, delay, steps, seed=0):
    """Equation 2.1 with floats in lists: less to do for each step."""
    generator = random.Random(seed)
    deviation = [float(d) for d in np.sqrt(np.diag(figure.COVARIANCE))]
    start = [0.0, 1.0, 0.0, 0.0]
    path = [start] * (delay + 2)
    for _ in range(steps):
        x = [d * generator.gauss(0.0, 1.0) for d in deviation]
        stale, now, before = path[-1 - delay], path[-1], path[-2]
        along = sum(a * b for a, b in zip(x, stale, strict=True))
        path.append(
            [
                n + momentum * (n - b) + ETA * along * (a - along * s)
                for n, b, a, s in zip(now, before, x, stale, strict=True)
            ]
        )
    return path[-1]


def seconds(function):
    start = time.perf_counter()
    function()
    return time.perf_counter() - start


def loop_seconds(loop, steps):
    """A function that returns what the whole figure would take."""
    taken = steps * len(SETTINGS)

    def timed():
        def run():
            for momentum, delay in SETTINGS:
                loop(momentum, delay, steps)

        return seconds(run) / taken * STEPS_OF_FIGURE

    return timed


def time_figures():
    """Seconds of each figure but momentum-1."""
    taken = {}
    for name, item in figures.all_figures().items():
        if name != "momentum-1":
            taken[name] = seconds(item.compute)
            print(f"{name:20} {taken[name]:6.2f} s")
    return taken


def main():
    args = _report.parse_args(__doc__, repeats=3, loop_steps=2000)
    results = _report.in_turns(
        {
            "all at once": lambda: seconds(figure.errors),
            "NumPy vectors": loop_seconds(vector_loop, args.loop_steps),
            "floats": loop_seconds(float_loop, args.loop_steps),
        },
        args.repeats,
    )
    print(
        f"momentum-1: {len(figure.MOMENTA)} momenta x {len(figure.DELAYS)} "
        f"delays x {figure.RUNS} runs x {figure.STEPS} steps"
    )
    times = results["all at once"]
    print(
        f"all at once: {statistics.median(times):.1f} s "
        f"({min(times):.1f} to {max(times):.1f})"
    )
    speedups = {}
    for name in ("NumPy vectors", "floats"):
        speedups[name] = _report.ratios(results[name], times)
        hours = statistics.median(results[name]) / 3600
        print(
            f"loop of {name}: {hours:.1f} h, scaled from {args.loop_steps} "
            "steps of each of some settings; loop / all at once: "
            "%.0f (%.0f to %.0f)" % speedups[name]
        )
    others = time_figures()
    print(f"all other figures together: {sum(others.values()):.1f} s")
    _report.write(
        args,
        {
            "seconds": results,
            "steps_of_figure": STEPS_OF_FIGURE,
            "loop_over_all_at_once": speedups,
            "figures": others,
        },
    )


if __name__ == "__main__":
    main()
