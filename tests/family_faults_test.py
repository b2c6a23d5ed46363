"""Methods that push, when a worker or a center server fails."""

import threading

import numpy as np
import pytest

from tests import cluster_support
from tests import family_support as support
from tests.cluster_support import until
from tests.family_support import cluster  # noqa: F401
from tf_elastic.cluster import errors
from tf_elastic.cluster.center import snapshot_keeper
from tf_elastic.cluster.transport import wire
from tf_elastic.cluster.worker import exchanger
from tf_elastic.core import rules

# Heartbeats do not come between.
SILENT = cluster_support.PATIENT._replace(heartbeat_s=1000.0)
# Where something is meant to fail.
SHORT = cluster_support.PATIENT._replace(
    exchange_s=3.0, control_s=3.0, heartbeat_s=0.1
)
ETA, MOMENTUM = 0.05, 0.5


def unit(p):
    return {}


def gradient_rates(p):
    return {"learning_rate": ETA, "momentum": MOMENTUM}


def one(center, message, rates, protocol="blocking", worker=0, **options):
    client = center.client(worker, **options)
    read = client.join(center.layout, support.start())
    return support.Pusher(client, read, message, rates, protocol)


def push_id(client, sequence, **fields):
    return {
        "worker": client.worker,
        "incarnation": client.sessions[0].incarnation,
        "sequence": sequence,
        "version_read": 0,
        **fields,
    }


def take_raw(center, client, **fields):
    """A push by itself, under any number."""
    link = client.sessions[0]
    message = [np.ones_like(part) for part in center.shards[0].arrays]
    rate = {**gradient_rates(1), "num_workers": 1}
    return link.connection.stream(
        wire.TAKE,
        20.0,
        {"id": push_id(client, **fields), "rate": rate},
        message,
        [np.empty_like(part) for part in message],
    )


@pytest.mark.parametrize("late", [2, 1])
def test_a_push_that_came_before_is_refused(cluster, late):
    center = cluster(1, support.HEAVY_BALL)
    worker = one(center, support.GRADIENT, gradient_rates, timeouts=SILENT)
    for _ in range(2):
        worker.step(ETA)
        worker.visit()
    state, before = center.shards[0].snapshot()
    with pytest.raises(errors.DuplicatePushError, match=f"push {late} of"):
        take_raw(center, worker.client, sequence=late)
    after_state, after = center.shards[0].snapshot()
    for a, b in zip(before, after, strict=True):
        np.testing.assert_array_equal(a, b)
    assert after_state["version"] == state["version"] == 2
    assert center.shards[0].registry.members[0].refused == 1
    take_raw(center, worker.client, sequence=3)  # The next one is not.
    assert center.shards[0].version == 3


def test_a_successor_begins_where_the_center_says(cluster):
    center = cluster(2, support.NESTEROV)
    first = one(center, support.GRADIENT, gradient_rates, timeouts=SILENT)
    for _ in range(3):
        first.step(ETA)
        first.visit()
    velocity = support.slot_of(center, "velocity").copy()
    # It says nothing any more: killed. Another process takes its place.
    client = center.client(0, timeouts=SILENT)
    read = client.join(center.layout, [np.zeros(21), np.zeros(3)])
    support.assert_close(read[0], center.center()[0] + MOMENTUM * velocity)
    assert np.abs(velocity).max() > 0
    assert client.sessions[0].incarnation == 2
    second = support.Pusher(client, read, support.GRADIENT, gradient_rates)
    before = center.center()[0]
    second.step(ETA)
    second.visit()
    velocity = MOMENTUM * velocity - ETA * second.gradient
    support.assert_close(support.slot_of(center, "velocity"), velocity)
    support.assert_close(center.center()[0], before + velocity)
    support.assert_close(second.x, center.center()[0] + MOMENTUM * velocity)
    first.step(ETA)
    with pytest.raises(errors.ReplacedError):
        first.visit()


RESTORED = {
    "velocity": (
        support.NESTEROV,
        support.GRADIENT,
        gradient_rates,
        "velocity",
    ),
    "average": (support.AVERAGED, support.UPDATE, unit, "average"),
    "later": (
        rules.TimeAverage(rules.Add(), average_from=2),
        *(support.UPDATE, unit, "average"),
    ),
}


