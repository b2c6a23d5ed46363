"""What a `tf.train.Checkpoint` has of an object that is being restored."""

import functools
import threading
from collections.abc import Callable
from typing import Any
from typing import NamedTuple

from tensorflow.python.checkpoint import restore
from tensorflow.python.trackable import base

# What a checkpoint finds that is an object's attribute. One that has
# `_serialize_to_tensors` and `_restore_from_tensors` is saved by them.
Trackable = base.Trackable


class RestoredFrom(NamedTuple):
    """What a `tf.train.Checkpoint` that is being restored has of an object."""

    names: frozenset[str]  # of the object's tensors
    restore: int  # the same for all objects that are restored together


_restored = threading.local()


def restored_from() -> RestoredFrom | None:
    """What is in the checkpoint of the object that is being restored now.

    TensorFlow asks an object for the tensors it would save, and looks for the
    same in the checkpoint. With this it can name those that are there.

    Relies on `CheckpointPosition.gather_ops_or_named_saveables` calling
    `_serialize_to_tensors`, on its `object_proto.attributes` and `restore_uid`.
    """
    return getattr(_restored, "now", None)


def _telling(gather: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(gather)
    def telling(position: Any) -> Any:
        _restored.now = RestoredFrom(
            frozenset(a.name for a in position.object_proto.attributes),
            position.restore_uid,
        )
        try:
            return gather(position)
        finally:
            _restored.now = None

    return telling


def tell_what_is_restored() -> None:
    """Makes `restored_from` work; done once for a process."""
    position = restore.CheckpointPosition
    gather = position.gather_ops_or_named_saveables
    if not hasattr(gather, "__wrapped__"):
        position.gather_ops_or_named_saveables = _telling(gather)
