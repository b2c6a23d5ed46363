"""Synchronous EASGD in Jacobi form: thesis, chapter 2, eqs. 2.3 to 2.6.

All p workers share one clock t. When tau divides t they all exchange with the
same, old center, and the center moves by what the workers were before their
step:

    x^i_{t+1} = x^i_t - eta g^i_t(x^i_t) - alpha (x^i_t - c_t)        (2.3)
    c_{t+1} = (1 - beta) c_t + beta (1/p) sum_i x^i_t                 (2.4)
            = c_t + (beta/p) sum_i (x^i_t - c_t)

At the other steps the elastic terms are absent.
"""

import numpy as np


def easgd_synchronous(
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
    """Equations 2.3 and 2.4, exchanging every `communication_period` steps."""
    p, tau, alpha = num_workers, communication_period, moving_rate
    if beta is None:
        beta = p * alpha
    x = [np.array(initial, np.float64) for _ in range(p)]
    c = np.array(initial, np.float64)
    workers, center, points = [np.stack(x)], [c.copy()], []
    for t in range(num_steps):
        eta = learning_rate(t) if callable(learning_rate) else learning_rate
        points.append(np.stack(x))
        new_x = []
        new_c = c.copy()
        for i in range(p):
            step = x[i] - eta * gradient(i, t, x[i])
            if t % tau == 0:
                step = step - alpha * (x[i] - c)
                new_c = new_c + (beta / p) * (x[i] - c)
            new_x.append(step)
        x, c = new_x, new_c
        workers.append(np.stack(x))
        center.append(c.copy())
    return {
        "workers": np.stack(workers),
        "center": np.stack(center),
        "gradient_points": np.stack(points),
    }


def eamsgd_synchronous(
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
    """Equation 2.5: Nesterov's momentum in each worker.

    The gradient is taken at x + delta v with x from before the exchange, as in
    Algorithm 2:

        v_{t+1} = delta v_t - eta g_t(x_t + delta v_t)
        x_{t+1} = x_t + v_{t+1} - alpha (x_t - c_t)
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
        new_x, new_v, at = [], [], []
        new_c = c.copy()
        for i in range(p):
            at.append(x[i] + delta * v[i])
            new_v.append(delta * v[i] - eta * gradient(i, t, at[i]))
            step = x[i] + new_v[i]
            if t % tau == 0:
                step = step - alpha * (x[i] - c)
                new_c = new_c + (beta / p) * (x[i] - c)
            new_x.append(step)
        x, v, c = new_x, new_v, new_c
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


def heavy_ball_synchronous(
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
    """Equation 2.6: Polyak's momentum in each worker.

    v_{t+1} = delta v_t - eta g_t(x_t)
    x_{t+1} = x_t + v_{t+1} - eta rho (x_t - c_t),    eta rho = alpha
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
        points.append(np.stack(x))
        new_x, new_v = [], []
        new_c = c.copy()
        for i in range(p):
            new_v.append(delta * v[i] - eta * gradient(i, t, x[i]))
            step = x[i] + new_v[i]
            if t % tau == 0:
                step = step - alpha * (x[i] - c)
                new_c = new_c + (beta / p) * (x[i] - c)
            new_x.append(step)
        x, v, c = new_x, new_v, new_c
        workers.append(np.stack(x))
        velocity.append(np.stack(v))
        center.append(c.copy())
    return {
        "workers": np.stack(workers),
        "center": np.stack(center),
        "velocity": np.stack(velocity),
        "gradient_points": np.stack(points),
    }
