"""How long things take in a virtual cluster: what is drawn, JSON, bad input."""

import dataclasses
import json
import math

import numpy as np
import pytest

from tf_elastic.timeline.virtual import Constant
from tf_elastic.timeline.virtual import Exponential
from tf_elastic.timeline.virtual import LogNormal
from tf_elastic.timeline.virtual import Losses
from tf_elastic.timeline.virtual import Normal
from tf_elastic.timeline.virtual import Pareto
from tf_elastic.timeline.virtual import Pauses
from tf_elastic.timeline.virtual import Stragglers
from tf_elastic.timeline.virtual import Timing
from tf_elastic.timeline.virtual import Trace
from tf_elastic.timeline.virtual import durations
from tf_elastic.timeline.virtual import steps
from tf_elastic.timeline.virtual import streams

ALL = [
    Constant(0.25),
    Normal(1.0, 0.2),
    Normal(0.1, 1.0),  # Nearly half of it is cut.
    LogNormal(2.0, 0.7),
    Exponential(3.0),
    Pareto(1.0, 3.0),
    Trace((1.0, 2.0, 4.0)),
]
by_duration = pytest.mark.parametrize("duration", ALL, ids=repr)


@by_duration
def test_a_duration_has_its_average(duration):
    drawn = streams.sampler(duration, 0, streams.STEP, 0)(200_000)
    error = 5 * drawn.std() / math.sqrt(len(drawn)) + 1e-4
    assert drawn.mean() == pytest.approx(duration.average, abs=error)
    assert drawn.min() > 0


@by_duration
def test_a_duration_comes_back_from_json(duration):
    config = json.loads(json.dumps(duration.config()))
    assert durations.from_config(config) == duration


@by_duration
def test_chunks_change_nothing(duration):
    whole = streams.sampler(duration, 1, streams.STEP, 2)(100)
    again = streams.sampler(duration, 1, streams.STEP, 2)
    parts = np.concatenate([again(count) for count in (1, 0, 30, 69)])
    np.testing.assert_array_equal(parts, whole)


@by_duration
def test_one_by_one_is_what_is_drawn(duration):
    stream = streams.of(duration, 1, streams.STEP, 2)
    found = [next(stream) for _ in range(500)]
    drawn = streams.sampler(duration, 1, streams.STEP, 2)(500)
    np.testing.assert_array_equal(found, drawn)


def test_generators_are_of_one_worker_and_purpose():
    numbers = {
        streams.generator(seed, purpose, worker).random()
        for seed in (0, 1)
        for purpose in (streams.STEP, streams.DATA)
        for worker in range(3)
    }
    assert len(numbers) == 12


def test_the_tail_of_pareto_is_heavy():
    drawn = streams.sampler(Pareto(1.0, 1.5), 0, streams.STEP, 0)(10**5)
    for seconds in (2.0, 10.0, 50.0):
        assert np.mean(drawn > seconds) == pytest.approx(seconds**-1.5, rel=0.2)


def test_a_trace_is_cyclic():
    stream = streams.of(Trace([1.0, 2.0]), 0, streams.STEP, 0)
    assert [next(stream) for _ in range(5)] == [1.0, 2.0, 1.0, 2.0, 1.0]


@pytest.mark.parametrize(
    ("kind", "arguments", "message"),
    [
        (Constant, [-1.0], "`seconds` must be a finite number at least 0"),
        (Constant, [math.nan], "`seconds`"),
        (Constant, [True], "`seconds`"),
        (Constant, ["1"], "`seconds`"),
        (Normal, [0.0, 1.0], "`mean` must be a finite number above 0"),
        (Normal, [1.0, -1.0], "`deviation`"),
        (LogNormal, [1.0, math.inf], "`sigma`"),
        (Exponential, [-2.0], "`mean`"),
        (Pareto, [1.0, 1.0], "`exponent` must be a finite number above 1"),
        (Trace, [[]], "at least one number"),
        (Trace, [[1.0, -1.0]], "`values`"),
    ],
)
def test_a_duration_that_cannot_be_is_refused(kind, arguments, message):
    with pytest.raises(ValueError, match=message):
        kind(*arguments)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"kind": "lognormall"}, "Did you mean 'lognormal'"),
        ({"mean": 1.0}, "must be one of constant, exponential"),
        ({"kind": "exponential", "means": 1.0}, "Did you mean 'mean'"),
        ({"kind": "normal", "mean": 1.0}, "needs `deviation`"),
        ("fast", "`seconds` must be a finite number"),
    ],
)
def test_a_configuration_that_is_none_is_refused(config, message):
    with pytest.raises(ValueError, match=message):
        durations.from_config(config)


