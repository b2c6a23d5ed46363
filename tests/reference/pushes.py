"""Workers that push to the center in any order.

As in `asynchronous`: `schedule` is a list of worker indices; at each entry that
worker takes one local step and, if tau divides its clock then, visits the
center. Row k of a trajectory is the state before turn k. `"shown"` is what is
evaluated: the time average where there is one.

A worker begins where the center is at its first turn.

Overlapped, a visit is: take what has come back for the former message, then let
the new one leave, which was made before.
"""

import numpy as np


class Rows:
    """The trajectories, row by row."""

    def __init__(self, **state):
        self.rows = {name: [] for name in state}
        self.add(**state)

    def add(self, **state):
        for name, value in state.items():
            self.rows[name].append(np.array(value, np.float64))

    def stacked(self):
        return {name: np.stack(rows) for name, rows in self.rows.items()}


def downpour(
    gradient,
    initial,
    *,
    schedule,
    num_workers,
    communication_period,
    learning_rate,
    averaging_rate=None,
    average_from=0,
    overlapped=False,
):
    """Algorithm 3; with `averaging_rate`, chapter 4's average of the center.

    Repeat
      x^i <- x^i - eta g^i(x^i), v^i <- v^i - eta g^i(x^i)      tau times
      z <- (1 - a) z + a c                 (a = 1 / (t + 1), or a constant)
      c <- c + v^i, x^i <- c, v^i <- 0

    `averaging_rate` is None, "polyak" or a number. Until the update
    `average_from` z is c, and then all begins with t = 0. Overlapped, x^i is
    the center as it came back, and what the worker has done since it left.
    """
    p, tau = num_workers, communication_period
    c = np.array(initial, np.float64)
    z = c.copy()
    x = [c.copy() for _ in range(p)]
    v = [0 * c for _ in range(p)]
    back = [None] * p
    clocks = [0] * p
    updates = 0
    rows = Rows(workers=x, center=c, shown=z)
    for i in schedule:
        if clocks[i] == 0:
            x[i] = c.copy()
        step = -learning_rate * gradient(i, clocks[i], x[i])
        x[i], v[i] = x[i] + step, v[i] + step
        clocks[i] += 1
        if clocks[i] % tau == 0:
            if averaging_rate is not None:
                polyak = averaging_rate == "polyak"
                since = max(updates - average_from, 0)
                a = 1 / (since + 1) if polyak else averaging_rate
                z = (1 - a) * z + a * c
            updates += 1
            if overlapped and back[i] is not None:
                x[i] = back[i] + v[i]
            c = c + v[i]
            if averaging_rate is None or updates <= average_from:
                z = c
            back[i] = c
            if not overlapped:
                x[i] = c.copy()
            v[i] = 0 * c
        rows.add(workers=x, center=c, shown=z)
    return rows.stacked()


def center_momentum(
    gradient,
    initial,
    *,
    schedule,
    num_workers,
    learning_rate,
    momentum,
    nesterov=False,
    power=0.0,
    scaled=False,
    compensation=0.0,
    overlapped=False,
):
    """Gradients of stale points; momentum where they arrive.

    Eq. 1.3 of the momentum paper, at the k-th arrival (k from 1), with g taken
    at y, which the center gave out at its update r:

      g <- g + lambda g * g * (c_k - y)            (Zheng et al., eq. 10)
      eta_k <- eta k^-power / max(k - 1 - r, 1)    (the latter if `scaled`)
      c_{k+1} <- c_k - eta_k g + mu (c_k - c_{k-1})

    and the worker goes on from c_{k+1}; with `nesterov` (Algorithms 4 and 5)
    from c_{k+1} + mu (c_{k+1} - c_k).
    """
    p, mu = num_workers, momentum
    c = before = np.array(initial, np.float64)
    x = [c.copy() for _ in range(p)]
    given_at = [0] * p
    back = [None] * p
    clocks = [0] * p
    k = 0
    rows = Rows(workers=x, center=c, staleness=0)
    for i in schedule:
        if clocks[i] == 0:
            x[i] = c + mu * (c - before) if nesterov else c
            given_at[i] = k
        g = gradient(i, clocks[i], x[i])
        clocks[i] += 1
        made_at, made_with = x[i], given_at[i]
        if overlapped and back[i] is not None:
            x[i], given_at[i] = back[i]
        staleness = k - made_with
        k += 1
        eta = learning_rate * k**-power
        if scaled:
            eta = eta / max(staleness, 1)
        if compensation:
            g = g + compensation * g * g * (c - made_at)
        c, before = c - eta * g + mu * (c - before), c
        answer = c + mu * (c - before) if nesterov else c
        if overlapped:
            back[i] = (answer, k)
        else:
            x[i], given_at[i] = answer, k
        rows.add(workers=x, center=c, staleness=staleness)
    return rows.stacked()


