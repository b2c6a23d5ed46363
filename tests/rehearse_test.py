"""A rehearsal from the first run to the table, and what goes on later."""

import csv
import json
import os

import pytest
from matplotlib import image

from tests import source_tree as tree
from tf_elastic.program import settings
from tf_elastic.rehearse import __main__ as rehearse
from tf_elastic.rehearse import child
from tf_elastic.rehearse import plan
from tf_elastic.rehearse import ranking
from tf_elastic.rehearse import results
from tf_elastic.rehearse import runs
from tf_elastic.rehearse import side_by_side
from tf_elastic.rehearse import verdict
from tf_elastic.rehearse.processes import TOO_LATE
from tf_elastic.rehearse.processes import Processes

FLAGS = (
    "--virtual_workers=2",
    "--timing=1gbit",
    "--step_seconds=0.1",
    "--steps_per_epoch=12",
    "--epochs=2",
    "--jit_compile=false",
    "--communication_period=3",
    "--learning_rate=0.2",
    "--optimizer=easgd",
    "--protocol=overlapped,synchronous",
    "--targets=0.89,0.0001",
    "--jobs=2",
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Where nothing has to be measured."""
    folder = tmp_path_factory.mktemp("rehearsal")
    (folder / "curvature-digits-32.json").write_text("5.0")
    return folder


@pytest.fixture(scope="module")
def whole(folder):
    """Two settings; at first they are ended at once, then they go on."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(tree.ROOT))
        patch.setattr(side_by_side, "_EVERY_S", 0.2)
        out = f"--out={folder}"
        late = rehearse.main([*FLAGS, out, "--deadline_s=0.05"])
        with open(folder / "results.csv", newline="") as file:
            first = [row["status"] for row in csv.DictReader(file)]
        done = rehearse.main([*FLAGS, out, "--with_events"])
    assert (late, done) == (1, 0), _logs(folder)
    assert first == ["deadline", "deadline"]
    return folder


def _logs(folder):
    return "\n".join(p.read_text() for p in folder.rglob("log.txt"))


def rows_of(folder):
    with open(folder / "results.csv", newline="") as file:
        return list(csv.DictReader(file))


def test_a_row_of_each(whole):
    rows = rows_of(whole)
    assert [row["status"] for row in rows] == ["done", "done"]
    assert {row["protocol"] for row in rows} == {"overlapped", "synchronous"}
    for row in rows:
        assert row["run"].startswith("easgd-")
        assert int(row["local_steps"]) == 24
        assert int(row["samples"]) == 24 * 32
        assert int(row["bytes"]) > 0
        # Two workers, 0.1 s a step.
        assert 1.1 < float(row["virtual_seconds"]) < 1.4
        error = float(row["final_error"])
        assert float(row["best_error"]) <= error <= 1
        assert row["seconds_to_0.0001"] == ""
        reached = row["seconds_to_0.89"]
        assert reached == "" or float(reached) <= float(row["virtual_seconds"])
        assert row["advice"].startswith("stable, rate up to x")
        events = whole / "runs" / row["run"] / "events.jsonl"
        assert '"exchange"' in events.read_text()


def again(whole, monkeypatch, capsys):
    """The same command, by which nothing may be trained."""
    monkeypatch.setattr(Processes, "run", lambda *_: pytest.fail("a process"))
    assert rehearse.main([*FLAGS, f"--out={whole}"]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    return out


def test_the_same_command_skips_what_is_done(whole, monkeypatch, capsys):
    before = (whole / "results.csv").read_bytes()
    out = again(whole, monkeypatch, capsys)
    assert (whole / "results.csv").read_bytes() == before
    assert "2 runs" in out and "2 of 2 are done." in out
    lines = out.splitlines()
    [head] = [n for n, line in enumerate(lines) if "s to 0.89" in line]
    assert lines[head].split()[-1] == "advice"
    for name in ("protocol=overlapped", "protocol=synchronous"):
        assert any(name in line for line in lines[head + 1 : head + 3])
    assert f"{whole}/results.csv" in out
    [command] = [line for line in lines if "python train.py" in line]
    assert "--local_workers=2" in command
    assert "--steps_per_epoch=6" in command


def test_a_row_that_was_lost_is_made_of_the_report(whole, monkeypatch, capsys):
    before = sorted(rows_of(whole), key=lambda row: row["run"])
    os.remove(whole / "results.csv")
    again(whole, monkeypatch, capsys)
    for row, other in zip(
        sorted(rows_of(whole), key=lambda row: row["run"]), before, strict=True
    ):
        assert row.items() <= other.items()


def test_other_targets_are_looked_for_in_what_is_done(
    whole, monkeypatch, capsys
):
    del capsys
    monkeypatch.setattr(Processes, "run", lambda *_: pytest.fail("a process"))
    other = [*FLAGS[:-2], "--targets=0.95", f"--out={whole}"]
    assert rehearse.main(other) == 0
    for row in rows_of(whole):
        assert 0 < float(row["seconds_to_0.95"]) < 1.4
        assert "seconds_to_0.89" in row


def test_the_picture(whole):
    pixels = image.imread(whole / "errors.png")
    assert pixels.shape[1] > 2 * pixels.shape[0]
    assert pixels[..., :3].min() < 0.5


def test_other_results_are_not_written_over(tmp_path, capsys):
    (tmp_path / "results.csv").write_text("a,b\n1,2\n")
    assert rehearse.main([*FLAGS, f"--out={tmp_path}"]) == 2
    assert "not the results of a rehearsal" in capsys.readouterr().err


def test_a_run_that_fails_is_told_and_the_others_go_on(
    folder, tmp_path, monkeypatch, capsys
):
    (tmp_path / "curvature-digits-32.json").write_text("5.0")
    monkeypatch.setattr(Processes, "run", lambda *_: 2)
    assert rehearse.main([*FLAGS, f"--out={tmp_path}"]) == 1
    out, _ = capsys.readouterr()
    assert "[2/2]" in out and "log.txt says why" in out
    assert "nothing to rank" in out
    assert [row["status"] for row in rows_of(tmp_path)] == ["failed"] * 2
    del folder


def test_ctrl_c_ends_all(tmp_path, monkeypatch, capsys):
    (tmp_path / "curvature-digits-32.json").write_text("5.0")

    def stop(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(Processes, "run", stop)
    assert rehearse.main([*FLAGS, f"--out={tmp_path}"]) == 130
    assert "The same command goes on" in capsys.readouterr().err
    ended = Processes(1)
    ended.end()
    monkeypatch.undo()
    log = tmp_path / "log"
    assert ended.run([], str(log), 10.0) == TOO_LATE
    assert log.read_text() == ""


def test_the_curvature_is_measured_by_a_child(tmp_path):
    path = tmp_path / "curvature.json"
    assert child.main([f"--curvature={path}", "--virtual_workers=2"]) == 0
    assert 0.1 < json.loads(path.read_text()) < 100


def test_verdicts():
    def of(curvature, *flags):
        argv = ["train.py", "--virtual_workers=4", *flags]
        return verdict.verdict(settings.parse(argv), curvature)

    stable = of(5.0, "--optimizer=easgd", "--learning_rate=0.1")
    assert stable.startswith("stable, rate up to x")
    wild = of(5.0, "--optimizer=easgd", "--learning_rate=3")
    assert wild.startswith("unstable; learning_rate=")
    assert of(None) == ""
    assert of(-1.0) == ""  # The advisor has no word for it.


def test_the_ranking():
    base = {"virtual_workers": 2, "seed": [0, 1]}
    content = {
        "base": base,
        "runs": [{"optimizer": "easgd", "learning_rate": [0.1, 0.2, 0.4]}],
        "targets": [0.3, 0.1],
    }
    made = plan.make(content, {})

    class Rows:
        """(seconds to 0.3, to 0.1, error) of a rate and a seed."""

        known = {
            (0.1, 0): ("1.0", "", "0.2"),
            (0.1, 1): ("3.0", "9.0", "0.1"),
            (0.2, 0): ("4.0", "6.0", "0.05"),
            (0.2, 1): ("6.0", "8.0", "0.07"),
            (0.4, 0): ("5.0", "", "0.3"),
        }

        def row(self, run):
            key = (run.flags["learning_rate"], run.flags["seed"])
            if key not in self.known:
                return {"status": "failed"}
            first, second, error = self.known[key]
            return {
                "status": "done",
                "seconds_to_0.3": first,
                "seconds_to_0.1": second,
                "final_error": error,
                "bytes": "2000000",
                "goodput": "0.5",
                "staleness": "1.5",
                "advice": "",
            }

        def status(self, run):
            return self.row(run)["status"]

    every = ranking.ranked(made, Rows())
    # The hardest target, then the easier one.
    assert [one.runs[0].flags["learning_rate"] for one in every] == [
        *(0.2, 0.1),
        0.4,
    ]
    assert every[0].seconds == [5.0, 7.0]
    text = ranking.table(every, made.targets)
    best, second, third = text.splitlines()[1:]
    assert best.split() == [
        *("1", "easgd", "learning_rate=0.2", "5", "7", "6.00%", "±1.00%"),
        *("2", "50%", "1.5", "-"),
    ]
    assert "1 of 2" in second
    assert "(1 not done)" in third
    assert runs.varying(made.runs) == ["seed", "learning_rate"]


def test_seconds_to_a_target():
    history = {
        "val_accuracy": [0.5, 0.8, 0.7, 0.9],
        "virtual_seconds": [1.0, 2.0, 3.0, 4.0],
    }
    assert results.seconds_to(history, 0.5) == 1.0
    assert results.seconds_to(history, 0.25) == 2.0
    assert results.seconds_to(history, 0.15) == 4.0
    assert results.seconds_to(history, 0.05) is None
    assert results.seconds_to({}, 0.05) is None
