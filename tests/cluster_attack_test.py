"""A real center server, and peers that mean it no good.

All tests attack one process, one after the other: after each of them a worker
that is new to it has to get in, and a snapshot has to be written.
"""

import contextlib
import json
import math
import os
import re
import resource
import signal
import socket
import struct

import grpc
import numpy as np
import pytest

from tests import cluster_support as support
from tests import http2_support as http2
from tests.cluster_support import is_cut_off
from tests.cluster_support import until
from tests.process_support import Processes
from tests.process_support import free
from tests.process_support import self_signed
from tests.process_support import tf_config
from tf_elastic.cluster import errors
from tf_elastic.cluster import layout
from tf_elastic.cluster.launch.security import Security
from tf_elastic.cluster.transport import schema
from tf_elastic.cluster.transport import wire
from tf_elastic.cluster.worker import client

TOKEN = "a-secret-of-more-than-16"
WRONG = "another-secret-of-16-or-more"
LAYOUT = layout.Layout(support.VARIABLES, 1)
MAX_FILES = 1024  # of the server's process, whatever it asks for
MAX_WORKERS = 40
# Python's way to start a module, with fewer files than here.
LIMITED = f"""
import resource, runpy
resource.setrlimit(resource.RLIMIT_NOFILE, ({MAX_FILES // 4}, {MAX_FILES}))
runpy.run_module("tf_elastic.cluster.ps", run_name="__main__", alter_sys=True)
"""


class Center:
    """The server, and what can be seen of it from outside."""

    def __init__(self, folder):
        self.processes = Processes(folder)
        self.snapshots = folder / "snapshots"
        self.centers = free(1)
        self.process = self.processes.python(
            "-c",
            LIMITED,
            f"--snapshot_dir={self.snapshots}",
            "--snapshot_interval_s=0.2",
            f"--max_workers={MAX_WORKERS}",
            name="ps0",
            TF_CONFIG=tf_config(self.centers, "ps", 0),
            TF_ELASTIC_TOKEN=TOKEN,
        )
        self.channel = grpc.insecure_channel(
            self.centers[0], options=[("grpc.use_local_subchannel_pool", 1)]
        )
        self._lives = 0
        until(lambda: "serves on" in self.log())

    def log(self):
        return self.processes.log("ps0")

    def call(self, name, message, token=TOKEN, seconds=20.0):
        """Makes a call of one message, which need not be what it should."""
        if not isinstance(message, bytes):
            message = json.dumps(message).encode()
        call = self.channel.unary_unary(f"/{wire.SERVICE}/{name}")
        answer = call(
            message, timeout=seconds, metadata=((wire.TOKEN_KEY, token),)
        )
        return json.loads(answer)

    def open_files(self):
        return len(os.listdir(f"/proc/{self.process.pid}/fd"))

    def memory(self):
        """MB that it has."""
        with open(f"/proc/{self.process.pid}/statm", encoding="ascii") as file:
            pages = int(file.read().split()[1])
        return pages * resource.getpagesize() / 1e6

    def newest(self):
        names = [path.stem for path in self.snapshots.glob("center-*.snapshot")]
        return max((int(name.split("-")[1]) for name in names), default=0)

    def client(self, worker):
        timeouts = support.PATIENT
        return client.CenterClient(
            self.centers, worker, True, 1, Security(TOKEN), timeouts=timeouts
        )

    def bad_tickets(self, *texts, count):
        """Shows them at the port for arrays, one after the other."""
        host = self.centers[0].rsplit(":", 1)[0]
        port = self.call("Invite", {})["port"]
        for k in range(count):
            text = texts[k % len(texts)]
            with socket.create_connection((host, port), 20) as plain:
                plain.sendall(struct.pack("<4sI", b"TFE1", len(text)) + text)
                assert is_cut_off(plain)

    def works(self):
        """A worker that is new to it joins, exchanges, and is kept."""
        made = self.client(0)
        try:
            made.join(LAYOUT, support.values(1.0))
            before = self.newest()
            version = made.sessions[0].news.version
            made.exchange(support.values(2.0), support.rates)
            assert made.sessions[0].news.version == version + 1
            until(lambda: self.newest() > before)
        finally:
            made.leave()
        assert self.process.poll() is None

    def close(self):
        self.channel.close()
        self.processes.close()


@pytest.fixture(scope="module")
def center(tmp_path_factory):
    made = Center(tmp_path_factory.mktemp("center"))
    yield made
    made.close()


