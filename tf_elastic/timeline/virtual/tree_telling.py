"""The moves of a virtual tree, as the events that a live one tells."""

import collections
import dataclasses
from collections.abc import Callable
from collections.abc import Iterator
from collections.abc import Mapping
from typing import Any
from typing import NamedTuple

from tf_elastic.timeline import event as events
from tf_elastic.timeline.event import Event
from tf_elastic.timeline.virtual import moves
from tf_elastic.timeline.virtual.moves import Move
from tf_elastic.timeline.virtual.tree_engine import TreeTimeline

# Those of a node of so many children, and of a leaf whose parent has them.
NodeRates = Callable[[int], Mapping[str, float | None]]

PROTOCOL = "one_way"
ANSWERED = "answered"


class _Point(NamedTuple):
    """A point that is on an edge."""

    row: int
    sequence: int
    step_sent: int
    parent: int
    incarnation: int  # of the child there, when it left


@dataclasses.dataclass
class _Node:
    """A worker, an inner node, or the root, so far."""

    name: str
    parent: int
    is_alive: bool = True
    incarnation: int = 0  # at its parent
    up: int = 0  # points that it has sent up, in this life
    down: int = 0
    version: int = 0
    asked_by: int = -1
    waits_since: float = 0.0


class TreeTeller:
    """Tells of moves, one after another, as they are made or followed.

    Center server 0 is the root, those after it are the inner nodes.

    Args:
        timeline: whose moves.
        rates: of an exchange, by the children of a node; None for alpha = 0.
        model: the fingerprint of the variables; see `timeline.fingerprint`.
        accumulation: calls of the optimizer that make a local step.
    """

    def __init__(
        self,
        timeline: TreeTimeline,
        rates: NodeRates | None = None,
        model: str = "",
        accumulation: int = 1,
    ) -> None:
        nodes = timeline.nodes
        self._p, self._root = nodes.num_workers, nodes.root
        self._answers = [
            not nodes.down_period[node] and bool(nodes.children[node])
            for node in range(len(nodes))
        ]
        self._bytes = timeline.workload.bytes_up, timeline.workload.bytes_down
        self._rates = rates
        self._calls = accumulation
        late = {worker for worker, _ in timeline.timing.joins}
        self._nodes = [
            _Node(self._name(node), parent, node not in late)
            for node, parent in enumerate(nodes.parent)
        ]
        self._children = [list(children) for children in nodes.children]
        # Lives of a child at a parent.
        self._lives: collections.Counter[tuple[int, int]]
        self._lives = collections.Counter()
        # By child; [True] goes up.
        self._under_way: list[tuple[collections.deque[_Point], ...]] = [
            (collections.deque(), collections.deque()) for _ in self._nodes
        ]
        self._settings = {
            "protocol": ANSWERED if self._answers[self._root] else PROTOCOL,
            "rule": timeline.workload.rule.config(),
            "compression": "none",
            "model": model,
            "most_waiting": timeline.most_waiting,
        }
        self._time = 0.0
        self._dying = -1, 0.0  # the node that has died last, and when
        self._steps = [0] * len(self._nodes)

    def _name(self, node: int) -> str:
        if node < self._p:
            return f"worker {node}"
        return f"center {self._center(node)}"

    def _center(self, node: int) -> int:
        """The index of a node that is no worker."""
        return 0 if node == self._root else node - self._p + 1

    def begin(self) -> list[Event]:
        """What is told before the first move."""
        there = [n for n, node in enumerate(self._nodes) if node.is_alive]
        told = [self._begins(n, 0.0) for n in there if n >= self._p]
        for node in there:
            if node != self._root:
                told += self._joins(node, 0.0)
        told += [self._start(n, 0.0, 0) for n in there if n < self._p]
        return told

    def end(self) -> list[Event]:
        """What is told when no more moves are wanted."""
        return [
            self._by(
                worker,
                events.END,
                self._time,
                incarnation=self._nodes[worker].incarnation,
                step_applied=self._steps[worker],
            )
            for worker in range(self._p)
            if self._nodes[worker].is_alive
        ]

    def __call__(self, move: Move) -> list[Event]:
        """What is told of one move."""
        self._time = move.time
        kind, number = move.kind, move.worker
        step = move.clock // self._calls
        if kind == moves.STEP:
            self._steps[number] = (move.clock + 1) // self._calls
            return []
        if kind not in (moves.NOT_SENT, moves.NOT_SEEN):
            self._steps[number] = step
        if kind in (moves.SEND, moves.NODE_UP):
            self._nodes[number].waits_since = move.time
            return [self._sends_up(number, move, step)]
        if kind in (moves.NODE_DOWN, moves.ROOT_DOWN):
            return list(self._sends_down(number, move, step))
        if kind in (moves.NODE_FROM_CHILD, moves.ROOT_FROM_CHILD):
            self._nodes[number].asked_by = move.count
            return [self._follows(number, move, step, move.count, True)]
        if kind in (moves.FOLLOW, moves.NODE_FROM_PARENT):
            followed = self._follows(number, move, step, number, False)
            return [*self._wait(number, move), followed]
        if kind in (moves.NOT_SENT, moves.NOT_SEEN):
            return self._loses(move)
        return self._lives_on(number, move, step)

    # Points.

    def _sends_up(self, number: int, move: Move, step: int) -> Event:
        own = self._nodes[number]
        own.up += 1
        return self._sends(number, number, own.up, move, step, True)

    def _sends_down(
        self, number: int, move: Move, step: int
    ) -> Iterator[Event]:
        own = self._nodes[number]
        to = [c for c in self._children[number] if self._nodes[c].is_alive]
        if self._answers[number]:
            to = [own.asked_by]
        for child in to:
            own.down += 1
            yield self._sends(number, child, own.down, move, step, False)

    def _sends(
        self,
        teller: int,
        child: int,
        sequence: int,
        move: Move,
        step: int,
        up: bool,
    ) -> Event:
        own = self._nodes[child]
        self._under_way[child][up].append(
            _Point(move.row, sequence, step, own.parent, own.incarnation)
        )
        return self._by(
            teller,
            events.SEND,
            move.time,
            **self._message(child, own.parent, own.incarnation, up),
            sequence=sequence,
            step_sent=step,
            bytes=self._bytes[not up],
        )

    def _taken(self, child: int, up: bool, row: int) -> _Point:
        """A point that is not under way any more."""
        points = self._under_way[child][up]
        point = next(point for point in points if point.row == row)
        points.remove(point)
        return point

    def _follows(
        self, number: int, move: Move, step: int, child: int, up: bool
    ) -> Event:
        own = self._nodes[number]
        point = self._taken(child, up, move.row)
        fields = self._message(child, point.parent, point.incarnation, up)
        if up and child < self._p:
            fields["worker"] = child
        if number >= self._p:
            fields["version_applied"] = own.version
            fields["num_workers"] = self._present(number)
            own.version += 1
            fields["version_settled"] = own.version
        of = number if number >= self._p else own.parent
        return self._by(
            number,
            events.EXCHANGE,
            move.time,
            **fields,
            sequence=point.sequence,
            step_sent=point.step_sent,
            step_applied=step,
            bytes=self._bytes[not up],
            rates=self._rates_of(max(len(self._children[of]), 1)),
            outcome=events.APPLIED,
        )

    def _rates_of(self, children: int) -> dict[str, float | None]:
        if self._rates is None:
            return {"moving_rate": 0.0, "beta": 0.0, "num_workers": 1}
        return dict(self._rates(children))

    def _loses(self, move: Move) -> list[Event]:
        """A point is lost: told where it is one too many, not of the dead."""
        child, up = move.worker, bool(move.count)
        point = self._taken(child, up, move.row)
        by_sender = move.kind == moves.NOT_SENT
        teller = child if up == by_sender else point.parent
        alive = self._nodes[child].is_alive and self._nodes[teller].is_alive
        if not alive or (point.parent, move.time) == self._dying:
            return []
        return [
            self._by(
                teller,
                events.DROP,
                move.time,
                **self._message(child, point.parent, point.incarnation, up),
                sequence=point.sequence,
                step_sent=point.step_sent,
            )
        ]

    def _wait(self, number: int, move: Move) -> list[Event]:
        """A worker has stood still until it was answered."""
        own = self._nodes[number]
        seconds = move.time - own.waits_since
        answered = self._answers[own.parent]
        if number >= self._p or not answered or seconds <= 0:
            return []
        return [self._by(number, events.WAIT, move.time, seconds=seconds)]

    # Lives.

    def _lives_on(self, number: int, move: Move, step: int) -> list[Event]:
        own = self._nodes[number]
        kind, time = move.kind, move.time
        if kind in (moves.DIE, moves.NODE_DIE):
            own.is_alive, self._dying = False, (number, time)
            if kind == moves.NODE_DIE:
                self._children[own.parent].remove(number)
            return self._dies(number, time)
        if kind == moves.ATTACH:
            self._children[own.parent].remove(number)
            self._children[move.count].append(number)
            before, own.parent = own.parent, move.count
            return self._joins(number, time, before) if own.is_alive else []
        own.is_alive, own.up, own.down, own.version = True, 0, 0, 0
        if kind == moves.JOIN:
            return [*self._joins(number, time), self._start(number, time, step)]
        own.parent = move.count
        self._children[own.parent].append(number)
        told = [self._begins(number, time), *self._joins(number, time)]
        for child in self._children[number]:
            if self._nodes[child].is_alive:
                told += self._joins(child, time, number)
        return told

    def _dies(self, number: int, time: float) -> list[Event]:
        own = self._nodes[number]
        if not self._nodes[own.parent].is_alive:
            return []
        return [self._by_parent(number, events.DEATH, time)]

    def _begins(self, number: int, time: float) -> Event:
        return self._by(
            number,
            events.BEGIN,
            time,
            version_applied=0,
            num_workers=self._present(number),
            outcome=events.FIRST,
        )

    def _joins(
        self, child: int, time: float, before: int | None = None
    ) -> list[Event]:
        """A child is known to its parent; what both tell of it."""
        own = self._nodes[child]
        self._lives[child, own.parent] += 1
        own.incarnation = self._lives[child, own.parent]
        fields = {}
        if before is not None:  # What has not left goes there now.
            fields["parent_before"] = self._center(before)
            points = self._under_way[child][True]
            for place, point in enumerate(points):
                points[place] = point._replace(
                    parent=own.parent, incarnation=own.incarnation
                )
        return [
            self._by_parent(child, events.JOIN, time),
            self._by(
                child,
                events.ATTACH,
                time,
                child=own.name,
                parent=self._center(own.parent),
                incarnation=own.incarnation,
                **fields,
            ),
        ]

    def _start(self, worker: int, time: float, step: int) -> Event:
        own = self._nodes[worker]
        return self._by(
            worker,
            events.START,
            time,
            incarnation=own.incarnation,
            step_applied=step,
            version_read=self._nodes[own.parent].version,
            settings=self._settings,
        )

    # Pieces.

    def _present(self, number: int) -> int:
        alive = (self._nodes[c].is_alive for c in self._children[number])
        return max(sum(alive), 1)

    def _by_parent(self, child: int, kind: str, time: float) -> Event:
        own = self._nodes[child]
        fields = {"worker": child} if child < self._p else {}
        return self._by(
            own.parent,
            kind,
            time,
            **fields,
            child=own.name,
            incarnation=own.incarnation,
            num_workers=self._present(own.parent),
        )

    def _message(
        self, child: int, parent: int, incarnation: int, up: bool
    ) -> dict[str, Any]:
        return {
            "child": self._nodes[child].name,
            "parent": self._center(parent),
            "incarnation": incarnation,
            "call": events.UP if up else events.DOWN,
        }

    def _by(self, number: int, kind: str, time: float, **fields: Any) -> Event:
        own = {"shard": self._center(number)}
        if number < self._p:
            own = {"worker": number}
        name = self._nodes[number].name
        return Event(kind, time, name, **{**own, **fields})
