"""Workers of the methods that push, without TensorFlow, over real servers."""

import contextlib

import numpy as np
import pytest

from tests import cluster_support as support
from tf_elastic import core
from tf_elastic.cluster.worker import exchanger
from tf_elastic.cluster.worker import moved
from tf_elastic.cluster.worker.exchanger import Exchanger
from tf_elastic.core import rules

UPDATE, GRADIENT, POINTS = "update", "gradient", "points"
ADMM_RULE = rules.MeanOfParts()

INITIAL = np.linspace(-1.0, 2.0, support.N)
TURNS = 30
_GENERATOR = np.random.default_rng(12)
_NOISE = _GENERATOR.normal(size=(3, TURNS, support.N))
_CURVATURE = _GENERATOR.uniform(0.2, 2.0, size=(3, support.N))
_SCHEDULE = _GENERATOR.permutation(np.repeat(np.arange(6), TURNS // 6))


def gradient(worker, step, point):
    """A noisy quadratic, another one for each worker."""
    return _CURVATURE[worker] * point + _NOISE[worker, step]


def schedule(num_workers):
    """Any order, fixed; some come twice before another comes once."""
    return [int(i) % num_workers for i in _SCHEDULE]


def start(worker=0):
    return [INITIAL.copy(), np.full(support.STATISTICS, worker + 1.0)]


def assert_close(found, expected, what=""):
    found, expected = np.asarray(found), np.asarray(expected)
    assert found.shape == expected.shape
    error = np.max(np.abs(found - expected)) / np.max(np.abs(expected))
    assert error < 1e-10, f"{what}: relative error {error:.1e}"


@contextlib.contextmanager
def clusters():
    """`make(num_shards, rule)`: servers whose center follows a rule."""
    with contextlib.ExitStack() as end:

        def make(num_shards=1, rule=None, **options):
            made = support.Cluster(num_shards, rule=rule, **options)
            end.callback(made.close)
            return made

        yield make


@pytest.fixture
def cluster():
    with clusters() as make:
        yield make


class Pusher:
    """A worker that is answered by points: local steps, messages."""

    def __init__(self, joined, center, message, rates, protocol="blocking"):
        self.client = joined
        self.message = message
        self.overlapped = protocol == "overlapped"
        self.exchanger = Exchanger(
            joined,
            protocol,
            lambda p, clock, numbers: rates(p),
        )
        self.x = center[0].copy()
        self.read = self.x.copy()
        self.statistics = start(joined.worker)[1]
        self.gradient = 0 * self.x
        self.clock = 0

    def step(self, learning_rate):
        """A local step; where gradients are pushed, only the gradient."""
        if self.clock == 0:
            self.obey(self.exchanger.begin(exchanger.Moment(0, 0)))
        self.gradient = gradient(self.client.worker, self.clock, self.x)
        self.clock += 1
        if self.message != GRADIENT:
            self.x = self.x - learning_rate * self.gradient

    def outgoing(self):
        message = {
            UPDATE: self.x - self.read,
            GRADIENT: self.gradient,
            POINTS: self.x,
        }[self.message]
        return [message.copy(), self.statistics.copy()]

    def visit(self):
        moment = exchanger.Moment(self.clock, self.clock)
        outgoing = self.outgoing()
        if not self.overlapped:
            return self.obey(self.exchanger.now(moment, outgoing))
        kind = self.obey(self.exchanger.collect(moment))
        assert self.exchanger.send(moment, outgoing)
        self.read = self.x.copy()
        # Only to fix the order of service; nobody else looks in there.
        self.exchanger._pending.result(timeout=60)
        return kind

    def obey(self, order):
        if order.kind == moved.RESTART:
            self.x = order.arrays[0].copy()
            self.read = self.x.copy()
        elif order.kind == moved.TAKE:
            point = order.arrays[0]
            away = np.isnan(point)
            new, left = point, self.x
            if self.overlapped and self.message == UPDATE:
                new, left = point + (self.x - self.read), self.read
            self.read = np.where(away, left, point)
            self.x = np.where(away, self.x, new)
        return order.kind


class AdmmWorker:
    """A worker of ADMM, by the functions of `core.admm`."""

    def __init__(self, joined, center, elasticity):
        self.client = joined
        self.exchanger = Exchanger(
            joined,
            "blocking",
            lambda p, clock, numbers: {},
        )
        self.elasticity = elasticity
        self.x = center[0].copy()
        self.multiplier = 0 * self.x
        self.anchor = self.pushed = self.x
        self.clock = 0

    def turn(self, learning_rate, tau):
        if self.clock == 0:
            order = self.exchanger.begin(exchanger.Moment(0, 0))
            self.x = self.anchor = order.arrays[0].copy()
        slope = gradient(self.client.worker, self.clock, self.x)
        if self.clock % tau == 0:
            self.begin()
        self.x = core.admm.proximal_step(
            self.x,
            slope,
            self.multiplier,
            self.anchor,
            learning_rate,
            self.elasticity,
        )
        self.clock += 1
        if self.clock % tau == 0:
            self.end()

    def begin(self):
        moment = exchanger.Moment(self.clock, self.clock)
        center = self.exchanger.read(moment).arrays[0]
        away = np.isnan(center)
        self.anchor = np.where(away, self.anchor, center)
        dual = core.admm.dual_step(self.multiplier, self.x, self.anchor)
        self.multiplier = np.where(away, self.multiplier, dual)

    def end(self):
        moment = exchanger.Moment(self.clock, self.clock)
        part = core.admm.contribution(self.x, self.multiplier)
        self.exchanger.push(
            moment, [part - self.pushed, np.zeros(support.STATISTICS)]
        )
        self.pushed = part


def joined_workers(center, count, make, **options):
    """`make(client, what it has read)` of workers that have joined."""
    made = []
    for i in range(count):
        client = center.client(i, count, **options)
        made.append(make(client, client.join(center.layout, start(i))))
    for worker in made:
        worker.client.read()  # p may have grown since it joined.
    return made


def slot_of(center, name):
    """What the servers keep beside the parameters, end to end."""
    return np.concatenate(
        [shard.state.slots[name][0] for shard in center.shards]
    )


def shown(center):
    """What evaluation sees of the parameters: read as somebody who looks."""
    return center.client(None).look(center.layout)[0]


# Rules, by the names of the methods.
ADD = rules.Add()
AVERAGED = rules.TimeAverage(rules.Add())
HEAVY_BALL = rules.HeavyBall()
NESTEROV = rules.Nesterov()
MEAN = rules.Mean()
OUTER_NESTEROV = rules.OuterNesterov()
