"""A virtual cluster tells what a live one does: its log can be repeated."""

import collections
import io

import numpy as np
import pytest

from tests import virtual_support as support
from tests.virtual_support import ADD
from tests.virtual_support import ELASTIC
from tests.virtual_support import GRADIENT
from tests.virtual_support import MEAN
from tf_elastic import timeline as telling
from tf_elastic.timeline import event as events
from tf_elastic.timeline import lanes
from tf_elastic.timeline import report
from tf_elastic.timeline.event import Event
from tf_elastic.timeline.virtual import LogNormal
from tf_elastic.timeline.virtual import Timing
from tf_elastic.timeline.virtual import events_of
from tf_elastic.timeline.virtual import moves as kinds
from tf_elastic.timeline.virtual.recorded import RecordedTimeline

PROTOCOLS = ["blocking", "overlapped", "synchronous"]
UNEVEN = Timing(LogNormal(1.0, 0.5))
SLOW = Timing(LogNormal(1.0, 0.5), latency=0.1, service=0.05)
DYING = Timing(
    LogNormal(1.0, 0.5),
    latency=0.05,
    deaths=[(1, 40.3), (1, 80.1)],
    recovery=7.0,
)
BYTES = {"bytes_up": 100, "bytes_down": 10, "bytes_read": 1000}


def told(timing, p=3, count=1500, **options):
    """A timeline, its first moves, and the events of these."""
    made = support.timeline(timing, p, **BYTES, **options)
    found = support.first(made, count)
    return made, found, list(events_of(made, found))


LONG = {
    "visiting_step": ["make", "read", "apply", "settling_step"],
    "visit": ["make", "arrive", "settle"],
}


def by_worker(moves):
    """Of each worker all but the single steps, in the long form."""
    found = collections.defaultdict(list)
    for move in moves:
        name = kinds.NAMES[move.kind]
        if name in ("step", "die"):  # Of a log they are known in between.
            continue
        for one in LONG.get(name, [name]):
            stale = move.staleness if one in ("apply", "arrive") else 0
            found[move.worker].append((one, move.clock, stale))
    return found


WAYS = [
    (timing, rule, protocol)
    for timing in (Timing(1.0), UNEVEN, SLOW, DYING)
    for rule in (ELASTIC, ADD, GRADIENT, MEAN)
    for protocol in PROTOCOLS
    if protocol == "synchronous" or rule is not MEAN
    # What has died with its worker no log tells.
    if timing is not DYING or protocol == "blocking"
]


@pytest.mark.parametrize("period", [1, 4])
@pytest.mark.parametrize(("timing", "rule", "protocol"), WAYS)
def test_the_log_is_repeated(timing, period, protocol, rule):
    """As that of a real cluster is: by the same moves, in the same order."""
    made, found, log = told(timing, rule=rule, protocol=protocol, period=period)
    recorded = RecordedTimeline(log)
    assert recorded.num_workers == 3
    again = list(recorded.moves())
    ours, theirs = by_worker(found), by_worker(again)
    for worker, own in ours.items():
        # All but what was on its way at the end.
        repeated = theirs[worker][:-1]
        assert repeated == own[: len(repeated)]
        assert len(repeated) >= len(own) - 3
    updates = [m.version for m in again if m.kind in kinds.UPDATES]
    assert updates == list(range(len(updates)))
    # And those that have died with a worker, or not been sent.
    steps = sum(m.kind in kinds.STEPS for m in found)
    assert recorded.num_steps == pytest.approx(steps, abs=2 * (period - 1))


def test_the_log_has_the_times():
    _, found, log = told(SLOW, rule=ADD)
    at = {(m.worker, m.clock, m.kind): m.time for m in found}
    for move in RecordedTimeline(log).moves():
        same = at.pop((move.worker, move.clock, move.kind))
        assert move.time == pytest.approx(same - found[0].time)
    assert len(at) <= 3


