"""A `fit` step under ElasticMirroredStrategy against MirroredStrategy's.

    python benchmarks/bench_fit_step.py [--steps=20] [--json=PATH]

The thesis' CIFAR network on random images, 4 logical CPU devices, Nesterov's
momentum; under the elastic strategy with an exchange every 10 steps. Beside
them plain Keras on the same global batch, which is the floor; and one device
with its part of the batch, elastic and plain. All are timed in turns; a ratio
is that of turns side by side.
"""

import statistics
import time

import _report
import keras
import numpy as np
import tensorflow as tf

from tf_elastic import models
from tf_elastic import optimizers
from tf_elastic import strategies

WORKERS = 4


def fitter(strategy, optimizer, args, workers=WORKERS):
    """A function that fits some steps and returns the seconds of one."""
    options = tf.data.Options()
    options.autotune.enabled = False  # or the end of `fit` hangs now and then
    images = np.random.default_rng(0).random(
        (workers * args.batch_size, 28, 28, 3), "float32"
    )
    labels = np.arange(len(images)) % 10
    data = (
        tf.data.Dataset.from_tensors((images, labels))
        .repeat()
        .with_options(options)
    )
    with strategy.scope():
        model = models.cifar_convnet(seed=0)
        model.compile(optimizer(), loss="sparse_categorical_crossentropy")

    class Clock(keras.callbacks.Callback):
        def on_train_batch_begin(self, batch, logs=None):
            if batch == 0:
                self.start = time.perf_counter()

        def on_train_batch_end(self, batch, logs=None):
            self.seconds = (time.perf_counter() - self.start) / (batch + 1)

    clock = Clock()

    def timed():
        model.fit(
            data,
            steps_per_epoch=args.steps,
            verbose=0,
            shuffle=False,
            callbacks=[clock],
        )
        return clock.seconds

    return timed


def main():
    args = _report.parse_args(__doc__, steps=10, batch_size=32, repeats=7)
    tf.config.set_logical_device_configuration(
        tf.config.list_physical_devices("CPU")[0],
        [tf.config.LogicalDeviceConfiguration()] * WORKERS,
    )
    devices = [f"CPU:{i}" for i in range(WORKERS)]
    elastic_on, plain = (
        strategies.ElasticMirroredStrategy,
        tf.distribute.get_strategy(),
    )

    def eamsgd():
        return optimizers.EAMSGD(0.005, communication_period=10)

    def sgd():
        return keras.optimizers.SGD(0.005, 0.99, nesterov=True)

    mirrored = tf.distribute.MirroredStrategy(devices)
    seconds = _report.in_turns(
        {
            "elastic": fitter(elastic_on(devices), eamsgd, args),
            "mirrored": fitter(mirrored, sgd, args),
            "plain": fitter(plain, sgd, args),
            "elastic 1": fitter(elastic_on(devices[:1]), eamsgd, args, 1),
            "plain 1": fitter(plain, sgd, args, 1),
        },
        args.repeats,
    )
    for name, times in seconds.items():
        print(
            f"{name:9} {1e3 * statistics.median(times):7.1f} ms a step "
            f"({1e3 * min(times):.1f} to {1e3 * max(times):.1f})"
        )
    found = {
        pair: _report.ratios(*(seconds[name] for name in pair))
        for pair in (
            ("elastic", "mirrored"),
            ("elastic", "plain"),
            ("elastic 1", "plain 1"),
        )
    }
    for (one, other), ratio in found.items():
        print(f"{one} / {other}: %.2f (%.2f to %.2f)" % ratio)
    _report.write(
        args,
        {
            "seconds": seconds,
            "elastic_over_mirrored": found["elastic", "mirrored"][0],
        },
        [
            _report.Ratio(
                "a fit step, 4 devices, to MirroredStrategy's",
                found["elastic", "mirrored"],
                goal=0.95,
            ),
            _report.Ratio(
                "the same to plain Keras on the whole batch, the floor",
                found["elastic", "plain"],
            ),
            _report.Ratio(
                "a fit step, one device, to plain Keras",
                found["elastic 1", "plain 1"],
                goal=1.02,
            ),
        ],
    )


if __name__ == "__main__":
    main()
