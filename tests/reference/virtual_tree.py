"""A tree of nodes in virtual time, every move written out by hand.

The moves are those of `timeline/virtual/moves.py`, as `virtual` explains. x is
where a node is, v a worker's velocity, s a statistic, and `rows` what is under
way. Nodes are numbered: the workers, the inner nodes, the root.
"""

import numpy as np


class EasgdTree:
    """x += alpha (y - x) of whatever y comes; a gradient at x + delta v.

    Args:
        gradient: of (step, point), of all workers' steps together.
        statistic: of a step.
        initial: shape (n,), where all begin.
        parents: of each node its parent, -1 of the root, which is the last.
        alphas: of each node.
        learning_rate: a number.
        momentum: delta.
        nesterov: whether gradients are taken at x + delta v, or at x.
    """

    keeps = 0.5  # of a statistic, in a step

    def __init__(
        self,
        gradient,
        statistic,
        initial,
        parents,
        alphas,
        learning_rate,
        momentum=0.0,
        nesterov=True,
    ):
        nodes = len(parents)
        self.p = nodes - len(set(parents) - {-1})
        self.gradient, self.statistic = gradient, statistic
        self.parents, self.alphas = parents, alphas
        self.eta, self.delta = learning_rate, momentum
        self.ahead = momentum if nesterov else 0.0
        self.x = np.tile(np.array(initial, np.float64), (nodes, 1))
        self.v = np.zeros((self.p, len(initial)))
        self.g = np.zeros_like(self.v)
        self.all_s = np.zeros(nodes)
        self.rows = {}
        self.lost = 0
        self.steps = 0

    def follow(self, name, move):
        getattr(self, "do_" + name)(move.worker, move.row)

    @property
    def stored(self):
        """What the workers' variables hold: where their gradients are taken."""
        return self.x[: self.p] + self.ahead * self.v

    @property
    def c(self):
        return self.x[-1]

    @property
    def inner(self):
        return self.x[self.p : -1]

    @property
    def s(self):
        return self.all_s[: self.p]

    @property
    def c_s(self):
        return self.all_s[-1]

    def compute(self, i):
        self.g[i] = self.gradient(self.steps, self.stored[i])
        self.all_s[i] *= self.keeps
        self.all_s[i] += (1 - self.keeps) * self.statistic(self.steps)
        self.steps += 1

    def do_step(self, i, row):
        self.v[i] = self.delta * self.v[i] - self.eta * self.g[i]
        self.x[i] = self.x[i] + self.v[i]

    def do_send(self, i, row):
        self.rows[row] = self.x[i].copy(), self.all_s[i]

    do_node_up = do_node_down = do_root_down = do_send

    def do_follow(self, i, row):
        y, _ = self.rows[row]
        self.x[i] = self.x[i] + self.alphas[i] * (y - self.x[i])

    do_node_from_parent = do_follow

    def do_node_from_child(self, i, row):
        self.do_follow(i, row)
        _, s = self.rows[row]
        self.all_s[i] += self.alphas[i] * (s - self.all_s[i])

    do_root_from_child = do_node_from_child

    def do_not_sent(self, i, row):
        self.lost += 1

    do_not_seen = do_not_sent

    def do_die(self, i, row):
        pass

    def do_join(self, i, row):
        parent = self.parents[i]
        self.x[i], self.v[i] = self.x[parent], 0.0
        self.all_s[i] = self.all_s[parent]


class MovingTree(EasgdTree):
    """The same where inner nodes die, and alpha = beta / (d + 1) by now.

    Args:
        beta: a number.
        **given: of `EasgdTree`.
    """

    def __init__(self, beta, **given):
        super().__init__(alphas=None, **given)
        self.beta = beta
        self.parents = list(self.parents)

    def follow(self, name, move):
        i, to = move.worker, move.count
        if name == "node_die":
            self.parents[i] = None
        elif name == "attach":
            self.parents[i] = to
        elif name == "node_join":
            self.parents[i] = to
            self.x[i], self.all_s[i] = self.x[to], self.all_s[to]
        else:
            of = i if i >= self.p else self.parents[i]
            d = max(sum(parent == of for parent in self.parents), 1)
            self.alphas = {i: self.beta / (d + 1)}
            super().follow(name, move)
