"""Signals that end a block like an exception."""

import signal
import threading
from typing import Any


class EndSignals:
    """SIGTERM and SIGHUP raise `SystemExit`, from `catch` to `restore`.

    In the main thread alone: in others signals cannot be caught.
    """

    def __init__(self) -> None:
        self._before: dict[int, Any] = {}

    def catch(self) -> None:
        """Begins."""
        if threading.current_thread() is not threading.main_thread():
            return

        def leave(number: int, frame: Any) -> None:
            raise SystemExit(128 + number)

        for number in (signal.SIGTERM, signal.SIGHUP):
            # Whoever has a handler of its own has its reasons.
            if signal.getsignal(number) == signal.SIG_DFL:
                self._before[number] = signal.signal(number, leave)

    def restore(self) -> None:
        """Ends."""
        if threading.current_thread() is threading.main_thread():
            for number, before in self._before.items():
                signal.signal(number, before)
            self._before.clear()
