"""The report at the end of a run."""

import json

import keras
import numpy as np
import pytest
import tensorflow as tf

import tf_elastic as te
from tf_elastic import monitor

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
    np.testing.assert_allclose(
        report["workers"]["elastic_distance"], distances
    )
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
    assert report["throughput"] == {
        "steps_per_s": 10.0,
        "images_per_s": 640.0,
    }
    assert report["settings"] == {"beta": 0.9}
    assert report["versions"]["tensorflow"] == tf.__version__
    assert report["versions"]["tf_elastic"] == te.__version__


def test_the_table(trained):
    table = monitor.format_report(report_of(trained))
    for words in (
        "center test error   10.00%   (loss 0.2500)",
        "compute 80.0%, data 10.0%, exchange 10.0%",
        "640 images/s over 2 workers   (10.0 steps/s)",
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
    assert report["throughput"]["steps_per_s"] is None
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
