"""All that the program writes to the terminal."""

import contextlib
import os
import sys
import tempfile
from collections.abc import Iterator
from typing import Any

from tf_elastic.program import usage


def say(text: str) -> None:
    """Prints a line at once, in order with the progress bar."""
    print(text, flush=True)


def complain(text: str) -> None:
    """Prints to stderr, under the program's name."""
    print(f"train.py: {text}", file=sys.stderr, flush=True)


def show_warning(message: Any, category: Any, *_: Any, **__: Any) -> None:
    """What `warnings.showwarning` is while the program runs."""
    complain(f"{category.__name__}: {message}")


def redraw(text: str, height: int) -> int:
    """Prints lines over the `height` lines before; returns their number."""
    up = f"\033[{height}A\033[J" if height else ""
    print(f"{up}{text}", flush=True)
    return text.count("\n") + 1


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
