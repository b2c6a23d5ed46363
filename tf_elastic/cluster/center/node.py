"""A center server's part of the center, and those who move it.

No network here: whatever thread calls, one call at a time changes anything, so
that each exchange is atomic on each server. The parts know nothing of each
other: `state` has the numbers, `registry` the workers, `rounds` the
synchronous exchanges, `election` the offers to an empty center, `admission`
says whose model fits, and `exchanges` how all of them move the center; of a
node in a tree `one_way` does.
"""

import functools
from collections.abc import Callable
from collections.abc import Sequence
from typing import Any

from absl import logging

from tf_elastic.cluster import errors
from tf_elastic.cluster import tree_numbers
from tf_elastic.cluster.center import admission
from tf_elastic.cluster.center import below
from tf_elastic.cluster.center.above import Above
from tf_elastic.cluster.center.answered_node import AnsweredNode
from tf_elastic.cluster.center.bootstrap_election import BootstrapElection
from tf_elastic.cluster.center.center_state import Arrays
from tf_elastic.cluster.center.center_state import CenterState
from tf_elastic.cluster.center.node_exchanges import NodeExchanges
from tf_elastic.cluster.center.node_parts import News
from tf_elastic.cluster.center.node_parts import NodeParts
from tf_elastic.cluster.center.one_way_exchanges import OneWayExchanges
from tf_elastic.cluster.center.one_way_settings import OneWaySettings
from tf_elastic.cluster.center.registration import Registration
from tf_elastic.cluster.center.worker_registry import MAX_WORKERS
from tf_elastic.cluster.center.worker_registry import WorkerRegistry
from tf_elastic.cluster.instruction import Instruction
from tf_elastic.cluster.watch import BELOW
from tf_elastic.cluster.watch import THERE
from tf_elastic.cluster.worker.upstream import Upstream
from tf_elastic.timeline import event as happened
from tf_elastic.timeline import stream


