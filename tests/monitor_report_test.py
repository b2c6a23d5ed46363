"""The report at the end of a run."""

import contextlib
import json
import time

import keras
import numpy as np
import pytest
import tensorflow as tf

import tf_elastic as te
from tf_elastic import monitor
from tf_elastic.callbacks import ElasticMonitor

TEST = {"loss": 0.25, "accuracy": 0.9}
TIMES = monitor.RunTimes(100, 10.0, 1.0, 8.0, 1.0)


@pytest.fixture
def trained(strategy):
    with strategy(2).scope():
        model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
        model.compile(te.optimizers.EASGD(0.1, jit_compile=False), loss="mse")
    x = np.arange(16.0, dtype="float32").reshape(8, 2) / 16
    model.fit(x, x[:, 0], batch_size=4, verbose=0, shuffle=False)
    return model


def report_of(model, **kwargs):
    return monitor.build_report(
        model,
        TEST,
        TIMES,
        wall_s=15.0,
        global_batch_size=64,
        settings={"beta": 0.9},
        files={"model": "runs/model.keras"},
        **kwargs,
    )


def test_what_is_in_it(trained):
    report = report_of(trained)
    assert report["center"]["test_loss"] == 0.25
    assert report["center"]["test_error"] == pytest.approx(0.1)
    assert report["center"]["center_step"] == 1
    distances = trained.optimizer.elastic_distances()
    assert report["workers"]["count"] == 2
    np.testing.assert_allclose(report["workers"]["elastic_distance"], distances)
    norm = np.sqrt(sum(np.sum(w**2) for w in trained.get_weights()))
    np.testing.assert_allclose(
        report["workers"]["relative_distance"],
        distances.mean() / norm,
        rtol=1e-6,
    )
    assert report["local_steps"] == 2
    assert report["time"] == {
        "wall_s": 15.0,
        "steps": 100,
        "steps_s": 10.0,
        "data_s": 1.0,
        "compute_s": 8.0,
        "exchange_s": 1.0,
        "other_s": 5.0,
    }
    assert report["throughput"] == {  # Of all the time.
        "steps": 100,
        "steps_per_s": pytest.approx(100 / 15),
        "images": 6400,
        "images_per_s": pytest.approx(6400 / 15),
    }
    assert report["settings"] == {"beta": 0.9}
    assert report["versions"]["tensorflow"] == tf.__version__
    assert report["versions"]["tf_elastic"] == te.__version__


def test_the_table(trained):
    table = monitor.format_report(report_of(trained))
    for words in (
        "center test error   10.00%   (loss 0.2500)",
        "time                15.0 s: compute 8.0, data 1.0, exchange 1.0, ot",
        "a step              100.0 ms",
        "427 images/s of 2 workers   (6,400 in all of this time)",
        "2 of each worker",
        "runs/model.keras",
    ):
        assert words in table
    assert max(map(len, table.splitlines())) <= 90


def test_it_is_json(trained, tmp_path):
    report = report_of(trained)
    path = tmp_path / "new" / "report.json"
    monitor.write_report(report, path)
    assert json.loads(path.read_text()) == report


def test_numbers_that_json_lacks_become_null(tmp_path):
    path = tmp_path / "report.json"
    monitor.write_report(
        {"loss": float("nan"), "list": [float("inf"), 1.0]}, path
    )
    assert json.loads(path.read_text()) == {"loss": None, "list": [None, 1.0]}


def test_a_model_without_workers():
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    model.compile("sgd", loss="mse")
    report = monitor.build_report(
        model, {"loss": 1.0}, monitor.RunTimes(0, 0.0), wall_s=1.0
    )
    assert report["workers"] == {"count": 1}
    assert report["center"] == {"test_loss": 1.0, "center_step": None}
    assert report["throughput"]["images_per_s"] is None
    table = monitor.format_report(report)
    assert "center test loss" in table
    assert "spread" not in table


def test_times_between_two_readings():
    earlier = monitor.RunTimes(10, 2.0, 0.5, 1.0, 0.5)
    assert TIMES.since(earlier) == (90, 8.0, 0.5, 7.0, 0.5)
    plain = monitor.RunTimes(10, 2.0)
    assert plain.since(monitor.RunTimes(0, 0.0)) == (10, 2.0, None, None, None)
    assert plain.split() == {}
    assert plain.per_second(32) == 160.0
    assert monitor.RunTimes(0, 0.0).per_second(32) is None


class Later:
    """A `time.perf_counter` that can be put forward."""

    def __init__(self):
        self.seconds = 0.0
        self._now = time.perf_counter

    def __call__(self):
        return self._now() + self.seconds


class Slow(keras.callbacks.Callback):
    """Takes its time in every epoch."""

    def __init__(self, later):
        super().__init__()
        self.later = later

    def on_epoch_end(self, epoch, logs=None):
        self.later.seconds += 3000


@pytest.mark.filterwarnings("ignore:Your input ran out of data")
@pytest.mark.parametrize("makes", ["elastic", "plain"])
def test_the_parts_of_the_time_add_up(strategy, makes, monkeypatch):
    """Whatever a strategy measures, and where data end before they should."""
    later = Later()
    monkeypatch.setattr(time, "perf_counter", later)
    clock = monitor.RunClock()
    elastic = makes == "elastic"
    scope = strategy(2).scope() if elastic else contextlib.nullcontext()
    with scope:
        model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
        optimizer = te.optimizers.EASGD(0.1, jit_compile=False)
        model.compile(optimizer if elastic else "sgd", loss="mse")
    x = np.arange(48.0, dtype="float32").reshape(24, 2) / 48
    data = tf.data.Dataset.from_tensor_slices((x, x[:, 0])).batch(4)
    unknown = data.filter(lambda x, y: True)
    watch = ElasticMonitor(data, run_clock=clock)
    model.fit(
        unknown,
        epochs=2,
        validation_data=data,
        verbose=0,
        callbacks=clock.around([watch, Slow(later)]),
    )
    with clock.during("saving"):
        later.seconds += 1000
    before_s = clock.wall_s
    parts = clock.parts(watch.times)
    assert before_s - 1e-6 <= sum(parts.values()) <= clock.wall_s + 1e-6
    # The rest is what it really took: seconds.
    assert 6000 <= parts["callbacks_s"] < 7000
    assert 1000 <= parts["saving_s"] < 2000
    for name in ("tracing", "compute", "validation"):
        assert 0 < parts[f"{name}_s"] < 1000
    assert min(parts.values()) >= 0
    assert clock.steps == 12
    table = monitor.format_report(
        monitor.build_report(
            model, TEST, watch.times, wall_s=clock.wall_s, parts=parts
        )
    )
    for name in ("start", "tracing", "validation", "callbacks", "saving"):
        assert f"{name} {parts[name + '_s']:.1f}" in table
