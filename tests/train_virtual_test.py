"""train.py in a virtual cluster."""

import csv
import json

import numpy as np
import pytest

import train
from tests.train_run_test import arrays_of
from tests.train_run_test import read_history
from tests.train_run_test import run
from tf_elastic.timeline import event_file
from tf_elastic.timeline import verify

TIMING = {
    "step": {"kind": "lognormal", "mean": 0.1, "sigma": 0.5},
    "latency": 0.02,
    "deaths": [[1, 0.75]],
    "recovery": 0.3,
}
SMALL = (
    "--virtual_workers=3",
    "--timing=timing.json",
    "--timing_seed=5",
    "--steps_per_epoch=25",
    "--communication_period=3",
    "--deterministic",
    "--jit_compile=false",
)


def folder_with_timing(folder):
    (folder / "timing.json").write_text(json.dumps(TIMING))
    return folder


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """Three epochs, and every kind of file."""
    folder = folder_with_timing(tmp_path_factory.mktemp("whole"))
    out, err = run(
        *SMALL,
        "--epochs=3",
        "--model_dir=run",
        "--logdir=tb",
        "--events=events.jsonl",
        "--report=report.json",
        "--plot=run.png",
        cwd=folder,
    )
    return folder, out, err


def test_what_is_told(whole):
    folder, out, err = whole
    assert err == ""
    assert "3 virtual workers" in out
    assert "25 local steps of all workers together" in out
    for row in ("virtual time", "exchanged", "goodput", "75 of all workers"):
        assert row in out.split("Epoch 3/3")[1]
    assert "virtual_seconds: " in out and "samples: 2400" in out
    virtual = json.loads((folder / "report.json").read_text())["virtual"]
    with open(folder / "run" / "history.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    last = rows[-1]
    assert float(last["virtual_seconds"]) == virtual["virtual_seconds"]
    assert int(last["bytes"]) == virtual["bytes"]
    assert [row["local_steps"] for row in rows] == ["25", "50", "75"]
    assert virtual["samples"] == 75 * 32
    assert virtual["deaths"] == 1 and 0 < virtual["goodput"] < 1
    assert sum(virtual["shares"].values()) == pytest.approx(1)
    # About 0.1 s for each step of three workers.
    assert 1.5 < virtual["virtual_seconds"] < 5
    assert (folder / "tb" / "virtual_ms").is_dir()
    assert (folder / "run.png").is_file()


def test_its_events_are_those_of_a_cluster(whole):
    folder, *_ = whole
    events = event_file.read(folder / "events.jsonl")
    virtual = json.loads((folder / "report.json").read_text())["virtual"]
    applied = [
        e
        for e in events
        if (e.kind, e.outcome) == ("exchange", "applied") and e.shard == 0
    ]
    assert verify.verify(events) == []
    assert len(applied) == virtual["updates"]
    assert sum(e.bytes for e in applied) == virtual["bytes"]
    assert {e.worker for e in events} == {0, 1, 2}
    [death] = [e for e in events if e.kind == "death"]
    assert (death.worker, death.time) == (1, 0.75)
    starts = [e for e in events if e.kind == "start"]
    assert starts[0].settings["model"].startswith("6 variables, ")


def test_a_run_that_was_stopped_goes_on_to_the_bit(whole, tmp_path):
    folder, *_ = whole
    folder_with_timing(tmp_path)
    run(*SMALL, "--epochs=1", "--model_dir=run", cwd=tmp_path)
    # What the run was begun with counts.
    (tmp_path / "timing.json").write_text('{"step": 7.0}')
    run("--resume", "--epochs=3", "--model_dir=run", cwd=tmp_path)
    assert read_history(tmp_path / "run") == read_history(folder / "run")
    weights = "backup/latest.weights.h5"
    ours, theirs = (
        arrays_of(path / "run" / weights) for path in (tmp_path, folder)
    )
    assert ours.keys() == theirs.keys()
    for name, values in ours.items():
        np.testing.assert_array_equal(values, theirs[name], err_msg=name)


def test_what_a_resumed_run_keeps(whole, capsys, monkeypatch):
    folder, *_ = whole
    monkeypatch.chdir(folder)
    resume = ["train.py", "--resume", "--model_dir=run"]
    for flag in ("protocol=blocking", "virtual_workers=4", "timing_seed=1"):
        assert train.main([*resume, f"--{flag}"]) == 2
        error = capsys.readouterr().err
        assert f"Received: --{flag}" in error and "keeps its settings" in error


@pytest.mark.full
def test_a_method_whose_steps_are_a_part_of_the_exchange(tmp_path):
    admm = ("--virtual_workers=2", "--optimizer=admm", "--step_seconds=0.1")
    short = ("--timing=1gbit", "--epochs=1", "--steps_per_epoch=4")
    out, _ = run(*admm, *short, "--model_dir=run", cwd=tmp_path)
    assert "4 of all workers" in out and "goodput" in out
    _, err = run(*admm, "--max_staleness=3", status=2)
    assert "a part of ADMM's center counts however old it is" in err
    assert "Choose another --optimizer" in err


@pytest.mark.full
def test_a_tree_that_was_stopped_goes_on_to_the_bit(tmp_path):
    tree = (
        *("--virtual_workers=4", "--tree=2", "--scheme=up_down"),
        *("--periods=1,2", "--timing=1gbit", "--step_seconds=0.1"),
        *("--steps_per_epoch=12", "--deterministic", "--jit_compile=false"),
    )
    out, err = run(*tree, "--epochs=2", "--model_dir=whole", cwd=tmp_path)
    assert err == ""
    assert "through the root" in out.split("Epoch 2/2")[1]
    run(*tree, "--epochs=1", "--model_dir=parts", cwd=tmp_path)
    run("--resume", "--epochs=2", "--model_dir=parts", cwd=tmp_path)
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    assert read_history(parts) == read_history(whole)
    weights = "backup/latest.weights.h5"
    ours, theirs = arrays_of(parts / weights), arrays_of(whole / weights)
    assert ours.keys() == theirs.keys()
    for name, values in ours.items():
        np.testing.assert_array_equal(values, theirs[name], err_msg=name)
