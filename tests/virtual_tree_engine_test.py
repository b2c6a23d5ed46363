"""The timeline of a virtual tree, without training."""

import collections

import pytest

from tests import virtual_tree_support as support
from tests.virtual_tree_support import SLOW
from tests.virtual_tree_support import TREES
from tests.virtual_tree_support import first
from tests.virtual_tree_support import timeline
from tests.virtual_tree_support import told
from tf_elastic.core import rules
from tf_elastic.core import topology
from tf_elastic.timeline.virtual import LogNormal
from tf_elastic.timeline.virtual import Timing
from tf_elastic.timeline.virtual import TreeTimeline
from tf_elastic.timeline.virtual import TreeTotals
from tf_elastic.timeline.virtual import Workload
from tf_elastic.timeline.virtual import moves as kinds

TWO = topology.tree(2, 1, topology.up_down(1, 2))
FAULTY = Timing(
    LogNormal(1.0, 0.5),
    latency=0.4,
    deaths=0.05,
    recovery=3.0,
    joins=[(1, 4.0)],
    node_bandwidth=300.0,
)


def test_who_is_equal_has_its_turn_in_order():
    made = timeline(1.0, topology.tree(2, 2, topology.up_down(1, 2)))
    moves = [move for move in first(made, 200) if move.time == 2.0]
    assert told(moves) == [
        *("step 0", "send 0", "step 1", "send 1"),
        *("step 2", "send 2", "step 3", "send 3"),
        *("node_up 4", "node_down 4", "node_from_child 4", "node_from_child 4"),
        *("node_up 5", "node_down 5", "node_from_child 5", "node_from_child 5"),
        *("root_down 6", "root_from_child 6", "root_from_child 6"),
    ]
    # What came from above while a node had no turn is followed first.
    moves = [move for move in first(made, 200) if move.time == 3.0]
    assert told(moves)[:3] == ["step 0", "send 0", "follow 0"]
    assert told(moves)[-6:-1] == [
        *("node_up 5", "node_from_parent 5"),
        *("node_from_child 5", "node_from_child 5", "root_from_child 6"),
    ]


def test_who_asks_is_answered_at_once_where_nothing_takes_time():
    made = timeline(1.0, topology.tree(2, 2, topology.answered(1, 2)))
    assert told(first(made, 35))[20:30] == [
        *("step 0", "send 0", "node_from_child 4", "node_down 4", "follow 0"),
        *("step 1", "send 1", "node_from_child 4", "node_down 4", "follow 1"),
    ]
    inner = [m for m in first(made, 60) if m.kind == kinds.NODE_FROM_PARENT]
    assert [(m.time, m.worker) for m in inner] == [(2.0, 4), (2.0, 5)]


@pytest.mark.parametrize("most_waiting", [1, 3])
@pytest.mark.parametrize("timing", [1.0, SLOW, FAULTY], ids=lambda t: type(t))
@pytest.mark.parametrize("name", TREES)
def test_moves_are_such_as_a_tree_makes(name, timing, most_waiting):
    made = timeline(timing, TREES[name], most_waiting=most_waiting, seed=3)
    clocks = support.check(first(made, 3000), made)
    assert min(clocks.values()) > 3


def test_calls_of_the_optimizer_make_a_step():
    made = timeline(Timing(1.0, latency=0.3), TREES["up_down"], calls=3)
    moves = first(made, 500)
    support.check(moves, made)
    sends = [m.clock for m in moves if m.kind == kinds.SEND and m.worker == 1]
    assert sends[:4] == [0, 3, 6, 9]
    # An inner node's step takes as long, and it sends down after three.
    down = [m.time for m in moves if (m.kind, m.worker) == (kinds.NODE_DOWN, 5)]
    assert down[:3] == [0.0, 9.0, 18.0]


def test_each_call_gives_the_same_and_the_seed_counts():
    made = timeline(SLOW, TREES["multi_scale"], seed=1)
    assert first(made, 500) == first(made, 500)
    other = timeline(SLOW, TREES["multi_scale"], seed=2)
    assert first(made, 500) != first(other, 500)


