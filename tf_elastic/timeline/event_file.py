"""Events in a file, one JSON object a line."""

import os
import threading

from absl import logging

from tf_elastic.timeline.event import Event
from tf_elastic.timeline.growing_file import GrowingFile

# The file that every process of a cluster appends to, if it is set.
VARIABLE = "TF_ELASTIC_EVENTS"


class EventFile:
    """Appends events to a file. Thread-safe; several processes may share it.

    A line is written at once and whole, so that who is killed has told all
    that was before. A file that cannot be written to any more (the disk is
    full, say) is given up with a message; training goes on.

    Args:
        path: of the file; folders on the way are made.

    Raises:
        OSError: it cannot be opened.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = os.path.abspath(path)
        os.makedirs(os.path.dirname(self.path), exist_ok=True)
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
        self._file: int | None = os.open(self.path, flags, 0o644)
        self._lock = threading.Lock()

    def __call__(self, event: Event) -> None:
        """Writes one event."""
        line = (event.to_json() + "\n").encode()
        with self._lock:
            if self._file is None:
                return
            try:
                written = os.write(self._file, line)
                if written < len(line):
                    raise OSError("there is no room for a whole line")
            except OSError as error:
                logging.error(
                    "No more events are written to %s: %s.", self.path, error
                )
                self._close()

    def close(self) -> None:
        """Writes nothing any more."""
        with self._lock:
            self._close()

    def _close(self) -> None:
        if self._file is not None:
            os.close(self._file)
            self._file = None


_open_files: dict[str, EventFile] = {}
_opening = threading.Lock()


def to_file(path: str | os.PathLike[str] | None) -> EventFile | None:
    """The file of a path, the same for all who name it.

    Args:
        path: of the file; None for the one that the environment names.

    Returns:
        None if there is none.

    Raises:
        OSError: it cannot be opened.
    """
    path = path or os.environ.get(VARIABLE)
    if not path:
        return None
    key = os.path.abspath(path)
    with _opening:
        if key not in _open_files:
            _open_files[key] = EventFile(key)
        return _open_files[key]


def read(*paths: str | os.PathLike[str]) -> list[Event]:
    """The events of files, in the order of their times.

    What a process that was killed has not finished, a file's last line, is
    left out.

    Args:
        *paths: of files that an `EventFile` has written.

    Raises:
        OSError: a file cannot be read.
        ValueError: a line is no event; file and line are named.
    """
    events = [e for path in paths for e in GrowingFile(path).news()]
    return sorted(events, key=lambda event: event.time)
