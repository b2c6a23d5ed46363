"""Asynchronous DiLoCo with delayed Nesterov's momentum.

Liu et al. (2024), "Asynchronous local-SGD training for language modeling".
Workers come in any order, as in `pushes`: row k is the state before turn k.
"""

import numpy as np

from tests.reference.pushes import Rows


def async_diloco(
    gradient,
    initial,
    *,
    schedule,
    num_workers,
    communication_period,
    learning_rate,
    outer_learning_rate,
    outer_momentum,
    momentum_delay=None,
    momentum_activation=0.0,
    overlapped=False,
    together=False,
):
    """Algorithm 3 (delayed Nesterov), with SGD inside.

    The server, at its update t = 0, 1, ..., gets g_t = theta_s - theta_i of a
    worker that has taken tau steps from theta_s to theta_i:

      Delta <- Delta + g_t
      if (t + 1) mod N = 0:
        m <- beta m + Delta / N
        theta <- theta - eps ((1 - c N + c) beta m + g_t / N)
        Delta <- 0
      else:
        theta <- theta - eps (c beta m + g_t / N)

    and the worker goes on from theta. N is `momentum_delay`, or p. Overlapped,
    it goes on at once from where it is; at the end of its next period it adds
    what it has done in that to the theta that has come back. A worker begins
    where theta is at its first turn; `together`, all begin before anybody
    comes. `communication_period` may be one for each worker: the paper's
    dynamic local updates, of workers whose speeds are known.
    """
    p, beta = num_workers, outer_momentum
    taus = np.broadcast_to(communication_period, p)
    n, c = momentum_delay or p, momentum_activation
    theta = np.array(initial, np.float64)
    m, delta, t = 0 * theta, 0 * theta, 0
    x = [theta.copy() for _ in range(p)]
    begun = [theta.copy() for _ in range(p)]
    back = [None] * p
    clocks = [0] * p
    rows = Rows(workers=x, center=theta, momentum=m)
    for i in schedule:
        if clocks[i] == 0 and not together:
            x[i], begun[i] = theta.copy(), theta.copy()
        eta = learning_rate
        if callable(learning_rate):
            eta = learning_rate(clocks[i])
        x[i] = x[i] - eta * gradient(i, clocks[i], x[i])
        clocks[i] += 1
        if clocks[i] % taus[i] == 0:
            g = begun[i] - x[i]
            if overlapped and back[i] is not None:
                x[i] = back[i] - g
            delta = delta + g
            if (t + 1) % n == 0:
                m = beta * m + delta / n
                theta = theta - outer_learning_rate * (
                    (1 - c * n + c) * beta * m + g / n
                )
                delta = 0 * delta
            else:
                theta = theta - outer_learning_rate * (c * beta * m + g / n)
            t += 1
            back[i] = theta
            if not overlapped:
                x[i] = theta.copy()
            begun[i] = x[i].copy()
        rows.add(workers=x, center=theta, momentum=m)
    return rows.stacked()
