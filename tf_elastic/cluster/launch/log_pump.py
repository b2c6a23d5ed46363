"""What a process writes to its log, shown on the terminal too."""

import codecs
import pathlib
import threading
from typing import Protocol

from absl import logging


class Output(Protocol):
    """Where text goes: a file, or what is like one."""

    def write(self, text: str, /) -> object:
        """Takes text."""

    def flush(self) -> object:
        """Shows what was taken."""


class LogPump:
    """Copies what is added to a log file to a stream, in a thread.

    The writer writes to the file alone, so no terminal can hold it up.
    """

    def __init__(self, path: pathlib.Path, output: Output) -> None:
        self._file = open(path, "rb")  # noqa: SIM115
        self._output: Output | None = output
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._lock = threading.Lock()
        self._closed = threading.Event()
        self._thread = threading.Thread(
            target=self._run, name="output of the chief", daemon=True
        )
        self._thread.start()

    def _run(self) -> None:
        while not self._closed.wait(0.1):
            self.copy()

    def copy(self) -> None:
        """Copies what has come since."""
        with self._lock:
            text = self._decoder.decode(self._file.read())
            if not text or self._output is None:
                return
            try:
                self._output.write(text)
                self._output.flush()
            except (OSError, ValueError) as error:
                self._output = None  # It is closed; the log goes on.
                logging.warning(
                    "The chief's output is shown no more, since the terminal "
                    "does not take it: %s. Its log goes on.",
                    error,
                )

    def close(self) -> None:
        """Copies the rest, and ends."""
        self._closed.set()
        self._thread.join(5)
        self.copy()
        self._file.close()
