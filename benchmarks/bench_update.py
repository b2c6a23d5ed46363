"""The fused update against stock Keras', and against the copy bandwidth.

    python benchmarks/bench_update.py [--parameters=20000000] [--json=PATH]

Nesterov's step reads parameters, velocity and gradient and writes parameters
and velocity: five streams of the parameters' size. A copy has two.
"""

import statistics
import threading
import time

import _report
import keras
import numpy as np
import tensorflow as tf

from tf_elastic import optimizers
from tf_elastic import strategies

STREAMS = 5
LAYERS = 8


def updater(optimizer, strategy, parameters):
    """A function that runs one update and returns its seconds."""
    size = parameters // LAYERS
    with strategy.scope():
        optimizer = optimizer()
        variables = [
            keras.Variable(np.ones(size, "float32")) for _ in range(LAYERS)
        ]
        optimizer.build(variables)
    gradients = [tf.fill([size], 1e-3) for _ in range(LAYERS)]

    @tf.function
    def update(*gradients):
        strategy.run(lambda: optimizer.apply(list(gradients), variables))

    def timed():
        start = time.perf_counter()
        update(*gradients)
        return time.perf_counter() - start

    return timed


def copier(parameters, num_threads=2):
    """A function that copies the parameters and returns its seconds."""
    sources = np.array_split(np.ones(parameters, "float32"), num_threads)
    targets = [np.empty_like(source) for source in sources]

    def timed():
        threads = [
            threading.Thread(target=np.copyto, args=pair)
            for pair in zip(targets, sources, strict=True)
        ]
        start = time.perf_counter()
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return time.perf_counter() - start

    return timed


def main():
    args = _report.parse_args(__doc__, parameters=20_000_000, repeats=25)
    # No exchange falls due among the measured steps: see bench_fit_step.py.
    seconds = _report.in_turns(
        {
            "fused": updater(
                lambda: optimizers.EAMSGD(
                    0.01, momentum=0.9, communication_period=None
                ),
                strategies.ElasticMirroredStrategy(["CPU:0"]),
                args.parameters,
            ),
            "stock": updater(
                lambda: keras.optimizers.SGD(0.01, 0.9, nesterov=True),
                tf.distribute.get_strategy(),
                args.parameters,
            ),
            "copy": copier(args.parameters),
        },
        args.repeats,
    )
    size = 4 * args.parameters
    moved = {"fused": STREAMS * size, "stock": STREAMS * size, "copy": 2 * size}
    for name, times in seconds.items():
        median = statistics.median(times)
        print(
            f"{name:6} {1e3 * median:7.2f} ms "
            f"({1e3 * min(times):.2f} to {1e3 * max(times):.2f}), "
            f"{moved[name] / median / 1e9:6.1f} GB/s"
        )
    speedup = _report.ratios(seconds["stock"], seconds["fused"])
    share = [
        x * STREAMS / 2
        for x in _report.ratios(seconds["copy"], seconds["fused"])
    ]
    print("stock / fused: %.2f (%.2f to %.2f)" % speedup)
    print("share of copy bandwidth: %.2f (%.2f to %.2f)" % tuple(share))
    _report.write(
        args,
        {
            "seconds": seconds,
            "parameters": args.parameters,
            "stock_over_fused": speedup[0],
            "share_of_copy_bandwidth": share[0],
        },
        [
            _report.Ratio(
                "stock SGD(nesterov=True)'s update to the fused one, time",
                speedup,
            ),
            _report.Ratio(
                "the fused update's share of the copy bandwidth",
                tuple(share),
                goal=0.85,
                at_least=True,
            ),
        ],
    )


if __name__ == "__main__":
    main()
