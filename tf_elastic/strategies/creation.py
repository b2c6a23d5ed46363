"""Variables that are created while a graph is built.

A model without the shape of its input makes its variables when it is first
called, often within a `tf.function`. There TensorFlow lets them have values
when the function first runs; but a worker begins where the center is, and so
do its slots, when they are made. So they are made outside of the graph.
"""

from collections.abc import Mapping
from typing import Any

import tensorflow as tf


def value_outside(arguments: Mapping[str, Any]) -> tf.Tensor | None:
    """The first value of a variable that is about to be made in a graph.

    Args:
        arguments: of a variable creator.

    Returns:
        It, computed outside; None if no graph is being built, or if the value
        is made of the graph's tensors.
    """
    initial = arguments.get("initial_value")
    if not tf.inside_function() or not callable(initial):
        return None
    with tf.init_scope():
        if not tf.executing_eagerly():
            return None
        try:
            return tf.convert_to_tensor(initial(), arguments.get("dtype"))
        except TypeError:  # As TensorFlow says of a graph's tensors.
            return None
