"""What a node of a tree hears from above, and where it begins."""

from tf_elastic.cluster import errors
from tf_elastic.cluster.center.node_parts import NodeParts
from tf_elastic.cluster.worker.patience import Patience
from tf_elastic.cluster.worker.upstream import Upstream
from tf_elastic.timeline import event as happened


class Above:
    """A node's place below its parent.

    Args:
        upstream: the edge there; None for the root, which has none.
        parts: of the node.
    """

    def __init__(self, upstream: Upstream | None, parts: NodeParts) -> None:
        self._upstream = upstream
        self._parts = parts

    def join(self, patience: Patience | None = None) -> None:
        """Joins the node's parent; for errors see `Upstream`.

        A node that nothing has moved yet begins where its parent is; any
        other goes on from where it is.

        Args:
            patience: until when it is tried; None for as long as for an
                exchange.

        Raises:
            CenterEmptyError: no child has told yet of what model it is.
        """
        state, changed = self._parts.state, self._parts.changed
        with changed:
            layout, values = state.layout, None
            if layout is None:
                raise errors.CenterEmptyError(
                    f"center {state.index} knows of no model yet"
                )
            if state.arrays is not None:
                values = state.sent_values()
        if self._upstream is None:
            return
        came = self._upstream.join(layout, values, patience)
        with changed:
            is_first = state.arrays is None
            if is_first or state.version == 0:
                state.begin(came)
                changed.notify_all()
            if is_first:
                self._parts.events.tell(
                    happened.BEGIN,
                    version_applied=state.version,
                    num_workers=self._parts.registry.num_workers,
                    outcome=happened.FIRST,
                )

    def hear(self) -> None:
        """Takes what the parent has told of all others, for the children.

        Whoever calls holds the node's lock.
        """
        if self._upstream is None:
            return
        registry = self._parts.registry
        told = self._upstream.parent.news.instruction
        if told.number > registry.instruction.number:
            registry.instruction = told
        self._parts.samples_elsewhere = self._upstream.samples_of_others
