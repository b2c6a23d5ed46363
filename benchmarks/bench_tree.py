"""A star and trees of 256 virtual workers behind one slow link: hours.

    nice python benchmarks/bench_tree.py --csv=PATH [--workers=256]
        [--steps=150] [--rates=0.3,0.1] [--seeds=1] [--only=REGEX]
        [--seconds=3600]
    python benchmarks/bench_tree.py --csv=PATH --report [--plot=PATH]

Trains a small network on the digits, batches of 16, in virtual time: by EASGD,
and by hierarchical local SGD (arXiv 1808.07217) and HALoS (arXiv 2506.04531);
local steps of 0.1 s (lognormal, sigma 0.2), inner nodes and workers behind 10
Gbit/s, the root behind 1 Gbit/s. The links are as much slower as the network is
smaller than the thesis' for CIFAR, whose message has 1.41 MB: a message takes
as long as that one would. Trees have degree 16. Each whole run of --steps local
steps of each worker is appended to PATH, with looks at the root, and what is
there is not done again.

The report: virtual seconds to levels of the root's test error, mean and range
over seeds, the best of the learning rates for each way, and bytes a second
through the root's link.

HALoS has its authors' numbers, of which the delays are in proportion to the
children of a server: a global server of 16 regions, not of 4, regions of 16
workers, not of 4.
"""

import collections
import re
import time

import _report
import keras
import numpy as np
import tensorflow as tf

import tf_elastic as te
from tf_elastic.data import sources
from tf_elastic.timeline import virtual

MESSAGE = 1.41e6  # bytes, of the thesis' network for CIFAR
LEVELS = (0.5, 0.3, 0.2, 0.15, 0.1, 0.08)
LOOKS = 30
DEGREE = 16
BATCH = 16
FIELDS = (
    *("way", "workers", "rate", "seed", "steps", "seconds", "local_steps"),
    *("root_bytes", "error", "loss"),
)
KEY = FIELDS[:5]
# What the strategy and the optimizer get, in the order of what they tell.
STAR = "star"
WAYS = {
    "star 10": {"period": 10},
    "up_down 8/80": {"scheme": "up_down", "periods": (8, 80)},
    "multi_scale 1/10": {"scheme": "multi_scale", "periods": (1, 10)},
    "star 58": {"period": 58},
    "up_down 1/10": {"scheme": "up_down", "periods": (1, 10)},
    "multi_scale 10/100": {"scheme": "multi_scale", "periods": (10, 100)},
    "answered 1/10": {"scheme": "answered", "periods": (1, 10)},
    "star 233": {"period": 233},
    "local SGD 1/4": {"scheme": "synchronous", "periods": (1, 4)},
    "HALoS 1/120": {"scheme": "accumulated", "periods": (1, 120)},
    "HALoS 8/16": {"scheme": "accumulated", "periods": (8, 16)},
}


def network():
    return keras.Sequential(
        [
            keras.layers.Input((8, 8, 1)),
            keras.layers.Flatten(),
            keras.layers.Dense(32, activation="relu"),
            keras.layers.Dense(10),
        ]
    )


def optimizer(way, rate, period):
    sgd = keras.optimizers.SGD(rate)
    if way.startswith("local SGD"):
        return te.optimizers.LocalSGD(sgd, communication_period=period)
    if way.startswith("HALoS"):
        return te.optimizers.HALoS(
            sgd,
            momentum_delay=DEGREE // 2,
            regional_delay=4 * DEGREE,
            communication_period=period,
        )
    return te.optimizers.EASGD(rate, communication_period=period)


def digits():
    """((train images, labels), (test images, labels))."""
    read = map(sources.read_digits, ("train", "test"))
    return [(tf.cast(s.images, tf.float32) / 16, s.labels) for s in read]


def timing_of(size):
    """Links on which a message takes as long as that of the thesis."""
    gbit = 125e6 * size / MESSAGE
    return virtual.Timing(
        step=virtual.LogNormal(0.1, 0.2),
        latency=0.0005,
        bandwidth=10 * gbit,
        node_bandwidth=10 * gbit,
        center_bandwidth=gbit,
    )


def run(way, p, rate, seed, steps, data):
    """Rows of a whole run."""
    given = dict(WAYS[way])
    period = given.pop("period", 10)
    if not way.startswith(STAR):
        given["topology"] = str(DEGREE)
    keras.utils.set_random_seed(seed)
    size = 4 * network().count_params()
    strategy = te.strategies.VirtualClusterStrategy(
        p, timing=timing_of(size), seed=seed, device="CPU:0", **given
    )
    with strategy.scope():
        model = network()
        model.compile(
            optimizer(way, rate, period),
            loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
            metrics=["accuracy"],
            steps_per_execution=32,
        )
    (x, y), test = data
    rng = np.random.default_rng(seed)
    per_look = p * steps // LOOKS // 32 * 32
    rows = []
    for _ in range(LOOKS):
        chosen = rng.integers(0, len(x), (per_look, BATCH))
        batches = tf.data.Dataset.from_tensor_slices(chosen).map(
            lambda rows: (tf.gather(x, rows), tf.gather(y, rows))
        )
        model.fit(batches, verbose=0)
        loss, accuracy = model.evaluate(*test, batch_size=360, verbose=0)
        rows.append(
            {
                "way": way,
                "workers": p,
                "rate": rate,
                "seed": seed,
                "steps": steps,
                "seconds": strategy.virtual_seconds,
                "local_steps": strategy.local_steps,
                "root_bytes": strategy.totals.bytes_by_level[0],
                "error": 1 - accuracy,
                "loss": loss,
            }
        )
    return rows


