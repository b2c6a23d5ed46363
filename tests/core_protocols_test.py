"""Every protocol, driven step by step: no thread, no network, no time.

The drivers here are a few lines; the numbers have to be the papers'.
"""

import collections

import numpy as np
import pytest

from tests import reference
from tests.reference import overlapped
from tests.reference import pushes
from tf_elastic import core
from tf_elastic.core import orders
from tf_elastic.core import protocols
from tf_elastic.core import rules
from tf_elastic.core import topology
from tf_elastic.core.rules import Context

P, N, STEPS, TAU = 3, 4, 24, 3
ETA, BETA = 0.05, 0.6
INITIAL = np.linspace(-1.0, 2.0, N)
_GENERATOR = np.random.default_rng(21)
_NOISE = _GENERATOR.normal(size=(16, 200, N))
_CURVATURE = _GENERATOR.uniform(0.2, 2.0, size=(16, N))
SCHEDULE = [int(i) for i in _GENERATOR.permutation(np.repeat(range(P), STEPS))]


def gradient(worker, step, point):
    return _CURVATURE[worker] * point - _NOISE[worker, step]


def assert_close(found, expected):
    np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-12)


class Center:
    """A parent that does at once what it is told."""

    def __init__(self, rule, rates, num_children):
        self.rule = rule
        self.rates = {**rates, "num_workers": num_children}
        self.slots = rule.init(INITIAL.copy())
        self.now = {}
        self.version = 0

    def move(self, delta):
        self.now = self.rule.rates_at(self.rates, Context(self.version))
        self.slots = self.rule.apply(self.slots, delta, self.now)
        self.version += 1

    def point(self):
        return self.rule.begin(self.slots, self.now)


class Worker:
    """A child that does what its protocol says."""

    def __init__(self, index, protocol, center):
        self.index, self.protocol, self.center = index, protocol, center
        self.rule = protocol.rule
        self.x = self.read = INITIAL.copy()
        self.clock = 0
        self.seen = self.message = self.came = self.answer = None

    def act(self, moment):
        """What the protocol says, but where there is nothing to give yet."""
        if self.clock == 0 or self.clock % TAU:
            return
        for action in self.protocol.on(moment, self.clock):
            assert action.edge == protocols.PARENT
            getattr(self, f"do_{action.kind}")()

    def do_make(self):
        self.message = self.x
        if self.rule.sends != rules.POINT:
            self.message = rules.increment(self.x, self.read)

    def _bring(self, slots):
        """The answer to what the worker sends now."""
        delta = self.rule.delta(self.message, slots)
        self.center.move(delta)
        return delta if self.rule.answers_difference else self.center.point()

    def do_read(self):
        self.seen = dict(self.center.slots)

    def do_push(self):
        self.came = self._bring(self.seen or self.center.slots)
        self.seen = None

    def do_send(self):
        self.answer = self._bring(self.center.slots)
        self.read = self.x

    def do_collect(self):
        self.came = self.answer

    def do_settle(self):
        if self.rule.answers_difference:
            self.x = self.rule.settle(self.x, self.came, self.center.rates)
        elif self.protocol.name == protocols.Overlapped.name:
            self.x = self.read = orders.go_on(self.came, self.x, self.read)
        else:
            self.x = self.read = self.came

    def step(self):
        if self.clock == 0:
            self.x = self.read = self.center.point()
        g = gradient(self.index, self.clock, self.x)
        if protocols.GRADIENT in self.protocol.moments:
            self.act(protocols.GRADIENT)
        self.x = core.sgd_step(self.x, g, ETA)
        self.clock += 1
        if protocols.STEP in self.protocol.moments:
            self.act(protocols.STEP)


def run(rule, rates, kind):
    """Workers in the order of the schedule."""
    center = Center(rule, rates, P)
    workers = [Worker(i, kind(rule), center) for i in range(P)]
    rows = [(np.stack([w.x for w in workers]), center.slots["center"])]
    for i in SCHEDULE:
        workers[i].step()
        rows.append(
            (np.stack([w.x for w in workers]), center.slots["center"])
        )
    points, centers = zip(*rows, strict=True)
    return {"workers": np.stack(points), "center": np.stack(centers)}


ELASTIC = {"moving_rate": BETA / P, "beta": BETA}
SETTINGS = {
    "schedule": SCHEDULE,
    "num_workers": P,
    "communication_period": TAU,
    "learning_rate": ETA,
}


def check(found, expected):
    for what in ("workers", "center"):
        assert_close(found[what], expected[what])


def test_blocking_is_algorithm_1():
    check(
        run(rules.Elastic(), ELASTIC, protocols.Blocking),
        reference.easgd_asynchronous(
            gradient, INITIAL, **SETTINGS, moving_rate=BETA / P
        ),
    )


def test_overlapped_is_the_second_protocol_of_section_2_2():
    check(
        run(rules.Elastic(), ELASTIC, protocols.Overlapped),
        overlapped.overlapped_at_the_end(
            gradient, INITIAL, **SETTINGS, moving_rate=BETA / P
        ),
    )


