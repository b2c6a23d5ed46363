"""What is shown, saved and gone on from when `fit` ends within a period."""

import warnings

import keras
import numpy as np
import pytest
import tensorflow as tf

from tf_elastic import compat
from tf_elastic import optimizers

X = np.random.default_rng(3).normal(size=(48, 4)).astype("float32")
Y = X.sum(axis=1, keepdims=True)

SGD = keras.optimizers.SGD
METHODS = {
    "EAMSGD": (
        lambda: optimizers.EAMSGD(
            0.05, momentum=0.5, beta=0.6, communication_period=4
        ),
        "jacobi",
    ),
    "EASGD": (
        lambda: optimizers.EASGD(0.05, communication_period=4),
        "gauss_seidel",
    ),
    "Downpour": (
        lambda: optimizers.Downpour(0.02, communication_period=4),
        "gauss_seidel",
    ),
    "LocalSGD": (
        lambda: optimizers.LocalSGD(SGD(0.05), communication_period=4),
        None,
    ),
    "DiLoCo": (
        lambda: optimizers.DiLoCo(SGD(0.05), communication_period=4),
        None,
    ),
    "ADMM": (
        lambda: optimizers.ADMM(0.05, elasticity=0.5, communication_period=4),
        None,
    ),
}


def native(variable):
    return compat.native_variable(variable)


def made(strategy, name, closing=True):
    make, order = METHODS[name]
    keras.utils.set_random_seed(1)
    with strategy(2, order, closing=closing).scope():
        model = keras.Sequential(
            [
                keras.Input((4,)),
                keras.layers.Dense(3),
                keras.layers.BatchNormalization(),
                keras.layers.Dense(1),
            ]
        )
        model.compile(make(), loss="mse")
    return model


def fit(model, epochs):
    """6 steps an epoch."""
    model.fit(X, Y, batch_size=8, epochs=epochs, shuffle=False, verbose=0)


def workers(model):
    return [
        native(v).worker_values()
        for v in model.variables + model.optimizer.variables
    ]


def assert_equal(found, expected):
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize(
    "name",
    [
        "EAMSGD",
        *(
            pytest.param(name, marks=pytest.mark.full)
            for name in ("EASGD", "Downpour", "LocalSGD", "DiLoCo", "ADMM")
        ),
    ],
)
def test_training_goes_on_as_if_it_had_not_ended(strategy, name, tmp_path):
    """To the bit, also from a file; and the file shows what was shown."""
    whole = made(strategy, name)
    fit(whole, 3)
    parts, without = made(strategy, name), made(strategy, name, closing=False)
    for model in (parts, without):
        fit(model, 1)
    if name in SHOWN:
        assert_is_shown(name, without, parts)
    shown = parts.get_weights()
    parts.save(tmp_path / "model.keras")
    with parts.distribute_strategy.scope():
        loaded = keras.models.load_model(tmp_path / "model.keras")
    assert_equal(loaded.get_weights(), shown)
    for model in (parts, loaded):
        fit(model, 2)
        assert_equal(model.get_weights(), whole.get_weights())
        assert_equal(workers(model), workers(whole))
    # The workers know nothing of it.
    fit(without, 2)
    assert_equal(workers(without), workers(whole))


def test_it_is_better_than_what_the_center_knew(strategy):
    without, closed = (
        made(strategy, "LocalSGD", closing) for closing in (False, True)
    )
    losses = []
    for model in (without, closed):
        fit(model, 1)
        losses.append(model.evaluate(X, Y, verbose=0))
    assert losses[1] < losses[0]
    assert_is_shown("LocalSGD", without, closed)


# What has such a sum for every variable.
SHOWN = ("EAMSGD", "Downpour", "LocalSGD", "ADMM")


