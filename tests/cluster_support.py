"""Center servers and workers in this process, over loopback."""

import contextlib
import pathlib
import shutil
import tempfile
import time

import numpy as np

from tf_elastic import core
from tf_elastic.cluster import layout
from tf_elastic.cluster.center.node import Node
from tf_elastic.cluster.center.server import CenterServer
from tf_elastic.cluster.center.snapshots import SnapshotError
from tf_elastic.cluster.center.snapshots import SnapshotStore
from tf_elastic.cluster.launch.security import Security
from tf_elastic.cluster.transport import addresses
from tf_elastic.cluster.worker import client
from tf_elastic.cluster.worker import exchanger
from tf_elastic.cluster.worker import moved as kinds
from tf_elastic.cluster.worker import patience
from tf_elastic.cluster.worker.exchanger import Exchanger

# Generous where nothing is meant to fail: the machine may be busy.
PATIENT = patience.Timeouts(
    join_s=60.0,
    exchange_s=30.0,
    heartbeat_s=0.2,
    control_s=20.0,
    barrier_s=60.0,
)
BETA = 0.9
N = 21  # parameters; odd, so that two shards differ
STATISTICS = 3

VARIABLES = (
    layout.VariableSpec("kernel", (3, 4), "float64", layout.PARAMETERS),
    layout.VariableSpec("mean", (STATISTICS,), "float64", layout.STATISTICS),
    layout.VariableSpec("bias", (7,), "float64", layout.PARAMETERS),
    layout.VariableSpec("scale", (2,), "float64", layout.PARAMETERS),
)


def new_node(*args, now=time.monotonic, **options):
    """A `Node` that goes by the time."""
    return Node(*args, now=now, **options)


def rates(num_workers, clock):
    """beta / p for each worker, whatever its clock."""
    del clock
    return core.elastic_rates(num_workers, beta=BETA)._asdict()


def fixed_rates(moving_rate, beta):
    """The same rates for any p."""
    fixed = {"moving_rate": moving_rate, "beta": beta}
    return lambda num_workers, clock: fixed


def push_rate(beta, num_workers):
    """What comes with an elastic push."""
    return {"beta": beta, "num_workers": num_workers}


def values(generator_or_value=0.0):
    """One array for each section of `VARIABLES`."""
    if isinstance(generator_or_value, np.random.Generator):
        return [
            generator_or_value.normal(size=size) for size in (N, STATISTICS)
        ]
    return [np.full(size, generator_or_value) for size in (N, STATISTICS)]


class Cluster:
    """Servers in this process, and clients of theirs; ended by `close`."""

    def __init__(
        self,
        num_shards=1,
        variables=VARIABLES,
        security=None,
        rule=None,
        shares_memory=True,
        **shard_options,
    ):
        self.security = security or Security()
        self.shares_memory = shares_memory
        shard_options = {"grace_s": 0.02, **shard_options}
        self.layout = layout.Layout(variables, num_shards, rule)
        self.shards = [
            new_node(k, num_shards, **shard_options) for k in range(num_shards)
        ]
        self.centers = [
            f"127.0.0.1:{port}" for port in addresses.free_ports(num_shards)
        ]
        self._end = contextlib.ExitStack()
        self.servers = []
        try:
            for k in range(num_shards):
                self.serve(k)
        except BaseException:
            self.close()
            raise

    def serve(self, index, shard=None):
        """Serves one shard, if it is a new one instead of the former."""
        if shard is not None:
            self.shards[index] = shard
        server = CenterServer(
            self.shards[index],
            self.centers[index],
            self.security,
            shares_memory=self.shares_memory,
        )
        self._end.callback(server.stop, 0.0)
        server.start()
        self.servers[index:] = [server, *self.servers[index + 1 :]]
        return server

    def client(
        self,
        worker,
        expected=1,
        codec="none",
        timeouts=PATIENT,
        chief=None,
        security=None,
        around=None,
        max_lag=None,
    ):
        """A client that has not joined.

        It is never late, if a test does not say so: where several are at work
        a busy machine may let one run more than another.
        """
        made = client.CenterClient(
            self.centers,
            worker,
            worker == 0 if chief is None else chief,
            expected,
            security or self.security,
            codec=codec,
            timeouts=timeouts,
            around=around,
            max_lag=max_lag,
        )
        self._end.callback(made.leave)
        return made

    def workers(
        self, count, start, protocol="blocking", around=None, **options
    ):
        """Workers that have joined, the chief first.

        `start(i)` are the sections that worker i begins with, and `around`
        gives each its `Surroundings`.
        """
        made = []
        for i in range(count):
            joined = self.client(
                i, count, around=around and next(around), **options
            )
            joined.join(self.layout, start(i))
            made.append(Worker(joined, start(i), protocol, rates))
        for worker in made:
            worker.client.read()  # p may have grown since it joined.
        return made

    def center(self):
        """What the servers hold, section by section."""
        flat = self.layout.zeros()
        for shard in self.shards:
            parts = self.layout.parts(flat, shard.index)
            for part, array in zip(parts, shard.arrays, strict=True):
                part[...] = array
        return flat

    def close(self):
        self._end.close()


