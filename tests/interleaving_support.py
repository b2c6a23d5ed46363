"""Workers and center servers in one thread, and a network that obeys a script.

Nothing here waits, and nothing is by chance. In place of `Connection` a worker
has a `Line`: what it sends is packed, checked and handled by the server's
`Node` before the call returns, unless the script has something else in store
for that message. `timeless_client.py` takes threads and time from the workers;
their hearts beat when a turn begins.
"""

import contextlib
import copy
import dataclasses
from typing import NamedTuple

import numpy as np

from tests import timeless_client
from tf_elastic import core
from tf_elastic.cluster import errors
from tf_elastic.cluster import layout
from tf_elastic.cluster.center.groups import Groups
from tf_elastic.cluster.center.node import Node
from tf_elastic.cluster.transport import schema
from tf_elastic.cluster.transport import wire
from tf_elastic.cluster.transport.calls import array_calls

SERVERS = WORKERS = 2
EXCHANGES = 3  # of each worker, in which something may go wrong
N = 24  # parameters
BETA = 0.9
_MOST_MESSAGES = 1000
_PUSHES = (wire.PUSH, wire.EXCHANGE, wire.TAKE)

LAYOUT = (
    layout.VariableSpec("w", (N,), "float64", layout.PARAMETERS),
    layout.VariableSpec("mean", (2,), "float64", layout.STATISTICS),
)
INITIAL = [np.linspace(-1.0, 2.0, N), np.array([0.5, -0.5])]

# What becomes of a message.
DROPPED = "it is lost"
UNANSWERED = "its answer is lost"
LATE_ANSWER = "its answer comes when nobody waits any more"
LATE = "it comes just before the server's next message"
LATER = "it comes three messages of the server later"
DOUBLED = "it comes twice"
DOUBLED_LATE = "it comes again three messages of the server later"
DOUBLED_LATER = "it comes again twelve messages of the server later"
# What becomes of a process, at a message.
BROKEN = "the server breaks down before it, and is back at once"
BROKEN_AFTER = "the server breaks down after it, and is back from before"
AWAY = "the server breaks down, and is back after three messages more"
SET_BACK = "the server answers, breaks down, and is back from before"
SET_FAR_BACK = "the server breaks down, and is back from the beginning"
KILLED = "the worker is killed before it"
KILLED_AFTER = "the worker is killed after it"
KILLED_LATE = "the worker is killed, and it comes when the next one is there"
LEASE = "the server has lost the worker"
MESSAGE_FAULTS = (
    *(DROPPED, UNANSWERED, LATE_ANSWER, LATE, LATER),
    *(DOUBLED, DOUBLED_LATE, DOUBLED_LATER),
)
PROCESS_FAULTS = (
    *(BROKEN, BROKEN_AFTER, AWAY, SET_BACK, SET_FAR_BACK),
    *(KILLED, KILLED_AFTER, KILLED_LATE, LEASE),
)
_FROM_BEFORE = (BROKEN, BROKEN_AFTER, AWAY, SET_BACK)
FAULTS = MESSAGE_FAULTS + PROCESS_FAULTS


class Killed(BaseException):
    """A worker's process has ended. Nobody in it hears of that."""


@dataclasses.dataclass(frozen=True, eq=False)
class Push:
    """One that a server has applied."""

    life: int  # of all workers' processes, which one
    server: int
    worker: int
    incarnation: int
    sequence: int
    moved: np.ndarray  # by how much the center's parameters


class Message(NamedTuple):
    """What a worker sends, packed."""

    life: int
    name: str
    header: bytes
    arrays: list[np.ndarray] | None  # None: a call without
    beats: bool  # whether it is a sign of life


