"""An embedding's gradient reaches an inner optimizer as it reaches Keras' own.

A word that a batch has several times has several slices in the gradient of
the table, which Keras' optimizers take one by one: they square each.
"""

import keras
import numpy as np
import pytest
import tensorflow as tf

from tests.conformance_cluster_support import Cluster
from tf_elastic import compat
from tf_elastic import optimizers

pytestmark = pytest.mark.usefixtures("float64")

STEPS, TAU, BETA = 4, 2, 0.6
GENERATOR = np.random.default_rng(0)
# Four words in six places: each row of a batch has one of them twice.
WORDS = GENERATOR.integers(0, 4, size=(8 * STEPS, 6))
LABELS = GENERATOR.integers(0, 3, size=8 * STEPS)

INNER = {
    "Adam": lambda: keras.optimizers.Adam(0.05),
    "AdamW": lambda: keras.optimizers.AdamW(0.05, weight_decay=0.1),
    "Adadelta": lambda: keras.optimizers.Adadelta(0.5),
    "Adafactor": lambda: keras.optimizers.Adafactor(0.05),
    "Adagrad": lambda: keras.optimizers.Adagrad(0.05),
    "Adam, clipped": lambda: keras.optimizers.Adam(0.05, clipnorm=0.1),
    "Adamax": lambda: keras.optimizers.Adamax(0.05),
    "Ftrl": lambda: keras.optimizers.Ftrl(0.05),
    "Lamb": lambda: keras.optimizers.Lamb(0.05),
    "Lion": lambda: keras.optimizers.Lion(0.01),
    "Muon": lambda: keras.optimizers.Muon(0.02),
    "Nadam": lambda: keras.optimizers.Nadam(0.05),
    "RMSprop": lambda: keras.optimizers.RMSprop(0.05, momentum=0.5),
    "SGD": lambda: keras.optimizers.SGD(0.05, momentum=0.5, nesterov=True),
}
# Those of `make test`: squares of slices, a step of all variables, two kinds
# of steps. The others go the same way.
QUICK = ("Adam", "Nadam", "Muon")


def quick_first(names, quick):
    return [
        name if name in quick else pytest.param(name, marks=pytest.mark.full)
        for name in names
    ]


def network(strategy, make):
    """A classifier of `WORDS`; without a strategy stock Keras on one device."""

    def build():
        keras.utils.set_random_seed(1)
        model = keras.Sequential(
            [
                keras.Input((6,), dtype="int32"),
                keras.layers.Embedding(4, 3),
                keras.layers.Flatten(),
                keras.layers.Dense(3),
            ]
        )
        model.compile(
            make(),
            loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        )
        return model

    if strategy is None:
        return build()
    with strategy.scope():
        return build()


def fit(model, batch_size):
    model.fit(WORDS, LABELS, batch_size=batch_size, shuffle=False, verbose=0)


def around(inner, **options):
    return lambda: optimizers.Elastic(INNER[inner](), **options)


def points_of(model, worker):
    return [
        compat.native_variable(variable).worker_values()[worker]
        for variable in model.trainable_variables
    ]


def assert_same(found, expected):
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("inner", quick_first(INNER, QUICK))
def test_one_worker_is_stock_keras(strategy, inner):
    model = network(strategy(1), around(inner, communication_period=None))
    stock = network(None, INNER[inner])
    begin = stock.get_weights()
    for each in (model, stock):
        fit(each, 8)
    assert_same(points_of(model, 0), stock.get_weights())
    moved = np.abs(stock.get_weights()[0] - begin[0])
    assert moved.max() > 1e-3


def gradients(model, rows):
    with tf.GradientTape() as tape:
        loss = model.loss(LABELS[rows], model(WORDS[rows], training=True))
    found = tape.gradient(loss, model.trainable_variables)
    assert isinstance(found[0], tf.IndexedSlices)
    return found


@pytest.mark.parametrize(
    "inner", quick_first(["Adam", "Adagrad", "Lion", "RMSprop"], ["Adam"])
)
def test_two_workers_are_two_of_stock_keras_and_numpy(strategy, inner):
    model = network(
        strategy(2), around(inner, communication_period=TAU, beta=BETA)
    )
    fit(model, 8)
    workers = [network(None, INNER[inner]) for _ in range(2)]
    center = workers[0].get_weights()
    for step in range(STEPS):
        found = [
            gradients(worker, slice(8 * step + 4 * i, 8 * step + 4 * i + 4))
            for i, worker in enumerate(workers)
        ]
        if step % TAU == 0:
            points = [worker.get_weights() for worker in workers]
            deltas = [
                [x - c for x, c in zip(own, center, strict=True)]
                for own in points
            ]
            for worker, own, delta in zip(workers, points, deltas, strict=True):
                worker.set_weights(
                    [x - BETA / 2 * d for x, d in zip(own, delta, strict=True)]
                )
            center = [
                c + BETA / 2 * (a + b)
                for c, a, b in zip(center, *deltas, strict=True)
            ]
        for worker, grads in zip(workers, found, strict=True):
            worker.optimizer.apply(grads, worker.trainable_variables)
    for i, worker in enumerate(workers):
        assert_same(points_of(model, i), worker.get_weights())
    assert_same(model.get_weights(), center)


def test_devices_of_one_worker_are_those_of_mirrored_strategy(monkeypatch):
    """On a cluster a worker's devices add up their gradients."""
    # Else TensorFlow takes its float64 collectives for the float32 ones of
    # another test in this process, or those for these.
    monkeypatch.setattr(
        tf.distribute.MirroredStrategy, "_collective_key_base", 1000
    )
    devices = ["CPU:0", "CPU:1"]
    servers = Cluster()
    try:
        model = network(
            servers.strategy("blocking", devices=devices),
            around("Adam", communication_period=None),
        )
        stock = network(tf.distribute.MirroredStrategy(devices), INNER["Adam"])
        for each in (model, stock):
            fit(each, 8)
        assert_same(points_of(model, 0), stock.get_weights())
    finally:
        servers.close()
