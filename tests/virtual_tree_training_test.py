"""Trees in virtual time against transcriptions that are written out by hand.

There is no tree in one process but this one.
"""

import keras
import numpy as np
import pytest

from tests import reference
from tests import virtual_training_support as support
from tests.reference import virtual_tree
from tests.virtual_training_support import INITIAL
from tests.virtual_training_support import center_of
from tests.virtual_training_support import gradient
from tests.virtual_training_support import statistic
from tests.virtual_training_support import workers_of
from tests.virtual_tree_support import SLOW
from tests.virtual_tree_support import UNEVEN
from tf_elastic import optimizers
from tf_elastic import strategies
from tf_elastic.core import topology
from tf_elastic.timeline.event_file import read
from tf_elastic.timeline.verify import verify
from tf_elastic.timeline.virtual import LogNormal
from tf_elastic.timeline.virtual import Timing
from tf_elastic.timeline.virtual.nodes import Nodes

pytestmark = pytest.mark.usefixtures("float64")
ETA, BETA, DELTA = 0.05, 0.9, 0.8
FAULTY = Timing(
    LogNormal(1.0, 0.5),
    latency=0.4,
    deaths=0.03,
    recovery=3.0,
    joins=[(1, 4.0)],
    node_bandwidth=300.0,
)
DEEP = topology.tree(2, 3, topology.multi_scale(1, 2))


def eamsgd(**changes):
    given = {"momentum": DELTA, "beta": BETA, "communication_period": 1}
    return optimizers.EAMSGD(ETA, jit_compile=False, **{**given, **changes})


def strategy_of(tree, timing=None, **options):
    return strategies.VirtualClusterStrategy(
        len(tree.leaves), topology=tree, timing=timing, seed=5, **options
    )


def alphas_of(nodes, beta=BETA):
    """beta / (d + 1), of a leaf that of its parent."""
    of = [
        node if children else nodes.parent[node]
        for node, children in enumerate(nodes.children)
    ]
    return [beta / (len(nodes.children[node]) + 1) for node in of]


class Beside(support.Beside):
    """The inner nodes too."""

    def on_train_batch_end(self, batch, logs=None):
        super().on_train_batch_end(batch, logs)
        if (batch + 1) % self.every == 0:
            found = self.model.optimizer._exchange.inner_values()
            head, tail, seen = (value.numpy() for value in found)
            inner = np.concatenate([head, tail], axis=1)
            support.same(inner, self.reference.inner)
            p = self.reference.p
            support.same(seen, self.reference.all_s[p:-1])


def replay(tree, timing, momentum, nesterov=True, steps=180, **options):
    strategy = strategy_of(tree, timing, **options)
    model = support.build(
        strategy, lambda: eamsgd(momentum=momentum, nesterov=nesterov)
    )
    nodes = Nodes(tree)
    told = virtual_tree.EasgdTree(
        gradient,
        statistic,
        INITIAL,
        nodes.parent,
        alphas_of(nodes),
        ETA,
        momentum,
        nesterov,
    )
    beside = Beside(strategy, told)
    support.fit(model, steps, callbacks=[beside])
    assert beside.compared == steps // 3
    return beside, strategy


@pytest.mark.parametrize(
    ("tree", "timing", "momentum", "most_waiting"),
    [
        pytest.param(UNEVEN, SLOW, DELTA, 1, id="uneven-slow-momentum"),
        pytest.param(UNEVEN, FAULTY, DELTA, 4, id="uneven-faulty-momentum"),
        pytest.param(
            DEEP, SLOW, 0.0, 1, id="deep-slow", marks=pytest.mark.full
        ),
        pytest.param(
            topology.tree(3, 2, topology.answered(1, 2)),
            SLOW,
            DELTA,
            4,
            id="answered-slow-momentum",
        ),
    ],
)
def test_every_move_is_as_by_hand(tree, timing, momentum, most_waiting):
    beside, strategy = replay(tree, timing, momentum, most_waiting=most_waiting)
    assert "root_from_child" in beside.seen
    assert strategy.totals.dropped >= beside.reference.lost
    if most_waiting == 1:
        assert beside.reference.lost > 0
    if timing is FAULTY:
        assert {"die", "join"} <= beside.seen


def in_order(tree, rounds):
    """What a tree does in which nothing but equal steps takes time.

    The order of `reference.easgd_tree`'s events, and the leaf of each step.
    """
    nodes = [*tree.leaves, *tree.inner, tree.root]
    asks = tree.down_period(tree.root) is None
    schedule, steps = [], []

    def turn(node):
        if asks:
            return
        schedule.append(("head", node))
        if node != tree.root:
            schedule.append(("up", node))
        schedule.extend(("down", child) for child in tree.children(node))

    for node in nodes:
        turn(node)
    for t in range(1, rounds + 1):
        for node in nodes:
            schedule.append(("step", node))
            if node in tree.leaves:
                steps.append(tree.leaves.index(node))
            if asks and node != tree.root and t % tree.up_period(node) == 0:
                schedule.append(("ask", node))
            turn(node)
    return schedule, steps


