"""Trees of live nodes in this process, driven event by event.

Nothing happens by itself: a node takes its turn, carries a message up, or
hears one from above, when the schedule says so.
"""

import contextlib
import time

import numpy as np

from tests import cluster_support as support
from tests import timeless_client
from tests.timeless_client import Awake
from tests.timeless_client import Clock
from tf_elastic import core
from tf_elastic.cluster import errors
from tf_elastic.cluster import layout
from tf_elastic.cluster import tree_numbers
from tf_elastic.cluster.center.one_way_settings import OneWaySettings
from tf_elastic.cluster.center.server import CenterServer
from tf_elastic.cluster.launch.security import Security
from tf_elastic.cluster.transport import addresses
from tf_elastic.cluster.transport import wire
from tf_elastic.cluster.transport.connection import Connection
from tf_elastic.cluster.transport.direct import DirectServers
from tf_elastic.cluster.worker.edge_to import edge_to
from tf_elastic.cluster.worker.surroundings import Surroundings
from tf_elastic.core import one_way
from tf_elastic.core import protocols
from tf_elastic.core import rules
from tf_elastic.core import topology
from tf_elastic.timeline import event as happened
from tf_elastic.timeline import stream

N = 5
ETA, ALPHA = 0.05, 0.3
UP, DOWN, MOST = 2, 3, 2
INITIAL = np.linspace(-1.0, 2.0, N)
LAYOUT = layout.Layout(
    [layout.VariableSpec("w", (N,), "float64", layout.PARAMETERS)], 1
)
TREE = topology.tree(2, 2, topology.up_down(UP, DOWN))
PARENTS = {edge.child: edge.parent for edge in TREE.edges}

# What becomes of a message.
DROPPED = "it is lost"
UNANSWERED = "its answer is lost"
DOUBLED = "it comes twice"


def settings(**changes):
    made = OneWaySettings(ALPHA, UP, DOWN, MOST, max_lag=None)
    return made._replace(**changes)


def member(number=1):
    """What child 0 sends a message with."""
    return {
        "worker": 0,
        "incarnation": 1,
        "number": number,
        "followed": 0,
        "clock": 0,
        "samples": 0,
    }


def schedule(seed, events, tree=TREE):
    """Events of `reference.easgd_tree`, by chance."""
    generator = np.random.default_rng(seed)
    made = []
    for _ in range(events):
        what = str(generator.choice(["turn", "up", "down"]))
        nodes = tree.nodes if what == "turn" else tree.nodes[1:]
        made.append((what, str(generator.choice(nodes))))
    return made


class Faulty:
    """A line on which some messages are lost, or come twice.

    Args:
        line: that carries them.
        fault: called for each message with arrays, but that of reading;
            what becomes of it, or None.
    """

    def __init__(self, line, fault):
        self._line = line
        self._fault = fault

    def __getattr__(self, name):
        return getattr(self._line, name)

    def stream(self, name, timeout_s, header, sent, out=()):
        fault = self._fault() if name in (wire.SEND, wire.LISTEN) else None
        if fault == DROPPED:
            raise errors.CenterUnavailableError(f"{name}: {fault}")
        if fault == DOUBLED:
            with contextlib.suppress(errors.NothingSentError):
                self._line.stream(name, timeout_s, header, sent, out)
        answer = self._line.stream(name, timeout_s, header, sent, out)
        if fault == UNANSWERED:
            raise errors.CenterUnavailableError(f"{name}: {fault}")
        return answer


def upstream(
    line, worker, is_chief=True, most=MOST, clock=None, parent=0, told=None
):
    """An edge to whoever is at the other end of a line."""
    clock = clock or Clock()
    return edge_to(
        "",
        0,
        worker,
        may_begin=is_chief,
        most_waiting=most,
        centers=[parent],
        timeouts=timeless_client.IMPATIENT,
        around=Surroundings(
            now=clock,
            connect=lambda *_: line,
            stopped=Awake(clock),
            beats=False,
            events=told,
        ),
    )


def number_of(name):
    """By which number a node of `TREE` is known to its parent."""
    if name in TREE.leaves:
        return TREE.leaves.index(name)
    return tree_numbers.NODES + center_of(name)


def center_of(name):
    """The index of a node of `TREE` that is no leaf; the root's is 0."""
    return [TREE.root, *TREE.inner].index(name)


