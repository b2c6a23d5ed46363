"""Which children of a node come too late to be followed."""

from absl import logging

from tf_elastic.cluster import tree_numbers
from tf_elastic.core import lateness


class LateChildren:
    """Who is to begin again, and from which message on. Not thread-safe.

    Args:
        index: of the node, for the log.
    """

    def __init__(self, index: int) -> None:
        self._index = index
        # Of each child: the version when it was last followed; and the message
        # from which it has to begin again, if it was late.
        self._settled: dict[int, int] = {}
        self._restarts: dict[int, int] = {}

    def __contains__(self, child: int) -> bool:
        """Whether what a child sends does not count as yet."""
        return child in self._restarts

    def settle(self, child: int, version: int) -> None:
        """A child begins at the center, and is on time."""
        self.note(child, version)
        self._restarts.pop(child, None)

    def note(self, child: int, version: int) -> None:
        """A child was followed."""
        self._settled[child] = version

    def begins_again(self, child: int, number: int) -> None:
        """A child is to begin again from the message of this number."""
        self._restarts[child] = number

    def forget(self, child: int) -> None:
        """Forgets a child."""
        self._settled.pop(child, None)
        self._restarts.pop(child, None)

    def still_begins(self, child: int, followed: int, version: int) -> bool:
        """Whether a child has not begun again yet, as it was told to.

        Args:
            child: whose message has come.
            followed: the node's message that it had followed by then.
            version: of the center.
        """
        if child in self._restarts and followed >= self._restarts[child]:
            self.settle(child, version)
        return child in self._restarts

    def is_late(
        self,
        child: int,
        version: int,
        neighbours: int,
        max_lag: float | None,
    ) -> bool:
        """Whether a child is, since it was last followed.

        Args:
            child: whose message has come.
            version: of the center.
            neighbours: children and parent that are there.
            max_lag: see `core.lateness`.
        """
        missed = version - self._settled.setdefault(child, version)
        if not lateness.is_late(missed, neighbours, max_lag):
            return False
        logging.warning(
            "%s, a child of center %d, is late: its neighbours have moved the "
            "center %d times since it was last followed. It is left out, and "
            "begins again from the center. Smaller periods or a larger "
            "max_lag prevent that.",
            tree_numbers.name(child),
            self._index,
            missed,
        )
        return True
