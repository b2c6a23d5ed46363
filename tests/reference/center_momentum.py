"""Momentum at the center, gradients that are stale.

MDOWNPOUR: thesis, Algorithms 4 and 5. Async-MSGD: momentum paper, eq. 1.3.

In its turn a worker takes the gradient at the point that it was given in its
last turn, sends it, and is given another point. Whoever took a turn meanwhile
has moved the center: that is the staleness. Row k is the state before turn k.
"""

import numpy as np


def mdownpour(
    gradient, initial, *, num_workers, learning_rate, momentum, schedule
):
    """Algorithms 4 (worker) and 5 (master).

    Worker i:
      receive c + delta v: x^i <- c + delta v
      compute and send g^i(x^i)
    Master:
      receive g^i
      v <- delta v - eta g^i
      c <- c + v
      send c + delta v
    """
    p, delta = num_workers, momentum
    x = [np.array(initial, np.float64) for _ in range(p)]
    c = np.array(initial, np.float64)
    v = np.zeros_like(c)
    clocks = [0] * p
    workers, center, velocity, points = [np.stack(x)], [c], [v], []
    for i in schedule:
        ti = clocks[i]
        eta = learning_rate(ti) if callable(learning_rate) else learning_rate
        at = np.full((p, len(c)), np.nan)
        at[i] = x[i]
        g = gradient(i, ti, x[i])
        v = delta * v - eta * g
        c = c + v
        x[i] = c + delta * v
        clocks[i] = ti + 1
        workers.append(np.stack(x))
        center.append(c)
        velocity.append(v)
        points.append(at)
    return {
        "workers": np.stack(workers),
        "center": np.stack(center),
        "center_velocity": np.stack(velocity),
        "gradient_points": np.stack(points),
    }


def async_msgd(
    gradient,
    initial,
    *,
    num_workers,
    learning_rate,
    momentum,
    schedule,
    adjustment=None,
    staleness_scaling=False,
    delay_compensation=0.0,
):
    """Equation 1.3, and what others have put in front of its gradient.

    theta^(k+1) = theta^(k) - eta g(theta^(k - tau_k))
                  + mu (theta^(k) - theta^(k-1))

    * `adjustment(k)`: u_k, k = 1, 2, ..., by which eta is multiplied.
    * `staleness_scaling`: eta / tau_k, where tau_k > 1 (Zhang, Gupta, Lian
      and Liu, 2016, eq. 6).
    * `delay_compensation`: lambda; the gradient is
      g + lambda g * g * (theta^(k) - theta^(k - tau_k)) (Zheng et al., 2017,
      eq. 10 and Algorithm 2).

    `"staleness"` has tau_k for every turn.
    """
    p, mu = num_workers, momentum
    theta = [np.array(initial, np.float64)]  # of all k
    read_at = [0] * p  # the k whose theta a worker was given
    clocks = [0] * p
    workers, points, staleness = [np.stack([theta[0]] * p)], [], []
    for k, i in enumerate(schedule):
        ti = clocks[i]
        eta = learning_rate(ti) if callable(learning_rate) else learning_rate
        tau_k = k - read_at[i]
        old = theta[read_at[i]]
        at = np.full((p, len(old)), np.nan)
        at[i] = old
        g = gradient(i, ti, old)
        if adjustment is not None:
            eta = eta * adjustment(k + 1)
        if staleness_scaling and tau_k > 1:
            eta = eta / tau_k
        g = g + delay_compensation * g * g * (theta[k] - old)
        before = theta[k - 1] if k > 0 else theta[0]
        theta.append(theta[k] - eta * g + mu * (theta[k] - before))
        read_at[i] = k + 1
        clocks[i] = ti + 1
        workers.append(np.stack([theta[read_at[j]] for j in range(p)]))
        points.append(at)
        staleness.append(tau_k)
    return {
        "workers": np.stack(workers),
        "center": np.stack(theta),
        "gradient_points": np.stack(points),
        "staleness": np.array(staleness),
    }
