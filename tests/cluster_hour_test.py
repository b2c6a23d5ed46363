"""An hour of leases, signs of life and rounds, by a clock that is set."""

import logging

import numpy as np
import pytest

from tests import cluster_support as support
from tests import interleaving_support
from tests import timeless_client
from tf_elastic import core
from tf_elastic.cluster import errors
from tf_elastic.cluster import layout
from tf_elastic.cluster.center.registration import PushId
from tf_elastic.cluster.worker.patience import Timeouts

HOUR_S = 3600
ROUND_S = 10  # between two synchronous exchanges
LEASE_S = 15.0
SILENT_S, AGAIN_S = 600, 1200  # worker 2 is not heard of, and is again
AWAY_S, BACK_S = 900, 2700  # a server does not answer, and does again
LAYOUT = layout.Layout(support.VARIABLES, 1)


def test_an_hour_of_a_node():
    """Two workers meet every ten seconds; a third is away for ten minutes."""
    clock = timeless_client.Clock()
    node = support.new_node(lease_s=LEASE_S, grace_s=0.0, now=clock)
    description = LAYOUT.describe()
    lives = {worker: 1 for worker in range(3)}
    for worker in lives:
        node.join(worker, 1, 3, description, f"process {worker}")
    node.offer(0, 1, -1, True)
    node.initialize(0, 1, -1, support.values(1.0))
    center, rounds, changes = 1.0, 0, []
    for second in range(1, HOUR_S + 1):
        clock.seconds += 1.0
        if second == AGAIN_S:
            lives[2] = 2
            node.join(2, 2, 3, description, "process 2", previous=1)
        alive = [0, 1] if SILENT_S <= second < AGAIN_S else [0, 1, 2]
        for worker in alive:
            node.heartbeat(worker, lives[worker], second, 0, {})
        node.tick()
        present = node.registry.present
        if not changes or changes[-1][1] != present:
            changes.append((second, present))
        if second % ROUND_S:
            continue
        p = node.hello(None)["num_workers"]
        assert p == len(present)
        for worker in alive:
            push_id = PushId(worker, lives[worker], second, rounds, second)
            news, deltas = node.exchanges.deposit(
                push_id,
                support.values(float(worker)),
                support.push_rate(support.BETA, p),
            )
            assert news["entered"] == rounds
            np.testing.assert_array_equal(deltas[0], worker - center)
        for worker in alive:  # Nobody waits for who is silent.
            news = node.exchanges.release(
                worker, lives[worker], rounds, 0.0, alive != present
            )
            assert news["round"] == rounds + 1 and not news["missing"]
        total = sum(worker - center for worker in alive)
        center = core.push(center, total, support.BETA, p)
        rounds += 1
        np.testing.assert_allclose(node.arrays[0], center, rtol=1e-12)
    assert rounds == node.version == HOUR_S // ROUND_S
    lost = SILENT_S - 1 + int(LEASE_S) + 1
    assert changes == [(1, [0, 1, 2]), (lost, [0, 1]), (AGAIN_S, [0, 1, 2])]
    status = node.status()
    assert {m["silent_s"] for m in status["members"].values()} == {0.0}
    assert status["staleness"][-1].age_ms == 1000.0 * ROUND_S


def test_an_hour_of_two_workers(caplog):
    """A center server does not answer for half of it, and is found again."""
    clock = timeless_client.Clock()
    network = interleaving_support.Network(now=clock)
    workers = [
        interleaving_support.Worker(network, 1 + i, i, None, clock)
        for i in range(interleaving_support.WORKERS)
    ]
    for worker in workers:
        worker.x = worker.x + 1.0 + worker.index
    before = total(network, workers)
    begin = clock.seconds
    caplog.set_level(logging.WARNING)
    for second in range(1, HOUR_S + 1):
        clock.seconds = begin + second
        network.carried = 0
        if second in (AWAY_S, BACK_S):
            network.hosts[1].away = 10**6 if second == AWAY_S else 0
        for host in network.hosts:
            if not host.away:  # Its machine has stopped.
                host.shard.tick()
        for worker in workers:
            worker.client.signal()
            if second % 60 == 0:
                worker.client.clock += 1
                moved = worker.exchange()
                worker.x = worker.x - moved.moving_rate * moved.arrays[0]
    assert clock.seconds == begin + HOUR_S  # Nobody has waited.
    np.testing.assert_allclose(total(network, workers), before, atol=1e-13)
    told = [record.getMessage() for record in caplog.records]
    for worker in workers:
        assert (
            f"center 1 (center-1.invalid:1) is back after {BACK_S - AWAY_S}.0 "
            f"s; worker {worker.index} missed 30 exchanges with it."
        ) in told
        counts = worker.client.counts
        assert counts.exchanges == 60 and counts.missed == 30
        assert not counts.restarts and not counts.lost_halves
    assert [host.shard.version for host in network.hosts] == [120, 60]


def total(network, workers):
    """What an exchange keeps: all workers and the center."""
    center = [host.shard.arrays[0] for host in network.hosts]
    return sum(worker.x for worker in workers) + np.concatenate(center)


def test_a_server_is_waited_for_two_minutes():
    clock = timeless_client.Clock()
    network = interleaving_support.Network(now=clock)
    network.hosts[0].away = 10**6

    def line(address, shard, security, group=0):
        return interleaving_support.Line(network, 1, 0, shard)

    made = timeless_client.of_one_thread(
        line, ["", ""], 0, True, 2, clock=clock, timeouts=Timeouts()
    )
    model = layout.Layout(
        interleaving_support.LAYOUT, interleaving_support.SERVERS
    )
    with pytest.raises(
        errors.CenterUnavailableError, match=r"waited 120\.\d s for center 0"
    ):
        made.join(model, interleaving_support.INITIAL)
    assert 120 < clock.seconds < 121
