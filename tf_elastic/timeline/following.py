"""The status of a cluster, from files of events as they grow."""

import os
import time
from collections.abc import Callable
from collections.abc import Sequence
from typing import TextIO

from tf_elastic.timeline.growing_file import GrowingFile
from tf_elastic.timeline.status import Status

_EVERY_S = 1.0


def follow(
    paths: Sequence[str | os.PathLike[str]],
    out: TextIO,
    sleep: Callable[[float], None] | None,
    now: Callable[[], float] = time.time,
) -> None:
    """Writes the table of `Status`, always new, until all workers have ended.

    On a terminal it is drawn over, elsewhere written again.

    Args:
        paths: of files that an `EventFile` writes.
        out: where to.
        sleep: waits for so many seconds before the next one; None for one
            table, as of the last event.
        now: the time of day, in seconds.

    Raises:
        OSError: a file cannot be read.
        ValueError: a line is no event; file and line are named.
    """
    growing = [GrowingFile(path) for path in paths]
    status, lines = Status(), 0
    while True:
        news = [event for file in growing for event in file.news()]
        for event in sorted(news, key=lambda event: event.time):
            status(event)
        goes_on = sleep is not None and not status.has_ended
        text = status.table(now() if goes_on else None)
        over = f"\033[{lines}A\033[J" if lines and out.isatty() else ""
        out.write(f"{over}{text}\n")
        out.flush()
        lines = text.count("\n") + 1
        if sleep is None or not goes_on:
            return
        sleep(_EVERY_S)
