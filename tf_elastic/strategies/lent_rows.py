"""Batches of fewer rows than replicas.

A replica that gets no rows is *idle*: what it does must not count. But it has
to run with the others, and many of TensorFlow's kernels fail on no rows at all;
the gradient of a pooling even ends the process. So a row of the first replica
is lent to it. Its variables stay as they are (`worker_variable`,
`on_read_variable`), it takes no step, and of what it returns the rows are taken
back.
"""

import contextlib
from collections.abc import Sequence
from typing import Any

import tensorflow as tf

from tf_elastic import compat


def has_rows(tensors: Sequence[Any]) -> tf.Tensor | None:
    """Whether a part of a batch has rows; None if that is certain.

    Args:
        tensors: of the part; the first one that is no scalar tells.
    """
    for tensor in tensors:
        if tensor.shape.rank == 0:
            continue
        if tensor.shape.rank is not None and tensor.shape[0]:
            return None
        return (
            tf.size(tensor) > 0
            if tensor.shape.rank is None
            else (tf.shape(tensor)[0] > 0)
        )
    return None


def lend(arguments: Any, flags: Sequence[tf.Tensor | None]) -> Any:
    """Gives every idle replica a row of the first one.

    Args:
        arguments: of a function that replicas run, a structure that may hold
            per-replica values.
        flags: for each replica whether it has rows; None if that is certain.

    Returns:
        The same structure. If the first replica has no rows either, nor has
        any other.
    """
    flat = tf.nest.flatten(arguments)
    split = [k for k, each in enumerate(flat) if compat.is_per_replica(each)]
    parts = [
        [compat.select_replica(i, flat[k]) for k in split]
        for i in range(len(flags))
    ]
    for i, flag in enumerate(flags):
        if flag is not None:
            parts[i] = _or_lent(flag, parts[i], parts[0])
    for k, values in zip(split, zip(*parts, strict=True), strict=True):
        flat[k] = compat.per_replica(values)
    return tf.nest.pack_sequence_as(arguments, flat)


def lend_to(flag: tf.Tensor, arguments: Any, lender: Any) -> Any:
    """Gives a worker without rows one of the whole batch.

    Args:
        flag: whether it has rows.
        arguments: of the function that it runs, a structure.
        lender: the same structure, of all rows.
    """
    own, of_all = tf.nest.flatten(arguments), tf.nest.flatten(lender)
    return tf.nest.pack_sequence_as(arguments, _or_lent(flag, own, of_all))


def _or_lent(
    flag: tf.Tensor, own: Sequence[Any], of_first: Sequence[Any]
) -> list[Any]:
    rows = [k for k, value in enumerate(own) if _is_rows(value)]
    # What a device has got stays there.
    devices = (own[k].device for k in rows if isinstance(own[k], tf.Tensor))
    device = next(filter(None, devices), None)
    with tf.device(device) if device else contextlib.nullcontext():
        found = tf.cond(
            flag,
            lambda: [own[k] for k in rows],
            lambda: [compat.slice_rows(of_first[k], 0, 1) for k in rows],
        )
    result = list(own)
    for k, value in zip(rows, found, strict=True):
        result[k] = value
    return result


def _is_rows(value: Any) -> bool:
    kinds = (tf.Tensor, tf.RaggedTensor, tf.SparseTensor)
    return isinstance(value, kinds) and value.shape.rank != 0


def take_back(result: Any, flag: tf.Tensor | None, numbers: bool) -> Any:
    """What a replica returns, without the row that was lent to it.

    A tensor with as many rows as its batch, which are not known beforehand,
    has none of them if the replica is idle.

    Args:
        result: a structure.
        flag: whether the replica has rows of its own; None if it has.
        numbers: whether other numbers are 0 if the replica is idle, so that
            they add nothing to a sum over replicas.
    """
    if flag is None:
        return result

    def own(value: Any) -> Any:
        if not isinstance(value, tf.Tensor):
            return value
        if _may_be_rows(value):
            rows = tf.shape(value, tf.int64)[0]
            return value[: tf.where(flag, rows, 0)]
        if numbers and (value.dtype.is_floating or value.dtype.is_integer):
            return tf.where(flag, value, tf.zeros_like(value))
        return value

    return tf.nest.map_structure(own, result)


def _may_be_rows(value: tf.Tensor) -> bool:
    if value.shape.rank is None or value.shape.rank == 0:
        return False
    in_graph = not tf.executing_eagerly()
    return value.shape[0] == (None if in_graph else 1)