def test_a_slow_root_serves_one_after_another():
    # 100 bytes at 50 a second: two of them a step of the root, of four.
    timing = Timing(4.0, center_bandwidth=50.0)
    tree = topology.tree(2, 1, topology.up_down(1, 2))
    moves = first(timeline(timing, tree), 200)
    # The root's points of the beginning are down at 2 and 4, its children's up
    # at 6 and 8. A turn has what came before it, and at its moment from below.
    kept = [m.time for m in moves if m.kind == kinds.ROOT_FROM_CHILD]
    assert kept[:2] == [8.0, 8.0]
    follows = [(m.time, m.worker) for m in moves if m.kind == kinds.FOLLOW]
    assert follows[:2] == [(4.0, 0), (8.0, 1)]


def test_a_question_takes_its_way_there_and_back():
    # Up 0.5 + 100 / 200, served at 400 bytes a second meanwhile; back again.
    timing = Timing(1.0, latency=0.5, bandwidth=200.0, center_bandwidth=400.0)
    tree = topology.tree(2, 1, topology.answered(1))
    moves = first(timeline(timing, tree), 10)
    assert [(m.time, kinds.NAMES[m.kind], m.worker) for m in moves] == [
        *((1.0, "step", 0), (1.0, "send", 0)),
        *((1.0, "step", 1), (1.0, "send", 1)),
        # First bytes are there at 1.5; the root has served one at 1.75, the
        # other at 2, and the last bytes are there at 2.
        *((2.0, "root_from_child", 2), (2.0, "root_down", 2)),
        *((2.0, "root_from_child", 2), (2.0, "root_down", 2)),
        # The root's link is free again at 2.25 for the other answer.
        *((3.0, "follow", 0), (3.25, "follow", 1)),
    ]


def test_a_message_may_take_of_its_workers_time():
    timing = Timing(1.0, overhead=0.5)
    tree = topology.tree(2, 1, topology.up_down(2, 100))
    moves = first(timeline(timing, tree), 60)
    steps = [m.time for m in moves if (m.kind, m.worker) == (kinds.STEP, 1)]
    assert steps[:5] == [1.0, 2.0, 3.5, 4.5, 6.0]


def test_the_link_above_an_inner_node_is_its_own():
    tree = topology.tree(2, 2, topology.up_down(1, 100))
    near = Timing(1.0, node_latency=0.25)
    far = Timing(1.0, node_latency=1.25, latency=0.25)
    at = kinds.ROOT_FROM_CHILD
    marks = {
        name: next(
            m.time
            for m in first(timeline(timing, tree), 300)
            if m.kind == at and m.version == 2
        )
        for name, timing in (("near", near), ("far", far))
    }
    assert marks == {"near": 2.0, "far": 3.0}


def test_levels_may_have_links_of_their_own():
    timing = Timing(
        1.0, latency=0.1, node_latency=(0.4, 0.2), node_bandwidth=(10, 20)
    )
    assert timing.of_level("node_bandwidth", 1) == 10
    assert timing.of_level("node_bandwidth", 7) == 20
    assert timing.of_level("node_latency", 2).average == 0.2
    assert Timing(1.0, latency=0.1).of_level("node_latency", 3).average == 0.1
    assert Timing.from_config(timing.config()) == timing
    assert timing.without_links == Timing(1.0)
    assert not Timing(1.0, node_bandwidth=1.0).is_instant
    assert not Timing(1.0, node_latency=1.0).is_instant
    with pytest.raises(ValueError, match=r"`node_bandwidth` .*one for each"):
        Timing(1.0, node_bandwidth=())


