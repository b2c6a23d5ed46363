"""A timing from a log: what made the log is found again, and predicts."""

import json

import pytest

from tests import log_support
from tests import virtual_support as support
from tf_elastic.timeline import __main__ as program
from tf_elastic.timeline import event as events
from tf_elastic.timeline.summary import steady
from tf_elastic.timeline.summary import summary
from tf_elastic.timeline.virtual import Constant
from tf_elastic.timeline.virtual import LogNormal
from tf_elastic.timeline.virtual import Timing
from tf_elastic.timeline.virtual import events_of
from tf_elastic.timeline.virtual.calibrate import calibrate

P = 4
SPREAD = Timing(LogNormal(1.0, 0.4), latency=0.05, service=0.02)


def log(timing=SPREAD, count=12_000, p=P, seed=0, **options):
    made = support.timeline(timing, p, seed=seed, **options)
    return list(events_of(made, support.first(made, count)))


WAYS = [
    (support.ELASTIC, "blocking"),
    (support.ELASTIC, "overlapped"),
    (support.ELASTIC, "synchronous"),
    (support.ADD, "blocking"),
    (support.ADD, "overlapped"),
]


@pytest.mark.parametrize(("rule", "protocol"), WAYS)
@pytest.mark.parametrize("period", [1, 5])
def test_what_made_a_log_is_found_again(rule, protocol, period):
    found = calibrate(log(rule=rule, protocol=protocol, period=period))
    assert isinstance(found.step, LogNormal)
    assert found.step.mean == pytest.approx(1.0, rel=0.03)
    assert found.step.sigma == pytest.approx(0.4, rel=0.1)
    # The way back of an overlapped answer is not told of in a virtual log,
    # and a queue is taken for a latency.
    one_way = 0.025 if protocol == "overlapped" else 0.05
    assert found.latency.mean == pytest.approx(one_way, abs=0.02)
    assert 0 < found.service.seconds < 0.05


def test_constant_steps_are_constant():
    found = calibrate(log(Timing(2.0, latency=0.25), rule=support.ELASTIC))
    assert found.step.average == pytest.approx(2.0)
    assert found.latency.average + found.service.average / 2 == (
        pytest.approx(0.25)
    )
    assert isinstance(found.service, Constant)


def test_workers_of_other_speeds_have_laws_of_their_own():
    timing = Timing([LogNormal(1.0, 0.2), LogNormal(1.5, 0.2)], latency=0.01)
    found = calibrate(log(timing, p=2, period=3))
    assert [step.mean for step in found.step] == pytest.approx(
        [1.0, 1.5], rel=0.03
    )


def test_several_logs_tell_what_an_exchange_takes_of_its_worker():
    timing = Timing(
        LogNormal(1.0, 0.2),
        latency=0.05,
        service=0.02,
        overhead=0.5,
        overlapped_overhead=2.0,
    )
    ways = [("blocking", 2), ("blocking", 8), ("overlapped", 4)]
    logs = [
        log(timing, protocol=protocol, period=period, seed=seed)
        for seed, (protocol, period) in enumerate(ways)
    ]
    found = calibrate(*logs)
    assert found.step.mean == pytest.approx(1.0, rel=0.01)
    assert found.step.sigma == pytest.approx(0.2, rel=0.1)
    assert found.overhead.seconds == pytest.approx(0.5, rel=0.05)
    assert found.overlapped_overhead.seconds == pytest.approx(2.0, rel=0.05)
    assert found.latency.mean == pytest.approx(0.05, abs=0.02)
    # Who has no overlapped one knows nothing of its own.
    found = calibrate(*logs[:2])
    assert found.overhead.seconds == pytest.approx(0.5, rel=0.05)
    assert found.overlapped_overhead is None
    # One alone, or two of the same period, have it among their steps.
    for few in (logs[:1], [logs[0], log(timing, period=2, seed=9)]):
        found = calibrate(*few)
        assert found.overhead.is_nothing
        assert found.step.mean == pytest.approx(1.25, rel=0.02)


def test_logs_of_other_runs_are_refused():
    logs = [log(count=1000), log(count=1000, rule=support.ADD)]
    with pytest.raises(ValueError, match="the same rule"):
        calibrate(*logs)
    with pytest.raises(ValueError, match="as many workers. Received: 4 and 2"):
        calibrate(log(count=1000), log(count=1000, p=2))


@pytest.mark.parametrize("protocol", ["blocking", "overlapped", "synchronous"])
@pytest.mark.parametrize("period", [1, 4])
def test_another_run_is_predicted(protocol, period):
    """Of other periods and protocols than the log that is fitted to."""
    timing = calibrate(log(protocol="blocking", period=2))
    way = {"protocol": protocol, "period": period}
    real, rehearsed = (
        summary(steady(log(made, **way, seed=seed)))
        for made, seed in ((SPREAD, 1), (timing, 2))
    )
    assert rehearsed.steps_per_s == pytest.approx(real.steps_per_s, rel=0.03)
    assert rehearsed.mean_staleness == pytest.approx(
        real.mean_staleness, rel=0.05, abs=0.03
    )
    assert rehearsed.wait_share == pytest.approx(
        real.wait_share, rel=0.1, abs=0.01
    )


@pytest.mark.parametrize("protocol", log_support.PROTOCOLS)
def test_a_real_log_is_fitted(tmp_path, protocol):
    path = tmp_path / "events.jsonl"
    entries = log_support.record(path, protocol, steps=60)
    timing = calibrate([entry.event for entry in entries])
    assert 0 < support.timeline(timing, 2).timing.of_worker("step", 0).average
    assert timing.latency.average > 0
    assert Timing.from_config(timing.config()) == timing


def test_the_program_writes_a_timing(tmp_path, capsys):
    path = tmp_path / "events.jsonl"
    path.write_text("".join(e.to_json() + "\n" for e in log(count=1000)))
    assert program.main(["calibrate", str(path)]) == 0
    (tmp_path / "timing.json").write_text(capsys.readouterr().out)
    found = Timing.from_file(tmp_path / "timing.json")
    assert found.step.mean == pytest.approx(1.0, rel=0.1)
    also = tmp_path / "also.jsonl"
    also.write_text(
        "".join(e.to_json() + "\n" for e in log(count=5000, period=5))
    )
    assert program.main(["calibrate", str(path), "--also", str(also)]) == 0
    found = Timing.from_config(json.loads(capsys.readouterr().out))
    assert found.step.mean == pytest.approx(1.0, rel=0.1)
    path.write_text("")
    assert program.main(["calibrate", str(path)]) == 2
    assert "the center's beginning" in capsys.readouterr().err


def test_a_short_log_is_refused(tmp_path):
    path = tmp_path / "events.jsonl"
    entries = log_support.record(path, "blocking", steps=20)
    found = [entry.event for entry in entries]
    with pytest.raises(ValueError, match="22 exchanges .* 10 of worker 0"):
        calibrate(found)
    with pytest.raises(ValueError, match="the center's beginning"):
        calibrate([])
    with pytest.raises(ValueError, match="4 exchanges .* by workers: {0: 1}"):
        steady(
            [e for e in found if e.kind == events.SETTLE and not e.worker][:1]
        )
