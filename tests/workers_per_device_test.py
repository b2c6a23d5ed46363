"""Several workers on one device equal as many devices."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from tests import devices
from tf_elastic import optimizers
from tf_elastic import strategies

P, ROWS, BATCHES = 4, 4, 5
SGD = keras.optimizers.SGD


def easgd(**kwargs):
    return optimizers.EASGD(0.1, communication_period=3, **kwargs)


def eamsgd(**kwargs):
    return optimizers.EAMSGD(
        keras.optimizers.schedules.InverseTimeDecay(0.02, 5, 1.0),
        momentum=0.9,
        communication_period=2,
        **kwargs,
    )


CASES = {
    "easgd-jacobi": easgd,
    "easgd-gauss_seidel": easgd,
    "eamsgd-round_robin": eamsgd,
    "average-jacobi": lambda: easgd(center_average="polyak"),
    "ema-jacobi": lambda: easgd(use_ema=True, ema_momentum=0.5),
    "accumulation-jacobi": lambda: easgd(gradient_accumulation_steps=2),
    "downpour-round_robin": lambda: optimizers.Downpour(
        0.02, communication_period=3
    ),
    "async_msgd-round_robin": lambda: optimizers.AsyncMSGD(
        0.02, momentum=0.5, delay_compensation=0.1, adjustment="inverse_sqrt"
    ),
    "admm-round_robin": lambda: optimizers.ADMM(0.1, elasticity=0.5),
    "admm-round_robin-period": lambda: optimizers.ADMM(
        0.1, elasticity=0.5, communication_period=3
    ),
    "diloco-gauss_seidel": lambda: optimizers.DiLoCo(
        SGD(0.1, momentum=0.5), communication_period=4
    ),
}
# The others are in `test-all`.
QUICK = (
    *("easgd-gauss_seidel", "eamsgd-round_robin"),
    *("ema-jacobi", "async_msgd-round_robin"),
)
# Whose last batch has fewer rows than there are workers.
SHORT = ("easgd-jacobi", "ema-jacobi", "eamsgd-round_robin")


def strategy_of(kind, order, **kwargs):
    if kind == "devices":
        return strategies.ElasticMirroredStrategy(
            devices.names(P), order=order, **kwargs
        )
    return strategies.ElasticMirroredStrategy(
        devices.names(1), order=order, workers_per_device=P, **kwargs
    )


def model_of(strategy, optimizer, **kwargs):
    """With statistics, and in float64."""
    keras.utils.set_random_seed(1)
    with strategy.scope():
        layers = keras.layers
        inputs = keras.Input((5,), dtype="float64")
        x = layers.Dense(6, activation="tanh", dtype="float64")(inputs)
        x = layers.BatchNormalization(dtype="float64")(x)
        model = keras.Model(inputs, layers.Dense(2, dtype="float64")(x))
        model.compile(optimizer(), loss="mse", metrics=["mae"], **kwargs)
    return model


def batches(rows=P * ROWS * BATCHES):
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(rows, 5)), rng.normal(size=(rows, 2))
    return tf.data.Dataset.from_tensor_slices((x, y)).batch(P * ROWS)


def found(model, history):
    """Parameters and statistics of the center, workers, metrics."""
    optimizer = model.optimizer
    return {
        "center": [w.numpy() for w in model.trainable_weights],
        "statistics": [w.numpy() for w in model.non_trainable_weights],
        "workers": optimizer.worker_points(),
        "clock": [
            int(optimizer.iterations.numpy()),
            int(optimizer.center_step.numpy()),
        ],
        "loss": history.history["loss"],
        "mae": history.history["mae"],
    }


@pytest.mark.parametrize(
    "case",
    [
        case if case in QUICK else pytest.param(case, marks=pytest.mark.full)
        for case in CASES
    ],
)
def test_it_equals_as_many_devices(case):
    order = case.split("-")[1]
    rows = P * ROWS * 5 + (2 if case in SHORT else 0)
    results = []
    for kind in ("devices", "bank"):
        model = model_of(strategy_of(kind, order), CASES[case])
        history = model.fit(batches(rows), epochs=2, verbose=0)
        results.append(found(model, history))
    devices, bank = results
    for name in ("center", "workers", "clock", "loss", "mae"):
        for a, b in zip(devices[name], bank[name], strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-12)
    for a, b in zip(devices["center"], bank["center"], strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-11, atol=1e-13)
    if order != "jacobi":  # There they are as before the gradients.
        for a, b in zip(devices["statistics"], bank["statistics"], strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-6)


def test_a_step_of_ones_own_is_that_of_one_worker():
    strategy = strategy_of("bank", "round_robin")
    model = model_of(strategy, easgd)
    x, y = np.ones((3, 5)), np.ones((3, 2))

    @tf.function
    def step():
        def replica():
            with tf.GradientTape() as tape:
                loss = tf.reduce_mean((model(x, training=True) - y) ** 2)
            variables = model.trainable_variables
            model.optimizer.apply(tape.gradient(loss, variables), variables)

        strategy.run(replica)

    with strategy.scope():
        model.optimizer.build(model.trainable_variables)
    for _ in range(P + 1):
        step()
    clocks = model.optimizer.iterations.value.worker_values()
    assert clocks.tolist() == [2, 1, 1, 1]


def test_train_on_batch_cuts_its_rows():
    model = model_of(strategy_of("bank", "jacobi"), easgd)
    model.train_on_batch(np.ones((P * ROWS, 5)), np.ones((P * ROWS, 2)))
    clocks = model.optimizer.iterations.value.worker_values()
    assert clocks.tolist() == [1] * P


def test_a_file_goes_on_where_it_ended(tmp_path):
    """Also in the middle of a period, and into devices and back."""
    train = batches()
    whole = model_of(strategy_of("bank", "jacobi"), easgd)
    whole.fit(train, epochs=1, verbose=0)
    whole.save(tmp_path / "model.keras")
    whole.fit(train, epochs=1, verbose=0)
    with strategy_of("bank", "jacobi").scope():
        loaded = keras.models.load_model(tmp_path / "model.keras")
    loaded.fit(train, epochs=1, verbose=0)
    for a, b in zip(whole.get_weights(), loaded.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


def test_several_devices_are_refused():
    with pytest.raises(ValueError, match="workers_per_device=2, and 2"):
        strategies.ElasticMirroredStrategy(
            devices.names(2), workers_per_device=2
        )
    for wrong in (0, 1.5, True):
        with pytest.raises(ValueError, match=f"workers_per_device={wrong}"):
            strategies.ElasticMirroredStrategy(workers_per_device=wrong)
    with pytest.raises(ValueError, match="check_conservation"):
        strategies.ElasticMirroredStrategy(
            check_conservation=True, workers_per_device=2
        )
