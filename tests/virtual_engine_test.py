"""The engine of a virtual cluster: what happens, in which order."""

import itertools

import numpy as np
import pytest

from tests import virtual_support as support
from tests.virtual_support import ADD
from tests.virtual_support import ELASTIC
from tests.virtual_support import GRADIENT
from tests.virtual_support import MEAN
from tests.virtual_support import first
from tests.virtual_support import timeline
from tests.virtual_support import told
from tf_elastic.timeline.virtual import Exponential
from tf_elastic.timeline.virtual import LogNormal
from tf_elastic.timeline.virtual import Timing
from tf_elastic.timeline.virtual import moves as kinds

RULES = {"elastic": ELASTIC, "add": ADD, "gradient": GRADIENT, "mean": MEAN}
SLOW = Timing(
    LogNormal(1.0, 0.5),
    data=0.1,
    latency=Exponential(0.1),
    bandwidth=[1e6, 2e6, 3e6],
    center_bandwidth=1e7,
    service=0.01,
)
BYTES = {"bytes_up": 10**5, "bytes_down": 10**5, "bytes_read": 10**5}


# Constant speeds and no delay.


def test_a_difference_goes_round_robin():
    moves = first(timeline(1.0), 6)
    assert told(moves) == [f"visiting_step {w}" for w in (0, 1, 2, 0, 1, 2)]
    assert [m.time for m in moves] == [1, 1, 1, 2, 2, 2]
    assert [m.version for m in moves] == list(range(6))
    assert [m.clock for m in moves] == [0, 0, 0, 1, 1, 1]
    assert {m.num_workers for m in moves} == {3}


@pytest.mark.parametrize("rule", [ADD, GRADIENT, MEAN])
def test_all_else_visits_right_after_its_step(rule):
    moves = first(timeline(1.0, rule=rule), 12)
    assert told(moves[:6]) == told(moves[6:])
    assert told(moves[:4]) == ["step 0", "visit 0", "step 1", "visit 1"]
    assert [m.clock for m in moves[:2]] == [0, 1]
    # The others', since the update that has answered its last one.
    assert [m.staleness for m in moves[7::2]] == [2, 2, 2]


def test_a_period_has_its_phase():
    before = first(timeline(1.0, 1, period=3), 7)
    assert told(before)[:4] == ["visiting_step 0", *["step 0"] * 2] + [
        "visiting_step 0"
    ]
    after = first(timeline(1.0, 1, rule=ADD, period=3), 8)
    assert told(after) == [*["step 0"] * 3, "visit 0"] * 2
    assert after[3].clock == 3


def test_overlapped_follows_a_period_later_even_what_takes_no_time():
    moves = first(timeline(1.0, 2, protocol="overlapped"), 14)
    assert told(moves) == [
        *("step 0", "make 0", "arrive 0", "step 1", "make 1", "arrive 1"),
        *("step 0", "settle 0", "make 0", "arrive 0"),
        *("step 1", "settle 1", "make 1", "arrive 1"),
    ]


def test_what_was_done_is_known_before_the_answer_is_followed():
    moves = first(timeline(1.0, 1, rule=ADD, protocol="overlapped"), 9)
    assert told(moves) == [
        *("step 0", "make 0", "arrive 0"),
        *("step 0", "turn_over 0", "arrive 0"),
        *("step 0", "turn_over 0", "arrive 0"),
    ]
    # Of a point that the worker has gone on from, one answer before the last.
    assert [m.staleness for m in moves[2::3]] == [0, 1, 1]


def test_synchronous_differences():
    moves = first(timeline(1.0, 2, protocol="synchronous"), 14)
    assert told(moves[:7]) == [
        *("make 0", "add 0", "make 1", "add 1", "collect -1"),
        *("settling_step 0", "settling_step 1"),
    ]
    assert [m.count for m in moves if m.kind == kinds.COLLECT] == [2, 2]
    assert told(moves[7:]) == told(moves[:7])


