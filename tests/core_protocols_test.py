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
from tf_elastic.core import one_way
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
        rows.append((np.stack([w.x for w in workers]), center.slots["center"]))
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


@pytest.mark.parametrize(
    ("kind", "rule"),
    [
        (kind, rule)
        for kind in protocols.PROTOCOLS.values()
        for rule in (rules.Elastic(), rules.Add(), rules.Mean())
        if kind is not protocols.OneWay or rule.works_both_ways
    ],
)
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

    def __init__(self, name, tree, settings):
        self.name = name
        up = settings["up_periods"].get(name)
        down = settings["down_periods"].get(name)
        self.protocol = protocols.OneWay(
            rules.Elastic(), up, down, tree.children(name)
        )
        self.slots = {"center": INITIAL.copy()}
        self.clock = 0
        self.sent = collections.defaultdict(list)  # by edge
        self.inbox = []  # (from whom, what), in the order of arrival

    def turn(self, rates, worker):
        edges = [edge for edge, _ in self.inbox]
        for action in self.protocol.on(protocols.GRADIENT, self.clock, edges):
            if action.kind == protocols.SEND:
                self.sent[action.edge].append(self.slots["center"])
                continue
            assert action.kind == protocols.SETTLE
            edge, came = self.inbox.pop(0)
            assert edge == action.edge
            is_parent = edge == protocols.PARENT
            move = one_way.from_parent if is_parent else one_way.from_child
            self.slots = move(self.protocol.rule, came, self.slots, rates)
        if worker is not None:
            x = self.slots["center"]
            g = gradient(worker, self.clock, x)
            self.slots = {"center": core.sgd_step(x, g, ETA)}
        self.clock += 1


@pytest.mark.parametrize(
    "scheme",
    [
        topology.up_down(4, 2),
        topology.up_down(2, 6),
        topology.multi_scale(2, 6),
    ],
)
def test_one_way_is_algorithm_6(scheme):
    """Both communication schemes of section 6.1.1, three levels."""
    tree = topology.tree(2, 2, scheme)
    parents = {edge.child: edge.parent for edge in tree.edges}
    settings = {
        "up_periods": {edge.child: edge.up_period for edge in tree.edges},
        "down_periods": {edge.parent: edge.down_period for edge in tree.edges},
    }
    generator = np.random.default_rng(7)
    schedule = [
        (str(what), str(node))
        for what in generator.choice(["turn", "up", "down"], size=1500)
        for node in [generator.choice(tree.nodes)]
        if what == "turn" or node != tree.root
    ]
    rates = {"moving_rate": 0.3, "beta": 0.9, "num_workers": 3}
    nodes = {name: TreeNode(name, tree, settings) for name in tree.nodes}
    workers = {name: k for k, name in enumerate(tree.leaves)}
    rows = {name: [INITIAL] for name in tree.nodes}
    settled = 0
    for what, name in schedule:
        node = nodes[name]
        if what == "turn":
            settled += len(node.inbox)
            node.turn(rates, workers.get(name))
        elif what == "up" and node.sent[protocols.PARENT]:
            came = node.sent[protocols.PARENT].pop(0)
            nodes[parents[name]].inbox.append((name, came))
        elif what == "down" and nodes[parents[name]].sent[name]:
            came = nodes[parents[name]].sent[name].pop(0)
            node.inbox.append((protocols.PARENT, came))
        for each in tree.nodes:
            rows[each].append(nodes[each].slots["center"])
    assert settled > 100
    expected = reference.easgd_tree(
        gradient,
        INITIAL,
        parents=parents,
        schedule=schedule,
        learning_rate=ETA,
        moving_rate=0.3,
        most_waiting=len(schedule),
        **settings,
    )
    assert not expected["lost"]
    for name in tree.nodes:
        assert_close(np.stack(rows[name]), expected["nodes"][name])


def test_two_that_send_at_once_leave_their_sum_as_it_was():
    rates = {"moving_rate": 0.3, "beta": 0.9, "num_workers": 3}
    parent = {"center": np.array([1.0, -2.0])}
    child = {"center": np.array([3.0, 5.0])}
    up = one_way.from_child(rules.Elastic(), child["center"], parent, rates)
    down = one_way.from_parent(rules.Elastic(), parent["center"], child, rates)
    assert_close(up["center"] + down["center"], [4.0, 3.0])
    assert abs(up["center"] - parent["center"]).max() > 0.1


def test_what_a_rule_has_children_keep_goes_up_alone():
    rates = {"beta": 0.5, "num_workers": 2}
    slots = {"center": np.array([1.0])}
    rule = rules.Follow()
    assert one_way.from_child(rule, 3.0, slots, rates)["center"] == 1.5
    assert one_way.from_parent(rule, 3.0, slots, rates)["center"] == 1.0


def test_an_average_over_time_is_of_what_comes_up():
    rule = rules.TimeAverage(rules.Elastic())
    rates = {
        "moving_rate": 0.5,
        "beta": 0.5,
        "num_workers": 1,
        "averaging_rate": 0.25,
    }
    slots = {"center": 1.0, "average": 5.0}
    up = one_way.from_child(rule, 3.0, slots, rates)
    assert up == {"center": 2.0, "average": 4.0}
    down = one_way.from_parent(rule, 3.0, slots, rates)
    assert down == {"center": 2.0, "average": 5.0}


@pytest.mark.parametrize(
    "rule", [rules.Add(), rules.Mean(), rules.TimeAverage(rules.Add())]
)
def test_a_rule_that_needs_answers_goes_not_one_way(rule):
    with pytest.raises(ValueError, match="works both ways.*" + rule.name):
        protocols.OneWay(rule, 1)


@pytest.mark.parametrize("name", ["up_period", "down_period"])
@pytest.mark.parametrize("value", [0, 1.5, True])
def test_a_period_that_is_none(name, value):
    with pytest.raises(ValueError, match=f"{name}={value}"):
        protocols.OneWay(rules.Elastic(), **{name: value})
