"""DOWNPOUR and its averages: thesis, Algorithm 3 and chapter 4.

Workers take turns in the order of a schedule; in a turn a worker exchanges, if
its clock says so, and takes one local step. Row k is the state before turn k.
"""

import numpy as np


def downpour(
    gradient,
    initial,
    *,
    num_workers,
    communication_period,
    learning_rate,
    schedule,
    averaging=None,
    average_from=0,
):
    """Algorithm 3.

    Repeat
      if (tau divides t^i) then
        c <- c + v^i
        x^i <- c
        v^i <- 0
      end
      x^i <- x^i - eta g^i_{t^i}(x^i)
      v^i <- v^i - eta g^i_{t^i}(x^i)
      t^i <- t^i + 1

    With `averaging` there is also `"average"`: z of ADOWNPOUR ("polyak"),
    a_{t+1} = 1 / (t + 1), or of MVADOWNPOUR (a number), where

      z_{t+1} = (1 - a_{t+1}) z_t + a_{t+1} c_t,    z_0 = c_0

    and t, the master clock, counts the center's updates. A worker that has
    taken no step yet has nothing to push, and its v^i = 0 is no update. With
    `average_from` s, z is c until the update s, where t begins at 0.
    """
    p, tau = num_workers, communication_period
    x = [np.array(initial, np.float64) for _ in range(p)]
    v = [np.zeros_like(x[0]) for _ in range(p)]
    clocks = [0] * p
    c = np.array(initial, np.float64)
    z, master_clock = c.copy(), 0
    workers, center, average, points = [np.stack(x)], [c.copy()], [z], []
    for i in schedule:
        ti = clocks[i]
        if ti % tau == 0:
            if ti > 0 and averaging is not None:
                a = averaging
                if averaging == "polyak":
                    a = 1 / (max(master_clock - average_from, 0) + 1)
                z = (1 - a) * z + a * c
                master_clock = master_clock + 1
            c = c + v[i]
            if averaging is not None and master_clock <= average_from:
                z = c
            x[i] = c.copy()
            v[i] = np.zeros_like(c)
        eta = learning_rate(ti) if callable(learning_rate) else learning_rate
        at = np.full((p, len(c)), np.nan)
        at[i] = x[i]
        g = gradient(i, ti, x[i])
        x[i] = x[i] - eta * g
        v[i] = v[i] - eta * g
        clocks[i] = ti + 1
        workers.append(np.stack(x))
        center.append(c.copy())
        average.append(z)
        points.append(at)
    run = {
        "workers": np.stack(workers),
        "center": np.stack(center),
        "gradient_points": np.stack(points),
    }
    if averaging is not None:
        run["average"] = np.stack(average)
    return run
