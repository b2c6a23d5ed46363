"""Clusters in which all goes wrong, and what that does to the center's loss.

A *schedule* is a seed: a virtual cluster of uneven workers that begin late,
stand still, die and come again, or stop early, as drawn. Its moves are
followed by the rules of `core` in NumPy, on a quadratic whose gradients are
noisy, from far away.

Of each update of the center it is asked by how much that has raised its loss.
An update is *ordinary* if its worker has missed no more turns than one of the
same cluster does in which nothing goes wrong; all else are *other* ones.
"""

import functools
import itertools
from typing import Any
from typing import NamedTuple

import numpy as np

from tf_elastic import core
from tf_elastic.core import lateness
from tf_elastic.core import local_steps
from tf_elastic.core import orders
from tf_elastic.core import rules
from tf_elastic.core.rules.base import CENTER
from tf_elastic.timeline.virtual import Exponential
from tf_elastic.timeline.virtual import LogNormal
from tf_elastic.timeline.virtual import Pauses
from tf_elastic.timeline.virtual import Timing
from tf_elastic.timeline.virtual import VirtualTimeline
from tf_elastic.timeline.virtual import Workload
from tf_elastic.timeline.virtual import moves

CURVATURES = np.geomspace(0.1, 1.0, 8)
START = np.full(len(CURVATURES), 4.0)
NOISE = 1.0
RATE = 0.1
BETA = 0.9


class Way(NamedTuple):
    """What is exchanged how, and how workers step."""

    name: str
    rule: Any
    period: int
    protocol: str
    rate: Any = lambda p, period: RATE  # of (p, period)
    momentum: float = 0.0


def _ways():
    protocols = ("blocking", "overlapped")
    for period, protocol in itertools.product((1, 10), protocols):
        yield Way("EASGD", rules.Elastic(), period, protocol)
        yield Way(
            *("EAMSGD", rules.Elastic(), period, protocol),
            lambda p, period: RATE / 10,
            0.9,
        )
        # These add up: with p the rate gets smaller (docs/methods.md).
        yield Way(
            *("DOWNPOUR", rules.Add(), period, protocol),
            lambda p, period: min(RATE, 1 / (p * period)),
        )
        if period == 1:
            yield Way(
                *("gradients", rules.HeavyBall(), period, protocol),
                lambda p, period: min(RATE, 0.4 / p),
                0.5,
            )


WAYS = tuple(_ways())
WORKERS = (2, 3, 4, 8)
SPEEDS = ("lognormal", "slow_2", "slow_5")
TURNS = 80


class Schedule(NamedTuple):
    """A cluster and what goes wrong in it."""

    seed: int
    way: Way
    p: int
    speeds: str  # of SPEEDS
    timing: Timing
    seconds: float  # its end

    def timeline(self, max_lag, timing=None):
        """The moves, without their end.

        Args:
            max_lag: see `core.lateness`.
            timing: another one; None for its own.
        """
        way = self.way
        load = Workload(way.rule, way.protocol, way.period)
        if not load.is_before:
            load = load._replace(phase=way.period - 1)
        return VirtualTimeline(
            timing or self.timing, load, self.p, seed=self.seed, max_lag=max_lag
        )

    def undisturbed(self):
        """The same steps and links, where nothing goes wrong."""
        own = self.timing
        return Timing(own.step, own.speeds, latency=own.latency)