@pytest.mark.parametrize("name", RESTORED)
def test_a_restored_center_goes_on_as_if_nothing_was(
    cluster,
    tmp_path,
    name,
):
    rule, message, rates, slot = RESTORED[name]
    ends = []
    for killed in (False, True):
        center = cluster(1, rule)
        worker = one(center, message, rates, timeouts=SHORT)

        def turns(count, worker=worker):
            for _ in range(count):
                worker.step(ETA)
                worker.visit()

        turns(3)
        if killed:
            snapshots = snapshot_keeper.Snapshots(
                center.shards[0], str(tmp_path), 60.0
            )
            snapshots.start()
            center.servers[0].stop(0.0)
            snapshots.stop()  # Takes a last one.
            restored = cluster_support.new_node(0, 1)
            again = snapshot_keeper.Snapshots(restored, str(tmp_path), 60.0)
            assert again.restore()
            again.start()
            again.stop()
            assert restored.state.layout.rule == rule
            center.serve(0, restored)
            until(lambda c=worker.client: c.sessions[0].away_since is None)
            support.assert_close(
                worker.client.read_points().arrays[0], worker.x
            )
        turns(3)
        assert worker.client.counts.missed == 0
        assert worker.client.sessions[0].incarnation == 1
        ends.append(
            [worker.x, center.center()[0], support.slot_of(center, slot)]
        )
    for plain, with_restart in zip(*ends, strict=True):
        np.testing.assert_array_equal(plain, with_restart)


def cut(center, shard):
    return center.layout.cut(center.layout.sections[0], shard)


@pytest.mark.parametrize("protocol", ["blocking", "overlapped"])
def test_updates_wait_for_a_server_that_is_away(
    cluster,
    protocol,
):
    """After it is back the center is where all that was done has led to."""
    center = cluster(2, support.ADD)
    worker = one(center, support.UPDATE, unit, protocol, timeouts=SHORT)

    def turn():
        before = worker.x.copy()
        worker.step(ETA)
        nonlocal done
        done = done + (worker.x - before)
        worker.visit()

    done = np.zeros(cluster_support.N)
    turn()
    center.servers[1].stop(0.0)
    away = cut(center, 1)
    until(lambda: worker.client.sessions[1].away_since is not None)
    for _ in range(3):
        turn()
    assert worker.client.counts.missed == 3
    # On it goes, from where it is in that part.
    support.assert_close(worker.x[away], (support.INITIAL + done)[away])
    here = cut(center, 0)
    support.assert_close(
        center.center()[0][here], (support.INITIAL + done)[here]
    )
    assert np.abs(center.center()[0] - worker.x)[away].max() > 0
    center.serve(1, center.shards[1])
    until(lambda: worker.client.sessions[1].away_since is None)
    turn()
    support.assert_close(center.center()[0], support.INITIAL + done)
    if protocol == "overlapped":
        worker.obey(worker.exchanger.collect(exchanger.Moment(9, 9)))
    support.assert_close(worker.x, center.center()[0])
    assert worker.client.counts.missed == 3
    assert worker.client.counts.lost_halves == 0
    assert center.shards[1].applied == 2


@pytest.mark.parametrize("applied", [True, False])
@pytest.mark.parametrize("method", ["downpour", "admm"])
def test_an_update_without_an_answer_is_applied_once(
    cluster,
    method,
    applied,
    monkeypatch,
):
    """Whether the answer is lost, or what was asked."""
    center = cluster(
        1, support.ADD if method == "downpour" else support.ADMM_RULE
    )
    worker = one(center, support.UPDATE, unit, timeouts=SILENT)
    client = worker.client
    link = client.sessions[0]
    stream = link.connection.stream

    def push(amount):
        update = [np.full(cluster_support.N, amount), np.zeros(3)]
        if method == "downpour":
            update[1] = worker.statistics.copy()
            return client.take(update, lambda p, clock: unit(p))
        rates = cluster_support.fixed_rates(0.0, 1.0)
        return client.push(update, rates)

    def breaks(*args, **kwargs):
        if applied:
            stream(*args, **kwargs)
        raise errors.CenterUnavailableError("the line is cut")

    push(1.0)
    monkeypatch.setattr(link.connection, "stream", breaks)
    moved = push(2.0)
    assert method == "admm" or np.isnan(moved.arrays[0]).all()
    monkeypatch.undo()
    push(4.0)  # It is still held to be away.
    assert center.shards[0].applied == 1 + applied
    client.signal()  # Finds it again.
    assert client.counts.lost_halves == applied
    push(8.0)
    support.assert_close(center.center()[0], support.INITIAL + 15.0)
    push(16.0)
    support.assert_close(center.center()[0], support.INITIAL + 31.0)
    assert center.shards[0].registry.members[0].refused == applied
    assert client.counts.lost_halves == applied
    assert client.counts.missed == 2


def test_gradients_of_a_server_that_is_away_are_not_kept(
    cluster,
):
    center = cluster(2, support.HEAVY_BALL)
    worker = one(center, support.GRADIENT, gradient_rates, timeouts=SHORT)
    center.servers[1].stop(0.0)
    away = cut(center, 1)
    for _ in range(2):
        worker.step(ETA)
        worker.visit()
    np.testing.assert_array_equal(worker.x[away], support.INITIAL[away])
    center.serve(1, center.shards[1])
    until(lambda: worker.client.sessions[1].away_since is None)
    worker.step(ETA)
    worker.visit()
    support.assert_close(
        center.center()[0][away],
        (support.INITIAL - ETA * worker.gradient)[away],
    )
    assert worker.client.counts.missed == 2


