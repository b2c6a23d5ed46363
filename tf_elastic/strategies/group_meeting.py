"""Where the processes of a group meet before they do anything together.

They take each step together, but each has data and callbacks of its own: one
may be through with its training, or with an epoch, where the others come to
one more step. Each says what it is about to do, so that nobody waits for what
another one will not do.
"""

from collections.abc import Callable
from collections.abc import Sequence

import numpy as np

# What a process is about to do.
STEP, AGREE, END = 1, 2, 3
# Numbers that the leader may tell with it.
_ROOM = 4


class HasEnded:
    """What `Model.stop_training` holds if another process of the group ended.

    It is true, and no decision of this process' callbacks, see `ChiefsWord`.
    """


class GroupMeeting:
    """What one process of a group says, and hears of the others.

    Args:
        member: which one this is; 0 leads.
        size: of the group.
        sums: of the vectors that all say, on all; waits for them.
    """

    def __init__(
        self,
        member: int,
        size: int,
        sums: Callable[[np.ndarray], np.ndarray],
    ) -> None:
        self._member = member
        self._size = size
        self._sums = sums
        self._has_ended = False

    def says(self, what: int, numbers: Sequence[int] = ()) -> np.ndarray:
        """What this process says: a vector, int64.

        Args:
            what: it is about to do.
            numbers: at most 4; the leader's count.
        """
        said = np.zeros(self._size + _ROOM, np.int64)
        said[self._member] = what
        if self._member == 0:
            said[self._size : self._size + len(numbers)] = numbers
        return said

    def comes_to_step(self, heard: np.ndarray) -> tuple[bool, list[int]]:
        """What the sum of all that was said means to one that takes a step.

        Returns:
            Whether all do, and which ones have ended their training. If not
            all do, and none has, some have ended an epoch.
        """
        self._has_ended = False
        kinds, _ = self._of(heard)
        return set(kinds) == {STEP}, _who(kinds, END)

    def agree(self, numbers: Sequence[int]) -> tuple[list[int], list[int]]:
        """Waits until all come to agree on the leader's numbers.

        Args:
            numbers: this process', at most 4.

        Returns:
            The leader's, and which ones have ended their training: then the
            numbers are this process' own.
        """
        while True:
            kinds, told = self._of(self._sums(self.says(AGREE, numbers)))
            ended = _who(kinds, END)
            if ended:
                return list(numbers), ended
            if set(kinds) == {AGREE}:
                return told[: len(numbers)], []

    def end(self) -> None:
        """Has ended its training; waits until all have. Again: nothing."""
        if self._has_ended:
            return
        self._has_ended = True
        kinds = [0]
        while set(kinds) != {END}:
            kinds, _ = self._of(self._sums(self.says(END)))

    def _of(self, heard: np.ndarray) -> tuple[list[int], list[int]]:
        """What each is about to do, and the leader's numbers."""
        numbers = [int(number) for number in heard]
        return numbers[: self._size], numbers[self._size :]


def _who(kinds: Sequence[int], what: int) -> list[int]:
    return [k for k, kind in enumerate(kinds) if kind == what]
