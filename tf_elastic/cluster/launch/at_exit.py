"""What is done at the end of a process, while its threads still work."""

import atexit
import threading
from collections.abc import Callable
from typing import Any


def before_threads_end(callback: Callable[..., None], *args: Any) -> None:
    """Calls a function before Python waits for the threads of executors.

    What is registered with `atexit` is called after that: too late to end
    what such a thread waits for.

    Args:
        callback: the function.
        *args: its arguments.
    """
    # The way of `concurrent.futures` itself, since Python 3.9.
    register = getattr(threading, "_register_atexit", atexit.register)
    register(callback, *args)