def test_admm_goes_on_while_a_server_is_away(cluster):
    """The center is the mean of the parts again when it is back."""
    center = cluster(2, support.ADMM_RULE)
    workers = support.joined_workers(
        center,
        2,
        lambda client, read: support.AdmmWorker(client, read, 1.5),
        timeouts=SHORT,
    )
    for worker in workers:
        worker.turn(ETA, 1)
    center.servers[1].stop(0.0)
    for _ in range(2):
        workers[0].turn(ETA, 1)
    assert np.isfinite(workers[0].x).all()
    center.serve(1, center.shards[1])
    for worker in workers:
        until(lambda c=worker.client: c.sessions[1].away_since is None)
        worker.turn(ETA, 1)
    mean = sum(worker.pushed for worker in workers) / 2
    support.assert_close(center.center()[0], mean)
    assert workers[0].client.counts.missed >= 2


def test_a_center_without_memory_begins_where_admm_read_it(
    cluster,
):
    center = cluster(1, support.ADMM_RULE)
    worker = support.AdmmWorker(
        *(lambda c: (c, c.join(center.layout, support.start())))(
            center.client(0, timeouts=SILENT)
        ),
        1.5,
    )
    worker.turn(ETA, 1)
    worker.begin()  # The center is known as it is now.
    before = center.center()[0]
    center.servers[0].stop(0.0)
    center.serve(0, cluster_support.new_node(0, 1, grace_s=0.02))
    pushed = worker.pushed
    worker.x = worker.x + 1.0
    until(lambda: worker.end() or center.shards[0].arrays is not None)
    until(
        lambda: (
            worker.client.signal()
            or worker.client.sessions[0].away_since is None
        )
    )
    worker.end()  # Brings what is left, if it was away.
    support.assert_close(center.center()[0], before + (worker.pushed - pushed))


@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.parametrize("protocol", ["blocking", "overlapped"])
def test_a_gradient_that_is_not_finite_is_named(
    cluster,
    protocol,
    bad,
):
    center = cluster(2, support.HEAVY_BALL)
    worker = one(center, support.GRADIENT, gradient_rates, protocol, worker=0)
    before = center.center()[0]
    worker.step(ETA)
    worker.gradient[13] = bad
    with pytest.raises(
        errors.NonFiniteError, match=f"worker 0 sent {bad} in 'bias'"
    ):
        worker.visit()
    # The other server may have taken its part.
    bad_one = cut(center, 1)
    assert bad_one.start <= 13
    np.testing.assert_array_equal(center.center()[0][bad_one], before[bad_one])


OTHERS = {
    "elastic": (None, "elastic averaging"),
    "momentum": (support.NESTEROV, "'nesterov'"),
    "options": (support.AVERAGED, "'time_average'"),
    "admm": (support.ADMM_RULE, "'mean_of_parts'"),
}


@pytest.mark.parametrize("other", OTHERS)
def test_a_worker_of_another_rule_is_refused(cluster, other):
    center = cluster(2, support.ADD)
    one(center, support.UPDATE, unit, timeouts=SILENT)
    rule, words = OTHERS[other]
    stranger = cluster(2, rule).layout
    client = center.client(1, timeouts=SILENT)
    with pytest.raises(errors.CenterRefusedError) as raised:
        client.join(stranger, support.start())
    message = str(raised.value)
    assert "cannot take worker 1: the exchange is" in message
    at_center, at_worker = message.split(" at the center and ")
    assert "{'rule': 'add'}" in at_center
    assert words in at_worker
    assert center.shards[0].registry.present == [0]


@pytest.mark.parametrize(
    "rule", [support.MEAN, support.OUTER_NESTEROV], ids=lambda rule: rule.name
)
def test_who_does_not_come_to_a_meeting_does_not_count(
    cluster,
    caplog,
    rule,
):
    center = cluster(1, rule)
    hurried = SILENT._replace(barrier_s=0.3)
    client = center.client(0, 2, timeouts=hurried)
    other = center.client(1, 2, timeouts=SILENT)
    threads = [
        threading.Thread(target=c.join, args=(center.layout, support.start()))
        for c in (client, other)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)
    client.read()
    moved = client.meet_and_read(
        [support.INITIAL + 1.0, np.zeros(3)],
        lambda p, clock: {"learning_rate": 1.0, "momentum": 0.0},
    )
    # The mean of those who came: of one, though p is 2.
    assert client.num_workers == 2
    support.assert_close(moved.arrays[0], support.INITIAL + 1.0)
    assert "for worker(s) 1 at" in caplog.text
