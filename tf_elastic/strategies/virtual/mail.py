"""A row for each worker: what it sends, then what it is answered."""

import functools
from collections.abc import Callable
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
        initial: gives what is in all rows at first, a value for each variable;
            None for zeros.
        grows: whether there may be more rows later.
    """

    def __init__(
        self,
        shapes: Sequence[tf.TensorShape],
        dtypes: Sequence[tf.DType],
        num_rows: int,
        device: str,
        initial: Callable[[], Sequence[tf.Tensor]] | None = None,
        grows: bool = False,
    ) -> None:
        def first(k: int) -> tf.Tensor:
            # Memory of its own: see `Bank.make`.
            value = (
                tf.zeros(shapes[k], dtypes[k])
                if initial is None
                else initial()[k]
            )
            value = tf.cast(value, dtypes[k])
            return tf.broadcast_to(value, (num_rows, *shapes[k]))

        with tf.device(device):
            self.variables = [
                tf.Variable(
                    functools.partial(first, k),
                    trainable=False,
                    shape=(None if grows else num_rows, *shape),
                )
                for k, shape in enumerate(shapes)
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
        """Sets a row, of one variable; arguments as of `get`.

        What is sent has the row's dtype.
        """
        value = tf.cast(value, self.variables[k].dtype)
        write_row(self.variables[k], row, value)

    def row(self, row: tf.Tensor) -> list[tf.Tensor]:
        """What is in a row, of all variables."""
        return [self.get(row, k) for k in range(len(self.variables))]

    def put_row(self, row: tf.Tensor, values: Sequence[tf.Tensor]) -> None:
        """Sets a row, of all variables."""
        for k, value in enumerate(values):
            self.put(row, k, value)

    def put_row_of_any(
        self, row: tf.Tensor, values: Sequence[tf.Tensor]
    ) -> None:
        """Sets a row, of all variables; if there is none yet, it grows."""
        for variable in self.variables:
            with tf.device(variable.device):
                size = tf.raw_ops.VariableShape(
                    input=variable.handle, out_type=tf.int64
                )[0]
                tf.cond(
                    row < size,
                    lambda: None,
                    functools.partial(_grow, variable, row + 1 + size // 4),
                )
        self.put_row(row, values)


def _grow(variable: tf.Variable, size: tf.Tensor) -> None:
    rows = variable.read_value()
    more = [[0, size - tf.shape(rows, tf.int64)[0]]]
    none = [[0, 0]] * (variable.shape.rank - 1)
    variable.assign(tf.pad(rows, more + none), read_value=False)
