"""EASGD Tree (the thesis, section 6.1), with an order of events that is given.

The pseudo-code says neither when a message arrives nor what becomes of several
that wait on one edge. Here the schedule says when, and no more than
`most_waiting` of each edge wait on each side of the network: of more the oldest
is lost.
"""

import collections

import numpy as np


def easgd_tree(
    gradient,
    initial,
    *,
    parents,
    schedule,
    up_periods,
    down_periods,
    learning_rate,
    moving_rate,
    most_waiting,
    momentum=0.0,
    nesterov=True,
):
    """Algorithm 6, for all nodes of a tree.

    Repeat
      if (tau_up divides t^i) then Isend x^i to parent
      if (tau_down divides t^i) then Isend x^i to children
      if there is new arrival of x^{p(i)} or x^{c(i,j)} then
        x^i <- x^i + alpha (x^{...} - x^i)
      x^i <- x^i - eta grad f(x^i, xi^i_{t^i})             (leaves only)
      t^i <- t^i + 1

    With momentum a leaf's own step is that of Algorithm 2, or of the heavy
    ball; its velocity is nobody else's, and no arrival changes it.

    Args:
        parents: {child: its parent}; nodes by any names. Leaves are numbered
            for `gradient` in this order.
        schedule: pairs of "turn" and a node, which takes its turn of the loop;
            "head" and "step" for the two halves of that: all before the
            gradient, and it with all after;
            "ask" and a node: its parent moves to it, then it to its parent;
            "up" and a node, whose oldest message to its parent arrives there;
            "down" and a node, at which its parent's oldest one arrives.
        up_periods: {child: its tau_up}.
        down_periods: {node with children: its tau_down}.
        moving_rate: alpha; or {node: its own}.
        most_waiting: messages.
        momentum: delta of the leaves.
        nesterov: whether gradients are taken at x + delta v.

    Returns:
        "nodes": {node: shape (events + 1, n)}; "lost": {(sender, receiver):
        how many}, those that were too many.
    """
    children = collections.defaultdict(list)
    for child, parent in parents.items():
        children[parent].append(child)
    nodes = [*{**parents, **children}]
    leaves = [node for node in parents if node not in children]
    x = {node: np.array(initial, np.float64) for node in nodes}
    t = dict.fromkeys(nodes, 0)
    sent = collections.defaultdict(list)
    arrived = collections.defaultdict(list)  # of a node: (sender, value)
    lost = collections.Counter()
    v = {leaf: np.zeros_like(x[leaf]) for leaf in leaves}
    rows = {node: [x[node]] for node in nodes}

    def isend(i, to):
        waiting = sent[i, to]
        waiting.append(x[i])
        if len(waiting) > most_waiting:
            del waiting[0]
            lost[i, to] += 1

    def arrive(sender, to):
        if not sent[sender, to]:
            return
        arrived[to].append((sender, sent[sender, to].pop(0)))
        of_edge = [each for each in arrived[to] if each[0] == sender]
        if len(of_edge) > most_waiting:
            oldest = [each[0] for each in arrived[to]].index(sender)
            del arrived[to][oldest]
            lost[sender, to] += 1

    def follow(i, value):
        alpha = moving_rate[i] if isinstance(moving_rate, dict) else moving_rate
        x[i] = x[i] + alpha * (value - x[i])

    def head(i):
        if i in parents and t[i] % up_periods[i] == 0:
            isend(i, parents[i])
        if i in children and t[i] % down_periods[i] == 0:
            for child in children[i]:
                isend(i, child)
        for _, value in arrived.pop(i, ()):
            follow(i, value)

    def step(i):
        if i in leaves:
            point = x[i] + momentum * v[i] if nesterov else x[i]
            slope = gradient(leaves.index(i), t[i], point)
            v[i] = momentum * v[i] - learning_rate * slope
            x[i] = x[i] + v[i]
        t[i] += 1

    for what, i in schedule:
        if what == "up":
            arrive(i, parents[i])
        elif what == "down":
            arrive(parents[i], i)
        elif what == "ask":
            follow(parents[i], x[i])
            follow(i, x[parents[i]])
        elif what == "head":
            head(i)
        elif what == "step":
            step(i)
        else:
            head(i)
            step(i)
        for node in nodes:
            rows[node].append(x[node])
    return {
        "nodes": {node: np.stack(row) for node, row in rows.items()},
        "lost": dict(lost),
    }
