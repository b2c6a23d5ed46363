"""HeLoCo: pushes that are turned to the momentum of the center.

Al Asif et al. (2026), "HeLoCo". Workers come in any order, as in `pushes`: row
k is the state before turn k.
"""

import numpy as np

from tests.reference.pushes import Rows

C_OK, K_S, BETA_MAX, K_D, KAPPA, EPS = 0.2, 0.5, 0.5, 1.0, 3.0, 1e-8


def corrected(delta, m):
    """Algorithm 2: one block of a pseudo-gradient, by that of the momentum."""
    length, of_m = np.linalg.norm(delta), np.linalg.norm(m)
    if length < EPS or of_m < EPS:
        return delta
    u, v = delta / length, m / of_m
    c = np.dot(u, v)
    confidence = length / (length + KAPPA * of_m + EPS)
    if c >= C_OK:
        return delta
    if c < 0:
        beta = min(K_S * -c * confidence, BETA_MAX)
        return delta - beta * c * length * v
    turned = min(K_D * (1 - c) * confidence, 1)
    mixed = (1 - turned) * u + turned * v
    return length * mixed / max(np.linalg.norm(mixed), EPS)


def heloco(
    gradient,
    initial,
    *,
    blocks,
    schedule,
    num_workers,
    communication_period,
    learning_rate,
    outer_learning_rate,
    outer_momentum,
    weight=None,
    overlapped=False,
    together=False,
):
    """Algorithm 1, with SGD inside.

    Worker i begins at the theta-bar that it was given, and brings what it has
    come to, Delta = theta-bar - theta_i. The server, block by block:

      G <- rho corrected(Delta, m)
      m <- mu m + (1 - mu) G
      theta <- theta - eta (G + mu m)

    and gives theta-bar = theta - eta mu m. `blocks` are the slices of the
    variables; `weight` is rho, 1 / sqrt(p) if it is left out. For `overlapped`
    and `together` see `async_diloco`. `"kinds"` counts the blocks that were
    kept, shortened and turned.
    """
    p, tau = num_workers, communication_period
    eta, mu = outer_learning_rate, outer_momentum
    rho = 1 / np.sqrt(p) if weight is None else weight
    theta = np.array(initial, np.float64)
    m = 0 * theta
    given = theta.copy()
    x = [theta.copy() for _ in range(p)]
    begun = [theta.copy() for _ in range(p)]
    back = [None] * p
    clocks = [0] * p
    kinds = np.zeros(3)
    rows = Rows(workers=x, center=theta, momentum=m, kinds=kinds)
    for i in schedule:
        if clocks[i] == 0 and not together:
            x[i], begun[i] = given.copy(), given.copy()
        x[i] = x[i] - learning_rate * gradient(i, clocks[i], x[i])
        clocks[i] += 1
        if clocks[i] % tau == 0:
            delta = begun[i] - x[i]
            if overlapped and back[i] is not None:
                x[i] = back[i] - delta
            g = np.empty_like(delta)
            for block in blocks:
                g[block] = rho * corrected(delta[block], m[block])
                c = np.dot(delta[block], m[block])
                kept = np.array_equal(g[block], rho * delta[block])
                kinds[0 if kept else 1 if c < 0 else 2] += 1
            m = mu * m + (1 - mu) * g
            theta = theta - eta * (g + mu * m)
            given = theta - eta * mu * m
            back[i] = given
            if not overlapped:
                x[i] = given.copy()
            begun[i] = x[i].copy()
        rows.add(workers=x, center=theta, momentum=m, kinds=kinds)
    return rows.stacked()
