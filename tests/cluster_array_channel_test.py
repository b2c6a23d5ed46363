"""Sockets for arrays: what crosses, who is let in, and when they fail."""

import concurrent.futures
import contextlib
import gc
import json
import logging
import os
import socket
import struct
import subprocess
import sys
import threading
import time
import types

import numpy as np
import pytest

from tests import cluster_support as support
from tests import source_tree as tree
from tests.cluster_support import is_cut_off
from tests.cluster_support import soon
from tests.cluster_support import until
from tests.process_support import self_signed
from tf_elastic.cluster import errors
from tf_elastic.cluster.center import ps
from tf_elastic.cluster.center.server import CenterServer
from tf_elastic.cluster.launch.security import Security
from tf_elastic.cluster.transport import array_channel
from tf_elastic.cluster.transport import array_server
from tf_elastic.cluster.transport import wire
from tf_elastic.cluster.transport.array_server import ArrayServer
from tf_elastic.cluster.transport.array_socket import ArraySocket
from tf_elastic.cluster.transport.calls import Asked
from tf_elastic.cluster.transport.connection import Connection

SILENT = support.PATIENT._replace(heartbeat_s=1000.0)
SHORT = SILENT._replace(exchange_s=3.0)
TOKEN = "a-secret-of-more-than-16"
MARK = b"TFE1"


@pytest.fixture
def end():
    with contextlib.ExitStack() as stack:
        yield stack


@pytest.fixture
def cluster(end):
    def make(*args, **options):
        made = support.Cluster(*args, shares_memory=False, **options)
        end.callback(made.close)
        return made

    return make


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    """A certificate for 127.0.0.1 that vouches for itself, and its key."""
    return self_signed(tmp_path_factory.mktemp("tls"))


def joined(center, worker=0, value=0.0, **options):
    made = center.client(worker, **{"timeouts": SILENT, **options})
    made.join(center.layout, support.values(value))
    return made


def sockets_of(client):
    """Those that wait for the next call, link by link."""
    return [len(each.connection._arrays._idle) for each in client.sessions]


def no_grpc(client):
    """Lets calls with arrays fail if they go by gRPC."""
    for each in client.sessions:
        for name in wire.STREAMS:
            each.connection._calls[name] = None


class Echo:
    """A server of one call, which answers with twice what came."""

    def __init__(self, security=None, size=1000, port=0, most_connections=9):
        self.size, self.seen = size, 0
        self.hold = threading.Event()  # a call waits for it
        self.hold.set()
        self.sockets = []
        calls = {"Double": self.asked}
        self.server = ArrayServer(
            calls,
            "127.0.0.1",
            port,
            security or Security(),
            False,
            most_connections,
        )
        self.server.start()

    def close(self):
        self.server.stop(0.0)
        for each in self.sockets:
            each.close()

    def asked(self, header):
        if header.get("fail") == "room":
            raise errors.CenterEmptyError("nothing here")
        room = [np.empty(self.size), np.empty(3, np.uint8)]
        return Asked(room, lambda arrays, _: self.run(header, arrays))

    def run(self, header, arrays):
        if header.get("fail"):
            raise {"told": errors.LostSlotError, "other": OverflowError}[
                header["fail"]
            ]("it failed")
        self.hold.wait(20)
        self.seen += 1
        arrays[0] *= 2
        return {"seen": self.seen}, arrays

    def knock(self):
        """A plain socket to it."""
        plain = socket.create_connection(("127.0.0.1", self.server.port), 20)
        self.sockets.append(plain)
        return plain

    def connect(self, ticket=None):
        """A plain socket, let in unless the ticket is wrong."""
        plain = self.knock()
        invited = self.server.invite()["ticket"]
        ours = ArraySocket(plain)
        ours.send({"ticket": ticket or invited}, (), soon())
        if ticket is None:
            ours.receive_header(soon())
        return plain, ours


@pytest.fixture
def echo(end):
    def make(**options):
        made = Echo(**options)
        end.callback(made.close)
        return made

    return make


def begin_to_ask(ours, seconds=20.0, size=1000, **header):
    """Makes the call, and does not wait for the answer."""
    sent = [np.arange(size, dtype=float), np.arange(3, dtype=np.uint8)]
    asked = {"call": "Double", "header": header, "timeout_s": seconds}
    ours.send(asked, sent, soon(seconds))


