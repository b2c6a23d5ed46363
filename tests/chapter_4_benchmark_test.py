"""`bench_chapter_4`, and the plan of a cluster where much goes wrong."""

import importlib
import json
import sys

import pytest

import tf_elastic as te
from tests import source_tree as tree
from tests.figures_trained_test import looks
from tf_elastic.figures.trained import records
from tf_elastic.figures.trained.settings import METHODS
from tf_elastic.figures.trained.settings import Setting
from tf_elastic.rehearse import plan
from tf_elastic.rehearse import plan_file
from tf_elastic.timeline.virtual import Timing
from tf_elastic.timeline.virtual import preset

FAULTY = tree.ROOT / "benchmarks" / "faulty_cluster"


@pytest.fixture
def program(monkeypatch):
    monkeypatch.syspath_prepend(str(tree.ROOT / "benchmarks"))
    return importlib.import_module("bench_chapter_4")


def test_the_first_runs_are_those_that_tell_most(program):
    every = program.ordered(2)
    assert [setting.name for setting in every[:5]] == [
        "MSGD-p1-tau1-0.001",
        "EAMSGD-p4-tau10-0.005",
        "EAMSGD-p8-tau10-0.005",
        "EAMSGD-p16-tau10-0.005",
        "EASGD-p4-tau10-0.05",
    ]
    assert {setting.method for setting in every} == set(METHODS)
    assert {s.workers for s in every} == {1, 4, 8, 16}
    # Three rates, two seeds, three numbers of workers where there are several.
    assert len(every) == len(set(every)) == 3 * 2 * (4 + 6 * 3)


def test_the_report_has_times_and_speed_ups(
    program, monkeypatch, tmp_path, capsys
):
    fast = Setting("EAMSGD", 4, 10, 0.005)
    alone = Setting("MSGD", 1, 1, 0.001)
    path = tmp_path / "runs.csv"
    for record in (
        *looks(alone, [0.9, 0.55, 0.39], seconds=3.0),
        *looks(fast, [0.9, 0.5, 0.5]),
    ):
        records.append(path, record)
    monkeypatch.setattr(sys, "argv", ["bench", f"--csv={path}", "--report"])
    program.main()
    table = capsys.readouterr().out
    assert "| 60% | 55% | 50% | 45% | 40% |" in table
    assert "| EAMSGD | 4 | 0.005 | 3 | 50.0% | 2.0 (3.00) |" in table
    assert "| MSGD | 1 | 0.001 | 3 | 39.0% | 6.0 | 6.0 | 9.0 |" in table


def test_runs_are_chosen_by_name(program, monkeypatch, tmp_path):
    """And one worker alone is trained for longer."""
    trained = {}

    def train(path, scales, **_):
        trained.update({s.name: scale.steps for s, scale in scales.items()})

    monkeypatch.setattr("tf_elastic.figures.trained.side_by_side.train", train)
    monkeypatch.setattr(
        sys,
        "argv",
        ["bench", f"--csv={tmp_path / 'x.csv'}", "--scale=tiny",
         "--only=.*MSGD-p(1|8)-.*-0.001"],
    )  # fmt: skip
    program.main()
    assert trained == {"MSGD-p1-tau1-0.001": 160, "EAMSGD-p8-tau10-0.001": 40}


def test_the_faulty_cluster_is_as_its_plan_says(monkeypatch):
    monkeypatch.chdir(tree.ROOT)
    made = plan.make(plan_file.read(str(FAULTY / "plan.yaml")), {})
    asked = {run.settings["optimizer"] for run in made.runs}
    assert {"easgd", "downpour", "sync_sgd", "async_diloco"} < asked
    timing = Timing.from_config(
        json.loads((FAULTY / "timing.json").read_text())
    )
    sizes = [
        network().count_params()
        for network in (te.models.digits_convnet, te.models.cifar_convnet)
    ]
    gigabit = preset("1gbit", step=1.0).of_worker("bandwidth", 0)
    assert timing.center_bandwidth == timing.bandwidth
    assert timing.bandwidth == round(gigabit * sizes[0] / sizes[1] / 5)
    assert round(5 * sizes[1] / sizes[0]) == 343
    # Each worker's, so that one of eight dies in a minute.
    assert 8 * timing.deaths == pytest.approx(1 / 60, rel=0.01)
    assert timing.config()["recovery"] == 20.0
