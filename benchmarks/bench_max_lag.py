"""How late a worker may come: what `core.lateness.DEFAULT_MAX_LAG` is from.

    nice python benchmarks/bench_max_lag.py [--csv=PATH] [--seeds=3]
        [--workers=2,4,16,64] [--quick]

Workers that are simulated one event after another (`_late_workers`), on the
digits, where an exchange takes no time. Questions, in tables of medians over
seeds (of *share*, the worst) and of the worst of several settings:

*share*: which part of all exchanges a bound leaves out where workers are
merely uneven. Nothing is learned for that, so the runs are long.

*rise*: worker 0 stops early in training, or is cut off from the center and
trains on alone. The others go on. How much higher is the center's loss if it
came back now, with its lag, and what it brings is let in?

*train*: the center's loss after a fixed number of arrivals, late ones among
them, under each bound, and the largest rise at one arrival of worker 0, or of
anybody whose lag is above 3.

*schedule*: over 200 virtual clusters of uneven workers that begin late, stand
still, die, come again or stop early (`_schedules`): the largest rise of the
center's loss at one update of a worker that has missed more turns than any
does where nothing goes wrong, and the largest of all other updates. What is
left out does not move the center at all. Also with elastic rates that get
smaller with the lag, by WEIGHED_ABOVE / lag, which no strategy does.

The default is the least of the bounds that leaves out next to nothing, below
1e-4 of all exchanges, of workers that are merely uneven (UNEVEN), and below
1e-2 where steps are heavy-tailed: the higher, the more harm it lets in.

With --csv each result is appended as it is found, and what the file has is not
done again.
"""

import functools
import itertools
import math
import statistics
import time

import _late_workers as simulation
import _report
import _schedules
import numpy as np

from tf_elastic.core import lateness
from tf_elastic.core.rules.base import CENTER

BOUNDS = (None, 2, 3, 5, 10, 20, 50, 100)
# value and also: what the function of the question returns of each "at".
FIELDS = "question case workers method period seed at value also".split()
KEY = FIELDS[:6]
ROW = ("case", "method", "period", "workers", "at")
LET_IN = ("case", "method", "workers")
SHARE_ARRIVALS = 20_000
# Worker 0 goes after so many turns, when the loss falls fastest.
LEAVES_AFTER = 5
LAGS = (1, 2, 3, 5, 10, 20, 50, 100)
FIRST_LOSS = _schedules.loss(_schedules.START)
AWAY_TURNS = 60
AWAY = f"stopped_{AWAY_TURNS}"
TURNS = {1: 160, 10: 80}  # by period
SCHEDULES, QUICK_SCHEDULES = 200, 20
WEIGHED_ABOVE = 1.5
# Workers times period of *train*, for the time that it takes.
LARGEST_TRAINED = 160
UNEVEN = ("equal", "lognormal", "slow_2", "slow_5")
# What the default may leave out at most.
UNEVEN_SHARE = 1e-4
HEAVY_TAILED_SHARE = 1e-2
RATED = [
    (method, period)
    for method in simulation.METHODS
    for period in (10, 1)
    if (method, period) != ("gradients", 10)
]


def named(bound):
    return "none" if bound is None else f"{bound:g}"


@functools.cache
def digits():
    """The problem, read once."""
    return simulation.Digits()


def share(case, p, _, period, seed):
    """{bound: (the part that is left out, the largest lag)}."""
    turns = math.ceil(SHARE_ARRIVALS / p)
    order = simulation.arrivals(case, p, period, turns, seed)
    found = simulation.late_ones(order, p, BOUNDS)
    return {
        named(bound): (late.mean(), lag.max())
        for bound, late, lag in zip(BOUNDS, *found, strict=True)
    }


def rise(case, p, method, period, seed):
    """{lag: (rise of the center's loss, the loss before)}."""
    # Those that stay: their turns are its lag.
    turns = LEAVES_AFTER + max(LAGS) + 2
    order = simulation.arrivals("equal", p, period, turns, seed)
    problem = digits()
    replay = simulation.Replay(
        problem, simulation.METHODS[method], p, period, seed, 1
    )
    on_time = np.zeros(1, bool)
    found, versions, seen = {}, 0, 0
    for i in order:
        seen += i == 0
        if i == 0 and seen > LEAVES_AFTER:
            lag = lateness.lag(versions, p)
            replay.advance(0)
            if lag in LAGS:
                before = problem.loss(replay.center)
                moved, _ = replay.answer(0)
                after = problem.loss(moved[CENTER])
                found[f"{lag:g}"] = float((after - before)[0]), before[0]
            if case == "cut_off":
                replay.stay(0)
            continue
        versions = 0 if i == 0 else versions + 1
        replay.exchange(i, on_time)
    return found


