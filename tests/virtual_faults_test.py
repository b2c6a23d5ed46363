"""Who is late, dies, joins, or is not among the fastest, in virtual time."""

import collections

import numpy as np
import pytest

from tests import virtual_support as support
from tests.virtual_support import ADD
from tests.virtual_support import ELASTIC
from tests.virtual_support import GRADIENT
from tests.virtual_support import first
from tests.virtual_support import timeline
from tests.virtual_support import told
from tf_elastic.core import lateness
from tf_elastic.timeline.virtual import Exponential
from tf_elastic.timeline.virtual import LogNormal
from tf_elastic.timeline.virtual import Losses
from tf_elastic.timeline.virtual import Pauses
from tf_elastic.timeline.virtual import Stragglers
from tf_elastic.timeline.virtual import Timing
from tf_elastic.timeline.virtual import moves as kinds

PROTOCOLS = ["blocking", "overlapped", "synchronous"]
by_protocol = pytest.mark.parametrize("protocol", PROTOCOLS)
by_rule = pytest.mark.parametrize(
    "rule", [ELASTIC, ADD], ids=["elastic", "add"]
)
# One that is 20 times slower; it has missed 19 turns of the others.
SLOW = Timing([1.0, 1.0, 20.5])


def of_worker(moves, worker, *some):
    return [
        kinds.NAMES[m.kind]
        for m in moves
        if m.worker == worker and (not some or m.kind in some)
    ]


def number(moves, kind):
    return sum(m.kind == kind for m in moves)


# Lateness.


def test_what_is_late_is_left_out():
    moves = first(timeline(SLOW, max_lag=5.0), 200)
    assert of_worker(moves, 2)[:6] == ["drop", "restart", "step"] * 2
    assert number(moves, kinds.DROP) == number(moves, kinds.RESTART)
    support.check(moves, 3)


def test_what_is_late_is_left_out_after_its_step():
    moves = first(timeline(SLOW, max_lag=5.0, rule=ADD), 200)
    own = of_worker(moves, 2)
    assert own[:8] == ["step", "drop", "answer", "settle"] * 2
    support.check(moves, 3)


def test_lateness_is_of_core():
    """As often, and as late, as `core.lateness` says of the versions."""
    bound = 2.5
    moves = first(timeline(LogNormal(1.0, 1.0), 5, max_lag=bound), 5000)
    settled, dropped = [0] * 5, 0
    for move in moves:
        late = lateness.is_late(move.version - settled[move.worker], 5, bound)
        if move.kind == kinds.VISITING_STEP:
            assert not late
            settled[move.worker] = move.version + 1
        elif move.kind == kinds.DROP:
            assert late
            dropped += 1
        elif move.kind == kinds.RESTART:
            settled[move.worker] = move.version
    assert dropped > 20


@by_rule
@pytest.mark.parametrize("protocol", ["blocking", "overlapped"])
def test_late_messages_that_take_time(rule, protocol):
    timing = Timing([1.0, 1.0, 20.5], latency=0.1)
    options = {"rule": rule, "protocol": protocol}
    moves = first(timeline(timing, max_lag=5.0, **options), 2000)
    support.check(moves, 3)
    drops = [m.worker for m in moves if m.kind == kinds.DROP]
    assert drops and set(drops) == {2}
    then = kinds.RESTART if rule is ELASTIC else kinds.ANSWER
    assert number(moves, then) in (len(drops), len(drops) - 1)
    none = first(timeline(timing, **options), 2000)
    assert not number(none, kinds.DROP)


def test_an_overlapped_message_that_was_late_is_followed_by_none():
    """The worker is at the center: it has nothing to give."""
    moves = first(timeline(SLOW, max_lag=5.0, protocol="overlapped"), 500)
    own = of_worker(moves, 2)
    at = own.index("restart")
    assert own[:at] == ["step", "make", "drop", "step"]
    assert own[at + 1 : at + 3] == ["step", "make"]


# Staleness.


