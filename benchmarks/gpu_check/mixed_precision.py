"""Mixed precision under `ElasticMirroredStrategy`."""

import keras
import numpy as np

from benchmarks.gpu_check import finding
from benchmarks.gpu_check import logical
from tf_elastic import optimizers
from tf_elastic import strategies

P = 2
GOAL = 0.9


def run(setting):
    devices = logical.devices(setting, P)
    before = keras.config.dtype_policy()
    found = []
    try:
        for policy in ("mixed_float16", "mixed_bfloat16"):
            keras.config.set_dtype_policy(policy)
            found.append(trained(setting, policy, devices))
    finally:
        keras.config.set_dtype_policy(before)
    return found


def trained(setting, policy, devices):
    """Whether a classifier learns, and all stays finite."""
    keras.utils.set_random_seed(1)
    draw = np.random.default_rng(0)
    x = draw.normal(size=(512, 16)).astype("float32")
    y = (x @ draw.normal(size=(16, 4))).argmax(axis=1)
    with strategies.ElasticMirroredStrategy(devices).scope():
        model = keras.Sequential(
            [
                keras.Input((16,)),
                keras.layers.Dense(64, activation="relu"),
                keras.layers.BatchNormalization(),
                keras.layers.Dense(4, dtype="float32"),
            ]
        )
        model.compile(
            optimizers.EAMSGD(0.05, momentum=0.9, communication_period=4),
            loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        )
    scaled = isinstance(model.optimizer, keras.optimizers.LossScaleOptimizer)
    losses = [loss_of(model, x, y)]
    model.fit(x, y, batch_size=32, epochs=setting.size(5, 2), verbose=0)
    losses.append(loss_of(model, x, y))
    weights = [variable.numpy() for variable in model.variables]
    finite = all(np.isfinite(w).all() for w in [*weights, *losses])
    return finding.judged(
        setting,
        f"{policy}: loss of the center",
        f"{losses[0]:.3f} to {losses[1]:.3f}"
        + ", with loss scale" * scaled
        + ", not finite" * (not finite),
        f"finite, below {GOAL} of the first"
        + ", with loss scale" * (policy == "mixed_float16"),
        finite
        and losses[1] < GOAL * losses[0]
        and scaled == (policy == "mixed_float16"),
        of_card=False,
    )


def loss_of(model, x, y):
    """The center's, of all data at once."""
    return float(model.loss(y, model(x, training=False)))