def test_synchronous_increments():
    moves = first(timeline(1.0, 2, rule=ADD, protocol="synchronous"), 11)
    assert told(moves) == [
        *("step 0", "make 0", "add 0", "step 1", "make 1", "add 1"),
        *("collect -1", "answer 0", "settle 0", "answer 1", "settle 1"),
    ]


def synchronous(rule, **timing):
    """Two rounds of workers whose steps last 1 and 3, 1 apart from the center.

    A message is 20 bytes, of which 10 are the answer's.
    """
    made = timeline(
        Timing([1.0, 3.0], latency=0.25, **timing),
        2,
        rule=rule,
        protocol="synchronous",
        bytes_up=10,
        bytes_down=10,
    )
    found = first(made, 26)
    return [[m for m in found if m.worker == worker] for worker in (0, 1, -1)]


def times(moves, kind):
    return [move.time for move in moves if move.kind == kind]


def test_a_synchronous_exchange_is_one_call():
    """By hand: there 0.25, served 0.5, back 0.25; both steps begin at 0.

    Worker 1 is there at 3.25, after worker 0, and served at 3.75: the round
    ends. At 4 both know it, and go on.
    """
    for rule, settles in ((ELASTIC, kinds.SETTLING_STEP), (ADD, kinds.SETTLE)):
        zero, one, center = synchronous(rule, service=0.5)
        assert times(zero, kinds.ADD)[:2] == [1.75, 5.75]
        assert times(one, kinds.ADD)[:2] == [3.75, 7.75]
        assert times(center, kinds.COLLECT)[:2] == [3.75, 7.75]
        for own in (zero, one):
            assert times(own, settles)[:2] == [4.0, 8.0]


def test_differences_come_back_before_a_round_has_ended():
    """By hand: 10 bytes take 2 each way of a link, where 5 go in a second.

    Worker 0 is there at 1 + 0.25 + 2 = 3.25, worker 1 at 5.25: the round ends.
    Worker 0 has its difference at 3.25 + 0.25 + 2 = 5.5, as it hears of the
    end; worker 1 has both at 7.5. Points leave at 5.25 for both.
    """
    zero, one, center = synchronous(ELASTIC, bandwidth=5.0)
    assert times(center, kinds.COLLECT)[0] == 5.25
    assert times(zero, kinds.SETTLING_STEP)[0] == 5.5
    assert times(one, kinds.SETTLING_STEP)[0] == 7.5
    # Then worker 0 is there at 5.5 + 1 + 2.25 and answered 2.25 later; worker
    # 1 at 7.5 + 3 + 2.25.
    assert times(center, kinds.COLLECT)[1] == 12.75
    assert times(zero, kinds.SETTLING_STEP)[1] == 13.0
    zero, one, center = synchronous(ADD, bandwidth=5.0)
    assert times(center, kinds.COLLECT)[0] == 5.25
    assert times(zero, kinds.SETTLE)[0] == times(one, kinds.SETTLE)[0] == 7.5


def test_a_slow_difference_is_waited_for():
    """By hand: worker 0 has its own after the end of the round."""
    zero, one, center = synchronous(ELASTIC, bandwidth=[2.0, 1000.0])
    # There at 1 + 0.25 + 5 = 6.25, as the last.
    assert times(center, kinds.COLLECT)[0] == 6.25
    assert times(zero, kinds.SETTLING_STEP)[0] == 11.5
    assert times(one, kinds.SETTLING_STEP)[0] == 6.5
    # The other way round: worker 0 is there first, by 3 s.
    zero, one, center = synchronous(ELASTIC, bandwidth=[5.0, 1000.0])
    # There at 3.25, a hundredth before worker 1; both ways take 2.
    assert times(center, kinds.COLLECT)[0] == pytest.approx(3.26)
    assert times(zero, kinds.SETTLING_STEP)[0] == 5.5
    assert times(one, kinds.SETTLING_STEP)[0] == pytest.approx(3.52)


