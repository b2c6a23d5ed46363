"""Counts messages that repeat themselves instead of writing them.

Whoever may talk to a server can make it write: without this a disk full.
"""

import collections
import logging
import threading
import time
from collections.abc import Callable

_WINDOW_S = 60.0
# Of one place in the code, within that time.
_MESSAGES = 100
_TRACEBACKS = 3
_ALIKE = 3  # of them with the same words

_Place = tuple[str, int]


class LogLimit(logging.Filter):
    """Lets a place in the code write so much, and counts the rest.

    To be added to a handler; `tell` says how much was left out.

    Args:
        now: a clock, in seconds.
    """

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._now = now
        self._lock = threading.Lock()
        self._begin = now()
        self._written: dict[_Place, collections.Counter[str]] = {}
        self._left_out: dict[_Place, tuple[int, str]] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether a message is to be written."""
        place = record.pathname, record.lineno
        if record.pathname == __file__:
            return True
        try:
            text = record.getMessage()
        except (TypeError, ValueError):  # The handler says what is wrong.
            return True
        most = _TRACEBACKS if record.exc_info else _MESSAGES
        with self._lock:
            written = self._written.setdefault(place, collections.Counter())
            if written.total() < most and written[text] < _ALIKE:
                written[text] += 1
                return True
            count, _ = self._left_out.get(place, (0, ""))
            self._left_out[place] = count + 1, text
        return False

    def tell(self, at_once: bool = False) -> None:
        """Writes what was left out, once a minute; call it every second or so.

        Args:
            at_once: whether not to wait for the end of the minute.
        """
        with self._lock:
            if self._now() - self._begin < _WINDOW_S and not at_once:
                return
            left_out, self._left_out = self._left_out, {}
            self._begin = self._now()
            self._written.clear()
        for (path, line), (count, text) in left_out.items():
            logging.getLogger("absl").warning(
                "%d more messages of %s:%d were not written; the last: %.300s",
                count,
                path.rpartition("/")[2],
                line,
                text,
            )
