"""What chapter 4 is about, at a size of seconds: more workers, less time."""

import keras
import numpy as np
import tensorflow as tf

import tf_elastic as te
from tf_elastic.figures.trained.settings import METHODS
from tf_elastic.timeline.virtual import LogNormal
from tf_elastic.timeline.virtual import Stragglers
from tf_elastic.timeline.virtual import Timing

TIMING = Timing(step=LogNormal(0.1, 0.2), latency=0.002, service=0.001)
# Half of w' H w, the curvatures of which are these; gradients have noise.
CURVATURES = np.geomspace(0.1, 1.0, 8).astype(np.float32)
NOISE, START, LEVEL = 3.0, 2.0, 0.2
STEPS = 400  # of each worker, at most


class Quadratic(keras.Model):
    """Its output is the loss, without the noise's constant."""

    def build(self, input_shape):
        self.point = self.add_weight(shape=CURVATURES.shape, name="point")

    def call(self, inputs):
        point = tf.convert_to_tensor(self.point)
        loss = tf.reduce_sum(CURVATURES * point**2) / 2
        return loss - tf.linalg.matvec(inputs, point)


class UntilLevel(keras.callbacks.Callback):
    """Ends training at the level; `seconds` of virtual time until then."""

    seconds = np.inf

    def on_epoch_end(self, epoch, logs=None):
        [point] = self.model.get_weights()
        if np.sum(CURVATURES * point**2) / 2 < LEVEL:
            self.seconds = self.model.distribute_strategy.virtual_seconds
            self.model.stop_training = True


def seconds_to_level(workers, optimizer, timing):
    strategy = te.strategies.VirtualClusterStrategy(
        workers, timing=timing, protocol="blocking", device="CPU:0"
    )
    with strategy.scope():
        model = Quadratic()
        model.build((None, CURVATURES.size))
        model.set_weights([np.full_like(CURVATURES, START)])
        model.compile(optimizer(), loss=lambda _, output: output)
    rng = np.random.default_rng(0)
    x = rng.normal(scale=NOISE, size=(STEPS * workers, CURVATURES.size))
    until = UntilLevel()
    model.fit(
        tf.data.Dataset.from_tensor_slices((x, x[:, 0])).batch(1),
        steps_per_epoch=5 * workers,
        epochs=STEPS // 5,
        verbose=0,
        callbacks=[until],
    )
    return until.seconds


def test_eight_workers_need_less_virtual_time_than_momentum_alone():
    """On a noisy quadratic; alone a higher rate or a lower one is no help."""
    alone = dict(METHODS["MSGD"].arguments, momentum=0.9)
    msgd = {
        rate: seconds_to_level(
            1,
            lambda rate=rate: te.optimizers.EAMSGD(rate, **alone),
            TIMING.without_links,
        )
        for rate in (0.002, 0.01)
    }
    eamsgd = seconds_to_level(
        8,
        lambda: te.optimizers.EAMSGD(
            0.01, momentum=0.9, communication_period=5
        ),
        TIMING,
    )
    assert eamsgd < 0.7 * min(msgd.values()) < np.inf


def test_digits_under_stragglers():
    """Who does not wait is as good, and sooner."""
    timing = Timing(step=0.1, latency=0.002, stragglers=Stragglers(0.1, 10.0))
    error, seconds = {}, {}
    for protocol in ("overlapped", "synchronous"):
        strategy = te.strategies.VirtualClusterStrategy(
            4, timing=timing, protocol=protocol, device="CPU:0"
        )
        with strategy.scope():
            model = te.models.digits_convnet(seed=0)
            model.compile(
                te.optimizers.EAMSGD(
                    0.02, momentum=0.9, communication_period=2
                ),
                loss="sparse_categorical_crossentropy",
                metrics=["accuracy"],
            )
        data = te.data.load(
            "digits", num_workers=4, batch_size=32, seed=0, in_turn=True
        )
        model.fit(data["train"], epochs=10, verbose=0)
        found = model.evaluate(data["test"], verbose=0, return_dict=True)
        error[protocol] = 1 - found["accuracy"]
        seconds[protocol] = strategy.virtual_seconds
        assert strategy.local_steps == 440
        assert strategy.goodput > 0.9
    assert max(error.values()) < 0.2
    assert seconds["overlapped"] < 0.7 * seconds["synchronous"]