@pytest.mark.parametrize("kind", [protocols.Blocking, protocols.Overlapped])
def test_downpour_is_algorithm_3(kind):
    check(
        run(rules.Add(), {}, kind),
        pushes.downpour(
            gradient,
            INITIAL,
            **SETTINGS,
            overlapped=kind is protocols.Overlapped,
        ),
    )


MEETINGS = {
    "local_sgd": (rules.Mean(), {}, {}),
    "diloco": (
        rules.OuterNesterov(),
        {"learning_rate": 0.7, "momentum": 0.9},
        {"outer": (0.7, 0.9)},
    ),
    "downpour": (rules.Add(), {}, {"adds": True}),
    "elastic": (rules.Elastic(), ELASTIC, None),
}


@pytest.mark.parametrize("name", MEETINGS)
def test_synchronous_is_where_all_meet(name):
    rule, rates, expected = MEETINGS[name]
    center = Center(rule, rates, P)
    workers = [Worker(i, protocols.Synchronous(rule), center) for i in range(P)]
    settings = {
        "num_workers": P,
        "communication_period": TAU,
        "learning_rate": ETA,
        "num_steps": STEPS,
    }
    if expected is None:
        expected = reference.easgd_synchronous(
            gradient, INITIAL, **settings, moving_rate=BETA / P
        )
    else:
        expected = pushes.meetings(gradient, INITIAL, **settings, **expected)

    def meet(moment):
        """One round: all who have something bring it, then all settle."""
        if workers[0].clock == 0 or workers[0].clock % TAU:
            return
        actions = [w.protocol.on(moment, w.clock) for w in workers]
        kinds = [[a.kind for a in each] for each in actions]
        assert kinds == [[protocols.MAKE, protocols.MEET, protocols.SETTLE]] * P
        for worker in workers:
            worker.do_make()
        deltas = [rule.delta(w.message, center.slots) for w in workers]
        center.move(orders.summed(deltas))
        for worker, delta in zip(workers, deltas, strict=True):
            answers = rule.answers_difference
            worker.came = delta if answers else center.point()
            worker.do_settle()

    for step in range(STEPS):
        gradients = [gradient(w.index, step, w.x) for w in workers]
        if protocols.GRADIENT in workers[0].protocol.moments:
            meet(protocols.GRADIENT)
        for worker, g in zip(workers, gradients, strict=True):
            worker.x = core.sgd_step(worker.x, g, ETA)
            worker.clock += 1
        if protocols.STEP in workers[0].protocol.moments:
            meet(protocols.STEP)
        assert_close(center.slots["center"], expected["center"][step + 1])
        assert_close(
            np.stack([w.x for w in workers]), expected["workers"][step + 1]
        )


@pytest.mark.parametrize("kind", protocols.PROTOCOLS.values())
@pytest.mark.parametrize("rule", [rules.Elastic(), rules.Add(), rules.Mean()])
def test_at_other_moments_nothing_is_done(kind, rule):
    protocol = kind(rule)
    for moment in (protocols.GRADIENT, protocols.STEP):
        if moment not in protocol.moments:
            assert protocol.on(moment, 2 * TAU) == []


def test_at_the_end_what_is_on_its_way_is_waited_for():
    protocol = protocols.Overlapped(rules.Elastic())
    assert protocol.on(protocols.END, 0) == []
    protocol.on(protocols.STEP, TAU)
    kinds = [a.kind for a in protocol.on(protocols.END, TAU + 1)]
    assert kinds == [protocols.COLLECT, protocols.SETTLE]
    assert protocol.on(protocols.END, TAU + 1) == []


# Algorithm 6.


class TreeNode:
    """A node of a tree: a worker if it has no children."""

    def __init__(self, name, tree, mail):
        self.name, self.mail = name, mail
        self.parent, up, down = None, None, None
        if name != tree.root:
            edge = tree.edge_of(name)
            self.parent, up = edge.parent, edge.up_period
        children = tree.children(name)
        if children:
            down = tree.edge_of(children[0]).down_period
        self.protocol = protocols.OneWay(
            rules.Elastic(), up, down, children
        )
        self.slots = {"center": INITIAL.copy()}
        self.clock = 0
        self.inbox = []  # (from whom, what), in the order of arrival

    def turn(self, alpha, worker, now):
        arrived = dict(self.inbox)
        edges = [sender for sender, _ in self.inbox]
        self.inbox = []
        for action in self.protocol.on(protocols.GRADIENT, self.clock, edges):
            if action.kind == protocols.SEND:
                to = self.parent if action.edge == protocols.PARENT else (
                    action.edge
                )
                self.mail.append((now, self.name, to, self.slots["center"]))
                continue
            assert action.kind == protocols.SETTLE
            rule = self.protocol.rule
            delta = rule.delta(arrived[action.edge], self.slots)
            self.slots = rule.apply(
                self.slots, delta, {"beta": alpha, "num_workers": 1}
            )
        if worker is not None:
            x = self.slots["center"]
            g = gradient(worker, self.clock, x)
            self.slots = {"center": core.sgd_step(x, g, ETA)}
        self.clock += 1