class Worker:
    """A worker without TensorFlow: its points, and its exchanges."""

    def __init__(self, joined, start, protocol, rates):
        self.client = joined
        self.exchanger = Exchanger(
            joined, protocol, lambda p, clock, numbers: rates(p, clock)
        )
        self.x = [array.copy() for array in start]
        self.v = np.zeros_like(self.x[0])
        self.clock = 0

    def obey(self, order):
        """Does to the parameters what an order says."""
        if order.kind == kinds.PULL:
            self.x[0] = core.pull(self.x[0], order.arrays[0], order.moving_rate)
        elif order.kind == kinds.RESTART:
            self.x = [array.copy() for array in order.arrays]
            self.v = np.zeros_like(self.x[0])

    def sent(self):
        """Copies: what has left does not change."""
        return [array.copy() for array in self.x]

    def moment(self):
        return exchanger.Moment(self.clock, self.clock)

    def begin(self):
        """Before the first turn: goes where the center is by now."""
        if self.clock == 0:
            self.obey(self.exchanger.begin(self.moment()))

    def exchange(self):
        """At once: the blocking protocol, or the synchronous."""
        self.obey(self.exchanger.now(self.moment(), self.sent()))

    def overlap(self):
        """The end of a period and the start of the next."""
        self.obey(self.exchanger.collect(self.moment()))
        self.exchanger.send(self.moment(), self.sent())
        self.served()

    def served(self):
        """Waits until the center has what was sent."""
        # Only to fix the order of service; nobody else looks in there.
        if self.exchanger.in_flight:
            self.exchanger._pending.result(timeout=60)

    def pending(self):
        """alpha times the difference that is under way."""
        if not self.exchanger.in_flight:
            return np.zeros_like(self.x[0])
        moved = self.exchanger._pending.result(timeout=60)
        return moved.moving_rate * moved.arrays[0]

    def step(self, gradient, learning_rate, momentum, at=None):
        """One local step; the gradient at `at`, before its exchange."""
        at = self.x[0] if at is None else at
        if momentum:
            point = core.lookahead_point(at, self.v, momentum)
        else:
            point = at
        slope = gradient(self.client.worker, self.clock, point)
        if momentum:
            self.x[0], self.v = core.momentum_step(
                self.x[0], self.v, slope, learning_rate, momentum
            )
        else:
            self.x[0] = core.sgd_step(self.x[0], slope, learning_rate)
        self.clock += 1


def until(condition, seconds=120.0):
    """Waits until `condition()` holds, and returns what it returned.

    As long as it may take on a machine that does much else.
    """
    end = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < end, f"not within {seconds:g} s"
        time.sleep(0.01)
    return found


def newest_snapshot(folder):
    """The state that a server's folder holds, None if it holds none yet.

    The server goes on meanwhile, and removes what is old.
    """
    with tempfile.TemporaryDirectory() as copy:
        for file in pathlib.Path(folder).glob("center-*.snapshot"):
            with contextlib.suppress(FileNotFoundError):
                shutil.copy(file, copy)
        with contextlib.closing(SnapshotStore(copy)) as store:
            try:
                found = store.load()
            except SnapshotError:  # It was removed while it was copied.
                return None
        return None if found is None else found.state


def soon(seconds=60.0):
    """A deadline, so many seconds from now."""
    return time.monotonic() + seconds


def is_cut_off(plain):
    """Whether the other end of a socket has closed it, within a while."""
    plain.settimeout(60)
    try:
        return plain.recv(1) == b""
    except ConnectionError:
        return True
