"""A worker that comes too late moves the center by nothing, exactly."""

import concurrent.futures

import numpy as np
import pytest

from tests import cluster_support as support
from tests import family_support as family
from tests.cluster_support import until
from tf_elastic.cluster import errors
from tf_elastic.cluster.center.registration import PushId
from tf_elastic.cluster.worker import moved as kinds
from tf_elastic.core import lateness

MAX_LAG = 5.0
# Nobody hears of anybody by chance.
QUIET = support.PATIENT._replace(heartbeat_s=1000.0)
cluster = family.cluster


def rates(p, clock):
    return {
        "beta": 0.9,
        "moving_rate": 0.9 / p,
        "learning_rate": 0.05,
        "momentum": 0.5,
    }


def start(i=0):
    return [np.full(support.N, 5.0 + i), np.full(support.STATISTICS, 1.0 + i)]


def joined(center, count=2, max_lag=MAX_LAG, **options):
    """Clients that have joined, the chief first."""
    made = []
    for i in range(count):
        client = center.client(i, count, max_lag=max_lag, **options)
        client.join(center.layout, start(i))
        made.append(client)
    for client in made:
        client.read()  # p may have grown since it joined.
    return made


RULES = {
    "elastic": (None, ("exchange", "read_and_push")),
    "add": (family.ADD, ("take",)),
    "averaged": (family.AVERAGED, ("take",)),
    "heavy_ball": (family.HEAVY_BALL, ("take",)),
    "nesterov": (family.NESTEROV, ("take",)),
}
WAYS = [(name, way) for name, (_, ways) in RULES.items() for way in ways]


def do(client, way, value, **options):
    """One exchange; `value` is where the worker is, or what it brings."""
    sent = [np.full(support.N, value), np.full(support.STATISTICS, value)]
    return getattr(client, way)(sent, rates, **options)


def kept(center):
    """All that the servers hold, to the bit."""
    return [
        array.tobytes()
        for shard in center.shards
        for arrays in shard.state.slots.values()
        for array in arrays
    ]


def go_on(client, way, times):
    for k in range(times):
        do(client, way, 0.5 + 0.01 * k)


@pytest.mark.parametrize("has_heard", [True, False])
@pytest.mark.parametrize(("name", "way"), WAYS)
def test_a_year_old_worker_moves_the_center_by_nothing(
    cluster,
    caplog,
    name,
    way,
    has_heard,
):
    """Whether its heart has told it of that, or the servers have to."""
    center = cluster(2, RULES[name][0])
    quick, late = joined(center, timeouts=QUIET)
    do(late, way, 0.7)
    go_on(quick, way, 40)
    if has_heard:
        late.signal()
    before = kept(center), [s.version for s in center.shards]
    moved = do(late, way, -1e6)
    assert (kept(center), [s.version for s in center.shards]) == before
    # It goes on from the center.
    wanted = kinds.RESTART if name == "elastic" else kinds.TAKE
    assert moved.kind == wanted
    points = center.center()
    if name != "nesterov":  # Its workers go on from a look-ahead point.
        np.testing.assert_array_equal(moved.arrays[0], points[0])
    assert late.counts.late == 1
    assert late.counts.exchanges == 1
    told = "worker 1 is late: the others have moved the center 40 times"
    assert told in caplog.text
    # And it is one of them again.
    do(late, way, 0.7)
    assert [s.version for s in center.shards] == [v + 1 for v in before[1]]
    assert late.counts.late == 1
    members = center.shards[0].status()["members"]
    assert members["1"]["pushes"] == 2


@pytest.mark.parametrize(("name", "way"), WAYS)
@pytest.mark.parametrize("max_lag", [None, MAX_LAG])
def test_who_is_on_time_is_not_touched(
    cluster,
    name,
    way,
    max_lag,
):
    """A lag of 5 is not above 5, nor is one that is unbounded."""
    center = cluster(1, RULES[name][0])
    quick, other = joined(center, max_lag=max_lag)
    for _ in range(3):
        do(other, way, 0.7)
        go_on(quick, way, 5 if max_lag else 30)
    version = center.shards[0].version
    moved = do(other, way, 0.7)
    assert center.shards[0].version == version + 1
    assert other.counts.late == 0
    assert not moved.restart


@pytest.mark.parametrize(("name", "way"), WAYS)
def test_both_runs_are_the_same_where_nobody_is_late(
    cluster,
    name,
    way,
):
    found = []
    for max_lag in (None, 10.0):
        center = cluster(2, RULES[name][0])
        workers = joined(center, 3, max_lag)
        for k in range(40):
            do(workers[k % 3], way, np.sin(k))
        found.append(kept(center))
    assert found[0] == found[1]


def test_a_streak_is_told_of_once(cluster, caplog):
    quick, late = joined(cluster(1))
    for _ in range(3):
        go_on(quick, "exchange", 20)
        do(late, "exchange", 0.7)
    assert late.counts.late == 3
    assert caplog.text.count("worker 1 is late") == 1
    do(late, "exchange", 0.7)  # On time.
    go_on(quick, "exchange", 20)
    do(late, "exchange", 0.7)
    assert caplog.text.count("worker 1 is late") == 2


