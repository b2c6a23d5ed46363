"""Has a signal end a program by an exception, so that it cleans up."""

import contextlib
import signal
import threading
from typing import Any


def by_exception(until: contextlib.ExitStack) -> None:
    """Has SIGTERM and SIGHUP raise `SystemExit`.

    In the main thread alone: in others signals cannot be caught.
    """
    if threading.current_thread() is not threading.main_thread():
        return
    for number in (signal.SIGTERM, signal.SIGHUP):
        # Whoever has a handler of its own has its reasons.
        if signal.getsignal(number) == signal.SIG_DFL:
            signal.signal(number, _exit)
            until.callback(_restore, number)


def _exit(number: int, frame: Any) -> None:
    raise SystemExit(128 + number)


def _restore(number: int) -> None:
    if threading.current_thread() is threading.main_thread():
        signal.signal(number, signal.SIG_DFL)
