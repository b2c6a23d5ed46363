"""Whether a timing that is fitted to a real run predicts others.

    python benchmarks/bench_calibration.py --folder=DIR [--runs=5]
        [--steps=500] [--minutes=0] [--fitted=0]

Two workers with one core each, their center server, a small network. From the
log of one run, `--fitted`, a timing is fitted; it predicts steps a second, mean
staleness and the share of the time that training waits, of runs with other
periods and protocols, beside as many real runs of each. Twice: from the part of
the run with one way (blocking, tau = 10), and from three (blocking with
tau = 10 and 2, overlapped with tau = 2). Each run is written to DIR/runs.csv
when it is over, and is not done again; with `--minutes` no run is begun after
so many. DIR/predicted.csv is the comparison. In a run all ways come one after
another, in the same processes.
"""

import csv
import json
import os
import pathlib
import shutil
import sys
import time

import _rehearsed
import _report

from tf_elastic.cluster.launch.local import LocalCluster
from tf_elastic.timeline import event as events
from tf_elastic.timeline import event_file
from tf_elastic.timeline.summary import steady
from tf_elastic.timeline.summary import summary
from tf_elastic.timeline.virtual.calibrate import calibrate

WORKERS = 2
WAYS = (
    *(("blocking", 10), ("blocking", 2), ("blocking", 40)),
    *(("overlapped", 2), ("overlapped", 10)),
    *(("synchronous", 2), ("synchronous", 10)),
)
# What a timing is fitted to.
FITTED = {
    "one": (("blocking", 10),),
    "three": (("blocking", 10), ("blocking", 2), ("overlapped", 2)),
}
NUMBERS = ("steps_per_s", "mean_staleness", "wait_share")
DEADLINE_S = 180.0


def work(folder, steps):
    """What a worker does: one way after another, all workers together."""
    import keras
    import numpy as np
    import tensorflow as tf

    import tf_elastic as te

    make_strategy = te.strategies.ElasticMultiWorkerStrategy
    make_optimizer = te.optimizers.EASGD
    times = []
    for number, (protocol, period) in enumerate(WAYS):
        strategy = make_strategy(protocol=protocol)
        rng = np.random.default_rng(strategy.worker_index)
        x = rng.normal(size=(64, 64)).astype("float32")
        y = rng.integers(10, size=64)
        data = tf.data.Dataset.from_tensors((x, y)).repeat()
        with strategy.scope():
            model = keras.Sequential(
                [
                    keras.Input((64,)),
                    keras.layers.Dense(512, activation="relu"),
                    keras.layers.Dense(512, activation="relu"),
                    keras.layers.Dense(10),
                ]
            )
            model.compile(
                make_optimizer(0.01, communication_period=period),
                loss=keras.losses.SparseCategoricalCrossentropy(
                    from_logits=True
                ),
            )
        begin = time.time()
        model.fit(data, steps_per_epoch=steps, verbose=0)
        times.append([protocol, period, begin, time.time()])
        meet(folder, f"{number}-ended", strategy.worker_index)
        strategy.leave()
        meet(folder, f"{number}-left", strategy.worker_index)
    path = folder / f"times-{strategy.worker_index}.json"
    path.write_text(json.dumps(times), "utf-8")


def meet(folder, name, worker):
    """Waits until all workers are here."""
    (folder / f"{name}-{worker}").touch()
    deadline = time.monotonic() + DEADLINE_S
    while len(list(folder.glob(f"{name}-*"))) < WORKERS:
        if time.monotonic() > deadline:
            raise RuntimeError(f"not all workers have come to {name}")
        time.sleep(0.01)


def real(folder, run, steps):
    """A real run of all ways; the events of each, by way.

    Its logs stay in the folder.
    """
    own = folder / f"run-{run}"
    shutil.rmtree(own, ignore_errors=True)  # It was broken off.
    own.mkdir()
    log = own / "events.jsonl"
    command = [sys.executable, __file__, "--worker", f"--folder={own}"]
    with open(os.devnull, "w") as nowhere:
        cluster = LocalCluster(
            [*command, f"--steps={steps}"],
            WORKERS,
            1,
            own / "logs",
            env={
                event_file.VARIABLE: str(log),
                "TF_CPP_MIN_LOG_LEVEL": "2",
                "TF_NUM_INTRAOP_THREADS": "1",
                "TF_NUM_INTEROP_THREADS": "1",
                "CUDA_VISIBLE_DEVICES": "",
            },
            pin=True,
            output=nowhere,
        )
        if cluster.run(DEADLINE_S):
            raise RuntimeError(f"see the logs in {own / 'logs'}")
    return by_way(own)


