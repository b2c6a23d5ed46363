"""Workers that push one after another are a constant delay."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from tf_elastic import optimizers

SIZE, STEPS = 5, 6


class Bowl(keras.Model):
    """A loss without data: x^2 h / 2 with a curvature for each coordinate."""

    def build(self, _):
        self.point = self.add_weight(
            shape=(SIZE,), initializer="ones", name="point"
        )

    def call(self, inputs):
        x = tf.convert_to_tensor(self.point)
        curvature = tf.linspace(tf.constant(0.1, x.dtype), 1.0, SIZE)
        loss = tf.reduce_sum(tf.cast(curvature, x.dtype) * x * x) / 2
        return loss + 0 * inputs[:, :1]


def trained(model, optimizer, batch_size, steps):
    model.compile(optimizer, loss=lambda _, loss: loss, jit_compile=False)
    x = tf.zeros((batch_size * steps, 1))
    model.fit(x, x, batch_size=batch_size, shuffle=False, verbose=0)
    return model.get_weights()[0]


# Exact in float32, through which Keras' SGD takes its momentum.
@pytest.mark.parametrize("momentum", [0.0, 0.625])
def test_async_msgd_is_momentum_sgd_with_gradients_late_by_the_others(
    strategy, float64, momentum
):
    """Eq. 1.3 twice: p workers in a round, and a delay of p - 1."""
    p = 4
    with strategy(p, None).scope():
        model = Bowl()
        model.build((None, 1))
        optimizer = optimizers.AsyncMSGD(
            0.2, momentum=momentum, jit_compile=False
        )
        workers = trained(model, optimizer, p, STEPS)
    alone = Bowl()
    alone.build((None, 1))
    delayed = trained(
        alone,
        optimizers.DelayedGradient(
            keras.optimizers.SGD(0.2, momentum=momentum), delay=p - 1
        ),
        1,
        p * STEPS,
    )
    np.testing.assert_allclose(workers, delayed, rtol=1e-12)
    undelayed = Bowl()
    undelayed.build((None, 1))
    prompt = trained(
        undelayed, keras.optimizers.SGD(0.2, momentum=momentum), 1, p * STEPS
    )
    assert np.abs(prompt - workers).max() > 1e-3
