"""Workers that come to the center in any order: thesis, section 2.2 and 2.3.

`schedule` is a list of worker indices: at each entry that worker does one turn
of its loop (one gradient step, with the exchange before it if its clock says
so). Row k of a trajectory is the state before turn k.

The overlapped protocol is in the last but one paragraph of section 2.2: at the
beginning of a period the worker's parameters leave; the master answers with the
elastic difference to the center as it then is, and moves the center; at the end
of the period the worker applies the difference that has come back. `"pending"`,
shape (turns + 1, p, n), holds alpha times the differences under way.

A worker begins at the center of its first turn, and has nothing to give there.
In the papers, where all begin at once, that is no exchange either: x^i = c.
"""

import numpy as np


def easgd_asynchronous(
    gradient,
    initial,
    *,
    schedule,
    num_workers,
    communication_period,
    learning_rate,
    moving_rate,
    beta=None,
):
    """Algorithm 1.

    Repeat
      x <- x^i
      if (tau divides t^i) then
        a) x^i <- x^i - alpha (x - c)
        b) c <- c + alpha (x - c)
      end
      x^i <- x^i - eta g^i_{t^i}(x)
      t^i <- t^i + 1
    """
    p, tau, alpha = num_workers, communication_period, moving_rate
    if beta is None:
        beta = p * alpha
    xs = [np.array(initial, np.float64) for _ in range(p)]
    clocks = [0] * p
    c = np.array(initial, np.float64)
    workers, center = [np.stack(xs)], [c.copy()]
    for i in schedule:
        ti = clocks[i]
        if ti == 0:
            xs[i] = c.copy()
        x = xs[i].copy()
        if ti % tau == 0 and ti > 0:
            xs[i] = xs[i] - alpha * (x - c)
            c = c + (beta / p) * (x - c)
        xs[i] = xs[i] - learning_rate * gradient(i, ti, x)
        clocks[i] = ti + 1
        workers.append(np.stack(xs))
        center.append(c.copy())
    return {"workers": np.stack(workers), "center": np.stack(center)}


def eamsgd_asynchronous(
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
    """Algorithm 2.

    Repeat
      x <- x^i
      if (tau divides t^i) then
        a) x^i <- x^i - alpha (x - c)
        b) c <- c + alpha (x - c)
      end
      v^i <- delta v^i - eta g^i_{t^i}(x + delta v^i)
      x^i <- x^i + v^i
      t^i <- t^i + 1
    """
    p, tau, alpha, delta = (
        num_workers,
        communication_period,
        moving_rate,
        momentum,
    )
    if beta is None:
        beta = p * alpha
    xs = [np.array(initial, np.float64) for _ in range(p)]
    vs = [np.zeros_like(xs[0]) for _ in range(p)]
    clocks = [0] * p
    c = np.array(initial, np.float64)
    workers, center = [np.stack(xs)], [c.copy()]
    for i in schedule:
        ti = clocks[i]
        if ti == 0:
            xs[i] = c.copy()
        x = xs[i].copy()
        if ti % tau == 0 and ti > 0:
            xs[i] = xs[i] - alpha * (x - c)
            c = c + (beta / p) * (x - c)
        vs[i] = delta * vs[i] - learning_rate * gradient(
            i, ti, x + delta * vs[i]
        )
        xs[i] = xs[i] + vs[i]
        clocks[i] = ti + 1
        workers.append(np.stack(xs))
        center.append(c.copy())
    return {"workers": np.stack(workers), "center": np.stack(center)}


def easgd_overlapped(
    gradient,
    initial,
    *,
    schedule,
    num_workers,
    communication_period,
    learning_rate,
    moving_rate,
    momentum=0.0,
    beta=None,
):
    """Section 2.2's second protocol; with momentum, Algorithm 2's step.

    Repeat
      if (tau divides t^i) then
        if t^i > 0: read d^i, x^i <- x^i - d^i     (the period's end)
        send x^i; the master: d^i <- alpha (x^i - c), c <- c + alpha (x^i - c)
      end
      v^i <- delta v^i - eta g^i_{t^i}(x^i + delta v^i)
      x^i <- x^i + v^i
      t^i <- t^i + 1
    """
    p, tau, alpha, delta = (
        num_workers,
        communication_period,
        moving_rate,
        momentum,
    )
    if beta is None:
        beta = p * alpha
    xs = [np.array(initial, np.float64) for _ in range(p)]
    vs = [np.zeros_like(xs[0]) for _ in range(p)]
    ds = [np.zeros_like(xs[0]) for _ in range(p)]
    clocks = [0] * p
    c = np.array(initial, np.float64)
    workers, center, pending = [np.stack(xs)], [c.copy()], [np.stack(ds)]
    for i in schedule:
        ti = clocks[i]
        if ti == 0:
            xs[i] = c.copy()
        elif ti % tau == 0:
            xs[i] = xs[i] - ds[i]
            ds[i] = alpha * (xs[i] - c)
            c = c + (beta / p) * (xs[i] - c)
        vs[i] = delta * vs[i] - learning_rate * gradient(
            i, ti, xs[i] + delta * vs[i]
        )
        xs[i] = xs[i] + vs[i]
        clocks[i] = ti + 1
        workers.append(np.stack(xs))
        center.append(c.copy())
        pending.append(np.stack(ds))
    return {
        "workers": np.stack(workers),
        "center": np.stack(center),
        "pending": np.stack(pending),
    }
