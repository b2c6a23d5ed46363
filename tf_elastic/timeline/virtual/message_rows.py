"""Rows for the points that are under way in a tree."""

import heapq


class MessageRows:
    """Hands out rows and takes them back, the lowest that is free first.

    Row 0 holds at first the point that all begin at, for whoever is told of it
    then.

    Args:
        first: how many are told of the first point.

    Example:

    >>> rows = MessageRows(1)
    >>> rows.take(2), rows.release(0), rows.take(1)
    (1, None, 0)
    """

    def __init__(self, first: int) -> None:
        self._users = [first]
        self._free = [] if first else [0]

    def take(self, users: int) -> int:
        """A row for a point that so many are to follow, at least one."""
        if self._free:
            row = heapq.heappop(self._free)
            self._users[row] = users
            return row
        self._users.append(users)
        return len(self._users) - 1

    def release(self, row: int) -> None:
        """One of them has followed it, or never will."""
        self._users[row] -= 1
        if not self._users[row]:
            heapq.heappush(self._free, row)