def admm(
    gradient,
    initial,
    *,
    schedule,
    num_workers,
    communication_period,
    learning_rate,
    elasticity,
):
    """Eqs. 3.52 to 3.54; of a longer period, the second is repeated.

    At the start of a period: lambda^i <- lambda^i - (x^i - c)
    At each step: x^i <- (x^i - eta g^i + eta rho (lambda^i + c)) / (1 + eta
    rho), with the c of the period's start
    At its end: c <- 1/p sum_j (x^j - lambda^j), the others as they last came;
    the part of one that has yet to come is the first center.
    """
    p, tau = num_workers, communication_period
    eta, rho = learning_rate, elasticity
    c = np.array(initial, np.float64)
    x = [c.copy() for _ in range(p)]
    multiplier = [0 * c for _ in range(p)]
    read = [c.copy() for _ in range(p)]
    parts = [c.copy() for _ in range(p)]
    clocks = [0] * p
    rows = Rows(workers=x, center=c)
    for i in schedule:
        if clocks[i] == 0:
            x[i] = c.copy()
        g = gradient(i, clocks[i], x[i])
        if clocks[i] % tau == 0:
            read[i] = c
            multiplier[i] = multiplier[i] - (x[i] - c)
        x[i] = (x[i] - eta * g + eta * rho * (multiplier[i] + read[i])) / (
            1 + eta * rho
        )
        clocks[i] += 1
        if clocks[i] % tau == 0:
            parts[i] = x[i] - multiplier[i]
            c = sum(parts) / p
        rows.add(workers=x, center=c)
    return rows.stacked()


def meetings(
    gradient,
    initial,
    *,
    num_workers,
    communication_period,
    learning_rate,
    num_steps,
    outer=None,
    adds=False,
):
    """All workers meet every tau steps and go on from the center.

    Local SGD: c <- 1/p sum_i x^i. DiLoCo (Algorithm 1; its outer optimizer is
    PyTorch's SGD with nesterov=True), `outer` being (eta_o, mu):

      d <- c - 1/p sum_i x^i
      b <- mu b + d
      c <- c - eta_o (d + mu b)

    DOWNPOUR of all at once, with `adds`: c <- c + sum_i (x^i - c).
    """
    p = num_workers
    c = np.array(initial, np.float64)
    x = [c.copy() for _ in range(p)]
    b = 0 * c
    rows = Rows(workers=x, center=c)
    for t in range(num_steps):
        x = [x[i] - learning_rate * gradient(i, t, x[i]) for i in range(p)]
        if (t + 1) % communication_period == 0:
            mean = sum(x) / p
            if adds:
                c = c + p * (mean - c)
            elif outer is None:
                c = mean
            else:
                rate, mu = outer
                d = c - mean
                b = mu * b + d
                c = c - rate * (d + mu * b)
            x = [c.copy() for _ in range(p)]
        rows.add(workers=x, center=c)
    return rows.stacked()
