"""One worker at a time: thesis, Algorithms 1 and 2, eqs. 3.55 and 3.56.

The center is updated by each worker's exchange on its own, so a worker sees
what those served before it left there. `beta` free of alpha makes line b) of
the algorithms c <- c + (beta/p) (x - c); they have beta = p * alpha.
"""

import numpy as np


def easgd_round_robin(
    gradient,
    initial,
    *,
    num_workers,
    communication_period,
    learning_rate,
    moving_rate,
    beta=None,
    num_steps,
):
    """Algorithm 1, its workers in lockstep, served in the order 0 to p - 1.

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
    workers, center, points = [np.stack(xs)], [c.copy()], []
    for _ in range(num_steps):
        at = []
        for i in range(p):
            ti = clocks[i]
            if callable(learning_rate):
                eta = learning_rate(ti)
            else:
                eta = learning_rate
            x = xs[i].copy()
            if ti % tau == 0:
                difference = x - c
                xs[i] = xs[i] - alpha * difference
                c = c + (beta / p) * difference
            at.append(x)
            xs[i] = xs[i] - eta * gradient(i, ti, x)
            clocks[i] = ti + 1
        workers.append(np.stack(xs))
        center.append(c.copy())
        points.append(np.stack(at))
    return {
        "workers": np.stack(workers),
        "center": np.stack(center),
        "gradient_points": np.stack(points),
    }


def eamsgd_round_robin(
    gradient,
    initial,
    *,
    num_workers,
    communication_period,
    learning_rate,
    moving_rate,
    momentum,
    beta=None,
    num_steps,
):
    """Algorithm 2, its workers in lockstep, served in the order 0 to p - 1.

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
    workers, velocity, center = [np.stack(xs)], [np.stack(vs)], [c.copy()]
    points = []
    for _ in range(num_steps):
        at = []
        for i in range(p):
            ti = clocks[i]
            if callable(learning_rate):
                eta = learning_rate(ti)
            else:
                eta = learning_rate
            x = xs[i].copy()
            if ti % tau == 0:
                difference = x - c
                xs[i] = xs[i] - alpha * difference
                c = c + (beta / p) * difference
            at.append(x + delta * vs[i])
            vs[i] = delta * vs[i] - eta * gradient(i, ti, at[i])
            xs[i] = xs[i] + vs[i]
            clocks[i] = ti + 1
        workers.append(np.stack(xs))
        velocity.append(np.stack(vs))
        center.append(c.copy())
        points.append(np.stack(at))
    return {
        "workers": np.stack(workers),
        "center": np.stack(center),
        "velocity": np.stack(velocity),
        "gradient_points": np.stack(points),
    }


def round_robin_3_55(
    gradient,
    initial,
    *,
    num_workers,
    learning_rate,
    moving_rate,
    beta=None,
    num_steps,
):
    """Equations 3.55 and 3.56: at time t only worker t mod p is active.

    `num_steps` counts the global clock t; the active worker's own clock, which
    the gradient and the learning rate are given, is floor(t / p). The period
    is 1 by definition: each activation exchanges.

        x^i_{t+1} = x^i_t - eta grad F(x^i_t) - alpha (x^i_t - c_t)
        c_{t+1} = c_t + alpha (x^i_t - c_t)          for i = t mod p
    """
    p, alpha = num_workers, moving_rate
    if beta is None:
        beta = p * alpha
    x = np.stack([np.array(initial, np.float64) for _ in range(p)])
    c = np.array(initial, np.float64)
    workers, center, points = [x.copy()], [c.copy()], []
    for t in range(num_steps):
        i, clock = t % p, t // p
        if callable(learning_rate):
            eta = learning_rate(clock)
        else:
            eta = learning_rate
        at = np.full_like(x, np.nan)
        at[i] = x[i]
        new_x = x.copy()
        new_x[i] = x[i] - eta * gradient(i, clock, x[i]) - alpha * (x[i] - c)
        new_c = c + (beta / p) * (x[i] - c)
        x, c = new_x, new_c
        workers.append(x.copy())
        center.append(c.copy())
        points.append(at)
    return {
        "workers": np.stack(workers),
        "center": np.stack(center),
        "gradient_points": np.stack(points),
    }
