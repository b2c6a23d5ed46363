"""Data, events and timings of a virtual cluster."""

import itertools

import keras
import numpy as np
import pytest
import tensorflow as tf

from tf_elastic import optimizers
from tf_elastic import strategies
from tf_elastic import timeline
from tf_elastic.timeline import verify
from tf_elastic.timeline.virtual import moves
from tf_elastic.timeline.virtual.durations import Exponential
from tf_elastic.timeline.virtual.timing import Timing

P = 3


def model_of(strategy, period=2):
    keras.utils.set_random_seed(0)
    with strategy.scope():
        model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
        model.compile(
            optimizers.EASGD(0.01, communication_period=period), loss="mse"
        )
    return model


def of_worker(context):
    """Batches that tell whose they are, and which."""

    def batch(n):
        worker = tf.cast(context.input_pipeline_id, tf.float32)
        return tf.fill([2, 1], 1000 * worker + tf.cast(n, tf.float32))

    assert context.num_input_pipelines == P
    numbers = tf.data.Dataset.range(100)
    return numbers.map(lambda n: (batch(n), tf.zeros([2, 1])))


class Seen(keras.layers.Layer):
    """Notes the batches that it is trained with."""

    def build(self, input_shape):
        self.seen = []

    def call(self, x):
        tf.numpy_function(lambda v: self.seen.append(float(v)), [x[0, 0]], [])
        return x


def test_each_worker_has_its_own_data():
    timing = Timing(step=Exponential(1.0))
    strategy = strategies.VirtualClusterStrategy(P, timing=timing, seed=3)
    keras.utils.set_random_seed(0)
    with strategy.scope():
        seen = Seen()
        model = keras.Sequential(
            [keras.Input((1,)), seen, keras.layers.Dense(1)]
        )
        model.compile(optimizers.EASGD(1e-9), loss="mse")
        model.optimizer.build(model.trainable_variables)
    data = strategy.distribute_datasets_from_function(of_worker)
    model.fit(data, steps_per_epoch=12, epochs=2, verbose=0)
    steps = [
        move
        for move in itertools.islice(
            strategy.extended.clock.turns.timeline.moves(), 200
        )
        if move.kind in moves.STEPS
    ]
    expected = [1000.0 * move.worker + move.clock for move in steps[:24]]
    assert seen.seen[-24:] == expected


def test_what_happens_is_written_as_it_happens(tmp_path):
    path = tmp_path / "events.jsonl"
    strategy = strategies.VirtualClusterStrategy(
        P,
        timing=Timing(step=Exponential(1.0), latency=0.1),
        seed=1,
        events=path,
    )
    model = model_of(strategy)
    data = tf.data.Dataset.from_tensors((np.ones((2, 1)), np.zeros((2, 1))))
    model.fit(data.repeat(), steps_per_epoch=30, verbose=0)
    written = timeline.read(path)
    assert not verify.verify(written)
    told = [e for e in strategy.events() if e.kind == "exchange"]
    found = [e for e in written if e.kind == "exchange"]
    assert found[: len(told)] == told and len(told) > 5


def test_a_timing_has_a_name():
    strategy = strategies.VirtualClusterStrategy(2, timing="thesis-cifar")
    model = model_of(strategy)
    model.fit(np.ones((8, 1)), np.zeros((8, 1)), batch_size=1, verbose=0)
    assert 0.05 < strategy.virtual_seconds < 1.0
    assert strategy.local_steps == 8
    with pytest.raises(ValueError, match="thesis-cifar"):
        strategies.VirtualClusterStrategy(2, timing="thesis-cifra")
    with pytest.raises(ValueError, match="timing=3"):
        strategies.VirtualClusterStrategy(2, timing=3)
    with pytest.raises(ValueError, match="num_workers=0"):
        strategies.VirtualClusterStrategy(0)
