"""The switch `check_conservation`: silent when right, loud when wrong."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from tf_elastic import optimizers
from tf_elastic import strategies
from tf_elastic import theory
from tf_elastic.core import rules

DEVICES = ["CPU:0", "CPU:1", "CPU:2"]


def train(strategy, optimizer):
    with strategy.scope():
        model = keras.Sequential([keras.Input([3]), keras.layers.Dense(4)])
        model.compile(optimizer(), loss="mse", steps_per_execution=2)
    rng = np.random.default_rng(0)
    data = tf.data.Dataset.from_tensor_slices(
        (rng.normal(size=[96, 3]), rng.normal(size=[96, 4]))
    ).batch(12)
    options = tf.data.Options()
    options.autotune.enabled = False
    model.fit(data.with_options(options), verbose=0, shuffle=False)
    return model


@pytest.mark.parametrize(
    ("order", "nesterov"),
    [
        pytest.param(
            order,
            nesterov,
            # Each momentum once; with the wrong exchanges, each order.
            marks=[]
            if (order, nesterov)
            in {("round_robin", True), ("gauss_seidel", False)}
            else [pytest.mark.full],
        )
        for order in theory.ORDERS
        for nesterov in (True, False)
    ],
)
def test_a_right_exchange_passes(order, nesterov):
    strategy = strategies.ElasticMirroredStrategy(
        DEVICES, order, check_conservation=True
    )
    model = train(
        strategy,
        lambda: optimizers.EAMSGD(
            0.05, momentum=0.9, communication_period=2, nesterov=nesterov
        ),
    )
    assert int(model.optimizer.center_step) == 4


@pytest.mark.parametrize(
    "order",
    [
        pytest.param(
            order, marks=[] if order == "jacobi" else [pytest.mark.full]
        )
        for order in theory.ORDERS
    ],
)
def test_a_wrong_exchange_is_found(order, monkeypatch):
    strategy = strategies.ElasticMirroredStrategy(
        DEVICES, order, check_conservation=True
    )
    monkeypatch.setattr(
        rules.Elastic,
        "settle",
        lambda self, x, d, rates: x - 1.01 * rates["moving_rate"] * d,
    )
    with pytest.raises(tf.errors.InvalidArgumentError, match="kernel"):
        train(strategy, lambda: optimizers.EASGD(0.5, communication_period=1))


def test_rates_that_conserve_nothing_are_refused():
    strategy = strategies.ElasticMirroredStrategy(
        DEVICES, check_conservation=True
    )
    with pytest.raises(ValueError, match="check_conservation"):
        train(
            strategy,
            lambda: optimizers.EASGD(
                0.1, moving_rate=0.1, beta=0.9, symmetric=False
            ),
        )