@pytest.fixture
def end():
    with contextlib.ExitStack() as stack:
        yield stack


# The token, and what is half there.


@pytest.mark.parametrize("token", [TOKEN, WRONG])
def test_calls_whose_message_never_comes(center, end, token):
    opened = []
    for _ in range(30):
        made = http2.Connection(center.centers[0])
        end.callback(made.close)
        opened += [
            (made, made.call(f"/{wire.SERVICE}/{name}", tf_elastic_token=token))
            for name in 5 * ("Status", "Push")
        ]
    center.works()
    if token == WRONG:  # Nobody waits for the message of such a call.
        assert all(made.wait_for_end(stream) for made, stream in opened)
    else:  # No more of these are kept than there is room for.
        assert all(made.wait_for_end(stream) for made, stream in opened[:200])


@pytest.mark.parametrize(
    ("token", "most"), [(WRONG, 80), (TOKEN, 450)], ids=["wrong", "right"]
)
def test_halves_of_large_messages(center, end, token, most):
    announced = wire.CHUNK_BYTES - 100
    before = center.memory()
    let_in = 0
    for _ in range(30):
        made = http2.Connection(center.centers[0])
        end.callback(made.close)
        for _ in range(5):
            stream = made.call(
                f"/{wire.SERVICE}/Status", tf_elastic_token=token
            )
            if token == WRONG:
                assert made.wait_for_end(stream)
            let_in += made.send(stream, announced, 300_000)
    # gRPC takes the memory for all that was announced.
    assert center.memory() - before < most
    if token == WRONG:
        assert let_in == 0
    center.works()


def test_calls_with_arrays_that_never_end(center, end):
    """By who has the token: more of them than there are threads."""
    center.works()
    member = {"worker": 5}
    life = center.call("Hello", member)["last_incarnation"] + 1
    member["incarnation"] = life
    center.call("Join", {**JOIN, **member})
    push = json.dumps({"id": {**ID, **member}, "rate": RATE}).encode()
    opened = []
    for _ in range(15):
        made = http2.Connection(center.centers[0])
        end.callback(made.close)
        for name, message in 4 * (("Read", b"{}"), ("Push", push)):
            stream = made.call(
                f"/{wire.SERVICE}/{name}", tf_elastic_token=TOKEN
            )
            made.send(stream, len(message), message)
            opened.append((made, stream))
    # Of one worker there are four.
    pushes = opened[1::2]
    until(lambda: sum(s in made.ended for made, s in pushes) == len(pushes) - 4)
    assert center.call("Hello", {"worker": 5})["present"]
    center.call("Leave", member)
    center.works()


def test_a_message_that_is_too_large(center, end):
    made = http2.Connection(center.centers[0])
    end.callback(made.close)
    stream = made.call(f"/{wire.SERVICE}/Status", tf_elastic_token=TOKEN)
    made.send(stream, 2**31, 100_000)
    assert made.wait_for_end(stream)
    for name in ("Status", "Read"):
        with pytest.raises(grpc.RpcError, match="is too long"):
            center.call(name, b" " * (wire.MAX_CALL_BYTES + 1))
    center.works()


def test_idle_connections(center, end):
    """More than the process may have open files, at both of its ports."""
    host, port = center.centers[0].rsplit(":", 1)
    arrays = center.call("Invite", {})["port"]
    for k in range(1100):
        with contextlib.suppress(OSError):  # It may be closed already.
            to = arrays if k % 4 == 0 else int(port)
            end.enter_context(socket.create_connection((host, to), 20))
    center.works()
    until(lambda: center.open_files() < 300)
    # Those that have the token are bounded as well.
    options = [("grpc.use_local_subchannel_pool", 1)]
    for _ in range(300):
        channel = grpc.insecure_channel(center.centers[0], options=options)
        end.callback(channel.close)
        # One may be closed just as it calls; that is what the worker's
        # patience is for.
        with contextlib.suppress(grpc.RpcError):
            channel.unary_unary(f"/{wire.SERVICE}/Status")(
                b"{}", timeout=20, metadata=((wire.TOKEN_KEY, TOKEN),)
            )
    until(lambda: center.open_files() < 300)
    center.works()


# Whoever has the token is still checked.

