"""A row for each worker: what it sends, then what it is answered."""

from collections.abc import Sequence

import tensorflow as tf

from tf_elastic.strategies.stores.rows import read_row
from tf_elastic.strategies.stores.rows import write_row


class Mail:
    """Of each variable an array for each worker, on one device.

    Args:
        shapes: of the variables.
        dtypes: of the variables.
        num_rows: p.
        device: where it is.
    """

    def __init__(
        self,
        shapes: Sequence[tf.TensorShape],
        dtypes: Sequence[tf.DType],
        num_rows: int,
        device: str,
    ) -> None:
        with tf.device(device):
            self.variables = [
                tf.Variable(
                    lambda shape=shape, dtype=dtype: tf.zeros(
                        (num_rows, *shape), dtype
                    ),
                    trainable=False,
                )
                for shape, dtype in zip(shapes, dtypes, strict=False)
            ]

    def has(self, k: int) -> bool:
        """Whether it has a variable, by its place."""
        return k < len(self.variables)

    def get(self, row: tf.Tensor, k: int) -> tf.Tensor:
        """What is in a row, of one variable.

        Args:
            row: its number, int64 scalar.
            k: the variable, by its place.
        """
        return read_row(self.variables[k], row)

    def put(self, row: tf.Tensor, k: int, value: tf.Tensor) -> None:
        """Sets a row, of one variable; arguments as of `get`."""
        write_row(self.variables[k], row, value)

    def row(self, row: tf.Tensor) -> list[tf.Tensor]:
        """What is in a row, of all variables."""
        return [self.get(row, k) for k in range(len(self.variables))]

    def put_row(self, row: tf.Tensor, values: Sequence[tf.Tensor]) -> None:
        """Sets a row, of all variables."""
        for k, value in enumerate(values):
            self.put(row, k, value)
