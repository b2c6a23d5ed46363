"""What nodes of a tree do when others die, end, or are slow."""

import pytest

from tests import cluster_support as support
from tests import one_way_support as trees
from tests import timeless_client
from tests.timeless_client import Awake
from tests.timeless_client import Clock
from tf_elastic.cluster.center.node_threads import NodeThreads
from tf_elastic.cluster.instruction import Instruction
from tf_elastic.cluster.transport.direct import DirectServers
from tf_elastic.cluster.watch import STEP_S
from tf_elastic.cluster.watch import TRAINS
from tf_elastic.cluster.worker.edge_to import edge_to
from tf_elastic.cluster.worker.patience import Timeouts
from tf_elastic.cluster.worker.surroundings import Surroundings

MOVE_S = 30.0


class Chain:
    """A root, an inner node and a leaf below it, over one clock."""

    def __init__(self, **changes):
        self.clock = Clock()
        self.servers = DirectServers()
        self.root = trees.Inner(now=self.clock, chiefs=(0, 7), **changes)
        self.servers.serve("root", self.root.node)
        self.inner = trees.Inner(
            self.edge("root", 7), now=self.clock, **changes
        )
        self.servers.serve("inner", self.inner.node)
        self.leaf = trees.Leaf(self.edge("inner", 0, "root"))
        self.leaf.join()
        self.inner.join()

    def edge(self, to, number, *further):
        """Surroundings in which time goes by when it is told to."""
        return edge_to(
            to,
            0,
            number,
            may_begin=True,
            most_waiting=trees.MOST,
            further=further,
            move_s=MOVE_S,
            timeouts=timeless_client.IMPATIENT,
            around=Surroundings(
                now=self.clock,
                connect=lambda address, *_: self.servers.connect(address),
                stopped=Awake(self.clock),
                beats=False,
            ),
        )

    def rounds(self, count, *members):
        for _ in range(count):
            for each in members or (self.leaf, self.inner):
                each.turn()
                each.upstream.carry()
                each.upstream.hear(0.0)
            self.root.turn()


@pytest.fixture
def chain():
    return Chain()


# A dead parent.


def test_a_child_goes_to_its_parents_parent_after_a_while(chain):
    chain.leaf.x += 1.0
    chain.rounds(6)
    chain.servers.stop("inner")
    chain.leaf.turn()
    assert not chain.leaf.upstream.carry()
    assert chain.leaf.upstream.is_away
    chain.leaf.upstream.beat()  # It waits for it yet.
    assert chain.leaf.upstream.moves == 0
    chain.clock.seconds += MOVE_S + 1.0
    begin = chain.root.point()
    chain.leaf.x[:] = 5.0
    chain.leaf.upstream.beat()
    assert chain.leaf.upstream.moves == 1 and not chain.leaf.upstream.is_away
    assert (chain.leaf.x == 5.0).all()  # It goes on from where it is.
    assert sorted(chain.root.node.registry.present) == [0, 7]
    chain.rounds(20, chain.leaf)
    assert (chain.root.point() > begin).all()
    assert (chain.leaf.x < 5.0).all()
    # And it stays there.
    chain.servers.serve("inner", chain.inner.node)
    chain.leaf.upstream.beat()
    assert chain.leaf.upstream.moves == 1


def test_a_child_whose_next_parent_is_away_too_waits_for_both(chain):
    for name in ("inner", "root"):
        chain.servers.stop(name)
    chain.leaf.turn()
    chain.leaf.upstream.carry()
    chain.clock.seconds += MOVE_S + 1.0
    chain.leaf.upstream.beat()
    assert chain.leaf.upstream.moves == 0
    chain.servers.serve("inner", chain.inner.node)
    chain.leaf.upstream.beat()
    assert not chain.leaf.upstream.is_away
    assert chain.leaf.upstream.carry()


