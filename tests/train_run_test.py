"""train.py as its user runs it, in processes of its own."""

import contextlib
import csv
import json
import os
import shutil
import signal
import subprocess
import sys

import h5py
import keras
import numpy as np
import pytest
import tensorflow as tf
from matplotlib import image
from tensorboard.backend.event_processing import event_accumulator
from tensorflow.python.framework import config as tf_config

import tf_elastic as te
import train
from tests import source_tree as tree
from tf_elastic.program import building
from tf_elastic.program import running

TIMEOUT_S = 500
ENVIRONMENT = {
    **os.environ,
    "PYTHONPATH": str(tree.ROOT),
    "TF_NUM_INTRAOP_THREADS": "2",
    "TF_NUM_INTEROP_THREADS": "2",
    "TF_CPP_MIN_LOG_LEVEL": "3",
}
SMALL = (
    "--workers=2",
    "--steps_per_epoch=7",
    "--communication_period=3",
    "--deterministic",
    "--seed=3",
    "--jit_compile=false",
    "--verbose=2",
)


def start(*args, **kwargs):
    return subprocess.Popen(
        [sys.executable, str(tree.ROOT / "train.py"), *map(str, args)],
        env=ENVIRONMENT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        **kwargs,
    )


def run(*args, status=0, **kwargs):
    """Runs train.py to its end; its stdout and stderr."""
    process = start(*args, **kwargs)
    try:
        out, err = process.communicate(timeout=TIMEOUT_S)
    finally:
        process.kill()
    assert process.returncode == status, err
    assert "Traceback" not in err
    return out, err


def arrays_of(path):
    """Every array of an HDF5 file."""
    found = {}

    def keep(name, item):
        if isinstance(item, h5py.Dataset):
            found[name] = np.asarray(item)

    with h5py.File(path) as file:
        file.visititems(keep)
    return found


def read_history(folder):
    with open(folder / "history.csv", newline="") as file:
        return [
            {k: v for k, v in row.items() if not k.endswith("_s")}
            for row in csv.DictReader(file)
        ]


@pytest.fixture(scope="module")
def first_run(tmp_path_factory):
    """The defaults, with fewer epochs and every kind of file."""
    folder = tmp_path_factory.mktemp("first")
    out, err = run(
        "--epochs=3",
        "--model_dir=run",
        "--logdir=tb",
        "--plot=plots/run.png",
        "--report=report.json",
        cwd=folder,
    )
    return folder, out, err


def test_the_defaults_learn_the_digits(first_run):
    folder, out, err = first_run
    assert err == ""
    assert "EAMSGD on digits, 4 workers" in out
    assert "Epoch 3/3" in out
    for row in (
        "center test error",
        "worker spread",
        "compute",
        "images/s of 4 workers",
        "run/model.keras",
    ):
        assert row in out.split("Epoch 3/3")[1]
    report = json.loads((folder / "report.json").read_text())
    assert report["center"]["test_error"] < 0.1
    assert report["local_steps"] == 3 * 44
    assert report["center"]["center_step"] == 14
    assert len(report["workers"]["elastic_distance"]) == 4
    assert min(report["workers"]["elastic_distance"]) > 0
    time = report["time"]
    parts = {name for name in time if name.endswith("_s")}
    parts -= {"wall_s", "steps_s"}
    assert parts == {
        f"{name}_s"
        for name in (
            *("start", "tracing", "compute", "data", "exchange"),
            *("validation", "callbacks", "saving", "between"),
        )
    }
    assert sum(time[name] for name in parts) == pytest.approx(time["wall_s"])
    assert min(time[name] for name in parts) >= 0
    assert time["tracing_s"] > 0 and time["validation_s"] > 0
    images = 3 * 44 * 4 * 32
    assert report["throughput"]["images"] == images
    assert report["throughput"]["images_per_s"] == pytest.approx(
        images / time["wall_s"]
    )
    assert report["settings"]["optimizer"] == "eamsgd"


def test_what_is_saved_is_the_center(first_run):
    folder, _, _ = first_run
    report = json.loads((folder / "report.json").read_text())
    model = keras.models.load_model(folder / "run" / "model.keras")
    test = te.data.load("digits", "test", batch_size=256)
    result = model.evaluate(test, verbose=0, return_dict=True)
    assert result["accuracy"] == pytest.approx(
        report["center"]["test_accuracy"]
    )
    np.testing.assert_allclose(
        result["loss"], report["center"]["test_loss"], rtol=1e-4
    )


