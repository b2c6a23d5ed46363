"""Synchronous EASGD in Gauss-Seidel form, and DOWNPOUR: thesis, section 6.2.

    x_{t+1/2} = x_t - alpha (x_t - c_t)
    x_{t+1} = x_{t+1/2} - eta grad f(x_{t+1/2})                       (6.3)
    c_{t+1} = c_t + (beta/p) sum_i (x^i_{t+1} - c_t)

For a period tau > 1 the first line is done when tau divides t (a period
starts), the second at every step, the third when tau divides t + 1 (a period
ends). Momentum goes in the second line; a velocity is kept as it is through
the averaging.
"""

import numpy as np


def easgd_gauss_seidel(
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
    """Equation 6.3."""
    p, tau, alpha = num_workers, communication_period, moving_rate
    if beta is None:
        beta = p * alpha
    x = [np.array(initial, np.float64) for _ in range(p)]
    c = np.array(initial, np.float64)
    workers, center, points = [np.stack(x)], [c.copy()], []
    for t in range(num_steps):
        eta = learning_rate(t) if callable(learning_rate) else learning_rate
        if t % tau == 0:
            for i in range(p):
                x[i] = x[i] - alpha * (x[i] - c)
        points.append(np.stack(x))
        for i in range(p):
            x[i] = x[i] - eta * gradient(i, t, x[i])
        if (t + 1) % tau == 0:
            total = np.zeros_like(c)
            for i in range(p):
                total = total + (x[i] - c)
            c = c + (beta / p) * total
        workers.append(np.stack(x))
        center.append(c.copy())
    return {
        "workers": np.stack(workers),
        "center": np.stack(center),
        "gradient_points": np.stack(points),
    }


def eamsgd_gauss_seidel(
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
    """Equation 6.3 with Nesterov's momentum, the gradient at x_{1/2} + delta v.

    v <- delta v - eta grad f(x + delta v)
    x <- x + v
    """
    p, tau, alpha, delta = (
        num_workers,
        communication_period,
        moving_rate,
        momentum,
    )
    if beta is None:
        beta = p * alpha
    x = [np.array(initial, np.float64) for _ in range(p)]
    v = [np.zeros_like(x[0]) for _ in range(p)]
    c = np.array(initial, np.float64)
    workers, velocity, center = [np.stack(x)], [np.stack(v)], [c.copy()]
    points = []
    for t in range(num_steps):
        eta = learning_rate(t) if callable(learning_rate) else learning_rate
        if t % tau == 0:
            for i in range(p):
                x[i] = x[i] - alpha * (x[i] - c)
        at = []
        for i in range(p):
            at.append(x[i] + delta * v[i])
            v[i] = delta * v[i] - eta * gradient(i, t, at[i])
            x[i] = x[i] + v[i]
        if (t + 1) % tau == 0:
            total = np.zeros_like(c)
            for i in range(p):
                total = total + (x[i] - c)
            c = c + (beta / p) * total
        workers.append(np.stack(x))
        velocity.append(np.stack(v))
        center.append(c.copy())
        points.append(np.stack(at))
    return {
        "workers": np.stack(workers),
        "center": np.stack(center),
        "velocity": np.stack(velocity),
        "gradient_points": np.stack(points),
    }


def heavy_ball_gauss_seidel(
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
    """Equation 6.3 with Polyak's momentum, the gradient at x_{1/2}.

    v <- delta v - eta grad f(x)
    x <- x + v
    """
    p, tau, alpha, delta = (
        num_workers,
        communication_period,
        moving_rate,
        momentum,
    )
    if beta is None:
        beta = p * alpha
    x = [np.array(initial, np.float64) for _ in range(p)]
    v = [np.zeros_like(x[0]) for _ in range(p)]
    c = np.array(initial, np.float64)
    workers, velocity, center = [np.stack(x)], [np.stack(v)], [c.copy()]
    points = []
    for t in range(num_steps):
        eta = learning_rate(t) if callable(learning_rate) else learning_rate
        if t % tau == 0:
            for i in range(p):
                x[i] = x[i] - alpha * (x[i] - c)
        points.append(np.stack(x))
        for i in range(p):
            v[i] = delta * v[i] - eta * gradient(i, t, x[i])
            x[i] = x[i] + v[i]
        if (t + 1) % tau == 0:
            total = np.zeros_like(c)
            for i in range(p):
                total = total + (x[i] - c)
            c = c + (beta / p) * total
        workers.append(np.stack(x))
        velocity.append(np.stack(v))
        center.append(c.copy())
    return {
        "workers": np.stack(workers),
        "center": np.stack(center),
        "velocity": np.stack(velocity),
        "gradient_points": np.stack(points),
    }


def downpour_synchronous(
    gradient,
    initial,
    *,
    num_workers,
    communication_period,
    learning_rate,
    num_steps,
):
    """Equation 6.1, and Algorithm 3 in lockstep for a period over 1.

        x^i_{t+1} = c_t - eta grad f(c_t)
        c_{t+1} = c_t + sum_i (x^i_{t+1} - c_t)

    A period starts from the center, takes tau local steps, and pushes what the
    steps have added up to (v^i of Algorithm 3).
    """
    p, tau = num_workers, communication_period
    x = [np.array(initial, np.float64) for _ in range(p)]
    accumulated = [np.zeros_like(x[0]) for _ in range(p)]
    c = np.array(initial, np.float64)
    workers, center, points = [np.stack(x)], [c.copy()], []
    for t in range(num_steps):
        eta = learning_rate(t) if callable(learning_rate) else learning_rate
        if t % tau == 0:
            x = [c.copy() for _ in range(p)]
            accumulated = [np.zeros_like(c) for _ in range(p)]
        points.append(np.stack(x))
        for i in range(p):
            step = -eta * gradient(i, t, x[i])
            x[i] = x[i] + step
            accumulated[i] = accumulated[i] + step
        if (t + 1) % tau == 0:
            for i in range(p):
                c = c + accumulated[i]
        workers.append(np.stack(x))
        center.append(c.copy())
    return {
        "workers": np.stack(workers),
        "center": np.stack(center),
        "gradient_points": np.stack(points),
    }
