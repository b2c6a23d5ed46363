"""What a virtual cluster has come to."""

import collections
import itertools

import numpy as np
import pytest

from tests import virtual_support as support
from tests.virtual_support import ADD
from tests.virtual_support import ELASTIC
from tf_elastic.timeline.virtual import Exponential
from tf_elastic.timeline.virtual import LogNormal
from tf_elastic.timeline.virtual import Pauses
from tf_elastic.timeline.virtual import Timing
from tf_elastic.timeline.virtual import Totals
from tf_elastic.timeline.virtual import moves as kinds

BYTES = {"bytes_up": 100, "bytes_down": 10, "bytes_read": 1000}
PROTOCOLS = ["blocking", "overlapped", "synchronous"]


def added(timing, p=3, count=3000, **options):
    made = support.timeline(timing, p, **options)
    totals = Totals(made.workload, p)
    moves = support.first(made, count)
    for move in moves:
        totals(move)
    return totals, moves


@pytest.mark.parametrize("rule", [ELASTIC, ADD])
@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("faults", [{}, {"deaths": 0.01, "recovery": 5.0}])
def test_all_time_is_accounted_for(rule, protocol, faults):
    timing = Timing(
        LogNormal(1.0, 0.5), latency=0.3, joins=[(1, 9.0)], **faults
    )
    totals, moves = added(timing, rule=rule, protocol=protocol)
    for worker in range(3):
        own = [m for m in moves if m.worker == worker]
        last = own[-1].time
        spent = totals.of_worker(worker)
        assert last - 3.0 < sum(spent) <= totals.seconds
        assert min(spent) >= 0
    assert totals.of_worker(1).away >= 9.0
    assert sum(totals.of_all) == pytest.approx(
        sum(sum(totals.of_worker(w)) for w in range(3))
    )


def test_a_blocking_worker_computes_or_exchanges():
    timing = Timing(1.0, latency=0.25)
    totals, _ = added(timing, 1, 40, rule=ADD)
    assert totals.steps == 10
    assert totals.of_worker(0) == pytest.approx((10.0, 5.0, 0.0, 0.0))
    totals, _ = added(timing, 1, 40)
    assert totals.of_worker(0) == pytest.approx((10.0, 10.0, 0.0, 0.0))


def test_an_overlapped_worker_waits_for_what_is_overdue():
    totals, _ = added(Timing(1.0, latency=0.25), 1, 39, protocol="overlapped")
    assert totals.of_worker(0)[1:] == (0.0, 0.0, 0.0)
    totals, _ = added(Timing(1.0, latency=0.75), 1, 39, protocol="overlapped")
    assert totals.of_worker(0)[1:] == pytest.approx((0.0, 4.5, 0.0))


@pytest.mark.parametrize("rule", [ELASTIC, ADD])
def test_a_round_waits_for_the_slowest(rule):
    timing = Timing([1.0, 3.0], latency=0.25)
    moves = 10 * (7 if rule is ELASTIC else 11)
    totals, _ = added(timing, 2, moves, rule=rule, protocol="synchronous")
    assert totals.updates == 10
    assert totals.of_worker(0) == pytest.approx((10.0, 5.0, 20.0, 0.0))
    assert totals.of_worker(1) == pytest.approx((30.0, 5.0, 0.0, 0.0))


def test_who_is_left_out_has_computed_until_then():
    timing = Timing([1.0, 1.0, 9.0], latency=0.25)
    totals, _ = added(
        timing, 3, 2000, rule=ADD, protocol="synchronous", quorum=2
    )
    computing, exchanging, waiting, _ = totals.of_worker(2)
    assert computing / exchanging == pytest.approx(5.0, rel=0.1)
    assert waiting == 0