MEMBER = {"worker": 5, "incarnation": 10_000}
JOIN = {
    **MEMBER,
    "expected": 1,
    "description": LAYOUT.describe(),
    "process": "p",
}
PROGRESS = {"clock": 0, "samples": 0}
BEAT = {**MEMBER, **PROGRESS, "notes": {}}
ID = {**MEMBER, "sequence": 1, "version_read": 0}
RATE = {"beta": 0.9, "num_workers": 1}
PUSHED = {"learning_rate": 0.1, "averaging_rate": None, "num_workers": 1}
VARIABLE = ["w", [2], "float32", "parameters"]
# The calls as they may be; and what must not be in place of a part of them.
WHOLE = {
    "Hello": {"worker": None},
    "Join": JOIN,
    "Offer": {**MEMBER, "version_seen": -1, "is_chief": False},
    "Heartbeat": BEAT,
    "Instruct": {
        **MEMBER,
        "number": 1,
        "stop": False,
        "learning_rate": 0.1,
        "instead_of": None,
    },
    "Leave": {**MEMBER, "finished": True},
    "Release": {**MEMBER, "round_": 0, "wait_s": 0.1, "force": False},
    "Status": {"staleness_since": 0},
    "Invite": {},
    "Read": MEMBER,
    "Initialize": {**MEMBER, "version": -1},
    "Push": {"id": ID, "rate": RATE},
    "Exchange": {"id": ID, "rate": RATE, "codec": "none", "whole": True},
    "Deposit": {"id": ID, "rate": RATE},
    "Take": {"id": ID, "rate": PUSHED},
    "Send": {**MEMBER, "number": 1, "followed": 0, **PROGRESS},
    "Listen": {**MEMBER, "after": 0, "wait_s": 0.0},
}
INTEGERS = ["0", 1.0, True, -2, 2**53 + 1, math.nan, math.inf, [], {}]
NUMBERS = ["0", True, math.nan, -math.inf, 1e300, -1e10, [], 10**400]
# What a rule makes of a number is its own matter, see core_rules_test.
FAR_NUMBERS = [v for v in NUMBERS if v != -1e10]
SWITCHES = [0, 1, "true", math.nan, []]
TEXTS = [1, None, [], "x" * 101, "\ud800"]
WRONG_PARTS = [
    ("Hello", "worker", INTEGERS),
    ("Join", "worker", [*INTEGERS, None, 2**31]),
    ("Join", "incarnation", [*INTEGERS, None, 0]),
    ("Join", "expected", [*INTEGERS, None, 0]),
    ("Join", "process", TEXTS),
    ("Join", "previous", INTEGERS),
    ("Join", "description", [None, [], "x", {str(k): 0 for k in range(101)}]),
    ("Offer", "version_seen", INTEGERS),
    ("Offer", "is_chief", SWITCHES),
    ("Heartbeat", "clock", INTEGERS),
    ("Heartbeat", "samples", INTEGERS),
    ("Heartbeat", "notes", [None, [], {"a": math.nan}, {"a": {}}]),
    ("Heartbeat", "notes", [{"a": "x" * 200}, {"x" * 200: "a"}]),
    ("Heartbeat", "notes", [{str(k): 0 for k in range(65)}, {"\ud800": 1}]),
    *((name, "group", [*INTEGERS, 8]) for name in WHOLE),
    ("Leave", "finished", SWITCHES),
    ("Release", "round_", INTEGERS),
    ("Release", "wait_s", [*NUMBERS, 61, -1]),
    ("Release", "force", SWITCHES),
    ("Status", "staleness_since", INTEGERS),
    ("Initialize", "version", INTEGERS),
    ("Exchange", "codec", [None, "zip", 1, []]),
    ("Exchange", "whole", SWITCHES),
    *((name, "id.sequence", [*INTEGERS, 0]) for name in ("Push", "Take")),
    *((name, "id.clock", INTEGERS) for name in ("Push", "Take")),
    *((name, "id.samples", INTEGERS) for name in ("Push", "Take")),
    *((name, "id.version_read", INTEGERS) for name in ("Push", "Take")),
    ("Push", "rate.beta", FAR_NUMBERS),
    ("Push", "rate.num_workers", [*INTEGERS, 0]),
    ("Push", "rate", [None, [], {}]),
    *((name, "worker", [*INTEGERS, None]) for name in ("Send", "Listen")),
    *((name, "incarnation", [*INTEGERS, 0]) for name in ("Send", "Listen")),
    ("Send", "number", [*INTEGERS, 0]),
    ("Send", "followed", INTEGERS),
    ("Send", "clock", INTEGERS),
    ("Send", "samples", INTEGERS),
    ("Listen", "after", INTEGERS),
    ("Listen", "wait_s", [*NUMBERS, 61, -1]),
    ("Take", "rate.learning_rate", FAR_NUMBERS),
    ("Take", "rate.averaging_rate", FAR_NUMBERS),
    ("Take", "rate", [{"num_workers": 1, **{str(k): 0 for k in range(32)}}]),
]


