"""Time averages and the learning-rate decay: thesis, chapter 4.

    z_{t+1} = (1 - a_{t+1}) z_t + a_{t+1} x_t,    z_0 = x_0

Read literally, as here, step t averages in the point x_t from which it starts:
z_t is made of x_0 ... x_{t-1}, and the newest point x_t is not yet in it.

Section 4.3.1 begins the average later: with `average_from` s, z_{t+1} = x_t
up to t = s, and then it goes on from there.
"""

import numpy as np


def averaged_sgd(
    gradient, initial, *, learning_rate, num_steps, average_from=0
):
    """SGD (p = 1) averaged with a_{t+1} = 1 / (t + 1); z is `"center"`."""
    x = np.array(initial, np.float64)
    z = x.copy()
    workers, center, points = [x[np.newaxis]], [z], []
    for t in range(num_steps):
        eta = learning_rate(t) if callable(learning_rate) else learning_rate
        points.append(x[np.newaxis])
        if t <= average_from:
            z, count = x.copy(), 1
        else:
            count += 1
            z = z + (x - z) / count
        x = x - eta * gradient(0, t, x)
        workers.append(x[np.newaxis])
        center.append(z)
    return {
        "workers": np.stack(workers),
        "center": np.stack(center),
        "gradient_points": np.stack(points),
    }


def moving_average_sgd(
    gradient,
    initial,
    *,
    learning_rate,
    averaging_rate,
    num_steps,
    average_from=0,
):
    """SGD (p = 1) averaged with a constant rate; z is `"center"`."""
    x = np.array(initial, np.float64)
    z = x.copy()
    workers, center, points = [x[np.newaxis]], [z], []
    for t in range(num_steps):
        eta = learning_rate(t) if callable(learning_rate) else learning_rate
        points.append(x[np.newaxis])
        if t <= average_from:
            z = x.copy()
        else:
            z = (1 - averaging_rate) * z + averaging_rate * x
        x = x - eta * gradient(0, t, x)
        workers.append(x[np.newaxis])
        center.append(z)
    return {
        "workers": np.stack(workers),
        "center": np.stack(center),
        "gradient_points": np.stack(points),
    }


def square_root_decay(eta, gamma):
    """Returns eta_t = eta / (1 + gamma t)^0.5, a function of the clock t."""
    return lambda t: eta / (1 + gamma * t) ** 0.5
