"""The overlapped protocol with the end of a period where its last step ends.

`easgd_overlapped` reads what has come back when the worker comes to its next
step; with other workers in between the master serves it later. For one worker
alone both are the same. Row k is the state after turn k. As in
`asynchronous`, a worker begins at the center of its first turn.
"""

import numpy as np


def overlapped_at_the_end(
    gradient,
    initial,
    *,
    schedule,
    num_workers,
    communication_period,
    learning_rate,
    moving_rate,
    momentum=0.0,
    nesterov=True,
    beta=None,
):
    """Section 2.2's second protocol, with the step of EASGD or EAMSGD.

    x^i <- c
    Repeat
      v^i <- delta v^i - eta g^i_{t^i}(x^i + delta v^i)   (heavy ball: at x^i)
      x^i <- x^i + v^i
      t^i <- t^i + 1
      if (tau divides t^i) then
        read d^i, x^i <- x^i - d^i
        send x^i; the master: as above
      end
    """
    p, alpha, delta = num_workers, moving_rate, momentum
    if beta is None:
        beta = p * alpha
    xs = [np.array(initial, np.float64) for _ in range(p)]
    vs = [np.zeros_like(xs[0]) for _ in range(p)]
    ds = [np.zeros_like(xs[0]) for _ in range(p)]
    clocks = [0] * p
    c = np.array(initial, np.float64)
    workers, center = [np.stack(xs)], [c.copy()]
    for i in schedule:
        if clocks[i] == 0:
            xs[i] = c.copy()
        at = xs[i] + delta * vs[i] if nesterov else xs[i]
        vs[i] = delta * vs[i] - learning_rate * gradient(i, clocks[i], at)
        xs[i] = xs[i] + vs[i]
        clocks[i] += 1
        if clocks[i] % communication_period == 0:
            xs[i] = xs[i] - ds[i]
            ds[i] = alpha * (xs[i] - c)
            c = c + (beta / p) * (xs[i] - c)
        workers.append(np.stack(xs))
        center.append(c.copy())
    return {"workers": np.stack(workers), "center": np.stack(center)}


def heavy_ball_asynchronous(
    gradient,
    initial,
    *,
    schedule,
    num_workers,
    communication_period,
    learning_rate,
    moving_rate,
    momentum,
    beta=None,
):
    """Algorithm 2 with the gradient of eq. 2.6, at x."""
    p, alpha = num_workers, moving_rate
    if beta is None:
        beta = p * alpha
    xs = [np.array(initial, np.float64) for _ in range(p)]
    vs = [np.zeros_like(xs[0]) for _ in range(p)]
    clocks = [0] * p
    c = np.array(initial, np.float64)
    workers, center = [np.stack(xs)], [c.copy()]
    for i in schedule:
        if clocks[i] == 0:
            xs[i] = c.copy()
        x = xs[i].copy()
        if clocks[i] % communication_period == 0 and clocks[i] > 0:
            xs[i] = xs[i] - alpha * (x - c)
            c = c + (beta / p) * (x - c)
        vs[i] = momentum * vs[i] - learning_rate * gradient(i, clocks[i], x)
        xs[i] = xs[i] + vs[i]
        clocks[i] += 1
        workers.append(np.stack(xs))
        center.append(c.copy())
    return {"workers": np.stack(workers), "center": np.stack(center)}
