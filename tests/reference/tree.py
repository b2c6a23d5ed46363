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
):
    """Algorithm 6, for all nodes of a tree.

    Repeat
      if (tau_up divides t^i) then Isend x^i to parent
      if (tau_down divides t^i) then Isend x^i to children
      if there is new arrival of x^{p(i)} or x^{c(i,j)} then
        x^i <- x^i + alpha (x^{...} - x^i)
      x^i <- x^i - eta grad f(x^i, xi^i_{t^i})             (leaves only)
      t^i <- t^i + 1

    Args:
        parents: {child: its parent}; nodes by any names. Leaves are numbered
            for `gradient` in this order.
        schedule: pairs of "turn" and a node, which takes its turn of the loop;
            "up" and a node, whose oldest message to its parent arrives there;
            "down" and a node, at which its parent's oldest one arrives.
        up_periods: {child: its tau_up}.
        down_periods: {node with children: its tau_down}.
        most_waiting: messages.

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

    for what, i in schedule:
        if what == "up":
            arrive(i, parents[i])
        elif what == "down":
            arrive(parents[i], i)
        else:
            if i in parents and t[i] % up_periods[i] == 0:
                isend(i, parents[i])
            if i in children and t[i] % down_periods[i] == 0:
                for child in children[i]:
                    isend(i, child)
            for _, value in arrived.pop(i, ()):
                x[i] = x[i] + moving_rate * (value - x[i])
            if i in leaves:
                slope = gradient(leaves.index(i), t[i], x[i])
                x[i] = x[i] - learning_rate * slope
            t[i] += 1
        for node in nodes:
            rows[node].append(x[node])
    return {
        "nodes": {node: np.stack(row) for node, row in rows.items()},
        "lost": dict(lost),
    }
