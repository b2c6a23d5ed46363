"""What a worker's step costs in a virtual cluster, against one worker's alone.

    python benchmarks/bench_virtual.py [--steps=24] [--repeats=9] [--json=PATH]

The thesis' CIFAR network, EAMSGD, on one device. Alone is one worker of
`ElasticMirroredStrategy`, which exchanges as often. The workers of the virtual
cluster have lognormal steps and a latency, so that what is sent is under way
while others train. All are measured in turns, a few steps of each at a time, by
the processor's seconds. Then the memory that variables have, by p, and what
weights, velocity and mail account for.
"""

import gc
import itertools
import pathlib
import resource
import statistics
import subprocess
import sys
import time

import _report
import keras
import numpy as np
import tensorflow as tf

import tf_elastic as te
from tf_elastic.timeline.virtual.durations import LogNormal
from tf_elastic.timeline.virtual.timing import Timing

NUM_WORKERS = (4, 16, 64)
# Batch size, tau, protocol.
SETTINGS = (
    (128, 10, "overlapped"),
    (16, 1, "overlapped"),
    (16, 1, "blocking"),
)


def strategy_of(p, protocol):
    if p == 1:
        order = "round_robin"
        return te.strategies.ElasticMirroredStrategy(["CPU:0"], order=order)
    timing = Timing(step=LogNormal(0.1, 0.2), latency=0.03)
    return te.strategies.VirtualClusterStrategy(
        p, timing=timing, protocol=protocol, device="CPU:0"
    )


def trainer(p, batch_size, period, protocol, steps):
    """A function that returns the seconds of a step, of a few of them."""
    rng = np.random.default_rng(0)
    images = rng.normal(size=(batch_size, 28, 28, 3)).astype(np.float32)
    labels = rng.integers(0, 10, batch_size)
    strategy = strategy_of(p, protocol)
    with strategy.scope():
        keras.utils.set_random_seed(0)
        model = te.models.cifar_convnet()
        model.compile(
            te.optimizers.EAMSGD(0.001, communication_period=period),
            loss="sparse_categorical_crossentropy",
        )
    data = tf.data.Dataset.from_tensors((images, labels)).repeat()
    model.fit(data, steps_per_epoch=2 * p, verbose=0)
    step = model.make_train_function()
    batches = iter(strategy.experimental_distribute_dataset(data))

    def seconds():
        start = time.process_time()
        for _ in range(steps):
            step(batches)
        model.optimizer.iterations.numpy()
        return (time.process_time() - start) / steps

    seconds.held = model
    return seconds


def memory_of(p):
    """Bytes that the process has more by a model of p workers, and expected."""
    trainer(1, 16, 1, "overlapped", 1)()  # What TensorFlow needs anyway.
    gc.collect()
    before = resident()
    run = trainer(p, 16, 1, "overlapped", 4)
    run()
    gc.collect()
    size = sum(w.numpy().nbytes for w in run.held.weights)
    # The center; of each its weights, velocity and mail.
    return resident() - before, (1 + 3 * p) * size


def resident():
    """Bytes of memory that this process has now."""
    pages = int(pathlib.Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize()


def main():
    args = _report.parse_args(__doc__, steps=24, repeats=9, memory_of=0)
    if args.memory_of:
        print(*memory_of(args.memory_of))
        return
    found, ratios = {}, []
    for batch_size, period, protocol in SETTINGS:
        print(f"batch {batch_size}, tau {period}, {protocol}")
        seconds = _report.in_turns(
            {
                p: trainer(p, batch_size, period, protocol, args.steps)
                for p in (1, *NUM_WORKERS)
            },
            args.repeats,
        )
        for p, times in seconds.items():
            of_one = _report.ratios(times, seconds[1])
            print(
                f"  p={p:3} {1e3 * statistics.median(times):7.2f} ms a step, "
                "%.3f of one worker alone (%.2f to %.2f)" % of_one
            )
            if p > 1:
                ratios.append(
                    _report.Ratio(
                        f"a step of a virtual worker of {p} to one alone, "
                        f"batch {batch_size}, tau {period}, {protocol}",
                        of_one,
                        goal=1.05 if batch_size == 128 else 1.15,
                    )
                )
        found[f"{batch_size}/{period}/{protocol}"] = seconds
    memory = {}
    for p in NUM_WORKERS:
        command = [sys.executable, __file__, f"--memory_of={p}"]
        out = subprocess.run(command, capture_output=True, check=True).stdout
        memory[p] = [float(each) for each in out.split()]
    for before, p in itertools.pairwise(memory):
        grown, expected = np.subtract(memory[p], memory[before]) / 1e6
        print(
            f"from p={before} to {p}: {grown:.0f} MB more; weights, velocity "
            f"and mail are {expected:.0f} MB"
        )
    _report.write(args, {"seconds": found, "memory": memory}, ratios)


if __name__ == "__main__":
    main()
