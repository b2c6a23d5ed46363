"""The methods on a quadratic, step by step, as one would write them down.

Nothing of the package is used: this is what the advisor is judged against. A
setting's numbers are arrays of shape (settings,), so that all settings of one
method, number of workers and period are run at once. A run begins at a random
point and has no noise. What is measured is the growth of its distance to the
optimum, which is 0.
"""

import numpy as np


def growth(states, periods):
    """The rate at which a run grows, late in it.

    Args:
        states: gives the numbers of a run, a list of arrays of shape
            (..., settings), after each period; is sent them again, rescaled.
        periods: how many; the first half is not looked at.

    Returns:
        The logarithm of the growth in a period, shape (settings,).
    """
    numbers = next(states)
    total, logarithms = 0.0, []
    for _ in range(periods):
        largest = np.max(
            [np.abs(n).reshape(-1, n.shape[-1]).max(axis=0) for n in numbers],
            axis=0,
        )
        largest = np.maximum(largest, 1e-300)
        total = total + np.log(largest)
        logarithms.append(total)
        numbers = states.send([n / largest for n in numbers])
    late = np.array(logarithms[periods // 2 :])
    # A line through them, since what oscillates is now high, now low.
    time = np.arange(len(late)) - (len(late) - 1) / 2
    return time @ late / (time @ time)


def elastic(rng, *, p, tau, eta, alpha, beta, delta, h, meeting, nesterov):
    """EASGD and EAMSGD."""
    size = len(eta)
    x, v, d = (rng.normal(size=(p, size)) for _ in range(3))
    if meeting != "overlapped":
        d = np.zeros((p, size))  # nothing is on its way
    c = rng.normal(size=size)
    clock = 0

    def gradient():
        return h * (x + delta * v) if nesterov else h * x

    while True:
        x, v, d, c = yield [x, v, d, c]
        for _ in range(tau):
            slope, pulls = gradient(), np.zeros((p, size))
            due = clock % tau == 0
            if due and meeting == "jacobi":
                pulls = alpha * (x - c)
                c = c + beta / p * (x - c).sum(axis=0)
            if due and meeting == "round_robin":
                for i in range(p):
                    pulls[i] = alpha * (x[i] - c)
                    c = c + beta / p * (x[i] - c)
            v = delta * v - eta * slope
            x = x + v - pulls
            clock += 1
            due = clock % tau == 0
            if due and meeting == "gauss_seidel":
                c = c + beta / p * (x - c).sum(axis=0)
                x = x - alpha * (x - c)
            if due and meeting == "overlapped":
                x = x - alpha * d
                d = np.empty((p, size))
                for i in range(p):
                    d[i] = x[i] - c
                    c = c + beta / p * d[i]


def downpour(rng, *, p, tau, eta, h, meeting):
    """DOWNPOUR: what workers have come to is added."""
    size = len(eta)
    x = rng.normal(size=(p, size))
    base, answer = x.copy(), rng.normal(size=(p, size))
    if meeting != "overlapped":
        answer = np.zeros((p, size))  # none is on its way
    c = rng.normal(size=size)
    while True:
        x, base, answer, c = yield [x, base, answer, c]
        for _ in range(tau):
            x = x - eta * h * x
        if meeting == "gauss_seidel":
            c = c + (x - base).sum(axis=0)
            x = np.repeat(c[None], p, axis=0)
            base = x.copy()
            continue
        x, base, answer = x.copy(), base.copy(), answer.copy()
        for i in range(p):
            way = x[i] - base[i]
            c = c + way
            if meeting == "overlapped":
                x[i] = answer[i] + way
                answer[i] = c
            else:
                x[i] = c
            base[i] = x[i]


def async_diloco(rng, *, p, tau, eta, h, outer_eta, outer_mu, meeting):
    """A round of DiLoCo's workers that do not wait; N = p, and c = 0."""
    size = len(eta)
    x = rng.normal(size=(p, size))
    base, answer = x.copy(), rng.normal(size=(p, size))
    if meeting != "overlapped":
        answer = np.zeros((p, size))  # none is on its way
    c, m = rng.normal(size=(2, size))
    while True:
        x, base, answer, c, m = yield [x, base, answer, c, m]
        x, base, answer = x.copy(), base.copy(), answer.copy()
        delta = np.zeros(size)
        for _ in range(tau):
            x = x - eta * h * x
        for i in range(p):
            g = base[i] - x[i]
            delta = delta + g
            c = c - outer_eta * g / p
            if i == p - 1:
                m = outer_mu * m + delta / p
                c = c - outer_eta * outer_mu * m
            if meeting == "overlapped":
                x[i] = answer[i] - g
                answer[i] = c
            else:
                x[i] = c
            base[i] = x[i]


def late_gradients(rng, *, eta, mu, h, delays, nesterov):
    """Async-MSGD and MDOWNPOUR with delays: an update of the center.

    Args:
        delays: gives the delay of each setting at each update, an array of
            integers of shape (settings,), and has their `longest`.
    """
    size = len(eta)
    past = rng.normal(size=(delays.longest + 2, size))  # the newest first
    columns = np.arange(size)
    while True:
        (past,) = yield [past]
        late = delays(rng)
        point = past[late, columns]
        if nesterov:
            point = point + mu * (point - past[late + 1, columns])
        new = past[0] + mu * (past[0] - past[1]) - eta * h * point
        past = np.concatenate([new[None], past[:-1]])


def averaged(rng, *, p, tau, eta, delta, h, outer_eta, outer_mu):
    """Local SGD (an outer rate of 1, no outer momentum) and DiLoCo."""
    size = len(eta)
    v = rng.normal(size=(p, size))
    c, w = rng.normal(size=(2, size))
    while True:
        v, c, w = yield [v, c, w]
        x = np.repeat(c[None], p, axis=0)
        for _ in range(tau):
            v = delta * v - eta * h * x
            x = x + v
        step = (x - c).mean(axis=0)
        w = outer_mu * w + outer_eta * step
        c = c + outer_mu * w + outer_eta * step


def admm(rng, *, p, tau, eta, rho, h):
    """ADMM, one worker after another; its center is the mean of the parts."""
    size = len(eta)
    x, dual = rng.normal(size=(2, p, size))
    while True:
        x, dual = yield [x, dual]
        x, dual = x.copy(), dual.copy()
        pushed = x - dual
        before = pushed.mean(axis=0)
        for i in range(p):
            center = pushed.mean(axis=0) if tau == 1 else before
            dual[i] = dual[i] - (x[i] - center)
            for _ in range(tau):
                x[i] = (
                    x[i] - eta * h * x[i] + eta * rho * (dual[i] + center)
                ) / (1 + eta * rho)
            pushed[i] = x[i] - dual[i]
