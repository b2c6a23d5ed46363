"""Short epochs of a small model: what a strategy adds to a step and an epoch.

    python benchmarks/bench_epoch.py [--steps=44] [--repeats=5] [--json=PATH]

An MLP of 64 units and 44 steps of 32 rows an epoch, as `make train` has them,
by plain Keras, by one and four elastic workers and by `MirroredStrategy` on
four logical CPU devices. A step's time is the median of those in an epoch; an
epoch's own is what it takes beside its steps. All are timed in turns; ratios
are those of turns side by side.
"""

import statistics
import time

import _report
import keras
import numpy as np
import tensorflow as tf

from tf_elastic import optimizers
from tf_elastic import strategies

EPOCHS = 4  # of each turn; the first is not counted
ROWS = 32
FEATURES, CLASSES = 64, 10


class _Clock(keras.callbacks.Callback):
    """Seconds of each step, and of each epoch beside its steps."""

    def on_epoch_begin(self, epoch, logs=None):
        self.steps, self.begin = [], time.perf_counter()
        if epoch == 0:
            self.epochs, self.step_times = [], []

    def on_train_batch_begin(self, batch, logs=None):
        self.step_begin = time.perf_counter()

    def on_train_batch_end(self, batch, logs=None):
        self.steps.append(time.perf_counter() - self.step_begin)

    def on_epoch_end(self, epoch, logs=None):
        if epoch > 0:
            whole = time.perf_counter() - self.begin
            self.epochs.append(whole - sum(self.steps))
            self.step_times += self.steps


def fitter(strategy, optimizer, steps):
    """A function that fits a few epochs; (seconds of a step, of an epoch)."""
    rng = np.random.default_rng(0)
    x = rng.random((steps * ROWS, FEATURES), "float32")
    y = np.arange(len(x)) % CLASSES
    with strategy.scope():
        model = keras.Sequential(
            [
                keras.Input((FEATURES,)),
                keras.layers.Dense(64, activation="relu"),
                keras.layers.Dense(CLASSES, activation="softmax"),
            ]
        )
        model.compile(
            optimizer(),
            loss="sparse_categorical_crossentropy",
            metrics=["accuracy"],
            jit_compile=False,
        )
    clock = _Clock()

    def timed():
        model.fit(
            x, y, batch_size=ROWS, epochs=EPOCHS, verbose=0, callbacks=[clock]
        )
        return {
            "step": statistics.median(clock.step_times),
            "epoch": statistics.median(clock.epochs),
        }

    return timed


def main():
    args = _report.parse_args(__doc__, steps=44, repeats=5)
    tf.config.set_logical_device_configuration(
        tf.config.list_physical_devices("CPU")[0],
        [tf.config.LogicalDeviceConfiguration()] * 4,
    )
    four = [f"CPU:{i}" for i in range(4)]

    def sgd():
        return keras.optimizers.SGD(0.05, momentum=0.9, nesterov=True)

    def elastic():
        return optimizers.EAMSGD(0.05, momentum=0.9, communication_period=4)

    elastic_on = strategies.ElasticMirroredStrategy
    turns = _report.in_turns(
        {
            "keras": fitter(tf.distribute.get_strategy(), sgd, args.steps),
            "elastic 1": fitter(elastic_on(four[:1]), elastic, args.steps),
            "elastic 4": fitter(elastic_on(four), elastic, args.steps),
            "mirrored 4": fitter(
                tf.distribute.MirroredStrategy(four), sgd, args.steps
            ),
        },
        args.repeats,
    )
    for name, rounds in turns.items():
        step = 1e3 * statistics.median(r["step"] for r in rounds)
        epoch = 1e3 * statistics.median(r["epoch"] for r in rounds)
        print(f"{name:>10}: {step:6.2f} ms a step, {epoch:6.0f} ms beside them")
    result, ratios = {}, []
    for mine, other in (("elastic 1", "keras"), ("elastic 4", "mirrored 4")):
        for what in ("step", "epoch"):
            median, low, high = _report.ratios(
                *([r[what] for r in turns[name]] for name in (mine, other))
            )
            print(
                f"{mine} / {other}, {what}: {median:.2f} "
                f"({low:.2f} to {high:.2f})"
            )
            name = f"{mine} / {other}, {what}"
            result[name] = [median, low, high]
            ratios.append(
                _report.Ratio(f"short epochs: {name}", (median, low, high))
            )
    _report.write(args, {**result, "seconds": turns}, ratios)


if __name__ == "__main__":
    main()
