"""Trees that meet or accumulate, against the papers' programs by hand."""

import itertools

import keras
import numpy as np
import pytest

from tests import virtual_training_support as support
from tests.reference import hierarchical
from tests.virtual_training_support import INITIAL
from tests.virtual_training_support import center_of
from tests.virtual_training_support import gradient
from tests.virtual_training_support import statistic
from tests.virtual_training_support import workers_of
from tests.virtual_tree_support import SLOW
from tf_elastic import optimizers
from tf_elastic import strategies
from tf_elastic.core import topology
from tf_elastic.core.topology import Edge
from tf_elastic.timeline.virtual import LogNormal
from tf_elastic.timeline.virtual import Stragglers
from tf_elastic.timeline.virtual import Timing
from tf_elastic.timeline.virtual import steps
from tf_elastic.timeline.virtual.nodes import Nodes

pytestmark = pytest.mark.usefixtures("float64")
ETA = 0.05
SPEEDS = (1.0, 0.83, 1.7, 0.41, 1.21, 0.97)
LATENCIES = (0.31, 0.07, 0.53, 0.11, 0.23, 0.017)
# Blocks of two sizes, one of them deeper, and a worker at the root.
EDGES = [
    Edge("a", "root", 2),
    Edge("b", "root", 3),
    Edge("c", "a", 2),
    Edge("0", "a", 2),
    Edge("1", "c", 1),
    Edge("2", "c", 2),
    Edge("3", "b", 1),
    Edge("4", "b", 3),
    Edge("5", "root", 4),
]
RATES = {
    "outer_learning_rate": 0.6,
    "outer_momentum": 0.5,
    "momentum_delay": 2,
    "regional_learning_rate": 0.9,
    "regional_momentum": 0.7,
    "regional_delay": 3,
    "merge_weight": 0.25,
}


def local_sgd(**options):
    return optimizers.LocalSGD(
        keras.optimizers.SGD(ETA), jit_compile=False, **options
    )


def halos(**options):
    given = {**RATES, **options}
    return optimizers.HALoS(
        keras.optimizers.SGD(ETA), jit_compile=False, **given
    )


def strategy_of(tree, timing=None, **options):
    return strategies.VirtualClusterStrategy(
        len(tree.leaves), topology=tree, timing=timing, seed=5, **options
    )


def straggling(p):
    """Unequal speeds and delays, and steps that take eight times as long."""
    return Timing(
        LogNormal(1.0, 0.5),
        speeds=SPEEDS[:p],
        latency=LATENCIES[:p],
        node_latency=(1.3, 0.7),
        stragglers=Stragglers(0.1, 8.0),
    )


def reference_of(kind, tree, timing, **options):
    nodes = Nodes(tree)
    p = nodes.num_workers
    edges = [timing.of_worker("latency", w).seconds for w in range(p)]
    edges += [
        timing.of_level("node_latency", level).seconds
        for level in nodes.level[p:-1]
    ]
    return kind(
        gradient,
        statistic,
        INITIAL,
        nodes.parent,
        nodes.up_period,
        [steps.seconds(timing, 5, worker) for worker in range(p)],
        edges,
        ETA,
        **options,
    )


class Beside(keras.callbacks.Callback):
    """After every few steps all nodes are where a reference has them."""

    def __init__(self, told, p, every):
        super().__init__()
        self.told, self.p, self.every = told, p, every
        self.compared = 0

    def on_train_batch_end(self, batch, logs=None):
        if (batch + 1) % self.every:
            return
        x, s = self.told[batch]
        trained = self.model.trainable_variables
        support.same(workers_of(trained), x[: self.p])
        support.same(center_of(trained), x[-1])
        found = self.model.optimizer._exchange.inner_values()
        head, tail, seen = (value.numpy() for value in found)
        support.same(np.concatenate([head, tail], axis=1), x[self.p : -1])
        support.same(seen, s[self.p : -1])
        support.same(workers_of([self.model.seen])[:, 0], s[: self.p])
        support.same(center_of([self.model.seen]), s[-1:])
        self.compared += 1


def compare(kind, make, tree, number=200, **options):
    timing = straggling(len(tree.leaves))
    model = support.build(strategy_of(tree, timing), make)
    reference = reference_of(kind, tree, timing, **options)
    beside = Beside(reference.run(number), len(tree.leaves), every=5)
    support.fit(model, number, callbacks=[beside])
    assert beside.compared == number // 5
    return reference


