"""Two hosts and a slow network between them, for real.

    make bench-network ARGS="--json=PATH"

Two network namespaces joined by a veth pair, whose ends `tc` limits; a worker
with one core in each, the center in the first. A network of 15 M parameters
(60 MB) is trained with EAMSGD, period 10. Needs root and iproute2.
"""

import os
import subprocess
import sys

import _crew
import _network
import _report
import _training
import keras
import numpy as np
import tensorflow as tf

INPUTS = 8192
UNITS = 1536
CLASSES = 10
RATES = ("1gbit", "100mbit")
WAYS = {
    _training.NO_EXCHANGE: {"period": None},
    "overlapped": {"protocol": "overlapped"},
    "overlapped, bfloat16": {"compression": "bfloat16"},
    "overlapped, int8": {"compression": "int8"},
}


def make_model():
    """15 M parameters, most of them in the first layer."""
    return keras.Sequential(
        [
            keras.Input((INPUTS,)),
            keras.layers.Dense(UNITS, "relu"),
            keras.layers.Dense(UNITS, "relu"),
            keras.layers.Dense(CLASSES, "softmax"),
        ]
    )


def make_data(batch_size, seed):
    """One batch of noise, again and again."""
    numbers = np.random.default_rng(seed)
    x = numbers.normal(size=(batch_size, INPUTS)).astype("float32")
    y = numbers.integers(CLASSES, size=batch_size)
    return tf.data.Dataset.from_tensors((x, y)).cache().repeat()


def lengths(rate):
    """(lead, steps) of a turn of each way."""
    period = _training.PERIOD
    slow = rate == "100mbit"
    return {
        _training.NO_EXCHANGE: (period, 2 * period),
        "overlapped": (period, 2 * period),
        "overlapped, bfloat16": (period, 2 * period),
        "overlapped, int8": (period, 2 * period),
        _training.MIRRORED: (1, 2) if slow else (1, 8),
    }


def measure(args, network):
    """Results for each rate."""
    cores = sorted(os.sched_getaffinity(0))
    hosts = [
        {"cores": (cores[i % len(cores)],), "namespace": name}
        for i, name in enumerate(network.names)
    ]
    command = [sys.executable, __file__, "--worker"]
    command.append(f"--batch_size={args.batch_size}")
    found = {}
    with _crew.Crew() as crew:
        bench = _training.Bench(crew, command, hosts, network.addresses)
        for way, options in WAYS.items():
            bench.add_elastic(way, **options)
        bench.add_mirrored()
        for rate in RATES:
            network.limit(rate)
            rounds = args.rounds if rate == "1gbit" else args.slow_rounds
            if rounds:
                found[rate] = bench.measure(lengths(rate), rounds)
                show(rate, found[rate])
        found["told"] = {way: bench.told(way) for way in WAYS}
    return found


def show(rate, results):
    """Prints the table of one rate."""
    print(f"{rate}: ms/step, throughput / no exchange, / MultiWorkerMirrored")
    for way in results:
        wall_ms = 2e3 / _training.middle(results, way, "steps_per_s")
        against = [
            _training.compare(results, way, to)
            for to in (_training.NO_EXCHANGE, _training.MIRRORED)
        ]
        print(
            f"  {way:20} {wall_ms:7.1f}   "
            + "   ".join("%.2f (%.2f to %.2f)" % ratio for ratio in against),
            flush=True,
        )


def main():
    args = _report.parse_args(__doc__, batch_size=96, rounds=5, slow_rounds=2)
    if _network.is_missing():
        print("skipped: it needs root and iproute2 (ip, tc).")
        return
    try:
        with _network.SlowNetwork() as network:
            network.limit(RATES[0])
            found = measure(args, network)
    except subprocess.CalledProcessError as error:
        print(f"skipped: no such network here: {error}: {error.stderr}")
        return
    _report.write(args, {"batch_size": args.batch_size, "turns": found})


if __name__ == "__main__":
    if _training.is_worker():
        batch_size = _report.parse_args(__doc__, batch_size=96).batch_size
        _training.Trainer(make_model, make_data, batch_size).run()
    else:
        main()