def test_a_slower_worker_comes_less_often():
    moves = first(timeline(Timing([1.0, 2.5]), 2), 7)
    assert [m.worker for m in moves] == [0, 0, 1, 0, 0, 0, 1]
    speeds = first(timeline(Timing(1.0, speeds=[1.0, 0.4]), 2), 7)
    assert speeds == moves


# Where things take time.


def test_a_difference_takes_two_ways_there_and_back():
    timing = Timing(1.0, latency=0.1, bandwidth=1000.0, service=0.01)
    moves = first(timeline(timing, 1, bytes_up=20, bytes_read=30, period=2), 6)
    assert told(moves) == [
        *("make 0", "read 0", "apply 0", "settling_step 0", "step 0", "make 0")
    ]
    read = 1.0 + 0.1 + 0.01
    # The last byte arrives after the message was served.
    there = read + 0.1 + 0.03 + 0.1 + 0.02
    times = [1.0, read, there, there + 0.1, there + 1.1, there + 2.1]
    np.testing.assert_allclose([m.time for m in moves], times)


def test_an_increment_takes_one_way_there_and_back():
    timing = Timing(1.0, latency=0.1, center_bandwidth=1000.0)
    moves = first(timeline(timing, 1, rule=ADD, bytes_up=20, bytes_down=30), 5)
    assert told(moves) == ["step 0", "make 0", "arrive 0", "settle 0", "step 0"]
    np.testing.assert_allclose(
        [m.time for m in moves], [1.0, 1.0, 1.15, 1.25, 2.25]
    )


def test_the_center_serves_one_after_another():
    moves = first(timeline(Timing(1.0, service=0.25), rule=ADD), 30)
    arrivals = [m for m in moves if m.kind == kinds.ARRIVE]
    assert [m.time for m in arrivals[:3]] == [1.25, 1.5, 1.75]
    assert [m.worker for m in arrivals[:3]] == [0, 1, 2]


def test_an_overlapped_worker_goes_on_meanwhile():
    moves = first(
        timeline(Timing(1.0, latency=0.2), 1, protocol="overlapped"), 7
    )
    assert told(moves) == [
        *("step 0", "make 0", "arrive 0", "step 0", "settle 0", "make 0"),
        "arrive 0",
    ]
    times = [1.0, 1.0, 1.2, 2.0, 2.0, 2.0, 2.2]
    np.testing.assert_allclose([m.time for m in moves], times)


@pytest.mark.parametrize("latency", [0.8, 1.3])
def test_an_overlapped_worker_waits_for_an_answer_that_is_not_there(latency):
    timing = Timing(1.0, latency=latency)
    moves = first(timeline(timing, 1, protocol="overlapped"), 6)
    settle = next(m for m in moves if m.kind == kinds.SETTLE)
    assert settle.time == pytest.approx(1.0 + 2 * latency)


@pytest.mark.parametrize("latency", [0.0, 0.1])
def test_an_overhead_comes_before_the_next_step(latency):
    timing = Timing(1.0, latency=latency, overhead=0.25)
    made = timeline(timing, 1, rule=ADD, period=2)
    steps = [m.time for m in first(made, 20) if m.kind in kinds.STEPS]
    if latency == 0:
        steps = [m.time for m in first(made, 20) if m.kind != kinds.VISIT]
    there = 2.0 + 2 * latency + 0.25
    expected = [1.0, 2.0, there + 1.0, there + 2.0, 2 * there + 1.0]
    np.testing.assert_allclose(steps[:5], expected)
    merged = timeline(timing, 1, rule=ADD, period=2, merged=True)
    ends = [m.time for m in first(merged, 20) if m.kind == kinds.STEP]
    np.testing.assert_allclose(ends[:2], [2.0, there + 2.0])


