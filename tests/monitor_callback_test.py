"""`ElasticMonitor`: what it logs, what it writes, what it leaves alone."""

import csv
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf
from tensorboard.backend.event_processing import event_accumulator

import tf_elastic as te

WORKERS = 2
BATCH = 8  # of all workers
STEPS = 6  # in an epoch


@pytest.fixture(scope="module")
def data():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(BATCH * STEPS, 3)).astype("float32")
    y = (x[:, 0] > x[:, 1]).astype("int64")
    return x, y


def make_model(scope, optimizer, steps_per_execution=1):
    keras.utils.set_random_seed(1)
    with scope:
        model = keras.Sequential(
            [keras.Input((3,)), keras.layers.Dense(2, "softmax")]
        )
        model.compile(
            optimizer(),
            loss="sparse_categorical_crossentropy",
            metrics=["accuracy"],
            steps_per_execution=steps_per_execution,
        )
    return model


def elastic_model(strategy, **kwargs):
    return make_model(
        strategy(WORKERS).scope(),
        lambda: te.optimizers.EAMSGD(
            0.1, momentum=0.5, communication_period=2, jit_compile=False
        ),
        **kwargs,
    )


def batches(data):
    return tf.data.Dataset.from_tensor_slices(data).batch(BATCH)


def fit(model, data, callbacks, epochs=2, **kwargs):
    return model.fit(
        batches(data),
        epochs=epochs,
        verbose=0,
        shuffle=False,
        callbacks=callbacks,
        **kwargs,
    ).history


def read_scalars(log_dir):
    """{tag: [(step, value)]} of all that was written."""
    events = event_accumulator.EventAccumulator(
        str(log_dir), size_guidance={event_accumulator.TENSORS: 0}
    )
    events.Reload()
    return {
        tag: [
            (event.step, float(tf.make_ndarray(event.tensor_proto)))
            for event in events.Tensors(tag)
        ]
        for tag in events.Tags()["tensors"]
    }


