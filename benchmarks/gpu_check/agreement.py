"""Steps on logical devices of the card, against logical CPU devices."""

import keras
import numpy as np
import tensorflow as tf

from benchmarks.gpu_check import finding
from benchmarks.gpu_check import logical
from tf_elastic import optimizers
from tf_elastic import strategies

P, ROWS, STEPS = 4, 4, 7
GOAL = 1e-9
PERIOD = {"communication_period": 3}
METHODS = {
    "EASGD": lambda: optimizers.EASGD(0.1, **PERIOD),
    "EAMSGD": lambda: optimizers.EAMSGD(0.02, momentum=0.9, **PERIOD),
    "Downpour": lambda: optimizers.Downpour(0.02, **PERIOD),
    "AsyncMSGD": lambda: optimizers.AsyncMSGD(0.02, momentum=0.5),
    "DiLoCo": lambda: optimizers.DiLoCo(
        keras.optimizers.SGD(0.1, momentum=0.5), **PERIOD
    ),
    'Elastic("adam")': lambda: optimizers.Elastic("adam", **PERIOD),
}
BANKED = "EASGD"  # also by several workers on one device


def run(setting):
    p = setting.size(P, 2)
    devices = logical.devices(setting, p)
    cpus = [f"CPU:{i}" for i in range(p)]
    names = setting.size(METHODS, (BANKED,))
    found, apart = [], {}
    for name in names:
        apart[name] = trained(METHODS[name], devices, p)
        found.append(
            line(
                setting,
                f"{name}: {devices[0]}, ... against CPU:0, ...",
                apart[name],
                trained(METHODS[name], cpus, p),
            )
        )
    together = trained(METHODS[BANKED], devices[:1], p, workers_per_device=p)
    found.append(
        line(
            setting,
            f"{BANKED}: {p} workers on {devices[0]} against {p} devices",
            together,
            apart[BANKED],
        )
    )
    return found


def line(setting, check, values, expected):
    """The largest difference of two runs, of parameters near 1."""
    far = max(
        float(np.abs(a - b).max())
        for a, b in zip(values, expected, strict=True)
    )
    return finding.judged(
        setting,
        check,
        f"{far:.1e}",
        f"at most {GOAL:.0e}",
        far <= GOAL,
        of_card=False,
    )


def trained(make, devices, p, **kwargs):
    """The center's and the workers' parameters after a few steps of `fit`.

    Raises:
        RuntimeError: some have not moved.
    """
    keras.utils.set_random_seed(1)
    strategy = strategies.ElasticMirroredStrategy(
        devices, closing=False, **kwargs
    )
    with strategy.scope():
        layer = {"dtype": "float64"}
        inputs = keras.Input((5,), **layer)
        hidden = keras.layers.Dense(6, activation="tanh", **layer)(inputs)
        model = keras.Model(inputs, keras.layers.Dense(2, **layer)(hidden))
        model.compile(make(), loss="mse")
    draw = np.random.default_rng(0)
    rows = p * ROWS * STEPS
    data = tf.data.Dataset.from_tensor_slices(
        (draw.normal(size=(rows, 5)), draw.normal(size=(rows, 2)))
    )
    start = [variable.numpy() for variable in model.trainable_variables]
    model.fit(data.batch(p * ROWS), verbose=0)
    end = [variable.numpy() for variable in model.trainable_variables]
    for before, after in zip(start, end, strict=True):
        if np.array_equal(before, after):
            raise RuntimeError(f"Training on {devices} has not moved all.")
    return [*end, *model.optimizer.worker_points()]
