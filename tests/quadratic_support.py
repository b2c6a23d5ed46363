"""Stock `fit` on a noisy quadratic whose every step can be told by hand.

A worker's loss is half of w' H w, less the inner product of w with the sample
that the data hands to this worker at this step.
"""

import keras
import numpy as np
import tensorflow as tf

from tf_elastic import compat

N, STEPS = 5, 200
SPLIT = 3  # the parameters are two variables, of 3 and of 2 numbers
INITIAL = np.linspace(-1.0, 2.0, N)

_GENERATOR = np.random.default_rng(5)
_NOISE = _GENERATOR.normal(size=(8, STEPS, N))
_FACTOR = _GENERATOR.normal(size=(N, N))
_HESSIAN = _FACTOR @ _FACTOR.T / N + 0.1 * np.eye(N)


def gradient(worker, step, point):
    return _HESSIAN @ point - _NOISE[worker, step]


class Quadratic(keras.Model):
    """Its output is the loss."""

    def build(self, input_shape):
        self.head = self.add_weight(shape=(SPLIT,), name="head")
        self.tail = self.add_weight(shape=(N - SPLIT,), name="tail")

    def call(self, inputs):
        w = tf.concat([tf.convert_to_tensor(v) for v in self.weights], axis=0)
        hessian_w = tf.linalg.matvec(tf.constant(_HESSIAN), w)
        return tf.tensordot(w, hessian_w, 1) / 2 - tf.linalg.matvec(inputs, w)


def build(make_optimizer, **compile_kwargs):
    """A model at INITIAL, in the scope that is open."""
    model = Quadratic()
    model.build((None, N))
    model.set_weights([INITIAL[:SPLIT], INITIAL[SPLIT:]])
    model.compile(
        make_optimizer(), loss=lambda _, output: output, **compile_kwargs
    )
    return model


def samples(workers, steps=STEPS):
    """Batches in a row: at each step one sample for each of the workers."""
    x = np.concatenate(_NOISE[list(workers), :steps].swapaxes(0, 1))
    return x, np.zeros(len(x))


def fit(model, workers, steps=STEPS, **kwargs):
    model.fit(
        *samples(workers, steps),
        batch_size=len(workers),
        shuffle=False,
        verbose=0,
        **kwargs,
    )


def worker_rows(variables):
    """What the workers store in these variables, shape (p, N)."""
    return np.concatenate(
        [compat.native_variable(v).worker_values() for v in variables], axis=1
    )


class Record(keras.callbacks.Callback):
    """Notes the state before the first and after every step."""

    def __init__(self):
        super().__init__()
        self.rows = {"stored": [], "center": [], "velocity": []}

    def note(self):
        optimizer = self.model.optimizer
        variables = self.model.trainable_variables
        self.rows["stored"].append(worker_rows(variables))
        self.rows["center"].append(
            np.concatenate([compat.native_variable(v) for v in variables])
        )
        if getattr(optimizer, "_velocities", None):
            self.rows["velocity"].append(worker_rows(optimizer._velocities))

    def on_train_begin(self, logs=None):
        if self.model.optimizer.built:
            self.note()

    def on_train_batch_end(self, batch, logs=None):
        self.note()


def relative_error(found, expected):
    assert found.shape == expected.shape
    return np.max(np.abs(found - expected)) / np.max(np.abs(expected))