def ask(ours, seconds=20.0, size=1000, **header):
    """Makes the call; what was told and the doubled array."""
    begin_to_ask(ours, seconds, size, **header)
    told = ours.receive_header(soon(seconds))
    room = []
    if "error" not in told:
        room = [np.empty(size), np.empty(3, np.uint8)]
        ours.receive(room, soon(seconds))
    return told, room


# What crosses.


@pytest.mark.parametrize("codec", ["none", "bfloat16", "int8"])
@pytest.mark.parametrize("num_shards", [1, 2])
def test_the_same_crosses_as_by_grpc(cluster, codec, num_shards):
    found = []
    for by_socket in (True, False):
        center = cluster(num_shards)
        worker = joined(center, codec=codec, value=1.0)
        if by_socket:
            no_grpc(worker)
        else:
            for each in worker.sessions:
                each.connection._arrays._avoid_until = np.inf
        numbers = np.random.default_rng(5)
        moves = []
        for _ in range(4):
            moves += worker.exchange(
                support.values(numbers), support.rates
            ).arrays
            moves += worker.read_and_push(
                support.values(numbers), support.rates
            ).arrays
        moves += worker.meet(support.values(numbers), support.rates).arrays
        moves += worker.read() + center.center()
        counts = [
            (each.connection.bytes_sent, each.connection.bytes_received)
            for each in worker.sessions
        ]
        found.append((moves, counts))
    (ours, our_counts), (theirs, their_counts) = found
    for a, b in zip(ours, theirs, strict=True):
        np.testing.assert_array_equal(a, b)
    # The first call of the other client went by a socket too.
    assert our_counts == their_counts


@pytest.mark.parametrize("size", [0, 1, 10_000, 3_000_000])
def test_any_size_crosses(echo, size):
    _, ours = echo(size=size).connect()
    for _ in range(2):
        told, (doubled, rest) = ask(ours, size=size)
        np.testing.assert_array_equal(doubled, 2.0 * np.arange(size))
        np.testing.assert_array_equal(rest, [0, 1, 2])
    assert told["news"] == {"seen": 2}


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "int64"])
def test_any_dtype_crosses(end, dtype):
    if dtype == "bfloat16":
        dtype = pytest.importorskip("ml_dtypes").bfloat16
    left, right = map(ArraySocket, socket.socketpair())
    end.callback(left.close)
    end.callback(right.close)
    sent = np.arange(77).astype(dtype)
    left.send({"a": "é"}, [sent, b"", memoryview(b"xyz")], soon())
    header = right.receive_header(soon())
    assert header == {"a": "é", "nbytes": [sent.nbytes, 0, 3]}
    room = [np.empty_like(sent), bytearray(0), bytearray(3)]
    right.receive(room, soon())
    assert room[0].tobytes() == sent.tobytes()
    assert room[2] == b"xyz"


def test_one_socket_serves_call_after_call(cluster):
    center = cluster(2)
    worker = joined(center)
    no_grpc(worker)
    for _ in range(5):
        worker.exchange(support.values(1.0), support.rates)
        worker.read_and_push(support.values(1.0), support.rates)
    assert sockets_of(worker) == [1, 1]
    assert [len(s._arrays._guests) for s in center.servers] == [1, 1]


def test_many_calls_at_once(cluster):
    center = cluster(2)
    workers = [joined(center, i, expected=3) for i in range(3)]
    for worker in workers:
        no_grpc(worker)
    with concurrent.futures.ThreadPoolExecutor(12) as pool:
        reads = [pool.submit(workers[k % 3].read) for k in range(60)]
        pushes = [
            pool.submit(
                lambda worker: [
                    worker.exchange(support.values(1.0), support.rates)
                    for _ in range(10)
                ],
                worker,
            )
            for worker in workers
        ]
        for future in reads + pushes:
            future.result(60)
    assert [shard.applied for shard in center.shards] == [30, 30]
    assert all(worker.counts.lost_halves == 0 for worker in workers)
    assert max(sum(map(sockets_of, workers), [])) <= 4


# Who is let in.


