"""Live nodes with parents: Algorithm 6, and what may go wrong on the way."""

import threading

import numpy as np
import pytest

from tests import cluster_support as support
from tests import one_way_support as trees
from tests import reference
from tf_elastic.cluster import errors
from tf_elastic.cluster import layout
from tf_elastic.cluster.center.node_threads import NodeThreads
from tf_elastic.cluster.center.one_way_settings import OneWaySettings
from tf_elastic.cluster.edge_queues import EdgeQueues
from tf_elastic.cluster.transport import wire
from tf_elastic.cluster.worker.patience import Timeouts
from tf_elastic.cluster.worker.surroundings import Surroundings
from tf_elastic.core import rules
from tf_elastic.core.protocols import PARENT
from tf_elastic.timeline import event as events

_GENERATOR = np.random.default_rng(3)
_NOISE = _GENERATOR.normal(size=(4, 2000, trees.N))
_CURVATURE = _GENERATOR.uniform(0.2, 2.0, size=(4, trees.N))


def gradient(leaf, step, point):
    return _CURVATURE[leaf] * point - _NOISE[leaf, step]


def expected(events):
    return reference.easgd_tree(
        gradient,
        trees.INITIAL,
        parents=trees.PARENTS,
        schedule=events,
        up_periods=dict.fromkeys(trees.PARENTS, trees.UP),
        down_periods=dict.fromkeys(trees.PARENTS.values(), trees.DOWN),
        learning_rate=trees.ETA,
        moving_rate=trees.ALPHA,
        most_waiting=trees.MOST,
    )


def check(found, events):
    wanted = expected(events)["nodes"]
    assert found.keys() == wanted.keys()
    for name, rows in wanted.items():
        np.testing.assert_allclose(found[name], rows, rtol=0, atol=1e-12)
        assert abs(rows[-1] - rows[0]).max() > 0.01


# Algorithm 6.


@pytest.mark.parametrize("seed", [1, 2])
def test_a_tree_in_one_process_is_algorithm_6(seed):
    """With messages that are too many, which are counted."""
    events = trees.schedule(seed, 3000)
    tree = trees.Tree(trees.Direct(), gradient)
    check(tree.run(events), events)
    lost = expected(events)["lost"]
    assert tree.lost() == lost
    assert len(lost) > 4


def test_a_tree_over_sockets_is_algorithm_6():
    events = trees.schedule(4, 400)
    transport = trees.Sockets()
    try:
        check(trees.Tree(transport, gradient).run(events), events)
    finally:
        transport.close()


def test_messages_that_are_lost_or_come_twice():
    """They are sent again, or left out: all is as if nothing had been."""
    faults = _GENERATOR.choice(
        [None, trees.DROPPED, trees.UNANSWERED, trees.DOUBLED],
        size=10_000,
        p=[0.4, 0.2, 0.2, 0.2],
    )
    left = iter(faults)
    tree = trees.Tree(trees.Direct(lambda: next(left)), gradient)
    events = trees.schedule(5, 1000)
    check(tree.run(events), events)
    doubled = [
        tree.members[name].node.status()["one_way"]["doubled"]
        for name in ("root", "0", "1")
    ]
    assert min(doubled) > 5


def pair(start=3.0, **changes):
    """A root at 1 and a leaf at `start`, which takes no gradients."""
    transport = trees.Direct()
    root = trees.Inner(**changes)
    transport.serve("root", root.node)
    leaf = trees.Leaf(trees.upstream(transport.line("root"), 0))
    leaf.x[:] = 1.0
    leaf.join()
    leaf.x = np.full(trees.N, start)
    return transport.servers, root, leaf


def test_who_send_at_the_same_time_leave_the_sum_as_it_was(monkeypatch):
    monkeypatch.setattr(trees, "UP", 1)
    _, root, leaf = pair(down_period=1)
    total = root.point() + leaf.point()
    for _ in range(20):
        before = root.point() - leaf.point()
        for each in (root, leaf):
            each.turn()
        assert leaf.upstream.carry()
        assert leaf.upstream.hear(0.0)
        np.testing.assert_allclose(
            root.point() + leaf.point(), total, rtol=0, atol=1e-13
        )
    assert abs(before).max() < 1e-3