# Steps.


def mean_step(timing, count=40_000):
    stream = steps.seconds(timing, 0, 0)
    return np.mean([next(stream) for _ in range(count)])


def test_a_step_is_loading_and_computing():
    timing = Timing(Exponential(1.0), speeds=[2.0], data=Exponential(0.25))
    assert mean_step(timing) == pytest.approx(0.75, rel=0.03)


def test_stragglers_take_several_times_as_long():
    timing = Timing(1.0, stragglers=Stragglers(0.1, 5.0))
    assert mean_step(timing) == pytest.approx(1.4, rel=0.03)
    stream = steps.seconds(timing, 0, 0)
    assert {next(stream) for _ in range(100)} == {1.0, 5.0}


def test_pauses_come_by_the_time_worked():
    timing = Timing(1.0, pauses=Pauses(0.5, 3.0))
    assert mean_step(timing) == pytest.approx(1 + 0.5 * 3.0, rel=0.03)


@pytest.mark.parametrize(
    "timing",
    [
        Timing(1.5),
        Timing(LogNormal(1.0, 0.5), data=Exponential(0.1)),
        Timing(Normal(0.5, 1.0), stragglers=Stragglers(0.1, 5.0)),
        Timing(Exponential(1.0), pauses=Pauses(0.1, Exponential(2.0))),
    ],
)
def test_merged_steps_are_sums(timing):
    single = steps.seconds(timing, 3, 1)
    merged = steps.merged_seconds(timing, 3, 1, first=2, period=5)
    for count in (2, *[5] * 100):
        total = sum(next(single) for _ in range(count))
        assert next(merged) == pytest.approx(total)


# Timing.

WHOLE = Timing(
    [1.0, LogNormal(1.0, 0.5)],
    speeds=[1.0, 2.0],
    data=Exponential(0.1),
    stragglers=Stragglers(0.01, 10.0),
    latency=[0.001, Normal(0.002, 0.001)],
    bandwidth=[1e9, 2e9],
    center_bandwidth=1e9,
    service=0.0001,
    overhead=0.001,
    overlapped_overhead=Exponential(0.002),
    node_latency=[0.05, LogNormal(0.01, 0.5)],
    node_bandwidth=[1e6, 1e9],
    losses=Losses(0.01, 0.2),
    pauses=Pauses(0.01, Exponential(5.0)),
    deaths=[(1, 30.0), (0, 20.0), (1, 40.0)],
    recovery=Constant(5.0),
    node_deaths=0.1,
    node_recovery=1.0,
    move_s=5.0,
    joins=[(1, 2.0)],
)


@pytest.mark.parametrize("timing", [WHOLE, Timing(1), Timing(0.1, deaths=0.5)])
def test_a_timing_comes_back_from_json(timing, tmp_path):
    path = tmp_path / "timing.json"
    path.write_text(json.dumps(timing.config()))
    assert Timing.from_file(path) == timing
    assert Timing.from_config(timing.config()) == timing
    hash(timing)


def test_what_is_as_by_default_is_left_out():
    assert Timing(0.5).config() == {"step": 0.5}
    assert set(WHOLE.config()) == {f.name for f in dataclasses.fields(Timing)}


