"""Trees whose nodes answer: the locally synchronous protocol (6.1.1)."""

import numpy as np
import pytest

from tests import elastic_multi_worker_job as job
from tests import tree_support as trees
from tf_elastic import core
from tf_elastic.core import topology as topologies
from tf_elastic.core import tree_of_workers
from tf_elastic.timeline import event as happened
from tf_elastic.timeline.verify import verify

UP, ABOVE = 2, 3
NOISE = np.random.default_rng(5).normal(size=(4, 200, job.N))
pytestmark = pytest.mark.usefixtures("float64")


@pytest.fixture
def tree(monkeypatch):
    """`tree(method)`: depth 2, of degree 2, in this process."""
    trees.without_threads(monkeypatch)
    made = []

    def make(method, **kwargs):
        topology = tree_of_workers.over(
            ["a"] * 4,
            tree_of_workers.TreeShape(2),
            topologies.answered(UP, ABOVE),
        )

        def build(strategy, index):
            return job.build(
                strategy,
                job.optimizer_of(method, 10, **kwargs),
                run_eagerly=True,
            )

        def step(model, clock):
            worker = model.distribute_strategy.worker_index
            sample = NOISE[worker, clock]
            model.train_on_batch(sample[None], np.zeros(1))
            job.served(model.distribute_strategy)

        nodes = trees.Nodes(topology)
        made.append(nodes)
        made.append(trees.Tree(nodes, build, step))
        return made[-1]

    yield make
    for each in reversed(made):
        each.close()


def transcription(events, parents, beta):
    """Overlapped leaves (section 2.2), and nodes that wait for the answer.

    alpha is beta / (d + 1), here of three nodes of two children each.
    """
    alpha = beta / 3
    x = {name: job.INITIAL.copy() for name in {*parents, *parents.values()}}
    clocks = dict.fromkeys(x, 0)
    pending = {}

    def meet(child):
        difference = x[child] - x[parents[child]]
        x[parents[child]] = x[parents[child]] + alpha * difference
        return difference

    rows = []
    for what, name in events:
        clock = clocks[name]
        if what == "step":
            slope = job.HESSIAN @ x[name] - NOISE[int(name[-1]), clock]
            x[name] = core.sgd_step(x[name], slope, job.LEARNING_RATE)
        clocks[name] = clock = clock + 1
        if what == "step" and clock % UP == 0:
            if name in pending:
                x[name] = x[name] - alpha * pending.pop(name)
            pending[name] = meet(name)
        elif what == "turn" and name in parents and clock % ABOVE == 0:
            x[name] = x[name] - alpha * meet(name)
        rows.append({node: x[node] for node in x})
    return rows


def test_a_tree_that_answers_is_its_transcription(tree):
    made = tree("easgd")
    topology = made.nodes.topology
    generator = np.random.default_rng(1)
    # All leaves begin before anybody has moved.
    events = [("step", leaf) for leaf in topology.leaves]
    for name in generator.choice(topology.nodes, size=300):
        what = "step" if name in topology.leaves else "turn"
        events.append((what, str(name)))
    parents = {edge.child: edge.parent for edge in topology.edges}
    wanted = transcription(events, parents, job.BETA)
    found = made.run(events)
    for name in topology.nodes:
        rows = np.stack([row[name] for row in wanted])
        np.testing.assert_allclose(found[name], rows, rtol=0, atol=1e-10)
        assert abs(rows[-1] - job.INITIAL).max() > 0.01
    told = sorted(made.nodes.told, key=lambda event: event.time)
    assert [str(violation) for violation in verify(told)] == []
    followed = [e for e in told if e.call == happened.DOWN]
    assert {e.teller for e in followed} == {"center 1", "center 2"}
    place = told.index(followed[-1])
    told[place] = told[place]._replace(version_applied=1000)
    assert "and not 1000" in " ".join(map(str, verify(told)))


def test_nodes_move_by_what_the_optimizer_has(tree):
    """Leaves tell it with their signs of life, and nodes pass it on."""
    made = tree("easgd", beta=0.6)
    node = made.nodes.of("ps:1")[0]
    assert node.answered.notes == {}
    made.models["worker:0"].distribute_strategy.extended.client.signal()
    assert node.answered.notes == {"beta": pytest.approx(0.6)}