def train(case, p, method, period, seed):
    """{bound: (the center's loss at the end, the largest rise)}."""
    away = (LEAVES_AFTER, AWAY_TURNS) if case == AWAY else None
    turns = TURNS[period]
    speeds = "equal" if away else case
    order = simulation.arrivals(speeds, p, period, turns, seed, away)
    found = simulation.late_ones(order, p, BOUNDS)
    # Bounds that leave out the same are the same run.
    late, which = np.unique(found.late, axis=0, return_inverse=True)
    which = which.ravel()
    problem = digits()
    replay = simulation.Replay(
        problem, simulation.METHODS[method], p, period, seed, len(late)
    )
    largest = np.zeros(len(late))
    for k, i in enumerate(order):
        is_watched = i == 0 or found.lag[0, k] > 3
        before = problem.loss(replay.center) if is_watched else 0.0
        replay.exchange(i, late[:, k])
        if is_watched:
            after = problem.loss(replay.center)
            largest = np.maximum(largest, after - before)
    losses = problem.loss(replay.center)
    return {
        named(bound): (losses[v], largest[v])
        for bound, v in zip(BOUNDS, which, strict=True)
    }


@functools.cache
def _followed(seed, bound, weighed_above=None):
    found = _schedules.schedule(seed)
    return _schedules.followed(found, bound, weighed_above)


def schedule(case, p, method, period, seed):
    """{bound: (the largest other rise, the largest ordinary one)}.

    In parts of the loss at the beginning.
    """
    del case, p, method, period  # The seed has them.
    found = {named(bound): _followed(seed, bound) for bound in BOUNDS}
    return {
        bound: (one.other / FIRST_LOSS, one.ordinary / FIRST_LOSS)
        for bound, one in found.items()
    }


def schedule_end(case, p, method, period, seed):
    """{bound: (the center's loss at the end, the share of other updates)}."""
    del case, p, method, period
    found = {named(bound): _followed(seed, bound) for bound in BOUNDS}
    return {
        bound: (one.loss, one.num_other / (one.num_other + one.num_ordinary))
        for bound, one in found.items()
    }


def schedule_weighed(case, p, method, period, seed):
    """As `schedule`, where what is late counts for less."""
    del case, p, method, period
    found = {b: _followed(seed, b, WEIGHED_ABOVE) for b in BOUNDS}
    return {
        named(bound): (one.other / FIRST_LOSS, one.ordinary / FIRST_LOSS)
        for bound, one in found.items()
    }


QUESTIONS = {
    "share": share,
    "rise": rise,
    "train": train,
    "schedule": schedule,
    "schedule_end": schedule_end,
    "schedule_weighed": schedule_weighed,
}


def settings(workers, seeds):
    """What is to be run: keys of the file, a seed after another."""
    for seed in range(seeds):
        for p in workers:
            for case, period in itertools.product(simulation.SPEEDS, (1, 10)):
                yield "share", case, p, "any", period, seed
            for case in ("stopped", "cut_off"):
                for method, period in RATED:
                    if (case, method) == ("cut_off", "gradients"):
                        continue  # It has none that is newer.
                    yield "rise", case, p, method, period, seed
            for case in (*simulation.SPEEDS, AWAY):
                for method, period in RATED:
                    if p * period <= LARGEST_TRAINED:
                        yield "train", case, p, method, period, seed
    for seed in range(SCHEDULES if seeds > 1 else QUICK_SCHEDULES):
        found = _schedules.schedule(seed)
        way = found.way
        of = (found.speeds, found.p, way.name, way.period, seed)
        yield "schedule", *of
        yield "schedule_end", *of
        yield "schedule_weighed", *of


class Results(_report.Rows):
    """Rows of FIELDS, in a file if one is named.

    Args:
        path: of the file; empty for none.
    """

    def __init__(self, path):
        super().__init__(path, FIELDS, KEY)

    def found(self, key, found):
        """Keeps what a question has led to, {at: (value, also)}."""
        self.add(
            dict(zip(FIELDS, (*key, at, *pair), strict=True))
            for at, pair in found.items()
        )

    def over_seeds(
        self, question, group, field="value", take=statistics.median
    ):
        """{the fields of `group`: what `take` makes of all seeds}."""
        of = {}
        for row in self.rows:
            if row["question"] == question:
                key = tuple(row[name] for name in group)
                of.setdefault(key, []).append(float(row[field]))
        return {key: take(values) for key, values in of.items()}

    def worst(self, question, group, field="value", take=statistics.median):
        """Of those of all settings the largest, {the fields of `group`: it}."""
        found = {}
        for key, value in self.over_seeds(question, ROW, field, take).items():
            at = dict(zip(ROW, key, strict=True))
            short = tuple(at[name] for name in group)
            found[short] = max(value, found.get(short, -math.inf))
        return found


def table(title, names, cells, columns, form):
    """Prints {(row..., column): number} as a table; `names` of the row."""
    print(f"\n{title}\n")
    rows = list(dict.fromkeys(key[:-1] for key in cells))
    print(f"| {', '.join(names)} | {' | '.join(columns)} |")
    print("|---" * (len(columns) + 1) + "|")
    for row in rows:
        numbers = [
            format(cells[key], form) if key in cells else ""
            for key in ((*row, c) for c in columns)
        ]
        print(f"| {', '.join(row)} | {' | '.join(numbers)} |")


