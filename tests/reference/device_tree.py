"""Workers around local centers, and those around one center, step by step.

A tree of two levels as chapter 6 has it, of other protocols: the workers of
one node meet as in eqs. 2.3 and 2.4; their center then exchanges with the root
as a worker does by Algorithm 1.
"""

import numpy as np


def device_tree(
    gradient,
    initial,
    *,
    schedule,
    num_nodes,
    workers_per_node,
    inner_period,
    outer_period,
    learning_rate,
    inner_rate,
    outer_rate,
    momentum=0.0,
    gauss_seidel=False,
    overlapped=False,
):
    """Each turn is a step of all workers of one node, of clock t.

    c^j, x^{ji} <- r  (before the first step)
    Repeat
      if (tau_1 divides t) then
        d^i <- x^{ji} - c^j;  x^{ji} <- x^{ji} - alpha_1 d^i
        c^j <- c^j + alpha_1 sum_i d^i
      if (tau_2 divides t > 0) then
        D <- c^j - r;  c^j <- c^j - alpha_2 D;  r <- r + alpha_2 D
      v^{ji} <- delta v^{ji} - eta g^{ji}_t(x^{ji} + delta v^{ji})
      x^{ji} <- x^{ji} + v^{ji};  t <- t + 1

    where the gradient is taken before both exchanges, whose differences are
    of the points it was taken at.

    Args:
        gradient: of (worker, step, point); a node's workers are numbered on.
        gauss_seidel: inside, at the end of step t - 1 instead: first
            c^j <- c^j + alpha_1 sum_i d^i, then x^{ji} <- x^{ji} - alpha_1
            (x^{ji} - c^j).
        overlapped: outside, at the end of step t - 1 instead: what was sent a
            period ago is answered, c^j <- c^j - alpha_2 D; then c^j leaves,
            D <- c^j - r, r <- r + alpha_2 D.

    Returns:
        "workers" (turns + 1, nodes, workers, n), "local" (turns + 1, nodes,
        n) and "center" (turns + 1, n).
    """
    n = len(initial)
    r = np.array(initial, np.float64)
    c = np.tile(r, (num_nodes, 1))
    x = np.tile(r, (num_nodes, workers_per_node, 1))
    v = np.zeros_like(x)
    pending = np.zeros((num_nodes, n))
    clocks = [0] * num_nodes
    rows = {"workers": [x.copy()], "local": [c.copy()], "center": [r.copy()]}
    for j in schedule:
        t = clocks[j]
        if t == 0:
            c[j], x[j] = r, r
        gradients = [
            gradient(j * workers_per_node + i, t, x[j, i] + momentum * v[j, i])
            for i in range(workers_per_node)
        ]
        if not gauss_seidel and t % inner_period == 0:
            d = x[j] - c[j]
            x[j] = x[j] - inner_rate * d
            c[j] = c[j] + inner_rate * d.sum(axis=0)
        if not overlapped and t > 0 and t % outer_period == 0:
            away = c[j] - r
            c[j] = c[j] - outer_rate * away
            r = r + outer_rate * away
        for i in range(workers_per_node):
            v[j, i] = momentum * v[j, i] - learning_rate * gradients[i]
            x[j, i] = x[j, i] + v[j, i]
        clocks[j] = t = t + 1
        if gauss_seidel and t % inner_period == 0:
            d = x[j] - c[j]
            c[j] = c[j] + inner_rate * d.sum(axis=0)
            x[j] = x[j] - inner_rate * (x[j] - c[j])
        if overlapped and t % outer_period == 0:
            c[j] = c[j] - outer_rate * pending[j]
            pending[j] = c[j] - r
            r = r + outer_rate * pending[j]
        rows["workers"].append(x.copy())
        rows["local"].append(c.copy())
        rows["center"].append(r.copy())
    return {name: np.stack(states) for name, states in rows.items()}
