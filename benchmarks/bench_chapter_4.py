"""Chapter 4 of the thesis in a virtual cluster: hours, in pieces.

    nice python benchmarks/bench_chapter_4.py --csv=PATH --data_dir=DIR
        [--scale=0.01] [--only=REGEX] [--seconds=600] [--seeds=1] [--jobs=1]
    python benchmarks/bench_chapter_4.py --csv=PATH --report

Trains the methods of Figures 4.5 to 4.7 and 4.10 with p = 1, 4, 8 and 16 on
CIFAR-10, with the network, batch size and learning rates of the thesis, in the
virtual time of its Table 4.4. Each look at a center is appended to PATH as it
is had, weights are kept beside it, and what is there is not done again: after
--seconds it stops, the same command goes on, and a larger --scale (1 is the
whole training) goes on from a smaller one. The settings come in the order of
what they tell: EAMSGD against MSGD first. --only chooses by name, such as
"MSGD-p(1|4)-.*-0.00[15]".

The report: the virtual time to levels of the test error, and how many times
sooner than the best sequential method that is. Of the learning rates the one
with the smallest test error counts, as in the thesis.
"""

import re
import sys
import time

import _cifar
import _report

from tf_elastic.figures.trained import records
from tf_elastic.figures.trained import scale as scales
from tf_elastic.figures.trained import settings as chapter

WORKERS = (4, 8, 16)
LEVELS = (
    0.60,
    0.55,
    0.50,
    0.45,
    0.40,
    0.35,
    0.30,
    0.27,
    0.21,
    0.20,
    0.19,
    0.18,
)
# The rates that a few thousand steps speak for; the others come later.
FIRST = {
    "MSGD": 0.001,
    "EAMSGD": 0.005,
    "EASGD": 0.05,
    "DOWNPOUR": 0.005,
    "MDOWNPOUR": 5e-5,
    "SGD": 0.05,
    "ASGD": 0.05,
    "MVASGD": 0.05,
    "ADOWNPOUR": 0.005,
    "MVADOWNPOUR": 0.005,
}
# One worker is cheap, and its time to a level is longer.
LONGER_ALONE = 4


def ordered(seeds):
    """All settings, in the order of what they tell."""
    made = [
        setting._replace(seed=seed)
        for seed in range(seeds)
        for p in WORKERS
        for setting in chapter.settings(chapter.METHODS, p)
    ]

    def rank(setting):
        return (
            setting.seed,
            setting.learning_rate != FIRST[setting.method],
            list(FIRST).index(setting.method),
            setting.workers,
        )

    return sorted(dict.fromkeys(made), key=rank)


def of_setting(scale, setting):
    """The scale with a longer run for a worker alone."""
    times = LONGER_ALONE if setting.workers == 1 else 1
    return scale._replace(steps=min(times * scale.steps, scales.FULL_STEPS))


def say(line):
    """A look at a center, while the report is to come."""
    print(line, file=sys.stderr, flush=True)


def run(args):
    """Trains what is left to do, until it is done or the time is over."""
    from tf_elastic.figures.trained import side_by_side

    scale = scales.of(args.scale)
    side_by_side.train(
        args.csv,
        {
            setting: of_setting(scale, setting)
            for setting in ordered(args.seeds)
            if re.fullmatch(args.only or ".*", setting.name)
        },
        jobs=args.jobs,
        data_dir=args.data_dir or None,
        stop_at=time.monotonic() + args.seconds,
        say=say,
    )


def report(runs):
    """Prints the tables, and returns {(method, p, level): seconds}."""
    chosen = records.best_of_each(runs, runs)
    levels = [
        level
        for level in LEVELS
        if any(records.time_to_level(runs[s], level) for s in runs)
    ]
    print("Virtual seconds to a test error, and speed-up over the best")
    print("sequential method there:\n")
    names = [f"{level:.0%}" for level in levels]
    print(f"| method | p | rate | steps | smallest | {' | '.join(names)} |")
    print("|---" * (5 + len(levels)) + "|")
    found = {}
    for (method, p), setting in sorted(chosen.items(), key=lambda it: it[0][1]):
        cells = []
        for level in levels:
            seconds = records.time_to_level(runs[setting], level)
            alone = records.fastest_sequential(runs, chosen.values(), level)
            cell = "-"
            if seconds is not None:
                found[method, p, level] = seconds
                cell = f"{seconds:.1f}"
                if alone and p > 1:
                    cell += f" ({alone[1] / seconds:.2f})"
            cells.append(cell)
        last = max(runs[setting], key=lambda record: record.step)
        error = records.smallest_error(runs[setting])
        print(
            f"| {method} | {p} | {setting.learning_rate:g} | {last.step} | "
            f"{error:.1%} | {' | '.join(cells)} |"
        )
    return found


def main():
    args = _report.parse_args(
        __doc__,
        csv="chapter_4.csv",
        data_dir="",
        scale="0.01",
        only="",
        seconds=600.0,
        seeds=1,
        jobs=1,
        report=False,
    )
    if not args.report:
        if args.scale != scales.TINY:
            _cifar.require(args.data_dir)
        run(args)
    runs = records.read(args.csv)
    report(runs)
    rows = [record._asdict() for seen in runs.values() for record in seen]
    _report.write(args, {"rows": rows})


if __name__ == "__main__":
    main()