@by_rule
def test_a_message_that_is_too_stale_is_left_out(rule):
    timing = Timing(LogNormal(1.0, 1.0), latency=0.3)
    options = {"rule": rule, "protocol": "overlapped"}
    moves = first(timeline(timing, 8, max_staleness=9, **options), 5000)
    support.check(moves, 8)
    taken = [m.staleness for m in moves if m.kind == kinds.ARRIVE]
    dropped = [m.staleness for m in moves if m.kind == kinds.DROP]
    assert max(taken) == 8
    assert min(dropped) == 9
    assert len(dropped) > 100


def test_a_threshold_of_one_takes_what_is_fresh_only():
    moves = first(timeline(1.0, 2, rule=GRADIENT, max_staleness=1), 20)
    # Worker 1 has read before worker 0's update, and then after it.
    assert of_worker(moves, 0)[:4] == ["step", "visit"] * 2
    assert of_worker(moves, 1)[:4] == ["step", "drop", "answer", "settle"]


# Lives.


@by_protocol
@by_rule
def test_one_that_dies_is_not_waited_for(protocol, rule):
    timing = Timing(1.0, latency=0.25, deaths=[(1, 10.3)])
    moves = first(timeline(timing, protocol=protocol, rule=rule), 500)
    support.check(moves, 3)
    at = next(k for k, m in enumerate(moves) if m.kind == kinds.DIE)
    assert moves[at].time == 10.3
    assert moves[at].num_workers == 2
    assert {m.worker for m in moves[at + 1 :]} <= {-1, 0, 2}
    assert {m.num_workers for m in moves[:at]} == {3}
    counts = [m.count for m in moves[at + 1 :] if m.kind == kinds.COLLECT]
    assert set(counts) == ({2} if protocol == "synchronous" else set())


@by_protocol
@by_rule
def test_one_that_recovers_begins_a_new_life(protocol, rule):
    timing = Timing(
        LogNormal(1.0, 0.3), latency=0.05, deaths=0.02, recovery=10.0
    )
    moves = first(timeline(timing, 4, protocol=protocol, rule=rule), 6000)
    support.check(moves, 4)
    deaths = {w: [] for w in range(4)}
    for move in moves:
        if move.kind == kinds.DIE:
            deaths[move.worker].append(move)
        elif move.kind == kinds.JOIN:
            last = deaths[move.worker][-1]
            assert move.time == pytest.approx(last.time + 10.0)
            assert move.clock == last.clock
    assert number(moves, kinds.DIE) > 10


@by_protocol
@by_rule
def test_one_that_comes_late_is_there_from_then_on(protocol, rule):
    timing = Timing(1.0, joins=[(1, 5.5)])
    moves = first(timeline(timing, protocol=protocol, rule=rule), 200)
    support.check(moves, 3)
    at = next(k for k, m in enumerate(moves) if m.kind == kinds.JOIN)
    assert (moves[at].time, moves[at].worker) == (5.5, 1)
    assert moves[at].num_workers == 3
    assert {m.num_workers for m in moves[:at]} == {2}
    step = next(m for m in moves[at + 1 :] if m.worker == 1)
    assert step.time == 6.5


def test_a_timeline_ends_when_all_have_died():
    timing = Timing(1.0, deaths=[(0, 3.5), (1, 5.5), (2, 4.5)])
    moves = first(timeline(timing), 10**6)
    assert told(moves)[-1] == "die 1"
    assert moves[-1].num_workers == 0
    assert len(moves) == 3 * 3 + 2 + 1 + 3


def test_an_interrupted_life_goes_on_as_if_it_had_not_been():
    """The others of independent workers do not notice."""
    options = {"rule": ADD, "protocol": "overlapped"}
    timing = Timing(LogNormal(1.0, 0.3))
    whole = first(timeline(timing, **options), 3000)
    dying = Timing(LogNormal(1.0, 0.3), deaths=[(0, 50.0)])
    cut = first(timeline(dying, **options), 2000)
    for worker in (1, 2):
        own = [m.time for m in whole if m.worker == worker]
        same = [m.time for m in cut if m.worker == worker]
        assert same == own[: len(same)]


