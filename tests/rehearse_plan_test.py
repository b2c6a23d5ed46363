"""What a rehearsal is asked for: flags, files, and what is wrong in them."""

import json
import shlex

import pytest

from tf_elastic.program import settings
from tf_elastic.program import usage
from tf_elastic.rehearse import __main__ as rehearse
from tf_elastic.rehearse import command_line
from tf_elastic.rehearse import plan
from tf_elastic.rehearse import real_cluster
from tf_elastic.rehearse import runs

BASE = {"virtual_workers": 4, "timing": "1gbit", "step_seconds": 0.1}


@pytest.fixture(autouse=True)
def no_cluster(monkeypatch):
    monkeypatch.delenv("TF_CONFIG", raising=False)


def labels(content, **given):
    made = plan.make(content, given).runs
    return [run.label(runs.varying(made)) for run in made]


def test_all_combinations():
    base = {**BASE, "optimizer": ["easgd", "eamsgd"]}
    assert labels({"base": {**base, "seed": [0, 1]}}) == [
        "easgd seed=0",
        "easgd seed=1",
        "eamsgd seed=0",
        "eamsgd seed=1",
    ]


def test_runs_have_choices_of_their_own_and_go_before_the_base():
    content = {
        "base": {**BASE, "learning_rate": 0.1},
        "runs": [
            {"optimizer": "easgd", "communication_period": [1, 10]},
            {"optimizer": "eamsgd", "learning_rate": 0.05, "momentum": 0.9},
            {"optimizer": "averaged_sgd", "virtual_workers": 1},
        ],
    }
    made = plan.make(content, {"epochs": "3"}).runs
    assert [run.settings["learning_rate"] for run in made] == [
        *(0.1, 0.1, 0.05),
        0.1,
    ]
    assert [run.settings["workers"] for run in made] == [4, 4, 4, 1]
    assert {run.settings["epochs"] for run in made} == {3}
    assert made[1].label(["communication_period"]) == (
        "easgd communication_period=10"
    )


def test_flags_go_before_the_base_of_a_file():
    content = {"base": {**BASE, "optimizer": "easgd", "seed": [0, 1]}}
    assert labels(content, seed=[5], optimizer=["downpour"]) == ["downpour"]


def test_the_same_run_is_there_once_and_has_its_name_in_any_plan():
    one = plan.make({"base": {**BASE, "seed": [3, 3]}}, {}).runs
    several = plan.make({"base": {**BASE, "seed": [1, 2, 3]}}, {}).runs
    assert [run.name for run in one] == [several[2].name]
    assert len({run.name for run in several}) == 3


def test_what_the_command_line_understands(tmp_path):
    asked = command_line.parse(
        [
            "--virtual_workers=2",
            "--optimizer=eamsgd",
            "--nonesterov",
            "--deterministic",
            "--rate_cuts=5,2",
            "--seed=0,1",
            "--targets=0.1,0.3",
            "--deadline_s=60",
            "--jobs=9",
            f"--out={tmp_path}",
        ]
    )
    first, second = asked.plan.runs
    assert (first.settings["seed"], second.settings["seed"]) == (0, 1)
    assert first.settings["rate_cuts"] == "5,2"
    assert first.settings["deterministic"] and not first.settings["nesterov"]
    assert asked.plan.targets == [0.3, 0.1]
    assert (asked.plan.deadline_s, asked.jobs) == (60.0, 2)
    assert (asked.out, asked.with_events) == (str(tmp_path), False)


@pytest.mark.parametrize("suffix", [".yaml", ".yml", ".json"])
def test_a_plan_in_a_file(suffix, tmp_path):
    path = tmp_path / f"plan{suffix}"
    if suffix == ".json":
        content = {"base": BASE, "runs": [{"optimizer": "easgd"}]}
        path.write_text(json.dumps({**content, "targets": [0.2]}))
    else:
        path.write_text(
            "base: {virtual_workers: 4, timing: 1gbit, step_seconds: 0.1}\n"
            "runs:\n"
            "  - optimizer: easgd  # a comment\n"
            "targets: 0.2\n"
        )
    asked = command_line.parse([str(path)])
    assert asked.plan.targets == [0.2]
    [run] = asked.plan.runs
    assert run.flags == {**BASE, "optimizer": "easgd"}


