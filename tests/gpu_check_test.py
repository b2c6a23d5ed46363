"""`make gpu-check`, as far as a CPU can run it."""

import importlib
import json
import signal
import subprocess

import pytest

from benchmarks.gpu_check import __main__ as gpu_check
from benchmarks.gpu_check import conformance
from benchmarks.gpu_check import copies
from benchmarks.gpu_check import finding
from benchmarks.gpu_check import trace
from benchmarks.gpu_check.finding import Finding
from benchmarks.gpu_check.setting import Setting

SMALL = Setting("CPU", small=True)
CARD = Setting("GPU")


@pytest.fixture
def no_handlers_left():
    """A cluster's driver sets one for its whole process."""
    before = signal.getsignal(signal.SIGTERM)
    yield
    signal.signal(signal.SIGTERM, before)


# What a check's small run finds on a CPU: the outcome of each line.
OUTCOMES = {
    "agreement": ["passed"] * 2,
    "update": ["not on a CPU"],
    "overlap": ["not on a CPU", "passed"],
    "copies": ["not on a CPU"] * 3,
    "mixed_precision": ["passed"] * 2,
    "memory": ["not on a CPU"] * 2,
}
# These start programs, which import TensorFlow anew.
IN_PROGRAMS = {
    "conformance": ["passed"],
    "cifar": ["not on a CPU", "told"],
}


@pytest.mark.filterwarnings("ignore:moving_rate=")
@pytest.mark.parametrize(
    "name",
    [
        *OUTCOMES,
        *(pytest.param(name, marks=pytest.mark.full) for name in IN_PROGRAMS),
    ],
)
def test_a_check_runs_on_a_cpu(name, no_handlers_left):
    check = importlib.import_module(f"benchmarks.gpu_check.{name}")
    found = check.run(SMALL)
    assert [one.outcome for one in found] == (OUTCOMES | IN_PROGRAMS)[name]
    assert all(one.measured and one.check for one in found)


def test_each_check_has_its_small_run():
    assert set(gpu_check.CHECKS) == OUTCOMES.keys() | IN_PROGRAMS.keys()


def test_cifar_without_its_data_says_what_it_needs():
    [found] = importlib.import_module("benchmarks.gpu_check.cifar").run(CARD)
    assert found.outcome == finding.SKIPPED
    assert "--data_dir" in found.measured


# The command.


def machine(gpus):
    return {"gpus": gpus, "driver": None, "tensorflow": "2.x", "cuda": "12.5"}


def test_without_a_card_it_says_what_it_needs(monkeypatch, capsys):
    monkeypatch.setattr(gpu_check, "about_machine", lambda: machine([]))
    assert gpu_check.main([]) == 2
    out = capsys.readouterr().out
    assert "There is no GPU that TensorFlow can use" in out
    assert "2.x here is built with CUDA 12.5" in out


def test_one_that_fails_does_not_stop_the_others(monkeypatch, capsys, tmp_path):
    """`update` is killed; the table, the file and the status tell."""
    ran = []

    def run(command, **kwargs):
        name = command[3].removeprefix("--run=")
        ran.append(name)
        if name == "update":
            kwargs["stdout"].write(b"out of memory\n")
            kwargs["stdout"].flush()
            raise subprocess.CalledProcessError(-9, command)
        path = command[4].removeprefix("--json=")
        line = Finding(f"of {name}", "1.0", "at least 0.9", finding.PASSED)
        with open(path, "w", encoding="utf-8") as file:
            json.dump([line], file)

    monkeypatch.setattr(gpu_check, "about_machine", lambda: machine(["H"]))
    monkeypatch.setattr(gpu_check.subprocess, "run", run)
    path = tmp_path / "found.json"
    assert gpu_check.main([f"--json={path}"]) == 1
    assert ran == list(gpu_check.CHECKS)
    out = capsys.readouterr().out
    assert "It has ended with status -9" in out
    assert "out of memory" in out
    written = json.loads(path.read_text())
    assert written["machine"]["gpus"] == ["H"]
    outcomes = {one["check"]: one["outcome"] for one in written["findings"]}
    assert outcomes.pop("update") == "failed"
    assert set(outcomes.values()) == {"passed"}
    assert len(outcomes) == len(gpu_check.CHECKS) - 1


def test_one_that_hangs_is_ended(monkeypatch):
    def run(command, timeout, **kwargs):
        raise subprocess.TimeoutExpired(command, timeout)

    monkeypatch.setattr(gpu_check.subprocess, "run", run)
    args = gpu_check.parse_args(["--deadline_s=7"])
    [found] = gpu_check.in_process("update", args)
    assert found.outcome == "failed"
    assert "ended after 7 s" in found.error


