"""What a worker has for one center server that has not come there.

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


class Outbox:
    """One worker's messages that one center server has not got, or may not.

    What was never sent goes with the next message. What was sent without an
    answer may have been applied or not: it is sent again by its own number,
    so that the server takes it if it has not yet.
    """

    def __init__(self) -> None:
        self.clear()

    def clear(self) -> None:
        """The worker begins again from the center."""
        self.unsent: Arrays | None = None
        self.unanswered: Arrays | None = None  # sent
        self.number = (0, 0)  # of that: incarnation and sequence

    def with_message(
        self, message: Arrays, sections: Sequence[Section]
    ) -> Arrays:
        """A message, and what was never sent.

        Args:
            message: the part of each section that concerns the server.
            sections: of the layout; statistics do not add up.
        """
        if self.unsent is None:
            return message
        return [
            new + old if section.role == PARAMETERS else new
            for section, new, old in zip(
                sections, message, self.unsent, strict=True
            )
        ]

    def keep(self, message: Arrays, sections: Sequence[Section]) -> None:
        """Takes a message that is not sent."""
        self.unsent = [
            array.copy() for array in self.with_message(message, sections)
        ]

    def await_answer(self, number: tuple[int, int], message: Arrays) -> None:
        """Takes what was sent, with what was kept, and not answered.

        Args:
            number: incarnation and sequence of the push.
            message: what was sent.
        """
        self.unsent = None
        self.number = number
        self.unanswered = [array.copy() for array in message]
