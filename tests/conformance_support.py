"""What the tests of the conformance tables train, and how they compare."""

import keras
import numpy as np
import tensorflow as tf

from tests import devices
from tf_elastic import compat
from tf_elastic import strategies

_GENERATOR = np.random.default_rng(3)
X = _GENERATOR.normal(size=(96, 6)).astype("float32")
Y = (X @ _GENERATOR.normal(size=(6, 3))).argmax(axis=1)
BATCH = 12  # 8 steps
WORDS = _GENERATOR.integers(0, 9, size=(48, 2))
LABELS = WORDS.sum(axis=1) % 3
# No word twice in two rows, the part of a batch that a worker has.
WORDS_ONCE = np.stack(
    [_GENERATOR.permutation(9)[:4].reshape(2, 2) for _ in range(24)]
).reshape(48, 2)
# Without tf.data's tuner, which makes the end of an epoch hang now and then.
_OPTIONS = tf.data.Options()
_OPTIONS.autotune.enabled = False
TRAIN = (
    tf.data.Dataset.from_tensor_slices((X, Y))
    .batch(BATCH)
    .with_options(_OPTIONS)
)


def new_strategy(case):
    """The devices of one process."""
    return strategies.ElasticMirroredStrategy(devices.names(case.num_workers))


def small_network():
    """A classifier."""
    return keras.Sequential(
        [
            keras.Input((6,)),
            keras.layers.Dense(8, activation="tanh"),
            keras.layers.Dense(3),
        ]
    )


def normalized_network():
    """One that has statistics."""
    return keras.Sequential(
        [
            keras.Input((6,)),
            keras.layers.Dense(8, activation="tanh"),
            keras.layers.BatchNormalization(momentum=0.5),
            keras.layers.Dense(3),
        ]
    )


def noisy_network():
    """One that has statistics and random masks."""
    return keras.Sequential(
        [
            keras.Input((6,)),
            keras.layers.Dense(8, activation="tanh"),
            keras.layers.BatchNormalization(momentum=0.5),
            keras.layers.Dropout(0.2),
            keras.layers.Dense(3),
        ]
    )


def _head(rows):
    flat = keras.layers.Flatten()(rows)
    return keras.layers.Dense(3, name="head")(flat)


def lookup_network():
    """A classifier of `WORDS`, whose table has sparse gradients."""
    inputs = keras.Input((2,), dtype="int32")
    rows = keras.layers.Embedding(9, 4, name="table")(inputs)
    return keras.Model(inputs, _head(rows))


def product_network():
    """The same with dense gradients."""
    inputs = keras.Input((2,), dtype="int32")
    one_hot = keras.ops.one_hot(inputs, 9)
    rows = keras.layers.Dense(4, use_bias=False, name="table")(one_hot)
    return keras.Model(inputs, _head(rows))


def compiled(
    case,
    network=small_network,
    options=None,
    seed=1,
    strategy=None,
    **kwargs,
):
    """A model in the scope of a strategy: by default, devices of its own."""
    keras.utils.set_random_seed(seed)
    with (strategy or new_strategy(case)).scope():
        model = network()
        model.compile(
            case.make(**(options or {})),
            loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
            **kwargs,
        )
    return model


def fit_words(case, model, workers):
    """Trains on words; who squares slices has none twice in a batch."""
    words, rows = (WORDS_ONCE, 2) if case.squares else (WORDS, 12 // workers)
    model.fit(
        words, LABELS, batch_size=rows * workers, shuffle=False, verbose=0
    )


def fit(model, epochs=1, data=TRAIN, **kwargs):
    model.fit(data, epochs=epochs, shuffle=False, verbose=0, **kwargs)
    return model


def state(model):
    """Everything that training goes on from, as arrays."""
    natives = [
        compat.native_variable(v)
        for v in model.variables + model.optimizer.variables
    ] + model.distribute_strategy.extended.untrained_variables()
    return [v.numpy() for v in natives] + [v.worker_values() for v in natives]


def assert_same_state(actual, expected, exactly=True):
    assert len(actual) == len(expected)
    for a, b in zip(actual, expected, strict=True):
        if exactly:
            np.testing.assert_array_equal(a, b)
        else:
            np.testing.assert_allclose(a, b, rtol=2e-4, atol=2e-5)


def assert_same_workers(actual, expected):
    """The trained variables of two models, on every worker."""
    for a, b in zip(
        actual.trainable_variables, expected.trainable_variables, strict=True
    ):
        a, b = compat.native_variable(a), compat.native_variable(b)
        np.testing.assert_allclose(
            a.worker_values(), b.worker_values(), rtol=1e-4, atol=1e-5
        )
        np.testing.assert_allclose(a.numpy(), b.numpy(), rtol=1e-4, atol=1e-5)