@pytest.mark.full
def test_the_whole_command_on_a_cpu(tmp_path, capsys):
    path = tmp_path / "found.json"
    status = gpu_check.main(
        [*("--device=CPU", "--small", "--only=update"), f"--json={path}"]
    )
    assert status == 0
    written = json.loads(path.read_text())
    assert written["device"] == "CPU"
    assert [one["outcome"] for one in written["findings"]] == ["not on a CPU"]
    assert "not on a CPU" in capsys.readouterr().out


def test_a_goal_of_a_card_is_neither_met_nor_missed_on_a_cpu():
    line = ("x", "1", "2")
    outcome = {
        (setting.device, met, of_card): finding.judged(
            setting, *line, met, of_card
        ).outcome
        for setting in (SMALL, CARD)
        for met in (True, False)
        for of_card in (True, False)
    }
    for device, met, of_card in outcome:
        if device == "CPU" and of_card:
            expected = "not on a CPU"
        else:
            expected = "passed" if met else "missed"
        assert outcome[device, met, of_card] == expected


def test_counts_of_tests():
    report = """<testsuites><testsuite>
      <testcase name="a"/><testcase name="b"><skipped/></testcase>
      <testcase name="c"><failure/></testcase>
      <testcase name="d"><error/></testcase></testsuite></testsuites>"""
    assert conformance.counts(report) == (3, ["c", "d"])


# The trace.


def space_of(*events, plane="/device:GPU:0", by_reference=True):
    """An `XSpace` with events (name, picoseconds, details)."""
    from tensorflow.tsl.profiler.protobuf import xplane_pb2

    space = xplane_pb2.XSpace()
    space.planes.add(name="/host:CPU")
    made = space.planes.add(name=plane)
    made.stat_metadata[1].name = "memcpy_details"
    made.stat_metadata[2].name = "correlation_id"
    line = made.lines.add(name="Stream #14(MemcpyD2H)")
    for k, (name, duration, details) in enumerate(events):
        made.event_metadata[k].name = name
        event = line.events.add(metadata_id=k, duration_ps=duration)
        event.stats.add(metadata_id=2, uint64_value=77)
        if details is None:
            continue
        if by_reference:
            made.stat_metadata[10 + k].name = details
            event.stats.add(metadata_id=1, ref_value=10 + k)
        else:
            event.stats.add(metadata_id=1, str_value=details)
    return space


DOWN = (
    "MemcpyD2H",
    2_000_000,
    "kind_src:device kind_dst:pinned size:4096 dest:0 async:1",
)
UP = (
    "MemcpyH2D",
    500_000,
    "kind_src:pageable kind_dst:device size:16 dest:0 async:0",
)
WITHIN = (
    "MemcpyD2D",
    1_000,
    "kind_src:device kind_dst:device size:8 dest:0 async:1",
)
KERNEL = ("fusion_1", 9_000, None)


@pytest.mark.parametrize("by_reference", [True, False])
def test_copies_of_a_trace(by_reference):
    space = space_of(DOWN, KERNEL, UP, WITHIN, by_reference=by_reference)
    assert trace.copies_in(space) == [
        trace.Copy("D2H", 4096, 2e-6, True),
        trace.Copy("H2D", 16, 5e-7, False),
        trace.Copy("D2D", 8, 1e-9, False),
    ]


def test_copies_of_other_planes_are_left_out():
    assert trace.copies_in(space_of(DOWN, plane="/host:CUPTI")) == []


@pytest.mark.parametrize("details", [None, "size:4096", "kind_dst:pinned"])
def test_a_copy_without_details_is_an_error(details):
    with pytest.raises(ValueError, match=r"A copy \(D2H\).*does not say"):
        trace.copies_in(space_of(("MemcpyD2H", 1, details)))


def test_copies_are_judged():
    down = trace.Copy("D2H", 1 << 20, 1e-3, True)
    up = trace.Copy("H2D", 1 << 20, 1e-3, False)
    small = trace.Copy("D2H", 4, 1e-6, True)
    between, pinned, pageable = copies.judged(
        CARD, [small], [down, up, small], 1 << 20, 2
    )
    assert between.outcome == "passed"
    assert "largest 4 bytes" in between.measured
    assert pinned.outcome == "passed"
    assert pinned.measured == "1048576 of 1048576 bytes, 1.0 GB/s"
    assert pageable.outcome == "missed"
    between, *_ = copies.judged(CARD, [down], [down, up], 1 << 20, 2)
    assert between.outcome == "missed"


@pytest.mark.parametrize("some", [[], [trace.Copy("D2H", 64, 1e-6, True)]])
def test_a_trace_without_the_exchanges_copies_passes_for_nothing(some):
    [found] = copies.judged(CARD, some, some, 1 << 20, 2)
    assert found.outcome == "failed"
    assert "2 exchanges took place" in found.error