HALOS = {
    "regional": (0.9, 0.7, 3),
    "of_global": (0.6, 0.5, 2),
    "merge_weight": 0.25,
}


def test_hierarchical_local_sgd_equals_the_paper():
    tree = topology.tree(2, 2, topology.synchronous(3, 2))
    reference = compare(
        hierarchical.HierarchicalLocalSGD, local_sgd, tree, number=240
    )
    assert reference.rounds[-1] > 5
    assert reference.rounds[4] // 2 in (
        reference.rounds[-1],
        reference.rounds[-1] + 1,
    )


def test_unequal_blocks_count_by_their_workers():
    tree = topology.Topology(EDGES, topology.SYNCHRONOUS)
    reference = compare(hierarchical.HierarchicalLocalSGD, local_sgd, tree)
    assert reference.rounds[-1] > 2


@pytest.mark.parametrize(
    "tree",
    [
        pytest.param(
            topology.tree(2, 2, topology.accumulated(2, 3)), id="even"
        ),
        pytest.param(
            topology.Topology(EDGES, topology.ACCUMULATED), id="uneven"
        ),
    ],
)
def test_halos_equals_the_authors_program(tree):
    reference = compare(hierarchical.HALoS, halos, tree, **HALOS)
    version = reference.version
    assert version[max(version)] > 8
    # Regions went on between their messages and the answers.
    assert any(
        reference.merged_version[node] % reference.up_periods[node]
        for node in version
        if node != reference.root
    )


def test_delays_of_none_are_as_many_as_children():
    tree = topology.tree(3, 1, topology.accumulated(2, 1))
    compare(
        hierarchical.HALoS,
        lambda: halos(momentum_delay=None, regional_delay=None),
        tree,
        number=60,
        **{**HALOS, "of_global": (0.6, 0.5, 3)},
    )


def test_one_block_that_all_are_in_is_local_sgd():
    """A tree of depth 1 is the star, synchronous."""
    p, number = 3, 60
    tree = topology.tree(p, 1, topology.synchronous(4, 1))
    model = support.build(strategy_of(tree), local_sgd)
    star = strategies.VirtualClusterStrategy(p, seed=5)
    other = support.build(star, lambda: local_sgd(communication_period=4))
    support.fit(model, number)
    support.fit(other, number)
    support.same(
        center_of(model.trainable_variables),
        center_of(other.trainable_variables),
    )
    support.same(
        workers_of(model.trainable_variables),
        workers_of(other.trainable_variables),
    )


def test_halos_without_a_tree_is_asynchronous_diloco():
    p, number = 3, 60
    given = {
        "outer_learning_rate": 0.6,
        "outer_momentum": 0.5,
        "momentum_delay": 2,
        "communication_period": 4,
        "jit_compile": False,
    }
    found = []
    for kind in (optimizers.HALoS, optimizers.AsyncDiLoCo):
        star = strategies.VirtualClusterStrategy(p, timing=SLOW, seed=5)
        model = support.build(
            star, lambda kind=kind: kind(keras.optimizers.SGD(ETA), **given)
        )
        support.fit(model, number)
        found.append(center_of(model.trainable_variables))
    np.testing.assert_array_equal(*found)


def test_workers_that_die_leave_regions_as_they_are():
    """Who comes again begins where its regional server is."""
    timing = Timing(
        LogNormal(1.0, 0.5),
        latency=0.4,
        deaths=0.03,
        recovery=3.0,
        joins=[(1, 4.0)],
        node_bandwidth=300.0,
    )
    strategy = strategy_of(
        topology.tree(2, 2, topology.accumulated(1, 2)), timing
    )
    model = support.build(strategy, halos)
    support.fit(model, 150)
    totals = strategy.totals
    assert totals.deaths > 2 and totals.goodput < 1
    assert np.isfinite(center_of(model.trainable_variables)).all()


