"""Workers that take turns in virtual time, every move written out by hand.

A *move* is one thing that a worker or the center does, as
`timeline/virtual/moves.py` explains; here it has a `name`, and of its fields
`worker`, `num_workers` (p at that time), `count` (messages in a sum) and
`staleness` are looked at. What a move does is told for each method in the
symbols of its paper: x and v are a worker's, c (and u, its velocity) the
center's, m what is in the worker's mail, and s a statistic, such as a moving
mean: a worker keeps its own, and the center's follows their mean.

`gradient(step, point)` is that of the training step of this number, from 0, of
all workers together; `statistic(step)` what is averaged then.
"""

import numpy as np


class Cluster:
    """Base class: p workers and a center.

    Args:
        gradient: of (step, point).
        statistic: of a step.
        initial: shape (n,), where all begin.
        num_workers: p, with those that come late.
        learning_rate: a number, or a function of the worker's own clock.
    """

    momentum = 0.0  # of local steps
    looks_ahead = False  # whether gradients are taken at x + delta v
    keeps = 0.5  # of a statistic, in a step

    def __init__(
        self, gradient, statistic, initial, num_workers, learning_rate
    ):
        self.gradient, self.statistic = gradient, statistic
        self.learning_rate = learning_rate
        self.x = np.tile(np.array(initial, np.float64), (num_workers, 1))
        self.v = np.zeros_like(self.x)
        self.g = np.zeros_like(self.x)
        self.c = self.x[0].copy()
        self.u = np.zeros_like(self.c)
        self.s, self.c_s = np.zeros(num_workers), 0.0
        self.m = [None] * num_workers
        self.m_s = [None] * num_workers
        self.total, self.total_s = np.zeros_like(self.c), 0.0
        self.clock = [0] * num_workers
        self.steps = 0

    def follow(self, name, move):
        getattr(self, name)(move.worker, move)

    @property
    def stored(self):
        """What the workers' variables hold: where their gradients are taken."""
        ahead = self.momentum if self.looks_ahead else 0.0
        return self.x + ahead * self.v

    def rate(self, i, clock=None):
        clock = self.clock[i] if clock is None else clock
        given = self.learning_rate
        return given(clock) if callable(given) else given

    # Steps.

    def compute(self, i):
        """Takes the gradient of a step, which a move then follows."""
        self.g[i] = self.gradient(self.steps, self.stored[i])
        self.s[i] = self.keeps * self.s[i]
        self.s[i] += (1 - self.keeps) * self.statistic(self.steps)
        self.steps += 1

    def local_step(self, i):
        self.v[i] = self.momentum * self.v[i] - self.rate(i) * self.g[i]
        self.x[i] = self.x[i] + self.v[i]
        self.clock[i] += 1

    def step(self, i, move):
        self.local_step(i)

    def settling_step(self, i, move):
        self.settle(i, move)
        self.local_step(i)

    def visiting_step(self, i, move):
        self.visit(i, move)
        self.local_step(i)

    def visit(self, i, move):
        self.make(i, move)
        self.arrive(i, move)
        self.settle(i, move)

    # Statistics: what the center takes of a difference.

    def share_of_statistic(self, move):
        return 1 / move.num_workers

    def make_s(self, i):
        self.m_s[i] = self.s[i]

    def arrive_s(self, i, move):
        self.c_s += self.share_of_statistic(move) * (self.m_s[i] - self.c_s)

    def add_s(self, i):
        self.total_s += self.m_s[i] - self.c_s

    def collect_s(self, move):
        self.c_s += self.share_of_statistic(move) * self.total_s
        self.total_s = 0.0

    # What goes wrong.

    def point(self):
        """Where a worker begins at the center."""
        return self.c.copy()

    def restart(self, i, move):
        self.x[i], self.v[i], self.s[i] = self.point(), 0.0, self.c_s

    def join(self, i, move):
        self.restart(i, move)
        self.g[i] = 0.0

    def drop(self, i, move):
        self.m[i] = self.m_s[i] = None

    def die(self, i, move):
        self.drop(i, move)

    def answer(self, i, move):
        self.m[i] = self.point()

    def settle(self, i, move):
        self.x[i] = self.m[i]


class Easgd(Cluster):
    """x -= alpha (x - c); c += (beta / p) (x - c), alpha = beta / p."""

    def __init__(self, *args, beta, momentum=0.0, nesterov=False):
        super().__init__(*args)
        self.beta, self.momentum = beta, momentum
        self.looks_ahead = nesterov

    def share_of_statistic(self, move):
        return min(self.beta, 1) / move.num_workers

    def make(self, i, move):
        self.m[i] = self.x[i].copy()
        self.make_s(i)

    def read(self, i, move):
        self.m[i] = self.m[i] - self.c
        self.m_s[i] = self.m_s[i] - self.c_s

    def apply(self, i, move):
        self.c = self.c + self.beta / move.num_workers * self.m[i]
        self.c_s += self.share_of_statistic(move) * self.m_s[i]

    def arrive(self, i, move):
        self.read(i, move)
        self.apply(i, move)

    def add(self, i, move):
        self.read(i, move)
        self.total = self.total + self.m[i]
        self.total_s += self.m_s[i]

    def collect(self, i, move):
        self.c = self.c + self.beta / move.num_workers * self.total
        self.total = 0 * self.total
        self.collect_s(move)

    def settle(self, i, move):
        self.x[i] = self.x[i] - self.beta / move.num_workers * self.m[i]


