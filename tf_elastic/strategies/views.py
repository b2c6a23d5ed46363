"""Which copy of a variable a replica sees: its worker's, or the center's.

A worker trains on its own copy; whoever evaluates, predicts or saves sees the
center. What is training is told by these rules, the first that applies:

1. a view opened by hand (`worker_view`, `center_view`); an optimizer opens
   `worker_view` around its update;
2. Keras' `train_step` sees the worker, from its first line to its last;
3. in a function of one's own a replica sees its worker while a gradient tape
   is open, and from the first step of an optimizer on;
4. else it sees the center.
"""

import contextlib
import threading
from collections.abc import Iterator
from typing import NamedTuple

import tensorflow as tf

from tf_elastic import compat


class Moved(NamedTuple):
    """The model's variables that a step assigns to, by their identity."""

    all: dict[int, tf.Variable]
    # Those assigned while no gradient tape is open.
    beside: dict[int, tf.Variable]


class _Views(threading.local):
    """What is known on this thread, which may be a replica's."""

    def __init__(self) -> None:
        self.stack: list[bool] = []  # views opened by hand, innermost last
        self.trains = False
        self.has_rows: tf.Tensor | None = None
        self.moved = Moved({}, {})


_views = _Views()


def sees_worker() -> bool:
    """Whether a replica's read or write now means its worker's copy."""
    if _views.stack:
        return _views.stack[-1]
    return _views.trains or compat.tape_is_active()


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


@contextlib.contextmanager
def replica_step(
    trains: bool, has_rows: tf.Tensor | None, moved: Moved
) -> Iterator[None]:
    """Inside, this thread is a replica that runs one step.

    Args:
        trains: whether it is known to be a step of training.
        has_rows: boolean scalar, whether the replica has got any rows of the
            batch; None if that is certain.
        moved: takes in the model's variables that the replica assigns to.
    """
    before = _views.trains, _views.has_rows, _views.moved
    _views.trains, _views.has_rows, _views.moved = trains, has_rows, moved
    try:
        yield
    finally:
        _views.trains, _views.has_rows, _views.moved = before


@contextlib.contextmanager
def certain_of_rows() -> Iterator[None]:
    """Inside, what a replica does happens, whatever its rows."""
    before, _views.has_rows = _views.has_rows, None
    try:
        yield
    finally:
        _views.has_rows = before


def training_begins() -> None:
    """From here on this replica's step is known to train."""
    _views.trains = True


def has_rows() -> tf.Tensor | None:
    """Whether this replica has rows, boolean scalar; None: it has."""
    return _views.has_rows


def note_moved(variable: tf.Variable) -> None:
    """Notes that this replica's step assigns to a model's variable."""
    _views.moved.all[id(variable)] = variable
    if not compat.tape_is_active():
        _views.moved.beside[id(variable)] = variable
