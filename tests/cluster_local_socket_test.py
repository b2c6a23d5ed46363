"""Memory that a worker and a center of one host share."""

import contextlib
import fcntl
import gc
import logging
import os
import socket
import struct
import threading
import time
import types

import numpy as np
import pytest

from tests import cluster_support as support
from tests.cluster_support import is_cut_off
from tests.cluster_support import soon
from tests.cluster_support import until
from tf_elastic.cluster import errors
from tf_elastic.cluster.center import ps
from tf_elastic.cluster.launch.security import Security
from tf_elastic.cluster.layout import PARAMETERS
from tf_elastic.cluster.layout import VariableSpec
from tf_elastic.cluster.transport import array_ends
from tf_elastic.cluster.transport import array_socket
from tf_elastic.cluster.transport import shared_memory
from tf_elastic.cluster.transport import wire
from tf_elastic.cluster.transport.array_ends import Caller
from tf_elastic.cluster.transport.array_server import ArrayServer
from tf_elastic.cluster.transport.array_socket import ArraySocket
from tf_elastic.cluster.transport.calls import Asked
from tf_elastic.cluster.worker.exchanger import Exchanger
from tf_elastic.cluster.worker.exchanger import Moment
from tf_elastic.cluster.worker.exchanger import Room
from tf_elastic.core import rules

pytestmark = pytest.mark.skipif(
    not shared_memory.SUPPORTED, reason="this system has no memfd_create"
)

SILENT = support.PATIENT._replace(heartbeat_s=1000.0)
SHORT = SILENT._replace(exchange_s=3.0)
# Large enough that what travels can be told from headers.
LARGE = (
    VariableSpec("kernel", (100_000,), "float32", PARAMETERS),
    VariableSpec("other", (300, 7), "float64", PARAMETERS),
)


@pytest.fixture
def end():
    with contextlib.ExitStack() as stack:
        yield stack


@pytest.fixture
def cluster(end):
    def make(*args, **options):
        made = support.Cluster(*args, **options)
        end.callback(made.close)
        return made

    return make


def joined(center, worker=0, expected=1, **options):
    made = center.client(worker, expected, **{"timeouts": SILENT, **options})
    made.join(center.layout, center.layout.zeros())
    return made


def filled(room, numbers):
    """A room's arrays, with random numbers in them."""
    arrays = room.arrays()
    for array in arrays:
        array[...] = numbers.normal(size=array.size)
    return arrays


@pytest.fixture
def travelled(monkeypatch):
    """The lengths of what goes through sockets."""
    lengths = []
    send = ArraySocket._send

    def counted(self, data, deadline):
        lengths.append(len(data))
        send(self, data, deadline)

    monkeypatch.setattr(ArraySocket, "_send", counted)
    return lengths


# What crosses.


def moves_of(client, rooms, numbers):
    """What comes back in every kind of elastic exchange."""
    away, back = rooms
    for _ in range(3):
        for call in (client.exchange, client.read_and_push, client.meet):
            sent = filled(away, numbers)
            kept = [array.copy() for array in sent]
            out = back.arrays()
            moved = call(sent, support.rates, out)
            for array, before in zip(sent, kept, strict=True):
                np.testing.assert_array_equal(array, before)
            yield [array.copy() for array in moved.arrays]
    yield client.read()


@pytest.mark.parametrize("codec", ["none", "bfloat16", "int8"])
@pytest.mark.parametrize("num_shards", [1, 3])
def test_the_same_crosses_as_by_tcp(cluster, codec, num_shards):
    found = []
    for shares in (True, False):
        center = cluster(num_shards, LARGE, shares_memory=shares)
        client = joined(center, codec=codec)
        assert client.shares_memory == shares
        rooms = Room(client), Room(client)
        moves = list(moves_of(client, rooms, np.random.default_rng(3)))
        for room in rooms:
            for array in room.arrays():
                assert (shared_memory.place_of(array) is not None) == shares
        found.append((moves, [each.arrays for each in center.shards]))
    for ours, theirs in zip(*found, strict=True):
        for a, b in zip(ours, theirs, strict=True):
            for x, y in zip(a, b, strict=True):
                assert x.tobytes() == y.tobytes()
    assert np.abs(moves[0][0]).max() > 0


