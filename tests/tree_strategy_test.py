"""`ElasticTreeStrategy`: leaves under Keras and live nodes are Algorithm 6."""

import json

import numpy as np
import pytest

from tests import elastic_multi_worker_job as job
from tests import elastic_multi_worker_test as elastic
from tests import reference
from tests import tree_support as trees
from tf_elastic import strategies
from tf_elastic.core import topology as topologies
from tf_elastic.core import tree_of_workers
from tf_elastic.core.topology import TopologyError
from tf_elastic.timeline.verify import verify

cluster, worker = elastic.cluster, elastic.worker

SCHEMES = {
    "multi_scale": topologies.multi_scale(1, 3),
    "up_down": topologies.up_down(2, 3),
}
_GENERATOR = np.random.default_rng(11)
NOISE = _GENERATOR.normal(size=(8, 400, job.N))
pytestmark = pytest.mark.usefixtures("float64")


@pytest.fixture
def tree(monkeypatch):
    """`tree(topology, method, ...)`: all of it, in this process."""
    trees.without_threads(monkeypatch)
    made = []

    def make(topology, method, num_shards=1, run_eagerly=True, **kwargs):
        def build(strategy, index):
            return job.build(
                strategy,
                job.optimizer_of(method, 10, **kwargs),
                run_eagerly=run_eagerly,
            )

        def step(model, clock):
            worker = model.distribute_strategy.worker_index
            sample = NOISE[worker, clock]
            model.train_on_batch(sample[None], np.zeros(1))

        nodes = trees.Nodes(topology, num_shards)
        made.append(nodes)
        made.append(trees.Tree(nodes, build, step))
        return made[-1]

    yield make
    for each in reversed(made):
        each.close()


def gradient(leaf, step, point):
    return job.HESSIAN @ point - NOISE[leaf, step]


def alphas(topology, beta):
    """beta / (d + 1): of a leaf that of its parent."""
    found = {}
    for node in topology.nodes:
        of = topology.parent(node) if node in topology.leaves else node
        found[node] = beta / (len(topology.children(of)) + 1)
    return found


def expected(topology, events, method="easgd", moving_rate=None):
    rate = alphas(topology, job.BETA) if moving_rate is None else moving_rate
    return reference.easgd_tree(
        gradient,
        job.INITIAL,
        parents={edge.child: edge.parent for edge in topology.edges},
        schedule=events,
        up_periods={e.child: e.up_period for e in topology.edges},
        down_periods={e.parent: e.down_period for e in topology.edges},
        learning_rate=job.LEARNING_RATE,
        moving_rate=rate,
        most_waiting=trees.MOST,
        momentum=0.0 if method == "easgd" else job.MOMENTUM,
        nesterov=method == "nesterov",
    )["nodes"]


def check(found, wanted, events, nodes):
    # A leaf's step, and the head of its next turn, are one.
    seen = [what != "step" for what, _ in events]
    for name in nodes:
        rows, ours = wanted[name][1:][seen], found[name][seen]
        np.testing.assert_allclose(ours, rows, rtol=0, atol=1e-10)
        assert abs(rows[-1] - job.INITIAL).max() > 0.01, name


def made(depth, scheme):
    shape = tree_of_workers.TreeShape(2, depth)
    return tree_of_workers.over(["a"] * 2**depth, shape, SCHEMES[scheme])


@pytest.mark.parametrize(
    ("depth", "scheme", "method"),
    [
        (2, "multi_scale", "nesterov"),
        (2, "up_down", "heavy_ball"),
        pytest.param(
            3, "multi_scale", "easgd", marks=pytest.mark.full, id="deep-1"
        ),
        pytest.param(
            3, "up_down", "nesterov", marks=pytest.mark.full, id="deep-2"
        ),
    ],
)
def test_a_tree_is_algorithm_6(tree, depth, scheme, method):
    topology = made(depth, scheme)
    events = trees.schedule(depth, 400 * depth, topology)
    made_tree = tree(topology, method)
    found = made_tree.run(events)
    wanted = expected(topology, events, method)
    check(found, wanted, events, topology.nodes)
    told = sorted(made_tree.nodes.told, key=lambda event: event.time)
    assert [str(violation) for violation in verify(told)] == []


