"""`tf.train.Checkpoint` among strategies, and among numbers of workers."""

import warnings

import keras
import numpy as np
import pytest
import tensorflow as tf

from tf_elastic import compat
from tf_elastic import optimizers
from tf_elastic import strategies


def elastic(num_workers):
    return strategies.ElasticMirroredStrategy(
        [f"CPU:{i}" for i in range(num_workers)]
    )


class Scaled(keras.Model):
    """Its variables are of each kind: trained, statistic, counter, scalar."""

    def __init__(self):
        super().__init__()
        self.norm = keras.layers.BatchNormalization()
        self.dense = keras.layers.Dense(2)
        self.scale = self.add_weight(shape=(), initializer="ones")
        self.calls = self.add_weight(
            shape=(), dtype="int32", initializer="zeros", trainable=False
        )
        self.norm.build((None, 3))
        self.dense.build((None, 3))
        self.built = True

    def call(self, inputs):
        return self.scale * self.dense(self.norm(inputs))


def in_scope(strategy, optimizer=None):
    with strategy.scope():
        model = Scaled()
        if optimizer is None:
            return tf.train.Checkpoint(model=model)
        optimizer = optimizer()
        optimizer.build(model.trainable_variables)
    return tf.train.Checkpoint(model=model, optimizer=optimizer)


def set_apart(checkpoint):
    """Gives every copy of every variable a value of its own."""
    variables = list(checkpoint.model.weights)
    variables += getattr(checkpoint, "optimizer", keras.Layer()).variables
    for k, variable in enumerate(variables):
        native = compat.native_variable(variable)
        native.assign(native * 0 + k + 1)
        store = getattr(native, "store", None)
        for i in range(0 if store is None else store.num_workers):
            store.assign(i, native * 0 + 10 * i + k + 2)
    return checkpoint


SAVED = {
    "plain": (lambda: in_scope(tf.distribute.get_strategy()), "no"),
    "mirrored": (
        lambda: in_scope(tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])),
        "no",
    ),
    "one": (lambda: in_scope(elastic(1), optimizers.Downpour), "1"),
    "three": (lambda: in_scope(elastic(3), optimizers.Downpour), "3"),
}


@pytest.mark.parametrize("saved", SAVED)
@pytest.mark.parametrize("make", [optimizers.EAMSGD, optimizers.Downpour])
def test_all_begin_at_the_center(tmp_path, saved, make):
    saved, number = SAVED[saved]
    saved = set_apart(saved())
    restored = set_apart(in_scope(elastic(2), make))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", optimizers.CheckpointWarning)
        restored.restore(saved.save(tmp_path / "c"))
    [warning] = [
        w for w in caught if w.category is optimizers.CheckpointWarning
    ]
    assert f"holds {number} workers, the strategy has 2" in str(warning.message)
    for a, b in zip(saved.model.weights, restored.model.weights, strict=True):
        native = compat.native_variable(b)
        np.testing.assert_array_equal(native.numpy(), a.numpy())
        for worker in native.worker_values():
            np.testing.assert_array_equal(worker, a.numpy())
        for follower in native.followers:
            if hasattr(follower, "worker_values"):
                follower = follower.worker_values()
                for worker in follower:
                    np.testing.assert_array_equal(worker, a.numpy())


def test_workers_of_the_same_number_go_on(tmp_path):
    saved = set_apart(in_scope(elastic(2), optimizers.Downpour))
    restored = in_scope(elastic(2), optimizers.Downpour)
    with warnings.catch_warnings():
        warnings.simplefilter("error", optimizers.CheckpointWarning)
        restored.restore(saved.save(tmp_path / "c")).assert_consumed()
    for a, b in zip(
        saved.model.weights + saved.optimizer.variables,
        restored.model.weights + restored.optimizer.variables,
        strict=True,
    ):
        a, b = compat.native_variable(a), compat.native_variable(b)
        np.testing.assert_array_equal(a.numpy(), b.numpy())
        np.testing.assert_array_equal(a.worker_values(), b.worker_values())


@pytest.mark.parametrize(
    "strategy",
    [
        tf.distribute.get_strategy,
        lambda: tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"]),
    ],
)
def test_a_model_of_another_strategy_reads_the_center(tmp_path, strategy):
    saved = set_apart(in_scope(elastic(2)))
    restored = in_scope(strategy())
    status = restored.restore(saved.save(tmp_path / "c"))
    status.assert_existing_objects_matched()
    for a, b in zip(saved.model.weights, restored.model.weights, strict=True):
        np.testing.assert_array_equal(a.numpy(), b.numpy())