def test_tensorboard_has_the_tags(first_run):
    folder, _, _ = first_run
    events = event_accumulator.EventAccumulator(str(folder / "tb"))
    events.Reload()
    tags = set(events.Tags()["tensors"])
    assert tags == {
        "center/accuracy",
        "center/loss",
        "center/step",
        *(f"elastic_distance/worker_{i}" for i in range(4)),
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
    for tag in tags:
        steps = [event.step for event in events.Tensors(tag)]
        assert steps == [44, 88, 132], tag


def test_the_plot_is_a_picture(first_run):
    folder, _, _ = first_run
    pixels = image.imread(folder / "plots" / "run.png")
    assert pixels.shape[1] > 1000
    assert len(np.unique(pixels.reshape(-1, pixels.shape[2]), axis=0)) > 10


@contextlib.contextmanager
def determinism_ends():
    """Deterministic ops are for a whole process: here they end with a run."""
    try:
        yield
    finally:
        tf_config.disable_op_determinism()


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    folder = tmp_path_factory.mktemp("uninterrupted")
    argv = ["train.py", *SMALL, "--epochs=4", f"--model_dir={folder}"]
    with determinism_ends():
        assert train.main(argv) == 0
    return folder


def test_ctrl_c_and_resume_equal_the_uninterrupted_run(
    uninterrupted, tmp_path, capsys
):
    process = start(*SMALL, "--epochs=500", f"--model_dir={tmp_path}")
    try:
        for line in process.stdout:
            if line.startswith("Epoch 3/"):
                break
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=TIMEOUT_S)
    finally:
        process.kill()
    assert process.returncode == 130
    assert "Traceback" not in err
    assert "Stopped. Saved: epoch 2 of 500" in err
    assert f"python train.py --model_dir={tmp_path} --resume" in err

    argv = ["train.py", "--epochs=4", f"--model_dir={tmp_path}"]
    assert train.main(argv) == 2
    assert "holds a run already" in capsys.readouterr().err

    argv = ["train.py", "--epochs=4", f"--model_dir={tmp_path}", "--resume"]
    with determinism_ends():
        assert train.main(argv) == 0
    assert "Going on after epoch 2." in capsys.readouterr().out
    weights = "backup/latest.weights.h5"
    resumed = arrays_of(tmp_path / weights)
    expected = arrays_of(uninterrupted / weights)
    assert resumed.keys() == expected.keys()
    for name, array in resumed.items():
        assert array.tobytes() == expected[name].tobytes(), name
    assert any(name.startswith("optimizer") for name in resumed)
    assert read_history(tmp_path) == read_history(uninterrupted)


def test_a_damaged_backup(uninterrupted, tmp_path, capsys):
    folder = tmp_path / "run"
    shutil.copytree(uninterrupted, folder)
    weights = folder / "backup" / "latest.weights.h5"
    os.truncate(weights, weights.stat().st_size // 2)
    argv = ["train.py", f"--model_dir={folder}", "--resume"]
    with determinism_ends():
        assert train.main(argv) == 0
    out = capsys.readouterr().out
    assert "The newest backup is damaged" in out
    assert "Going on after epoch 3." in out
    resumed = arrays_of(weights)
    expected = arrays_of(uninterrupted / "backup" / "latest.weights.h5")
    assert resumed.keys() == expected.keys()
    for name, array in resumed.items():
        assert array.tobytes() == expected[name].tobytes(), name

    for path in (weights, weights.with_name("latest.weights.h5.bkp")):
        os.truncate(path, 100)
    with determinism_ends():
        assert train.main(argv) == 2
    err = capsys.readouterr().err
    assert "is damaged and cannot be loaded" in err
    assert "latest.weights.h5.bkp" in err
    assert "Begin anew in another --model_dir" in err


def test_ctrl_c_before_anything_is_saved(tmp_path, monkeypatch, capsys):
    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(running, "train", interrupt)
    assert train.main(["train.py"]) == 130
    assert "--model_dir would keep each epoch" in capsys.readouterr().err
    assert train.main(["train.py", f"--model_dir={tmp_path}"]) == 130
    assert "nothing was saved" in capsys.readouterr().err


@pytest.mark.parametrize(
    "args",
    [
        "--strategy=mirrored --learning_rate_decay=0.1",
        "--optimizer=easgd --order=gauss_seidel --nosymmetric --beta=0.9 "
        "--moving_rate=0.2 --learning_rate_decay=0.01",
        "--optimizer=elastic --inner_optimizer=adamw --weight_decay=0.01 "
        "--clipnorm=1 --gradient_accumulation_steps=2",
        pytest.param("--optimizer=averaged_sgd", marks=pytest.mark.full),
        "--optimizer=moving_average_sgd --averaging_rate=0.1 "
        "--mixed_precision=bfloat16",
        "--nonesterov --order=round_robin --steps_per_execution=2 "
        "--mixed_precision=float16 --communication_period=none",
    ],
)
def test_other_settings_run_in_this_process(args, capsys, tmp_path):
    report = tmp_path / "report.json"
    argv = [
        "train.py",
        *args.split(),
        "--epochs=1",
        "--steps_per_epoch=4",
        "--jit_compile=false",
        "--device=cpu",
        f"--report={report}",
    ]
    if "--strategy=mirrored" in argv:
        argv.remove("--jit_compile=false")
    if not any(
        option in args for option in ("averaged_sgd", "moving_average_sgd")
    ):
        argv.append("--workers=2")
    status = train.main(argv)
    out, err = capsys.readouterr()
    assert status == 0, err
    assert "center test error" in out
    result = json.loads(report.read_text())
    assert result["center"]["test_loss"] > 0
    assert result["local_steps"] > 0


@pytest.mark.parametrize(
    ("args", "parts"),
    [
        (
            "--optimizer=elastic --inner_optimizer=adamm",
            ["--inner_optimizer must be", "adamm"],
        ),
        pytest.param(
            "--device=gpu",
            ["--device=gpu", "Use --device=cpu"],
            marks=pytest.mark.skipif(
                bool(tf.config.list_physical_devices("GPU")),
                reason="there is a GPU",
            ),
        ),
        ("--workers=64", ["64 logical devices", "Received: 8"]),
    ],
)
def test_what_only_tensorflow_can_tell(args, parts, capsys):
    assert train.main(["train.py", *args.split()]) == 2
    error = capsys.readouterr().err
    for part in parts:
        assert part in error


def test_an_unstable_rate_is_told_at_once(capsys, monkeypatch):
    monkeypatch.setattr(building, "load_data", lambda *_: pytest.exit("late"))
    argv = ["train.py", "--workers=3", "--moving_rate=0.5", "--verbose=0"]
    with pytest.raises(te.theory.StabilityWarning, match="nearest stable"):
        train.main(argv)
