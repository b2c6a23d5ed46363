"""Bytes that training holds: (weights + slots) x p, and p + 1 centers.

    python benchmarks/bench_memory.py [--workers=4] [--json=PATH]

Counts every variable that the strategy makes for the thesis' CIFAR network
with EAMSGD, copy by copy, after a step of training.
"""

import _report
import keras
import numpy as np
import tensorflow as tf

from tf_elastic import compat
from tf_elastic import models
from tf_elastic import optimizers
from tf_elastic import strategies


def num_bytes(variable):
    return variable.dtype.size * variable.shape.num_elements()


def main():
    args = _report.parse_args(__doc__, workers=4)
    p = args.workers
    tf.config.set_logical_device_configuration(
        tf.config.list_physical_devices("CPU")[0],
        [tf.config.LogicalDeviceConfiguration()] * p,
    )
    made = []

    def remember(next_creator, **kwargs):
        made.append(next_creator(**kwargs))
        return made[-1]

    strategy = strategies.ElasticMirroredStrategy(
        [f"CPU:{i}" for i in range(p)]
    )
    with strategy.scope(), tf.variable_creator_scope(remember):
        model = models.cifar_convnet(seed=0)
        model.compile(
            optimizers.EAMSGD(0.005), loss="sparse_categorical_crossentropy"
        )
        model.optimizer.build(model.trainable_variables)
    held = 0
    for variable in made:
        store = getattr(variable, "store", None)
        if store is None:
            copies = getattr(variable, "values", [variable])
        else:
            copies = store.live + store.centers
        held += sum(map(num_bytes, copies))
    weights = sum(
        num_bytes(compat.native_variable(v)) for v in model.trainable_variables
    )
    # Weights and velocities; centers, and the one that is held at the end.
    allowed = 2 * weights * p + weights * p + weights
    x = np.zeros((4 * p, 28, 28, 3), "float32")
    model.fit(x, np.zeros(4 * p), batch_size=4 * p, verbose=0)
    print(
        f"held {held:,} bytes; (weights + slots) x {p} + {p + 1} centers = "
        f"{allowed:,} bytes; ratio {held / allowed:.4f} (the rest: clocks, "
        "seeds and metrics)"
    )
    _report.write(
        args,
        {"held_bytes": held, "allowed_bytes": allowed},
        [
            _report.Ratio(
                "bytes of variables to (weights + slots) p and the centers",
                (held / allowed,) * 3,
                goal=1.001,
            )
        ],
    )
    if held > 1.001 * allowed:
        raise SystemExit("more than allowed")


if __name__ == "__main__":
    keras.utils.set_random_seed(0)
    main()