def test_the_overhead_of_an_overlapped_exchange_is_its_own():
    timing = Timing(1.0, overhead=0.25, overlapped_overhead=0.5)
    for protocol, overhead in (
        ("blocking", 0.25),
        ("synchronous", 0.25),
        ("overlapped", 0.5),
    ):
        moves = first(timeline(timing, 1, rule=ADD, protocol=protocol), 20)
        steps = [m.time for m in moves if m.kind == kinds.STEP]
        assert steps[1] - steps[0] == 1.0 + overhead


# All of them.


@pytest.mark.parametrize("period", [1, 4])
@pytest.mark.parametrize("protocol", ["blocking", "overlapped", "synchronous"])
@pytest.mark.parametrize("name", RULES)
@pytest.mark.parametrize("timing", [Timing(LogNormal(1.0, 0.5)), SLOW])
def test_moves_are_those_of_a_cluster(name, protocol, period, timing):
    made = timeline(
        timing, rule=RULES[name], protocol=protocol, period=period, **BYTES
    )
    moves = first(made, 2000)
    clocks = support.check(moves, 3)
    assert min(clocks.values()) > 0.5 * max(clocks.values())
    assert first(made, 2000) == moves  # Again, to the bit.


@pytest.mark.parametrize("protocol", ["blocking", "overlapped", "synchronous"])
def test_an_end_comes_early_for_who_asks_for_less(protocol):
    made = timeline(SLOW, protocol=protocol)
    assert first(made, 1000)[:10] == first(made, 10)


def test_another_seed_is_another_cluster():
    assert first(timeline(SLOW, seed=1), 50) != first(timeline(SLOW), 50)


def test_workers_draw_on_their_own():
    """What one does is the same with others beside it, where none waits."""
    alone = first(timeline(LogNormal(1.0, 0.5), 1), 50)
    among = [m for m in first(timeline(LogNormal(1.0, 0.5), 8), 800)]
    own = [m.time for m in among if m.worker == 0]
    assert own[:50] == [m.time for m in alone]


@pytest.mark.parametrize("rule", [ELASTIC, ADD])
@pytest.mark.parametrize("period", [1, 7])
@pytest.mark.parametrize(
    "timing", [SLOW, Timing(1.0), Timing(LogNormal(1.0, 0.5))]
)
@pytest.mark.parametrize("protocol", ["blocking", "overlapped", "synchronous"])
def test_merged_is_the_same_without_the_single_steps(
    rule, period, timing, protocol
):
    options = {"rule": rule, "period": period, "protocol": protocol, **BYTES}
    merged = first(timeline(timing, merged=True, **options), 400)
    due = timeline(timing, **options).workload.phase
    single = [
        m
        for m in first(timeline(timing, **options), 400 * period)
        if m.kind != kinds.STEP or m.clock % period == due
    ][:400]
    np.testing.assert_allclose(
        [m.time for m in merged], [m.time for m in single], rtol=1e-9
    )
    assert [m[1:] for m in merged] == [m[1:] for m in single]


def test_moves_can_be_taken_side_by_side():
    made = timeline(SLOW)
    pairs = itertools.islice(zip(made.moves(), made.moves(), strict=True), 500)
    assert all(a == b for a, b in pairs)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"p": 0}, "`num_workers`"),
        ({"p": 2.0}, "`num_workers`"),
        ({"seed": -1}, "`seed`"),
        ({"max_lag": 0}, "`max_lag`"),
        ({"max_staleness": 0}, "`max_staleness`"),
        (
            {"max_staleness": 4, "protocol": "synchronous"},
            "Give `quorum` instead",
        ),
        ({"quorum": 2}, "`quorum` is of the synchronous"),
        ({"quorum": 4, "protocol": "synchronous"}, "`quorum`"),
        ({"period": 0}, "`period`"),
        ({"bytes_up": -1}, "`bytes_up`"),
    ],
)
def test_what_cannot_be_is_refused(options, message):
    with pytest.raises(ValueError, match=message):
        timeline(1.0, **options)


def test_an_unknown_protocol_is_refused():
    load = support.workload()._replace(protocol="one_way")
    with pytest.raises(ValueError, match="blocking, overlapped, synchronous"):
        load.check()
