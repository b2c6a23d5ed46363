"""A child that comes late moves a node by nothing, and begins again there."""

import numpy as np
import pytest

from tests import cluster_support as support
from tests import one_way_support as trees
from tf_elastic.cluster.edge_queues import EdgeQueues
from tf_elastic.cluster.transport import wire
from tf_elastic.timeline import event as events


def two_leaves(**changes):
    """A root and two leaves, which take no gradients; where it is served."""
    transport = trees.Direct()
    root = trees.Inner(**changes)
    transport.serve("root", root.node)
    leaves = [
        trees.Leaf(trees.upstream(transport.line("root"), number, not number))
        for number in range(2)
    ]
    for leaf in leaves:
        leaf.join()
    return root, leaves


def sends(root, leaf, to, times=1):
    """A leaf says that it is at `to`, and the root follows."""
    for _ in range(times):
        leaf.x[:] = to
        leaf.upstream.put([leaf.x.copy()], leaf.clock, leaf.clock)
        while leaf.upstream.carry():
            pass
        root.turn()


def hears_all(leaf):
    while leaf.upstream.hear(0.0):
        pass


def test_a_year_old_child_moves_a_node_by_nothing(caplog):
    root, [quick, late] = two_leaves(max_lag=5.0, down_period=1000)
    told = []
    root.node.events.listen(told.append)
    sends(root, late, 1.0)
    sends(root, quick, 2.0, times=6)  # Others: one leaf.
    before = root.point().tobytes()
    sends(root, late, -1e6, times=3)
    assert root.point().tobytes() == before
    assert [e.outcome for e in told if e.worker == 1] == [
        events.APPLIED,
        *3 * [events.LATE],
    ]
    assert root.node.status()["one_way"]["late"] == 3
    assert caplog.text.count("worker 1, a child of center 0, is late") == 1
    # It begins again where the root is, and then counts again.
    hears_all(late)
    late.turn()
    assert late.x.tobytes() == before
    sends(root, late, 3.0)
    assert root.point().tobytes() != before
    # With what it had sent in that turn before it heard.
    assert root.node.status()["one_way"]["late"] == 4


@pytest.mark.parametrize("max_lag", [None, 5.0])
def test_a_child_that_is_on_time_is_followed(max_lag):
    root, [quick, other] = two_leaves(max_lag=max_lag)
    for _ in range(3):
        sends(root, quick, 2.0, times=5 if max_lag else 40)
        sends(root, other, -1.0)
    version = root.node.version
    sends(root, other, -1.0)
    assert root.node.version == version + 1
    assert root.node.status()["one_way"]["late"] == 0


def test_what_a_late_child_has_sent_before_it_begins_again_is_left_out():
    root, [quick, late] = two_leaves(max_lag=5.0, down_period=1000)
    sends(root, quick, 2.0, times=6)
    late.upstream.put([np.full(trees.N, -9.0)], 1, 1)
    late.upstream.put([np.full(trees.N, -9.0)], 2, 2)  # Before it hears.
    assert late.upstream.carry()
    hears_all(late)
    before = root.point()
    late.turn()
    assert late.upstream.carry()
    root.turn()
    np.testing.assert_array_equal(root.point(), before)
    sends(root, late, 3.0)
    assert abs(root.point() - before).min() > 0.1


def test_a_late_node_brings_all_below_it_with_it():
    transport = trees.Direct()
    root = trees.Inner(max_lag=5.0)
    transport.serve("root", root.node)
    quick = trees.Leaf(trees.upstream(transport.line("root"), 0))
    quick.join()
    inner = trees.Inner(
        trees.upstream(transport.line("root"), 1, False),
        up_period=1,
        max_lag=5.0,
    )
    transport.serve("inner", inner.node)
    leaf = trees.Leaf(trees.upstream(transport.line("inner"), 0))
    for each in (leaf, inner):
        each.join()
    sends(root, quick, 2.0, times=6)
    leaf.x[:] = -50.0
    sends(inner, leaf, -50.0)
    root_was = root.point()
    inner.turn()
    while inner.upstream.carry():
        pass
    root.turn()
    np.testing.assert_array_equal(root.point(), root_was)
    hears_all(inner)
    # While the leaf does not know of it, what it sends moves nobody.
    inner.turn()
    sends(inner, leaf, -50.0)
    np.testing.assert_array_equal(inner.point(), root_was)
    hears_all(leaf)
    leaf.turn()
    np.testing.assert_array_equal(leaf.x, root_was)
    sends(inner, leaf, 4.0)
    assert abs(inner.point() - root_was).min() > 0.1


def test_what_waits_when_a_late_node_begins_again_is_left_out():
    """A child was on time, but is where the node is no more."""
    transport = trees.Direct()
    root = trees.Inner(max_lag=5.0)
    transport.serve("root", root.node)
    quick = trees.Leaf(trees.upstream(transport.line("root"), 0))
    quick.join()
    inner = trees.Inner(
        trees.upstream(transport.line("root"), 1, False),
        up_period=1,
        max_lag=5.0,
    )
    transport.serve("inner", inner.node)
    leaf = trees.Leaf(trees.upstream(transport.line("inner"), 0))
    for each in (leaf, inner):
        each.join()
    sends(root, quick, 2.0, times=6)
    inner.turn()
    while inner.upstream.carry():
        pass
    root.turn()
    # In the same turn the node hears of that, and then of its child.
    hears_all(inner)
    leaf.upstream.put([np.full(trees.N, -50.0)], 1, 1)
    assert leaf.upstream.carry()
    inner.turn()
    np.testing.assert_array_equal(inner.point(), root.point())
    assert inner.node.status()["one_way"]["late"] == 1


def test_whoever_joins_is_on_time():
    root, [quick, late] = two_leaves(max_lag=5.0)
    sends(root, quick, 2.0, times=50)
    late.join()
    sends(root, quick, 2.0, times=5)
    before = root.point()
    sends(root, late, -1.0)
    assert abs(root.point() - before).min() > 0.1


def test_a_snapshot_has_a_node_go_on():
    """Its own clock, which its periods go by, too."""
    root, [quick, late] = two_leaves(max_lag=5.0)
    sends(root, quick, 2.0, times=7)
    again = trees.Inner(max_lag=5.0)
    again.node.restore(*root.node.snapshot())
    assert again.node.one_way.clock == root.node.one_way.clock == 7
    # What it does not know of the children does not make them late.
    line = trees.Direct()
    line.serve("again", again.node)
    header = trees.member(100)
    line.line("again").stream(wire.SEND, 1.0, header, [np.zeros(trees.N)])
    before = again.point()
    again.turn()
    assert abs(again.point() - before).min() > 0.0


@pytest.mark.parametrize("value", [0, -1.0, "soon"])
def test_a_lag_that_is_none(value):
    with pytest.raises(ValueError, match=f"max_lag={value!r}"):
        support.new_node(one_way=trees.settings(max_lag=value))


def test_the_order_to_begin_again_is_not_superseded():
    queues = EdgeQueues(1)
    queues.put("a", [1], restart=True)
    queues.put("a", [2])
    assert queues.overflowed() == {"a": 1}
    assert queues.first("a", 0)[1:4] == ([2], 0, True)
