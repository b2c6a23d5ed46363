"""Which rows a worker gets: last batches, data of unknown length, one batch."""

import contextlib

import keras
import numpy as np
import pytest
import tensorflow as tf

from tf_elastic import compat
from tf_elastic import optimizers

X = np.random.default_rng(3).normal(size=(101, 4)).astype("float32")
Y = X.sum(axis=1, keepdims=True)


def native(variable):
    return compat.native_variable(variable)


def compiled(strategy, optimizer, layers=(), **kwargs):
    keras.utils.set_random_seed(1)
    with strategy.scope():
        model = keras.Sequential(
            [
                keras.Input((4,)),
                *(layer() for layer in layers),
                keras.layers.Dense(1),
            ]
        )
        model.compile(optimizer(), loss="mse", **kwargs)
    return model


LAST = {
    "EAMSGD": lambda: optimizers.EAMSGD(
        0.01, momentum=0.5, communication_period=3
    ),
    "AsyncMSGD": lambda: optimizers.AsyncMSGD(0.01, momentum=0.5),
    "ADMM": lambda: optimizers.ADMM(
        0.01, elasticity=0.5, communication_period=2
    ),
    "Adam": lambda: optimizers.Elastic(
        keras.optimizers.Adam(0.01), communication_period=3
    ),
    "scaled loss": lambda: keras.optimizers.LossScaleOptimizer(
        optimizers.EASGD(0.01, communication_period=3)
    ),
}


@pytest.mark.parametrize(
    "name",
    [
        "EAMSGD",
        "AsyncMSGD",
        "scaled loss",
        pytest.param("ADMM", marks=pytest.mark.full),
        pytest.param("Adam", marks=pytest.mark.full),
    ],
)
def test_a_worker_without_rows_does_nothing(strategy, name):
    """101 rows in batches of 10 on two: the last one has got one row."""
    model = compiled(
        strategy(2, None),
        LAST[name],
        [keras.layers.BatchNormalization, lambda: keras.layers.Dropout(0.1)],
    )
    model.fit(X, Y, batch_size=10, epochs=2, shuffle=False, verbose=0)
    inner = getattr(model.optimizer, "inner_optimizer", model.optimizer)
    iterations = native(inner.iterations).worker_values()
    assert iterations.tolist() == [22, 20]
    for variable in model.variables + model.optimizer.variables:
        assert np.all(np.isfinite(np.stack(native(variable).worker_values())))
    losses = model.fit(X, Y, batch_size=10, verbose=0).history["loss"]
    assert np.all(np.isfinite(losses))


@pytest.mark.parametrize(
    ("layer", "name"),
    [
        ("MaxPooling2D", "fit"),
        ("GlobalMaxPooling2D", "loop"),
        pytest.param("MaxPooling2D", "loop", marks=pytest.mark.full),
        pytest.param("GlobalMaxPooling2D", "fit", marks=pytest.mark.full),
    ],
)
def test_layers_that_fail_on_no_rows(strategy, layer, name):
    """A pooling's gradient ends the process, a normalization's an error."""
    images = np.random.default_rng(1).normal(size=(5, 6, 6, 2))
    labels = np.array([0, 1, 0, 1, 1])
    keras.utils.set_random_seed(1)
    with (s := strategy(2, None)).scope():
        model = keras.Sequential(
            [
                keras.Input((6, 6, 2)),
                keras.layers.Conv2D(3, 3, activation="gelu"),
                keras.layers.BatchNormalization(),
                getattr(keras.layers, layer)(),
                keras.layers.Flatten(),
                keras.layers.Dense(2),
            ]
        )
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        optimizer = optimizers.EASGD(0.1, communication_period=2)
        model.compile(optimizer, loss, metrics=["accuracy"])
    if name == "fit":
        model.fit(images, labels, batch_size=4, verbose=0)
    else:
        _own_loop(s, model, optimizer, images, labels)
    iterations = native(optimizer.iterations).worker_values()
    assert iterations.tolist() == [2, 1]
    values = [native(v).worker_values() for v in model.variables]
    assert all(np.isfinite(np.stack(v)).all() for v in values)
    found = model.evaluate(images, labels, batch_size=4, verbose=0)
    predicted = model.predict(images, batch_size=4, verbose=0)
    assert predicted.shape == (5, 2)
    accuracy = (predicted.argmax(1) == labels).mean()
    np.testing.assert_allclose(
        found, [float(loss(labels, predicted)), accuracy], rtol=1e-5
    )