@pytest.mark.parametrize("period", [1, 4])
@pytest.mark.parametrize("rule", [ELASTIC, ADD])
@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("latency", [0.0, 0.1])
def test_merged_comes_to_the_same(rule, protocol, latency, period):
    timing = Timing(
        LogNormal(1.0, 0.5), latency=latency, pauses=Pauses(0.1, 5.0)
    )
    options = {"rule": rule, "protocol": protocol, "period": period, **BYTES}
    merged, moves = added(timing, count=1500, merged=True, **options)
    single = support.timeline(timing, 3, **options)
    totals = Totals(single.workload, 3)
    until = itertools.takewhile(
        lambda m: m.time <= moves[-1].time + 1e-9, single.moves()
    )
    for move in until:
        totals(move)
    assert abs(totals.updates - merged.updates) <= 1
    assert totals.steps == pytest.approx(merged.steps, abs=3 * period)
    assert totals.goodput == merged.goodput == 1
    np.testing.assert_allclose(totals.of_all, merged.of_all, atol=3 * period)


@pytest.mark.parametrize(
    ("rule", "protocol", "latency", "each"),
    [
        (ELASTIC, "blocking", 0.0, 1110),
        (ELASTIC, "blocking", 0.1, 1110),
        (ADD, "blocking", 0.0, 110),
        (ADD, "blocking", 0.1, 110),
        (ELASTIC, "overlapped", 0.1, 110),
        (ELASTIC, "synchronous", 0.1, 330),
        (ADD, "synchronous", 0.0, 330),
    ],
)
def test_bytes_are_of_messages_and_answers(rule, protocol, latency, each):
    totals, _ = added(
        Timing(Exponential(1.0), latency=latency),
        rule=rule,
        protocol=protocol,
        **BYTES,
    )
    assert totals.bytes == pytest.approx(each * totals.updates, abs=3 * each)


def test_counts_are_those_of_the_moves():
    timing = Timing(LogNormal(1.0, 1.0), latency=0.2, deaths=0.01, recovery=5.0)
    totals, moves = added(timing, 5, max_lag=2.0, max_staleness=9)
    number = collections.Counter(move.kind for move in moves)
    assert totals.seconds == moves[-1].time
    assert totals.steps == sum(number[kind] for kind in kinds.STEPS)
    assert totals.updates == sum(number[kind] for kind in kinds.UPDATES)
    assert totals.dropped == number[kinds.DROP] > 0
    assert totals.restarts == number[kinds.RESTART] > 0
    assert totals.deaths == number[kinds.DIE] > 0
    stale = [m.staleness for m in moves if m.kind in kinds.UPDATES]
    assert totals.staleness == collections.Counter(stale)
    assert totals.mean_staleness == pytest.approx(np.mean(stale))


@pytest.mark.parametrize("rule", [ELASTIC, ADD])
@pytest.mark.parametrize("protocol", ["blocking", "overlapped"])
@pytest.mark.parametrize("latency", [0.0, 0.01])
def test_goodput_is_the_share_that_has_reached_the_center(
    rule, protocol, latency
):
    """Of the slow one's work nothing counts; it has a share of 1 in 101."""
    timing = Timing([1.0, 1.0, 50.0], latency=latency)
    totals, _ = added(
        timing, 3, 20_000, rule=rule, protocol=protocol, max_lag=5.0
    )
    assert totals.dropped > 10
    assert totals.goodput == pytest.approx(100 / 101, abs=2e-3)


def test_goodput_of_the_fastest():
    totals, _ = added(
        Timing([1.0, 1.1, 2.0]),
        3,
        6000,
        rule=ADD,
        protocol="synchronous",
        quorum=2,
        period=1,
    )
    assert totals.goodput == 1  # The third never ends a step.
    slower = Timing(LogNormal(1.0, 0.5), latency=1.0)
    totals, _ = added(
        slower, 3, 6000, rule=ADD, protocol="synchronous", quorum=2
    )
    assert 0.6 < totals.goodput < 0.9


def test_what_dies_with_its_worker_is_lost():
    timing = Timing(1.0, deaths=[(1, 15.5)])
    totals, _ = added(timing, 2, 500, rule=ADD, period=10)
    assert totals.goodput == pytest.approx(1 - 5 / (totals.steps - 9), abs=0.01)
