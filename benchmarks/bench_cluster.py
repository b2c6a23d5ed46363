"""Throughput of two workers with one core each, on CIFAR-10.

    python benchmarks/bench_cluster.py --data_dir=DIR [--batch_size=128]
        [--others=0] [--json=PATH]

The thesis' network, EAMSGD with period 10: with no exchange at all,
overlapped, blocking, and under `MultiWorkerMirroredStrategy`. Steps after a
warm-up, in turns; each ratio is of turns side by side. With `--others=2` two
other programs want the second worker's core, too, so that it is slower.
"""

import functools
import os
import sys

import _crew
import _report
import _training

import tf_elastic as te

WAYS = {
    _training.NO_EXCHANGE: {"period": None},
    "overlapped": {"protocol": "overlapped"},
    "blocking": {"protocol": "blocking"},
}


def make_data(data_dir):
    """A function that makes a worker's data set."""

    @functools.cache  # The images are decoded once.
    def make(batch_size, seed):
        return te.data.load(
            "cifar10",
            "train",
            batch_size=batch_size,
            data_dir=data_dir,
            seed=seed,
            steps_per_epoch=1_000_000,
        ).repeat()

    return make


def parse_args():
    return _report.parse_args(
        __doc__,
        data_dir="",
        batch_size=128,
        centers=1,
        others=0,
        rounds=9,
        steps=30,
        mirrored_steps=15,
    )


def main():
    args = parse_args()
    cores = sorted(os.sched_getaffinity(0))
    hosts = [{"cores": (cores[i % len(cores)],)} for i in range(2)]
    command = [sys.executable, __file__, "--worker"]
    command.append(f"--batch_size={args.batch_size}")
    if args.data_dir:
        command.append(f"--data_dir={args.data_dir}")
    with _crew.Crew() as crew:
        for k in range(args.others):
            busy = [sys.executable, "-c", "while True: pass"]
            crew.start(f"other program {k}", busy, **hosts[1])
        bench = _training.Bench(crew, command, hosts, ["127.0.0.1"] * 2)
        for way, options in WAYS.items():
            bench.add_elastic(way, args.centers, **options)
        bench.add_mirrored()
        turns = {way: (_training.PERIOD, args.steps) for way in WAYS}
        turns[_training.MIRRORED] = (2, args.mirrored_steps)
        results = bench.measure(turns, args.rounds)
        told = {way: bench.told(way) for way in WAYS}
    ratios = {}
    for way in turns:
        ratios[way] = _training.compare(results, way, _training.NO_EXCHANGE)
        rate = _training.middle(results, way, "steps_per_s")
        cpu_ms = 1e3 * _training.middle(results, way, "cpu_s")
        print(
            f"{way:20} {2e3 / rate:6.1f} ms/step, {cpu_ms:6.1f} ms of "
            "processor time; throughput / no exchange: "
            "%.3f (%.3f to %.3f)" % ratios[way]
        )
    for way in ("overlapped", "blocking"):
        waits = [worker["wait_ms"] for worker in told[way]]
        print(f"{way:20} waits {max(waits):.1f} ms for an exchange")
    speedup = _training.compare(results, "overlapped", _training.MIRRORED)
    print("overlapped / MultiWorkerMirrored: %.2f (%.2f to %.2f)" % speedup)
    _report.write(
        args,
        {
            "batch_size": args.batch_size,
            "others": args.others,
            "turns": results,
            "exchanges": told,
            "over_no_exchange": ratios,
            "overlapped_over_mirrored": speedup,
        },
    )


if __name__ == "__main__":
    if _training.is_worker():
        options = parse_args()
        _training.Trainer(
            te.models.cifar_convnet,
            make_data(options.data_dir or None),
            options.batch_size,
        ).run()
    else:
        _crew.enter_private_network()
        main()