@pytest.mark.parametrize("num_shards", [1, 2])
def test_shared_arrays_do_not_travel(cluster, travelled, num_shards):
    center = cluster(num_shards, LARGE)
    client = joined(center)
    rooms = Room(client), Room(client)
    numbers = np.random.default_rng(3)
    travelled.clear()
    for call in (client.exchange, client.read_and_push, client.meet):
        call(filled(rooms[0], numbers), support.rates, rooms[1].arrays())
    assert sum(travelled) < 10_000
    # What does not lie there travels, and one end may share by itself.
    for sent, out, times in (
        (client.layout.zeros(), rooms[1].arrays(), 1),
        (rooms[0].arrays(), client.layout.empty(), 1),
        (client.layout.zeros(), client.layout.empty(), 2),
    ):
        travelled.clear()
        client.exchange(sent, support.rates, out)
        nbytes = sum(array.nbytes for array in out)
        assert times * nbytes < sum(travelled) < times * nbytes + 10_000


def test_bytes_are_counted_as_if_they_travelled(cluster):
    center = cluster(1, LARGE)
    client = joined(center)
    connection = client.sessions[0].connection
    sent, received = connection.bytes_sent, connection.bytes_received
    out = Room(client).arrays()
    client.exchange(
        filled(Room(client), np.random.default_rng(1)), support.rates, out
    )
    nbytes = sum(array.nbytes for array in out)
    assert connection.bytes_sent - sent == nbytes
    assert connection.bytes_received - received == nbytes


def no_momentum(num_workers, clock):
    return {"learning_rate": 0.5, "momentum": 0.0}


@pytest.mark.parametrize("method", ["heavy_ball", "add"])
def test_pushes_of_other_rules_cross(cluster, method):
    """The center may overwrite what it is sent: it has to be a copy."""
    points = []
    rule = rules.from_config({"rule": method})
    for shares in (True, False):
        center = cluster(1, LARGE, rule=rule, shares_memory=shares)
        client = joined(center)
        room = Room(client)
        numbers = np.random.default_rng(3)
        for _ in range(4):
            moved = client.take(filled(room, numbers), no_momentum)
            points.append(np.concatenate(moved.arrays).tobytes())
    assert points[:4] == points[4:]
    assert len(set(points)) == 4


# Who has no memory to share, or shall not.


@pytest.mark.parametrize(
    ("flag", "variable", "shares"),
    [
        (None, None, True),
        (None, "", True),
        (None, "1", True),
        (None, "0", False),
        (True, "0", True),
        (False, "1", False),
    ],
)
def test_whether_it_is_shared(monkeypatch, flag, variable, shares):
    monkeypatch.delenv("TF_ELASTIC_SHARE_MEMORY", raising=False)
    if variable is not None:
        monkeypatch.setenv("TF_ELASTIC_SHARE_MEMORY", variable)
    values = types.SimpleNamespace(share_memory=flag)
    assert ps.shares_memory_of(values) == shares


def test_a_variable_that_says_neither(monkeypatch):
    monkeypatch.setenv("TF_ELASTIC_SHARE_MEMORY", "maybe")
    with pytest.raises(ValueError, match="Received: 'maybe'"):
        ps.shares_memory_of(types.SimpleNamespace(share_memory=None))


def test_a_center_that_is_not_on_this_host(cluster):
    center = cluster(1)
    server = center.servers[0]._arrays
    server._local_name = "tf_elastic-" + "0" * 32  # Nobody listens here.
    client = joined(center)
    assert not client.shares_memory
    assert len(server._guests) == 1
    [caller] = client.sessions[0].connection._arrays._idle
    assert not caller.socket.is_local


def test_it_is_shared_again_after_a_restart(cluster):
    center = cluster(1, LARGE)
    client = joined(center, timeouts=support.PATIENT)
    room = Room(client)
    center.servers[0].stop(0.0)
    moved = client.exchange(room.arrays(), support.rates, Room(client).arrays())
    assert client.counts.missed == 1
    assert not any(array.any() for array in moved.arrays)
    center.serve(0)
    until(lambda: client.sessions[0].away_since is None)
    client.exchange(room.arrays(), support.rates)
    assert client.counts.exchanges == 1
    assert client.shares_memory


