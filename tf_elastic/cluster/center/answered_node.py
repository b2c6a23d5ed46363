"""A node of a tree whose messages are answered, as a child of its parent.

Its own children exchange with it as with any center.
"""

from collections.abc import Mapping

from tf_elastic.cluster.center.node_events import NodeEvents
from tf_elastic.cluster.center.node_parts import NodeParts
from tf_elastic.cluster.center.one_way_settings import OneWaySettings
from tf_elastic.cluster.edge_queues import Waiting
from tf_elastic.cluster.watch import BETA
from tf_elastic.cluster.watch import MOVING_RATE
from tf_elastic.cluster.worker.answered_edge import AnsweredEdge
from tf_elastic.cluster.worker.reliable_push import Moment
from tf_elastic.cluster.worker.upstream import Upstream
from tf_elastic.core import one_way
from tf_elastic.core.protocols import PARENT
from tf_elastic.timeline import event as happened


class AnsweredNode:
    """A node's own steps.

    Args:
        settings: how it takes part.
        upstream: the edge to its parent; None for the root.
        parts: of the node.
    """

    def __init__(
        self,
        settings: OneWaySettings,
        upstream: Upstream | None,
        parts: NodeParts,
    ) -> None:
        self.clock = 0
        self._settings = settings
        self._upstream = upstream
        self._edge = AnsweredEdge(upstream) if upstream else None
        self._parts = parts
        self._events = NodeEvents(parts)

    def turn(self) -> None:
        """One of them: each `up_period` it exchanges with its parent.

        Only this waits for the answer, and no child. A node without children
        brings nothing: all that it knows is where its parent was.
        """
        state, registry = self._parts.state, self._parts.registry
        upstream, edge = self._upstream, self._edge
        with self._parts.changed:
            if state.arrays is None:
                return
            self.clock += 1
            if upstream is None or edge is None or not registry.present:
                return
            period = self._settings.up_period_after(upstream.moves)
            if self.clock % period or upstream.is_away or not upstream.joined:
                return
            values = state.sent_values()
            told = self._told
            at = Moment(self.clock, registry.total_samples)
            own = self._settings.rates(told, max(registry.num_workers, 1))
        siblings = upstream.parent.news.num_workers or 1
        differences = edge.exchange(
            values, at, one_way.answered_rates(siblings, **told)
        )
        if differences is not None:
            answer = Waiting(
                edge.sequence,
                differences,
                edge.sequence,
                step_sent=at.clock,
                incarnation=upstream.parent.incarnation,
                parent=upstream.parent.center,
            )
            with self._parts.changed:
                state.follow(differences, own, one_way.from_answer)
                self._events.looks_at(
                    PARENT, answer, self.clock, own, happened.APPLIED
                )

    @property
    def _told(self) -> Mapping[str, float | None]:
        """Of the optimizer, as a child has told with its signs of life."""
        for member in self._parts.registry.members_present():
            notes = member.notes
            if BETA in notes or MOVING_RATE in notes:
                return {
                    "beta": notes.get(BETA),
                    "moving_rate": notes.get(MOVING_RATE),
                }
        return {"beta": None, "moving_rate": None}

    @property
    def notes(self) -> dict[str, object]:
        """The same, to be passed on."""
        with self._parts.changed:
            told = self._told
        names = ((BETA, "beta"), (MOVING_RATE, "moving_rate"))
        return {note: told[k] for note, k in names if told[k] is not None}