def test_of_more_than_may_wait_the_oldest_is_lost():
    # A message takes 3.5 steps: of those at 1 to 3 and 5 to 7 none is sent
    # but the newest.
    timing = Timing(1.0, latency=3.5)
    made = timeline(timing, TWO, most_waiting=1)
    moves = first(made, 100)
    lost = [m for m in moves if m.kind == kinds.NOT_SENT and m.count]
    assert [m.time for m in lost if m.worker == 0][:4] == [2.0, 3.0, 5.0, 6.0]
    # Nothing takes time, but the root's steps: of four points it sees one.
    made = TreeTimeline(
        Timing([1.0, 1.0]), support.workload(), TWO, most_waiting=1
    )
    assert not [m for m in first(made, 50) if m.kind == kinds.NOT_SEEN]
    made = TreeTimeline(
        Timing([4.0, 1.0]), support.workload(), TWO, most_waiting=1
    )
    unseen = [m for m in first(made, 60) if m.kind == kinds.NOT_SEEN]
    assert [(m.time, m.worker) for m in unseen][:3] == [
        *((2.0, 1), (3.0, 1), (4.0, 1)),
    ]


def test_as_few_rows_as_are_under_way():
    made = timeline(1.0, topology.tree(4, 2, topology.multi_scale(1, 5)))
    assert {m.row for m in first(made, 3000)} <= set(range(-1, 22))
    made = timeline(1.0, topology.tree(4, 2, topology.answered(1, 5)))
    assert {m.row for m in first(made, 3000)} == {-1, 0}


@pytest.mark.parametrize("name", TREES)
def test_totals_add_up(name):
    made = timeline(SLOW, TREES[name], most_waiting=1, seed=3)
    moves = first(made, 4000)
    totals = TreeTotals(made.workload, made.nodes)
    for move in moves:
        totals(move)
    count = collections.Counter(m.kind for m in moves)
    assert totals.updates == count[kinds.ROOT_FROM_CHILD]
    assert totals.updates == sum(totals.staleness.values())
    assert totals.steps == count[kinds.STEP]
    assert totals.not_sent == count[kinds.NOT_SENT]
    assert totals.not_seen == count[kinds.NOT_SEEN]
    ups = count[kinds.SEND] + count[kinds.NODE_UP]
    downs = sum(
        m.count for m in moves if m.kind in (kinds.NODE_DOWN, kinds.ROOT_DOWN)
    )
    left = ups + downs - totals.not_sent
    assert totals.bytes == sum(totals.bytes_by_level) == 100 * left
    assert 0 < totals.goodput <= 1
    for worker in range(made.num_workers):
        own = totals.of_worker(worker)
        assert own.computing > 0
        is_answered = made.nodes.is_answered(worker)
        assert (own.exchanging > 0) == is_answered


def test_the_root_of_a_tree_has_less_to_carry():
    """With degree d at most 1 / d of the star's, at equal leaf periods."""
    size, p, degree = 100, 16, 4
    found = {}
    for name, tree in (
        ("star", topology.star(p, 2)),
        ("tree", topology.tree(degree, 2, topology.multi_scale(2, 2))),
        ("rare", topology.tree(degree, 2, topology.multi_scale(2, 20))),
    ):
        made = timeline(1.0, tree, size=size)
        totals = TreeTotals(made.workload, made.nodes)
        for move in made.moves():
            if move.time > 200:
                break
            totals(move)
        found[name] = totals.bytes_by_level[0]
    assert found["tree"] <= 1.02 * found["star"] / degree
    assert found["rare"] <= 0.12 * found["tree"]


def test_thousands_of_workers():
    made = timeline(
        LogNormal(1.0, 0.5), topology.tree(16, 3, topology.multi_scale(10, 100))
    )
    assert made.num_workers == 4096
    moves = first(made, 60_000)
    support.check(moves, made)
    assert max(m.row for m in moves) < 1200


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"most_waiting": 0}, "`most_waiting` must be an integer >= 1"),
        ({"seed": -1}, "`seed` must be an integer"),
    ],
)
def test_what_is_out_of_range_is_refused(options, message):
    with pytest.raises(ValueError, match=message):
        timeline(1.0, TWO, **options)


def test_what_does_not_fit_is_refused():
    with pytest.raises(ValueError, match="works both ways"):
        TreeTimeline(Timing(1.0), Workload(rules.Add(), "blocking"), TWO)
    with pytest.raises(ValueError, match="one for each of 2"):
        timeline(Timing([1.0, 1.0, 1.0]), TWO)
