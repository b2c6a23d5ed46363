"""A node of a tree, whose messages are not answered: Algorithm 6.

Its children send it where they are, and listen to where it is; to its parent
it is a child itself. When what leaves is said by `core.protocols.OneWay`, what
a point that has come does by the rule.
"""

from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any

from absl import logging

from tf_elastic.cluster import errors
from tf_elastic.cluster.center import below
from tf_elastic.cluster.center.center_state import Arrays
from tf_elastic.cluster.center.late_children import LateChildren
from tf_elastic.cluster.center.node_events import NodeEvents
from tf_elastic.cluster.center.node_parts import News
from tf_elastic.cluster.center.node_parts import NodeParts
from tf_elastic.cluster.center.one_way_settings import OneWaySettings
from tf_elastic.cluster.center.ways_down import WaysDown
from tf_elastic.cluster.edge_queues import EdgeQueues
from tf_elastic.cluster.edge_queues import Waiting
from tf_elastic.cluster.watch import STEP_S
from tf_elastic.cluster.worker.upstream import Upstream
from tf_elastic.core import one_way
from tf_elastic.core import protocols
from tf_elastic.core.protocols import PARENT
from tf_elastic.core.protocols import OneWay
from tf_elastic.core.rules import Rates
from tf_elastic.timeline import event as happened