def train(args, kept):
    data = digits()
    begin = time.monotonic()
    for seed in range(args.seeds):
        for rate in map(float, args.rates.split(",")):
            for way in WAYS:
                key = way, args.workers, rate, seed, args.steps
                if kept.has(key) or not re.fullmatch(args.only or ".*", way):
                    continue
                if time.monotonic() - begin > args.seconds:
                    return
                rows = run(*key, data)
                kept.add(rows)
                last = rows[-1]
                print(
                    f"{way:18} rate {rate:g}: error {last['error']:.1%} after "
                    f"{last['seconds']:.1f} s",
                    flush=True,
                )


def curves(kept):
    """{way: {rate: rows, of all seeds}}."""
    found = collections.defaultdict(lambda: collections.defaultdict(list))
    for row in kept.rows:
        found[row["way"]][float(row["rate"])].append(
            {name: float(row[name]) for name in FIELDS[3:]}
        )
    return found


def by_seed(rows):
    """The rows of each seed."""
    found = collections.defaultdict(list)
    for row in rows:
        found[row["seed"]].append(row)
    return [found[seed] for seed in sorted(found)]


def times_to(rows, level):
    """The first time of each seed that gets there."""
    found = [
        [row["seconds"] for row in own if row["error"] <= level]
        for own in by_seed(rows)
    ]
    return [min(own) for own in found if own]


def time_to(rows, level):
    """The mean over seeds of the first time; None if one has none."""
    times = times_to(rows, level)
    if len(times) < len(by_seed(rows)):
        return None
    return sum(times) / len(times)


def spread(values, count, digits=1):
    """Mean and range over seeds; how many, if not all got there."""
    if len(values) < count:
        return f"{len(values)} of {count}" if values else "-"
    mean = f"{sum(values) / count:.{digits}f}"
    if count == 1:
        return mean
    return f"{mean} ({min(values):.{digits}f} to {max(values):.{digits}f})"


def best_rate(of_rates):
    """The one that is soonest at the hardest level that any reaches."""
    for level in sorted(LEVELS):
        times = {rate: time_to(rows, level) for rate, rows in of_rates.items()}
        times = {rate: t for rate, t in times.items() if t is not None}
        if times:
            return min(times, key=times.get)
    return min(of_rates)


def report(args, kept):
    levels = " | ".join(f"{level:.0%}" for level in LEVELS)
    print(
        "| way | rate | seeds | root's link, MB/s | smallest error, % | "
        f"{levels} |"
    )
    print("|---" * (5 + len(LEVELS)) + "|")
    found = curves(kept)
    chosen = {}
    for way, of_rates in sorted(
        found.items(), key=lambda it: list(WAYS).index(it[0])
    ):
        rate = best_rate(of_rates)
        rows = chosen[way] = of_rates[rate]
        size = 4 * network().count_params()
        last = max(rows, key=lambda row: row["seconds"])
        traffic = last["root_bytes"] / last["seconds"]
        traffic *= MESSAGE / size / 1e6
        seeds = by_seed(rows)
        smallest = [100 * min(r["error"] for r in own) for own in seeds]
        texts = [spread(times_to(rows, level), len(seeds)) for level in LEVELS]
        print(
            f"| {way} | {rate:g} | {len(seeds)} | {traffic:.0f} | "
            f"{spread(smallest, len(seeds))} | {' | '.join(texts)} |"
        )
    if args.plot:
        plot(args.plot, chosen)


def plot(path, chosen):
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(7, 4.5), layout="constrained")
    for way, rows in chosen.items():
        own = [row for row in rows if row["seed"] == 0]
        axes.plot(
            [row["seconds"] for row in own],
            [100 * row["error"] for row in own],
            label=way,
            linestyle="--" if way.startswith(STAR) else "-",
        )
    axes.set(
        xlabel="virtual seconds",
        ylabel="test error of the root, %",
        yscale="log",
        xscale="log",
    )
    axes.grid(True, which="both", alpha=0.3)
    axes.legend(fontsize="small")
    figure.savefig(path, dpi=120)


def main():
    args = _report.parse_args(
        __doc__,
        csv="tree.csv",
        workers=256,
        steps=150,
        rates="0.3,0.1",
        seeds=1,
        only="",
        seconds=3600.0,
        report=False,
        plot="",
    )
    kept = _report.Rows(args.csv, FIELDS, KEY)
    if not args.report:
        train(args, kept)
    report(args, kept)
    _report.write(args, {"rows": kept.rows})


if __name__ == "__main__":
    main()
