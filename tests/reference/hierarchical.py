"""Trees whose nodes meet, or accumulate: the papers' programs, event by event.

Nothing here knows of the moves of `timeline/virtual`: who does what when
follows from what steps and messages take. Nodes are numbered: the workers, the
inner nodes, the root. Workers take plain SGD steps.
"""

import heapq
import itertools

import numpy as np


class Hierarchy:
    """What both have in common: steps of workers, and messages.

    Args:
        gradient: of (number of the step among all, point).
        statistic: of a step's number.
        initial: shape (n,), where all begin.
        parents: of each node its parent, -1 of the root, which is the last.
        up_periods: of each node but the root: of workers in steps.
        step_seconds: of each worker an iterator.
        edge_seconds: of each node what a message to or from its parent takes.
        learning_rate: of the workers.
    """

    keeps = 0.5  # of a statistic, in a step

    def __init__(
        self,
        gradient,
        statistic,
        initial,
        parents,
        up_periods,
        step_seconds,
        edge_seconds,
        learning_rate,
    ):
        self.gradient, self.statistic = gradient, statistic
        self.parents, self.up_periods = parents, up_periods
        self.step_seconds, self.edge_seconds = step_seconds, edge_seconds
        self.eta = learning_rate
        self.p, self.root = len(step_seconds), len(parents) - 1
        initial = np.array(initial, np.float64)
        self.x = [initial.copy() for _ in parents]
        self.s = [0.0] * len(parents)
        self.clocks = [0] * self.p
        self.children = [
            [c for c, p in enumerate(parents) if p == node]
            for node in range(len(parents))
        ]
        self.time = 0.0
        self.steps = 0
        self._events = []
        self._order = itertools.count()

    def after(self, seconds, do, *args):
        entry = (self.time + seconds, next(self._order), do, args)
        heapq.heappush(self._events, entry)

    def run(self, steps):
        """What all have come to after each step and all before the next one."""
        for worker in range(self.p):
            self.compute(worker)
        found = []
        while len(found) < steps:
            self.time, _, do, args = heapq.heappop(self._events)
            if do == self.take_step and self.steps:
                found.append(self.state())
            do(*args)
        return found[:steps]

    def state(self):
        return np.stack(self.x), np.array(self.s)

    def compute(self, worker):
        self.after(next(self.step_seconds[worker]), self.take_step, worker)

    def take_step(self, i):
        g = self.gradient(self.steps, self.x[i])
        self.s[i] *= self.keeps
        self.s[i] += (1 - self.keeps) * self.statistic(self.steps)
        self.x[i] = self.x[i] - self.eta * g
        self.steps += 1
        self.clocks[i] += 1
        if self.clocks[i] % self.up_periods[i]:
            self.compute(i)
        else:
            self.sends(i)


class HierarchicalLocalSGD(Hierarchy):
    """Lin et al. (2020): blocks average, and after H_b rounds all do."""

    def __init__(self, *args):
        super().__init__(*args)
        self.here = [{} for _ in self.parents]
        self.rounds = [0] * len(self.parents)

    def workers_below(self, node):
        if node < self.p:
            return [node]
        return [w for c in self.children[node] for w in self.workers_below(c)]

    def sends(self, child):
        what = self.x[child].copy(), self.s[child]
        self.after(self.edge_seconds[child], self.comes, child, *what)

    def comes(self, child, x, s):
        node = self.parents[child]
        self.here[node][child] = x, s
        if len(self.here[node]) < len(self.children[node]):
            return
        weights = {c: len(self.workers_below(c)) for c in self.here[node]}
        total = sum(weights.values())
        self.x[node] = (
            sum(weights[c] * x for c, (x, _) in self.here[node].items()) / total
        )
        self.s[node] = (
            sum(weights[c] * s for c, (_, s) in self.here[node].items()) / total
        )
        self.here[node] = {}
        self.rounds[node] += 1
        is_root = node == self.root
        if is_root or self.rounds[node] % self.up_periods[node]:
            self.tells(node)
        else:
            self.sends(node)

    def tells(self, node):
        for child in self.children[node]:
            self.after(
                self.edge_seconds[child], self.hears, child, self.x[node]
            )

    def hears(self, child, x):
        self.x[child] = x.copy()
        if child < self.p:
            self.compute(child)
        else:
            self.tells(child)


class Server:
    """Liu et al. (2024), Algorithm 3, with c = 0: delayed Nesterov momentum.

    `gradient` is what is descended by: minus the way.
    """

    def __init__(self, x, learning_rate, momentum, delay):
        self.x = x.copy()
        self.rate, self.momentum, self.delay = learning_rate, momentum, delay
        self.m, self.delta = np.zeros_like(x), np.zeros_like(x)
        self.t = 0

    def update(self, gradient):
        self.delta = self.delta + gradient
        self.t += 1
        if self.t % self.delay == 0:
            self.m = self.momentum * self.m + self.delta / self.delay
            way = self.momentum * self.m + gradient / self.delay
            self.delta = np.zeros_like(self.m)
        else:
            way = gradient / self.delay
        self.x = self.x - self.rate * way


class HALoS(Hierarchy):
    """Kim et al. (2025), Algorithm 1, as the authors' simulator has it.

    Args:
        *args: of `Hierarchy`; the up period of a server is K.
        regional: (learning rate, momentum, delay) of regional servers.
        of_global: of the global one.
        merge_weight: alpha.
    """

    def __init__(self, *args, regional, of_global, merge_weight):
        super().__init__(*args)
        self.alpha = merge_weight
        self.began = {w: self.x[w].copy() for w in range(self.p)}
        self.servers = {
            node: Server(
                self.x[node], *(of_global if node == self.root else regional)
            )
            for node in range(self.p, len(self.parents))
        }
        self.merged = {node: self.x[node].copy() for node in self.servers}
        self.version = dict.fromkeys(self.servers, 0)
        self.merged_version = dict.fromkeys(self.servers, 0)

    def state(self):
        for node, server in self.servers.items():
            self.x[node] = server.x
        return super().state()

    def sends(self, worker):
        gradient = self.began[worker] - self.x[worker]
        self.after(
            self.edge_seconds[worker],
            self.update_comes,
            worker,
            gradient,
            self.s[worker],
        )

    def update_comes(self, child, gradient, s):
        node = self.parents[child]
        server = self.servers[node]
        server.update(gradient)
        self.s[node] += (s - self.s[node]) / len(self.children[node])
        self.version[node] += 1
        since = self.version[node] - self.merged_version[node]
        if node != self.root and since == self.up_periods[node]:
            self.after(
                self.edge_seconds[node],
                self.update_comes,
                node,
                self.merged[node] - server.x,
                self.s[node],
            )
        self.after(
            self.edge_seconds[child], self.answer_comes, child, server.x.copy()
        )

    def answer_comes(self, child, x):
        if child < self.p:
            self.x[child], self.began[child] = x.copy(), x.copy()
            self.compute(child)
            return
        server = self.servers[child]
        server.x = (1 - self.alpha) * server.x + self.alpha * x
        self.merged[child] = server.x.copy()
        self.merged_version[child] = self.version[child]
