"""How far a cluster grows: measured here, then in virtual time to p = 1024.

    python benchmarks/bench_scaling.py --folder=DIR [--steps=300]
        [--workers=2] [--batch_size=32] [--plot=PATH] [--json=PATH]

*Measured*: the thesis' network for CIFAR-10, EAMSGD with tau = 10, overlapped,
random images; 1 to --workers real processes with one core each, and a center
server. DIR/measured.csv has each when it is over, and it is not done again.

*Predicted*: a timing that is fitted to the log of the most workers, first for
the numbers of workers that were measured, then, with its steps, for clusters
of a host for each worker, behind links of 1 Gbit/s and of 10, up to p = 1024: a
star, and EASGD Trees ("up_down", tau_u = 10, tau_d = 100) of degree 16 and 32,
of which each node has a link like the center's. Besides a network of the size
of the thesis' for ImageNet, with its steps of 1.29 s. Nothing is trained there.

Of each: local steps a second beside p times those of one worker without
exchange; which part of the time the link of the center, or root, is busy; and
which part of a tree's points is lost, since its queues are full. The link is
full at p = tau s B / 2 m: s seconds of a step, m bytes of a message, B bytes a
second.
"""

import csv
import dataclasses
import os
import pathlib
import sys

import _report

PERIOD = 10
GIGABIT = 117e6  # bytes a second, less headers
WORKERS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)
DEGREES = {64: (8, 2), 256: (16, 2), 1024: (32, 2)}
EXCHANGES = 30  # of each worker, of which the first third is left out
CIFAR_BYTES = 1.41e6
# Of the thesis, for which there is no data here.
IMAGENET_BYTES, IMAGENET_STEP = 244.5e6, 1.29
DEADLINE_S = 600.0
FIELDS = ("workers", "steps_per_s", "wait_share", "mean_staleness")


def work(steps, batch_size):
    """What a worker does."""
    import numpy as np
    import tensorflow as tf

    import tf_elastic as te

    strategy = te.strategies.ElasticMultiWorkerStrategy()
    rng = np.random.default_rng(strategy.worker_index)
    images = rng.random((batch_size, 28, 28, 3), "float32")
    labels = rng.integers(10, size=batch_size)
    data = tf.data.Dataset.from_tensors((images, labels)).repeat()
    with strategy.scope():
        model = te.models.cifar_convnet(seed=0)
        model.compile(
            te.optimizers.EAMSGD(
                0.005, momentum=0.9, communication_period=PERIOD
            ),
            loss="sparse_categorical_crossentropy",
        )
    model.fit(data, steps_per_epoch=steps, verbose=0)


def measure(folder, workers, args):
    """Runs so many processes; the path of their events."""
    from tf_elastic.cluster.launch.local import LocalCluster
    from tf_elastic.program import launching
    from tf_elastic.timeline import event_file

    own = folder / f"{workers}-workers"
    own.mkdir(exist_ok=True)
    log = own / "events.jsonl"
    log.unlink(missing_ok=True)
    command = [sys.executable, os.path.abspath(__file__), "--worker"]
    flags = [f"--steps={args.steps}", f"--batch_size={args.batch_size}"]
    with open(os.devnull, "w", encoding="utf-8") as nowhere:
        cluster = LocalCluster(
            [*command, *flags],
            workers,
            1,
            own / "logs",
            env={
                event_file.VARIABLE: str(log),
                "TF_CPP_MIN_LOG_LEVEL": "2",
                "TF_NUM_INTRAOP_THREADS": "1",
                "TF_NUM_INTEROP_THREADS": "1",
            },
            pin=True,
            output=nowhere,
            preload=launching.IMPORTED,
        )
        if cluster.run(DEADLINE_S):
            raise RuntimeError(f"see the logs in {own / 'logs'}")
    return log


def numbers_of(found):
    """The fields of a log's steady part, but the first."""
    from tf_elastic.timeline.summary import steady
    from tf_elastic.timeline.summary import summary

    made = summary(steady(found))
    return [getattr(made, name) for name in FIELDS[1:]]


def measured(folder, args):
    """{workers: its row}, those that are missing measured first."""
    from tf_elastic.timeline import event_file

    path = folder / "measured.csv"
    rows = _report.Rows(path, FIELDS, FIELDS[:1])
    for workers in range(1, args.workers + 1):
        if not rows.has([workers]):
            log = measure(folder, workers, args)
            found = [workers, *numbers_of(event_file.read(log))]
            rows.add([dict(zip(FIELDS, found, strict=True))])
    with open(path, newline="", encoding="utf-8") as file:
        return {int(row["workers"]): row for row in csv.DictReader(file)}


