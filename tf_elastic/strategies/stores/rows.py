"""Single rows of a variable of shape (n, ...).

By the resource, since all that `tf.Variable` has for it reads the whole.
"""

from collections.abc import Sequence

import tensorflow as tf


def read_row(variable: tf.Variable, row: tf.Tensor) -> tf.Tensor:
    """One row, on the variable's device.

    Args:
        variable: of any dtype.
        row: its number, int64 scalar.
    """
    with tf.device(variable.device):
        return tf.raw_ops.ResourceGather(
            resource=variable.handle, indices=row, dtype=variable.dtype
        )


def write_row(
    variable: tf.Variable, row: tf.Tensor, value: tf.Tensor | Sequence
) -> tf.Operation:
    """Sets one row, on the variable's device.

    Args:
        variable: of any dtype.
        row: its number, int64 scalar.
        value: of the row's shape, and the variable's dtype.
    """
    if variable.dtype.is_bool:
        # All that TensorFlow has for them on GPUs.
        row = tf.cast(row, tf.int32)
    with tf.device(variable.device):
        return tf.raw_ops.ResourceScatterUpdate(
            resource=variable.handle, indices=row, updates=value
        )