def test_what_is_followed_is_told(monkeypatch):
    monkeypatch.setattr(trees, "UP", 1)
    servers, root, leaf = pair(down_period=1)
    told = []
    root.node.events.listen(told.append)
    for _ in range(3):
        leaf.turn()
        assert leaf.upstream.carry()
        root.turn()
    # Once more, as a message that comes twice.
    line = servers.connect("root")
    line.stream(wire.SEND, 1.0, trees.member(1), [np.zeros(trees.N)])
    came = [e for e in told if e.kind == events.EXCHANGE]
    assert [(e.worker, e.version_applied, e.outcome) for e in came] == [
        (0, 0, events.APPLIED),
        (0, 1, events.APPLIED),
        (0, 2, events.APPLIED),
        (0, 3, events.DUPLICATE),
    ]
    assert [(e.child, e.call, e.sequence) for e in came] == [
        ("worker 0", events.UP, number) for number in (1, 2, 3, 1)
    ]
    assert [e.step_sent for e in came[:3]] == [0, 1, 2]
    # What goes down is told, and that the leaf, which does not listen, is left
    # with the newest.
    sent = [e for e in told if e.kind == events.SEND]
    assert [(e.call, e.sequence) for e in sent] == [
        (events.DOWN, number) for number in (1, 2, 3)
    ]
    dropped = [e.sequence for e in told if e.kind == events.DROP]
    assert dropped == [1]
    assert {e.bytes for e in (*came, *sent)} == {8 * trees.N}
    assert root.node.applied == 0  # Nobody has pushed.


def test_statistics_go_up_alone():
    variables = [
        layout.VariableSpec("w", (2,), "float64", layout.PARAMETERS),
        layout.VariableSpec("mean", (2,), "float64", layout.STATISTICS),
    ]
    transport = trees.Direct()
    root = trees.Inner()
    transport.serve("root", root.node)
    inner = trees.Inner(trees.upstream(transport.line("root"), 0))
    transport.serve("inner", inner.node)
    edge = trees.upstream(transport.line("inner"), 0)
    made = layout.Layout(variables, 1)
    edge.join(made, [np.zeros(2), np.zeros(2)])
    inner.join()
    root.node.arrays[0][:] = root.node.arrays[1][:] = 10.0
    root.turn()
    assert inner.upstream.hear(0.0)
    edge.put([np.full(2, -1.0), np.full(2, 1.0)], 0, 0)
    assert edge.carry()
    inner.turn()
    first = trees.ALPHA * 10.0
    second = first + trees.ALPHA * (-1.0 - first)
    parameters, statistics = inner.node.arrays
    np.testing.assert_allclose(parameters, second, rtol=1e-15)
    np.testing.assert_allclose(statistics, trees.ALPHA, rtol=1e-15)


# A parent that is away.


def chain():
    """A root, an inner node and a leaf, and where they are served."""
    transport = trees.Direct()
    root = trees.Inner()
    transport.serve("root", root.node)
    inner = trees.Inner(trees.upstream(transport.line("root"), 0))
    transport.serve("inner", inner.node)
    leaf = trees.Leaf(trees.upstream(transport.line("inner"), 0))
    for each in (leaf, inner):
        each.join()
    return transport.servers, root, inner, leaf


def rounds(inner, leaf, count):
    for _ in range(count):
        for each in (leaf, inner):
            each.turn()
            each.upstream.carry()
            each.upstream.hear(0.0)


