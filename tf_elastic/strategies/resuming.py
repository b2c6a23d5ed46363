"""How workers go on from a file, whose layers have the last word.

A Keras file is loaded in parts: each layer loads its variables, which is the
center, and the optimizer loads the workers; which comes first depends on the
names of the model's attributes. Not every layer's part is what its variables
were: one with LoRA saves its kernel with the adapters merged into it, and loads
empty ones. So the workers' values of a variable are theirs only if the layer
makes the center what it was when they were saved; else they start from the
center that the layer makes.
"""

from collections.abc import Callable
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from tf_elastic.strategies.stores import TensorLike


class Resumption(NamedTuple):
    """The workers' values of a variable, as saved, and what they belong to."""

    center: np.ndarray  # the variable's value when they were saved
    workers: np.ndarray  # shape (p, ...)
    # Of what begins anew with this one: how it is set, and to what.
    followers: Sequence[tuple[Callable[[np.ndarray], object], np.ndarray]] = ()
    # What the variable read when this was loaded, if it did not read `center`.
    instead_of: np.ndarray | None = None

    def take(self, variable: tf.Variable) -> None:
        """Sets the workers of a variable, and what begins anew with it."""
        variable.assign_worker_values(self.workers)
        for set_follower, values in self.followers:
            set_follower(values)


def is_same(a: TensorLike, b: TensorLike) -> bool:
    """Whether two arrays are equal to the bit, NaN included."""
    a, b = np.asarray(a), np.asarray(b)
    return a.dtype == b.dtype and a.tobytes() == b.tobytes()


def cast(value: TensorLike, dtype: tf.DType) -> np.ndarray:
    """An array of a file as the variable's dtype."""
    return np.asarray(value).astype(dtype.as_numpy_dtype)