def algorithm_6(tree, alpha, turns, delay):
    """The thesis' pseudo-code, line by line, in plain NumPy."""
    x = {name: INITIAL.copy() for name in tree.nodes}
    t = dict.fromkeys(tree.nodes, 0)
    arrivals = {name: [] for name in tree.nodes}
    under_way, rows = [], []
    workers = {name: k for k, name in enumerate(tree.leaves)}
    for now, i in enumerate(turns):
        for message in [m for m in under_way if m[0] + delay(*m[:3]) <= now]:
            under_way.remove(message)
            _, sender, to, value = message
            arrivals[to] = [a for a in arrivals[to] if a[0] != sender]
            arrivals[to].append((sender, value))
        edge = None if i == tree.root else tree.edge_of(i)
        children = tree.children(i)
        if edge is not None and t[i] % edge.up_period == 0:
            under_way.append((now, i, edge.parent, x[i]))
        if children:
            down = tree.edge_of(children[0]).down_period
            if t[i] % down == 0:
                for child in children:
                    under_way.append((now, i, child, x[i]))
        for _, value in arrivals[i]:
            x[i] = x[i] + alpha * (value - x[i])
        arrivals[i] = []
        if i in workers:
            x[i] = x[i] - ETA * gradient(workers[i], t[i], x[i])
        t[i] += 1
        rows.append(np.stack([x[name] for name in tree.nodes]))
    return np.stack(rows)


@pytest.mark.parametrize(
    ("up", "down", "leaf"), [(4, 2, None), (2, 6, None), (6, 6, 2)]
)
def test_one_way_is_algorithm_6(up, down, leaf):
    """Both communication schemes of section 6.1.1, three levels."""
    tree = topology.tree(2, 2, up, down, leaf)
    alpha = 0.9 / 3
    generator = np.random.default_rng(7)
    turns = [str(n) for n in generator.choice(tree.nodes, size=600)]
    late = collections.defaultdict(lambda: int(generator.integers(1, 40)))

    def delay(now, sender, to):
        return late[now, sender, to]

    mail = []
    nodes = {name: TreeNode(name, tree, mail) for name in tree.nodes}
    workers = {name: k for k, name in enumerate(tree.leaves)}
    rows, settled = [], 0
    for now, name in enumerate(turns):
        for message in [m for m in mail if m[0] + delay(*m[:3]) <= now]:
            mail.remove(message)
            _, sender, to, value = message
            inbox = nodes[to].inbox
            parent = nodes[to].parent
            edge = protocols.PARENT if sender == parent else sender
            # A newer one from the same node supersedes what was not seen.
            inbox[:] = [each for each in inbox if each[0] != edge]
            inbox.append((edge, value))
        settled += len(nodes[name].inbox)
        nodes[name].turn(alpha, workers.get(name), now)
        rows.append(np.stack([nodes[n].slots["center"] for n in tree.nodes]))
    assert settled > 100
    assert_close(rows, algorithm_6(tree, alpha, turns, delay))


# Who exchanges with whom.


def test_a_star_and_trees():
    star = topology.star(3, 10)
    assert star.root == "root"
    assert star.leaves == ("0", "1", "2")
    assert star.edge_of("1") == ("1", "root", 10, None)
    tree = topology.tree(3, 2, 100, 100, 10)
    assert len(tree.leaves) == 9
    assert tree.children("root") == ("0", "1", "2")
    assert tree.edge_of("2") == ("2", "root", 100, 100)
    assert tree.edge_of("2.1") == ("2.1", "2", 10, 10)
    assert topology.tree(1, 3, 5).nodes == ("root", "0", "0.0", "0.0.0")


def test_a_topology_in_a_file(tmp_path):
    import json

    path = tmp_path / "tree.json"
    path.write_text(json.dumps(topology.tree(2, 2, 4, 8).to_json()))
    assert topology.from_file(path).edges == topology.tree(2, 2, 4, 8).edges
    path.write_text("[[1]]")
    with pytest.raises(ValueError, match="tree.json is no topology"):
        topology.from_file(path)


@pytest.mark.parametrize(
    ("edges", "message"),
    [
        ([], "the root. Received: none"),
        ([("a", "r", 1), ("a", "s", 1)], "several for \\['a'\\]"),
        ([("a", "r", 1), ("b", "s", 1)], "\\['r', 's'\\]"),
        ([("a", "b", 1), ("b", "a", 1), ("c", "r", 1)], "a loop at 'a'"),
        ([("a", "r", 0)], "up_period=0 of 'a'"),
        ([("a", "r", 1, 2.5)], "down_period=2.5 of 'a'"),
    ],
)
def test_what_is_no_tree(edges, message):
    with pytest.raises(ValueError, match=message):
        topology.Topology([topology.Edge(*edge) for edge in edges])


def test_arguments_of_a_tree():
    for wrong in ({"degree": 0, "depth": 1}, {"degree": 2, "depth": 1.5}):
        with pytest.raises(ValueError, match="an integer >= 1"):
            topology.tree(**wrong, up_period=1)
