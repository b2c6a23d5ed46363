"""The root of a tree of 4096 leaves on the linear model, against the theory.

    nice python benchmarks/bench_tree_linear.py [--runs=2000] [--steps=60]
        [--seed=0] [--json=PATH]

Follows the engine's timeline of a tree of degree 16 and depth 3, both schemes
with the periods 1 and 5, many runs at once: equal steps, edges that take less
than one, eta h = 0.3, alpha = 0.9 / 17. All begin at 0. Prints the variance at
the root after --steps, that of `theory.tree`, and how many standard errors
they are apart.
"""

import time

import _report
import numpy as np

from tf_elastic.core import rules
from tf_elastic.core import topology
from tf_elastic.theory import tree as trees
from tf_elastic.timeline.virtual import Timing
from tf_elastic.timeline.virtual import TreeTimeline
from tf_elastic.timeline.virtual import Workload
from tf_elastic.timeline.virtual import root_on_quadratic

DEGREE, DEPTH, PERIODS = 16, 3, (1, 5)
SETTING = {"learning_rate": 0.3, "moving_rate": 0.9 / (DEGREE + 1)}
# A parent's point arrives before those of the children, all within a step.
TIMING = Timing(1.0, latency=0.5, node_latency=(0.2, 0.3))


def both(scheme):
    """The tree for the engine and for the theory."""
    first, second = PERIODS
    shape = {"degree": DEGREE, "depth": DEPTH}
    if scheme == "multi_scale":
        theirs = trees.multi_scale_tree(
            **shape, leaf_period=first, upper_period=second
        )
    else:
        theirs = trees.up_down_tree(
            **shape, up_period=first, down_period=second
        )
    return topology.scheme(scheme, *PERIODS), theirs


def main():
    args = _report.parse_args(__doc__, runs=2000, steps=60, seed=0)
    found = {}
    for scheme in ("multi_scale", "up_down"):
        ours, theirs = both(scheme)
        timeline = TreeTimeline(
            TIMING,
            Workload(rules.Elastic(), "blocking"),
            topology.tree(DEGREE, DEPTH, ours),
        )
        begin = time.process_time()
        [root] = root_on_quadratic(
            timeline, [args.steps], runs=args.runs, seed=args.seed, **SETTING
        )
        seconds = time.process_time() - begin
        expected = trees.root_moments(
            theirs, steps=args.steps + 1, delay_steps=1, **SETTING
        ).variance[-1]
        measured = float(np.mean(root**2))
        apart = (measured / expected - 1) / np.sqrt(2 / args.runs)
        print(
            f"{scheme:11} p = {timeline.num_workers}: variance "
            f"{measured:.3e}, in theory {expected:.3e}, {apart:+.2f} standard "
            f"errors apart; {seconds:.0f} s"
        )
        found[scheme] = [measured, expected, apart]
    _report.write(args, {"variance": found})


if __name__ == "__main__":
    main()
