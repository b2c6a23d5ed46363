"""Workers that meet: local SGD and DiLoCo.

All workers step together; row t is the state before step t.
"""

import numpy as np


def local_sgd(
    gradient,
    initial,
    *,
    num_workers,
    communication_period,
    learning_rate,
    num_steps,
):
    """Stich (2019), Algorithm 1: x^i <- mean of all, where tau | t + 1."""
    p, tau = num_workers, communication_period
    x = [np.array(initial, np.float64) for _ in range(p)]
    c = np.array(initial, np.float64)
    workers, center, points = [np.stack(x)], [c], []
    for t in range(num_steps):
        eta = learning_rate(t) if callable(learning_rate) else learning_rate
        points.append(np.stack(x))
        stepped = [x[i] - eta * gradient(i, t, x[i]) for i in range(p)]
        if (t + 1) % tau == 0:
            c = sum(stepped) / p
            stepped = [c.copy() for _ in range(p)]
        x = stepped
        workers.append(np.stack(x))
        center.append(c)
    return {
        "workers": np.stack(workers),
        "center": np.stack(center),
        "gradient_points": np.stack(points),
    }


def diloco(
    gradient,
    initial,
    *,
    num_workers,
    communication_period,
    learning_rate,
    outer_learning_rate,
    outer_momentum,
    num_steps,
):
    """Douillard et al. (2023), Algorithm 1, with SGD inside.

    For outer step t = 1 ... T:
      for worker i = 1 ... k:
        theta_i <- theta^(t-1)
        for inner step h = 1 ... H:
          theta_i <- InnerOpt(theta_i, gradient)
      Delta <- 1/k sum_i (theta^(t-1) - theta_i)
      theta^(t) <- OuterOpt(theta^(t-1), Delta)

    OuterOpt is Nesterov's SGD as PyTorch has it:
      b <- mu b + Delta
      theta <- theta - lr (Delta + mu b)
    """
    p, tau, mu = num_workers, communication_period, outer_momentum
    x = [np.array(initial, np.float64) for _ in range(p)]
    theta = np.array(initial, np.float64)
    b = np.zeros_like(theta)
    workers, center, points = [np.stack(x)], [theta], []
    for t in range(num_steps):
        eta = learning_rate(t) if callable(learning_rate) else learning_rate
        points.append(np.stack(x))
        for i in range(p):
            x[i] = x[i] - eta * gradient(i, t, x[i])
        if (t + 1) % tau == 0:
            delta = sum(theta - x[i] for i in range(p)) / p
            b = mu * b + delta
            theta = theta - outer_learning_rate * (delta + mu * b)
            x = [theta.copy() for _ in range(p)]
        workers.append(np.stack(x))
        center.append(theta)
    return {
        "workers": np.stack(workers),
        "center": np.stack(center),
        "gradient_points": np.stack(points),
    }
