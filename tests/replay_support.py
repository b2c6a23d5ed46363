"""Moves, followed in NumPy: a bank of workers on a quadratic, and a center."""

import numpy as np

from tf_elastic import core
from tf_elastic.core import orders
from tf_elastic.core import rules
from tf_elastic.timeline.virtual import moves


class Bank:
    """p workers and their center, float64.

    Args:
        timeline: of a rule and a protocol; see `RecordedTimeline`.
        initial: where all begin.
        gradient: of (worker, call of its optimizer, point).
        rates: of p; those of an exchange.
        learning_rate: of a local step.
        momentum: Nesterov's, of a local step.
    """

    def __init__(
        self, timeline, initial, gradient, rates, learning_rate, momentum=0.0
    ):
        self.rule, self.gradient, self.rates = timeline.rule, gradient, rates
        self.overlapped = timeline.protocol == "overlapped"
        self.learning_rate, self.momentum = learning_rate, momentum
        p = timeline.num_workers
        self.center = dict(self.rule.init(np.array(initial)))
        self.x = np.tile(initial, (p, 1))
        self.v = np.zeros_like(self.x)
        self.base = self.x.copy()  # increments count from here
        self.slope = np.zeros_like(self.x)
        self.mail = np.full_like(self.x, np.nan)
        self.sum = np.zeros_like(initial)
        self.updates = 0
        self.staleness = []
        self.steps = [0] * p

    def follow(self, timeline):
        for move in timeline.moves():
            assert move.version == self.updates, move
            getattr(self, moves.NAMES[move.kind])(move.worker, move)
            if move.kind in moves.UPDATES:
                self.updates += 1
                self.staleness.append(move.staleness)

    # Steps.

    def take_gradient(self, i, move):
        assert move.clock == self.steps[i], move
        at = self.x[i] + self.momentum * self.v[i]
        self.slope[i] = self.gradient(i, move.clock, at)

    def take_step(self, i):
        self.steps[i] += 1
        if self.rule.sends == rules.GRADIENT:
            return
        if self.momentum:
            self.v[i] *= self.momentum
            self.v[i] -= self.learning_rate * self.slope[i]
            self.x[i] += self.v[i]
        else:
            self.x[i] -= self.learning_rate * self.slope[i]

    def step(self, i, move):
        self.take_gradient(i, move)
        self.take_step(i)

    def settling_step(self, i, move):
        self.take_gradient(i, move)
        self.settle(i, move)
        self.take_step(i)

    # Messages.

    def message(self, i):
        if self.rule.sends == rules.POINT:
            return self.x[i].copy()
        if self.rule.sends == rules.GRADIENT:
            return self.slope[i].copy()
        return self.x[i] - self.base[i]

    def make(self, i, move):
        self.mail[i] = self.message(i)
        if self.overlapped:
            self.base[i] = self.x[i]

    def turn_over(self, i, move):
        message = self.message(i)
        self.settle(i, move)
        self.base[i] = self.x[i]
        self.mail[i] = message

    def settle(self, i, move):
        if self.rule.answers_difference:
            rates = self.rates(move.num_workers)
            self.x[i] = self.rule.settle(self.x[i], self.mail[i], rates)
            return
        point = self.mail[i].copy()
        if self.rule.sends == rules.INCREMENT and self.overlapped:
            self.x[i] = orders.go_on(point, self.x[i], self.base[i])
        else:
            self.x[i] = point
        self.base[i] = point

    def drop(self, i, move):
        self.mail[i] = np.nan

    # The center.

    def read(self, i, move):
        self.mail[i] = self.rule.delta(self.mail[i], self.center)

    def moved_by(self, delta, move):
        rates = self.rates(move.num_workers)
        if move.kind == moves.COLLECT and self.rule.sends == rules.POINT:
            if not self.rule.answers_difference:
                rates["num_workers"] = move.count
        context = rules.Context(
            float(move.version), float(max(move.staleness, 1)), move.count
        )
        now = self.rule.rates_at(rates, context)
        self.center = dict(self.rule.apply(self.center, delta, now))

    def apply(self, i, move):
        self.moved_by(self.mail[i], move)

    def arrive(self, i, move):
        delta = self.rule.delta(self.mail[i], self.center)
        self.moved_by(delta, move)
        if self.rule.answers_difference:
            self.mail[i] = delta
        else:
            self.answer(i, move)

    def add(self, i, move):
        self.mail[i] = self.rule.delta(self.mail[i], self.center)
        self.sum = self.sum + self.mail[i]

    def collect(self, i, move):
        self.moved_by(self.sum, move)
        self.sum = np.zeros_like(self.sum)

    def point(self, move):
        return self.rule.begin(self.center, self.rates(move.num_workers))

    def answer(self, i, move):
        self.mail[i] = self.point(move)

    # Lives.

    def restart(self, i, move):
        self.x[i] = self.base[i] = self.point(move)
        self.v[i] = 0.0

    def join(self, i, move):
        self.restart(i, move)
        self.steps[i] = move.clock

    def die(self, i, move):
        pass


def elastic_rates(beta):
    """Of p, as of `Bank`."""
    return lambda p: {
        **core.elastic_rates(p, beta=beta)._asdict(),
        "num_workers": p,
    }
