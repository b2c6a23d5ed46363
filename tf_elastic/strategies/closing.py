"""What the center shows when training has ended between two exchanges.

At exchanges only does the center learn what the workers have done. Where
`fit` ends in the middle of a period it would be evaluated and saved without
their last steps; after a run shorter than a period, at its first values. So
an exchange is shown that does not take place: the center moves as it would,
the workers stay, and the first step that follows puts it back to where it was.
"""

from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from tf_elastic.strategies.elastic_variable import ElasticVariable


class Closing:
    """Of some variables: what their centers show, and what they are.

    Args:
        variables: those that are exchanged together.
        held_by: for each of them the device, by index, that keeps its center
            while something else is shown.
    """

    def __init__(
        self, variables: Sequence[ElasticVariable], held_by: Sequence[int]
    ) -> None:
        self._variables = list(variables)
        extended = variables[0].distribute_strategy.extended
        with tf.init_scope(), extended.plain_variables():
            with tf.device("/device:CPU:0"):
                self.is_closed = tf.Variable(False, trainable=False)
            self.held = [
                _held(variable, device)
                for variable, device in zip(variables, held_by, strict=True)
            ]

    def show(self, values: Sequence[tf.Tensor]) -> None:
        """Shows other values than the centers', in eager code.

        Args:
            values: one for each variable.
        """
        for held, variable in zip(self.held, self._variables, strict=True):
            held.assign(variable.store.read_center(0))
        for variable, value in zip(self._variables, values, strict=True):
            variable.store.set_center(value)
        self.is_closed.assign(True)

    def held_by_variable(self) -> dict[int, tf.Variable]:
        """What holds a variable's center, by the variable's identity."""
        return {
            id(variable): held
            for variable, held in zip(self._variables, self.held, strict=True)
        }

    def reopen_if_closed(self) -> None:
        """Puts the centers back, in a step of training."""

        def reopen() -> None:
            for held, variable in zip(self.held, self._variables, strict=True):
                variable.store.set_center(held.read_value())
            self.is_closed.assign(False)

        tf.cond(self.is_closed.read_value(), reopen, lambda: None)

    def center(self, k: int) -> np.ndarray:
        """The center of a variable, by index, whatever it shows."""
        if bool(self.is_closed.numpy()):
            return self.held[k].numpy()
        return self._variables[k].store.read_center(0).numpy()


def _held(variable: ElasticVariable, device: int) -> tf.Variable:
    center = variable.store.center_at(device)
    with tf.device(center.device):
        held = tf.Variable(variable.store.read_center(device), trainable=False)
    variable.begins_anew_with(held)
    return held
