"""Events of a file that may still be written."""

import os
from collections.abc import Iterator

from tf_elastic.timeline.event import Event


class GrowingFile:
    """Reads the events of a file as they come, each once.

    A last line without an end is being written, or was left by a process that
    was killed: it waits until it has one.

    Args:
        path: of a file that an `EventFile` writes.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self._path = path
        self._position = 0
        self._lines = 0

    def news(self) -> list[Event]:
        """What has come since the last call.

        Raises:
            OSError: the file cannot be read.
            ValueError: a line is no event; file and line are named.
        """
        with open(self._path, "rb") as file:
            file.seek(self._position)
            whole, end, _ = file.read().rpartition(b"\n")
        if not end:
            return []
        events = list(self._parsed(whole.split(b"\n")))
        self._position += len(whole) + len(end)
        self._lines += len(events)
        return events

    def _parsed(self, lines: list[bytes]) -> Iterator[Event]:
        for number, line in enumerate(lines, start=self._lines + 1):
            text = line.decode("utf-8", "surrogateescape")
            try:
                yield Event.from_json(text)
            except ValueError as error:
                raise ValueError(
                    f"Line {number} of {os.fspath(self._path)} must be an "
                    f"event. Received: {text!r:.80}: {error}. Give a file "
                    "that --events has written."
                ) from error
