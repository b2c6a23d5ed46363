"""The peak of a card's memory in training.

What is held: weights, velocity (the slot), the center, and the center's copy
for the end of `fit`. What comes and goes, gradients and activations, is taken
from a run of stock Keras on the same network.
"""

import gc

import keras
import numpy as np
import tensorflow as tf

from benchmarks.gpu_check import finding
from benchmarks.gpu_check import logical
from tf_elastic import models
from tf_elastic import optimizers
from tf_elastic import strategies

SLOTS = 1
GOAL = 1.05


def run(setting):
    [device] = logical.devices(setting, 1, gpu_memory_mb=None)
    batch = setting.size(128, 4)
    stock = used(
        setting,
        device,
        batch,
        tf.distribute.OneDeviceStrategy(device),
        lambda: keras.optimizers.SGD(1e-3, momentum=0.9, nesterov=True),
    )
    elastic = used(
        setting,
        device,
        batch,
        strategies.ElasticMirroredStrategy([device]),
        lambda: optimizers.EAMSGD(1e-3, momentum=0.9, communication_period=3),
    )
    weights = stock["weights"]
    held = weights * (1 + SLOTS + 2)
    passing = max(stock["peak"] - weights * (1 + SLOTS), 0)
    return [
        line(
            setting,
            "memory held after training / weights x (1 + slots + 2)",
            elastic["held"],
            held,
        ),
        line(
            setting,
            "peak / (the same + what stock Keras' step needs beside)",
            elastic["peak"],
            held + passing,
        ),
    ]


def line(setting, check, found, allowed):
    return finding.judged(
        setting,
        check,
        f"{found / allowed:.3f} ({found / 2**20:.0f} of "
        f"{allowed / 2**20:.0f} MiB)",
        f"at most {GOAL}",
        found <= GOAL * allowed,
    )


def used(setting, device, batch, strategy, optimizer):
    """Bytes on the device beyond those before: of weights, held, peak."""
    gc.collect()
    before = memory_of(device)["current"]
    if "GPU" in device:
        tf.config.experimental.reset_memory_stats(device)
    keras.utils.set_random_seed(0)
    with strategy.scope():
        model = (
            models.digits_convnet()
            if setting.small
            else models.imagenet_convnet()
        )
        model.compile(
            optimizer(),
            loss="sparse_categorical_crossentropy",
            jit_compile=False,
        )
    x = np.zeros((batch, *model.input_shape[1:]), "float32")
    data = tf.data.Dataset.from_tensors((x, np.zeros(batch))).repeat()
    model.fit(data, steps_per_epoch=setting.size(12, 4), verbose=0)
    weights = sum(
        w.dtype.size * w.shape.num_elements()
        for w in (tf.convert_to_tensor(v) for v in model.trainable_variables)
    )
    after = memory_of(device)
    del model
    return {
        "weights": weights,
        "held": after["current"] - before,
        "peak": after["peak"] - before,
    }


def memory_of(device):
    """Bytes now and at most; of a CPU it is not known, and 0 here."""
    if "GPU" not in device:
        return {"current": 0, "peak": 0}
    gc.collect()
    return tf.config.experimental.get_memory_info(device)