def test_a_parent_that_is_away_is_no_matter_to_the_children():
    servers, root, inner, leaf = chain()
    leaf.x += 1.0
    rounds(inner, leaf, 6)
    servers.stop("root")
    begin, moved = inner.point(), root.point()
    leaf.x += 1.0
    rounds(inner, leaf, 20)
    assert inner.upstream.is_away and not leaf.upstream.is_away
    assert inner.node.status()["one_way"]["parent_is_away"]
    assert abs(inner.point() - begin).min() > 0.1
    assert leaf.upstream.overflowed() == 0
    # Of 10 messages one is in hand, and the newest wait.
    told = inner.node.status()["one_way"]["not_carried"]
    assert told == 10 - 1 - trees.MOST
    np.testing.assert_array_equal(root.point(), moved)
    servers.serve("root", root.node)
    inner.upstream.beat()
    assert not inner.upstream.is_away
    while inner.upstream.carry():
        pass
    root.turn()
    assert abs(root.point() - moved).min() > 0.1


def test_a_parent_that_has_begun_anew_is_given_where_the_child_is():
    servers, _, inner, leaf = chain()
    leaf.x += 1.0
    rounds(inner, leaf, 6)
    root = trees.Inner()
    servers.serve("root", root.node)
    inner.turn()
    inner.turn()
    assert not inner.upstream.carry()  # It joins, and fills it.
    assert root.node.arrays is not None
    assert root.point()[0] > trees.INITIAL[0]
    assert inner.upstream.carry()
    root.turn()
    assert inner.upstream.hear(0.0)


def test_a_child_that_has_lost_its_place_joins_again():
    clock = trees.Clock()
    transport = trees.Direct()
    root = trees.Inner(now=clock)
    transport.serve("root", root.node)
    leaf = trees.Leaf(trees.upstream(transport.line("root"), 0))
    leaf.join()
    for _ in range(700):
        clock.seconds += 1.0
        root.node.tick()
    assert root.node.registry.present == []
    leaf.turn()
    assert not leaf.upstream.carry()
    assert root.node.registry.present == [0]
    assert leaf.upstream.carry()


def test_a_node_that_has_moved_goes_on_from_where_it_is():
    transport = trees.Direct()
    root = trees.Inner()
    transport.serve("root", root.node)
    first = trees.Leaf(trees.upstream(transport.line("root"), 0))
    first.join()
    inner = trees.Inner(trees.upstream(transport.line("root"), 1, False))
    transport.serve("inner", inner.node)
    leaf = trees.Leaf(trees.upstream(transport.line("inner"), 0))
    leaf.x += 5.0
    with pytest.raises(errors.CenterEmptyError):
        inner.join()
    leaf.join()
    assert inner.point()[0] == trees.INITIAL[0] + 5.0
    inner.join()  # Nothing has moved it.
    np.testing.assert_array_equal(inner.point(), trees.INITIAL)
    leaf.turn()
    leaf.upstream.carry()
    inner.turn()
    moved = inner.point()
    assert moved[0] > trees.INITIAL[0]
    inner.join()
    np.testing.assert_array_equal(inner.point(), moved)


def test_samples_below_are_counted_above():
    _, root, inner, leaf = chain()
    rounds(inner, leaf, 6)
    found = [each.node.registry.total_samples for each in (root, inner)]
    assert 0 < found[0] <= found[1] == 4


# Who waits, and threads.


def test_who_listens_is_told_at_once():
    _, root, leaf = pair()
    heard = []
    thread = threading.Thread(
        target=lambda: heard.append(leaf.upstream.hear(60.0)), daemon=True
    )
    thread.start()
    root.turn()
    thread.join(50.0)
    assert heard == [True]
    assert not leaf.upstream.hear(0.0)
    assert leaf.upstream.inbox.edges() == [PARENT]


def test_who_listens_and_is_replaced_hears_so():
    servers, root, leaf = pair()
    failed = []

    def listen():
        try:
            leaf.upstream.hear(60.0)
        except errors.ReplacedError as error:
            failed.append(error)

    thread = threading.Thread(target=listen, daemon=True)
    thread.start()
    newer = trees.Leaf(trees.upstream(servers.connect("root"), 0))
    newer.join()
    root.turn()
    thread.join(50.0)
    assert len(failed) == 1
    assert newer.upstream.hear(0.0)