class OneWayExchanges:
    """The one-way exchanges of one node with its neighbours.

    Args:
        settings: None for a node that takes no part.
        upstream: the edge to its parent; None for the root.
        parts: of the node; its workers are its children.
    """

    def __init__(
        self,
        settings: OneWaySettings | None,
        upstream: Upstream | None,
        parts: NodeParts,
    ) -> None:
        self.clock = 0  # the node's own steps
        self.upstream = upstream
        self._parts = parts
        self._state = parts.state
        self._registry = parts.registry
        self._changed = parts.changed
        self._events = NodeEvents(parts)
        if upstream is not None:
            upstream.events.stream = parts.events
        self._doubled = self._not_followed = self._late = 0
        self._late_children = LateChildren(parts.state.index)
        self._settings = settings
        if settings is not None:
            settings.check()
        most = settings.most_waiting if settings else 1
        self._outbox = EdgeQueues(most)
        self._inbox = upstream.inbox if upstream else EdgeQueues(most)
        self._elastic: Mapping[str, float | None] | None = None
        self._step_s = 0.0
        # Whether a child was followed since the last message to the parent;
        # and whether any has trained.
        self._has_heard = self._has_trained = False
        self._ways_down = WaysDown(
            f"center {parts.state.index}",
            settings.most_stretch if settings else 1,
        )

    # Calls of children. They raise what `NodeExchanges`' do.

    def send(
        self,
        worker: int,
        incarnation: int,
        number: int,
        followed: int,
        clock: int,
        samples: int,
        values: Arrays,
        elastic: Mapping[str, float | None] | None = None,
        step_s: float | None = None,
        step_sent: int = 0,
    ) -> News:
        """Takes where a child is, for the node's next turn.

        If it is late it is not followed: the child is to begin again from
        where the node is, and nothing that it sends before counts.

        Args:
            worker: whose message.
            incarnation: of it.
            number: of the message, from 1; one that is not newer than the
                last one has come already, or is superseded.
            followed: the number of the node's newest message that the child
                had followed when it sent this; 0 for none.
            clock: the child's own steps.
            samples: that it, and all below it, have trained on.
            values: its points; the node's from now on.
            elastic: the optimizer's "beta" and "moving_rate", by which nodes
                move if nothing else is set.
            step_s: how long the child's steps are; None if not known.
            step_sent: the child's own steps, when it was put to be sent.

        Returns:
            Nothing: it has come.
        """
        with self._changed:
            settings = self._checked()
            member = self._registry.admit(worker, incarnation)
            self._state.check_finite(values, worker)
            member.hear(clock, samples)
            came = Waiting(0, values, number, False, step_sent, incarnation)
            if number <= member.sequence:
                self._doubled += 1
                self._tell(worker, came, happened.DUPLICATE)
                return {}
            member.sequence = number
            if elastic is not None:
                self._take_rates(elastic)
            if step_s is not None:
                member.notes[STEP_S] = step_s
            if self._is_late(worker, followed, settings.max_lag):
                self._late += 1
                self._tell(worker, came, happened.LATE)
            else:
                put = self._inbox.put(
                    worker,
                    values,
                    parents=number,
                    step_sent=step_sent,
                    incarnation=incarnation,
                )
                self._events.drops(worker, put.dropped)
            return {}

    def _take_rates(self, elastic: Mapping[str, float | None]) -> None:
        settings = self._checked()
        try:
            settings.rates(elastic, 1)
        except ValueError as error:
            raise errors.MessageError(str(error)) from error
        self._elastic = elastic

    @property
    def rates(self) -> Rates:
        """By what it moves to whatever comes, as of now."""
        children = max(self._registry.num_workers, 1)
        return self._checked().rates(self._elastic, children)

    def _is_late(
        self, worker: int, followed: int, max_lag: float | None
    ) -> bool:
        """Whether a child is; if that is new, it is to begin again."""
        late, version = self._late_children, self._state.version
        if late.still_begins(worker, followed, version):
            return True
        neighbours = len(self._registry.present) + bool(self.upstream)
        if not late.is_late(worker, version, neighbours, max_lag):
            return False
        self._restart(worker)
        return True

    def _restart(self, worker: int) -> None:
        """A child is to begin again from here."""
        values = self._state.sent_values()
        self._outbox.forget(worker)
        put = self._outbox.put(
            worker, values, restart=True, step_sent=self.clock
        )
        self._events.sends(worker, put, values, self.clock, is_late=True)
        self._late_children.begins_again(worker, put.number)
        self._changed.notify_all()

    def settle(self, worker: int) -> None:
        """A child begins at the center, and is on time."""
        self._late_children.settle(worker, self._state.version)

    def listen(
        self, worker: int, incarnation: int, after: int, wait_s: float
    ) -> tuple[News, Arrays]:
        """Waits for what the node sends down, for `wait_s` at most.

        Args:
            worker: who listens.
            incarnation: of it.
            after: the number of the last message that it has got; 0 for none.
            wait_s: seconds.

        Returns:
            "number": of the message, "clock": the node's, as it was sent,
            "restart": whether the child is to begin again from there; and
            where the node was.

        Raises:
            NothingSentError: nothing was sent.
        """
        with self._changed:
            settings = self._checked()
            self._registry.admit(worker, incarnation)
            self._ways_down.asks(
                worker,
                after,
                self._parts.now(),
                settings.down_period * self._step_s,
                self._outbox.overflowed(),
            )
            found = self._changed.wait_for(
                lambda: self._outbox.first(worker, after), wait_s
            )
            self._registry.admit(worker, incarnation)  # It may be gone.
            if found is None:
                raise errors.NothingSentError(
                    f"center {self._state.index} has sent worker {worker} "
                    f"nothing within {wait_s:g} s"
                )
            self._ways_down.hands_out(worker, found.number, self._parts.now())
            news = {"number": found.number, "restart": found.restart}
            return {**news, "clock": found.step_sent}, found.values

    def finishes(self, worker: int) -> None:
        """Takes a turn at once, if what a child has sent waits for one."""
        if worker in self._inbox.edges():
            self.turn(self._step_s)

    def forget(self, worker: int) -> None:
        """Forgets what waits for a child, and of it."""
        self._outbox.forget(worker)
        self._inbox.forget(worker)
        self._late_children.forget(worker)
        self._ways_down.forget(worker)

    def _checked(self) -> OneWaySettings:
        """The settings of a node that takes part."""
        if self._settings is None:
            raise errors.MessageError(
                f"center {self._state.index} takes no message that is not to "
                "be answered"
            )
        self._state.check_begun()
        try:
            one_way.check_rule(self._state.rule)
        except ValueError as error:
            raise errors.MessageError(str(error)) from error
        return self._settings

    # The node itself.

    def turn(self, step_s: float = 0.0) -> None:
        """One of the node's own steps: it sends, then follows what has come.

        It waits for nobody. Until it has first values it does nothing. If
        all its children have stopped training it sends what it has followed
        at once: nothing more may come.

        Args:
            step_s: how long its steps are, in seconds; 0 if not known.

        Raises:
            MessageError: it takes no part, or its rule needs answers.
        """
        with self._changed:
            if self._state.arrays is None:
                return
            settings = self._checked()
            self._step_s = step_s
            protocol = OneWay(
                self._state.rule,
                self._up_period if self.upstream else None,
                settings.down_period,
                self._registry.present,
            )
            actions = protocol.on(
                protocols.GRADIENT, self.clock, self._inbox.edges()
            )
            to = [a.edge for a in actions if a.kind == protocols.SEND]
            to = [edge for edge in to if self._sends_now(edge)]
            if self._has_heard and self._is_closing and PARENT not in to:
                to.append(PARENT)
            if to:  # Before anything is followed.
                self._send(to, self._state.sent_values())
            for action in actions:
                if action.kind == protocols.SETTLE:
                    self._follow(action.edge)
            self.clock += 1

    @property
    def _up_period(self) -> int:
        """Between two messages to the parent, as it is now, in steps."""
        upstream = self.upstream
        if upstream is None:
            return 1
        period = self._checked().up_period_after(upstream.moves)
        return period * upstream.speed.factor

    @property
    def _is_closing(self) -> bool:
        """Whether all children have trained, and none does any more."""
        trains = below.trains(self._registry.members_present())
        self._has_trained = self._has_trained or trains
        return self._has_trained and not trains

    @property
    def has_more(self) -> bool:
        """Whether its parent has yet to get what its children have sent."""
        up, unseen = self.upstream, {*self._inbox.edges()} - {PARENT}
        return bool(unseen or (up and (self._has_heard or up.waits)))

    def _sends_now(self, edge: Any) -> bool:
        """Whether a message that is due leaves.

        Not upward if there is nobody below: all that such a node knows is
        where its parent was.
        """
        if edge == PARENT:
            return self._has_heard or bool(self._registry.present)
        period = self._checked().down_period
        return self._ways_down.is_due(edge, self.clock, period)

    def _send(self, edges: Sequence[Any], values: Arrays) -> None:
        for edge in edges:
            if edge != PARENT:
                put = self._outbox.put(edge, values, step_sent=self.clock)
                self._events.sends(edge, put, values, self.clock)
            elif self.upstream is not None:
                samples = self._registry.total_samples
                self._has_heard = False
                self.upstream.elastic = self._elastic
                period = self._checked().up_period_after(self.upstream.moves)
                period_s = period * self._step_s
                self.upstream.put(values, self.clock, samples, period_s)
        self._changed.notify_all()

    def _follow(self, edge: Any) -> None:
        waiting = self._inbox.take(edge)
        # It was on time, before this node was not.
        if edge in self._late_children:
            self._late += 1
            self._tell(edge, waiting, happened.LATE)
            return
        if edge == PARENT and self.upstream is not None:
            self.upstream.followed = waiting.parents
            if waiting.restart:
                self._begin_again(waiting)
                return
        self._has_heard = self._has_heard or edge != PARENT
        of_parent = edge == PARENT
        move = one_way.from_parent if of_parent else one_way.from_child
        try:
            self._state.follow(waiting.values, self.rates, move)
            self._tell(edge, waiting, happened.APPLIED)
        except errors.NonFiniteError as error:
            # Nobody's call: who has sent it does not hear of it.
            self._not_followed += 1
            self._tell(edge, waiting, happened.REFUSED)
            logging.error("%s.", error)
        if not of_parent:
            self._late_children.note(edge, self._state.version)

    def _begin_again(self, waiting: Waiting) -> None:
        """Goes on from where the parent is, and so do all below."""
        self._state.begin(waiting.values)
        self._state.version += 1
        self._events.begins_again(waiting, self.clock)
        for child in self._registry.present:
            self._restart(child)

    def _tell(self, edge: Any, came: Waiting, outcome: str) -> None:
        self._events.looks_at(edge, came, self.clock, self.rates, outcome)

    def status(self) -> News:
        """What is worth watching; JSON."""
        if self._settings is None:
            return {}
        upstream = self.upstream
        return {
            "one_way": {
                "clock": self.clock,
                "doubled": self._doubled,
                "not_followed": self._not_followed,
                "late": self._late,
                # Messages that newer ones have superseded.
                "not_heard": self._outbox.overflowed_by_name(),
                "not_seen": self._inbox.overflowed_by_name(),
                "not_carried": upstream.overflowed() if upstream else 0,
                "parent_is_away": bool(upstream and upstream.is_away),
                "moves": upstream.moves if upstream else 0,
                # By what periods are stretched, where an edge is slow.
                "stretch_up": upstream.speed.factor if upstream else 1,
                "stretch_down": self._ways_down.factors(),
            }
        }