def assert_is_shown(name, without, closed):
    """c + min(beta, 1) / p sum(x - c), or the method's own sum.

    The distances are those of the center itself.
    """
    if name == "EAMSGD":
        np.testing.assert_array_equal(
            *(m.optimizer.elastic_distances() for m in (without, closed))
        )
    beta = 0.6 if name == "EAMSGD" else 1
    points = {
        id(variable): points
        for variable, points in zip(
            closed.trainable_variables,
            closed.optimizer.worker_points(),
            strict=True,
        )
    }
    moved = []
    for before, variable in zip(
        without.variables, closed.variables, strict=True
    ):
        share = beta / 2
        if id(variable) in points:
            if name == "ADMM":
                continue  # Its parts hold multipliers, too.
            if name == "Downpour":
                share = 1
        elif not native(variable).dtype.is_floating:
            continue
        center = before.numpy()
        moves = points.get(id(variable), native(variable).worker_values())
        expected = center + share * (moves - center).sum(axis=0)
        np.testing.assert_allclose(
            variable.numpy(), expected, rtol=1e-5, atol=1e-6
        )
        moved.append(np.abs(expected - center).max())
    assert max(moved) > 1e-3


def test_what_is_set_after_the_end_counts(strategy):
    """`set_weights` is no part of what the next step takes back."""
    model = made(strategy, "EAMSGD")
    fit(model, 1)
    weights = [np.full_like(w, 0.25) for w in model.get_weights()]
    model.set_weights(weights)
    rows = []

    class Record(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            rows.append(self.model.get_weights())

    model.fit(
        X[:8],
        Y[:8],
        batch_size=8,
        verbose=0,
        shuffle=False,
        callbacks=[Record()],
    )
    assert_equal(rows[0], weights)


def test_an_average_of_the_center_is_what_is_shown(strategy):
    """With `use_ema` Keras puts the average in the model's place."""
    with strategy(2, closing=True).scope():
        model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(1)])
        model.compile(
            optimizers.EASGD(0.1, use_ema=True, communication_period=4),
            loss="mse",
        )
    fit(model, 1)
    average = model.optimizer._model_variables_moving_average[0].numpy()
    np.testing.assert_array_equal(model.get_weights()[0], average)


def test_a_run_shorter_than_a_period_warns_once(strategy):
    model = made(strategy, "EAMSGD")
    model.optimizer.communication_period = 40
    message = "ended after 6 steps.*Received: communication_period=40"
    with pytest.warns(optimizers.ShortTrainingWarning, match=message) as told:
        fit(model, 1)
    assert len(told) == 1
    model.optimizer.communication_period = 4
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fit(model, 1)


@pytest.mark.filterwarnings("ignore:The .* holds 2 workers")
@pytest.mark.parametrize(
    ("kind", "trained_before"),
    [
        ("keras", True),
        ("checkpoint", False),
        pytest.param("keras", False, marks=pytest.mark.full),
        pytest.param("checkpoint", True, marks=pytest.mark.full),
    ],
)
def test_more_workers_begin_at_what_was_shown(
    strategy, kind, trained_before, tmp_path
):
    """A file that was written in the middle of a period, two workers' own."""

    def model_of(num_workers):
        keras.utils.set_random_seed(num_workers)
        with strategy(num_workers, None).scope():
            model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)])
            model.compile(
                optimizers.EAMSGD(0.05, momentum=0.5, communication_period=5),
                loss="mse",
            )
        return model

    x = np.random.default_rng(5).normal(size=(24, 4)).astype("float32")
    y = x[:, :2] ** 2

    def fit(model, rate=0.05):
        model.optimizer.learning_rate = rate
        model.fit(x, y, batch_size=6, verbose=0)  # 4 steps of a period of 5
        return model

    saved = fit(fit(model_of(2)))
    shown = saved.get_weights()
    path = str(tmp_path / "m.keras")
    if kind == "keras":
        saved.save(path)
    else:
        path = tf.train.Checkpoint(model=saved).save(path)
    restored = model_of(3)
    if trained_before:
        fit(restored)
    else:
        restored.optimizer.build(restored.trainable_variables)
    if kind == "keras":
        restored.load_weights(path)
    else:
        tf.train.Checkpoint(model=restored).restore(path)
    for variable, value in zip(restored.weights, shown, strict=True):
        np.testing.assert_array_equal(variable.numpy(), value)
        native = compat.native_variable(variable)
        for own in native.worker_values():
            np.testing.assert_array_equal(own, value)
    # Where nothing is learned nothing moves: no worker, and no center.
    fit(fit(restored, 0.0), 0.0)
    for variable, value in zip(restored.weights, shown, strict=True):
        np.testing.assert_allclose(variable.numpy(), value, rtol=1e-6)