def changed(message, path, value):
    """A copy with another value at "a.b"."""
    first, _, rest = path.partition(".")
    new = changed(message[first], rest, value) if rest else value
    return {**message, first: new}


def test_every_call_has_a_schema():
    assert set(WHOLE) == {*wire.UNARY, *wire.STREAMS} == set(schema._CALLS)
    for name, message in WHOLE.items():
        assert schema.checked(name, message) == message


@pytest.mark.parametrize(
    ("name", "path", "values"),
    WRONG_PARTS,
    ids=[f"{name}-{path}" for name, path, _ in WRONG_PARTS],
)
def test_parts_of_a_wrong_kind(name, path, values):
    for value in values:
        with pytest.raises(errors.MessageError, match="must be") as error:
            schema.checked(name, changed(WHOLE[name], path, value))
        assert f"In a call to {name}: `" in str(error.value)
        assert len(str(error.value)) < 1000


@pytest.mark.parametrize("name", WHOLE)
def test_parts_that_are_missing_or_too_many(name):
    whole = WHOLE[name]
    with pytest.raises(errors.MessageError, match="object with the fields"):
        schema.checked(name, {**whole, "more": 1})
    for needed in ("worker", "id", "rate", "description"):
        if needed in whole and name not in ("Hello", "Read"):
            rest = {k: v for k, v in whole.items() if k != needed}
            with pytest.raises(errors.MessageError, match="fields"):
                schema.checked(name, rest)


def test_wrong_calls_change_nothing(center):
    center.works()
    before = center.call("Status", {})
    for name, path, values in WRONG_PARTS:
        if name not in wire.UNARY:
            continue
        with pytest.raises(grpc.RpcError, match="MessageError"):
            center.call(name, changed(WHOLE[name], path, values[0]))
    other = {**JOIN["description"], "tf_elastic": "\ud800"}
    with pytest.raises(grpc.RpcError, match="surrogates not allowed"):
        center.call("Join", {**JOIN, "description": other})
    for message in (
        b"",
        b"[]",
        b"\xff",
        b'{"a":"\xed\xa0\x80"}',
        b"[" * 60_000,
        b'{"a":' * 10_000,
    ):
        with pytest.raises(grpc.RpcError, match="MessageError: A header is"):
            center.call("Status", message)
    after = center.call("Status", {})
    assert after["version"] == before["version"]
    assert after["members"].keys() == before["members"].keys()
    assert "Traceback" not in center.log()


def stream(center, name, header, arrays=()):
    """Makes a call with arrays by gRPC."""
    call = center.channel.stream_stream(f"/{wire.SERVICE}/{name}")
    messages = [json.dumps(header).encode(), *wire.chunks(arrays)]
    answers = call(
        iter(messages), timeout=20, metadata=((wire.TOKEN_KEY, TOKEN),)
    )
    return json.loads(next(answers))


def test_pushes_of_numbers_that_are_none(center):
    center.works()
    life = center.call("Hello", {"worker": 5})["last_incarnation"] + 1
    member = {"worker": 5, "incarnation": life}
    center.call("Join", {**JOIN, **member})
    push_id = {**ID, **member}
    one = support.values(1.0)
    news = stream(center, "Push", {"id": push_id, "rate": RATE}, one)
    version = news["version"]
    for change in ({"sequence": math.nan}, {"sequence": 1}, {"sequence": "2"}):
        header = {"id": {**push_id, **change}, "rate": RATE}
        with pytest.raises(grpc.RpcError, match="MessageError|DuplicatePush"):
            stream(center, "Push", header, one)
    push_id["sequence"] = 2
    for beta in (1e38, math.inf, math.nan, 2.001):
        header = {"id": push_id, "rate": {**RATE, "beta": beta}}
        with pytest.raises(grpc.RpcError, match="MessageError"):
            stream(center, "Push", header, one)
    # Finite, and yet too much: the sum would not be.
    huge = support.values(1.7e308)
    header = {"id": push_id, "rate": {"beta": 2.0, "num_workers": 1}}
    with pytest.raises(grpc.RpcError, match="NonFiniteError.* infinite"):
        stream(center, "Push", header, huge)
    # Before anything is received.
    for wrong in ({"incarnation": life + 1}, {"worker": 39}):
        header = {"id": {**push_id, **wrong}, "rate": RATE}
        with pytest.raises(grpc.RpcError, match="UnknownWorkerError"):
            stream(center, "Push", header)
    assert center.call("Status", {})["version"] == version
    center.call("Leave", member)
    looker = center.client(None)
    try:
        assert np.isfinite(looker.look(LAYOUT)[0]).all()
    finally:
        looker.leave()
    center.works()


