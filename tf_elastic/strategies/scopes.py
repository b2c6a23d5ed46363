"""What goes wrong between scopes, with the fix in the message."""

import contextlib
from collections.abc import Iterator
from typing import Any

import tensorflow as tf

from tf_elastic import compat


def check_no_graph() -> None:
    """Refuses the graphs of TensorFlow 1.

    Raises:
        RuntimeError: such a graph is being built.
    """
    if not tf.compat.v1.executing_eagerly_outside_functions():
        raise RuntimeError(
            "Elastic strategies need TensorFlow 2's eager execution. Received: "
            "a TensorFlow 1 graph (`tf.Graph().as_default()`, or "
            "`tf.compat.v1.disable_eager_execution()`). Make strategy and "
            "model outside of it, and train by `model.fit`."
        )


@contextlib.contextmanager
def explained(strategy: tf.distribute.Strategy, scope: Any) -> Iterator[Any]:
    """A strategy's scope, whose errors say what to do.

    Keras opens the scope, too, where it builds model and optimizer in `fit`.

    Args:
        strategy: whose scope it is.
        scope: TensorFlow's context manager.

    Raises:
        ValueError: what was made in another scope, or outside, is used.
    """
    with scope as entered:
        try:
            yield entered
        except RuntimeError as error:
            if compat.mixes_strategies(error):
                raise ValueError(
                    "Model, optimizer and `compile` must be in the scope of "
                    "the same strategy. Received: something that was made in "
                    f"another scope, or in none, and is used in that of "
                    f"{type(strategy).__name__}; most often the optimizer. "
                    "Create the model and its optimizer, and call "
                    "`model.compile`, inside `with strategy.scope():` (a "
                    "Keras optimizer inside of `tf_elastic.optimizers."
                    "Elastic(...)`)."
                ) from error
            raise
