"""Every file that the program writes is whole, or as it was."""

import errno
import json
import os
import resource
import subprocess
import types

import keras
import numpy as np
import pytest
from tensorboard.backend.event_processing import event_accumulator

import train
from tf_elastic import figures
from tf_elastic import files
from tf_elastic import monitor
from tf_elastic.core import delay_trace
from tf_elastic.monitor import event_file
from tf_elastic.program import backup
from tf_elastic.program import run_folder
from tf_elastic.program.history_file import HistoryFile

ROOM = 96 * 1024


@pytest.fixture(scope="module")
def disk(tmp_path_factory):
    """A disk with little room; or a limit on the size of each file."""
    folder = tmp_path_factory.mktemp("disk")
    mounted = not subprocess.call(
        ["mount", "-t", "tmpfs", "-o", f"size={ROOM}", "tmpfs", folder],
        stderr=subprocess.DEVNULL,
    )
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    if not mounted:
        resource.setrlimit(resource.RLIMIT_FSIZE, (ROOM, limits[1]))
    try:
        yield folder
    finally:
        if mounted:
            subprocess.check_call(["umount", "--lazy", folder])
        else:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)


@pytest.fixture
def folder(disk):
    """An empty folder of it."""
    made = disk / "folder"
    made.mkdir()
    yield made
    for path in sorted(made.rglob("*"), reverse=True):
        path.unlink() if path.is_file() else path.rmdir()
    made.rmdir()


def text(path, is_large):
    files.write_text(path, "x" * (2 * ROOM if is_large else 10))


def report(path, is_large):
    monitor.write_report({"values": [0.5] * (ROOM if is_large else 3)}, path)


def plot(path, is_large):
    noise = np.random.default_rng(0).normal(size=9000 if is_large else 3)
    monitor.plot_history(
        {"loss": list(noise), "elastic_distance": list(noise)}, path
    )


def history(path, is_large):
    HistoryFile(path, False).note(0, {"a" * (2 * ROOM if is_large else 3): 1})


def trace(path, is_large):
    entries = [(k, 0, 1, 0.5) for k in range(ROOM if is_large else 3)]
    delay_trace.DelayTrace(entries).save(path)


def figure(path, is_large):
    size = ROOM if is_large else 3
    figures.write(
        types.SimpleNamespace(
            name=path.name,
            size=(1, 1),
            runs=None,
            compute=lambda: {"x": np.zeros(size)},
            draw=lambda table, canvas: None,
        ),
        path.parent,
    )


def settings(path, is_large):
    text = "x" * (2 * ROOM if is_large else 3)
    run_folder.write_settings({"model_dir": str(path.parent), "name": text})


def network(is_large):
    model = keras.Sequential(
        [keras.Input((100,)), keras.layers.Dense(700 if is_large else 3)]
    )
    model.compile("sgd", "mse")
    return model


def backup_of(path, is_large):
    backup.save(network(is_large), os.fspath(path.parent), 1)


def model_file(path, is_large):
    with files.whole(path) as partial:
        network(is_large).save(partial)


def best(path, is_large):
    """The evaluator goes on when the best cannot be written."""
    model = network(is_large)
    kept = types.SimpleNamespace(model=model, best_path=path)
    saved = monitor.CenterEvaluator._save(kept, 1, {"loss": 1.0})
    assert saved is not is_large
    if not saved:
        raise files.FileNotWrittenError("No space left. The one of before")


# Who writes, and what the file is called.
WRITERS = {
    text: "a.txt",
    report: "report.json",
    plot: "run.png",
    history: "history.csv",
    trace: "trace.json",
    figure: "name",
    settings: "settings.json",
    backup_of: "latest.weights.h5",
    model_file: "model.keras",
    best: "best.keras",
}


@pytest.mark.parametrize("write", WRITERS, ids=lambda write: write.__name__)
def test_a_full_disk_leaves_what_was_there(folder, write, capfd):
    path = folder / WRITERS[write]
    write(path, False)
    before = {p.name: p.read_bytes() for p in folder.iterdir()}
    assert before
    with pytest.raises(files.FileNotWrittenError) as caught:
        write(path, True)
    assert "The one of before" in str(caught.value)
    assert "No space left" in str(caught.value) or (
        os.strerror(errno.EFBIG) in str(caught.value)
    )
    after = {p.name: p.read_bytes() for p in folder.iterdir()}
    copies = {name for name in after if name.endswith(run_folder.BEFORE)}
    assert {k: v for k, v in after.items() if k not in copies} == before
    assert "Traceback" not in "".join(capfd.readouterr())


def test_events_end_with_a_sentence(folder, caplog):
    """They are appended to; what was there can be read."""
    written = event_file.EventFile(folder / "tb")
    written.write(1, {"a": 1.0, "unknown": None})
    with pytest.raises(files.FileNotWrittenError):
        text(folder / "large.txt", True)
    for step in range(2, 5):
        written.write(step, {f"{k}" + 900 * "x": 1.0 for k in range(200)})
    written.close()
    told = [r for r in caplog.records if "TensorBoard" in r.getMessage()]
    assert len(told) == 1
    assert "goes on without them" in told[0].getMessage()
    events = event_accumulator.EventAccumulator(os.fspath(folder / "tb"))
    events.Reload()
    assert [event.step for event in events.Tensors("a")] == [1]


def test_the_first_one_is_none_yet(folder):
    with pytest.raises(files.FileNotWrittenError, match="There was none"):
        text(folder / "new" / "a.txt", True)
    assert list((folder / "new").iterdir()) == []


def test_a_file_is_there_once_it_is_whole(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("before")
    with pytest.raises(KeyError), files.whole(path) as partial:
        open(partial, "w").close()
        raise KeyError
    assert path.read_text() == "before"
    with files.whole(path) as partial:
        with open(partial, "w") as file:
            file.write("after")
        assert path.read_text() == "before"
    assert path.read_text() == "after"
    assert [p.name for p in tmp_path.iterdir()] == ["a.txt"]
    with pytest.raises(files.FileNotWrittenError, match="File exists"):
        files.write_text(path / "below", "")


def test_a_run_ends_with_a_sentence(folder, capfd):
    """Training goes on to its end, and says what it has come to."""
    status = train.main(
        [
            "train.py",
            *("--optimizer=averaged_sgd", "--epochs=2", "--steps_per_epoch=2"),
            *("--batch_size=8", "--verbose=2", f"--model_dir={folder}"),
            f"--report={folder}/report.json",
        ]
    )
    told = capfd.readouterr()
    assert status == 2
    assert "center test error" in told.out
    [once] = [line for line in told.err.splitlines() if "goes on" in line]
    assert "latest.weights.h5 could not be written: No space left" in once
    assert "model.keras could not be written: No space left" in told.err
    assert "Traceback" not in told.err
    kept = json.loads((folder / "report.json").read_text())
    assert "model" not in kept["files"]
    assert len(run_folder.epochs_of(folder / "history.csv")) == 2
    left = {p.name for p in folder.rglob("*") if p.is_file()}
    assert left == {"history.csv", "report.json", "settings.json"}
