"""What a center server has not got of a worker's messages.

For messages that add up: DOWNPOUR's updates, and what ADMM's parts have
changed by. A gradient or a point that does not arrive is out of date by the
next; an update is part of where the worker is, and must come to the center
once, and once only.
"""

from collections.abc import Sequence

import numpy as np

from tf_elastic.cluster.layout import PARAMETERS
from tf_elastic.cluster.layout import Section

Arrays = list[np.ndarray]


class Debt:
    """One worker's debt to one center server.

    What was never sent goes with the next message. What was sent without an
    answer may have been applied or not: it is sent again by its own number,
    so that the server takes it if it has not yet.
    """

    def __init__(self) -> None:
        self._owed: Arrays | None = None
        self._sent: Arrays | None = None
        self._number = (0, 0)

    def with_message(
        self, message: Arrays, sections: Sequence[Section]
    ) -> Arrays:
        """A message, and what was never sent.

        Args:
            message: the part of each section that concerns the server.
            sections: of the layout; statistics do not add up.
        """
        if self._owed is None:
            return message
        return [
            new + old if section.role == PARAMETERS else new
            for section, new, old in zip(
                sections, message, self._owed, strict=True
            )
        ]

    def owe(self, message: Arrays, sections: Sequence[Section]) -> None:
        """Notes a message that is not sent."""
        self._owed = [
            array.copy() for array in self.with_message(message, sections)
        ]

    def settled(self) -> None:
        """What was never sent has come with a message."""
        self._owed = None

    def doubt(self, number: tuple[int, int], message: Arrays) -> None:
        """Notes what was sent, with what was owed, and not answered.

        Args:
            number: incarnation and sequence of the push.
            message: what was sent.
        """
        self._owed = None
        self._number = number
        self._sent = [array.copy() for array in message]

    @property
    def doubtful(self) -> tuple[tuple[int, int], Arrays] | None:
        """What was not answered, and its number."""
        return None if self._sent is None else (self._number, self._sent)

    def doubt_ends(self) -> None:
        """The server has it."""
        self._sent = None

    def clear(self) -> None:
        """The worker begins again from the center."""
        self._owed = self._sent = None
