"""A worker of a cluster leaves its center when its process ends."""

import atexit
import sys
import threading
import weakref
from typing import Protocol


class Leaves(Protocol):
    """What has a place at a center."""

    def stop(self, finished: bool) -> None:
        """Leaves the center. Never raises."""


def leaves_at_exit(worker: Leaves) -> None:
    """Lets a worker leave when the process ends; it may be gone before.

    Args:
        worker: held weakly.
    """
    atexit.register(_stop_if_alive, weakref.ref(worker))
    # Before Python waits for the threads of executors, which is before it
    # calls what `atexit` has: too late to end what such a thread waits for.
    # The way of `concurrent.futures` itself, since Python 3.9.
    register = getattr(threading, "_register_atexit", atexit.register)
    register(_break_off_if_alive, weakref.ref(worker))


def _stop_if_alive(reference: "weakref.ref[Leaves]") -> None:
    worker = reference()
    if worker is not None:
        # After an error that nobody has handled, the part is not done.
        worker.stop(finished=not hasattr(sys, "last_value"))


def _break_off_if_alive(reference: "weakref.ref[Leaves]") -> None:
    if hasattr(sys, "last_value"):  # Nobody is to wait after an error.
        _stop_if_alive(reference)
