"""train.py on several processes, as its user runs it."""

import csv
import json
import math
import os
import pathlib
import re
import signal
import subprocess
import sys
import threading
import uuid

import keras
import pytest
from matplotlib import image
from tensorboard.backend.event_processing import event_accumulator
from tensorboard.util import tensor_util

import tf_elastic as te
import train
from tests import cluster_support as support
from tests import source_tree as tree
from tf_elastic.cluster import layout
from tf_elastic.cluster.center.snapshots import SnapshotStore
from tf_elastic.cluster.launch import isolation
from tf_elastic.cluster.launch.security import Security
from tf_elastic.cluster.transport import addresses
from tf_elastic.cluster.worker import client
from tf_elastic.timeline import __main__ as timeline_program
from tf_elastic.timeline import event_file
from tf_elastic.timeline import picture

TIMEOUT_S = 500
STEPS = 40  # of each worker, in an epoch
BATCH = 32
EPOCHS = 4


class Run:
    """A `train.py` that is ended for sure, with all that it has started."""

    def __init__(self, *args, cwd, **environment):
        self.mark = uuid.uuid4().hex
        # In the background of a shell Ctrl-C is ignored, by children too.
        before = signal.signal(signal.SIGINT, signal.default_int_handler)
        inherited = {k: v for k, v in os.environ.items() if k != "TF_CONFIG"}
        self.process = subprocess.Popen(
            [sys.executable, str(tree.ROOT / "train.py"), *map(str, args)],
            cwd=cwd,
            env={
                **inherited,
                "PYTHONPATH": str(tree.ROOT),
                "TF_NUM_INTRAOP_THREADS": "1",
                "TF_NUM_INTEROP_THREADS": "2",
                "TF_CPP_MIN_LOG_LEVEL": "3",
                "MARK_OF_THIS_TEST": self.mark,
                **environment,
            },
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        signal.signal(signal.SIGINT, before)
        self.out, self.err = "", ""
        self._late = threading.Timer(TIMEOUT_S, self.process.kill)
        self._late.start()
        self._reader = threading.Thread(target=self._read_err, daemon=True)
        self._reader.start()

    def _read_err(self):
        for line in self.process.stderr:
            self.err += line

    def read_until(self, pattern):
        """Reads what it prints, up to a line with the pattern."""
        for line in self.process.stdout:
            self.out += line
            if re.search(pattern, line):
                return
        raise AssertionError(f"no {pattern!r} in:\n{self.out}\n{self.err}")

    def end(self, status=0):
        """Waits for its end; nobody is left then."""
        self.out += self.process.stdout.read()
        returned = self.process.wait(TIMEOUT_S)
        self._reader.join(TIMEOUT_S)
        assert returned == status, f"{self.out}\n{self.err}"
        assert self.children() == []
        assert "Traceback" not in self.err
        return self

    def children(self):
        """The processes that were started by this, directly or not."""
        needle = f"MARK_OF_THIS_TEST={self.mark}".encode()
        found = []
        for folder in pathlib.Path("/proc").glob("[0-9]*"):
            try:
                if needle in (folder / "environ").read_bytes():
                    found.append(int(folder.name))
            except OSError:
                continue  # It has ended meanwhile, or is another's.
        return [pid for pid in found if pid != self.process.pid]

    def child(self, role, index):
        """The process of a task: of a fork, its name says which."""
        needle = f'"task": {{"type": "{role}", "index": {index}}}'.encode()
        for pid in self.children():
            folder = pathlib.Path(f"/proc/{pid}")
            if needle in (folder / "environ").read_bytes():
                return pid
            if (folder / "comm").read_text() == f"{role} {index}\n":
                return pid
        raise AssertionError(f"no {role} {index}:\n{self.out}\n{self.err}")

    def close(self):
        self._late.cancel()
        left = self.children()
        for pid in (*left, self.process.pid):
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
        self.process.wait()
        self.process.stdout.close()
        self._reader.join()
        self.process.stderr.close()


@pytest.fixture(scope="module")
def run():
    """`run(flags, cwd=folder)`: a `train.py` that has been started."""
    made = []

    def start(*args, **kwargs):
        made.append(Run(*args, **kwargs))
        return made[-1]

    yield start
    for each in made:
        each.close()


def text_of(path):
    return path.read_text() if path.exists() else ""


def versions(folder):
    """Of each center server's newest snapshot."""
    found = []
    for path in sorted((folder / "centers").iterdir()):
        with SnapshotStore(path) as store:
            found.append(store.load().state["shard"]["version"])
    return found


def history(folder):
    with open(folder / "history.csv", newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def first(run, tmp_path_factory):
    """A whole run, in which a worker is killed and started again."""
    folder = tmp_path_factory.mktemp("cluster")
    started = run(
        "--local_workers=2",
        "--local_ps=2",
        "--local_evaluator",
        "--restart_workers",
        f"--epochs={EPOCHS}",
        f"--steps_per_epoch={STEPS}",
        f"--batch_size={BATCH}",
        # Mild, since a worker is lost and its part of beta is missing.
        "--momentum=0.5",
        "--beta=0.5",
        "--seed=1",
        "--jit_compile=false",  # It is left to its default in one process.
        "--model_dir=run",
        "--logdir=run/tb",
        "--plot=run/run.png",
        "--report=run/report.json",
        "--events=run/events.jsonl",
        cwd=folder,
    )
    logs = [folder / "run" / "logs" / f"ps-{k}.log" for k in range(2)]

    def told(words):
        support.until(
            lambda: all(words in text_of(log) for log in logs), TIMEOUT_S
        )

    told("begins with the parameters of worker 0")
    # The chief waits: on a busy machine it would end before the others come.
    chief = started.child("worker", 0)
    os.kill(chief, signal.SIGSTOP)
    told("worker 1 has joined (incarnation 1)")
    os.kill(started.child("worker", 1), signal.SIGKILL)
    told("worker 1 has joined (incarnation 2)")
    os.kill(chief, signal.SIGCONT)
    return folder / "run", started.end()


def test_it_learns_and_says_so(first):
    folder, ended = first
    assert "A cluster of 2 workers and 2 center servers" in ended.out
    assert f"Epoch {EPOCHS}/{EPOCHS}" in ended.out
    for row in ("center test error", "2 center servers, overlapped"):
        assert row in ended.out.split(f"Epoch {EPOCHS}/{EPOCHS}")[1]
    report = json.loads((folder / "report.json").read_text())
    assert report["center"]["test_error"] < 0.35
    cluster = report["cluster"]
    assert cluster["protocol"] == "overlapped"
    assert cluster["num_workers"] in (1, 2)  # If the killed one is back yet.
    assert set(cluster["members"]) == {"0", "1"}
    assert min(cluster["versions"]) > 0
    for key in ("staleness_versions", "staleness_ms"):
        quantiles = cluster[key]
        assert quantiles["count"] > 0
        assert 0 <= quantiles["p50"] <= quantiles["p99"] <= quantiles["max"]
    assert cluster["members"]["0"]["notes"]["bytes_sent"] > 0


def test_a_killed_worker_is_started_again(first):
    folder, ended = first
    assert "worker 1" in ended.err and "SIGKILL" in ended.err
    assert "It is started again" in ended.err
    log = text_of(folder / "logs" / "worker-1.log")
    assert log.count("EAMSGD on digits") == 2
    assert "Traceback" not in log


def test_only_the_chief_and_the_evaluator_write(first):
    folder, _ = first
    assert {path.name for path in folder.iterdir()} == {
        "best.json",
        "best.keras",
        "centers",
        "events.jsonl",
        "events.png",
        "history.csv",
        "logs",
        "model.keras",
        "report.json",
        "run.png",
        "settings.json",
        "tb",
    }
    assert {path.name for path in (folder / "logs").iterdir()} == {
        "evaluator-0.log",
        "imports.log",
        "ps-0.log",
        "ps-1.log",
        "worker-0.log",
        "worker-1.log",
    }
    rows = history(folder)
    assert [row["epoch"] for row in rows] == [str(k) for k in range(EPOCHS)]
    assert {"loss", "val_loss", "center_loss", "elastic_distance"} <= set(
        rows[0]
    )
    writers = list((folder / "tb").glob("events.*"))
    assert len(writers) == 1
    assert (folder / "run.png").stat().st_size > 1000


def test_the_events_tell_all_of_it(first):
    folder, _ = first
    found = event_file.read(folder / "events.jsonl")
    joins = [e for e in found if e.kind == "join"]
    lives = {(e.worker, e.incarnation, e.shard) for e in joins}
    assert {life for life in lives if life[0] == 1} == {
        (1, incarnation, shard) for incarnation in (1, 2) for shard in (0, 1)
    }
    # The chief may have been away for longer than a lease.
    assert {(0, 1, 0), (0, 1, 1)} <= lives
    for shard, version in enumerate(versions(folder)):
        applied = [
            e
            for e in found
            if (e.kind, e.shard, e.outcome) == ("exchange", shard, "applied")
        ]
        # Each counts once, and no version comes from anything else.
        assert [e.version_applied for e in applied] == list(range(version))
        numbers = {(e.worker, e.incarnation, e.sequence) for e in applied}
        assert len(numbers) == version
    # What a worker has counted itself is what it has told.
    report = json.loads((folder / "report.json").read_text())
    notes = report["cluster"]["members"]["0"]["notes"]
    answers = [
        e
        for e in found
        if (e.kind, e.worker, e.outcome) == ("answer", 0, "applied")
    ]
    assert notes["exchanges"] in (len(answers), len(answers) - 1)
    # On a busy machine one may come late each time, and settle nothing.
    steps = [e for e in found if e.kind == "settle"]
    assert steps
    for worker in (0, 1):
        told = [(e.kind, e.outcome) for e in found if e.worker == worker]
        settled = [e for e in steps if e.worker == worker]
        assert len(settled) <= told.count(("answer", "applied"))
        assert all(e.step_sent <= e.step_applied for e in settled)
    left = [e for e in found if e.kind == "leave"]
    assert {(e.worker, e.outcome) for e in left} == {
        (0, "finished"),
        (1, "finished"),
    }
    assert timeline_program.main([str(folder / "events.jsonl")]) == 0
    assert report["files"]["events"] == str(folder / "events.jsonl")


def test_the_events_are_drawn(first):
    folder, _ = first
    assert image.imread(folder / "events.png").shape[1] > 1000
    found = event_file.read(folder / "events.jsonl")
    above, staleness, speed = picture.draw(found).axes
    names = [label.get_text() for label in above.get_yticklabels()]
    assert names == ["worker 0", "worker 1", "center 0", "center 1"]
    drawn = {each.get_label(): each for each in above.collections}
    # The killed one came twice, and each has left.
    assert len(drawn["joins"].get_offsets()) >= 3
    assert sorted(drawn["leaves"].get_offsets()[:, 1]) == [0, 1]
    lanes_of_waits = {
        round(path.vertices[:, 1].mean())
        for path in drawn["training waits"].get_paths()
    }
    assert lanes_of_waits == {
        e.worker for e in found if e.kind == "wait" and e.seconds
    }
    answers = [(e.kind, e.outcome) for e in found].count(("answer", "applied"))
    assert len(drawn["message to answer"].get_paths()) >= answers
    # What is drawn of center 1, closer marks aside, is what it has taken.
    first_time = found[0].time
    taken = [
        e.time - first_time
        for e in found
        if (e.kind, e.shard, e.outcome) == ("exchange", 1, "applied")
    ]
    marks = drawn["applied"].get_offsets()
    in_lane = [time for time, lane in marks if round(lane) == 3]
    assert set(in_lane) <= set(taken)
    assert len(in_lane) >= 0.5 * len(taken)
    [mean] = staleness.lines
    stale = [value for value in mean.get_ydata() if not math.isnan(value)]
    assert 0 <= min(stale) <= max(stale) < len(taken)
    [applied] = [p for p in speed.patches if "not" not in p.get_label()]
    data = applied.get_data()
    area = (data.values * (data.edges[1:] - data.edges[:-1])).sum()
    assert round(area, 6) >= len(taken)


def test_the_events_tell_the_status_at_the_end(first, capsys):
    folder, _ = first
    path = str(folder / "events.jsonl")
    assert timeline_program.main(["status", "--follow", path]) == 0
    lines = capsys.readouterr().out.splitlines()
    for shard, version in enumerate(versions(folder)):
        assert lines[shard].startswith(f"center {shard}: version {version}, ")
    rows = [line.split(None, 9) for line in lines[3:5]]
    assert [each[0] for each in rows] == ["0", "1"]
    assert [each[-1] for each in rows] == 2 * ["has finished"]
    assert int(rows[1][1]) >= 2
    report = json.loads((folder / "report.json").read_text())
    for number, each in enumerate(rows):
        clock = report["cluster"]["members"][str(number)]["clock"]
        assert int(each[2]) == pytest.approx(clock, abs=STEPS)
    assert lines[5].startswith("staleness: ")


def test_the_saved_models_are_the_center(first):
    folder, _ = first
    report = json.loads((folder / "report.json").read_text())
    noted = json.loads((folder / "best.json").read_text())
    test = te.data.load("digits", "test", batch_size=256)
    for name, loss in (
        ("model.keras", report["center"]["test_loss"]),
        ("best.keras", noted["values"]["loss"]),
    ):
        model = keras.models.load_model(folder / name)
        result = model.evaluate(test, verbose=0, return_dict=True)
        assert result["loss"] == pytest.approx(loss, rel=1e-4), name
    # The evaluator has seen the end, too.
    assert noted["values"]["loss"] <= report["center"]["test_loss"] + 1e-4


def read_events(folder):
    events = event_accumulator.EventAccumulator(str(folder))
    events.Reload()
    return events


def test_tensorboard_shows_the_cluster(first):
    folder, _ = first
    events = read_events(folder / "tb")
    tags = set(events.Tags()["tensors"])
    assert {
        "center/loss",
        "center/accuracy",
        "validation/loss",
        "worker/loss",
        "elastic_distance/worker_0",
        "cluster/num_workers",
        "cluster/version",
        "cluster/center_servers_away",
        "staleness/mean_versions",
        "staleness/mean_ms",
        "time/compute_s",
        "time/data_s",
        "time/exchange_s",
        "throughput/images_per_s",
    } <= tags
    for name in (
        *("loss", "steps_per_s", "samples_per_s", "distance", "bytes_sent"),
        *("bytes_received", "wait_s", "exchanges", "missed", "clock"),
    ):
        assert f"worker_0/{name}" in tags
    for tag in ("staleness/versions", "staleness/ms"):
        assert tag in tags
        plugin = events.SummaryMetadata(tag).plugin_data.plugin_name
        assert plugin == "histograms"
        # Rows of (left, right, count): some pushes are in them.
        [last] = events.Tensors(tag)[-1:]
        rows = tensor_util.make_ndarray(last.tensor_proto)
        assert rows.shape[1] == 3 and rows[:, 2].sum() > 0
    evaluator = read_events(folder / "tb" / "evaluator")
    assert set(evaluator.Tags()["tensors"]) == {
        "evaluator/accuracy",
        "evaluator/loss",
    }


@pytest.fixture(scope="module")
def resumed(first, run):
    """The first run gone on with: by one worker alone, under --status."""
    folder, _ = first
    report = json.loads((folder / "report.json").read_text())
    before = versions(folder), report["cluster"]["members"]["0"]
    ended = run(
        "--resume",
        "--model_dir=run",
        "--local_workers=1",
        "--nolocal_evaluator",
        f"--epochs={EPOCHS + 2}",
        "--status",
        cwd=folder.parent,
    ).end()
    return folder, before, ended


def test_a_resumed_run_goes_on_from_the_snapshots(resumed):
    folder, (before, member), _ = resumed
    chief = text_of(folder / "logs" / "worker-0.log")
    assert f"Going on after epoch {EPOCHS}." in chief
    assert f"{2 * STEPS} local steps in an epoch" in chief
    after = versions(folder)
    assert all(new > old for new, old in zip(after, before, strict=True))
    rows = history(folder)
    assert [int(row["epoch"]) for row in rows] == list(range(EPOCHS + 2))
    report = json.loads((folder / "report.json").read_text())
    assert report["cluster"]["num_workers"] == 1
    again = report["cluster"]["members"]["0"]
    assert again["incarnation"] == member["incarnation"] + 1
    assert report["center"]["test_error"] < 0.35
    # Nothing of the first run's center was thrown away.
    first_loss = float(rows[0]["val_loss"])
    assert float(rows[EPOCHS]["val_loss"]) < first_loss


def test_the_live_table(resumed):
    _, _, ended = resumed
    assert f"Epoch {EPOCHS + 2}/{EPOCHS + 2}" in ended.out
    assert re.search(r"^center 1: version \d+, p = 1", ended.out, re.M)
    assert re.search(r"^worker +life +steps +steps/s", ended.out, re.M)
    # The last one: the worker of this run, and that of the one before.
    before, _, result = ended.out.partition("\n---")
    last = before.splitlines()[-4:]
    assert any(line.endswith("has finished") for line in last)
    assert any(line.endswith("is gone") for line in last)
    # The result is the last that is seen, and it is all there.
    for row in ("center test error", "model", "run/model.keras", "run/run.png"):
        assert row in result
    assert result.strip().endswith("-----")


def test_ctrl_c_ends_all(resumed, run):
    folder, _, _ = resumed
    before = versions(folder)
    started = run(
        "--resume", "--model_dir=run", "--epochs=900", cwd=folder.parent
    )
    started.read_until(rf"^Epoch {EPOCHS + 4}/900")
    # A center, two workers, and what they were forked from.
    assert len(started.children()) == 4
    started.process.send_signal(signal.SIGINT)
    ended = started.end(130)
    assert "keep their snapshots in run" in ended.err
    assert "python train.py --model_dir=run --resume" in ended.err
    after = versions(folder)
    assert all(new > old for new, old in zip(after, before, strict=True))
    assert "Traceback" not in text_of(folder / "logs" / "worker-0.log")
    # It did not do its part.
    ps = text_of(folder / "logs" / "ps-0.log")
    assert "worker 0 has left; p = 1." in ps


def test_a_wrong_tf_config(monkeypatch, capsys):
    monkeypatch.setenv("TF_CONFIG", '{"cluster": }')
    assert train.main(["train.py"]) == 2
    told = capsys.readouterr()
    assert "TF_CONFIG must be JSON" in told.err
    assert "column 13" in told.err
    assert told.out == ""


def test_a_center_server_by_tf_config(run, tmp_path):
    [port] = addresses.free_ports(1)
    address = f"127.0.0.1:{port}"
    config = {
        "cluster": {"worker": ["127.0.0.1:1"], "ps": [address]},
        "task": {"type": "ps", "index": 0},
    }
    token = uuid.uuid4().hex
    started = run(
        f"--model_dir={tmp_path}",
        cwd=tmp_path,
        TF_CONFIG=json.dumps(config),
        TF_ELASTIC_TOKEN=token,
    )
    worker = client.CenterClient(
        [address],
        0,
        True,
        1,
        Security(token=token),
        timeouts=support.PATIENT,
    )
    try:
        worker.join(layout.Layout(support.VARIABLES, 1), support.values(1.0))
        worker.read_and_push(support.values(2.0), support.rates)
    finally:
        worker.leave()
    started.process.send_signal(signal.SIGTERM)
    started.end(0)
    assert versions(tmp_path) == [1]


def test_a_chief_by_tf_config_makes_its_folder(run, tmp_path):
    """Nobody has made it before, as a local launcher would."""
    cluster = support.Cluster()
    config = {
        "cluster": {"worker": ["127.0.0.1:1"], "ps": cluster.centers},
        "task": {"type": "worker", "index": 0},
    }
    flags = ("--epochs=1", "--steps_per_epoch=2", "--beta=0.5", "--verbose=0")
    try:
        ended = run(
            *flags,
            "--jit_compile=false",
            "--model_dir=runs/new",
            cwd=tmp_path,
            TF_CONFIG=json.dumps(config),
        ).end()
    finally:
        cluster.close()
    assert "center test error" in ended.out
    folder = tmp_path / "runs" / "new"
    assert {path.name for path in folder.iterdir()} == {
        "history.csv",
        "model.keras",
    }
    assert [row["epoch"] for row in history(folder)] == ["0"]


def test_devices_of_a_process_are_workers(run, tmp_path):
    """Two processes of two workers each, under two local centers."""
    run(
        *("--local_workers=2", "--inside=elastic", "--devices_per_process=2"),
        *("--communication_period=2", "--outer_period=8"),
        *("--order=round_robin", "--batch_size=16", "--momentum=0.5"),
        *("--epochs=2", "--steps_per_epoch=20", "--seed=1", "--device=cpu"),
        *("--report=report.json", "--events=events.jsonl"),
        cwd=tmp_path,
    ).end()
    report = json.loads((tmp_path / "report.json").read_text())
    assert report["cluster"]["num_workers"] == 2
    assert report["workers"]["count"] == 2
    assert len(report["workers"]["elastic_distance"]) == 2
    # Each device has had its own batch at each step.
    chief = report["cluster"]["members"]["0"]
    assert chief["samples"] == 2 * 16 * report["local_steps"] > 0
    # All of a cluster's workers together have had two epochs.
    samples = sum(m["samples"] for m in report["cluster"]["members"].values())
    assert samples >= 2 * 20 * 16 * 4
    # The local centers have exchanged each outer period, and at the end.
    found = event_file.read(tmp_path / "events.jsonl")
    for worker in (0, 1):
        steps = [
            e.step_sent
            for e in found
            if (e.kind, e.worker) == ("exchange", worker)
        ]
        assert steps and all(step % 8 == 0 for step in steps[:-1]), steps


def test_a_folder_that_cannot_be_made(tmp_path, capsys):
    (tmp_path / "file").write_text("")
    folder = tmp_path / "file" / "new"
    assert train.main(["train.py", f"--model_dir={folder}"]) == 2
    told = capsys.readouterr().err
    assert f"--model_dir={folder}, which cannot be made (Not a dir" in told


def test_a_mirrored_cluster(run, tmp_path):
    try:
        with isolation.private_network():
            pass
    except isolation.IsolationError as error:
        pytest.skip(f"no network of its own: {error}")
    ended = run(
        "--local_workers=2",
        "--strategy=multi_worker_mirrored",
        "--epochs=1",
        "--steps_per_epoch=4",
        "--model_dir=run",
        cwd=tmp_path,
    ).end()
    assert "A cluster of 2 workers on this machine" in ended.out
    assert "center test error" in ended.out
    assert {path.name for path in (tmp_path / "run").iterdir()} == {
        "history.csv",
        "logs",
        "model.keras",
        "settings.json",
    }
