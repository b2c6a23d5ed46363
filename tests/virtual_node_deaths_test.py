"""Inner nodes of virtual trees die, and their children go to their parents."""

import dataclasses

import pytest

from tests import timeline_verify_tree_test as logs
from tests import virtual_training_support as support
from tests import virtual_tree_support as trees
from tests import virtual_tree_training_test as training
from tests.reference import virtual_tree
from tests.virtual_tree_engine_test import FAULTY
from tests.virtual_tree_support import SLOW
from tests.virtual_tree_support import TREES
from tests.virtual_tree_support import UNEVEN
from tests.virtual_tree_support import first
from tests.virtual_tree_support import timeline
from tf_elastic.core import rules
from tf_elastic.core import topology
from tf_elastic.timeline import event as events
from tf_elastic.timeline.verify import verify
from tf_elastic.timeline.virtual import LogNormal
from tf_elastic.timeline.virtual import Timing
from tf_elastic.timeline.virtual import TreeTotals
from tf_elastic.timeline.virtual import VirtualTimeline
from tf_elastic.timeline.virtual import Workload
from tf_elastic.timeline.virtual import events_of
from tf_elastic.timeline.virtual import moves as kinds
from tf_elastic.timeline.virtual.nodes import Nodes

TWO_LEVELS = topology.tree(2, 2, topology.up_down(1, 3))
TIMINGS = {
    "even": Timing(1.0),
    "slow": SLOW,
    "faulty": FAULTY,
    "late": Timing(LogNormal(1.0, 0.4), latency=0.5),
}


def dying(timing, rate=0.02, recovery=5.0):
    return dataclasses.replace(
        timing, node_deaths=rate, node_recovery=recovery, move_s=12.0
    )


def of(moves, kind, node=None):
    return [m for m in moves if m.kind == kind and node in (None, m.worker)]


@pytest.mark.parametrize("recovery", [5.0, 30.0])
@pytest.mark.parametrize("timing", TIMINGS)
@pytest.mark.parametrize("name", TREES)
def test_moves_are_such_as_a_tree_makes(name, timing, recovery):
    made = timeline(
        dying(TIMINGS[timing], recovery=recovery),
        TREES[name],
        most_waiting=2,
        seed=4,
    )
    moves = first(made, 2500)
    trees.check(moves, made)
    assert of(moves, kinds.NODE_DIE) and of(moves, kinds.NODE_JOIN)
    if recovery == 30.0:
        assert of(moves, kinds.ATTACH)
    totals = TreeTotals(made.workload, made.nodes)
    for move in moves:
        totals(move)
    assert totals.bytes == sum(totals.bytes_by_level)
    found = list(events_of(made, moves, rates=logs.rates))
    assert [str(violation) for violation in verify(found)] == []
    begun = [e for e in found if e.kind == events.BEGIN and e.time > 0]
    assert len(begun) == len(of(moves, kinds.NODE_JOIN))


def test_its_children_train_on_and_go_to_its_parent_in_time():
    """Node 4 is above workers 0 and 1, the root is 6."""
    timing = Timing(1.0, node_deaths=[(1, 0, 4.5)], move_s=3.0)
    made = timeline(timing, TWO_LEVELS, most_waiting=2)
    moves = [m for m in first(made, 400) if m.time <= 15]
    [died] = of(moves, kinds.NODE_DIE)
    assert (died.time, died.worker) == (4.5, 4)
    assert [m.time for m in of(moves, kinds.NODE_UP, 4)][-1] == 4.0
    # One step a second meanwhile, and of three points that wait two are kept.
    steps = [m.time for m in of(moves, kinds.STEP, 0)]
    assert steps[:15] == [float(t) for t in range(1, 16)]
    lost = [m.time for m in of(moves, kinds.NOT_SENT, 0)]
    assert lost == [7.0]
    went = of(moves, kinds.ATTACH)
    assert [(m.time, m.worker, m.count) for m in went] == [
        (7.5, 0, 6),
        (7.5, 1, 6),
    ]
    # What waited is there at the root's next turn, then a point each period.
    came = [m.time for m in of(moves, kinds.ROOT_FROM_CHILD) if m.count == 0]
    assert came[:3] == [8.0, 8.0, 9.0]  # Of three there the oldest is lost.
    assert [m.time for m in of(moves, kinds.NOT_SEEN, 0)] == [8.0]
    follows = [m.time for m in of(moves, kinds.FOLLOW, 0) if m.time > 5]
    assert follows == [10.0, 13.0]  # A step after the root has sent.


def test_a_node_that_is_back_in_time_keeps_its_children():
    timing = Timing(
        1.0, node_deaths=[(1, 0, 4.5)], node_recovery=2.0, move_s=3.0
    )
    moves = [m for m in first(timeline(timing, TWO_LEVELS), 400) if m.time < 12]
    assert not of(moves, kinds.ATTACH)
    [back] = of(moves, kinds.NODE_JOIN)
    assert (back.time, back.worker, back.count) == (6.5, 4, 6)
    came = [m.time for m in of(moves, kinds.NODE_FROM_CHILD, 4) if m.time > 4.5]
    assert came[:7] == [7.5] * 6 + [8.5]  # Two that have waited, of each.