def test_too_many_workers_and_lives(center):
    center.works()
    life = center.call("Hello", {"worker": 0})["last_incarnation"] + 1
    for expected in (MAX_WORKERS + 1, 10**9):
        with pytest.raises(grpc.RpcError, match="at most 40 workers"):
            center.call("Join", {**JOIN, "worker": 1, "expected": expected})
    with pytest.raises(grpc.RpcError, match="incarnation of worker 0 must be"):
        center.call("Join", {**JOIN, "worker": 0, "incarnation": 2**40})
    joined = 0
    with pytest.raises(grpc.RpcError, match="CenterRefusedError.*max_workers"):
        for worker in range(100, 100 + 2 * MAX_WORKERS):
            member = {"worker": worker, "incarnation": 1}
            center.call("Join", {**JOIN, **member})
            joined += 1
    assert len(center.call("Status", {})["members"]) == MAX_WORKERS
    for worker in range(100, 100 + joined):
        center.call("Leave", {"worker": worker, "incarnation": 1})
    # Who is gone and has given nothing makes room.
    center.call("Join", {**JOIN, "worker": 1000, "incarnation": 1})
    center.call("Leave", {"worker": 1000, "incarnation": 1})
    assert center.call("Hello", {"worker": 0})["last_incarnation"] >= life - 1
    center.works()


def test_tickets_that_are_none_and_a_log_that_stays_small(center):
    before = len(center.log().splitlines())
    center.bad_tickets(
        b'{"ticket":"\\ud800","nbytes":[]}',
        b'{"ticket":"0","nbytes":[]}',
        b"[" * 900,
        b"\xff",
        count=400,
    )
    center.works()
    log = center.log()
    assert len(log.splitlines()) - before < 50
    assert "Traceback" not in log
    assert "A ticket is not (or no more) good" in log


def test_a_hang_up_leaves_a_last_snapshot(center):
    center.works()
    center.bad_tickets(b"{}", count=10)
    version = center.call("Status", {})["version"]
    center.process.send_signal(signal.SIGHUP)
    assert center.process.wait(30) == 0
    log = center.log()
    assert f"ends at version {version}" in log
    assert "more messages of array_server.py" in log  # What was left out.
    assert "Traceback" not in log


def test_strangers_who_do_not_speak_tls(tmp_path):
    processes = Processes(tmp_path)
    certificate, key = self_signed(tmp_path)
    centers = free(1)
    try:
        process = processes.python(
            "-m",
            "tf_elastic.cluster.ps",
            name="ps0",
            TF_CONFIG=tf_config(centers, "ps", 0),
            TF_ELASTIC_TOKEN=TOKEN,
            TF_ELASTIC_TLS_CERT=certificate,
            TF_ELASTIC_TLS_KEY=key,
        )
        until(lambda: "serves on" in processes.log("ps0"))
        log = processes.log("ps0")
        arrays = re.search(r"arrays on port (\d+)", log)[1]
        host, port = centers[0].rsplit(":", 1)
        for _ in range(50):
            for to in (port, arrays):
                with socket.create_connection((host, int(to)), 20) as plain:
                    plain.sendall(bytes(range(100)))
                    assert is_cut_off(plain)
        secure = Security(TOKEN, authority=certificate)
        worker = client.CenterClient(
            centers, 0, True, 1, secure, timeouts=support.PATIENT
        )
        worker.join(LAYOUT, support.values(1.0))
        worker.leave()
        assert process.poll() is None
        assert len(processes.log("ps0").splitlines()) < 40
    finally:
        processes.close()
