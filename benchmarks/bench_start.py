"""Start of a local cluster, until every worker has taken its first step.

    python benchmarks/bench_start.py [--cores=2] [--json=PATH]

One center server and the workers, all on two cores, with the thesis' network
for CIFAR-10 and `fit`; the time of each part is that of the slowest worker.
Each cluster with `preload`, as `train.py` starts it, and with imports of each
worker's own, in turns, beside one worker alone. A ratio is to that: it is what
imports and one tracing take.
"""

import time

_AWAKE = time.monotonic()  # One clock for all processes.

# ruff: noqa: E402
import json
import os
import pathlib
import sys
import tempfile

PARTS = (
    "centers",
    "process",
    "imports",
    "strategy",
    "model",
    "data",
    "joining",
    "tracing and first step",
)
ALONE = (1, False)
CLUSTERS = [  # workers, and whether they are forked
    *(ALONE, (3, True), (3, False), (4, True), (4, False)),
]
DEADLINE_S = 180.0


def work(folder):
    """What a worker does; it writes when it had done what."""
    import keras
    import numpy as np
    import tensorflow as tf

    import tf_elastic as te
    from tf_elastic.cluster.worker.client import CenterClient

    ends = {"process": _AWAKE}
    # Named here, since submodules are imported when they are.
    strategies, models, optimizers = te.strategies, te.models, te.optimizers
    ends["imports"] = time.monotonic()
    strategy = strategies.ElasticMultiWorkerStrategy()
    ends["strategy"] = time.monotonic()
    with strategy.scope():
        model = models.cifar_convnet()
        model.compile(
            optimizers.EAMSGD(0.005, momentum=0.9, communication_period=10),
            loss="sparse_categorical_crossentropy",
            metrics=["accuracy"],
        )
    ends["model"] = time.monotonic()
    numbers = np.random.default_rng(0)
    images = numbers.random((128, 28, 28, 3), "float32")
    labels = numbers.integers(10, size=128)
    data = tf.data.Dataset.from_tensors((images, labels)).repeat()
    ends["data"] = time.monotonic()
    join = CenterClient.join

    def timed_join(*args):
        begin = time.monotonic()
        result = join(*args)
        ends["joining"] = ends["data"] + time.monotonic() - begin
        return result

    CenterClient.join = timed_join
    note = keras.callbacks.LambdaCallback(
        on_train_batch_end=lambda batch, logs: ends.setdefault(
            "tracing and first step", time.monotonic()
        )
    )
    model.fit(data, steps_per_epoch=1, verbose=0, callbacks=[note])
    path = pathlib.Path(folder) / f"ends-{strategy.worker_index}.json"
    path.write_text(json.dumps(ends), "utf-8")


def start(num_workers, is_forked):
    """Seconds of each part of a start, and of all of it."""
    from tf_elastic.cluster.launch.local import LocalCluster
    from tf_elastic.program import launching

    with tempfile.TemporaryDirectory() as folder:
        begin = time.monotonic()
        with (
            open(os.devnull, "w", encoding="utf-8") as nowhere,
            LocalCluster(
                [sys.executable, __file__, f"--worker={folder}"],
                num_workers,
                1,
                folder,
                env={"TF_CPP_MIN_LOG_LEVEL": "2"},
                output=nowhere,
                preload=launching.IMPORTED if is_forked else (),
            ) as cluster,
        ):
            spawned = {
                p.index: p.started_s[0] for p in cluster.processes("worker")
            }
            if cluster.wait(DEADLINE_S) != 0:
                sys.exit(cluster.process("worker", 0).last_lines())
        workers = [
            json.loads((pathlib.Path(folder) / f"ends-{k}.json").read_text())
            for k in range(num_workers)
        ]
    for index, ends in enumerate(workers):
        ends["centers"] = begin + spawned[index]
    slowest = max(workers, key=lambda ends: ends[PARTS[-1]])
    before = [begin, *(slowest[part] for part in PARTS)]
    parts = {
        part: slowest[part] - earlier
        for part, earlier in zip(PARTS, before, strict=False)
    }
    return {**parts, "all": slowest[PARTS[-1]] - begin}


def main():
    import _report

    args = _report.parse_args(__doc__, cores=2, repeats=3)
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: args.cores])
    result = {"cores_used": args.cores}
    runs = {cluster: [] for cluster in CLUSTERS}
    for _ in range(args.repeats):
        for cluster, found in runs.items():
            found.append(start(*cluster))
    ratios = []
    for (num_workers, is_forked), found in runs.items():
        middle, least, most = _report.ratios(
            [run["all"] for run in found], [run["all"] for run in runs[ALONE]]
        )
        name = f"{num_workers} workers, {'forked' if is_forked else 'each'}"
        median = sorted(found, key=lambda run: run["all"])[len(found) // 2]
        print(
            f"{name}: {median['all']:.1f} s, "
            f"{middle:.2f} ({least:.2f} to {most:.2f}) of one worker alone"
        )
        for part in PARTS:
            print(f"  {part:22} {median[part]:5.1f} s")
        result[name] = found
        if num_workers > 1:
            ratios.append(
                _report.Ratio(
                    f"start of {name}, to that of one worker",
                    (middle, least, most),
                    goal=1.1 if (num_workers, is_forked) == (4, True) else None,
                )
            )
    _report.write(args, result, ratios)


if __name__ == "__main__":
    workers = [a for a in sys.argv if a.startswith("--worker=")]
    if workers:
        work(workers[0].partition("=")[2])
    else:
        main()
