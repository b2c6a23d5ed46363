"""What bounds others: rooms, ports, files and logs."""

import contextlib
import functools
import logging
import os
import resource
import socket

import pytest

from tests import cluster_support as support
from tests.cluster_support import is_cut_off
from tests.cluster_support import until
from tf_elastic.cluster.center import log_limit
from tf_elastic.cluster.center.log_limit import LogLimit
from tf_elastic.cluster.transport import addresses
from tf_elastic.cluster.transport import open_files
from tf_elastic.cluster.transport import port_guard
from tf_elastic.cluster.transport.port_guard import PortGuard
from tf_elastic.cluster.transport.waiting_room import WaitingRoom


class Clock:
    """Seconds that pass when the test says so."""

    def __init__(self):
        self.seconds = 1000.0

    def __call__(self):
        return self.seconds


@pytest.fixture
def clock():
    return Clock()


class Room:
    """A waiting room, and who was ended in it."""

    def __init__(self, clock, *args, **options):
        self.room = WaitingRoom(*args, now=clock, **options)
        self.ended = []
        self._visits = []

    def enter(self, name, whose, seconds=10.0):
        """Begins a visit; to call what is returned ends it."""
        end = functools.partial(self.ended.append, name)
        self._visits.append(contextlib.ExitStack())
        self._visits[-1].enter_context(self.room.visit(whose, end, seconds))
        return self._visits[-1].close


def test_who_comes_takes_the_place_of_the_oldest_of_the_most(clock):
    room = Room(clock, 4)
    good = room.enter("good", "a")
    flood = [room.enter(k, "flood") for k in range(6)]
    assert room.ended == [0, 1, 2]
    assert len(room.room) == 4
    room.enter("another", "b")
    assert room.ended == [0, 1, 2, 3]
    good()
    flood[0]()  # That one was ended before.
    assert len(room.room) == 3
    room.enter("a third", "c")
    assert room.ended == [0, 1, 2, 3]


def test_each_has_a_bound_of_its_own(clock):
    room = Room(clock, 10, most_each=2)
    for k in range(4):
        room.enter(k, 7)
        room.enter(-k, k)
    assert room.ended == [0, 1]


def test_what_lasts_too_long_is_ended_once(clock):
    room = Room(clock, 9)
    room.enter("short", "a")
    room.enter("long", "a", seconds=30.0)
    left = room.enter("left", "a")
    clock.seconds += 9.0
    room.room.tick()
    assert room.ended == []
    left()
    clock.seconds += 2.0
    for _ in range(2):
        room.room.tick()
        assert room.ended == ["short"]
    clock.seconds += 20.0
    room.room.tick()
    assert room.ended == ["short", "long"]
    assert len(room.room) == 0


# Connections that others accept.


class Port:
    """Accepts connections, as gRPC would, and tells nobody."""

    def __init__(self, host="127.0.0.1"):
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self.host = host
        self._listener = socket.create_server((host, 0), family=family)
        self.number = self._listener.getsockname()[1]
        self._open = []

    def connect(self):
        """The client's end, and how gRPC would name it."""
        ours = socket.create_connection((self.host, self.number), 20)
        theirs, peer = self._listener.accept()
        self._open += [ours, theirs]
        if ":" in self.host:
            return ours, f"ipv6:%5B{peer[0]}%5D:{peer[1]}"
        return ours, f"ipv4:{peer[0]}:{peer[1]}"

    def close(self):
        for each in (*self._open, self._listener):
            each.close()


@pytest.fixture(params=["127.0.0.1", "::1"])
def port(request):
    try:
        made = Port(request.param)
    except OSError:
        pytest.skip(f"there is no {request.param} here")
    yield made
    made.close()


def is_open(plain):
    plain.setblocking(False)
    try:
        return plain.recv(1) != b""
    except BlockingIOError:
        return True
    except ConnectionError:
        return False


def test_strangers_are_few_and_do_not_stay(port, clock, monkeypatch):
    monkeypatch.setattr(port_guard, "MOST_STRANGERS", 3)
    guard = PortGuard(port.number, 10, now=clock)
    known, name = port.connect()
    guard.let_in(name)
    oldest = [port.connect()[0] for _ in range(3)]
    guard.tick()
    assert all(map(is_open, oldest))
    late, late_name = port.connect()
    guard.tick()
    assert sum(map(is_cut_off_now, oldest)) == 1
    assert is_open(late)
    guard.let_in(late_name)
    clock.seconds += port_guard.STRANGER_S + 1
    guard.tick()
    assert all(map(is_cut_off, oldest))
    clock.seconds += 1000.0
    guard.tick()
    assert is_open(known) and is_open(late)