def test_a_ticket_is_good_once(echo):
    server = echo().server
    ticket = server.invite()["ticket"]
    assert server._admits(ticket)
    for bad in (ticket, "", None, 7, [], "é", ticket[:-1]):
        assert not server._admits(bad)


def test_a_ticket_is_good_for_some_seconds(echo, monkeypatch):
    server = echo().server
    monkeypatch.setattr(array_server, "_TICKET_S", -1.0)
    assert not server._admits(server.invite()["ticket"])


def test_tickets_do_not_pile_up(echo):
    server = echo().server
    tickets = [server.invite()["ticket"] for _ in range(1100)]
    assert len(server._tickets) == 1024
    assert not server._admits(tickets[0])
    assert server._admits(tickets[-1])


@pytest.mark.parametrize("ticket", ["0" * 64, ["x"], {"a": 1}])
def test_a_wrong_ticket_is_refused(echo, ticket):
    made = echo()
    plain, _ = made.connect(ticket)
    assert is_cut_off(plain)
    assert not made.server._guests


def test_without_the_token_there_is_no_ticket(cluster):
    center = cluster(1, security=Security(TOKEN))
    joined(center)
    stranger = Connection(center.centers[0], 0, Security())
    with pytest.raises(errors.CenterRefusedError, match="TF_ELASTIC_TOKEN"):
        stranger.stream(wire.READ, 20.0, {}, ())
    stranger.close()


def test_the_token_does_not_cross_the_socket(cluster, monkeypatch):
    center = cluster(1, security=Security(TOKEN))
    sent = []
    send = ArraySocket._send
    monkeypatch.setattr(
        ArraySocket,
        "_send",
        lambda self, data, deadline: (
            sent.append(bytes(data)),
            send(self, data, deadline),
        ),
    )
    joined(center).exchange(support.values(1.0), support.rates)
    assert sent
    assert not any(TOKEN.encode() in data for data in sent)


@pytest.mark.parametrize("mutual", [False, True])
def test_tls(cluster, certificate, mutual, caplog):
    path, key = certificate
    ours = Security(TOKEN, path, key, path if mutual else None)
    center = cluster(2, security=ours)
    own = (path, key) if mutual else ()
    worker = joined(center, security=Security(TOKEN, *own, authority=path))
    no_grpc(worker)
    for _ in range(3):
        worker.exchange(support.values(1.0), support.rates)
    assert sockets_of(worker) == [1, 1]
    assert not [r for r in caplog.records if r.levelno >= logging.WARNING]


def test_much_crosses_by_tls(echo, certificate):
    path, key = certificate
    made = echo(security=Security(None, path, key), size=2_000_000)
    channel = array_channel.ArrayChannel(
        "127.0.0.1:1",
        0,
        Security(authority=path),
        lambda timeout_s: made.server.invite(),
    )
    sent = [np.arange(2_000_000, dtype=float), np.arange(3, dtype=np.uint8)]
    for _ in range(3):
        out = [np.empty_like(array) for array in sent]
        assert "news" in channel.ask("Double", {}, sent, out, soon())
        np.testing.assert_array_equal(out[0], 2 * sent[0])
    assert len(made.server._guests) == 1
    channel.close()


def test_without_tls_nobody_enters_a_port_of_tls(echo, certificate):
    path, key = certificate
    made = echo(security=Security(None, path, key))
    with pytest.raises((OSError, errors.MessageError)):
        made.connect()
    assert not made.server._guests


def test_a_worker_without_certificate_is_refused(echo, certificate):
    path, key = certificate
    made = echo(security=Security(None, path, key, path))
    channel = array_channel.ArrayChannel(
        "127.0.0.1:1",
        0,
        Security(authority=path),
        lambda timeout_s: made.server.invite(),
    )
    assert channel.ask("Double", {}, [], [], soon()) is None
    assert not made.server._guests


def test_it_listens_where_grpc_does(cluster):
    center = cluster(1)
    host, port = center.servers[0]._arrays._listeners[0].getsockname()
    assert (host, port) == ("127.0.0.1", center.servers[0].array_port)


# Garbage, half frames, and slow ones.