def test_a_process_without_memory_to_share(monkeypatch, caplog):
    def none_left(*args):
        raise OSError("no memory left")

    monkeypatch.setattr(shared_memory, "_refused", threading.Event())
    monkeypatch.setattr(os, "memfd_create", none_left)
    with caplog.at_level(logging.WARNING, "absl"):
        for _ in range(3):
            assert shared_memory.empty([3], [np.dtype("float32")]) is None
    (record,) = caplog.records
    assert "no memory left" in record.getMessage()


def test_arrays_of_a_segment():
    dtypes = [np.dtype(d) for d in ("float32", "float64", "int8")]
    arrays = shared_memory.empty([5, 0, 1_000_000], dtypes)
    for array, size, dtype in zip(
        arrays, (5, 0, 1_000_000), dtypes, strict=True
    ):
        assert array.shape == (size,)
        assert array.dtype == dtype
        assert array.ctypes.data % 64 == 0
        assert not array.any()
    places = [shared_memory.place_of(a[1:3].view(np.uint8)) for a in arrays]
    assert [place.offset for place in places[::2]] == [4, 65]
    assert len({place.segment.key for place in places}) == 1
    assert shared_memory.place_of(arrays[0].copy()) is None
    assert shared_memory.place_of(b"") is None
    with pytest.raises(OSError):
        os.ftruncate(places[0].segment.descriptor, 1)
    assert not shared_memory.is_spoiled(arrays)
    shared_memory.spoil([b"", arrays[2][:1]])
    assert shared_memory.is_spoiled(arrays[:1])


def descriptors():
    return len(os.listdir("/proc/self/fd"))


def mapped():
    with open("/proc/self/maps") as file:
        return sum("memfd:tf_elastic" in line for line in file)


def test_nothing_is_left_behind():
    gc.collect()
    before = descriptors(), mapped()
    arrays = shared_memory.empty([100], [np.dtype("float32")])
    part = arrays[0][3:5]
    del arrays
    assert mapped() == before[1] + 1
    part[0] = 1.0
    del part
    gc.collect()
    assert (descriptors(), mapped()) == before


def test_a_cluster_leaves_nothing_behind():
    def run():
        center = support.Cluster(2, LARGE)
        client = joined(center)
        rooms = Room(client), Room(client)
        list(moves_of(client, rooms, np.random.default_rng(1)))
        assert mapped() >= 2
        center.close()

    run()  # What is made once for a process is made here.
    gc.collect()
    before = mapped()
    run()
    until(lambda: gc.collect() is None or mapped() <= before)


# Failures.


def test_a_late_answer_changes_nothing(cluster, monkeypatch):
    """The center is at it when the worker has given up."""
    center = cluster(1, LARGE)
    client = joined(center, timeouts=SHORT)
    exchanger = Exchanger(
        client, "overlapped", lambda p, clock, numbers: support.rates(p, clock)
    )
    shard = center.shards[0]
    entered, go_on, ended = (threading.Event() for _ in range(3))
    exchange = shard.state.exchange

    def late(*args):
        entered.set()
        assert go_on.wait(60)
        result = exchange(*args)
        ended.set()
        return result

    monkeypatch.setattr(shard.state, "exchange", late)
    sent = exchanger.room_to_send()
    for array in sent:
        array[...] = 1.0
    exchanger.send(Moment(1, 1), sent)
    assert entered.wait(60)
    moved = exchanger._pending.result(timeout=60)
    assert client.counts.missed == 1
    order = exchanger.collect(Moment(2, 2))
    assert order.arrays is moved.arrays
    # All other arrays are new ones: those may still be read and written.
    again = exchanger.room_to_send()
    assert again[0].ctypes.data != sent[0].ctypes.data
    for array in again:
        array[...] = 7.0
    go_on.set()
    assert ended.wait(60)
    assert not any(array.any() for array in order.arrays)
    until(lambda: shard.version == 1)
    for array in shard.arrays:
        np.testing.assert_allclose(array, support.BETA, rtol=1e-6)
    exchanger.stop()


def test_a_told_error_spoils_nothing(cluster):
    center = cluster(1, LARGE)
    client = joined(center)
    away, back = Room(client), Room(client)
    sent = away.arrays()
    sent[0][5] = np.nan
    with pytest.raises(errors.NonFiniteError, match="kernel"):
        client.exchange(sent, support.rates, back.arrays())
    assert away.arrays() is sent
    assert not center.center()[0].any()


