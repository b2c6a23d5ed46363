"""`VirtualClusterStrategy` in the ways that models are trained."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from tests import virtual_training_support as support
from tests.virtual_training_support import NOISE
from tests.virtual_training_test import SLOW
from tf_elastic import optimizers
from tf_elastic import strategies
from tf_elastic.timeline.virtual import Timing
from tf_elastic.timeline.virtual import moves

pytestmark = pytest.mark.usefixtures("float64")
P, STEPS = 3, 23


def eamsgd(**options):
    options = {"communication_period": 2, "jit_compile": False, **options}
    return optimizers.EAMSGD(0.05, momentum=0.8, **options)


def cluster():
    return strategies.VirtualClusterStrategy(P, timing=SLOW, seed=2)


def found(model):
    trained = model.trainable_variables
    return support.center_of(trained), support.workers_of(trained)


def by_fit(**options):
    model = support.build(cluster(), eamsgd, **options)
    support.fit(model, STEPS)
    return model


def test_all_ways_to_step_are_the_same():
    whole = found(by_fit())
    several = found(by_fit(steps_per_execution=5))
    one = support.build(cluster(), eamsgd)
    for x in NOISE[:STEPS]:
        one.train_on_batch(x[np.newaxis], x[:1])
    for other in (several, found(one)):
        for a, b in zip(other, whole, strict=True):
            support.same(a, b)


def test_what_looks_at_the_center_changes_nothing():
    whole = found(by_fit())
    model = support.build(cluster(), eamsgd)
    for first in range(0, STEPS, 5):
        support.fit(model, min(5, STEPS - first), first)
        model.evaluate(NOISE[:3], NOISE[:3, 0], verbose=0)
        model.predict(NOISE[:3], verbose=0)
    for a, b in zip(found(model), whole, strict=True):
        support.same(a, b)


def test_virtual_time_goes_on_with_a_new_optimizer():
    model = by_fit()
    strategy = model.distribute_strategy
    seconds = strategy.virtual_seconds
    with strategy.scope():
        model.compile(eamsgd(), loss=lambda _, output: output)
    support.fit(model, STEPS)
    assert strategy.virtual_seconds > seconds
    assert strategy.local_steps == STEPS


def test_an_optimizer_before_the_newest_is_refused():
    strategy = cluster()
    first = support.build(strategy, eamsgd)
    support.fit(first, 3)
    second = support.build(strategy, eamsgd)
    support.fit(second, 3)
    with pytest.raises(
        (ValueError, tf.errors.InvalidArgumentError), match="built last"
    ):
        support.fit(first, 3)


def test_steps_of_an_exchange_are_the_same_in_all_ways():
    whole, several = (
        support.build(
            cluster(),
            lambda: optimizers.ADMM(0.05, communication_period=2),
            steps_per_execution=count,
        )
        for count in (1, 5)
    )
    for model in (whole, several):
        support.fit(model, STEPS)
    for a, b in zip(found(several), found(whole), strict=True):
        support.same(a, b)


@pytest.mark.parametrize(
    ("protocol", "optimizer"),
    [
        ("blocking", lambda: optimizers.EASGD(0.05, communication_period=2)),
        ("blocking", lambda: optimizers.AsyncMSGD(0.05, momentum=0.5)),
        ("blocking", lambda: optimizers.ADMM(0.05, communication_period=2)),
    ],
    ids=["difference", "gradient", "part"],
)
def test_a_step_that_is_skipped_keeps_nobody(protocol, optimizer):
    """Gradients that are not finite, of a loss that is scaled."""
    timing = Timing(step=(1.0, 1.3, 1.9), latency=0.2)
    strategy = strategies.VirtualClusterStrategy(
        3, timing=timing, protocol=protocol
    )
    with strategy.scope():
        model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
        scaled = keras.optimizers.LossScaleOptimizer(
            optimizer(), initial_scale=2.0
        )
        model.compile(scaled, loss="mse")
    x = np.random.default_rng(0).normal(size=(24, 2)).astype("float32")
    x[5], x[11] = np.inf, np.nan
    model.fit(x, np.zeros((24, 1)), batch_size=1, shuffle=False, verbose=0)
    assert strategy.local_steps == 24
    assert all(np.isfinite(w).all() for w in model.get_weights())
    turns = strategy.extended.clock.turns
    updates = sum(turns.staleness.values())
    # What comes before the next gradient waits for it.
    waiting = sum(m.kind in moves.UPDATES for m in turns.turn(24).late)
    exchanges = updates - waiting
    if isinstance(scaled.inner_optimizer, optimizers.ADMM):
        exchanges = 22  # Each step is a part of one.
    assert int(scaled.inner_optimizer.center_step.numpy()) == exchanges
    clocks = scaled.inner_optimizer.iterations.value.worker_values()
    assert clocks.sum() == 22