def test_a_tree_of_two_shards_in_a_graph(tree):
    """Each shard's messages go by themselves, here at the same time."""
    topology = made(1, "up_down")
    events = trees.schedule(3, 300, topology)
    found = tree(topology, "nesterov", 2, run_eagerly=False).run(events)
    wanted = expected(topology, events, "nesterov")
    check(found, wanted, events, topology.nodes)


def test_a_moving_rate_that_is_given_is_that_of_all_nodes(tree):
    topology = made(1, "up_down")
    events = trees.schedule(3, 200, topology)
    found = tree(topology, "easgd", moving_rate=0.2, beta=None).run(events)
    wanted = expected(topology, events, moving_rate=0.2)
    check(found, wanted, events, topology.nodes)


def nbytes(sessions):
    """What has gone over some lines, both ways."""
    lines = [session.connection for session in sessions]
    return sum(line.bytes_sent + line.bytes_received for line in lines)


def test_the_roots_link_carries_a_part_of_a_stars(tree, cluster, worker):
    """At the same period of the leaves, for the same samples."""
    steps, period, degree = 24, 2, 2
    topology = tree_of_workers.over(
        ["a"] * 4,
        tree_of_workers.TreeShape(degree),
        topologies.multi_scale(period, 2 * period),
    )
    made = tree(topology, "easgd")
    inner = [made.nodes.of(name)[0] for name in topology.inner]
    sessions = [node.one_way.upstream.parent for node in inner]
    before = nbytes(sessions)
    for _ in range(steps):
        for leaf in topology.leaves:
            made.do("step", leaf)
        for name in (*topology.inner, topology.root):
            made.do("turn", name)
        for name in topology.nodes[1:]:
            edges = trees.upstreams(
                made.models.get(name) or made.nodes.of(name)
            )
            while edges[0].waits:
                made.do("up", name)
            made.do("down", name)
    in_tree = nbytes(sessions) - before

    servers = cluster(1, lease_s=600.0)
    star = []
    for index in range(4):
        strategy = worker(servers, index, 4, protocol="overlapped")
        model = job.build(
            strategy, job.optimizer_of("easgd", period), run_eagerly=True
        )
        star.append((strategy, model))
    ends = [strategy.extended.client.sessions[0] for strategy, _ in star]
    before = nbytes(ends)
    for clock in range(steps):
        for index, (strategy, model) in enumerate(star):
            model.train_on_batch(NOISE[index, clock][None], np.zeros(1))
            job.served(strategy)
    assert 0 < in_tree <= (nbytes(ends) - before) / degree


# What is refused.


def test_a_strategy_without_a_tree(monkeypatch):
    config = {
        "cluster": {"worker": ["a:1", "b:1"], "ps": ["c:1"]},
        "task": {"type": "worker", "index": 0},
    }
    monkeypatch.setenv("TF_CONFIG", json.dumps(config))
    monkeypatch.delenv("TF_ELASTIC_TREE", raising=False)
    with pytest.raises(TopologyError, match="TF_ELASTIC_TREE"):
        strategies.ElasticTreeStrategy()
    with pytest.raises(TopologyError, match="degree=1"):
        strategies.ElasticTreeStrategy(topology="1")
    with pytest.raises(ValueError, match="most_waiting=0"):
        strategies.ElasticTreeStrategy(topology="2", most_waiting=0)
    config["task"]["type"] = "ps"
    monkeypatch.setenv("TF_CONFIG", json.dumps(config))
    with pytest.raises(ValueError, match="is a node of the tree"):
        strategies.ElasticTreeStrategy(topology="2")


def test_a_method_whose_rule_does_not_work_both_ways(monkeypatch):
    trees.without_threads(monkeypatch)
    nodes = trees.Nodes(made(1, "up_down"))
    strategy = nodes.strategy(0)
    try:
        with pytest.raises(ValueError, match="works both ways.*Downpour"):
            job.build(strategy, job.optimizer_of("downpour", 2))
    finally:
        strategy.leave()
        nodes.close()
