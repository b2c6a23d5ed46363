"""ADMM, asynchronous: thesis, eqs. 3.52 to 3.54."""

import numpy as np


def admm(
    gradient,
    initial,
    *,
    num_workers,
    learning_rate,
    elasticity,
    schedule,
    communication_period=1,
):
    """One worker is served at each time t, the others stay as they are.

    lambda^i <- lambda^i - (x^i - c)                                  (3.52)
    x^i <- (x^i - eta grad F(x^i) + eta rho (lambda^i + c))
           / (1 + eta rho)                                            (3.53)
    c <- 1/p sum_i (x^i - lambda^i)                                   (3.54)

    The thesis has them for a period of 1, in round robin. With a longer one
    3.52 begins a period, 3.53 is done at every step, with the center as the
    period found it, and 3.54 ends it, the others counting as they last ended.

    Row k is the state before turn k.
    """
    p, tau, rho = num_workers, communication_period, elasticity
    x = [np.array(initial, np.float64) for _ in range(p)]
    multipliers = [np.zeros_like(x[0]) for _ in range(p)]
    parts = [x[i] - multipliers[i] for i in range(p)]
    c = np.array(initial, np.float64)
    found = [c for _ in range(p)]
    clocks = [0] * p
    workers, center, points = [np.stack(x)], [c], []
    duals = [np.stack(multipliers)]
    for i in schedule:
        ti = clocks[i]
        eta = learning_rate(ti) if callable(learning_rate) else learning_rate
        if ti % tau == 0:
            found[i] = c
            multipliers[i] = multipliers[i] - (x[i] - c)
        at = np.full((p, len(c)), np.nan)
        at[i] = x[i]
        g = gradient(i, ti, x[i])
        towards = multipliers[i] + found[i]
        x[i] = (x[i] - eta * g + eta * rho * towards) / (1 + eta * rho)
        clocks[i] = ti + 1
        if clocks[i] % tau == 0:
            parts[i] = x[i] - multipliers[i]
            c = sum(parts) / p
        workers.append(np.stack(x))
        center.append(c)
        duals.append(np.stack(multipliers))
        points.append(at)
    return {
        "workers": np.stack(workers),
        "center": np.stack(center),
        "multipliers": np.stack(duals),
        "gradient_points": np.stack(points),
    }
