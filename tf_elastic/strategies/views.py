"""Which copy of a variable a replica sees: its worker's, or the center's.

A worker trains on its own copy; whoever evaluates, predicts or saves sees the
center. No flag tells the two apart in Keras, so the rule is what training
cannot do without: **while a gradient tape is open a replica sees its worker's
copy, otherwise the center's**. An optimizer opens `worker_view` around its
update. Custom code may open either view by hand.
"""

import contextlib
import threading
from collections.abc import Iterator

from tf_elastic import compat


class _Views(threading.local):
    """The views opened by hand on this thread, innermost last."""

    def __init__(self) -> None:
        self.stack: list[bool] = []


_views = _Views()


def sees_worker() -> bool:
    """Whether a replica's read or write now means its worker's copy."""
    if _views.stack:
        return _views.stack[-1]
    return compat.tape_is_active()


@contextlib.contextmanager
def worker_view() -> Iterator[None]:
    """Inside, a replica reads and writes its worker's copy."""
    with _view(True):
        yield


@contextlib.contextmanager
def center_view() -> Iterator[None]:
    """Inside, a replica reads the center."""
    with _view(False):
        yield


@contextlib.contextmanager
def _view(worker: bool) -> Iterator[None]:
    _views.stack.append(worker)
    try:
        yield
    finally:
        _views.stack.pop()