@pytest.mark.parametrize(
    "momentum", [pytest.param(0.0, marks=pytest.mark.full), DELTA]
)
@pytest.mark.parametrize(
    "scheme",
    [
        topology.up_down(1, 3),
        topology.multi_scale(1, 2),
        topology.answered(2, 4),
    ],
    ids=lambda scheme: scheme.name,
)
@pytest.mark.parametrize(
    "shape",
    [(3, 2), pytest.param((2, 3), marks=pytest.mark.full)],
    ids=["depth2", "depth3"],
)
def test_in_a_fixed_order_it_is_algorithm_6(shape, scheme, momentum):
    tree, rounds = topology.tree(*shape, scheme), 12
    p = len(tree.leaves)
    schedule, steps = in_order(tree, rounds)
    numbers = {}  # of the training step, by (leaf, its clock)
    for number, leaf in enumerate(steps):
        numbers[leaf, sum(1 for i, _ in numbers if i == leaf)] = number
    nodes = Nodes(tree)
    expected = reference.easgd_tree(
        lambda leaf, t, point: gradient(numbers[leaf, t], point),
        INITIAL,
        parents={edge.child: edge.parent for edge in tree.edges},
        schedule=schedule,
        up_periods={edge.child: edge.up_period for edge in tree.edges},
        down_periods={
            node: tree.down_period(node) for node in (tree.root, *tree.inner)
        },
        learning_rate=ETA,
        moving_rate=dict(zip(nodes.names, alphas_of(nodes), strict=True)),
        most_waiting=4,
        momentum=momentum,
    )["nodes"]
    model = support.build(strategy_of(tree), lambda: eamsgd(momentum=momentum))
    support.fit(model, rounds * p)
    trained = model.trainable_variables
    exact = {"rtol": 1e-12, "atol": 1e-12}
    np.testing.assert_allclose(
        center_of(trained), expected[tree.root][-1], **exact
    )
    head, tail, _ = model.optimizer._exchange.inner_values()
    np.testing.assert_allclose(
        np.concatenate([head.numpy(), tail.numpy()], axis=1),
        [expected[node][-1] for node in tree.inner],
        **exact,
    )
    if not momentum:
        np.testing.assert_allclose(
            workers_of(trained),
            [expected[leaf][-1] for leaf in tree.leaves],
            **exact,
        )


