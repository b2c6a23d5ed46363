"""A synchronous exchange is one call of each worker, however it travels."""

import concurrent.futures

import numpy as np
import pytest

from tests import cluster_support as support
from tests import family_support as family
from tests.cluster_support import until
from tf_elastic.cluster.center.groups import Groups
from tf_elastic.cluster.transport import calls
from tf_elastic.cluster.transport import wire
from tf_elastic.cluster.transport.direct import DirectServers
from tf_elastic.cluster.worker import exchanges
from tf_elastic.cluster.worker.surroundings import Surroundings

BETA, P = support.BETA, 2
WAYS = ("memory", "socket", "grpc", "direct")
RULES = {"elastic": None, "mean": family.MEAN}
CALLS = {"elastic": "meet", "mean": "meet_and_read"}
cluster = family.cluster


def joined(center, way):
    """Two workers, and the names of the calls that each makes from now on."""
    around = None
    if way == "direct":
        servers = DirectServers()
        for address, node in zip(center.centers, center.shards, strict=True):
            servers.serve(address, node)
        around = Surroundings(connect=servers.connect)
    workers, names = [], []
    for i in range(P):
        client = center.client(i, P, around=around)
        client.join(center.layout, support.values(0.0))
        workers.append(client)
    for client in workers:
        client.read()  # p is told.
        told = []
        names.append(told)
        for session in client.sessions:
            line = session.connection
            if way == "grpc":
                line._arrays._avoid_until = np.inf
            session.control = counted(session.control, told)
            session.stream = counted(session.stream, told)
    if way in ("memory", "socket"):
        assert all(
            session.connection.shares_memory is (way == "memory")
            for session in workers[0].sessions
        )
    return workers, names


def counted(call, names):
    def counting(name, *args, **kwargs):
        if name != wire.HEARTBEAT:
            names.append(name)
        return call(name, *args, **kwargs)

    return counting


def traffic(worker):
    """Bytes to and from all servers."""
    lines = [session.connection for session in worker.sessions]
    return np.array(
        [
            sum(line.bytes_sent for line in lines),
            sum(line.bytes_received for line in lines),
        ]
    )


def sent(i):
    return support.values(float(i + 1))


def met(center, workers, kind):
    """Their answers; the second comes when the first one waits."""
    with concurrent.futures.ThreadPoolExecutor(P) as threads:
        early = threads.submit(
            getattr(workers[0], CALLS[kind]), sent(0), support.rates
        )
        for node in center.shards:
            until(lambda: node.rounds.waiting[0])  # noqa: B023
        last = getattr(workers[1], CALLS[kind])(sent(1), support.rates)
        return early.result(60), last


def check(center, kind, moved):
    """Of the first round, from a center of 0."""
    total = sum(sent(i)[0] for i in range(P))
    expected = BETA / P * total if kind == "elastic" else total / P
    np.testing.assert_allclose(center.center()[0], expected, rtol=1e-15)
    for i, each in enumerate(moved):
        answer = sent(i)[0] if kind == "elastic" else center.center()[0]
        np.testing.assert_array_equal(each.arrays[0], answer)


@pytest.mark.parametrize("kind", RULES)
@pytest.mark.parametrize("way", WAYS)
def test_a_round_is_one_call_of_each(cluster, monkeypatch, way, kind):
    monkeypatch.setattr(exchanges, "_WAIT_S", 60.0)
    center = cluster(2, RULES[kind], shares_memory=way == "memory")
    workers, names = joined(center, way)
    before = [traffic(worker) for worker in workers]
    moved = met(center, workers, kind)
    check(center, kind, moved)
    nbytes = sum(array.nbytes for array in sent(0))
    for worker, counts in zip(workers, before, strict=True):
        np.testing.assert_array_equal(traffic(worker) - counts, nbytes)
    assert names == [[wire.DEPOSIT] * len(center.shards)] * P
    assert [node.version for node in center.shards] == [1, 1]
    for worker in workers:
        for session in worker.sessions:
            assert (session.version_read, session.round) == (1, 1)


@pytest.mark.parametrize("kind", RULES)
@pytest.mark.parametrize("way", WAYS)
def test_who_waits_for_long_asks_again(cluster, monkeypatch, way, kind):
    """The one that comes last has its answer at once all the same."""
    monkeypatch.setattr(exchanges, "_WAIT_S", 0.001)
    center = cluster(1, RULES[kind], shares_memory=way == "memory")
    workers, names = joined(center, way)
    with concurrent.futures.ThreadPoolExecutor(P) as threads:
        early = threads.submit(
            getattr(workers[0], CALLS[kind]), sent(0), support.rates
        )
        until(lambda: names[0].count(wire.RELEASE) >= 2)
        last = getattr(workers[1], CALLS[kind])(sent(1), support.rates)
        moved = early.result(60), last
    check(center, kind, moved)
    first, *others = names[0]
    assert first == wire.DEPOSIT
    if kind == "mean":
        assert others.pop() == wire.READ
    assert set(others) == {wire.RELEASE}
    assert names[1] == [wire.DEPOSIT]


def test_an_answer_that_waits_keeps_no_arrays():
    """A center that waits for one worker does not hold the others' points."""
    node = support.new_node(grace_s=0.0)
    layout = support.layout.Layout(support.VARIABLES, 1)
    node.join(0, 1, P, layout.describe(), "process")
    assert node.offer(0, 1, -1, True)["upload"]
    node.initialize(0, 1, 0, support.values(0.0))
    header = {
        "id": {"worker": 0, "incarnation": 1, "sequence": 1, "version_read": 0},
        "rate": support.push_rate(BETA, P),
        "wait_s": 0.001,
    }
    asked = calls.array_calls(Groups.of(node))[wire.DEPOSIT](header)
    for room, value in zip(asked.room, sent(0), strict=True):
        room[...] = value
    arrays = list(asked.room)
    answers = asked.answers(arrays, [])
    news, deltas = next(answers)
    assert news[wire.FOLLOWED] and len(deltas) == len(layout.sections)
    news, nothing = next(answers)
    assert news["missing"] == [] and news["round"] == 0
    assert asked.room == arrays == deltas == nothing == []
    assert list(answers) == []
