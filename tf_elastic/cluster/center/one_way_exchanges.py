"""A node of a tree, whose messages are not answered: Algorithm 6.

Its children send it where they are, and listen to where it is; to its parent
it is a child itself. When what leaves is said by `core.protocols.OneWay`, what
a point that has come does by the rule.
"""

from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any
from typing import NamedTuple

from absl import logging

from tf_elastic.cluster import errors
from tf_elastic.cluster.center.center_state import Arrays
from tf_elastic.cluster.center.node_parts import News
from tf_elastic.cluster.center.node_parts import NodeParts
from tf_elastic.cluster.edge_queues import EdgeQueues
from tf_elastic.cluster.worker.upstream import Upstream
from tf_elastic.core import lateness
from tf_elastic.core import one_way
from tf_elastic.core import protocols
from tf_elastic.core.protocols import PARENT
from tf_elastic.core.protocols import OneWay
from tf_elastic.timeline import event as happened


class OneWaySettings(NamedTuple):
    """How a node takes part.

    Attributes:
        moving_rate: alpha, by which it moves to whatever comes; at least 0.
            The thesis has 0.9 / (d + 1), of d children.
        up_period: its own steps between two messages to its parent, >= 1.
        down_period: between two messages to its children, >= 1.
        most_waiting: messages that wait on each edge; see `EdgeQueues`.
        max_lag: how late a child's message may come, in turns of all other
            neighbours; None for no bound. See `core.lateness`.
    """

    moving_rate: float
    up_period: int
    down_period: int
    most_waiting: int = 4
    max_lag: float | None = lateness.DEFAULT_MAX_LAG


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
        self._state = parts.state
        self._registry = parts.registry
        self._changed = parts.changed
        self._events = parts.events
        self._doubled = 0
        self._not_followed = 0
        self._late = 0
        # Of each child: the version when it was last followed; and the message
        # from which it has to begin again, if it was late.
        self._settled: dict[int, int] = {}
        self._restarts: dict[int, int] = {}
        self._settings = settings
        if settings is not None:
            one_way.check_periods(settings.up_period, settings.down_period)
            lateness.check_max_lag(settings.max_lag)
        most = settings.most_waiting if settings else 1
        self._outbox = EdgeQueues(most)
        self._inbox = upstream.inbox if upstream else EdgeQueues(most)
        self._rates = one_way.rates(settings.moving_rate if settings else 0.0)

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

        Returns:
            Nothing: it has come.
        """
        with self._changed:
            settings = self._checked()
            member = self._registry.admit(worker, incarnation)
            self._state.check_finite(values, worker)
            member.hear(clock, samples)
            if number <= member.sequence:
                self._doubled += 1
                self._tell(worker, values, happened.DUPLICATE)
                return {}
            member.sequence = number
            if self._is_late(worker, followed, settings.max_lag):
                self._late += 1
                self._tell(worker, values, happened.LATE)
            else:
                self._inbox.put(worker, values)
            return {}

    def _is_late(
        self, worker: int, followed: int, max_lag: float | None
    ) -> bool:
        """Whether a child is; if that is new, it is to begin again."""
        if worker in self._restarts:
            if followed < self._restarts[worker]:
                return True
            self.settle(worker)
        version = self._state.version
        missed = version - self._settled.setdefault(worker, version)
        neighbours = len(self._registry.present) + bool(self.upstream)
        if not lateness.is_late(missed, neighbours, max_lag):
            return False
        logging.warning(
            "child %d of center %d is late: its neighbours have moved the "
            "center %d times since it was last followed. It is left out, and "
            "begins again from the center. Smaller periods or a larger "
            "max_lag prevent that.",
            worker,
            self._state.index,
            missed,
        )
        self._restart(worker)
        return True

    def _restart(self, worker: int) -> None:
        """A child is to begin again from here."""
        values = [array.copy() for array in self._state.values]
        self._outbox.forget(worker)
        self._restarts[worker] = self._outbox.put(worker, values, restart=True)
        self._changed.notify_all()

    def settle(self, worker: int) -> None:
        """A child begins at the center, and is on time."""
        self._settled[worker] = self._state.version
        self._restarts.pop(worker, None)

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
            "number": of the message, "restart": whether the child is to
            begin again from there; and where the node was.

        Raises:
            NothingSentError: nothing was sent.
        """
        with self._changed:
            self._checked()
            self._registry.admit(worker, incarnation)
            found = self._changed.wait_for(
                lambda: self._outbox.first(worker, after), wait_s
            )
            self._registry.admit(worker, incarnation)  # It may be gone.
            if found is None:
                raise errors.NothingSentError(
                    f"center {self._state.index} has sent worker {worker} "
                    f"nothing within {wait_s:g} s"
                )
            news = {"number": found.number, "restart": found.restart}
            return news, found.values

    def forget(self, worker: int) -> None:
        """Forgets what waits for a child, and of it."""
        self._outbox.forget(worker)
        self._inbox.forget(worker)
        self._settled.pop(worker, None)
        self._restarts.pop(worker, None)

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

    def turn(self) -> None:
        """One of the node's own steps: it sends, then follows what has come.

        It waits for nobody. Until it has first values it does nothing.

        Raises:
            MessageError: it takes no part, or its rule needs answers.
        """
        with self._changed:
            if self._state.arrays is None:
                return
            settings = self._checked()
            protocol = OneWay(
                self._state.rule,
                settings.up_period if self.upstream else None,
                settings.down_period,
                self._registry.present,
            )
            actions = protocol.on(
                protocols.GRADIENT, self.clock, self._inbox.edges()
            )
            to = [a.edge for a in actions if a.kind == protocols.SEND]
            if to:  # Before anything is followed.
                self._send(to, [array.copy() for array in self._state.values])
            for action in actions:
                if action.kind == protocols.SETTLE:
                    self._follow(action.edge)
            self.clock += 1

    def _send(self, edges: Sequence[Any], values: Arrays) -> None:
        for edge in edges:
            if edge != PARENT:
                self._outbox.put(edge, values)
            elif self.upstream is not None:
                samples = self._registry.total_samples
                self.upstream.put(values, self.clock, samples)
        self._changed.notify_all()

    def _follow(self, edge: Any) -> None:
        waiting = self._inbox.take(edge)
        values = waiting.values
        if edge in self._restarts:  # It was on time, before this node was not.
            self._late += 1
            self._tell(edge, values, happened.LATE)
            return
        version, outcome = self._state.version, happened.APPLIED
        if edge == PARENT and self.upstream is not None:
            self.upstream.followed = waiting.parents
            if waiting.restart:
                self._begin_again(values)
                return
        try:
            self._state.follow(values, self._rates, edge == PARENT)
        except errors.NonFiniteError as error:
            # Nobody's call: who has sent it does not hear of it.
            self._not_followed += 1
            outcome = happened.REFUSED
            logging.error("%s.", error)
        if edge != PARENT:
            self._settled[edge] = self._state.version
        self._tell(edge, values, outcome, version_applied=version)

    def _begin_again(self, values: Arrays) -> None:
        """Goes on from where the parent is, and so do all below."""
        self._state.begin(values)
        self._state.version += 1
        self._events.tell(happened.RESTART, version_applied=self._state.version)
        for child in self._registry.present:
            self._restart(child)

    def _tell(
        self, edge: Any, values: Arrays, outcome: str, **fields: Any
    ) -> None:
        """Of a point from a child, or from the parent: worker None."""
        self._events.tell(
            happened.EXCHANGE,
            worker=None if edge == PARENT else edge,
            step_applied=self.clock,
            bytes=sum(array.nbytes for array in values),
            rates=self._rates,
            num_workers=self._registry.num_workers,
            outcome=outcome,
            **fields,
        )

    def join_parent(self) -> None:
        """Joins the node's parent; for errors see `Upstream`.

        A node that nothing has moved yet begins where its parent is; any
        other goes on from where it is.

        Raises:
            CenterEmptyError: the node itself has no first values yet.
        """
        with self._changed:
            self._state.check_begun()
            layout = self._state.layout
            values = [array.copy() for array in self._state.values]
        if self.upstream is None or layout is None:
            return
        came = self.upstream.join(layout, values)
        with self._changed:
            if self._state.version == 0:
                self._state.begin(came)

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
                "not_heard": _by_name(self._outbox.overflowed()),
                "not_seen": _by_name(self._inbox.overflowed()),
                "not_carried": upstream.overflowed() if upstream else 0,
                "parent_is_away": bool(upstream and upstream.is_away),
            }
        }


def _by_name(counts: Mapping[Any, int]) -> dict[str, int]:
    return {str(edge): count for edge, count in counts.items()}