def _own_loop(s, model, optimizer, images, labels):
    """TensorFlow's tutorial; the sums of an idle replica are nothing."""

    def train_step(x, y):
        with tf.GradientTape() as tape:
            each = keras.losses.sparse_categorical_crossentropy(
                y, model(x, training=True), from_logits=True
            )
            loss = tf.nn.compute_average_loss(each, global_batch_size=4)
        variables = model.trainable_variables
        optimizer.apply_gradients(
            zip(tape.gradient(loss, variables), variables, strict=True)
        )
        return loss, each, tf.size(y)

    step = tf.function(lambda x, y: s.run(train_step, args=(x, y)))
    data = tf.data.Dataset.from_tensor_slices((images, labels)).batch(4)
    for k, batch in enumerate(s.experimental_distribute_dataset(data)):
        loss, each, rows = step(*batch)
        of_replicas = s.experimental_local_results(each)
        assert [len(part) for part in of_replicas] == ([2, 2], [1, 0])[k]
        assert int(s.reduce("SUM", rows, axis=None)) == (4, 1)[k]
        np.testing.assert_allclose(
            s.reduce("SUM", loss, axis=None),
            sum(map(float, np.concatenate(of_replicas))) / 4,
            rtol=1e-6,
        )


def test_a_short_batch_is_cut_evenly(strategy):
    """As TensorFlow cuts it: nobody is idle as long as there are rows."""
    s = strategy(3)
    data = tf.data.Dataset.range(15).batch(10)
    found = [
        [part.numpy().tolist() for part in s.experimental_local_results(batch)]
        for batch in s.experimental_distribute_dataset(data)
    ]
    assert found == [
        [[0, 1, 2, 3], [4, 5, 6], [7, 8, 9]],
        [[10, 11], [12, 13], [14]],
    ]