@pytest.mark.parametrize(
    "sent",
    [
        b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
        os.urandom(4096),
        struct.pack("<4sI", MARK, 2**32 - 1),
        struct.pack("<4sI", MARK, 4) + b"nope",
        struct.pack("<4sI", MARK, 2) + b"[]",
        struct.pack("<4sI", MARK, 2) + b"{}",
        struct.pack("<4sI", MARK, 13) + b'{"nbytes":-1}',
        struct.pack("<4sI", MARK, 15) + b'{"nbytes":[-1]}',
        struct.pack("<4sI", MARK, 17) + b'{"nbytes":[true]}',
    ],
)
@pytest.mark.parametrize("let_in", [False, True])
def test_garbage_ends_its_connection_only(echo, sent, let_in):
    made = echo()
    _, other = made.connect()
    if let_in:
        plain, _ = made.connect()
    else:
        plain = made.knock()
    plain.sendall(sent)
    assert is_cut_off(plain)
    plain.close()
    assert ask(other)[0]["news"]["seen"] == 1
    assert made.server.is_alive()


@pytest.mark.parametrize("part", ["nothing", "half"])
def test_a_stranger_who_is_slow_is_cut_off(echo, part, monkeypatch):
    monkeypatch.setattr(array_server, "_ENTER_S", 0.3)
    made = echo()
    plain = made.knock()
    if part == "half":
        plain.sendall(MARK)
    assert is_cut_off(plain)
    until(lambda: not made.server._strangers)


def test_a_stranger_more_is_the_end_of_the_oldest(echo, monkeypatch):
    monkeypatch.setattr(array_server, "_MAX_STRANGERS", 3)
    made = echo()
    _, inside = made.connect()
    silent = []
    for k in range(5):
        silent.append(made.knock())
        until(lambda k=k: len(made.server._strangers) == min(k + 1, 3))
    assert is_cut_off(silent[0]) and is_cut_off(silent[1])
    assert ask(inside)[0]["news"]["seen"] == 1
    _, other = made.connect()
    assert ask(other)[0]["news"]["seen"] == 2
    assert is_cut_off(silent[2])
    for each in silent[3:]:
        each.close()
    until(lambda: not made.server._strangers)


def test_one_more_is_the_end_of_the_longest_idle(echo):
    made = echo(most_connections=2)
    plain, first = made.connect()
    _, second = made.connect()
    for ours in (second, first):
        until(lambda: len(made.server._idle_guests) == 2)
        assert "news" in ask(ours)[0]
    until(lambda: len(made.server._idle_guests) == 2)
    _, third = made.connect()  # `second` has waited for longest.
    assert "news" in ask(third)[0] and "news" in ask(first)[0]
    with pytest.raises(OSError):
        ask(second)
    # One that is at work is not ended, and who comes is told so at once.
    until(lambda: len(made.server._idle_guests) == 2)
    made.hold.clear()
    for ours in (first, third):
        begin_to_ask(ours)
    until(lambda: not made.server._idle_guests)
    with pytest.raises(OSError):
        made.connect()
    made.hold.set()
    assert "news" in first.receive_header(soon())
    plain.close()


@pytest.mark.parametrize("cut", [3, 20, 200, 5000])
def test_half_a_call_ends_at_its_deadline(echo, cut):
    made = echo()
    _, other = made.connect()
    plain, ours = made.connect()
    whole = []
    ours._send = lambda data, deadline: whole.append(bytes(data))
    asked = {"call": "Double", "header": {}, "timeout_s": 0.5}
    ours.send(asked, [np.zeros(1000), np.zeros(3, np.uint8)], soon())
    plain.sendall(b"".join(whole)[:cut])
    if cut == 3:  # The deadline is not there yet.
        plain.shutdown(socket.SHUT_WR)
    # Others are served meanwhile.
    assert ask(other)[0]["news"]["seen"] == 1
    if cut >= 200:
        assert is_cut_off(plain)
    plain.close()
    until(lambda: len(made.server._guests) == 1)
    assert made.seen == 1