def let_in(results):
    """{(*LET_IN, bound): the largest rise up to a lag of the bound}."""
    found = {}
    for (*row, lag), value in results.worst("rise", (*LET_IN, "at")).items():
        for bound in BOUNDS:
            if bound is None or float(lag) <= bound:
                key = *row, named(bound)
                found[key] = max(value, found.get(key, 0.0))
    return found


def least_bound(results):
    """The least that leaves out little enough: see the top; None for none."""
    shares = results.worst("share", ("case", "at"), take=max)

    def suffices(bound):
        at = named(bound)
        return shares["heavy_tailed", at] < HEAVY_TAILED_SHARE and all(
            shares[case, at] < UNEVEN_SHARE for case in UNEVEN
        )

    return next(filter(suffices, sorted(filter(None, BOUNDS))), None)


def of_schedules(results):
    """{(what is told, bound): number} of all schedules."""

    def by_bound(question, field):
        found = {}
        for row in results.rows:
            if row["question"] == question:
                found.setdefault(row["at"], []).append(float(row[field]))
        return found

    other = by_bound("schedule", "value")
    ordinary = by_bound("schedule", "also")
    weighed = by_bound("schedule_weighed", "value")
    beside = by_bound("schedule_weighed", "also")
    ends = by_bound("schedule_end", "value")
    shares = by_bound("schedule_end", "also")
    told = {}
    for at, rises in other.items():
        pairs = zip(rises, ordinary[at], strict=True)
        told["above the ordinary", at] = sum(a > b for a, b in pairs)
        pairs = zip(weighed[at], beside[at], strict=True)
        told["the same, weighed", at] = sum(a > b for a, b in pairs)
        told["that many by chance", at] = sum(shares[at])
        told["largest other rise", at] = max(rises)
        told["largest ordinary rise", at] = max(ordinary[at])
        told["loss at the end, median", at] = statistics.median(ends[at])
        told["loss at the end, mean", at] = statistics.mean(ends[at])
    return dict(sorted(told.items(), key=lambda item: ORDER.index(item[0][0])))


ORDER = (
    "above the ordinary",
    "the same, weighed",
    "that many by chance",
    "largest other rise",
    "largest ordinary rise",
    "loss at the end, median",
    "loss at the end, mean",
)


def report(results):
    bounds = [named(bound) for bound in BOUNDS]
    lags = [f"{lag:g}" for lag in LAGS]
    table(
        "Share of exchanges that is left out, the worst of all workers, "
        "periods and seeds, by max_lag",
        ["case"],
        results.worst("share", ("case", "at"), take=max),
        bounds,
        ".3%",
    )
    table(
        "The largest lag there was (no bound), by workers",
        ["case"],
        results.worst("share", ("case", "workers"), "also", max),
        list(dict.fromkeys(row["workers"] for row in results.rows)),
        ".1f",
    )
    table(
        "Rise of the center's loss if one of that lag were let in",
        ROW[:-1],
        results.over_seeds("rise", ROW),
        lags,
        ".4f",
    )
    table(
        "The largest of these up to a lag of max_lag, the worst of all periods",
        LET_IN,
        let_in(results),
        bounds,
        ".3f",
    )
    table(
        "The center's loss at the end, by max_lag",
        ROW[:-1],
        results.over_seeds("train", ROW),
        bounds,
        ".4f",
    )
    table(
        "The largest rise at an arrival, the worst of all, by max_lag",
        ["case", "method"],
        results.worst("train", ("case", "method", "at"), "also"),
        bounds,
        ".3f",
    )
    seeds = {
        row["seed"] for row in results.rows if row["question"] == "schedule"
    }
    table(
        f"{len(seeds)} schedules: in how many an update of a worker with more "
        "lag than is ordinary raises the loss by more than any ordinary one, "
        "and rises in parts of the first loss",
        ["what"],
        of_schedules(results),
        bounds,
        ".3f",
    )
    print(
        "\nThe least max_lag that leaves out little enough: "
        f"{named(least_bound(results))}. The default: "
        f"{named(lateness.DEFAULT_MAX_LAG)}."
    )


def main():
    args = _report.parse_args(
        __doc__, csv="", seeds=3, workers="2,4,16,64", quick=False
    )
    workers = [int(p) for p in args.workers.split(",")]
    if args.quick:
        args.seeds, workers = 1, [2]
    results = Results(args.csv)
    begin = time.process_time()
    for key in settings(workers, args.seeds):
        if not results.has(key):
            question, *setting = key
            results.found(key, QUESTIONS[question](*setting))
    report(results)
    print(f"\n{time.process_time() - begin:.0f} s of one core")
    _report.write(args, {"rows": results.rows})


if __name__ == "__main__":
    main()