def test_the_last_row_moves_one_worker_alone(strategy):
    """State and statistics of the other are as they were."""
    model = compiled(
        strategy(2),
        lambda: optimizers.EAMSGD(0.1, communication_period=None),
        [keras.layers.BatchNormalization],
    )
    data = tf.data.Dataset.from_tensor_slices((X[:11], Y[:11])).batch(10)
    states = []

    class Record(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            states.append(
                [
                    native(v).worker_values()
                    for v in model.variables + model.optimizer.variables
                ]
            )

    model.fit(data, verbose=0, callbacks=[Record()], shuffle=False)
    moved = [
        [not np.array_equal(a[i], b[i]) for a, b in zip(*states, strict=True)]
        for i in range(2)
    ]
    assert not any(moved[1])
    assert sum(moved[0]) >= len(model.trainable_variables) * 2


def test_a_batch_is_cut_up_among_the_workers_whoever_asks(strategy):
    """`predict_on_batch`, `test_on_batch`, `train_on_batch`."""
    model = compiled(
        strategy(2), lambda: optimizers.EASGD(0.1, communication_period=None)
    )
    for rows in (5, 1, 2):
        predicted = model.predict_on_batch(X[:rows])
        assert predicted.shape == (rows, 1)
        np.testing.assert_allclose(
            predicted, model.predict(X[:rows], verbose=0), rtol=1e-6
        )
    np.testing.assert_allclose(
        model.test_on_batch(X[:6], Y[:6]),
        model.evaluate(X[:6], Y[:6], verbose=0),
        rtol=1e-6,
    )
    start = model.get_weights()
    model.train_on_batch(X[:8], Y[:8])
    for i in range(2):
        own = slice(4 * i, 4 * i + 4)
        error = X[own] @ start[0] + start[1] - Y[own]
        expected = start[0] - 0.1 * 2 * X[own].T @ error / 4
        np.testing.assert_allclose(
            native(model.trainable_variables[0]).worker_values()[i],
            expected,
            rtol=1e-4,
        )


UNKNOWN = {
    "LocalSGD": lambda: optimizers.LocalSGD(
        keras.optimizers.SGD(0.05), communication_period=5
    ),
    "DiLoCo": lambda: optimizers.DiLoCo(
        keras.optimizers.SGD(0.05), communication_period=5
    ),
    "Downpour": lambda: optimizers.Downpour(0.02, communication_period=5),
}


@pytest.mark.parametrize(
    ("name", "drop_remainder"),
    [
        ("DiLoCo", True),
        *(
            pytest.param(name, drop_remainder, marks=pytest.mark.full)
            for name, drop_remainder in (
                ("LocalSGD", False),
                ("LocalSGD", True),
                ("DiLoCo", False),
                ("Downpour", False),
                ("Downpour", True),
            )
        ),
    ],
)
def test_data_of_unknown_length_is_as_good_as_any(
    strategy, name, drop_remainder
):
    """The step in which it ends changes nothing, and loses no exchange."""
    results = []
    for unknown, steps_per_execution in ((0, 1), (1, 1), (1, 2)):
        data = tf.data.Dataset.from_tensor_slices((X[:64], Y[:64]))
        if unknown:
            data = data.filter(lambda x, y: True)
        model = compiled(
            strategy(2, None),
            UNKNOWN[name],
            steps_per_execution=steps_per_execution,
        )
        ends = pytest.warns(UserWarning, match="ran out of data")
        with ends if unknown else contextlib.nullcontext():
            model.fit(
                data.batch(16, drop_remainder=drop_remainder),
                epochs=5,
                verbose=0,
                shuffle=False,
            )
        assert model.optimizer.iterations.numpy() == 20
        assert model.optimizer.center_step.numpy() == 4
        results.append(
            [native(v).worker_values() for v in model.variables]
            + model.get_weights()
        )
    for other in results[1:]:
        for found, expected in zip(other, results[0], strict=True):
            np.testing.assert_array_equal(found, expected)


@pytest.mark.filterwarnings("ignore:Your input ran out of data")
def test_a_generator_loses_nothing(strategy):
    """All its batches are trained on, and what it raises is told."""

    def batches(fails=False):
        for i in range(8):
            if fails and i == 3:
                raise ValueError("my own error")
            yield X[8 * i : 8 * i + 8], Y[8 * i : 8 * i + 8]

    def easgd():
        return optimizers.EASGD(0.05, communication_period=3)

    known = compiled(strategy(2), easgd)
    known.fit(X[:64], Y[:64], batch_size=8, shuffle=False, verbose=0)
    model = compiled(strategy(2), easgd)
    model.fit(batches(), verbose=0, shuffle=False)
    for found, expected in zip(
        model.get_weights(), known.get_weights(), strict=True
    ):
        np.testing.assert_array_equal(found, expected)
    with pytest.raises(tf.errors.InvalidArgumentError, match="my own error"):
        model.fit(batches(fails=True), verbose=0, shuffle=False)
    assert model.optimizer.iterations.numpy() == 8 + 3


def test_what_is_not_finite_is_set_on_all(strategy):
    """Though the center has these values already."""
    model = compiled(
        strategy(2), lambda: optimizers.EASGD(0.1, communication_period=20)
    )
    weights = model.get_weights()
    model.train_on_batch(np.full((4, 4), np.nan), np.ones((4, 1)))
    assert np.isnan(native(model.trainable_variables[0]).worker_values()).all()
    model.set_weights(weights)
    for variable, value in zip(model.variables, weights, strict=True):
        for worker in native(variable).worker_values():
            np.testing.assert_array_equal(worker, value)