@pytest.mark.parametrize("ends", [False, True])
def test_much_that_comes_slowly(echo, ends):
    """It does not wait for more at once than is to come."""
    size = 400_000
    made = echo(size=size)
    plain, ours = made.connect()
    whole = []
    ours._send = lambda data, deadline: whole.append(bytes(data))
    asked = {"call": "Double", "header": {}, "timeout_s": 60.0}
    ours.send(asked, [np.ones(size), np.ones(3, np.uint8)], soon())
    data = b"".join(whole)
    if ends:
        data = data[: len(data) // 2 + 7]
    for begin in range(0, len(data), 70_000):
        plain.sendall(data[begin : begin + 70_000])
        time.sleep(0.005)
    if ends:
        plain.shutdown(socket.SHUT_WR)
        assert is_cut_off(plain)
        until(lambda: not made.server._guests)
        assert made.seen == 0
        return
    assert ours.receive_header(soon())["news"] == {"seen": 1}
    room = [np.empty(size), np.empty(3, np.uint8)]
    ours.receive(room, soon())
    assert (room[0] == 2.0).all()


def test_half_a_header_ends_at_its_deadline(echo, monkeypatch):
    monkeypatch.setattr(array_server, "_HEADER_S", 0.3)
    plain, _ = echo().connect()
    plain.sendall(MARK)
    assert is_cut_off(plain)


def test_an_answer_that_nobody_takes_ends_at_its_deadline(echo):
    made = echo(size=4_000_000)
    plain, ours = made.connect()
    sent = [np.zeros(4_000_000), np.zeros(3, np.uint8)]
    asked = {"call": "Double", "header": {}, "timeout_s": 3.0}
    ours.send(asked, sent, soon())
    until(lambda: made.seen == 1)
    until(lambda: not made.server._guests)


def test_idle_connections_are_closed(echo, monkeypatch):
    monkeypatch.setattr(array_server, "_IDLE_S", 0.2)
    made = echo()
    plain, _ = made.connect()
    assert is_cut_off(plain)
    until(lambda: not made.server._guests)


@pytest.mark.parametrize(
    "timeout_s", [None, "1", 0, -1, float("nan"), True, -(10**400)]
)
def test_a_call_needs_a_deadline(echo, timeout_s):
    made = echo()
    plain, ours = made.connect()
    ours.send(
        {"call": "Double", "header": {}, "timeout_s": timeout_s}, (), soon()
    )
    assert is_cut_off(plain)


# Errors that are told leave the socket in use.


@pytest.mark.parametrize(
    ("header", "kind"),
    [
        ({"fail": "told"}, "LostSlotError"),
        ({"fail": "room"}, "CenterEmptyError"),
        ({"fail": "other"}, "UnexpectedError"),
        ({"fail": "no such key"}, "MessageError"),
    ],
)
def test_an_error_is_told(echo, header, kind):
    _, ours = echo().connect()
    told, _ = ask(ours, **header)
    assert told["error"] == kind
    assert ask(ours)[0]["news"]["seen"] == 1


@pytest.mark.parametrize(
    ("call", "sizes"),
    [
        ("Double", []),
        ("Double", [8000]),
        ("Double", [8000, 4]),
        ("Double", [10**6, 3]),
        ("Other", [8000, 3]),
        (["Double"], [8000, 3]),
        (None, []),
    ],
)
def test_a_call_of_another_form_is_told(echo, call, sizes):
    made = echo()
    _, ours = made.connect()
    sent = [bytes(size) for size in sizes]
    ours.send({"call": call, "header": {}, "timeout_s": 20.0}, sent, soon())
    assert ours.receive_header(soon())["error"] == "MessageError"
    assert ask(ours)[0]["news"]["seen"] == 1
    assert made.seen == 1


def test_an_answer_of_another_length(cluster):
    center = cluster(1)
    worker = joined(center)
    connection = worker.sessions[0].connection
    with pytest.raises(errors.MessageError, match="were expected"):
        connection.stream(wire.READ, 20.0, {}, (), [np.empty(3)])
    # The rest is not taken for the next answer.
    assert sockets_of(worker) == [0]
    assert (worker.read()[0] == 0.0).all()


def test_a_server_that_fails_by_itself(cluster, monkeypatch):
    center = cluster(1)
    worker = joined(center)

    def fail(*args, **kwargs):
        raise OverflowError("a fault")

    monkeypatch.setattr(center.shards[0].exchanges, "read", fail)
    with pytest.raises(
        errors.CenterUnavailableError, match=r"failed in Read after .*a fault"
    ):
        worker.sessions[0].connection.stream(wire.READ, 20.0, {}, ())


# A port that cannot be reached.


def test_a_blocked_port_leaves_grpc(cluster, caplog):
    center = cluster(2)
    # As behind a firewall: its port is another one than it says.
    with socket.create_server(("127.0.0.1", 0)) as taken:
        closed = taken.getsockname()[1]
    for server in center.servers:
        server._arrays.port = closed
    worker = joined(center)
    moved = [
        worker.exchange(support.values(1.0), support.rates) for _ in range(3)
    ]
    assert all(each.arrays[0].any() for each in moved)
    assert sockets_of(worker) == [0, 0]
    assert worker.counts.missed == 0
    told = [r.getMessage() for r in caplog.records if "by gRPC" in r.message]
    assert len(told) == 2  # Once for each server.
    assert f"{closed}, cannot be reached" in told[0]


def test_a_port_that_drops_leaves_grpc_in_time(cluster, monkeypatch):
    center = cluster(1)
    monkeypatch.setattr(array_channel, "_CONNECT_S", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as mute:
        center.servers[0]._arrays.port = mute.getsockname()[1]
        worker = joined(center)
        worker.exchange(support.values(1.0), support.rates)
    assert worker.counts.exchanges == 1


def test_a_port_that_is_free_again_is_used_again(cluster, monkeypatch):
    center = cluster(1)
    monkeypatch.setattr(array_channel, "_AVOID_S", (0.2,))
    server = center.servers[0]._arrays
    right = server.port
    with socket.create_server(("127.0.0.1", 0)) as taken:
        server.port = taken.getsockname()[1]
    worker = joined(center)
    assert sockets_of(worker) == [0]
    server.port = right
    until(lambda: worker.read() and sockets_of(worker) == [1])


def test_a_server_without_the_port(cluster, caplog):
    center = cluster(1)
    center.servers[0].stop(0.0)
    server = CenterServer(
        center.shards[0], center.centers[0], Security(), array_port=None
    )
    server.start()
    try:
        worker = joined(center)
        worker.exchange(support.values(1.0), support.rates)
        assert sockets_of(worker) == [0]
        assert "by gRPC" not in caplog.text
        assert server.array_port is None
        worker.leave()
    finally:
        server.stop(0.0)


@pytest.mark.parametrize(
    ("flag", "variable", "port"),
    [
        (None, None, 0),
        (None, "", 0),
        (None, "2223", 2223),
        (None, "-1", None),
        (5000, "2223", 5000),
        (0, "2223", 0),
        (-1, "2223", None),
    ],
)
def test_which_port_it_is(monkeypatch, flag, variable, port):
    monkeypatch.delenv("TF_ELASTIC_ARRAY_PORT", raising=False)
    if variable is not None:
        monkeypatch.setenv("TF_ELASTIC_ARRAY_PORT", variable)
    values = types.SimpleNamespace(array_port=flag)
    assert ps.array_port_of(values) == port


@pytest.mark.parametrize("variable", ["x", "65536", "-2", "1.5"])
def test_a_variable_that_is_no_port(monkeypatch, variable):
    monkeypatch.setenv("TF_ELASTIC_ARRAY_PORT", variable)
    with pytest.raises(ValueError, match=f"Received: '{variable}'"):
        ps.array_port_of(types.SimpleNamespace(array_port=None))


def test_a_process_listens_where_its_flag_says(end):
    ports = support.addresses.free_ports(2)
    address = f"127.0.0.1:{ports[0]}"
    config = {
        "cluster": {"ps": [address], "worker": ["127.0.0.1:1"]},
        "task": {"type": "ps", "index": 0},
    }
    process = subprocess.Popen(
        [
            *(sys.executable, "-m", "tf_elastic.cluster.ps"),
            f"--array_port={ports[1]}",
        ],
        cwd=tree.ROOT,
        env={**os.environ, "TF_CONFIG": json.dumps(config)},
        stderr=subprocess.DEVNULL,
    )
    end.callback(process.wait, 30)
    end.callback(process.kill)
    connection = Connection(address, 0, Security())
    end.callback(connection.close)

    def asked():
        try:
            return connection.call(wire.INVITE, 5.0)
        except errors.CenterUnavailableError:
            return None

    assert until(asked, 60)["port"] == ports[1]
    with pytest.raises(errors.CenterEmptyError):
        connection.stream(wire.READ, 20.0, {}, ())
    assert len(connection._arrays._idle) == 1
    process.terminate()
    assert process.wait(30) == 0


def test_a_port_in_use_is_refused(cluster):
    center = cluster(1)
    with pytest.raises(OSError, match="--array_port"):
        CenterServer(
            support.new_node(),
            f"127.0.0.1:{support.addresses.free_ports(1)[0]}",
            Security(),
            center.servers[0].array_port,
        )


# Servers and workers that come and go.


def test_a_server_that_is_started_again_is_found(cluster):
    center = cluster(1)
    worker = joined(center)
    no_grpc(worker)
    worker.exchange(support.values(1.0), support.rates)
    before = center.servers[0].array_port
    center.servers[0].stop(0.0)
    center.serve(0)
    assert before != center.servers[0].array_port
    for _ in range(2):
        worker.exchange(support.values(1.0), support.rates)
    assert worker.counts.missed == 0
    assert center.shards[0].applied == 3


def test_a_call_to_a_held_server_ends_at_its_deadline(cluster):
    center = cluster(1)
    worker = joined(center)
    shard = center.shards[0]
    with shard.changed:
        with pytest.raises(
            errors.CenterUnavailableError,
            match=rf"center 0 \({center.centers[0]}\) did not answer Read "
            r"\(waited \d+\.\d s: timed out\)",
        ):
            worker.sessions[0].connection.stream(wire.READ, 0.5, {}, ())
    assert sockets_of(worker) == [0]
    assert (worker.read()[0] == 0.0).all()


def test_closing_ends_a_call(cluster):
    center = cluster(1)
    worker = joined(center)
    connection = worker.sessions[0].connection
    with center.shards[0].changed:
        with concurrent.futures.ThreadPoolExecutor(1) as pool:
            call = pool.submit(connection.stream, wire.READ, 300.0, {}, ())
            until(lambda: connection._arrays._used)
            connection.close()
            with pytest.raises(errors.CenterUnavailableError, match="closed"):
                call.result(60)


def test_nothing_is_left(cluster):
    def open_files():
        return len(os.listdir("/proc/self/fd"))

    def threads():
        return [t for t in threading.enumerate() if t.name.startswith("arrays")]

    if not os.path.isdir("/proc/self/fd"):
        pytest.skip("needs /proc")
    center = cluster(1)
    joined(center).leave()  # What is made once.
    gc.collect()
    until(lambda: len(threads()) == 1)
    before = open_files()
    for _ in range(5):
        worker = joined(center, expected=1)
        with concurrent.futures.ThreadPoolExecutor(6) as pool:
            list(pool.map(lambda _, w=worker: w.read(), range(12)))
        worker.sessions[0].connection._arrays.close()
        worker.leave()
        del worker
    until(lambda: len(threads()) == 1)
    gc.collect()
    until(lambda: open_files() <= before + 3)
    center.close()
    until(lambda: not threads())


def test_sockets_that_were_idle_for_long_are_not_used(cluster, monkeypatch):
    center = cluster(1)
    worker = joined(center)
    [idle] = worker.sessions[0].connection._arrays._idle
    monkeypatch.setattr(array_channel, "_IDLE_S", -1.0)
    worker.read()
    [now] = worker.sessions[0].connection._arrays._idle
    assert now is not idle
    assert idle.socket._socket.fileno() == -1


# Memory.


def test_memory_is_kept():
    program = """
import resource
import numpy as np
from tf_elastic.cluster.center import memory

def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    np.ones(3_000_000, "float32")
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

kept = memory.keep()
faults()
print(kept, faults())
"""
    result = subprocess.run(
        [sys.executable, "-c", program],
        cwd=tree.ROOT,
        # Large pages would be few anyway.
        env={**os.environ, "NUMPY_MADVISE_HUGEPAGE": "0"},
        capture_output=True,
        text=True,
        timeout=60,
    )
    kept, faults = result.stdout.split()
    if kept == "False":
        pytest.skip("not the C library of GNU")
    assert int(faults) < 100