# (content of a file, flags, parts of the message)
WRONG = [
    ("bse: {}", "", ["There is no 'bse' in a plan", "Did you mean 'base'?"]),
    (
        "base: {lerning_rate: 0.1}",
        "",
        ["There is no 'lerning_rate'", "Did you mean 'learning_rate'?"],
    ),
    ("", "--optimiser=easgd", ["Did you mean 'optimizer'?"]),
    ("[1]", "", ["A plan must be a mapping", "[1]"]),
    ("base: [1]", "", ["`base` of a plan must hold flags"]),
    ("runs: {}", "", ["`runs` of a plan must be a list of mappings"]),
    ("runs: [3]", "", ["`runs` of a plan must hold flags", "Received: 3"]),
    ("base: {seed: []}", "", ["`seed` must have a value"]),
    ("base: {seed: {a: 1}}", "", ["`seed` must be a text or a number"]),
    ("base: {seed: null}", "", ["`seed` must be", "None"]),
    ("base: {nesterov: 3}", "", ["`nesterov` must be true or false"]),
    ("base: {seed: 1}", "", ["needs virtual_workers", "--seed=1"]),
    ("base: {plot: a.png}", "", ["`plot` is not for the settings"]),
    ("targets: [2]\nbase: {virtual_workers: 2}", "", ["between 0 and 1"]),
    ("deadline_s: x\nbase: {virtual_workers: 2}", "", ["`deadline_s` must be"]),
    ("{", "", ["plan.yaml cannot be read", "line 1"]),
    (
        "base: {virtual_workers: 2, optimizer: easgd, momentum: 0.5}",
        "",
        ["--optimizer=easgd --momentum=0.5: ", "has no momentum"],
    ),
    (
        "base: {virtual_workers: 2, timing: 1gbitt}",
        "",
        ["--timing=1gbitt: ", "Did you mean '1gbit'?"],
    ),
    ("", "--virtual_workers=2 --jobs=0", ["--jobs must be at least 1"]),
    ("", "--virtual_workers=2 --targets=few", ["--targets must be numbers"]),
    ("", "--virtual_workers=2 second", ["ends in .yaml, .yml or .json"]),
    ("", "", ["nothing to rehearse"]),
]


@pytest.mark.parametrize(("text", "flags", "parts"), WRONG)
def test_what_is_wrong_is_told_before_anything_is_begun(
    text, flags, parts, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    arguments = flags.split()
    if text:
        (tmp_path / "plan.yaml").write_text(text)
        arguments.insert(0, "plan.yaml")
    assert rehearse.main(arguments) == 2
    out, err = capsys.readouterr()
    assert out == "" and err.startswith("python -m tf_elastic.rehearse: ")
    for part in parts:
        assert part in err
    assert not (tmp_path / "rehearsal").exists()


def test_two_rehearsals_are_not_in_one_folder(tmp_path):
    with command_line.alone_in(str(tmp_path)):
        with pytest.raises(usage.UsageError, match="is going on"):
            with command_line.alone_in(str(tmp_path)):
                pass
    with command_line.alone_in(str(tmp_path)):
        pass
    (tmp_path / "file").write_text("")
    with pytest.raises(usage.UsageError, match="must be a folder"):
        with command_line.alone_in(str(tmp_path / "file")):
            pass


@pytest.mark.parametrize(
    ("optimizer", "workers"), [("eamsgd", 3), ("averaged_sgd", 1)]
)
def test_the_command_for_a_real_cluster_is_one(optimizer, workers):
    base = {**BASE, "virtual_workers": workers, "optimizer": optimizer}
    base |= {"learning_rate": 0.02, "steps_per_epoch": 100, "epochs": 2}
    [run] = plan.make({"base": base}, {}).runs
    written = shlex.split(real_cluster.command(run))
    assert written[:2] == ["python", "train.py"]
    real = settings.parse(written[1:])
    assert real["strategy"] == "elastic_multi_worker"
    assert real["local_workers"] == workers
    # All workers together take at least as many steps.
    assert real["steps_per_epoch"] == -(-100 // workers)
    for name in ("optimizer", "learning_rate", "epochs", "max_lag"):
        assert real[name] == run.settings[name]


def test_what_a_real_cluster_lacks():
    base = {**BASE, "optimizer": "sync_sgd", "quorum": 3}
    [run] = plan.make({"base": base}, {}).runs
    assert real_cluster.lacks(run) == ["quorum"]
    assert "quorum" not in real_cluster.command(run)
