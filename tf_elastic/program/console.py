"""All that the program writes to the terminal."""

import contextlib
import os
import shutil
import sys
import tempfile
import threading
from collections.abc import Iterator

from tf_elastic.program import usage


def say(text: str) -> None:
    """Prints a line at once, in order with the progress bar."""
    print(text, flush=True)


def complain(text: str) -> None:
    """Prints to stderr, under the program's name."""
    print(f"train.py: {text}", file=sys.stderr, flush=True)


def show_warning(
    message: Warning | str, category: type[Warning], *_: object, **__: object
) -> None:
    """What `warnings.showwarning` is while the program runs."""
    complain(f"{category.__name__}: {message}")


class Board:
    """What is written, and below it lines that are always new.

    On a terminal these are drawn over; elsewhere they are written each time.
    From a line of dashes on, which begins the result of a run, what is written
    waits for the end: so it is the last that is seen. It is a stream to write
    to, for any thread.
    """

    def __init__(self) -> None:
        self._is_terminal = sys.stdout.isatty()
        self._lock = threading.Lock()
        self._below = ""
        self._line = ""  # that has not ended yet
        self._result: list[str] | None = None

    def write(self, text: str) -> int:
        """Writes lines above the others."""
        with self._lock:
            *lines, self._line = (self._line + text).split("\n")
            above: list[str] = []
            for line in lines:
                if self._result is None and _is_rule(line):
                    self._result = []
                (above if self._result is None else self._result).append(line)
            if above:
                self._print("\n".join(above))
                if self._is_terminal and self._below:
                    print(self._below, flush=True)
        return len(text)

    def flush(self) -> None:
        """Nothing is held back that is to be seen now."""

    def show(self, text: str) -> None:
        """Draws the lines below anew."""
        with self._lock:
            if self._is_terminal:
                width = shutil.get_terminal_size().columns
                text = "\n".join(line[:width] for line in text.splitlines())
            self._print(text)
            self._below = text

    def close(self) -> None:
        """Writes what has waited. The lines below stay above it."""
        with self._lock:
            self._below = ""
            rest = [*(self._result or ()), *filter(None, [self._line])]
            self._result, self._line = None, ""
            if rest:
                self._print("\n".join(rest))

    def _print(self, text: str) -> None:
        up = ""
        if self._is_terminal and self._below:
            up = f"\033[{self._below.count(chr(10)) + 1}A\033[J"
        print(f"{up}{text}", flush=True)


def _is_rule(line: str) -> bool:
    return len(line) > 20 and not line.strip("-")


@contextlib.contextmanager
def quiet_stderr() -> Iterator[None]:
    """Holds back what native code writes, and shows it after an error.

    TensorFlow tells on stderr that there is no GPU, before its log level
    counts.
    """
    sys.stderr.flush()
    with tempfile.TemporaryFile() as held:
        before = os.dup(2)
        os.dup2(held.fileno(), 2)
        try:
            yield
        except usage.UsageError:
            raise
        except BaseException:
            held.seek(0)
            os.write(before, held.read())
            raise
        finally:
            sys.stderr.flush()
            os.dup2(before, 2)
            os.close(before)
