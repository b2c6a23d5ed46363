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
        self._unsent: Arrays | None = None
        self._sent: Arrays | None = None
        self._number = (0, 0)

    @property
    def has_unsent(self) -> bool:
        """Whether there is something that was never sent."""
        return self._unsent is not None

    def with_message(
        self, message: Arrays, sections: Sequence[Section]
    ) -> Arrays:
        """A message, and what was never sent.

        Args:
            message: the part of each section that concerns the server.
            sections: of the layout; statistics do not add up.
        """
        if self._unsent is None:
            return message
        return [
            new + old if section.role == PARAMETERS else new
            for section, new, old in zip(
                sections, message, self._unsent, strict=True
            )
        ]

    def keep(self, message: Arrays, sections: Sequence[Section]) -> None:
        """Takes a message that is not sent."""
        self._unsent = [
            array.copy() for array in self.with_message(message, sections)
        ]

    def came(self) -> None:
        """What was never sent has come with a message."""
        self._unsent = None

    def await_answer(self, number: tuple[int, int], message: Arrays) -> None:
        """Takes what was sent, with what was kept, and not answered.

        Args:
            number: incarnation and sequence of the push.
            message: what was sent.
        """
        self._unsent = None
        self._number = number
        self._sent = [array.copy() for array in message]

    @property
    def unanswered(self) -> tuple[tuple[int, int], Arrays] | None:
        """What was not answered, and its number."""
        return None if self._sent is None else (self._number, self._sent)

    def answered(self) -> None:
        """The server has it, or is not to have it any more."""
        self._sent = None

    def clear(self) -> None:
        """The worker begins again from the center."""
        self._unsent = self._sent = None