def test_a_whole_timing_fits_its_workers():
    WHOLE.check(2)
    assert not WHOLE.is_instant
    assert Timing(1.0).is_instant
    assert Timing(1.0, losses=Losses(0.0, 1.0)).is_instant


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"step": 0}, "`step` must take some time"),
        ({"step": Trace([0.0])}, "`step` must take some time"),
        ({"step": -1}, "`step` must be a finite number at least 0"),
        ({"step": [1.0, -1.0]}, "`step`"),
        ({"step": None}, "`step`"),
        ({"data": -0.1}, "`data`"),
        ({"latency": math.inf}, "`latency`"),
        ({"speeds": [0.0]}, "`speeds` must be a finite number above 0"),
        ({"bandwidth": 0}, "`bandwidth`"),
        ({"center_bandwidth": -1}, "`center_bandwidth`"),
        ({"service": "long"}, "`service`"),
        ({"stragglers": 0.1}, "`stragglers` must be None or Stragglers"),
        ({"losses": Pauses(1.0, 1.0)}, "`losses` must be None or Losses"),
        ({"deaths": -1.0}, "`deaths`"),
        ({"deaths": [3]}, r"pairs \(worker, time\)"),
        ({"deaths": [(0.5, 1.0)]}, "integers from 0"),
        ({"joins": [(0, 0.0)]}, "`joins.time`"),
        ({"recovery": -1.0}, "`recovery`"),
        ({"overhead": -1.0}, "`overhead`"),
        ({"overlapped_overhead": -1.0}, "`overlapped_overhead`"),
    ],
)
def test_a_timing_that_cannot_be_is_refused(fields, message):
    with pytest.raises(ValueError, match=message):
        Timing(**{"step": 1.0, **fields})


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Stragglers(1.5, 2.0), "`stragglers.chance` must be from 0"),
        (lambda: Stragglers(0.5, 0.0), "`stragglers.factor`"),
        (lambda: Losses(1, 1.0), "`losses.chance` must be below 1"),
        (lambda: Losses(0.1, -1.0), "`losses.resend_after`"),
        (lambda: Pauses(0.0, 1.0), "`pauses.rate`"),
        (lambda: Pauses(0.1, -1.0), "`pauses.seconds`"),
    ],
)
def test_a_fault_that_cannot_be_is_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({}, "needs `step`"),
        ([], "must be a mapping"),
        ({"latency": 0.1}, "needs `step`"),
        ({"step": 1.0, "latancy": 0.1}, "Did you mean 'latency'"),
        ({"step": {"kind": "gauss"}}, "`kind` of `step`"),
        ({"step": 1, "losses": {"chance": 0.1}}, "needs `resend_after`"),
        ({"step": 1, "losses": {"chanse": 0.1}}, "Did you mean 'chance'"),
        ({"step": 1, "pauses": 3}, "`pauses` must be a mapping"),
    ],
)
def test_a_file_that_is_no_timing_is_refused(config, message, tmp_path):
    path = tmp_path / "timing.json"
    path.write_text(json.dumps(config))
    with pytest.raises(ValueError, match=message) as error:
        Timing.from_file(path)
    assert "timing.json" in str(error.value)


def test_a_file_that_is_no_json_is_refused(tmp_path):
    path = tmp_path / "timing.json"
    path.write_text("step: 1")
    with pytest.raises(ValueError, match="timing.json"):
        Timing.from_file(path)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"step": [1.0, 2.0]}, "`step` must be one for all"),
        ({"latency": [0.1] * 4}, "of 3. Received: 4"),
        ({"speeds": [1.0]}, "`speeds`"),
        ({"deaths": [(3, 1.0)]}, "workers from 0 to 2"),
        ({"deaths": [(1, 1.0), (1, 2.0)]}, "can die once"),
        ({"joins": [(5, 1.0)]}, "`joins` must name workers"),
        ({"joins": [(1, 1.0), (1, 2.0)]}, "may come late once"),
        ({"joins": [(w, 1.0) for w in range(3)]}, "at least one worker"),
    ],
)
def test_what_does_not_fit_the_workers_is_refused(fields, message):
    timing = Timing(**{"step": 1.0, **fields})
    with pytest.raises(ValueError, match=message):
        timing.check(3)


def test_without_links_exchanges_take_no_time():
    timing = Timing(
        step=0.1,
        latency=0.01,
        bandwidth=1e6,
        center_bandwidth=1e7,
        service=0.1,
        overhead=0.1,
        overlapped_overhead=0.2,
        losses=Losses(0.1, 1.0),
        deaths=[(0, 5.0)],
    )
    assert timing.without_links == Timing(step=0.1, deaths=[(0, 5.0)])
    assert timing.without_links.is_instant
