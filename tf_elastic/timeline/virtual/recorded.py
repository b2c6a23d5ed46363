"""The timeline of a real cluster, from its log: training repeats it."""

import collections
import heapq
from collections.abc import Iterator
from collections.abc import Sequence

from tf_elastic.core import rules
from tf_elastic.core.rules import Rule
from tf_elastic.timeline.event import Event
from tf_elastic.timeline.virtual import moves
from tf_elastic.timeline.virtual.moves import Move
from tf_elastic.timeline.virtual.record import Line
from tf_elastic.timeline.virtual.record import Record
from tf_elastic.timeline.virtual.record import Ways
from tf_elastic.timeline.virtual.record_walk import LOOKS
from tf_elastic.timeline.virtual.record_walk import MOVES
from tf_elastic.timeline.virtual.record_walk import Stop
from tf_elastic.timeline.virtual.record_walk import Walk

_CENTER = -1


class RecordedTimeline:
    """What has happened in a real cluster of one center server, as moves.

    The center sees all in the order of its versions, and each worker what is
    its own in its own order: exactly as it was. The times are those of the
    log; steps between two messages are taken to be equally long. Where the
    clocks of two machines differ, a move is never before one that it follows.

    A worker that was too late for an exchange before its step (a difference)
    takes that step's gradient at the center here, and not where it was.

    Args:
        found: the events of all processes, see `event_file.read`.
        accumulation: the calls of the optimizer that make a local step
            (`gradient_accumulation_steps`), which a log does not tell.

    Raises:
        ValueError: training cannot repeat it: there are several center
            servers or optimizers, the center was set back, the log is not
            whole, or it is of an older release. The event is named.

    Attributes:
        num_workers: of the log, from 0 on.
        protocol: by which they exchanged.
        rule: of the center.
        model: what its variables look like; see `fingerprint`.
        num_steps: calls of the optimizer, of all workers together.
        kinds: of moves that there are.
        p_varies: whether a move is of fewer workers, or more.
    """

    def __init__(self, found: Sequence[Event], accumulation: int = 1) -> None:
        if accumulation < 1:
            raise ValueError(
                "`accumulation` must be at least 1. Received: "
                f"accumulation={accumulation}."
            )
        self._record = record = Record(found)
        self.num_workers = record.num_workers
        self.protocol = str(record.settings["protocol"])
        self.rule: Rule = rules.from_config(record.settings["rule"])
        self.model = str(record.settings["model"])
        self._ways = Ways(self.rule, self.protocol, accumulation)
        self._deposits = self._sums()
        # How often the center is looked at, by version; what moves it there.
        self._looks: collections.Counter[int] = collections.Counter()
        self._count_places()
        # What is contradictory is told now, and not in the midst of training.
        counts = collections.Counter(
            (move.kind, move.num_workers) for move in self.moves()
        )
        self.num_steps = sum(
            count for (kind, _), count in counts.items() if kind in moves.STEPS
        )
        self.kinds = frozenset(kind for kind, _ in counts)
        self.p_varies = {p for _, p in counts} != {self.num_workers}

    def check(
        self, num_workers: int, protocol: str, rule: Rule, model: str
    ) -> None:
        """Refuses to be repeated by another training.

        Args:
            num_workers: the workers of the training.
            protocol: its protocol.
            rule: its center's rule.
            model: the `fingerprint` of its variables.

        Raises:
            ValueError: the log is of another one.
        """
        for what, ours, theirs in (
            ("the number of workers", self.num_workers, num_workers),
            ("the protocol", self.protocol, protocol),
            ("the rule", self.rule.config(), rule.config()),
            ("the model", self.model, model),
        ):
            if ours != theirs:
                raise ValueError(
                    "A log can be repeated by the training that it is of. "
                    f"Received: {what} is {ours} in the log, and {theirs} "
                    "here. Give another log, or the same model, optimizer "
                    "and workers."
                )

    def moves(self) -> Iterator[Move]:
        """All moves, in the order of time; each call begins anew."""
        looks = self._looks.copy()
        waiting: dict[tuple[int, int], list[tuple[float, int, Stop]]]
        waiting = collections.defaultdict(list)
        walks = {
            worker: Walk(worker, own, self._ways).stops()
            for worker, own in self._record.workers.items()
        }
        walks[_CENTER] = self._rounds()
        ready: list[tuple[float, int, Stop]] = []
        version, now, begin = 0, 0.0, None

        def may_happen(place: tuple[int, int]) -> bool:
            if place[0] != version:
                return False
            return place[1] == LOOKS or not looks[version]

        def goes_on(worker: int) -> None:
            stop = next(walks[worker], None)
            if stop is None:
                return
            entry = (stop.move.time, worker, stop)
            if stop.place is None or may_happen(stop.place):
                heapq.heappush(ready, entry)
            else:
                waiting[stop.place].append(entry)

        def becomes_ready(place: tuple[int, int]) -> None:
            if may_happen(place):
                for entry in waiting.pop(place, []):
                    heapq.heappush(ready, entry)

        for worker in walks:
            goes_on(worker)
        while ready:
            time, worker, stop = heapq.heappop(ready)
            begin = time if begin is None else begin
            now = max(now, time - begin)
            yield stop.move._replace(time=now, version=version)
            if stop.place is not None:
                if stop.place[1] == LOOKS:
                    looks[version] -= 1
                else:
                    version += 1
                    becomes_ready((version, LOOKS))
                becomes_ready((version, MOVES))
            goes_on(worker)
        self._check_all_done(waiting, version)

    def _check_all_done(
        self,
        waiting: dict[tuple[int, int], list[tuple[float, int, Stop]]],
        version: int,
    ) -> None:
        left = [entry for entries in waiting.values() for entry in entries]
        if left:
            line = min(left, key=lambda entry: entry[2].place or (0, 0))[2].line
            if line is not None:
                line.refuse(
                    f"nobody has moved the center on from version {version}, "
                    "or it comes before what it follows"
                )

    def _count_places(self) -> None:
        movers: dict[int, Line | None] = {}
        walks = [
            Walk(worker, own, self._ways).stops()
            for worker, own in self._record.workers.items()
        ]
        for stops in (*walks, self._rounds()):
            for stop in stops:
                if stop.place is None:
                    continue
                version, how = stop.place
                self._looks[version] += how == LOOKS
                if how == MOVES:
                    if version in movers and stop.line is not None:
                        stop.line.refuse("version and move are told twice")
                    movers[version] = stop.line

    # Synchronous rounds.

    def _sums(self) -> dict[int, list[Line]]:
        """By version, what was brought to each round."""
        brought: dict[int, list[Line]] = collections.defaultdict(list)
        for own in self._record.workers.values():
            for message in own.messages.values():
                line = message.arrived
                if line is not None and not message.is_late:
                    brought[line.number("version_applied")].append(line)
        return brought

    def _rounds(self) -> Iterator[Stop]:
        for line in self._record.rounds:
            version, count = line.number("version_applied"), line.event.amount
            brought = self._deposits[version]
            if count != len(brought):
                line.refuse(f"{len(brought)} messages of this round are told")
            found = {one.num_workers for one in brought}
            if len(found) > 1 and self.rule.answers_difference:
                line.refuse(f"it has messages by several p: {sorted(found)}")
            newest = brought[-1] if brought else line
            yield Stop(
                Move(
                    line.event.time,
                    moves.COLLECT,
                    num_workers=newest.num_workers,
                    count=len(brought),
                ),
                (version, MOVES),
                line,
            )