def test_samples_are_counted_once_where_a_child_has_moved(chain):
    """Up to what its dead parent had not passed on."""
    leaf, inner = chain.leaf.upstream, chain.inner.upstream
    leaf.put([chain.leaf.x.copy()], 1, samples=100)
    assert leaf.carry()
    chain.inner.node.one_way.turn()
    inner.carry()
    assert chain.root.node.registry.total_samples == 100
    chain.servers.stop("inner")
    leaf.put([chain.leaf.x.copy()], 2, samples=130)
    leaf.carry()
    chain.clock.seconds += MOVE_S + 1.0
    leaf.beat()
    assert leaf.carry()
    assert chain.root.node.registry.total_samples == 130
    leaf.beat()
    assert leaf.samples_of_others == 0


def test_a_node_goes_on_as_seldom_as_its_dead_parent_did():
    made = trees.settings(further_periods=(20, 30))
    found = [made.up_period_after(moves) for moves in range(4)]
    assert found == [trees.UP, 20, 30, 30]
    assert trees.settings().up_period_after(2) == trees.UP


# What is told up and down.


def test_what_the_chief_says_goes_up_and_down_again(chain):
    other = trees.Inner(chain.edge("root", 8), now=chain.clock)
    chain.servers.serve("other", other.node)
    far = trees.Leaf(chain.edge("other", 1))
    far.join()
    other.join()
    told = Instruction(3, stop=True, learning_rate=0.5, instead_of=1.0)
    chain.leaf.upstream.instruct(told)
    threads = [
        NodeThreads(each.node, 1.0, Timeouts(heartbeat_s=0.01))
        for each in (chain.inner, other)
    ]
    for each in threads:
        each.start()
    support.until(lambda: other.node.registry.instruction.number == 3)
    for each in threads:
        each.stop()
    assert chain.root.node.registry.instruction == told
    far.upstream.beat()
    assert far.upstream.parent.news.instruction == told


def test_all_know_how_much_all_have_trained_on(chain):
    far = trees.Leaf(chain.edge("root", 8))
    far.join()
    far.upstream.put([far.x.copy()], 1, samples=40)
    assert far.upstream.carry()
    chain.leaf.upstream.put([chain.leaf.x.copy()], 1, samples=100)
    assert chain.leaf.upstream.carry()
    chain.inner.turn()
    assert chain.inner.upstream.carry()
    chain.inner.upstream.beat()
    with chain.inner.node.changed:
        chain.inner.node.above.hear()
    for edge, others in ((chain.leaf.upstream, 40), (far.upstream, 100)):
        edge.beat()
        assert edge.samples_of_others == others


def test_a_node_steps_as_long_as_its_children(chain):
    threads = NodeThreads(chain.inner.node, 60.0)
    assert threads.step_s == 60.0
    chain.leaf.upstream.notes = {STEP_S: 0.25}
    chain.leaf.turn()
    assert chain.leaf.upstream.carry()
    assert threads.step_s == 0.25


# Nobody spoils what is above.


def test_a_node_without_children_sends_nothing(chain):
    chain.leaf.x += 1.0
    chain.rounds(4)
    chain.leaf.upstream.leave()
    chain.rounds(1, chain.inner)  # What it has followed by then.
    sent = chain.inner.upstream.sent
    chain.rounds(4 * trees.UP, chain.inner)
    assert chain.inner.upstream.sent == sent


def test_what_the_last_child_has_sent_goes_up_at_once(chain):
    """However long the node's period is."""
    chain.inner.node.one_way._settings = trees.settings(up_period=1000)
    chain.leaf.upstream.notes = {TRAINS: True}
    chain.leaf.upstream.beat()
    chain.rounds(3)
    before = chain.root.point()
    chain.leaf.x[:] = 9.0
    chain.leaf.upstream.put([chain.leaf.x.copy()], 99, 0)
    while chain.leaf.upstream.carry():
        pass
    chain.inner.turn()
    assert not chain.inner.upstream.carry()
    chain.leaf.upstream.notes = {TRAINS: False}
    chain.leaf.upstream.beat()
    chain.inner.turn()
    assert chain.inner.upstream.carry()
    chain.root.turn()
    assert (chain.root.point() > before).all()