def schedule(seed):
    """The schedule of a seed."""
    rng = np.random.default_rng([seed, 31])
    way = WAYS[seed % len(WAYS)]
    p = WORKERS[seed // len(WAYS) % len(WORKERS)]
    turn = float(way.period)  # s: a step takes one
    end = TURNS * turn
    # Two are there from the beginning to the end: of a single worker that is
    # left docs/limits.md tells.
    others = rng.permutation(p)[2:].tolist()
    wrong = {
        "pauses": Pauses(1.5 / end, Exponential(rng.uniform(2, 40) * turn)),
        "joins": [
            (i, rng.uniform(0.05, 0.5) * end)
            for i in others
            if rng.random() < 0.4
        ],
        "deaths": [
            (i, rng.uniform(0.5, 0.95) * end)
            for i in others
            if rng.random() < 0.6
        ],
    }
    if rng.random() < 0.5:  # Else they have stopped early.
        wrong["recovery"] = Exponential(rng.uniform(2, 20) * turn)
    latency = float(rng.choice([0.0, 0.02, 0.2]))
    speeds = SPEEDS[seed // len(WAYS) // len(WORKERS) % len(SPEEDS)]
    sigma, slowness = 0.5, 1.0
    if speeds != "lognormal":
        sigma, slowness = 0.1, float(speeds.removeprefix("slow_"))
    each = np.ones(p)
    each[rng.integers(p)] /= slowness
    timing = Timing(
        LogNormal(1.0, sigma), each.tolist(), latency=latency * turn, **wrong
    )
    return Schedule(seed, way, p, speeds, timing, end)


class Followed(NamedTuple):
    """What has become of a schedule."""

    ordinary: float  # the largest rise of the center's loss at one update
    other: float  # the same, of workers that have missed more turns
    num_ordinary: int
    num_other: int
    num_dropped: int
    loss: float  # the center's at the end


def loss(point):
    """Of a point; the optimum is at 0."""
    return float(0.5 * (CURVATURES * point**2).sum())


class Bank:
    """Workers and their center, moved by one move after another.

    Args:
        found: the schedule.
        weighed_above: see `followed`.
    """

    def __init__(self, found, weighed_above=None):
        way, p = found.way, found.p
        self._weighed_above = weighed_above
        self._weights = [1.0] * p
        self.way, self.rule = way, way.rule
        self.overlapped = way.protocol == "overlapped"
        self.learning_rate = way.rate(p, way.period)
        self.slots = dict(self.rule.init(START))
        self.x = np.tile(START, (p, 1))
        self.v = np.zeros_like(self.x)
        self.base = self.x.copy()  # increments count from here
        self.slope = np.zeros_like(self.x)
        self.mail = np.full_like(self.x, np.nan)
        self.noises = [
            np.random.default_rng([found.seed, 32, i]) for i in range(p)
        ]

    @property
    def center(self):
        """The center's point."""
        return self.slots[CENTER]

    def weigh(self, i, lag):
        """What the exchange that worker i is at counts for."""
        if self._weighed_above is not None and self.rule.answers_difference:
            self._weights[i] = min(1.0, self._weighed_above / max(lag, 1e-9))

    def rates(self, move):
        p = max(move.num_workers, 1)
        weight = self._weights[move.worker] if move.worker >= 0 else 1.0
        return {
            **core.elastic_rates(p, beta=BETA * weight)._asdict(),
            "num_workers": p,
            "learning_rate": self.learning_rate,
            "momentum": self.way.momentum,
        }

    def do(self, move):
        """Does what a move says."""
        getattr(self, moves.NAMES[move.kind])(move.worker, move)

    # Steps.

    def take_gradient(self, i):
        at = self.x[i]
        if self.way.momentum and self.rule.sends != rules.GRADIENT:
            at = local_steps.lookahead_point(at, self.v[i], self.way.momentum)
        noise = self.noises[i].normal(size=at.shape)
        self.slope[i] = CURVATURES * at + NOISE * noise

    def take_step(self, i):
        if self.rule.sends != rules.GRADIENT:
            self.x[i], self.v[i] = local_steps.momentum_step(
                *(self.x[i], self.v[i], self.slope[i]),
                *(self.learning_rate, self.way.momentum),
            )

    def step(self, i, move):
        self.take_gradient(i)
        self.take_step(i)

    def settling_step(self, i, move):
        self.take_gradient(i)
        self.settle(i, move)
        self.take_step(i)

    def visiting_step(self, i, move):
        self.take_gradient(i)
        self.visit(i, move)
        self.take_step(i)

    def visit(self, i, move):
        self.make(i, move)
        self.arrive(i, move)
        self.settle(i, move)

    # Messages.

    def make(self, i, move):
        self.mail[i] = {
            rules.POINT: self.x[i],
            rules.GRADIENT: self.slope[i],
            rules.INCREMENT: rules.increment(self.x[i], self.base[i]),
        }[self.rule.sends]
        if self.overlapped:
            self.base[i] = self.x[i]

    def turn_over(self, i, move):
        done = rules.increment(self.x[i], self.base[i])
        self.settle(i, move)
        self.base[i] = self.x[i]
        sends_done = self.rule.sends == rules.INCREMENT
        self.mail[i] = done if sends_done else self.slope[i]

    def settle(self, i, move):
        answer = self.mail[i]
        if self.rule.answers_difference:
            self.x[i] = self.rule.settle(self.x[i], answer, self.rates(move))
            return
        if self.rule.sends == rules.INCREMENT and self.overlapped:
            answer = orders.go_on(answer, self.x[i], self.base[i])
        self.x[i] = self.base[i] = answer

    # The center.

    def moved_by(self, delta, move):
        context = rules.Context(
            float(move.version), float(max(move.staleness, 1))
        )
        rates = self.rule.rates_at(self.rates(move), context)
        self.slots = dict(self.rule.apply(self.slots, delta, rates))

    def read(self, i, move):
        self.mail[i] = self.rule.delta(self.mail[i], self.slots)

    def apply(self, i, move):
        self.moved_by(self.mail[i], move)

    def arrive(self, i, move):
        delta = self.rule.delta(self.mail[i], self.slots)
        self.moved_by(delta, move)
        self.mail[i] = delta
        if not self.rule.answers_difference:
            self.answer(i, move)

    def answer(self, i, move):
        self.mail[i] = self.rule.begin(self.slots, self.rates(move))

    # What is left out, or dead, is poison: if anything of it came to the
    # center, that would be no number.

    def drop(self, i, move):
        self.mail[i] = np.nan
        if self.rule.answers_difference:
            self.x[i] = self.v[i] = np.nan
        elif not self.overlapped:
            self.x[i] = self.base[i] = np.nan

    def die(self, i, move):
        self.mail[i] = self.x[i] = self.v[i] = self.base[i] = np.nan

    # Lives.

    def restart(self, i, move):
        self.x[i] = self.base[i] = self.rule.begin(self.slots, self.rates(move))
        self.v[i] = 0.0

    join = restart


# By these a worker hears of the center's newest version.
TOLD = (moves.RESTART, moves.JOIN, moves.ANSWER)


def lags(found, timeline):
    """(move, lag) until the end of a schedule.

    Args:
        found: the schedule.
        timeline: of its workers.

    Yields:
        Each move and, of an update of the center and of what is left out, its
        worker's lag; else None.
    """
    settled = [0] * found.p
    for move in timeline.moves():
        if move.time >= found.seconds:
            return
        i, is_update = move.worker, move.kind in moves.UPDATES
        lag = None
        if is_update or move.kind == moves.DROP:
            lag = lateness.lag(move.version - settled[i], move.num_workers)
        yield move, lag
        if is_update or move.kind in TOLD:
            settled[i] = move.version + is_update


@functools.cache
def ordinary_lag(seed):
    """The largest lag of a schedule's workers if nothing goes wrong."""
    found = schedule(seed)
    timeline = found.timeline(None, found.undisturbed())
    return max(lag for _, lag in lags(found, timeline) if lag is not None)


def followed(found, max_lag, weighed_above=None):
    """Trains by a schedule.

    Args:
        found: the schedule.
        max_lag: see `core.lateness`.
        weighed_above: a lag; an elastic exchange with a higher one has rates
            that are smaller in proportion, on both ends. None for none. (No
            strategy does that.)
    """
    bank = Bank(found, weighed_above)
    usual = ordinary_lag(found.seed)
    ordinary, other, dropped = [], [], 0
    for move, lag in lags(found, found.timeline(max_lag)):
        if move.kind not in moves.UPDATES:
            bank.do(move)
            dropped += move.kind == moves.DROP
            continue
        before = loss(bank.center)
        bank.weigh(move.worker, lag)
        bank.do(move)
        rises = other if lag > usual else ordinary
        rises.append(loss(bank.center) - before)
    return Followed(
        max(ordinary, default=0.0),
        max(other, default=0.0),
        len(ordinary),
        len(other),
        dropped,
        loss(bank.center),
    )
