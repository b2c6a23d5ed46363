"""Methods whose gradient is late, by a delay that is given for each step.

    x_{k+1} = x_k - eta_k g(x_{k - tau_k})

is eq. 3 of "Differential equations for modeling asynchronous algorithms", and

    theta^{k+1} = theta^k - eta g(theta^{k - tau_k})
                  + mu (theta^k - theta^{k-1})

eq. 1.3 of "Towards understanding acceleration tradeoff between momentum and
asynchrony". Before the start both stand still: X(s) = xi(s) for s in
[-tau, 0] (eq. 7, here constant), v_{-i} = v_0 for any i > 0 (Theorem 3.3). So
where k - tau_k < 0 the gradient is that of step 0, taken at x_0.

The sample of a gradient is as old as its point: `gradient(worker, s, x_s)`
with s = k - tau_k. `delays` is a function of (worker, k).
"""

import numpy as np


def _at(value, k):
    return value(k) if callable(value) else value


def _late_gradient(gradient, worker, points, k, delay):
    s = max(k - delay, 0)
    return gradient(worker, s, points[s])


def delayed_sgd(gradient, initial, *, learning_rate, delays, num_steps):
    """Delayed SGD; returns x_0 ... x_{num_steps}, one row each."""
    x = [np.array(initial, np.float64)]
    for k in range(num_steps):
        g = _late_gradient(gradient, 0, x, k, delays(0, k))
        x.append(x[k] - _at(learning_rate, k) * g)
    return np.stack(x)


def delayed_heavy_ball(
    gradient, initial, *, learning_rate, momentum, delays, num_steps
):
    """Eq. 1.3, with theta^{-1} = theta^0."""
    x = [np.array(initial, np.float64)]
    for k in range(num_steps):
        g = _late_gradient(gradient, 0, x, k, delays(0, k))
        before = x[max(k - 1, 0)]
        x.append(x[k] - learning_rate * g + momentum * (x[k] - before))
    return np.stack(x)


def delayed_adam(
    gradient,
    initial,
    *,
    learning_rate,
    delays,
    num_steps,
    beta_1=0.9,
    beta_2=0.999,
    epsilon=1e-7,
):
    """Adam (Kingma and Ba, 2015, end of section 2) on delayed gradients."""
    x = [np.array(initial, np.float64)]
    m, v = np.zeros_like(x[0]), np.zeros_like(x[0])
    for k in range(num_steps):
        g = _late_gradient(gradient, 0, x, k, delays(0, k))
        m = beta_1 * m + (1 - beta_1) * g
        v = beta_2 * v + (1 - beta_2) * g * g
        rate = learning_rate * np.sqrt(1 - beta_2 ** (k + 1))
        rate /= 1 - beta_1 ** (k + 1)
        x.append(x[k] - rate * m / (np.sqrt(v) + epsilon))
    return np.stack(x)


def delayed_easgd_synchronous(
    gradient,
    initial,
    *,
    num_workers,
    learning_rate,
    beta,
    communication_period,
    delays,
    num_steps,
):
    """Synchronous EASGD (thesis, eqs. 2.3, 2.4) of workers that are late."""
    x = [np.tile(np.array(initial, np.float64), (num_workers, 1))]
    center = [x[0][0]]
    for k in range(num_steps):
        new, center_new = x[k].copy(), center[k]
        if k % communication_period == 0:
            new -= beta / num_workers * (x[k] - center[k])
            center_new = (1 - beta) * center[k] + beta * x[k].mean(axis=0)
        for i in range(num_workers):
            own = [row[i] for row in x]
            g = _late_gradient(gradient, i, own, k, delays(i, k))
            new[i] -= learning_rate * g
        x.append(new)
        center.append(center_new)
    return {"workers": np.stack(x), "center": np.stack(center)}