def test_where_sharing_fails_the_port_is_taken(cluster, monkeypatch):
    def refuse(descriptor):
        os.close(descriptor)
        raise errors.MessageError("not here")

    monkeypatch.setattr(shared_memory, "opened", refuse)
    center = cluster(1, LARGE)
    client = joined(center, timeouts=support.PATIENT)
    away, back = Room(client), Room(client)
    numbers = np.random.default_rng(1)
    for missed in (1, 2, 3):
        client.exchange(filled(away, numbers), support.rates, back.arrays())
        assert client.counts.missed == missed
        until(lambda: client.sessions[0].away_since is None)
    assert center.shards[0].version == 0
    for _ in range(2):
        client.exchange(filled(away, numbers), support.rates, back.arrays())
    assert center.shards[0].version == 2
    assert client.counts.missed == 3
    assert not client.shares_memory
    assert shared_memory.place_of(away.arrays()[0]) is None


# What a center takes from those it does not know.


class Echo:
    """A server of one call, whose answer is twice what came."""

    def __init__(self):
        self.places = []
        calls = {"Double": self.asked}
        self.server = ArrayServer(calls, "127.0.0.1", 0, Security())
        self.server.start()
        self.sockets = []

    def asked(self, header):
        return Asked([np.empty(1000)], self.run, only_reads=True)

    def run(self, arrays, places):
        self.places = places
        return {}, [2 * array for array in arrays]

    def knock(self):
        invited = self.server.invite()
        plain = array_socket.connect_locally(
            invited["local_name"], time.monotonic() + 20
        )
        self.sockets.append(plain)
        return plain, invited["ticket"]

    def connect(self):
        plain, ticket = self.knock()
        ours = Caller(ArraySocket(plain))
        ours.socket.send({"ticket": ticket}, (), soon())
        ours.socket.receive_header(soon())
        return plain, ours

    def close(self):
        self.server.stop(0.0)
        for each in self.sockets:
            each.close()


@pytest.fixture
def echo(end):
    made = Echo()
    end.callback(made.close)
    return made


def doubles(ours):
    sent, out = shared_memory.empty([1000, 1000], [np.dtype(float)] * 2)
    sent[...] = np.arange(1000)
    ours.ask("Double", {}, [sent], [out], soon(20.0))
    np.testing.assert_array_equal(out, 2.0 * np.arange(1000))
    return True


def hand_over(plain, descriptor, key=7):
    socket.send_fds(plain, [struct.pack("<4sI", b"TFEM", key)], [descriptor])


def unsealed(nbytes):
    descriptor = os.memfd_create("t", os.MFD_ALLOW_SEALING)
    os.ftruncate(descriptor, nbytes)
    return descriptor


def sealed(nbytes):
    descriptor = unsealed(nbytes)
    fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK)
    return descriptor


def ask_from_memory(echo, **changed):
    """Makes a call whose array lies in segment 7; the plain socket of it."""
    plain, ours = echo.connect()
    descriptor = sealed(8000)
    hand_over(plain, descriptor)
    os.close(descriptor)
    header = {
        "call": "Double",
        "header": {},
        "timeout_s": 20.0,
        "nbytes": [8000],
        "sent_at": [[7, 0, 8000]],
        "out_at": [[7, 0, 8000]],
        **changed,
    }
    ours.socket.send(header, [], soon())
    return plain


@pytest.mark.parametrize(
    "make",
    [
        lambda: unsealed(8000),
        lambda: sealed(0),
        lambda: os.open("/dev/zero", os.O_RDWR),
        lambda: os.open(__file__, os.O_RDONLY),
        lambda: os.pipe2(0)[0],
    ],
    ids=["unsealed", "empty", "device", "file", "pipe"],
)
def test_what_is_no_shared_memory_is_refused(echo, make):
    _, other = echo.connect()
    plain, _ = echo.connect()
    descriptor = make()
    hand_over(plain, descriptor)
    assert is_cut_off(plain)
    os.close(descriptor)
    assert doubles(other)
    assert echo.server.is_alive()


def test_memory_before_the_ticket_is_refused(echo):
    plain, _ = echo.knock()
    descriptor = sealed(8000)
    hand_over(plain, descriptor)
    assert is_cut_off(plain)
    os.close(descriptor)


