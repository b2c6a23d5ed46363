"""Timelines of virtual trees, and what they have to keep."""

import collections
import itertools

from tf_elastic.core import rules
from tf_elastic.core import topology
from tf_elastic.timeline.virtual import LogNormal
from tf_elastic.timeline.virtual import Losses
from tf_elastic.timeline.virtual import Timing
from tf_elastic.timeline.virtual import TreeTimeline
from tf_elastic.timeline.virtual import Workload
from tf_elastic.timeline.virtual import moves as kinds

SLOW = Timing(
    LogNormal(1.0, 0.5),
    latency=LogNormal(0.3, 0.5),
    bandwidth=400.0,
    service=0.02,
    losses=Losses(0.1, 0.3),
    node_latency=(0.8, 0.2),
    node_bandwidth=900.0,
    center_bandwidth=150.0,
)
# Levels of one degree and of another, a leaf at the root, answers below.
UNEVEN = topology.Topology(
    [
        topology.Edge("a", "root", 3, 2),
        topology.Edge("b", "root", 2, 2),
        topology.Edge("c", "a", 2, None),
        topology.Edge("d", "a", 1, None),
        topology.Edge("e", "a", 2, None),
        topology.Edge("f", "b", 1, 3),
        topology.Edge("g", "b", 2, 3),
        topology.Edge("h", "root", 1, 2),
    ]
)
TREES = {
    "up_down": topology.tree(2, 2, topology.up_down(1, 3)),
    "multi_scale": topology.tree(2, 3, topology.multi_scale(1, 2)),
    "answered": topology.tree(3, 2, topology.answered(1, 2)),
    "uneven": UNEVEN,
}


def workload(calls=1, size=100):
    return Workload(
        rules.Elastic(),
        "blocking",
        calls=calls,
        bytes_up=size,
        bytes_down=size,
    )


def timeline(timing, tree, calls=1, size=100, **options):
    if not isinstance(timing, Timing):
        timing = Timing(timing)
    return TreeTimeline(timing, workload(calls, size), tree, **options)


def first(made, count):
    return list(itertools.islice(made.moves(), count))


def told(moves):
    """ "step 0" of each."""
    return [f"{kinds.NAMES[move.kind]} {move.worker}" for move in moves]


def check(moves, made):
    """Refuses moves that no tree could make.

    Times do not go back, clocks grow by one, a point is followed by whom it
    is for, once, in the order in which it was sent, and its row is not used
    again before that; who waits for an answer takes no step; no more wait than
    may; a worker's point moves between its steps alone.
    """
    nodes, calls = made.nodes, made.workload.calls
    p, root = nodes.num_workers, nodes.root
    time = 0.0
    clocks, versions = collections.Counter(), collections.Counter()
    parents = list(nodes.parent)
    up_periods = list(nodes.up_period)
    rows = {}  # row: [sender, those who are to follow it]
    in_order = collections.defaultdict(collections.deque)
    asks, alive = set(), {*range(p)} - {w for w, _ in made.timing.joins}
    dead, died_at = set(), {}
    for move in moves:
        kind, who, row = move.kind, move.worker, move.row
        assert move.time >= time, move
        time = move.time
        if kind == kinds.JOIN:
            assert who not in alive
            alive.add(who)
        elif kind == kinds.DIE:
            alive.remove(who)
            asks.discard(who)
        elif kind == kinds.NODE_DIE:
            assert p <= who < root and who not in dead
            dead.add(who)
            died_at[who] = time
        elif kind == kinds.NODE_JOIN:
            assert move.count not in dead
            dead.remove(who)
            parents[who] = move.count
        elif kind == kinds.ATTACH:
            before, to = parents[who], move.count
            assert before in dead and to not in dead and to >= p
            late = time - died_at[before]
            assert late >= made.timing.move_s - 1e-9 or who not in alive
            up_periods[who], parents[who] = up_periods[before], to
        if time > 0:
            assert move.num_workers == len(alive), move
        if kind in _LIVES:
            continue
        if kind not in (kinds.NOT_SENT, kinds.NOT_SEEN):
            assert who not in dead
        if kind == kinds.STEP:
            assert who in alive and who not in asks
            assert move.clock == clocks[who]
            clocks[who] += 1
        elif kind in (kinds.SEND, kinds.NODE_UP):
            users = {"above"}
            _put(rows, row, who, users, time)
            in_order[who, "above"].append(row)
            assert clocks[who] % up_periods[who] == 0 or who >= p
            if not nodes.down_period[parents[who]]:
                asks.add(who)
        elif kind in (kinds.NODE_DOWN, kinds.ROOT_DOWN):
            if nodes.down_period[who]:
                users = {
                    c
                    for c in range(root)
                    if parents[c] == who
                    and (c in alive or c >= p)
                    and c not in dead
                }
                _put(rows, row, who, users, time)
                assert time == 0 or len(users) == move.count
            else:
                [child] = rows[row][1]  # Whose question was in it.
                rows[row] = [who, {child}]
                users = {child}
            for child in users:
                in_order["below", child].append(row)
        elif kind in (kinds.NOT_SENT, kinds.NOT_SEEN):
            edge = (who, "above") if move.count else ("below", who)
            in_order[edge].remove(row)
            _used(rows, row, edge[1])
            if kind == kinds.NOT_SEEN and parents[who] in dead:
                asks.discard(who)
        else:
            up = kind in (kinds.NODE_FROM_CHILD, kinds.ROOT_FROM_CHILD)
            assert (kind == kinds.FOLLOW) == (who < p)
            assert (kind == kinds.ROOT_FROM_CHILD) == (who == root)
            assert 0 <= move.staleness
            if kind == kinds.FOLLOW:
                assert clocks[who] % calls == 0
            if up:
                assert move.version == versions[who], move
                versions[who] += 1
            if up:  # Which child's, the move says.
                assert parents[move.count] == who
            edge = (move.count, "above") if up else ("below", who)
            here = in_order[edge]
            assert row == here[0], move
            here.popleft()
            if up and not nodes.down_period[who]:
                rows[row] = [who, {move.count}]
            else:
                _used(rows, row, edge[1])
                if not up:
                    asks.discard(who)
    return clocks


_LIVES = (
    *(kinds.JOIN, kinds.DIE),
    *(kinds.NODE_DIE, kinds.NODE_JOIN, kinds.ATTACH),
)


def _put(rows, row, sender, users, time):
    if time == 0:
        assert row == 0
        rows.setdefault(0, ["all", collections.Counter()])
        rows[0][1].update(users)
        return
    assert not rows.get(row, [None, ()])[1], (row, rows[row])
    rows[row] = [sender, set(users)]


def _used(rows, row, user):
    users = rows[row][1]
    if isinstance(users, collections.Counter):
        users[user] -= 1
        rows[row][1] = +users
    else:
        users.remove(user)