class Downpour(Cluster):
    """c += x - r, where r is the c that x has come from; x = r = c."""

    def __init__(self, *args, overlapped=False):
        super().__init__(*args)
        self.r = self.x.copy()
        self.overlapped = overlapped

    def make(self, i, move):
        self.m[i] = self.x[i] - self.r[i]
        self.make_s(i)
        if self.overlapped:  # What is done from here on is the next message.
            self.r[i] = self.x[i]

    def arrive(self, i, move):
        self.c = self.c + self.m[i]
        self.arrive_s(i, move)
        self.answer(i, move)

    def turn_over(self, i, move):
        done = self.x[i] - self.r[i]
        self.x[i] = self.r[i] = self.m[i] + done
        self.m[i] = done
        self.make_s(i)

    def add(self, i, move):
        self.total = self.total + self.m[i]
        self.add_s(i)

    def collect(self, i, move):
        self.c = self.c + self.total
        self.total = 0 * self.total
        self.collect_s(move)

    def settle(self, i, move):
        self.x[i] = self.r[i] = self.m[i]

    def restart(self, i, move):
        super().restart(i, move)
        self.r[i] = self.x[i]


class AsyncMsgd(Cluster):
    """u = mu u - eta g / staleness; c += u; x = c.

    With `compensation` g + lambda g g (c - the point that g was taken at)
    takes the place of g.
    """

    def __init__(
        self, *args, center_momentum, compensation=0.0, by_staleness=False
    ):
        super().__init__(*args)
        self.mu, self.compensation = center_momentum, compensation
        self.by_staleness = by_staleness
        self.at = self.x.copy()  # where the newest gradients were taken
        self.m_at = [None] * len(self.x)
        self.m_rate = [None] * len(self.x)

    def local_step(self, i):
        self.at[i] = self.x[i]
        self.clock[i] += 1

    def make(self, i, move):
        self.m[i], self.m_at[i] = self.g[i].copy(), self.at[i].copy()
        self.m_rate[i] = self.rate(i, self.clock[i] - 1)
        self.make_s(i)

    def arrive(self, i, move):
        g = self.m[i]
        g = g + self.compensation * g * g * (self.c - self.m_at[i])
        eta = self.m_rate[i]
        if self.by_staleness:
            eta = eta / max(move.staleness, 1)
        self.u = self.mu * self.u - eta * g
        self.c = self.c + self.u
        self.arrive_s(i, move)
        self.answer(i, move)

    def turn_over(self, i, move):
        answer = self.m[i]
        self.make(i, move)
        self.x[i] = answer


class Mdownpour(AsyncMsgd):
    """The same, but workers go on from c + mu u."""

    def point(self):
        return self.c + self.mu * self.u


class LocalSgd(Cluster):
    """c = mean of those x that have come; x = c."""

    def make(self, i, move):
        self.m[i] = self.x[i].copy()
        self.make_s(i)

    def add(self, i, move):
        self.total = self.total + (self.m[i] - self.c)
        self.add_s(i)

    def share_of_statistic(self, move):
        return 1 / move.count

    def collect(self, i, move):
        self.moves(self.total / move.count)
        self.total = 0 * self.total
        self.collect_s(move)

    def moves(self, d):
        self.c = self.c + d


class DiLoCo(LocalSgd):
    """d = mean of x - c; u = mu u + eta_o d; c += mu u + eta_o d."""

    def __init__(self, *args, outer_learning_rate, outer_momentum):
        super().__init__(*args)
        self.eta_o, self.mu = outer_learning_rate, outer_momentum

    def moves(self, d):
        self.u = self.mu * self.u + self.eta_o * d
        self.c = self.c + (self.mu * self.u + self.eta_o * d)


class SyncSgd(Cluster):
    """u = mu u - eta mean of those g that have come; c += u; x = c."""

    def __init__(self, *args, center_momentum):
        super().__init__(*args)
        self.mu = center_momentum
        self.total_rate = 0.0

    def local_step(self, i):
        self.clock[i] += 1

    def make(self, i, move):
        self.m[i] = self.g[i].copy()
        self.make_s(i)

    def add(self, i, move):
        self.total = self.total + self.m[i]
        self.total_rate = self.rate(i, self.clock[i] - 1)
        self.add_s(i)

    def collect(self, i, move):
        self.u = self.mu * self.u - self.total_rate * self.total / move.count
        self.c = self.c + self.u
        self.total = 0 * self.total
        self.collect_s(move)


class Admm(Cluster):
    """l -= x - c; x = (x - eta g + eta rho (l + c)) / (1 + eta rho).

    With r, the c as it was when the period began. The center is the mean of
    the parts x - l, as they have last come: q.
    """

    def __init__(self, *args, elasticity):
        super().__init__(*args)
        self.rho = elasticity
        self.l = np.zeros_like(self.x)
        self.r, self.q = self.x.copy(), self.x.copy()

    def local_step(self, i):
        eta = self.rate(i)
        towards = self.l[i] + self.r[i]
        self.x[i] = self.x[i] - eta * self.g[i] + eta * self.rho * towards
        self.x[i] /= 1 + eta * self.rho
        self.clock[i] += 1

    def ask(self, i, move):
        pass

    def settling_step(self, i, move):
        self.r[i] = self.m[i]
        self.l[i] = self.l[i] - (self.x[i] - self.r[i])
        self.local_step(i)

    def make(self, i, move):
        self.m[i] = self.x[i] - self.l[i] - self.q[i]
        self.make_s(i)

    def arrive(self, i, move):
        self.c = self.c + self.m[i] / move.num_workers
        self.arrive_s(i, move)
        self.q[i] = self.q[i] + self.m[i]

    def settle(self, i, move):
        pass

    def restart(self, i, move):
        super().restart(i, move)
        self.l[i], self.r[i], self.q[i] = 0.0, self.x[i], self.x[i]
