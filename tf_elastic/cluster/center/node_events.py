"""What a node of a tree tells of its edges: to its children, and from all."""

from typing import Any

from tf_elastic.cluster.center.node_parts import NodeParts
from tf_elastic.cluster.edge_queues import Arrays
from tf_elastic.cluster.edge_queues import Put
from tf_elastic.cluster.edge_queues import Waiting
from tf_elastic.cluster.worker.edge_events import came
from tf_elastic.cluster.worker.edge_events import nbytes
from tf_elastic.cluster.worker.edge_events import of_parents
from tf_elastic.core.protocols import PARENT
from tf_elastic.core.rules import Rates
from tf_elastic.timeline import event as happened


class NodeEvents:
    """Tells it to whoever listens to the node. Whoever calls holds its lock.

    What leaves for its parent the edge there tells: see `EdgeEvents`.

    Args:
        parts: of the node.
    """

    def __init__(self, parts: NodeParts) -> None:
        self._parts = parts

    def sends(
        self,
        child: int,
        put: Put,
        values: Arrays,
        clock: int,
        is_late: bool = False,
    ) -> None:
        """A point leaves for a child, or waits until it can.

        Args:
            child: its number.
            put: how it was put.
            values: the point.
            clock: the node's own steps.
            is_late: whether the child is, and is to begin again from there:
                what waited for it is forgotten.
        """
        edge = self._of_child(child)
        self._tell(
            happened.SEND,
            **edge,
            call=happened.DOWN,
            sequence=put.number,
            step_sent=clock,
            bytes=nbytes(values),
            outcome=happened.LATE if is_late else None,
        )
        if put.dropped is not None:
            self._tell(
                happened.DROP,
                **edge,
                call=happened.DOWN,
                sequence=put.dropped.number,
                step_sent=put.dropped.step_sent,
            )

    def drops(self, child: int, waiting: Waiting | None) -> None:
        """A child's point that waited has made room for a newer one."""
        if waiting is not None:
            which = self._message(child, waiting)
            self._tell(happened.DROP, **which, step_sent=waiting.step_sent)

    def looks_at(
        self,
        edge: Any,
        waiting: Waiting,
        clock: int,
        rates: Rates,
        outcome: str,
    ) -> None:
        """A point has come, and is followed or left out.

        Args:
            edge: the child's number, or PARENT.
            waiting: the point.
            clock: the node's own steps.
            rates: by which the node moves.
            outcome: what has become of it.
        """
        version = self._parts.state.version
        is_applied = outcome == happened.APPLIED
        own = {} if edge == PARENT else self._parts.told(edge)
        self._tell(
            happened.EXCHANGE,
            **{**own, **self._message(edge, waiting)},
            **came(waiting, clock, rates),
            version_applied=version - is_applied,
            version_settled=version,
            num_workers=self._parts.registry.num_workers,
            outcome=outcome,
        )

    def begins_again(self, waiting: Waiting, clock: int) -> None:
        """The node goes on from where its parent is, being late."""
        self._tell(
            happened.RESTART,
            **self._message(PARENT, waiting),
            step_sent=waiting.step_sent,
            step_applied=clock,
            version_applied=self._parts.state.version,
        )

    def _message(self, edge: Any, waiting: Waiting) -> dict[str, Any]:
        """Which one it is."""
        number = {"sequence": waiting.parents}
        if edge == PARENT:
            parents = of_parents(self._parts.events, waiting)
            return {**parents, **number, "call": happened.DOWN}
        child = self._of_child(edge)
        life = {"incarnation": waiting.incarnation}
        return {**child, **life, **number, "call": happened.UP}

    def _of_child(self, child: int) -> dict[str, Any]:
        return {
            "child": self._parts.told(child)["child"],
            "parent": self._parts.events.shard,
            "incarnation": self._parts.registry.last_incarnation(child),
        }

    def _tell(self, kind: str, **fields: Any) -> None:
        self._parts.events.tell(kind, **fields)
