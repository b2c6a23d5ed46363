"""Throughput of one worker that exchanges, against one that does not.

The thesis' network for ImageNet, synthetic data; the center is a process on
this machine. Turns of both ways in one process; each turn's last steps are
measured.
"""

import contextlib
import statistics
import time

import keras
import numpy as np
import tensorflow as tf

from benchmarks.gpu_check import finding
from benchmarks.gpu_check import local_worker
from benchmarks.gpu_check import logical
from benchmarks.gpu_check.logical import wait_for
from tf_elastic import compat
from tf_elastic import models
from tf_elastic import optimizers

PERIOD = 10
GOAL = 0.99


class Turn(keras.callbacks.Callback):
    """The time between the ends of two steps, when the device has done them."""

    def __init__(self, first, last):
        super().__init__()
        self._steps = first, last
        self.times = []

    def on_train_batch_end(self, batch, logs=None):
        if batch in self._steps:
            last = self.model.trainable_variables[-1]
            wait_for(compat.native_variable(last).store.live[0])
            self.times.append(time.perf_counter())


def run(setting):
    [device] = logical.devices(setting, 1, gpu_memory_mb=None)
    period = setting.size(PERIOD, 2)
    batch = setting.size(128, 4)
    steps = setting.size(6, 2) * period
    with contextlib.ExitStack() as clusters:
        rates = {way: [] for way in ("no exchange", "overlapped")}
        trained = {}
        for way in rates:
            strategy = clusters.enter_context(local_worker.joined(device))
            with strategy.scope():
                model = network(setting)
                model.compile(
                    optimizers.EAMSGD(
                        1e-3,
                        momentum=0.9,
                        communication_period=(
                            period if way == "overlapped" else None
                        ),
                    ),
                    loss="sparse_categorical_crossentropy",
                )
            trained[way] = model, strategy
        data = same_batch(trained["overlapped"][0], batch)
        for k in range(setting.size(8, 2)):
            for way, (model, _) in trained.items():
                seconds = turn(model, data, period, steps)
                if k:  # traced and compiled by then
                    rates[way].append(steps * batch / seconds)
        counts = trained["overlapped"][1].exchange_counts()
    share = statistics.median(
        b / a for a, b in zip(*rates.values(), strict=True)
    )
    images = {way: statistics.median(rates[way]) for way in rates}
    return [
        finding.judged(
            setting,
            f"throughput overlapped (tau = {period}) / no exchange",
            f"{share:.3f} ({images['overlapped']:.0f} of "
            f"{images['no exchange']:.0f} images/s)",
            f"at least {GOAL}",
            share >= GOAL,
        ),
        finding.judged(
            setting,
            "exchanges that took place, of all",
            f"{counts.exchanges} of {counts.exchanges + counts.missed}",
            "all, and some",
            counts.exchanges > 0 and not counts.missed,
            of_card=False,
        ),
    ]


def network(setting):
    if setting.small:
        return models.digits_convnet(seed=0)
    return models.imagenet_convnet(seed=0)


def same_batch(model, batch):
    """The same images again and again, on the host."""
    draw = np.random.default_rng(0)
    shape = (batch, *model.input_shape[1:])
    images = draw.normal(size=shape).astype("float32")
    labels = draw.integers(0, model.output_shape[-1], batch)
    return tf.data.Dataset.from_tensors((images, labels)).repeat()


def turn(model, data, lead, steps):
    """Seconds that `steps` steps take, after `lead` others."""
    times = Turn(lead - 1, lead + steps - 1)
    model.fit(data, steps_per_epoch=lead + steps, callbacks=[times], verbose=0)
    begin, end = times.times
    return end - begin