def test_the_nearest_that_is_there_takes_them():
    deep = topology.tree(2, 3, topology.multi_scale(1, 2))
    deaths = [(1, 0, 2.5), (2, 0, 3.5)]
    timing = Timing(1.0, node_deaths=deaths, move_s=4.0)
    made = timeline(timing, deep)
    went = of(first(made, 900), kinds.ATTACH)
    nodes = Nodes(deep)
    upper, lower = nodes.inner(1, 0), nodes.inner(2, 0)
    assert [(m.time, m.worker, m.count) for m in went] == [
        (6.5, nodes.inner(2, 1), nodes.root),  # The other one is dead by then.
        *((7.5, worker, nodes.root) for worker in nodes.children[lower]),
    ]
    assert nodes.parent[lower] == upper


def test_nobody_waits_for_an_answer_of_the_dead():
    tree = topology.tree(2, 2, topology.answered(1, 2))
    timing = Timing(
        1.0, latency=0.4, node_deaths=[(1, 0, 3.0)], node_recovery=2.0
    )
    moves = first(timeline(timing, tree), 600)
    steps = [m.time for m in of(moves, kinds.STEP, 0) if 3 < m.time < 8]
    assert len(steps) >= 3 and max(steps) > 5
    assert of(moves, kinds.FOLLOW, 0)[-1].time > 8


class Beside(training.Beside):
    """`EasgdTree` is given the move itself."""

    def _do(self, moves):
        for move in moves:
            name = kinds.NAMES[move.kind]
            self.seen.add(name)
            self.reference.follow(name, move)


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize(
    ("tree", "timing", "recovery"),
    [
        pytest.param(UNEVEN, "faulty", 30.0, id="uneven-faulty"),
        pytest.param(training.DEEP, "late", 20.0, id="deep"),
        pytest.param(
            topology.tree(3, 2, topology.answered(1, 2)),
            "slow",
            5.0,
            id="answered",
            marks=pytest.mark.full,
        ),
    ],
)
def test_every_move_is_as_by_hand(tree, timing, recovery):
    timing = dying(TIMINGS[timing], 0.08, recovery)
    timing = dataclasses.replace(timing, move_s=4.0)
    strategy = training.strategy_of(tree, timing)
    model = support.build(strategy, training.eamsgd)
    told = virtual_tree.MovingTree(
        training.BETA,
        gradient=support.gradient,
        statistic=support.statistic,
        initial=support.INITIAL,
        parents=Nodes(tree).parent,
        learning_rate=training.ETA,
        momentum=training.DELTA,
    )
    beside = Beside(strategy, told)
    support.fit(model, 240, callbacks=[beside])
    assert beside.compared == 80
    assert {"node_die", "attach"} <= beside.seen
    found = list(strategy.events())
    assert [str(violation) for violation in verify(found)] == []


# What is refused.


@pytest.mark.parametrize(
    ("deaths", "message"),
    [
        ([(0, 0, 1.0)], "level 0, does not die here"),
        ([(1, -1, 1.0)], "integers from 0"),
        ([(1, 0)], r"triples \(level, index, time\)"),
        ([(1, 0, 0.0)], "`node_deaths.time` must"),
        (-1.0, "`node_deaths` must"),
    ],
)
def test_deaths_that_are_none_are_refused(deaths, message):
    with pytest.raises(ValueError, match=message):
        Timing(1.0, node_deaths=deaths)


def test_nodes_that_do_not_exist_are_refused():
    for place in ((1, 2, 1.0), (2, 0, 1.0)):
        with pytest.raises(ValueError, match=r"there are \[2\] of levels 1"):
            timeline(Timing(1.0, node_deaths=[place]), TWO_LEVELS)
    twice = Timing(1.0, node_deaths=[(1, 0, 1.0), (1, 0, 2.0)])
    with pytest.raises(ValueError, match="without a `node_recovery`"):
        timeline(twice, TWO_LEVELS)
    one = Timing(1.0, node_deaths=0.1)
    with pytest.raises(ValueError, match="inner nodes of a tree"):
        VirtualTimeline(one, Workload(rules.Elastic(), "blocking"), 2)
    with pytest.raises(ValueError, match="`move_s` must"):
        Timing(1.0, move_s=0.0)


def test_a_timing_is_json():
    timing = Timing(
        1.0,
        node_deaths=[(1, 1, 2.0), (1, 0, 1.0)],
        node_recovery=LogNormal(3.0, 0.5),
        move_s=5.0,
    )
    assert timing.node_deaths == ((1, 0, 1.0), (1, 1, 2.0))
    assert Timing.from_config(timing.config()) == timing