class Host:
    """A machine with one center server, which may break down."""

    def __init__(self, index, now=lambda: 0.0):
        self.index = index
        self._now = now
        self.pushes = []  # those that the center is made of
        self.undone = []  # those that it was set back by
        # Of them, those of which a worker does not hear that they are undone,
        # since it has begun anew here before, or is just about to.
        self.not_told = []
        self.begins_anew = set()  # processes that have said hello
        self.late = []  # (after how many messages, what)
        self.away = 0  # messages to come for which nobody is there
        self._start(self.new_node())

    def new_node(self):
        """An empty one."""
        return Node(self.index, SERVERS, grace_s=0.0, now=self._now)

    def _start(self, shard):
        self.shard = shard
        self._arrays = array_calls(Groups.of(shard))

    def snapshot(self):
        """As a file has it."""
        state, arrays = self.shard.snapshot() or (None, [])
        return wire.pack({"state": state}), arrays, len(self.pushes)

    def restore(self, snapshot):
        """Starts anew, from a snapshot; from nothing, if it was empty."""
        packed, arrays, count = snapshot
        newest = {
            worker: member.incarnation
            for worker, member in self.shard.registry.members.items()
        }
        state = wire.unpack(packed)["state"]
        self._start(self.new_node())
        if state is not None:
            self.shard.restore(state, copy.deepcopy(arrays))
        for push in self.pushes[count:]:
            self.undone.append(push)
            is_old = push.incarnation < newest[push.worker]
            if is_old or push.life in self.begins_anew:
                self.not_told.append(push)
        del self.pushes[count:]

    def lose(self, worker):
        """The worker's lease ends."""
        member = self.shard.registry.members.get(worker)
        if member is not None:
            member.last_seen -= 2 * self.shard.registry.lease_s
            self.shard.tick()

    def handle(self, message):
        """As `CenterServer` does; the answer's header and arrays."""
        self.begins_anew.discard(message.life)
        if message.name == wire.HELLO and not message.beats:
            self.begins_anew.add(message.life)
        before = self._center(), self.shard.version
        try:
            news, arrays = self._answer(message)
        except Exception as error:
            told = errors.as_told(error)
            return {"error": type(told).__name__, "text": str(told)}, []
        if message.name in _PUSHES:
            number = wire.unpack(message.header)["id"]
            assert self.shard.version == before[1] + 1
            self.pushes.append(
                Push(
                    message.life,
                    self.index,
                    number["worker"],
                    number["incarnation"],
                    number["sequence"],
                    self._center() - before[0],
                )
            )
        return wire.unpack(wire.pack(news)), [a.copy() for a in arrays]

    def _answer(self, message):
        header = wire.unpack(message.header)
        if message.arrays is None:
            method = getattr(self.shard, message.name.lower())
            return method(**schema.checked(message.name, header)), []
        asked = self._arrays[message.name](header)
        _fill(asked.room, message.arrays)
        return asked.run(asked.room, [])

    def _center(self):
        arrays = self.shard.arrays
        return np.zeros(N // SERVERS) if arrays is None else arrays[0].copy()


def _fill(room, arrays):
    wire.receive(iter(wire.chunks(arrays)), room)


class Network:
    """Two center servers, lines to them, and what is in store for messages.

    Args:
        script: {message's number: what becomes of it, or of a process}. They
            are counted from when all workers have joined.
        now: the hosts' clock.
    """

    def __init__(self, script=(), now=lambda: 0.0):
        self.hosts = [Host(k, now) for k in range(SERVERS)]
        self.script = dict(script)
        self.beats = False
        self.count = None  # of messages; None while nothing may go wrong
        self.messages = []  # (worker, server, name), those of the script
        self.answered = []  # pushes, of which a worker has heard
        self.carried = 0
        self._first = self._newest = None  # snapshots
        self._late_answers = []

    def begin(self):
        """From now on the script holds."""
        self.count = 0
        self._first = [host.snapshot() for host in self.hosts]

    def end(self):
        """From now on nothing goes wrong, and what is late has come."""
        self.count = None
        for host in self.hosts:
            host.away = 0
            late, host.late = host.late, []
            for _, message in late:
                host.handle(message)

    @contextlib.contextmanager
    def of_hearts(self):
        """What is sent inside are signs of life."""
        self.beats = True
        try:
            yield
        finally:
            self.beats = False

    def carry(self, server, worker, message, out):
        """One call; returns the answer's header."""
        self.carried += 1
        assert self.carried < _MOST_MESSAGES, "it goes round in circles"
        host = self.hosts[server]
        host.late = [(after - 1, late) for after, late in host.late]
        for late in [late for after, late in host.late if after <= 0]:
            host.handle(late)
        host.late = [(after, late) for after, late in host.late if after > 0]
        fault = None
        if self.count is not None:
            fault = self.script.get(self.count)
            self.messages.append((worker, server, message.name))
            self.count += 1
        if host.away:
            host.away -= 1
            if fault not in (KILLED, KILLED_AFTER, KILLED_LATE):
                raise errors.CenterUnavailableError(f"center {server} is away")
            raise Killed
        return self._with_fault(fault, host, worker, message, out)

    def _with_fault(self, fault, host, worker, message, out):
        before = host.snapshot() if fault in _FROM_BEFORE else None
        if fault == LEASE:
            host.lose(worker)
        if fault in (LATE, LATER, KILLED_LATE):
            after = {LATE: 1, LATER: 3, KILLED_LATE: 6}[fault]
            host.late.append((after, message))
        if fault in (BROKEN, AWAY):
            host.restore(before)
            host.away = 3 if fault == AWAY else 0
        if fault == SET_FAR_BACK:
            host.restore(self._first[host.index])
        if fault in (KILLED, KILLED_LATE):
            raise Killed
        if fault in (DROPPED, LATE, LATER, BROKEN, AWAY, SET_FAR_BACK):
            raise errors.CenterUnavailableError(f"{message.name}: {fault}")
        news, arrays = host.handle(message)
        is_push = message.name in _PUSHES and "error" not in news
        push = host.pushes[-1] if is_push else None
        if fault == DOUBLED:
            host.handle(message)
        if fault in (DOUBLED_LATE, DOUBLED_LATER):
            host.late.append((3 if fault == DOUBLED_LATE else 12, message))
        if fault in (BROKEN_AFTER, SET_BACK):
            host.restore(before)
        if fault == KILLED_AFTER:
            raise Killed
        if fault == LATE_ANSWER and "error" not in news:
            self._late_answers.append((out, arrays))
        if fault in (UNANSWERED, LATE_ANSWER, BROKEN_AFTER):
            raise errors.CenterUnavailableError(f"{message.name}: {fault}")
        if "error" in news:
            raise errors.TOLD[news["error"]](news["text"])
        _fill(out, arrays)
        if push is not None:
            self.answered.append(push)
        return news

    def late_answers_come(self):
        """Into the arrays that were meant for them."""
        late, self._late_answers = self._late_answers, []
        for out, arrays in late:
            _fill(out, arrays)


class Line:
    """A `Connection` whose calls go by a `Network`."""

    shares_memory = False
    bytes_sent = bytes_received = 0

    def __init__(self, network, life, worker, server):
        self.address = f"center-{server}.invalid:1"
        self._network = network
        self._life = life
        self._worker = worker
        self._server = server

    def call(self, name, timeout_s, **arguments):
        assert timeout_s > 0
        return self._carry(name, arguments, None, ())

    def stream(self, name, timeout_s, header, sent, out=()):
        assert timeout_s > 0
        return self._carry(name, header, [a.copy() for a in sent], out)

    def _carry(self, name, header, arrays, out):
        network = self._network
        packed = wire.pack(header)
        message = Message(self._life, name, packed, arrays, network.beats)
        return network.carry(self._server, self._worker, message, out)

    def break_off(self):
        pass

    close = break_off


def joined(network, life, worker, rule, clock=None):
    """A worker's client, and the center as it has found it."""

    def line(address, shard, security, group=0):
        del address, security
        return Line(network, life, worker, shard)

    made = timeless_client.of_one_thread(
        line, [""] * SERVERS, worker, worker == 0, WORKERS, clock=clock
    )
    center = made.join(
        layout.Layout(LAYOUT, SERVERS, rule), copy.deepcopy(INITIAL)
    )
    return made, center


def elastic_rates(num_workers, clock):
    del clock
    return core.elastic_rates(num_workers, beta=BETA)._asdict()


class Worker:
    """One process."""

    def __init__(self, network, life, index, rule, clock=None):
        self.life = life
        self.index = index
        self.client, center = joined(network, life, index, rule, clock)
        self.begin(center)

    def begin(self, center):
        self.x = center[0].copy()
        self.read = self.x.copy()
        self.statistics = center[1] + self.index

    def exchange(self):
        return self.client.exchange(self.points(), elastic_rates)

    def read_and_push(self):
        return self.client.read_and_push(self.points(), elastic_rates)

    def take(self):
        return self.client.take(
            [self.x - self.read, self.statistics.copy()],
            lambda num_workers, clock: {},
        )

    def push(self):
        return self.client.push(
            [self.x - self.read, np.zeros_like(self.statistics)],
            lambda num_workers, clock: {},
        )

    def points(self):
        return [self.x.copy(), self.statistics.copy()]
