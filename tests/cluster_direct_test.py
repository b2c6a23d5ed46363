"""Nodes of this process that are called directly, and nothing is shared."""

import numpy as np
import pytest

from tests import cluster_support as support
from tf_elastic.cluster import errors
from tf_elastic.cluster import layout
from tf_elastic.cluster.center.groups import Groups
from tf_elastic.cluster.transport import wire
from tf_elastic.cluster.transport.direct import DirectServers
from tf_elastic.cluster.worker.client import CenterClient
from tf_elastic.cluster.worker.surroundings import Surroundings

LAYOUT = layout.Layout(support.VARIABLES, 2)


@pytest.fixture
def nodes():
    return [support.new_node(k, 2, grace_s=0.0) for k in range(2)]


@pytest.fixture
def servers(nodes):
    made = DirectServers()
    for node in nodes:
        made.serve(f"center {node.index}", node)
    return made


@pytest.fixture
def clients(servers):
    """Makes workers' clients."""
    made = []

    def client(worker, **options):
        made.append(
            CenterClient(
                ["center 0", "center 1"],
                worker,
                worker == 0,
                2,
                around=Surroundings(connect=servers.connect),
                timeouts=support.PATIENT,
                **options,
            )
        )
        return made[-1]

    yield client
    for each in made:
        each.leave()


def center(nodes):
    return [
        np.concatenate(parts)
        for parts in zip(*(node.arrays for node in nodes), strict=True)
    ]


@pytest.mark.parametrize("codec", ["none", "int8"])
def test_workers_exchange(clients, nodes, codec):
    points = [support.values(1.0), support.values(3.0)]
    made = [clients(worker, codec=codec) for worker in range(2)]
    for client, point in zip(made, points, strict=True):
        client.join(LAYOUT, point)
    for client, point in zip(made, points, strict=True):
        before = center(nodes)[0]
        client.clock += 1
        moved = client.exchange(
            [array.copy() for array in point], support.rates
        )
        atol = 1e-12 if codec == "none" else 0.05
        np.testing.assert_allclose(
            moved.arrays[0], point[0] - before, rtol=0, atol=atol
        )
        np.testing.assert_allclose(
            center(nodes)[0] - before,
            support.BETA / 2 * moved.arrays[0],
            rtol=0,
            atol=1e-12,
        )
    assert abs(center(nodes)[0] - 1.0).min() > 0.5


def test_no_array_is_of_both_ends(clients, nodes):
    """Neither what is sent, nor what is answered."""
    client = clients(0)
    sent = support.values(1.0)
    read = client.join(LAYOUT, sent)
    client.clock += 1
    moved = client.exchange(sent, support.rates)
    for array in (*sent, *read, *moved.arrays):
        array[:] = 77.0
    for array in center(nodes):
        assert (array == 1.0).all()


def test_arrays_are_counted(clients):
    client = clients(0)
    client.join(LAYOUT, support.values(1.0))
    client.read()
    nbytes = 8 * (support.N + support.STATISTICS)
    lines = [session.connection for session in client.sessions]
    assert sum(line.bytes_sent for line in lines) == nbytes
    assert sum(line.bytes_received for line in lines) == 2 * nbytes
    assert not client.shares_memory


def test_each_optimizer_has_a_node(servers):
    groups = Groups.of(support.new_node(0, 1))
    servers.serve("of two", groups)
    lines = [servers.connect("of two", group=group) for group in (0, 1)]
    arguments = {
        "worker": 0,
        "incarnation": 1,
        "expected": 1,
        "description": layout.Layout(support.VARIABLES, 1).describe(),
        "process": "p",
    }
    lines[1].call(wire.JOIN, 1.0, **arguments)
    assert [
        line.call(wire.HELLO, 1.0, worker=0)["present"] for line in lines
    ] == [False, True]


def test_there_is_no_socket_to_be_invited_to(servers):
    assert servers.connect("center 0").call(wire.INVITE, 1.0)["port"] is None


def test_errors_are_told_as_servers_do(servers, nodes, monkeypatch, caplog):
    line = servers.connect("center 0")
    with pytest.raises(errors.UnknownWorkerError):
        line.stream(wire.READ, 1.0, {"worker": 0, "incarnation": 1}, (), ())
    with pytest.raises(errors.MessageError, match="In a call to Status"):
        line.call(wire.STATUS, 1.0, staleness_since=-1)

    def fails(**_):
        raise RuntimeError("a fault of ours")

    monkeypatch.setattr(nodes[0], "hello", fails)
    with pytest.raises(errors.CenterUnavailableError, match="fault of ours"):
        line.call(wire.HELLO, 1.0, worker=None)
    assert "a call failed" in caplog.text


def test_who_comes_instead_is_called(servers, nodes):
    line = servers.connect("center 0")
    servers.stop("center 0")
    with pytest.raises(errors.CenterUnavailableError, match="'center 0'"):
        line.call(wire.STATUS, 1.0)
    servers.serve("center 0", nodes[1])
    assert line.call(wire.STATUS, 1.0)["shard"] == 1
    line.break_off()
    with pytest.raises(errors.CenterUnavailableError, match="is closed"):
        line.stream(wire.READ, 1.0, {}, (), ())