def test_what_could_not_be_sent_is_dropped_with_it(cluster):
    """Increments that a center was away for: the outbox goes too."""
    center = cluster(1, family.ADD)
    timeouts = support.PATIENT._replace(exchange_s=2.0, heartbeat_s=0.05)
    quick, late = joined(center, timeouts=timeouts)
    do(late, "take", 0.5)
    kept_by = center.shards[0].snapshot()
    center.servers[0].stop(0.0)
    do(late, "take", 0.25)  # It is owed now.
    again = support.new_node(0, 1)
    again.restore(*kept_by)
    center.serve(0, again)
    for client in (quick, late):
        until(lambda c=client: c.sessions[0].away_since is None)
    go_on(quick, "take", 40)
    before = kept(center)
    do(late, "take", 0.25)
    assert kept(center) == before
    value = center.center()[0][0]
    do(late, "take", 0.125)
    assert center.center()[0][0] == value + 0.125
    assert late.counts.late == 1


@pytest.mark.parametrize(
    ("name", "way"), [("elastic", "exchange"), ("add", "take")]
)
def test_who_is_late_and_has_lost_its_slot_begins_again(
    cluster,
    name,
    way,
):
    center = cluster(2, RULES[name][0])
    quick, late = joined(center, timeouts=QUIET)
    do(late, way, 0.7)
    go_on(quick, way, 40)
    late.signal()
    center.shards[1].registry.members[1].present = False
    before = kept(center)
    moved = do(late, way, -1e6)
    assert kept(center) == before
    assert moved.kind == kinds.RESTART
    np.testing.assert_array_equal(moved.arrays[0], center.center()[0])
    assert (late.counts.late, late.counts.restarts) == (1, 1)
    do(late, way, 0.7)
    assert kept(center) != before
    assert late.counts.exchanges == 2


@pytest.mark.parametrize("call", ["exchange", "take"])
def test_a_server_refuses_what_is_twice_as_late(cluster, call):
    """Between the worker's look and its message the others may go on."""
    center = cluster(1, None if call == "exchange" else family.ADD)
    quick, _ = joined(center)
    go_on(quick, call, 11)
    shard, before = center.shards[0], kept(center)
    values = [np.full(support.N, 9.0), np.full(support.STATISTICS, 9.0)]
    given = {**rates(2, 0), "num_workers": 2}
    for bound, refused in ((5.0, True), (5.5, False)):
        sequence = 1 if refused else 2
        push = PushId(1, 1, sequence, 0, max_lag=bound)
        arguments = push, [v.copy() for v in values], given
        if refused:
            with pytest.raises(errors.LatePushError, match="11 updates ago"):
                getattr(shard.exchanges, call)(*arguments)
            assert kept(center) == before
            # Its number is used up.
            with pytest.raises(errors.DuplicatePushError):
                getattr(shard.exchanges, call)(*arguments)
        else:
            getattr(shard.exchanges, call)(*arguments)
            assert kept(center) != before


def test_a_worker_that_one_of_two_servers_refuses(cluster):
    """What the other one has taken is a lost half, and is counted."""
    center = cluster(2)
    quick, late = joined(center, timeouts=QUIET)
    go_on(quick, "exchange", 30)
    late.sessions[1].version_read = 30
    moved = do(late, "exchange", 7.0)
    assert moved.restart
    assert late.counts.lost_halves == 1
    assert late.counts.late == 1
    np.testing.assert_array_equal(moved.arrays[0], center.center()[0])


# Where all meet.


@pytest.mark.parametrize("rule", [family.MEAN, family.OUTER_NESTEROV])
def test_who_has_missed_a_round_gets_the_next_ones_answer(
    cluster,
    rule,
):
    """Its point is of the center before the last one: it does not count."""
    center = cluster(1, rule)
    first, second, late = joined(center, 3)
    pool = concurrent.futures.ThreadPoolExecutor(3)

    def begin(client):
        value = 1.0 + client.worker
        return pool.submit(do, client, "meet_and_read", value)

    def meet(*clients):
        calls = [begin(client) for client in clients]
        return [call.result(timeout=60) for call in calls]

    meet(first, second, late)
    # And without it: the second one does not wait when the first is there.
    early = begin(first)
    until(lambda: not center.shards[0].rounds.missing([0]))
    second.barrier_s = 0.0
    meet(second)
    early.result(timeout=60)
    second.barrier_s = support.PATIENT.barrier_s
    late.max_lag = 1000.0  # Its lag alone would not say so.
    moved = meet(first, second, late)
    if rule is family.MEAN:  # Of the two that were on time.
        np.testing.assert_allclose(center.center()[0], 1.5, rtol=1e-12)
    for each in moved:
        np.testing.assert_array_equal(each.arrays[0], center.center()[0])
    assert center.shards[0].version == 3
    # Next time it counts.
    meet(first, second, late)
    pool.shutdown()
    assert center.shards[0].version == 4
    if rule is family.MEAN:
        np.testing.assert_allclose(center.center()[0], 2.0, rtol=1e-12)


def test_an_elastic_meeting_leaves_a_late_worker_out(cluster):
    center = cluster(1)
    timeouts = support.PATIENT._replace(barrier_s=0.05)
    first, late = joined(center, timeouts=timeouts)
    for _ in range(12):
        do(first, "meet", 0.5)
    before = kept(center)
    moved = do(late, "meet", 100.0)
    assert moved.restart
    assert kept(center) == before
    assert late.counts.late == 1


# Numbers.


def test_the_lag_of_equal_workers_is_1():
    for p in (2, 3, 16):
        assert lateness.lag(p - 1, p) == 1
    assert lateness.lag(7, 1) == 7  # Alone; nobody else moves the center.


@pytest.mark.parametrize("value", [0, -1, "10", True, np.nan, np.inf])
def test_what_is_no_bound(cluster, value):
    with pytest.raises(ValueError, match="`max_lag` must be a number above 0"):
        lateness.check_max_lag(value)
    lateness.check_max_lag(None)
    lateness.check_max_lag(3)
