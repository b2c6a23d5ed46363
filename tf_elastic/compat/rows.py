"""Structures of tensors, cut along their rows for replicas."""

from typing import Any

import numpy as np
import tensorflow as tf
from tensorflow.python.distribute import values


def split_rows(structure: Any, num_parts: int) -> Any:
    """Cuts the tensors of a structure along their rows, one part a replica.

    Args:
        structure: of tensors, of which those without rows stay as they are.
        num_parts: how many parts, as even as can be: the first ones have a
            row more where it does not come out even.
    """
    if num_parts == 1:
        return structure

    def split(value: Any) -> Any:
        if isinstance(value, np.ndarray):
            value = tf.convert_to_tensor(value)
        if not isinstance(value, (tf.Tensor, tf.RaggedTensor, tf.SparseTensor)):
            return value
        if value.shape.rank == 0:
            return values.PerReplica([value] * num_parts)
        rows = _num_rows(value)
        begin, parts = 0, []
        for size in _part_sizes(rows, num_parts):
            parts.append(slice_rows(value, begin, size))
            begin = begin + size
        return values.PerReplica(parts)

    return tf.nest.map_structure(split, structure)


def part_spec(spec: Any, i: int, num_parts: int) -> Any:
    """The specification of part i of what `split_rows` cuts."""
    shape = getattr(spec, "shape", tf.TensorShape([]))
    if not shape.rank or isinstance(spec, tf.SparseTensorSpec):
        if not shape.rank:
            return spec
        return tf.SparseTensorSpec([None, *shape[1:]], spec.dtype)
    rows = shape[0]
    if rows is not None:
        rows = _part_sizes(rows, num_parts)[i]
    if isinstance(spec, tf.RaggedTensorSpec):
        return tf.RaggedTensorSpec(
            [rows, *shape[1:]],
            spec.dtype,
            spec.ragged_rank,
            spec.row_splits_dtype,
        )
    return tf.TensorSpec([rows, *shape[1:]], spec.dtype)


def _num_rows(value: Any) -> Any:
    if value.shape.rank is not None and value.shape[0] is not None:
        return value.shape[0]
    if isinstance(value, tf.SparseTensor):
        return value.dense_shape[0]
    if isinstance(value, tf.RaggedTensor):
        return tf.cast(value.nrows(), tf.int64)
    return tf.shape(value, tf.int64)[0]


def _part_sizes(rows: Any, num_parts: int) -> list[Any]:
    if isinstance(rows, int):
        return [
            rows // num_parts + (i < rows % num_parts) for i in range(num_parts)
        ]
    return [
        rows // num_parts + tf.cast(i < rows % num_parts, rows.dtype)
        for i in range(num_parts)
    ]


def slice_rows(value: Any, begin: Any, size: Any) -> Any:
    """Some rows of a tensor, dense, ragged or sparse."""
    if not isinstance(value, tf.SparseTensor):
        return value[begin : begin + size]
    rank = value.shape.rank
    start = tf.one_hot(0, rank, tf.cast(begin, tf.int64), dtype=tf.int64)
    shape = tf.concat(
        [[tf.cast(size, tf.int64)], value.dense_shape[1:]], axis=0
    )
    return tf.sparse.slice(value, start, shape)


def first_if_no_mean(value: Any) -> Any:
    """The first component of per-replica values that cannot be averaged.

    These are tensors of unlike shapes, of booleans or strings, and ragged or
    sparse ones.

    Args:
        value: of any kind.

    Returns:
        The first component, or `value` if it has a mean or is not per-replica.
    """
    if not isinstance(value, values.PerReplica):
        return value
    parts = value.values
    has_mean = all(
        isinstance(part, tf.Tensor)
        and (part.dtype.is_floating or part.dtype.is_integer)
        for part in parts
    )
    if has_mean:
        shapes = {
            tuple(part.shape.as_list()) if part.shape.rank is not None else None
            for part in parts
        }
        has_mean = len(shapes) < 2
    return value if has_mean else parts[0]