class Leaf:
    """A worker: it moves by gradients as well."""

    def __init__(self, edge, gradient=None):
        self.upstream = edge
        self.x = INITIAL.copy()
        self.clock = 0
        self._gradient = gradient
        self._protocol = protocols.OneWay(rules.Elastic(), UP)

    def join(self):
        [self.x] = self.upstream.join(LAYOUT, [self.x.copy()])
        self.upstream.events.stream.tell(
            happened.START,
            incarnation=self.upstream.parent.incarnation,
            step_applied=self.clock,
            version_read=self.upstream.parent.version_read,
            settings={"most_waiting": MOST},
        )

    def turn(self):
        inbox = self.upstream.inbox
        for action in self._protocol.on(
            protocols.GRADIENT, self.clock, inbox.edges()
        ):
            if action.kind == protocols.SEND:
                self.upstream.put([self.x.copy()], self.clock, self.clock)
                continue
            waiting = inbox.take(action.edge)
            self.upstream.followed = waiting.parents
            [came] = waiting.values
            rate = None if waiting.restart else ALPHA
            self.upstream.events.follows(waiting, self.clock, rate)
            if waiting.restart:
                self.x = came.copy()
                continue
            self.x = one_way.from_parent(
                rules.Elastic(),
                came,
                {"center": self.x},
                one_way.rates(ALPHA),
            )["center"]
        if self._gradient is not None:
            slope = self._gradient(self.clock, self.x)
            self.x = core.sgd_step(self.x, slope, ETA)
        self.clock += 1

    def point(self):
        return self.x


class Inner:
    """A node that is served; the root has no upstream."""

    def __init__(self, edge=None, now=lambda: 0.0, events=None, **changes):
        self.upstream = edge
        self.node = support.new_node(
            grace_s=0.0,
            lease_s=600.0,
            one_way=settings(**changes),
            upstream=edge,
            now=now,
            events=events,
        )

    def join(self):
        self.node.above.join()

    def turn(self):
        self.node.one_way.turn()

    def point(self):
        return self.node.arrays[0].copy()


class Direct:
    """Nodes that call each other."""

    def __init__(self, fault=None):
        self.servers = DirectServers()
        self._fault = fault

    def serve(self, name, node):
        self.servers.serve(name, node)

    def line(self, name):
        line = self.servers.connect(name)
        return Faulty(line, self._fault) if self._fault else line

    def close(self):
        pass


class Sockets:
    """Nodes behind servers of this machine."""

    def __init__(self):
        self._end = contextlib.ExitStack()
        self._addresses = {}

    def serve(self, name, node):
        [port] = addresses.free_ports(1)
        self._addresses[name] = f"127.0.0.1:{port}"
        server = CenterServer(node, self._addresses[name], Security())
        self._end.callback(server.stop, 0.0)
        server.start()

    def line(self, name):
        line = Connection(self._addresses[name], 0, Security())
        self._end.callback(line.close)
        return line

    def close(self):
        self._end.close()


class Tree:
    """Nodes of `TREE`, all where they begin.

    Args:
        transport: `Direct` or `Sockets`.
        gradient: of (leaf's number, its clock, point).
        told: is told of all that happens; None for nobody.
    """

    def __init__(self, transport, gradient, told=None):
        self.members = {}
        now = (
            time.monotonic if isinstance(transport, Sockets) else (lambda: 0.0)
        )
        for name in TREE.nodes:
            edge = None
            if name != TREE.root:
                parent = PARENTS[name]
                edge = upstream(
                    transport.line(parent),
                    number_of(name),
                    TREE.children(parent).index(name) == 0,
                    parent=center_of(parent),
                    told=told,
                )
            if name not in TREE.leaves:
                events = stream.of_center(center_of(name), 0, time.time)
                if told is not None:
                    events.listen(told)
                made = Inner(edge, now, events)
                transport.serve(name, made.node)
            else:
                number = TREE.leaves.index(name)
                made = Leaf(
                    edge, lambda step, x, k=number: gradient(k, step, x)
                )
            self.members[name] = made
        inner = [n for n in TREE.nodes[1:] if n not in TREE.leaves]
        for name in (*TREE.leaves, *inner):
            self.members[name].join()

    def do(self, what, name):
        """One event; what was lost is sent once more."""
        member = self.members[name]
        if what == "turn":
            member.turn()
            return
        edge = member.upstream
        do = edge.carry if what == "up" else lambda: edge.hear(0.0)
        do()
        while edge.is_away:
            edge.beat()
            do()

    def run(self, events):
        """{name: its points, before the first event and after each}."""
        rows = {name: [m.point()] for name, m in self.members.items()}
        for event in events:
            self.do(*event)
            for name, member in self.members.items():
                rows[name].append(member.point())
        return {name: np.stack(row) for name, row in rows.items()}

    def lost(self):
        """{(sender, receiver): messages that were superseded}."""
        found = {}
        for name, member in self.members.items():
            told = {"not_seen": {}, "not_heard": {}}
            if isinstance(member, Inner):
                told = member.node.status()["one_way"]
            else:
                [count] = member.upstream.inbox.overflowed().values() or [0]
                told["not_seen"] = {protocols.PARENT: count}
            children = {number_of(c): c for c in TREE.children(name)}
            for where in ("not_seen", "not_heard"):
                for edge, count in told[where].items():
                    if edge == protocols.PARENT:
                        pair = PARENTS[name], name
                    elif where == "not_seen":
                        pair = children[int(edge)], name
                    else:
                        pair = name, children[int(edge)]
                    found[pair] = found.get(pair, 0) + count
            if member.upstream is not None:
                pair = name, PARENTS[name]
                count = member.upstream.overflowed()
                found[pair] = found.get(pair, 0) + count
        return {pair: count for pair, count in found.items() if count}