def test_depth_one_answered_is_asynchronous_easgd():
    """The center moves to a worker, then the worker to where it now is."""
    p, tau, rounds = 4, 2, 30
    model = support.build(
        strategy_of(topology.tree(p, 1, topology.answered(tau))),
        lambda: eamsgd(momentum=0.0),
    )
    support.fit(model, p * rounds)
    alpha = BETA / (p + 1)
    x, c = np.tile(INITIAL, (p, 1)), INITIAL.copy()
    for step in range(p * rounds):
        i = step % p
        x[i] = x[i] - ETA * gradient(step, x[i])
        if (step // p + 1) % tau == 0:
            c = c + alpha * (x[i] - c)
            x[i] = x[i] + alpha * (c - x[i])
    support.same(center_of(model.trainable_variables), c)
    support.same(workers_of(model.trainable_variables), x)


@pytest.mark.full
def test_a_moving_rate_is_that_of_all_nodes():
    tree = topology.tree(2, 2, topology.up_down(1, 3))
    strategy = strategy_of(tree, SLOW)
    model = support.build(strategy, lambda: eamsgd(beta=None, moving_rate=0.2))
    nodes = Nodes(tree)
    told = virtual_tree.EasgdTree(
        gradient,
        statistic,
        INITIAL,
        nodes.parent,
        [0.2] * len(nodes),
        ETA,
        DELTA,
    )
    beside = Beside(strategy, told)
    support.fit(model, 60, callbacks=[beside])
    assert beside.compared == 20


def test_any_keras_optimizer_takes_the_local_steps():
    tree = topology.tree(2, 2, topology.up_down(1, 2))
    model = support.build(
        strategy_of(tree, SLOW),
        lambda: optimizers.Elastic(
            keras.optimizers.Adam(0.05), communication_period=1
        ),
    )
    before = center_of(model.trainable_variables)
    support.fit(model, 80)
    after = center_of(model.trainable_variables)
    assert np.isfinite(after).all()
    assert np.abs(after - before).max() > 0.05


def test_the_root_may_be_averaged_over_time():
    tree = topology.tree(2, 1, topology.up_down(1, 2))
    model = support.build(
        strategy_of(tree),
        lambda: eamsgd(center_average="polyak", momentum=0.0),
    )
    p, rounds = 2, 9
    support.fit(model, p * rounds)
    alpha = BETA / 3
    x, c = np.tile(INITIAL, (p, 1)), INITIAL.copy()
    seen, inbox = [], [INITIAL.copy(), INITIAL.copy()]
    step = 0
    for t in range(1, rounds + 1):
        sent = []
        for i in range(p):
            x[i] = x[i] - ETA * gradient(step, x[i])
            step += 1
            sent.append(x[i].copy())
            if inbox[i] is not None:
                x[i] = x[i] + alpha * (inbox[i] - x[i])
                inbox[i] = None
        if t % 2 == 0:
            inbox = [c.copy(), c.copy()]
        for y in sent:
            seen.append(c.copy())
            c = c + alpha * (y - c)
    # The two of the beginning have found it where it was.
    seen = [INITIAL, INITIAL, *seen]
    support.same(center_of(model.trainable_variables), np.mean(seen, axis=0))


def test_what_a_tree_came_to():
    tree = topology.tree(2, 2, topology.multi_scale(1, 2))
    strategy = strategy_of(tree, SLOW)
    model = support.build(strategy, eamsgd)
    support.fit(model, 120)
    totals = strategy.totals
    size = 8 * 6  # Five numbers and a statistic.
    assert totals.steps == strategy.local_steps == 120
    above, below = totals.bytes_by_level
    assert 0 < above < below
    assert above % size == below % size == 0
    assert strategy.staleness().sum() == totals.updates
    assert 0 < strategy.goodput <= 1


def test_what_happens_is_told(tmp_path):
    """As it comes near, and again when it is asked for; by its rates."""
    tree = topology.tree(2, 2, topology.up_down(1, 2))
    path = tmp_path / "events.jsonl"
    strategy = strategy_of(tree, FAULTY, events=path)
    support.fit(support.build(strategy, eamsgd), 90)
    told = list(strategy.events())
    assert verify(told) == []
    written = read(path)
    assert verify(written) == []
    steps = [e for e in written if e.kind == "exchange"]
    again = [e for e in told if e.kind == "exchange"]
    assert 30 < len(again) <= len(steps) and steps[: len(again)] == again
    alpha = pytest.approx(BETA / 3)
    assert all(e.rates["moving_rate"] == alpha for e in again)
    assert {e.bytes for e in again} == {8 * 6}
    [settings] = {str(e.settings) for e in told if e.kind == "start"}
    assert "'one_way'" in settings and "'most_waiting': 4" in settings


def test_weights_that_are_set_are_those_of_all():
    tree = topology.tree(2, 2, topology.up_down(1, 2))
    strategy = strategy_of(tree, SLOW)
    model = support.build(strategy, lambda: eamsgd(momentum=0.0))
    support.fit(model, 21)
    new = [np.full(3, 7.0), np.full(2, 7.0), np.full((), 7.0)]
    model.set_weights(new)
    model.optimizer.learning_rate = 0.0
    support.fit(model, 40, first=21)
    support.same(center_of(model.trainable_variables), np.full(5, 7.0))
    support.same(workers_of(model.trainable_variables), np.full((4, 5), 7.0))


def refused(message, **options):
    with pytest.raises(ValueError, match=message):
        strategies.VirtualClusterStrategy(4, **options)


def test_what_a_tree_has_not_is_refused():
    refused(
        "`protocol` is of a star.*'blocking'", topology="2", protocol="blocking"
    )
    refused("`max_lag` is of a star", topology="2", max_lag=3.0)
    refused("needs a `Timing`", topology="2", timing=lambda load, p: None)
    refused("`scheme` and `periods` are of a tree", scheme="up_down")
    refused("`most_waiting` must be", topology="2", most_waiting=0)
    refused("`degree` must be an integer >= 2", topology="1")


def test_methods_that_go_one_way_only_are_refused():
    strategy = strategies.VirtualClusterStrategy(4, topology="2")
    with pytest.raises(ValueError, match="works both ways"):
        support.build(strategy, lambda: optimizers.Downpour(0.1))
    strategy = strategies.VirtualClusterStrategy(3, topology=UNEVEN)
    with pytest.raises(ValueError, match="timeline is one of 6 workers"):
        support.build(strategy, eamsgd)


def test_words_make_a_tree():
    strategy = strategies.VirtualClusterStrategy(
        4, topology="2", scheme="answered"
    )
    support.build(strategy, lambda: eamsgd(communication_period=3))
    made = strategy.extended.clock.turns.timeline.topology
    assert made.root == "ps:0"
    assert made.up_period("worker:3") == 3
    assert made.up_period("ps:2") == 30


def test_the_trees_periods_count(caplog):
    strategy = strategies.VirtualClusterStrategy(
        4, topology="2", periods=(2, 5)
    )
    with caplog.at_level("INFO", logger="absl"):
        support.build(strategy, lambda: eamsgd(communication_period=3))
    [told] = [r.getMessage() for r in caplog.records if "tree" in r.msg]
    assert "each 2 local steps" in told and "communication_period is 3" in told