def test_the_root_knows_when_all_below_have_finished(chain):
    """Whoever looks at it alone, as an evaluator does, sees the end."""
    other = trees.Inner(chain.edge("root", 8), now=chain.clock)
    chain.servers.serve("other", other.node)
    far = trees.Leaf(chain.edge("other", 1))
    far.join()
    other.join()
    threads = {
        each: NodeThreads(each.node, 1.0) for each in (chain.inner, other)
    }

    def seen():
        for each, of in threads.items():
            of._pass_on()
            each.upstream.beat()
        return chain.root.node.status()["below"]

    assert seen() == "there"
    far.upstream.leave(finished=True)
    assert seen() == "there"
    chain.leaf.upstream.put([chain.leaf.x.copy()], 1, 0)
    assert chain.leaf.upstream.carry()
    version = chain.inner.node.version
    chain.leaf.upstream.leave(finished=True)
    # What it has sent last is not lost, and on its way: here, then there.
    assert chain.inner.node.version == version + 1
    assert seen() == "there"
    for _ in range(2 * trees.UP):  # What was there before leaves first.
        chain.inner.turn()
    assert chain.inner.upstream.waits
    assert seen() == "there"
    while chain.inner.upstream.carry():
        pass
    assert chain.inner.node.below() == "finished"
    assert seen() == "there"
    before = chain.root.node.version
    chain.root.turn()
    assert chain.root.node.version > before
    assert seen() == "finished"
    # Another run begins.
    again = trees.Leaf(chain.edge("inner", 0, "root"))
    again.join()
    assert seen() == "there"
    again.upstream.leave(finished=False)
    assert seen() == "gone"


# Slow edges.


class Slow:
    """A line on which messages take their time, by a clock."""

    def __init__(self, line, clock):
        self.line, self.clock, self.seconds = line, clock, 0.0

    def __getattr__(self, name):
        return getattr(self.line, name)

    def stream(self, *args):
        self.clock.seconds += self.seconds
        return self.line.stream(*args)


def test_a_slow_edge_sends_less_often_until_it_is_quick(caplog):
    chain = Chain(most_stretch=8)
    slow = Slow(chain.servers.connect("root"), chain.clock)
    chain.inner.upstream.parent.connection = slow
    chain.inner.upstream.speed._stretch._most = 8

    def sends(turns):
        """How many messages leave in so many turns."""
        before = chain.inner.upstream.sent
        for _ in range(turns):
            chain.leaf.turn()
            chain.leaf.upstream.carry()
            chain.inner.node.one_way.turn(step_s=1.0)
            chain.inner.upstream.carry()
        return chain.inner.upstream.sent - before

    assert sends(16 * trees.UP) == 16
    slow.seconds = 2.5 * trees.UP  # A factor of 4 is enough.
    sends(32 * trees.UP)
    assert chain.inner.node.status()["one_way"]["stretch_up"] == 4
    assert sends(32 * trees.UP) == 8
    slow.seconds = 0.0
    sends(80 * trees.UP)
    assert chain.inner.node.status()["one_way"]["stretch_up"] == 1
    assert sends(16 * trees.UP) == 16
    told = [r.getMessage() for r in caplog.records if "way up" in r.message]
    assert len([t for t in told if "is slow" in t]) == 1
    assert len([t for t in told if "is quick again" in t]) == 1


def test_a_child_that_is_slow_to_take_what_comes_is_sent_less():
    chain = Chain(most_stretch=8)
    inner = chain.inner.node.one_way
    taken = []
    for turn in range(600):
        inner.turn(step_s=1.0)
        chain.clock.seconds += 1.0
        # It takes 5 periods to take one.
        if turn % (5 * trees.DOWN) == 0 and chain.leaf.upstream.hear(0.0):
            taken.append(turn)
    status = chain.inner.node.status()["one_way"]
    assert status["stretch_down"] == {"0": 8}
    assert len(taken) >= 30
    assert status["not_heard"]["0"] > 5