def is_cut_off_now(plain):
    return not is_open(plain)


def test_of_too_many_the_longest_silent_goes(port, clock):
    guard = PortGuard(port.number, 2, now=clock)
    made = []
    for _ in range(3):
        made.append(port.connect())
        clock.seconds += 1
        guard.let_in(made[-1][1])
    clock.seconds += 1
    guard.let_in(made[0][1])
    guard.tick()
    assert [is_open(plain) for plain, _ in made] == [True, False, True]


def test_who_has_many_connections_loses_one():
    peers = [("good", 1), *(("bad", k) for k in range(4)), ("other", 1)]
    too_many = port_guard._too_many
    assert too_many(peers, 6) == []
    assert too_many(peers, 4) == [("bad", 0), ("bad", 1)]
    assert too_many(peers, 3) == [("bad", 0), ("bad", 1), ("bad", 2)]


@pytest.mark.parametrize(
    ("peer", "expected"),
    [
        ("ipv4:10.0.0.7:5000", ("10.0.0.7", 5000)),
        ("ipv6:%5B::1%5D:5000", ("::1", 5000)),
        ("ipv6:%5Bfe80::7%25eth0%5D:5000", ("fe80::7", 5000)),
        ("ipv6:%5B::ffff:10.0.0.7%5D:5000", ("10.0.0.7", 5000)),
        ("unix:", None),
        ("", None),
    ],
)
def test_peers_as_grpc_names_them(peer, expected):
    assert port_guard.parse_peer(peer) == expected
    assert port_guard.host_of(peer) == (expected[0] if expected else peer)


def test_open_files():
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = min(before[1], 65_536)
    if before[1] == resource.RLIM_INFINITY:
        most = 65_536
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (512, before[1]))
        assert open_files.for_connections() == 512 - 128
        assert open_files.raise_limit() == most
        assert open_files.for_connections() == most - 128
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
    count = len(os.listdir("/dev/fd"))
    assert list(open_files.connections(1)) == []
    assert len(os.listdir("/dev/fd")) == count


def test_a_center_without_a_token_on_a_network_says_so(caplog, monkeypatch):
    said = "IS OPEN TO ITS NETWORK"
    made = support.Cluster()
    made.close()
    assert said not in caplog.text
    kinds = []

    def classify(host):
        kinds.append(host)
        return "private"

    monkeypatch.setattr(addresses, "classify", classify)
    for security in (
        support.Security(token="a-secret-of-more-than-16"),
        support.Security(trusted_network=True),
    ):
        support.Cluster(security=security).close()
    assert said not in caplog.text
    made = support.Cluster()
    made.close()
    assert kinds[-1] == "127.0.0.1"
    assert f"CENTER 0 {said}: it serves at {made.centers[0]}" in caplog.text
    assert "TF_ELASTIC_TOKEN" in caplog.text


# Logs.


@pytest.fixture
def limited(clock, caplog):
    made = LogLimit(clock)
    caplog.handler.addFilter(made)
    with caplog.at_level(logging.INFO):
        yield made
    caplog.handler.removeFilter(made)


def test_what_is_repeated_is_counted(limited, clock, caplog):
    log = logging.getLogger("a server")

    def write(texts, **options):
        before = len(caplog.messages)
        for text in texts:
            log.info("%s", text, **options)
        return len(caplog.messages) - before

    def write_elsewhere(text):
        log.info("%s", text)

    same = write(["the same"] * 50)
    assert same == 3
    assert write(map(str, range(500))) == 97
    assert write(["an error"] * 9, exc_info=ValueError("x")) == 0
    write_elsewhere("from another place")
    assert caplog.messages[-1] == "from another place"
    limited.tell()
    assert "not written" not in caplog.messages[-1]
    clock.seconds += 61
    limited.tell()
    [told] = [m for m in caplog.messages if "were not written" in m]
    assert told.startswith("459 more messages of cluster_guards_test.py:")
    assert told.endswith("the last: an error")
    assert write(["an error"] * 9, exc_info=ValueError("x")) == 3
    limited.tell(at_once=True)
    assert "6 more messages" in caplog.messages[-1]
    assert caplog.records[-1].pathname == log_limit.__file__


def test_the_ticker_survives_an_error(caplog, monkeypatch):
    made = support.Cluster(lease_s=0.5)
    try:
        shard = made.shards[0]
        ticks = []

        def tick():
            ticks.append(1)
            raise TypeError("a fault of ours")

        monkeypatch.setattr(made.servers[0].node, "tick", tick)
        until(lambda: len(ticks) > 2 or shard is None)
        assert made.servers[0].is_alive()
        assert "a fault of ours" in caplog.text
    finally:
        made.close()