@pytest.mark.parametrize("rule", [ELASTIC, ADD], ids=["elastic", "add"])
@pytest.mark.parametrize("protocol", ["blocking", "overlapped"])
@pytest.mark.parametrize("latency", [0.0, 0.1])
def test_late_ones_are_told(rule, protocol, latency):
    timing = Timing([1.0, 1.0, 20.5], latency=latency)
    _, found, log = told(timing, rule=rule, protocol=protocol, max_lag=5.0)
    late = [
        e.worker for e in log if e.teller == "center 0" and e.outcome == "late"
    ]
    dropped = [m.worker for m in found if m.kind == kinds.DROP]
    assert late == dropped
    assert len(late) > 3 and set(late) == {2}
    starts = [e for e in log if e.kind == events.START and e.worker == 2]
    restarts = sum(m.kind == kinds.RESTART for m in found)
    assert len(starts) == 1 + restarts
    RecordedTimeline(log)


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("rule", [ELASTIC, ADD], ids=["elastic", "add"])
def test_events_are_of_the_schema(protocol, rule):
    bounds = {"quorum": 2} if protocol == "synchronous" else {"max_lag": 2.0}
    _, _, log = told(DYING, rule=rule, protocol=protocol, **bounds)
    times = [event.time for event in log]
    assert times == sorted(times) and times[0] == 0.0
    for event in log:
        assert Event.from_json(event.to_json()) == event
    status = telling.Status()
    for event in log:
        status(event)
    assert "worker" in status.table()
    assert "center 0" in report.of(log)
    assert lanes.of(log).bars


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("rule", [ELASTIC, ADD], ids=["elastic", "add"])
def test_exchanges_are_told_as_they_are(protocol, rule):
    _, found, log = told(SLOW, rule=rule, protocol=protocol)
    applied = [
        e for e in log if e.kind == events.EXCHANGE and e.outcome == "applied"
    ]
    kind = kinds.UPDATES if protocol != "synchronous" else (kinds.ADD,)
    moved = [m for m in found if m.kind in kind]
    assert [e.worker for e in applied] == [m.worker for m in moved]
    assert [e.version_applied for e in applied] == [m.version for m in moved]
    assert [e.staleness for e in applied] == [m.staleness for m in moved]
    assert {e.bytes for e in applied} == {110}
    numbers = {(e.worker, e.incarnation, e.sequence) for e in applied}
    assert len(numbers) == len(applied)


def test_waits_are_told():
    timing = Timing(1.0, latency=0.25)
    _, _, log = told(timing, 1, 40, rule=ADD)
    waits = [e.seconds for e in log if e.kind == events.WAIT]
    np.testing.assert_allclose(waits, [0.5] * 10)
    answers = [e.seconds for e in log if e.kind == events.ANSWER]
    np.testing.assert_allclose(answers, [0.5] * 10)


def test_rates_are_told_if_they_are_given():
    made = support.timeline(SLOW)
    found = support.first(made, 100)
    log = events_of(
        made, found, rates=lambda move: {"moving_rate": 0.9 / move.num_workers}
    )
    rates = [e.rates for e in log if e.outcome == "applied" and e.shard == 0]
    assert rates and all(r == {"moving_rate": 0.9 / 3} for r in rates)


def test_local_steps_may_be_of_several_calls():
    made = support.timeline(SLOW, rule=ADD, period=6)
    found = support.first(made, 500)
    log = list(events_of(made, found, accumulation=2, model="a"))
    recorded = RecordedTimeline(log, accumulation=2)
    assert recorded.model == "a"
    sent = {e.step_sent % 3 for e in log if e.step_sent is not None}
    assert sent == {0}
    clocks = {m.clock % 6 for m in recorded.moves() if m.kind == kinds.ARRIVE}
    assert clocks == {0}


def test_a_file_of_them_is_read(tmp_path):
    _, _, log = told(SLOW)
    path = tmp_path / "events.jsonl"
    text = io.StringIO()
    for event in log:
        text.write(event.to_json() + "\n")
    path.write_text(text.getvalue())
    assert telling.read(path) == log