# The fastest.


UNEVEN = LogNormal(1.0, 0.5)
BOUND = {"max_staleness": 20}


def fastest(quorum, timing=UNEVEN, p=5, **options):
    options = {"protocol": "synchronous", "quorum": quorum, **options}
    return timeline(timing, p, **options)


@by_rule
@pytest.mark.parametrize("period", [1, 3])
def test_a_round_of_the_fastest(rule, period):
    timing = Timing(LogNormal(1.0, 0.5), latency=0.05)
    moves = first(fastest(3, timing, rule=rule, period=period), 5000)
    support.check(moves, 5)
    counts = {m.count for m in moves if m.kind == kinds.COLLECT}
    assert counts == {3}
    rounds = number(moves, kinds.COLLECT)
    restarts = number(moves, kinds.RESTART)
    assert 2 * (rounds - 1) <= restarts <= 2 * rounds
    assert 0 < number(moves, kinds.DROP) < restarts


def test_who_is_left_out_begins_again_with_the_others():
    moves = first(fastest(2, Timing([1.0, 1.1, 5.0]), 3), 11)
    assert told(moves) == [
        *("make 0", "add 0", "make 1", "add 1", "collect -1"),
        *("settling_step 0", "settling_step 1", "restart 2"),
        *("make 0", "add 0", "make 1"),
    ]
    assert moves[7].time == 1.1


def test_a_quorum_of_all_is_none():
    assert first(fastest(5), 500) == first(fastest(None), 500)


@pytest.mark.parametrize("m", [1, 3, 5])
def test_a_round_lasts_until_the_mth_has_come(m):
    """Exponential steps: the expected mth of p is a sum of 1 / k."""
    moves = first(fastest(m, Exponential(1.0)), 60_000)
    times = np.diff([0.0] + [x.time for x in moves if x.kind == kinds.COLLECT])
    expected = sum(1 / (5 - k) for k in range(m))
    error = 5 * times.std() / np.sqrt(len(times))
    assert times.mean() == pytest.approx(expected, abs=error)


def test_fewer_than_a_quorum_are_all():
    timing = Timing(1.0, deaths=[(0, 5.5), (1, 6.5), (2, 7.5)])
    moves = first(fastest(4, timing), 500)
    support.check(moves, 5)
    counts = collections.Counter(
        m.count for m in moves if m.kind == kinds.COLLECT
    )
    assert counts[4] == 6
    assert counts[3] == 1
    assert counts[2] > 10


# What else goes wrong.


@by_protocol
@by_rule
def test_all_at_once(protocol, rule):
    timing = Timing(
        LogNormal(1.0, 1.0),
        stragglers=Stragglers(0.05, 10.0),
        latency=Exponential(0.2),
        service=0.02,
        losses=Losses(0.1, 0.5),
        pauses=Pauses(0.01, 20.0),
        deaths=0.01,
        recovery=Exponential(20.0),
        joins=[(3, 7.0)],
    )
    made = timeline(
        timing,
        6,
        protocol=protocol,
        rule=rule,
        period=3,
        max_lag=3.0,
        **({"quorum": 4} if protocol == "synchronous" else BOUND),
    )
    moves = first(made, 20_000)
    clocks = support.check(moves, 6)
    assert len(clocks) == 6
    found = {kinds.NAMES[m.kind] for m in moves}
    assert {"drop", "die", "join"} <= found
    assert ("restart" in found) == (
        rule is ELASTIC or protocol == "synchronous"
    )


def test_losses_take_time():
    """A message and its answer each arrive at the first try, or later."""
    timing = Timing(1.0, losses=Losses(0.25, 3.0))
    moves = first(timeline(timing, 1, rule=ADD), 40_000)
    steps = np.diff([m.time for m in moves if m.kind == kinds.STEP])
    expected = 1 + 2 * 3.0 * 0.25 / 0.75
    assert steps.mean() == pytest.approx(expected, rel=0.05)
