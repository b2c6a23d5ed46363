"""The curvature of a model against its whole Hessian."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from tf_elastic import models
from tf_elastic import monitor
from tf_elastic import optimizers


def whole_hessian(model, x, y, loss):
    """The Hessian, by a Jacobian of the gradient, variable by variable."""
    variables = [v.value for v in model.trainable_variables]
    with tf.GradientTape() as outer:
        with tf.GradientTape() as inner:
            value = loss(y, model(x, training=False))
            value = value + tf.add_n(model.losses or [0.0])
        slope = inner.gradient(value, variables)
        flat = tf.concat([tf.reshape(g, [-1]) for g in slope], 0)
    rows = outer.jacobian(flat, variables, unconnected_gradients="zero")
    return np.concatenate(
        [np.reshape(block, (flat.shape[0], -1)) for block in rows], axis=1
    )


def small_network(**kwargs):
    return keras.Sequential(
        [
            keras.Input((6, 6, 1)),
            keras.layers.Conv2D(3, 3, activation="tanh", **kwargs),
            keras.layers.MaxPooling2D(),
            keras.layers.BatchNormalization(),
            keras.layers.Dropout(0.5),
            keras.layers.Flatten(),
            keras.layers.Dense(4),
        ]
    )


def batch(count=16):
    rng = np.random.default_rng(7)
    x = rng.normal(size=(count, 6, 6, 1)).astype("float32")
    return tf.constant(x), tf.constant(rng.integers(0, 4, count))


def loss():
    return keras.losses.SparseCategoricalCrossentropy(from_logits=True)


def test_it_is_the_largest_eigenvalue_of_the_whole_hessian():
    model = small_network(kernel_regularizer="l2")
    x, y = batch()
    found = monitor.largest_curvature(model, x, y, loss(), tolerance=1e-4)
    eigenvalues, vectors = np.linalg.eigh(whole_hessian(model, x, y, loss()))
    assert found.eigenvalue == pytest.approx(eigenvalues[-1], rel=1e-3)
    assert abs(found.vector @ vectors[:, -1]) > 0.99
    assert found.residual < 1e-3 * found.eigenvalue


def test_nothing_changes_and_it_is_the_same_again():
    model = small_network()
    model.compile(optimizers.EASGD(), loss=loss())
    x, y = batch()
    before = model.get_weights()
    first = monitor.largest_curvature(model, x, y)
    for now, was in zip(model.get_weights(), before, strict=True):
        np.testing.assert_array_equal(now, was)
    assert monitor.largest_curvature(model, x, y).eigenvalue == pytest.approx(
        first.eigenvalue, rel=1e-6
    )


def _gradient_descent(model, learning_rate):
    optimizer = keras.optimizers.SGD(learning_rate)
    optimizer.build(model.trainable_variables)

    @tf.function
    def descend(x, y):
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean((model(x) - y) ** 2)
        gradients = tape.gradient(loss, model.trainable_variables)
        optimizer.apply(gradients)
        return loss

    return descend


def test_gradient_descent_diverges_beyond_two_over_it():
    """What the number is for, on a model that is a quadratic."""
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)])
    x = np.random.default_rng(1).normal(size=(32, 3)).astype("float32")
    y = np.ones((32, 2), "float32")
    h = monitor.largest_curvature(model, x, y, "mse", tolerance=1e-4).eigenvalue
    for share, diverges in ((0.98, False), (1.02, True)):
        model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)])
        descend = _gradient_descent(model, share * 2 / h)
        losses = [float(descend(x, y)) for _ in range(300)]
        assert (losses[-1] > losses[100]) == diverges


def test_of_a_model_in_a_strategy_it_is_the_centers(strategy):
    x, y = batch()
    plain = small_network()
    with strategy(2).scope():
        model = small_network()
        model.compile(optimizers.EASGD(), loss=loss())
    model.set_weights(plain.get_weights())
    assert monitor.largest_curvature(model, x, y).eigenvalue == pytest.approx(
        monitor.largest_curvature(plain, x, y, loss()).eigenvalue, rel=1e-3
    )


def test_the_digits_network():
    model = models.digits_convnet(seed=0)
    rng = np.random.default_rng(0)
    found = monitor.largest_curvature(
        model,
        tf.constant(rng.random((8, *model.input_shape[1:])).astype("float32")),
        tf.constant(rng.integers(0, 10, 8)),
        "sparse_categorical_crossentropy",
    )
    assert found.eigenvalue > 0
    assert found.residual < 0.02 * found.eigenvalue


def test_what_it_cannot_measure():
    x, y = batch()
    with pytest.raises(ValueError, match="`loss` must be given"):
        monitor.largest_curvature(small_network(), x, y)
    model = keras.Sequential([keras.Input((6, 6, 1)), keras.layers.Flatten()])
    with pytest.raises(ValueError, match="variables to train"):
        monitor.largest_curvature(model, x, y, "mse")
