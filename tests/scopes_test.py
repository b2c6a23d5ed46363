"""What was made in another scope, or in none: the message has the fix."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from tf_elastic import compat
from tf_elastic import optimizers

X = np.ones((4, 3), "float32")
Y = np.ones((4, 1), "float32")


def network():
    return keras.Sequential([keras.Input((3,)), keras.layers.Dense(1)])


def fit(model):
    model.fit(X, Y, batch_size=4, verbose=0)


OUTSIDE = {
    "EASGD": lambda: optimizers.EASGD(),
    "EAMSGD": lambda: optimizers.EAMSGD(),
    "Downpour": lambda: optimizers.Downpour(),
    "Elastic": lambda: optimizers.Elastic("adam"),
    "scaled": lambda: keras.optimizers.LossScaleOptimizer(optimizers.EAMSGD()),
}


@pytest.mark.parametrize("make", OUTSIDE)
def test_an_optimizer_made_outside(strategy, make):
    with strategy(2).scope():
        model = network()
    model.compile(OUTSIDE[make](), "mse")
    message = "optimizer must be created inside the scope.*Create it \\(and"
    with pytest.raises(ValueError, match=message):
        fit(model)


@pytest.mark.parametrize("make", ["adam", keras.optimizers.Adam])
def test_a_keras_optimizer_made_outside(strategy, make):
    with strategy(2).scope():
        model = network()
    model.compile(make if isinstance(make, str) else make(), "mse")
    message = "in the scope of the same strategy.*inside `with strategy.scope"
    with pytest.raises(ValueError, match=message):
        fit(model)


def test_an_optimizer_of_another_scope(strategy):
    with strategy(2).scope():
        model = network()
    with strategy(2).scope():
        optimizer = optimizers.EAMSGD()
    model.compile(optimizer, "mse")
    with pytest.raises(ValueError, match="inside the scope of the strategy"):
        fit(model)


def test_compile_outside_with_an_optimizer_of_the_scope(strategy):
    with strategy(2).scope():
        model = network()
        optimizer = optimizers.EAMSGD(communication_period=1)
    start = model.get_weights()
    model.compile(optimizer, "mse", metrics=["mae"])
    for _ in range(2):
        fit(model)
    assert np.abs(model.get_weights()[0] - start[0]).max() > 0


class NoCall(keras.Model):
    """As the GAN of Keras' guide: all is in its `train_step`."""

    def __init__(self):
        super().__init__()
        self.dense = keras.layers.Dense(1)

    def train_step(self, data):
        x, y = data
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean(tf.square(self.dense(x) - y)) / 2
        gradients = tape.gradient(loss, self.trainable_variables)
        self.optimizer.apply(gradients, self.trainable_variables)
        return {"loss": loss}


@pytest.mark.parametrize("built", [True, False])
def test_a_model_without_call(strategy, built):
    """It trains by its own step, as without a strategy."""
    results = []
    for input_is_known in (True, built):
        keras.utils.set_random_seed(1)
        with strategy(2).scope():
            model = NoCall()
            model.compile(optimizers.EASGD(communication_period=2))
            if input_is_known:
                model.dense.build((None, 3))
        fit(model)
        kernel = compat.native_variable(model.dense.kernel)
        assert np.abs(kernel.worker_values() - kernel.numpy()).max() > 0
        results.append(kernel.worker_values())
    np.testing.assert_array_equal(*results)


class Pairs(NoCall):
    """As the Siamese network of Keras' examples: it is called with all data."""

    def call(self, pair):
        first, second = pair
        return self.dense(first) - self.dense(second)

    def train_step(self, data):
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean(tf.square(self(data))) / 2
        gradients = tape.gradient(loss, self.trainable_variables)
        self.optimizer.apply_gradients(
            zip(gradients, self.trainable_variables, strict=True)
        )
        return {"loss": loss}


def test_a_model_that_is_not_called_with_the_first_of_the_data(strategy):
    with strategy(2).scope():
        model = Pairs()
        model.compile(optimizers.EASGD(0.02, communication_period=1))
    model.fit(X, -X, verbose=0)
    before = float(model((X, -X))[0, 0])
    model.fit(X, -X, epochs=9, verbose=0)
    assert abs(float(model((X, -X))[0, 0])) < 0.5 * abs(before)


def test_a_model_that_cannot_be_called_says_why(strategy):
    with strategy(2).scope():
        model = keras.Sequential([keras.Input((7,)), keras.layers.Dense(1)])
        model.compile(optimizers.EASGD(), "mse")
    with pytest.raises(ValueError, match="expected axis -1.*to have value 7"):
        fit(model)


# TensorFlow 1.


def test_graphs_of_tensorflow_1(strategy):
    two = strategy(2)
    message = "need TensorFlow 2's eager execution.*Make strategy and model"
    with tf.Graph().as_default():
        with pytest.raises(RuntimeError, match=message):
            strategy(2)
        with two.scope(), pytest.raises(RuntimeError, match=message):
            tf.Variable([1.0])


def test_init_from_checkpoint_of_tensorflow_1(strategy, tmp_path):
    path = str(tmp_path / "c")
    tf.raw_ops.SaveV2(
        prefix=path,
        tensor_names=["w"],
        shape_and_slices=[""],
        tensors=[[3.0, 4.0]],
    )
    with strategy(2).scope():
        variable = tf.Variable([1.0, 2.0])
    message = "would be left out. Received: variable=.*Use `tf.train.Check"
    with pytest.raises(RuntimeError, match=message):
        tf.compat.v1.train.init_from_checkpoint(path, {"w": variable})
    variable.assign(tf.train.load_variable(path, "w"))  # as it says
    assert variable.worker_values().tolist() == [[3, 4], [3, 4]]
    assert variable.numpy().tolist() == [3, 4]