def by_way(own):
    """The events of a run, by way; each has the center's beginning."""
    found = event_file.read(own / "events.jsonl")
    times = [
        json.loads((own / f"times-{worker}.json").read_text("utf-8"))
        for worker in range(WORKERS)
    ]
    center = [event for event in found if event.kind == events.BEGIN][:1]
    ways = {}
    for told in zip(*times, strict=True):
        begin = max(begin for *_, begin, _ in told)
        end = min(end for *_, end in told)
        ways[told[0][0], told[0][1]] = center + [
            event
            for event in found
            if begin <= event.time <= end and event.kind != events.BEGIN
        ]
    return ways


def predicted(timing, protocol, period, steps):
    """The numbers of a rehearsed run."""
    made = _rehearsed.events(timing, protocol, period, WORKERS, steps)
    return summary(steady(made))


def numbers(found):
    """Of a summary."""
    return [getattr(found, name) for name in NUMBERS]


def read(path):
    """Rows that are there: by protocol, period and run."""
    if not path.exists():
        return {}
    with open(path, newline="", encoding="utf-8") as file:
        return {
            (row["protocol"], int(row["period"]), int(row["run"])): row
            for row in csv.DictReader(file)
        }


def measure(folder, runs, steps, minutes):
    """Does the runs that are not there yet."""
    path, begin = folder / "runs.csv", time.monotonic()
    done = read(path)
    for run in range(runs):
        if all((*way, run) in done for way in WAYS):
            continue
        if minutes and time.monotonic() - begin > 60 * minutes:
            return
        found = real(folder, run, steps)
        with open(path, "a", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            if not file.tell():
                writer.writerow(["protocol", "period", "run", *NUMBERS])
            for way in WAYS:
                if (*way, run) not in done:
                    row = numbers(summary(steady(found[way])))
                    writer.writerow([*way, run, *row])
                    print(*way, run, row, flush=True)


def compare(folder, steps, run):
    """Writes and shows what was predicted beside what was."""
    done, ways = read(folder / "runs.csv"), by_way(folder / f"run-{run}")
    rows = []
    for fit, fitted in FITTED.items():
        timing = calibrate(*(ways[way] for way in fitted))
        print(f"fitted to {fit}: {timing.config()}")
        for way in WAYS:
            # Of a long one: what is to be expected.
            guessed = numbers(predicted(timing, *way, 20 * steps))
            for name, guess in zip(NUMBERS, guessed, strict=True):
                real = sorted(
                    float(row[name])
                    for key, row in done.items()
                    if key[:2] == way
                )
                inside = real[0] <= guess <= real[-1]
                seen = real[0], real[len(real) // 2], real[-1]
                rows.append(
                    [fit, *way, "yes" if way in fitted else "no", name]
                    + [len(real), *seen, guess, "yes" if inside else "no"]
                )
    header = ["fit", "protocol", "period", "fitted", "number", "runs"]
    header += ["least", "middle", "most", "predicted", "inside"]
    path = folder / "predicted.csv"
    with open(path, "w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([header, *rows])
    for row in [header, *rows]:
        cells = (f"{c:.4g}" if isinstance(c, float) else str(c) for c in row)
        print(" ".join(cell.rjust(14) for cell in cells))


def within_others(folder):
    """How many of a real run's numbers are within those of the others."""
    done = read(folder / "runs.csv")
    found = {}
    for (*way, run), row in done.items():
        others = [r for k, r in done.items() if [*k[:2]] == way and k[2] != run]
        for name in NUMBERS:
            values = [float(other[name]) for other in others]
            inside = bool(values) and (
                min(values) <= float(row[name]) <= max(values)
            )
            found[run] = found.get(run, 0) + inside
    return found


def main():
    args = _report.parse_args(
        __doc__, folder="", runs=5, steps=500, minutes=0.0, fitted=0
    )
    if not args.folder:
        sys.exit("Give a folder: --folder=DIR.")
    folder = pathlib.Path(args.folder)
    folder.mkdir(parents=True, exist_ok=True)
    measure(folder, args.runs, args.steps, args.minutes)
    compare(folder, args.steps, args.fitted)
    print("of each real run within the others:", within_others(folder))


if __name__ == "__main__":
    if "--worker" in sys.argv:
        options = _report.parse_args(__doc__, folder="", steps=1)
        work(pathlib.Path(options.folder), options.steps)
    else:
        main()