def fitted(folder, workers):
    """A timing of this machine, with the steps of its mean worker."""
    from tf_elastic.timeline import event_file
    from tf_elastic.timeline.virtual.calibrate import calibrate

    timing = calibrate(
        event_file.read(folder / f"{workers}-workers" / "events.jsonl")
    )
    steps = timing.step if isinstance(timing.step, tuple) else (timing.step,)
    middle = sorted(steps, key=lambda step: step.average)[len(steps) // 2]
    return dataclasses.replace(timing, step=middle)


def rehearsed(timing, workers, steps):
    """The numbers of a virtual run like the real ones."""
    import _rehearsed

    return numbers_of(
        _rehearsed.events(timing, "overlapped", PERIOD, workers, steps)
    )


def grown(step, message, gigabits, workers, tree):
    """Of a cluster that is not there: efficiency, busy link, lost points."""
    from tf_elastic.core import rules
    from tf_elastic.core import topology
    from tf_elastic.timeline.virtual import Timing
    from tf_elastic.timeline.virtual import TreeTimeline
    from tf_elastic.timeline.virtual import VirtualTimeline
    from tf_elastic.timeline.virtual import Workload
    from tf_elastic.timeline.virtual.totals import Totals
    from tf_elastic.timeline.virtual.tree_totals import TreeTotals

    link = gigabits * GIGABIT
    timing = Timing(
        step=step,
        latency=1e-4,
        bandwidth=link,
        node_bandwidth=link,
        center_bandwidth=link,
        service=1e-4,
    )
    load = Workload(
        rules.Elastic(),
        "blocking" if tree else "overlapped",
        PERIOD,
        bytes_up=int(message),
        bytes_down=int(message),
    )
    if tree:
        scheme = topology.up_down(PERIOD, 10 * PERIOD)
        timeline = TreeTimeline(timing, load, topology.tree(*tree, scheme))
        totals = TreeTotals(load, timeline.nodes)
    else:
        timeline = VirtualTimeline(timing, load, workers)
        totals = Totals(load, workers)
    end, begun = EXCHANGES * PERIOD * workers, None
    for move in timeline.moves():
        totals(move)
        if begun is None and totals.steps >= end // 3:
            begun = totals.seconds, totals.steps, totals.bytes_by_level[0]
        if totals.steps >= end:
            break
    seconds = totals.seconds - begun[0]
    rate = (totals.steps - begun[1]) / seconds
    busy = (totals.bytes_by_level[0] - begun[2]) / link / seconds
    lost = 0.0
    if tree:
        points = totals.bytes / message
        lost = (totals.not_sent + totals.not_seen) / (points + totals.not_sent)
    return rate * step.average / workers, min(busy, 1.0), lost


def table(step, message):
    """Rows of all clusters for a network."""
    rows = []
    for gigabits in (1, 10):
        full = PERIOD * step.average * gigabits * GIGABIT / (2 * message)
        print(
            f"  {gigabits} Gbit/s: the center's link is full at p = {full:.0f}"
        )
        shapes = [(p, None) for p in WORKERS]
        shapes += list(DEGREES.items())
        for workers, tree in shapes:
            found = grown(step, message, gigabits, workers, tree)
            kind = f"tree of degree {tree[0]}" if tree else "star"
            rows.append([gigabits, kind, workers, *found, full])
            print(
                f"    p = {workers:4}  {kind:17}  {found[0]:6.1%} of p "
                f"workers, link busy {found[1]:6.1%}, lost {found[2]:6.1%}"
            )
    return rows


def draw(path, seen, here, tables):
    """Speed-up over workers: measured, and predicted."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(1, len(tables), figsize=(13, 5))
    for axis, (name, rows) in zip(axes, tables.items(), strict=True):
        axis.plot(WORKERS, WORKERS, color="gray", lw=0.8, label="ideal")
        for gigabits, color in ((1, "tab:red"), (10, "tab:blue")):
            of = [row for row in rows if row[0] == gigabits]
            for kind, style in (("star", "-"), ("tree", "o")):
                points = [
                    (row[2], row[2] * row[3])
                    for row in of
                    if row[1].startswith(kind)
                ]
                axis.plot(
                    *zip(*points, strict=True),
                    style,
                    color=color,
                    label=f"{kind}, {gigabits} Gbit/s",
                )
            axis.axvline(of[0][-1], color=color, lw=0.8, ls=":")
        if seen:
            axis.plot(*zip(*seen, strict=True), "kx", ms=9, label="measured")
            axis.plot(
                *zip(*here, strict=True), "k+", ms=9, label="fitted, here"
            )
            seen = here = ()
        axis.set_xscale("log", base=2)
        axis.set_yscale("log", base=2)
        axis.set_xlabel("workers")
        axis.set_ylabel("workers' worth of local steps a second")
        axis.set_title(name)
        axis.legend(fontsize="small")
    figure.tight_layout()
    figure.savefig(path, dpi=120)


def main():
    from tf_elastic.timeline.virtual import LogNormal

    args = _report.parse_args(
        __doc__, folder="", steps=300, workers=2, batch_size=32, plot=""
    )
    if not args.folder:
        sys.exit("Give a folder: --folder=DIR.")
    folder = pathlib.Path(args.folder)
    folder.mkdir(parents=True, exist_ok=True)
    rows = measured(folder, args)
    timing = fitted(folder, args.workers)
    alone = float(rows[1]["steps_per_s"])
    print("Here: local steps a second of all, measured and predicted")
    seen, here = [], []
    for workers, row in rows.items():
        predicted = rehearsed(timing, workers, 20 * args.steps)[0]
        real = float(row["steps_per_s"])
        seen.append((workers, real / alone))
        here.append((workers, predicted / alone))
        print(f"  p = {workers}: {real:.2f}, {predicted:.2f}")
    step = LogNormal(timing.step.average, 0.2)
    tables = {}
    for name, of_step, message in (
        (f"CIFAR, {step.average:.2f} s a step", step, CIFAR_BYTES),
        (
            f"ImageNet, {IMAGENET_STEP} s a step",
            LogNormal(IMAGENET_STEP, 0.2),
            IMAGENET_BYTES,
        ),
    ):
        print(name)
        tables[name] = table(of_step, message)
    if args.plot:
        draw(args.plot, seen, here, tables)
    _report.write(args, {"measured": seen, "fitted": here, "tables": tables})


if __name__ == "__main__":
    if "--worker" in sys.argv:
        options = _report.parse_args(__doc__, steps=1, batch_size=1)
        work(options.steps, options.batch_size)
    else:
        main()
