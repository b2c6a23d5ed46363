"""What the tests of `VirtualClusterStrategy` train: a quadratic, float64."""

import keras
import numpy as np
import tensorflow as tf

from tf_elastic import compat
from tf_elastic.timeline.virtual import moves as kinds

N, SPLIT = 5, 3  # numbers in two variables, of 3 and of 2
INITIAL = np.linspace(-1.0, 2.0, N)
_GENERATOR = np.random.default_rng(7)
NOISE = _GENERATOR.normal(size=(600, N))  # a sample of each training step
_FACTOR = _GENERATOR.normal(size=(N, N))
HESSIAN = _FACTOR @ _FACTOR.T / N + 0.1 * np.eye(N)


def gradient(step, point):
    return HESSIAN @ point - NOISE[step]


def statistic(step):
    return NOISE[step].mean()


class Quadratic(keras.Model):
    """Its output is the loss; it averages what it is given."""

    def build(self, input_shape):
        self.head = self.add_weight(shape=(SPLIT,), name="head")
        self.tail = self.add_weight(shape=(N - SPLIT,), name="tail")
        self.seen = self.add_weight(
            shape=(), name="seen", initializer="zeros", trainable=False
        )

    def call(self, inputs, training=False):
        if training:
            self.seen.assign(0.5 * self.seen + 0.5 * tf.reduce_mean(inputs))
        w = tf.concat(
            [tf.convert_to_tensor(v) for v in self.trainable_weights], axis=0
        )
        hessian_w = tf.linalg.matvec(tf.constant(HESSIAN), w)
        return tf.tensordot(w, hessian_w, 1) / 2 - tf.linalg.matvec(inputs, w)


def build(strategy, make_optimizer, **compile_kwargs):
    """A model at INITIAL, with an optimizer that is built."""
    with strategy.scope():
        model = Quadratic()
        model.build((None, N))
        model.set_weights([INITIAL[:SPLIT], INITIAL[SPLIT:], np.zeros(())])
        model.compile(
            make_optimizer(), loss=lambda _, output: output, **compile_kwargs
        )
        model.optimizer.build(model.trainable_variables)
    return model


def fit(model, steps, first=0, **kwargs):
    """Trains by so many samples, each one worker's."""
    x = NOISE[first : first + steps]
    model.fit(x, x[:, 0], batch_size=1, shuffle=False, verbose=0, **kwargs)


def center_of(variables):
    """What the center has of variables, in a row."""
    native = [compat.native_variable(v) for v in variables]
    return np.concatenate([np.ravel(v.numpy()) for v in native])


def workers_of(variables):
    """What each worker has of them, in rows."""
    rows = [compat.native_variable(v).worker_values() for v in variables]
    return np.concatenate([row.reshape(len(row), -1) for row in rows], axis=1)


class Beside(keras.callbacks.Callback):
    """After every few steps, all is as a reference says.

    Args:
        strategy: of the training.
        reference: of `reference.virtual`.
        every: how many steps.
    """

    def __init__(self, strategy, reference, every=3):
        super().__init__()
        self.strategy, self.reference, self.every = strategy, reference, every
        self.compared = 0
        self.seen = set()  # kinds of moves that were done

    def on_train_begin(self, logs=None):
        timeline = self.strategy.extended.clock.turns.timeline
        self._moves = timeline.moves()
        self._late = []
        self._next = None
        self._go_on()

    def _do(self, moves):
        for move in moves:
            self.seen.add(kinds.NAMES[move.kind])
            self.reference.follow(kinds.NAMES[move.kind], move)

    def _go_on(self):
        """What comes before the next step, as far as it does not wait.

        What comes before a gradient that is exchanged waits until that is
        taken, if it does not move the worker.
        """
        between = []
        for move in self._moves:
            if move.kind in kinds.STEPS:
                break
            between.append(move)
        waits = self.strategy.extended.clock.turns.waits
        must_not = [
            i + 1
            for i, m in enumerate(between)
            if m.kind not in waits
            or (m.worker == move.worker and m.kind in kinds.MOVING)
        ]
        early = max(must_not, default=0)
        self._do(between[:early])
        self._late, self._next = between[early:], move

    def on_train_batch_end(self, batch, logs=None):
        self.reference.compute(self._next.worker)
        self._do([*self._late, self._next])
        time = self._next.time
        self._go_on()
        if (batch + 1) % self.every:
            return
        assert self.strategy.virtual_seconds == time
        model, expected = self.model, self.reference
        trained = model.trainable_variables
        same(center_of(trained), expected.c)
        same(workers_of(trained), expected.stored)
        same(center_of([model.seen]), np.array([expected.c_s]))
        same(workers_of([model.seen])[:, 0], expected.s)
        self.compared += 1


def same(found, expected):
    np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-12)