def test_worker_and_center_are_told_apart_everywhere(strategy, data, tmp_path):
    model = elastic_model(strategy)
    monitor = te.callbacks.ElasticMonitor(
        center_data=data, log_dir=tmp_path / "tb", global_batch_size=BATCH
    )
    log = keras.callbacks.CSVLogger(str(tmp_path / "log.csv"))
    history = fit(
        model, data, [monitor, log], validation_data=(data[0], data[1])
    )

    assert history["worker_loss"] == history["loss"]
    center = model.evaluate(*data, verbose=0, return_dict=True)
    np.testing.assert_allclose(history["center_loss"][-1], center["loss"])
    np.testing.assert_allclose(
        history["center_accuracy"][-1], center["accuracy"]
    )
    # Clocks 0, 2, 4, ..., 10.
    assert history["center_step"] == [3, 6]
    np.testing.assert_allclose(
        history["elastic_distance"][-1],
        model.optimizer.elastic_distances().mean(),
    )
    np.testing.assert_allclose(history["learning_rate"], 0.1, rtol=1e-6)
    for part in ("data_s", "compute_s", "exchange_s"):
        assert np.all(np.asarray(history[part]) >= 0)
    assert sum(history["compute_s"]) > 0

    with open(tmp_path / "log.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert float(rows[1]["center_loss"]) == history["center_loss"][1]
    assert float(rows[1]["elastic_distance"]) == history["elastic_distance"][1]

    scalars = read_scalars(tmp_path / "tb")
    assert set(scalars) == {
        "center/accuracy",
        "center/loss",
        "center/step",
        "elastic_distance/worker_0",
        "elastic_distance/worker_1",
        "learning_rate",
        "throughput/images_per_s",
        "throughput/steps_per_s",
        "time/compute_s",
        "time/data_s",
        "time/exchange_s",
        "validation/accuracy",
        "validation/loss",
        "worker/accuracy",
        "worker/loss",
    }
    for tag, points in scalars.items():
        assert [step for step, _ in points] == [STEPS, 2 * STEPS], tag
    for tag, name in (
        ("center/loss", "center_loss"),
        ("worker/loss", "loss"),
        ("center/step", "center_step"),
        ("validation/loss", "val_loss"),
    ):
        np.testing.assert_allclose(
            [value for _, value in scalars[tag]], history[name], rtol=1e-6
        )
    assert scalars["throughput/images_per_s"][0][1] == pytest.approx(
        BATCH * scalars["throughput/steps_per_s"][0][1], rel=1e-5
    )


def test_training_is_the_same_without_it(strategy, data, tmp_path):
    weights = []
    for callbacks in (
        [],
        [
            te.callbacks.ElasticMonitor(
                center_data=data, log_dir=tmp_path, update_freq=2
            )
        ],
    ):
        model = elastic_model(strategy)
        losses = fit(model, data, callbacks)["loss"]
        weights.append(
            [losses, *model.optimizer.worker_points(), *model.get_weights()]
        )
    for without, with_monitor in zip(*weights, strict=True):
        np.testing.assert_array_equal(without, with_monitor)


@pytest.mark.parametrize(
    ("update_freq", "steps_per_execution", "written"),
    [
        (4, 1, [4, 6, 8, 12]),  # 6 and 12 are the ends of the epochs.
        (2, 3, [3, 6, 9, 12]),
    ],
)
def test_every_so_many_batches(
    strategy, data, tmp_path, update_freq, steps_per_execution, written
):
    model = elastic_model(strategy, steps_per_execution=steps_per_execution)
    monitor = te.callbacks.ElasticMonitor(
        center_data=data, log_dir=tmp_path, update_freq=update_freq
    )
    fit(model, data, [monitor])
    scalars = read_scalars(tmp_path)
    steps = sorted({step for step, _ in scalars["worker/loss"]})
    assert steps == written
    assert [step for step, _ in scalars["center/loss"]] == [6, 12]
    # Calls that were traced are not counted.
    assert 12 - 2 * steps_per_execution <= monitor.times.steps < 12


def test_validation_stands_in_for_center_data(strategy, data):
    model = elastic_model(strategy)
    history = fit(
        model,
        data,
        [te.callbacks.ElasticMonitor()],
        epochs=1,
        validation_data=data,
    )
    assert history["center_loss"] == history["val_loss"]


def test_without_any_center_data_the_rest_is_there(strategy, data):
    model = elastic_model(strategy)
    history = fit(model, data, [te.callbacks.ElasticMonitor()], epochs=1)
    assert "center_loss" not in history
    assert history["center_step"] == [3]


def test_center_data_may_be_cut_short(strategy, data):
    model = elastic_model(strategy)
    monitor = te.callbacks.ElasticMonitor(
        center_data=batches(data), center_steps=2
    )
    history = fit(model, data, [monitor], epochs=1)
    first = model.evaluate(batches(data).take(2), verbose=0, return_dict=True)
    np.testing.assert_allclose(history["center_loss"], [first["loss"]])


def test_an_optimizer_that_scales_the_loss(strategy, data):
    model = make_model(
        strategy(WORKERS).scope(),
        lambda: keras.optimizers.LossScaleOptimizer(
            te.optimizers.EASGD(0.1, jit_compile=False)
        ),
    )
    history = fit(model, data, [te.callbacks.ElasticMonitor()], epochs=1)
    assert history["center_step"] == [1]
    assert history["elastic_distance"][0] > 0


def test_a_second_fit_starts_its_own_times(strategy, data):
    model = elastic_model(strategy)
    monitor = te.callbacks.ElasticMonitor()
    fit(model, data, [monitor], epochs=1)
    fit(model, data, [monitor], epochs=1)
    assert monitor.times.steps == STEPS


def test_any_other_strategy_is_its_own_center(data, tmp_path):
    model = make_model(
        tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"]).scope(),
        lambda: keras.optimizers.SGD(0.1),
    )
    monitor = te.callbacks.ElasticMonitor(
        center_data=data, log_dir=tmp_path, global_batch_size=BATCH
    )
    history = fit(model, data, [monitor])
    assert not {"center_step", "elastic_distance", "data_s"} & set(history)
    assert set(read_scalars(tmp_path)) == {
        "center/accuracy",
        "center/loss",
        "learning_rate",
        "throughput/images_per_s",
        "throughput/steps_per_s",
        "worker/accuracy",
        "worker/loss",
    }
    assert monitor.times.steps == 2 * STEPS - 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"update_freq": 0}, 'integer >= 1, or "epoch"'),
        ({"update_freq": "batch"}, "Received: update_freq='batch'"),
        ({"global_batch_size": -1}, "`global_batch_size` must be"),
        ({"center_steps": 1.5}, "`center_steps` must be"),
    ],
)
def test_wrong_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        te.callbacks.ElasticMonitor(**arguments)


def test_tensorboard_missing(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    with pytest.raises(ImportError, match=r"'tf_elastic\[tensorboard\]'"):
        te.callbacks.ElasticMonitor(log_dir=tmp_path)
    te.callbacks.ElasticMonitor()