class Node:
    """What one center server is, without its network.

    Calls of a worker that has no slot (any more) raise `UnknownWorkerError`,
    `ReplacedError` or `LostSlotError`.

    Args:
        index: of this server among the center servers.
        num_shards: how many of them there are.
        lease_s: after how many silent seconds a worker loses its slot.
        grace_s: how many seconds of offers are compared if this server
            holds no parameters.
        max_workers: that may ever join.
        one_way: how it takes part in a tree; None if it does not.
        upstream: the edge to its parent; None if it has none.
        now: a clock, in seconds.
        group: which optimizer's center it is part of, from 0.
        events: is told what happens; None for nobody outside.
    """

    def __init__(
        self,
        index: int = 0,
        num_shards: int = 1,
        lease_s: float = 15.0,
        grace_s: float = 1.0,
        max_workers: int = MAX_WORKERS,
        one_way: OneWaySettings | None = None,
        upstream: Upstream | None = None,
        *,
        now: Callable[[], float],
        group: int = 0,
        events: stream.Stream | None = None,
    ) -> None:
        self.index = index
        # Makes one for another optimizer, as this one was at first.
        self.empty_twin = functools.partial(
            Node, index, num_shards, lease_s, grace_s, max_workers, now=now
        )
        chiefs = one_way.chiefs if one_way else (0,)
        self._parts = parts = NodeParts(
            num_shards,
            CenterState(index),
            WorkerRegistry(lease_s, now, max_workers, chiefs),
            now,
            events or stream.of_center(index, group, now),
            in_tree=one_way is not None,
        )
        self.state, self.registry = parts.state, parts.registry
        self.rounds, self.events = parts.rounds, parts.events
        self.changed = parts.changed
        self.election = BootstrapElection(grace_s, now)
        self.exchanges = NodeExchanges(parts)
        self.one_way = OneWayExchanges(one_way, upstream, parts)
        self.above = Above(upstream, parts)
        self.answered = (
            AnsweredNode(one_way, upstream, parts)
            if one_way and one_way.answers
            else None
        )

    @property
    def version(self) -> int:
        """Pushes (synchronous: rounds) that the center has seen."""
        return self.state.version

    @property
    def arrays(self) -> Arrays | None:
        """The center, one array for each section; None if there is none."""
        return self.state.arrays

    @property
    def applied(self) -> int:
        """Pushes, by this process."""
        return self.exchanges.staleness.count

    # Who is there.

    def hello(self, worker: int | None) -> News:
        """What a process needs to know before it joins."""
        with self.changed:
            known = Registration(0, present=False)
            if worker is not None:
                known = self.registry.members.get(worker, known)
            return {
                **self._parts.news(),
                "description": self.state.description,
                "last_incarnation": known.incarnation,
                "pushes": known.pushes,
                "clock": known.clock,
                "present": known.present,
            }

    def join(
        self,
        worker: int,
        incarnation: int,
        expected: int,
        description: dict[str, Any],
        process: str,
        previous: int = 0,
    ) -> News:
        """Gives a worker a slot; see `WorkerRegistry.join`.

        Raises:
            CenterRefusedError: its model is not the center's.
            ReplacedError: a newer process of this worker was here.
        """
        with self.changed:
            if admission.check(self._parts, worker, description):
                self.exchanges.begin()
            self.registry.join(worker, incarnation, expected, process, previous)
            self._forget(worker)
            self.one_way.settle(worker)
            self.rounds.leave(worker)
            self._tell(happened.JOIN, worker)
            return self._parts.news()

    def leave(
        self, worker: int, incarnation: int, finished: bool = False
    ) -> News:
        """Takes a worker's slot back."""
        with self.changed:
            if finished and incarnation == self.registry.last_incarnation(
                worker
            ):
                self.one_way.finishes(worker)
            self.registry.leave(worker, incarnation, finished)
            self._tell(
                happened.LEAVE,
                worker,
                outcome=happened.FINISHED if finished else happened.LEFT,
            )
            self._lose([worker])
            return self._parts.news()

    def heartbeat(
        self,
        worker: int,
        incarnation: int,
        clock: int,
        samples: int,
        notes: dict[str, Any],
    ) -> News:
        """Hears of a worker."""
        with self.changed:
            member = self.registry.admit(worker, incarnation)
            member.hear(clock, samples)
            member.notes = notes
            return self._parts.news(member)

    def instruct(self, worker: int, incarnation: int, **told: Any) -> News:
        """Passes on what the chief tells all workers; see `Instruction`."""
        with self.changed:
            self.registry.instruct(worker, incarnation, Instruction(**told))
            return self._parts.news()

    def tick(self) -> None:
        """Looks after leases; to be called every second or so."""
        with self.changed:
            dead = self.registry.tick()
            for worker in dead:
                self._tell(happened.DEATH, worker)
            self._lose(dead)

    def _tell(self, kind: str, worker: int, **fields: Any) -> None:
        self.events.tell(
            kind,
            **self._parts.told(worker),
            incarnation=self.registry.last_incarnation(worker),
            num_workers=self.registry.num_workers,
            **fields,
        )

    def _lose(self, workers: Sequence[int]) -> None:
        for worker in workers:
            self._forget(worker)
            self.election.withdraw(worker)
        self.exchanges.end_round_if_complete()

    def _forget(self, worker: int) -> None:
        self.exchanges.forget(worker)
        self.one_way.forget(worker)

    # First values.

    def offer(
        self, worker: int, incarnation: int, version_seen: int, is_chief: bool
    ) -> News:
        """A worker offers its parameters to a center that has none.

        Returns:
            What `hello` says, and "upload": whether to send them now.
        """
        with self.changed:
            self.registry.admit(worker, incarnation)
            upload = self.arrays is None and self.election.make(
                worker, version_seen, is_chief
            )
            return {**self._parts.news(), "upload": upload}

    def initialize(
        self, worker: int, incarnation: int, version: int, values: Arrays
    ) -> News:
        """Takes the parameters of the worker whose offer was accepted."""
        with self.changed:
            self.registry.admit(worker, incarnation)
            if self.arrays is None and self.election.accepted == worker:
                self.state.check_finite(values, worker)
                self.state.begin(values)
                self.state.version = max(version, 0)
                logging.info(
                    "center %d begins with the parameters of %s, version %d.",
                    self.index,
                    tree_numbers.name(worker),
                    self.version,
                )
                self._tell(
                    happened.BEGIN,
                    worker,
                    version_applied=self.version,
                    outcome=happened.FIRST,
                )
                self.changed.notify_all()
            return self._parts.news()

    # Snapshots and status.

    def snapshot(self) -> tuple[dict[str, Any], Arrays] | None:
        """A consistent copy of all that a snapshot keeps; None if empty."""
        with self.changed:
            if self.arrays is None:
                return None
            kept, arrays = self.state.kept()
            return {
                **kept,
                "shard": self.index,
                "num_shards": self._parts.num_shards,
                "round": self.rounds.round,
                "clock": self.one_way.clock,
                "registry": self.registry.to_json(),
            }, arrays

    def restore(self, kept: dict[str, Any], arrays: Arrays) -> None:
        """Takes over what `snapshot` gave.

        Raises:
            CenterRefusedError: it is another server's.
        """
        for key, ours in (
            ("shard", self.index),
            ("num_shards", self._parts.num_shards),
        ):
            if kept[key] != ours:
                raise errors.CenterRefusedError(
                    f"The snapshot is of another center: {key} is "
                    f"{kept[key]} in it. Received: {key}={ours}. Give every "
                    "center server a snapshot folder of its own."
                )
        with self.changed:
            self.state.keep(kept, arrays)
            self.exchanges.begin()
            self.rounds.round = kept["round"]
            self.one_way.clock = kept["clock"]
            self.registry.restore(kept["registry"])
            self.events.tell(
                happened.BEGIN,
                version_applied=self.version,
                outcome=happened.RESTORED,
            )

    def below(self) -> str:
        """What has become of the workers below; see `center.below`.

        They are there until all that they have sent has gone on from here.
        """
        with self.changed:
            if self.one_way.has_more:
                return THERE
            return below.state(self.registry.members.values())

    def status(self, staleness_since: int = 0) -> News:
        """Everything worth watching; JSON.

        Args:
            staleness_since: pushes seen before, whose staleness is left out.
        """
        meter = self.exchanges.total_momentum
        readings = meter.readings() if meter else []  # Nobody waits for it.
        with self.changed:
            return {
                **self._parts.news(),
                "applied": self.applied,
                "members": self.registry.status(),
                BELOW: self.below(),
                "staleness": self.exchanges.staleness.since(staleness_since),
                "total_momentum": readings,
                **self.one_way.status(),
            }