@pytest.mark.parametrize(
    ("make", "scheme"),
    [
        (local_sgd, topology.synchronous),
        # Velocities go on, as that of any center does.
        (
            lambda: halos(
                outer_momentum=0.0,
                momentum_delay=1,
                regional_momentum=0.0,
                regional_delay=1,
            ),
            topology.accumulated,
        ),
    ],
    ids=["local_sgd", "halos"],
)
def test_weights_that_are_set_are_those_of_all(make, scheme):
    strategy = strategy_of(topology.tree(2, 2, scheme(2, 2)), SLOW)
    model = support.build(strategy, make)
    support.fit(model, 43)
    new = [np.full(3, 7.0), np.full(2, 7.0), np.full((), 7.0)]
    model.set_weights(new)
    model.optimizer.learning_rate = 0.0
    support.fit(model, 30, first=43)
    support.same(workers_of(model.trainable_variables), np.full((4, 5), 7.0))
    support.same(center_of(model.trainable_variables), np.full(5, 7.0))


@pytest.mark.parametrize(
    ("make", "scheme"),
    [
        pytest.param(local_sgd, topology.synchronous, marks=pytest.mark.full),
        (halos, topology.accumulated),
    ],
)
def test_a_file_goes_on_to_the_bit(make, scheme, tmp_path):
    tree = topology.tree(2, 2, scheme(2, 2))

    def built():
        return support.build(strategy_of(tree, SLOW), make)

    whole = built()
    support.fit(whole, 40)
    first, then = built(), built()
    support.fit(first, 22)
    first.save_weights(path := str(tmp_path / "model.weights.h5"))
    then.load_weights(path)
    support.fit(then, 18, first=22)
    for of in (center_of, workers_of):
        np.testing.assert_array_equal(
            of(then.trainable_variables), of(whole.trainable_variables)
        )


@pytest.mark.parametrize(
    "scheme", [topology.synchronous(2, 3), topology.accumulated(2, 3)]
)
def test_all_time_and_bytes_are_accounted_for(scheme):
    make = local_sgd if scheme.protocol == topology.SYNCHRONOUS else halos
    strategy = strategy_of(topology.tree(2, 2, scheme), SLOW)
    model = support.build(strategy, make)
    support.fit(model, 120)
    totals, size = strategy.totals, 8 * 6
    above, below = totals.bytes_by_level
    assert 0 < above < below
    assert above % size == below % size == 0
    assert totals.updates > 3 and totals.goodput == 1
    waits = totals.of_all.waiting
    assert (waits > 0) == (scheme.protocol == topology.SYNCHRONOUS)
    ends = itertools.islice(strategy.extended.clock.turns.timeline.moves(), 400)
    assert max(move.row for move in ends) < 20


def refused(message, make, **options):
    with pytest.raises(ValueError, match=message):
        support.build(strategies.VirtualClusterStrategy(4, **options), make)


def elastic():
    return optimizers.EASGD(ETA)


def test_methods_and_schemes_that_do_not_go_together_are_refused():
    tree = {"topology": "2"}
    refused("LocalSGD has no tree of `scheme='up_down'`", local_sgd, **tree)
    refused("use the scheme 'accumulated'", halos, scheme="multi_scale", **tree)
    refused(
        "goes a plain mean.*'elastic'.*'up_down', 'multi_scale'",
        elastic,
        scheme="synchronous",
        **tree,
    )
    refused(
        "goes momentum on two levels.*'elastic'",
        elastic,
        scheme="accumulated",
        **tree,
    )
    refused(
        "goes a plain mean.*'outer_nesterov'.*Use a star",
        lambda: optimizers.DiLoCo(keras.optimizers.SGD(ETA)),
        scheme="synchronous",
        **tree,
    )
    refused(
        "all workers have to be there.*joins",
        local_sgd,
        scheme="synchronous",
        timing=Timing(1.0, joins=[(1, 2.0)]),
        **tree,
    )


def test_periods_of_updates():
    with pytest.raises(topology.TopologyError, match="two integers >= 1"):
        topology.scheme("accumulated", 2, 0)
    assert topology.scheme("synchronous", 5).levels[1].up == 10
    with pytest.raises(topology.TopologyError, match="comes up is answered"):
        topology.Topology([Edge("a", "r", 1, 2)], topology.ACCUMULATED)
    with pytest.raises(topology.TopologyError, match="`protocol` must be"):
        topology.Topology([Edge("a", "r", 1)], "now and then")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"merge_weight": 1.5}, "`merge_weight`.*merge_weight=1.5"),
        ({"regional_delay": 0}, "`regional_delay`.*regional_delay=0"),
        ({"regional_momentum": 1.0}, "`regional_momentum`"),
        ({"regional_learning_rate": -1.0}, "`regional_learning_rate`"),
    ],
)
def test_numbers_that_are_none_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        halos(**options)
