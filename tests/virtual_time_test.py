"""What callbacks tell of a virtual cluster."""

import csv

import keras
import numpy as np
import pytest
import tensorflow as tf
from tensorboard.backend.event_processing import event_accumulator

import tf_elastic as te
from tf_elastic.monitor import probe
from tf_elastic.timeline.virtual import Timing

TIMING = Timing(step=[0.1, 0.2], latency=0.01)


def trained(callbacks, epochs=2):
    strategy = te.strategies.VirtualClusterStrategy(
        2, timing=TIMING, device="CPU:0"
    )
    with strategy.scope():
        model = keras.Sequential([keras.Input([3]), keras.layers.Dense(1)])
        model.compile(
            te.optimizers.EASGD(0.1, communication_period=2), loss="mse"
        )
    x = np.ones((24, 3), np.float32)
    history = model.fit(
        x,
        x[:, :1],
        batch_size=4,
        epochs=epochs,
        shuffle=False,
        verbose=0,
        callbacks=callbacks,
    )
    return model, history.history


def tags_of(folder):
    seen = event_accumulator.EventAccumulator(str(folder))
    seen.Reload()
    return {
        tag: [
            (event.step, float(tf.make_ndarray(event.tensor_proto)))
            for event in seen.Tensors(tag)
        ]
        for tag in seen.Tags()["tensors"]
    }


def test_history_csv_and_tensorboard_have_virtual_time(tmp_path):
    callbacks = [
        te.callbacks.VirtualTime(batch_size=4, log_dir=tmp_path / "ms"),
        te.callbacks.ElasticMonitor(log_dir=tmp_path / "tb"),
        keras.callbacks.CSVLogger(tmp_path / "history.csv"),
    ]
    model, logs = trained(callbacks)
    strategy = model.distribute_strategy
    assert logs["local_steps"] == [6, 12]
    assert logs["samples"] == [24, 48]
    assert logs["virtual_seconds"][1] == strategy.virtual_seconds
    assert 0.3 < logs["virtual_seconds"][0] < logs["virtual_seconds"][1] < 1
    # Four values, there and back, and the point for the difference.
    assert logs["bytes"][1] % 16 == 0 and logs["bytes"][1] > 0
    assert logs["goodput"] == [1.0, 1.0]
    assert probe.local_steps(model) == strategy.local_steps == 12
    assert strategy.totals.steps == 12
    with open(tmp_path / "history.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["samples"] for row in rows] == ["24", "48"]

    over_steps = tags_of(tmp_path / "tb")
    assert [s for s, _ in over_steps["virtual/virtual_seconds"]] == [6, 12]
    assert not [tag for tag in over_steps if tag.startswith("worker/virtual")]
    over_ms = tags_of(tmp_path / "ms")
    expected = [round(1000 * s) for s in logs["virtual_seconds"]]
    assert [step for step, _ in over_ms["loss"]] == expected
    np.testing.assert_allclose([v for _, v in over_ms["loss"]], logs["loss"])


def test_without_a_batch_size_samples_are_not_counted():
    _, logs = trained([te.callbacks.VirtualTime()], epochs=1)
    assert "samples" not in logs and logs["local_steps"] == [6]


def test_what_is_refused():
    for wrong in (0, -1, 2.0, True, "4"):
        with pytest.raises(ValueError, match="`batch_size` must be an integer"):
            te.callbacks.VirtualTime(batch_size=wrong)
    model = keras.Sequential([keras.Input([1]), keras.layers.Dense(1)])
    model.compile("sgd", "mse")
    x = np.ones((2, 1))
    with pytest.raises(ValueError, match="Use `VirtualClusterStrategy`"):
        model.fit(x, x, verbose=0, callbacks=[te.callbacks.VirtualTime()])