@pytest.mark.parametrize(
    "at",
    [
        [8, 0, 8000],
        [7, -8, 8000],
        [7, 8, 8000],
        [7, 0, 8008],
        [7, 8000, -8],
        [7, 0, 2**70],
        [7, "0", 8000],
        [7, 0.5, 10],
        [7, 0],
        7,
        {"7": 1},
        [[], 0, 1],
    ],
)
@pytest.mark.parametrize("key", ["sent_at", "out_at"])
def test_a_place_that_is_not_there_is_refused(echo, key, at):
    _, other = echo.connect()
    assert is_cut_off(ask_from_memory(echo, **{key: [at]}))
    assert doubles(other)


@pytest.mark.parametrize(
    "changed",
    [
        {"sent_at": []},
        {"sent_at": [[7, 0, 16], [7, 0, 16]]},
        {"sent_at": [[7, 0, 16]]},
        {"sent_at": {"a": 1}},
        {"out_at": 3},
    ],
)
def test_a_header_that_does_not_fit_is_refused(echo, changed):
    assert is_cut_off(ask_from_memory(echo, **{"out_at": [], **changed}))
    assert echo.server.is_alive()


def test_what_is_sent_can_only_be_read(echo):
    _, ours = echo.connect()
    seen = []

    def run(arrays, places):
        seen.extend(array.flags.writeable for array in arrays)
        return {}, [array + array for array in arrays]

    echo.run = run
    assert doubles(ours)
    assert seen == [False]


def test_old_segments_are_forgotten(echo):
    _, ours = echo.connect()
    for _ in range(3 * array_ends._MAX_SEGMENTS):
        assert doubles(ours)
    (guest,) = echo.server._guests
    assert len(guest._segments) == array_ends._MAX_SEGMENTS


def test_a_call_of_another_length_is_told(echo):
    _, ours = echo.connect()
    (sent,) = shared_memory.empty([999], [np.dtype(float)])
    for arrays in ([sent], [sent, np.zeros(5)], [np.zeros(999), sent]):
        told = ours.ask("Double", {}, arrays, [sent], soon(20.0))
        assert told["error"] == "MessageError"
    assert doubles(ours)


def test_an_answer_goes_where_it_fits(echo):
    """A place of another length is not written to: the answer travels."""
    _, ours = echo.connect()
    sent, small = shared_memory.empty([1000, 999], [np.dtype(float)] * 2)
    sent[...] = 1.0
    with pytest.raises(errors.MessageError, match=r"\[8000\] bytes came"):
        ours.ask("Double", {}, [sent], [small], soon(20.0))
    room = np.empty(1000)
    ours.socket.receive([room], soon())
    assert (room == 2.0).all()
    assert not small.any()


def test_a_worker_that_vanishes_in_mid_call(cluster, monkeypatch):
    """The center ends what it has begun; its mapping stays good."""
    center = cluster(1, LARGE)
    shard = center.shards[0]
    client = joined(center)
    entered, go_on = threading.Event(), threading.Event()
    exchange = shard.state.exchange

    def late(*args):
        entered.set()
        assert go_on.wait(60)
        return exchange(*args)

    monkeypatch.setattr(shard.state, "exchange", late)
    sent = Room(client).arrays()
    for array in sent:
        array[...] = 1.0
    thread = threading.Thread(
        target=client.exchange,
        args=(sent, support.rates, Room(client).arrays()),
    )
    thread.start()
    assert entered.wait(60)
    client.sessions[0].connection._arrays.close()
    thread.join(60)
    assert not thread.is_alive()
    del sent
    gc.collect()
    go_on.set()
    until(lambda: shard.version == 1)
    np.testing.assert_allclose(shard.arrays[0], support.BETA, rtol=1e-6)
    assert center.servers[0].is_alive()


def test_the_name_is_told_by_grpc_only(cluster):
    center = cluster(1, security=Security("a-secret-of-more-than-16"))
    joined(center)
    stranger = center.client(1, security=Security())
    with pytest.raises(errors.CenterRefusedError, match="TF_ELASTIC_TOKEN"):
        stranger.sessions[0].connection.call(wire.INVITE, 20.0)
    # It can be seen on this host; but nobody gets in without a ticket.
    name = center.servers[0]._arrays._local_name
    plain = array_socket.connect_locally(name, soon())
    ArraySocket(plain).send({"ticket": "0" * 64}, (), soon())
    assert is_cut_off(plain)
    plain.close()