def test_who_listens_and_joins_anew_itself_goes_on():
    """Its slot was lost, and another of its threads has noticed first."""
    _, root, leaf = pair()
    heard = []
    thread = threading.Thread(
        target=lambda: heard.append(leaf.upstream.hear(60.0)), daemon=True
    )
    thread.start()
    support.until(lambda: root.node.changed._waiters)
    root.node.registry.members[0].present = False
    leaf.upstream.put([leaf.x.copy()], 0, 0)
    assert not leaf.upstream.carry()  # It joins.
    root.turn()
    thread.join(50.0)
    assert heard == [False]
    assert leaf.upstream.carry()
    root.turn()
    assert leaf.upstream.hear(0.0)


def test_nodes_go_on_by_themselves():
    """Until they are stopped, and through an absence of the root."""
    servers, root, inner, leaf = chain()
    quick = Timeouts(heartbeat_s=0.02)
    threads = [
        NodeThreads(each.node, 0.005, quick, Surroundings())
        for each in (root, inner)
    ]
    for each in threads:
        each.start()

    def pulls_all(to):
        """The leaf stays where it is; whether all others have come there."""
        leaf.x[:] = to
        leaf.turn()
        leaf.upstream.carry()
        leaf.upstream.hear(0.0)
        return all(
            abs(each.point() - to).max() < 1e-3 for each in (inner, root)
        )

    support.until(lambda: pulls_all(5.0))
    servers.stop("root")
    support.until(lambda: inner.upstream.is_away)
    moved = root.point()
    clock = inner.node.one_way.clock
    support.until(lambda: inner.node.one_way.clock > clock + 10)
    np.testing.assert_array_equal(root.point(), moved)
    servers.serve("root", root.node)
    support.until(lambda: not inner.upstream.is_away)
    support.until(lambda: pulls_all(7.0))
    assert all(each.is_alive() for each in threads)
    for each in reversed(threads):
        each.stop(finished=True)
    assert not any(each.is_alive() or each.failure for each in threads)
    assert root.node.registry.members[0].finished


def test_a_thread_that_cannot_go_on_says_why():
    _, root, inner, leaf = chain()
    threads = NodeThreads(inner.node, 60.0, Timeouts(heartbeat_s=0.01))
    root.node.join(0, 2, 1, trees.LAYOUT.describe(), "somebody else")
    inner.turn()
    threads.start()
    support.until(lambda: not threads.is_alive())  # Just after it says so.
    assert isinstance(threads.failure, errors.ReplacedError)
    threads.stop()
    with pytest.raises(ValueError, match="step_s=0"):
        NodeThreads(inner.node, 0)


# What is refused.


LISTENS = {"worker": 0, "incarnation": 1, "after": 0, "wait_s": 0.0}


def test_what_is_not_finite_is_refused():
    servers, root, _ = pair()
    line = servers.connect("root")
    before = root.point()
    for value in (np.nan, np.inf):
        with pytest.raises(errors.NonFiniteError, match="'w'"):
            points = [np.full(trees.N, value)]
            line.stream(wire.SEND, 1.0, trees.member(), points)
    root.turn()
    np.testing.assert_array_equal(root.point(), before)
    line.stream(wire.SEND, 1.0, trees.member(), [np.full(trees.N, 1.0)])


def test_finite_points_that_would_make_a_node_infinite(caplog):
    servers, root, _ = pair()
    root.node.arrays[0][:] = -1.7e308
    line = servers.connect("root")
    line.stream(wire.SEND, 1.0, trees.member(), [np.full(trees.N, 1.7e308)])
    root.turn()
    assert (root.point() == -1.7e308).all()
    assert root.node.status()["one_way"]["not_followed"] == 1
    assert "would make it infinite" in caplog.text


