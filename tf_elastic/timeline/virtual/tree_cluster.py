"""The nodes of a virtual tree: their steps, and what each turn sends."""

import itertools
from collections.abc import Generator
from collections.abc import Iterator

from tf_elastic.timeline.virtual import moves
from tf_elastic.timeline.virtual import steps
from tf_elastic.timeline.virtual import streams
from tf_elastic.timeline.virtual.center import Fields
from tf_elastic.timeline.virtual.lives import Lives
from tf_elastic.timeline.virtual.lives import NodeLives
from tf_elastic.timeline.virtual.message_rows import MessageRows
from tf_elastic.timeline.virtual.nodes import Nodes
from tf_elastic.timeline.virtual.scheduler import WORKER
from tf_elastic.timeline.virtual.scheduler import Process
from tf_elastic.timeline.virtual.scheduler import Scheduler
from tf_elastic.timeline.virtual.timing import Timing
from tf_elastic.timeline.virtual.tree_edges import Point
from tf_elastic.timeline.virtual.tree_edges import TreeEdges
from tf_elastic.timeline.virtual.tree_places import Places
from tf_elastic.timeline.virtual.workload import Workload


class TreeCluster:
    """All that happens in a virtual tree, from its beginning.

    After each local step a node has its turn: it sends, up and then down, if
    its periods say so, and follows what has arrived, in that order; a node
    that begins has one too. A node that answers does so whenever it is asked,
    and who has asked waits.

    The arguments are those of `TreeTimeline`, checked.
    """

    def __init__(
        self,
        timing: Timing,
        workload: Workload,
        nodes: Nodes,
        seed: int,
        most_waiting: int,
    ) -> None:
        self._timing = timing
        self._nodes = nodes
        self._seed = seed
        self._calls = workload.calls
        self.moves: list[Fields] = []  # that were made and not taken yet
        everyone = range(len(nodes))
        self._places = Places(nodes)
        self._alive = self._places.is_alive
        self._present = 0
        self._clocks = [0 for _ in everyone]  # calls, as if all were workers
        # Children's points that a node has followed.
        self._versions = [0 for _ in everyone]
        self._read = [0 for _ in everyone]  # of the parent, as last told
        self._one_way = [self._goes_one_way(node) for node in everyone]
        # Of who waits for an answer: its question, or what it is answered.
        self._asks: dict[int, Point] = {}
        self._rows = MessageRows(self._num_first())
        self._scheduler = Scheduler()
        self._edges = TreeEdges(
            timing,
            workload,
            nodes,
            self._places,
            seed,
            most_waiting,
            self._scheduler,
            self._lost,
        )
        lives = Lives(timing, seed, self._scheduler, self._begin, self._end)
        lives.start(nodes.num_workers)
        self._start_nodes()
        NodeLives(
            timing,
            nodes,
            seed,
            self._scheduler,
            self._begin_node,
            self._end_node,
            self._give_up,
        ).start()

    def _start_nodes(self) -> None:
        """Lets the inner nodes and the root begin."""
        nodes = self._nodes
        for node in range(nodes.num_workers, len(nodes)):
            if node != nodes.root or nodes.down_period[node]:
                process = self._serve(node, 0.0)
                self._scheduler.start(node, WORKER, process)

    def advance(self, enough: int) -> bool:
        """Goes on until there are so many moves.

        Returns:
            Whether there may be more.
        """
        return self._scheduler.run(self.moves, enough)

    def _num_first(self) -> int:
        """How many are told of the point that all begin at."""
        late = {worker for worker, _ in self._timing.joins}
        there = [c for c in range(self._nodes.root) if c not in late]
        # Of each edge on which nothing is answered both ends.
        return 2 * sum(self._one_way[child] for child in there)

    # Workers and inner nodes.

    def _goes_one_way(self, node: int) -> bool:
        """Whether what a node sends to its parent is not answered."""
        parent = self._places.parent[node]
        return parent >= 0 and self._nodes.down_period[parent] > 0

    def _begin(self, worker: int, time: float) -> None:
        if time > 0 and not self._has_parent(worker):
            self._attach(worker, time)
        self._present += 1
        self._alive[worker] = True
        if time > 0:
            self._note(moves.JOIN, time, worker)
            self._read[worker] = self._versions[self._places.parent[worker]]
        self._scheduler.start(worker, WORKER, self._work(worker, time))

    def _end(self, worker: int, time: float) -> None:
        """A worker dies, and what is on its edge is lost."""
        self._present -= 1
        self._alive[worker] = False
        self._note(moves.DIE, time, worker)
        self._scheduler.stop(self._edges.channels(worker))
        self._edges.clear(worker, time)
        if worker in self._asks:
            self._lost(moves.NOT_SEEN, time, self._asks.pop(worker))

    def _begin_node(self, node: int, time: float) -> None:
        """An inner node's new life: it is where its parent is."""
        to = self._places.living_above(node)
        self._places.come_back(node, to)
        self._note(moves.NODE_JOIN, time, node, count=to)
        self._read[node] = self._versions[to]
        self._one_way[node] = self._goes_one_way(node)
        self._scheduler.start(node, WORKER, self._serve(node, time))
        for child in self._places.children[node]:
            if self._alive[child]:
                self._edges.resume(child, time)

    def _end_node(self, node: int, time: float) -> None:
        """An inner node dies, and what is on its edges is lost."""
        self._note(moves.NODE_DIE, time, node)
        self._scheduler.stop(self._edges.channels(node))
        self._edges.clear_node(node, time)
        for asks in (node, *self._places.children[node]):
            if asks in self._asks:
                self._lost(moves.NOT_SEEN, time, self._asks.pop(asks))
        self._places.die(node)

    def _give_up(self, node: int, time: float) -> None:
        """A dead node's children go to its parent, and stay there."""
        for child in list(self._places.children[node]):
            if self._alive[child]:
                self._attach(child, time)

    def _attach(self, child: int, time: float) -> None:
        """A child goes to the nearest node above that is there."""
        to = self._places.living_above(child)
        self._places.move(child, to)
        self._note(moves.ATTACH, time, child, count=to)
        self._read[child] = self._versions[to]
        self._one_way[child] = self._goes_one_way(child)
        self._edges.resume(child, time)

    def _has_parent(self, node: int) -> bool:
        """Whether its parent is there."""
        return self._alive[self._places.parent[node]]

    def _work(self, worker: int, time: float) -> Process:
        """A worker's steps, without an end."""
        self._turn(worker, time)
        add, clocks = self.moves.append, self._clocks
        root, versions = self._nodes.root, self._versions
        inbox = self._edges.inbox[worker]
        clock, calls = clocks[worker], self._calls
        periods, one_way = self._places.up_period, self._one_way
        overheads = self._overheads(worker)
        step = moves.STEP
        for seconds in steps.seconds(self._timing, self._seed, worker):
            time = yield time + seconds
            at, present = versions[root], self._present
            add((time, step, worker, clock, at, 0, present, 1, -1))
            clocks[worker] = clock = clock + 1
            if clock % (periods[worker] * calls) == 0:
                if one_way[worker]:
                    self._turn(worker, time)
                elif self._has_parent(worker):
                    time = yield from self._ask(worker, time)
                if overheads is not None:
                    time += next(overheads)
            elif inbox and clock % calls == 0:
                self._turn(worker, time)

    def _overheads(self, worker: int) -> Iterator[float] | None:
        """What a message takes from a worker's own steps, if it does."""
        goes_on = self._one_way[worker]
        overhead = self._timing.overhead_of(
            "overlapped" if goes_on else "blocking"
        )
        if overhead.is_nothing:
            return None
        return streams.of(overhead, self._seed, streams.OVERHEAD, worker)

    def _serve(self, node: int, time: float) -> Process:
        """An inner node's steps, or the root's."""
        self._turn(node, time)
        is_inner, periods = node != self._nodes.root, self._places.up_period
        for seconds in self._seconds_of(node):
            time = yield time + seconds
            self._clocks[node] += self._calls
            asks = is_inner and not self._one_way[node]
            if (
                asks
                and self._clocks[node] % (periods[node] * self._calls) == 0
                and self._has_parent(node)
            ):
                time = yield from self._ask(node, time)
            self._turn(node, time)

    def _seconds_of(self, node: int) -> Iterator[float]:
        like = self._nodes.leaf_below(node)
        each = steps.of_node(self._timing, self._seed, node, like)
        if self._calls == 1:
            return each
        return (sum(itertools.islice(each, self._calls)) for _ in iter(int, 1))

    # What they do.

    def _turn(self, node: int, time: float) -> None:
        """Sends, then follows what has arrived."""
        nodes, places = self._nodes, self._places
        clock = self._clocks[node] // self._calls
        if self._one_way[node] and clock % places.up_period[node] == 0:
            if (
                node < nodes.num_workers
                or not time
                or (places.has_children(node))
            ):
                self._send_up(node, time)
        down_period = nodes.down_period[node]
        if down_period and clock % down_period == 0:
            self._send_down(node, time)
        for point in self._edges.taken(node):
            if point.up:
                self._follow_child(node, time, point)
            else:
                self._follow_parent(node, time, point)
            self._rows.release(point.row)

    def _send_up(self, node: int, time: float) -> None:
        row = self._put(self._up_kind(node), node, time, 1)
        self._edges.send(Point(node, True, row, self._read[node]), time)

    def _send_down(self, node: int, time: float) -> None:
        told = [c for c in self._places.children[node] if self._alive[c]]
        if not told:
            return
        row = self._put(self._down_kind(node), node, time, len(told))
        for child in told:
            self._edges.send(
                Point(child, False, row, self._versions[node]), time
            )

    def _put(self, kind: int, node: int, time: float, users: int) -> int:
        """A node's point is in a row for so many; the first has its own."""
        row = self._rows.take(users) if time > 0 else 0
        self._note(kind, time, node, count=users, row=row)
        return row

    def _ask(
        self, node: int, time: float
    ) -> Generator[float | None, float, float]:
        """A node and its parent move by each other; the node waits.

        If its parent dies meanwhile it waits as long, and goes on alone.
        """
        parent = self._places.parent[node]
        row = self._put(self._up_kind(node), node, time, 1)
        point = self._asks[node] = Point(node, True, row, self._read[node])
        time = yield from self._edges.travel(node, True, time)
        if self._asks.get(node) is not point:
            return time
        self._follow_child(parent, time, point)
        self._note(self._down_kind(parent), time, parent, row=row)
        point = self._asks[node] = Point(
            node, False, row, self._versions[parent]
        )
        time = yield from self._edges.travel(node, False, time)
        if self._asks.get(node) is not point:
            return time
        self._follow_parent(node, time, point)
        del self._asks[node]
        self._rows.release(row)
        return time

    def _follow_child(self, node: int, time: float, point: Point) -> None:
        kind = moves.NODE_FROM_CHILD
        if node == self._nodes.root:
            kind = moves.ROOT_FROM_CHILD
        staleness = max(self._versions[node] - point.mark, 0)
        self._note(kind, time, node, staleness, point.child, point.row)
        self._versions[node] += 1

    def _follow_parent(self, node: int, time: float, point: Point) -> None:
        is_worker = node < self._nodes.num_workers
        kind = moves.FOLLOW if is_worker else moves.NODE_FROM_PARENT
        # Of a parent before it says nothing.
        version = self._versions[self._places.parent[node]]
        staleness = max(version - point.mark, 0)
        self._note(kind, time, node, staleness, row=point.row)
        self._read[node] = point.mark

    def _lost(self, kind: int, time: float, point: Point) -> None:
        """A point is lost: too many wait, or the worker of its edge dies."""
        child = point.child
        self._note(kind, time, child, count=int(point.up), row=point.row)
        self._rows.release(point.row)

    def _up_kind(self, node: int) -> int:
        is_worker = node < self._nodes.num_workers
        return moves.SEND if is_worker else moves.NODE_UP

    def _down_kind(self, node: int) -> int:
        is_root = node == self._nodes.root
        return moves.ROOT_DOWN if is_root else moves.NODE_DOWN

    def _note(
        self,
        kind: int,
        time: float,
        node: int,
        staleness: int = 0,
        count: int = 1,
        row: int = -1,
    ) -> None:
        p, root = self._nodes.num_workers, self._nodes.root
        version = self._versions[root if node < p else node]
        clock, present = self._clocks[node], self._present
        self.moves.append(
            (time, kind, node, clock, version, staleness, present, count, row)
        )