@pytest.mark.parametrize(
    ("change", "kind"),
    [
        ({"worker": 7}, errors.UnknownWorkerError),
        ({"incarnation": 2}, errors.UnknownWorkerError),
        ({"worker": -1}, errors.MessageError),
        ({"worker": None}, errors.MessageError),
        ({"more": 1}, errors.MessageError),
    ],
)
def test_who_is_not_a_child_is_refused(change, kind):
    servers, root, _ = pair()
    line = servers.connect("root")
    out = [np.empty(trees.N)]
    with pytest.raises(kind):
        line.stream(wire.SEND, 1.0, {**trees.member(), **change}, out)
    with pytest.raises(kind):
        line.stream(wire.LISTEN, 1.0, {**LISTENS, **change}, (), out)
    assert root.node.registry.members[0].sequence == 0


def test_a_message_of_another_size_is_refused():
    servers, root, _ = pair()
    line = servers.connect("root")
    for size in (trees.N - 1, trees.N + 1):
        with pytest.raises(errors.MessageError):
            line.stream(wire.SEND, 1.0, trees.member(), [np.zeros(size)])
    assert root.node.registry.members[0].sequence == 0


@pytest.mark.parametrize("why", ["no tree", "rule", "empty"])
def test_a_center_that_has_no_part_in_a_tree(why):
    rule = rules.Add() if why == "rule" else None
    made = layout.Layout(trees.LAYOUT.variables, 1, rule)
    takes_part = None if why == "no tree" else trees.settings()
    node = support.new_node(grace_s=0.0, one_way=takes_part)
    transport = trees.Direct()
    transport.serve("root", node)
    line = transport.line("root")
    if why == "empty":
        node.join(0, 1, 1, made.describe(), "process")
        kind, text = errors.CenterEmptyError, "no parameters yet"
        node.one_way.turn()
        assert node.one_way.clock == 0
    else:
        trees.upstream(line, 0).join(made, [np.zeros(trees.N)])
        kind = errors.MessageError
        text = "works both ways" if rule else "not to be answered"
        with pytest.raises(kind, match=text):
            node.one_way.turn()
    out = [np.empty(trees.N)]
    with pytest.raises(kind, match=text):
        line.stream(wire.SEND, 1.0, trees.member(), [np.zeros(trees.N)])
    with pytest.raises(kind, match=text):
        line.stream(wire.LISTEN, 1.0, LISTENS, (), out)
    assert ("one_way" in node.status()) == (why != "no tree")


@pytest.mark.parametrize(
    ("name", "value"),
    [("moving_rate", -0.1), ("moving_rate", np.nan), ("most_waiting", 0)],
)
def test_settings_that_are_none(name, value):
    with pytest.raises(ValueError, match=f"{name}={value}"):
        support.new_node(one_way=trees.settings(**{name: value}))


@pytest.mark.parametrize("name", ["up_period", "down_period"])
@pytest.mark.parametrize("value", [0, 1.5])
def test_periods_that_are_none(name, value):
    with pytest.raises(ValueError, match=f"{name}={value}"):
        support.new_node(one_way=trees.settings(**{name: value}))


def test_a_node_takes_part_with_few_words():
    assert OneWaySettings(0.1, 2, 3).most_waiting == 4


# Queues.


def test_what_is_too_many_supersedes_the_oldest():
    queues = EdgeQueues(2)
    for number, edge in enumerate("abaab"):
        queues.put(edge, [number])
    assert queues.edges() == ["b", "a", "a", "b"]
    assert queues.overflowed() == {"a": 1}
    assert [queues.take(edge).values for edge in "aba"] == [[2], [1], [3]]
    queues.forget("b")
    assert queues.edges() == []


def test_what_is_in_hand_waits_no_more():
    queues = EdgeQueues(1)
    assert queues.first("a", 0) is None
    queues.put("a", [1])
    first = queues.first("a", 0)
    assert queues.first("a", 0) is first  # Nobody says that it has come.
    queues.put("a", [2])
    queues.put("a", [3])
    assert queues.overflowed() == {"a": 1}
    assert queues.first("a", 0) is first
    assert queues.first("a", first.number).values == [3]
    assert queues.first("a", 3) is None
    # Of another life of whoever sends.
    queues.put("a", [4])
    assert queues.first("a", 99).values == [4]


def test_a_queue_has_room():
    with pytest.raises(ValueError, match="most_waiting=0"):
        EdgeQueues(0)
