"""What an optimizer tells a strategy about a parameter to be exchanged."""

from typing import Any
from typing import NamedTuple

import tensorflow as tf

from tf_elastic import core


class ElasticParameter(NamedTuple):
    """A trainable variable and how to find its plain point.

    With Nesterov's momentum the variable holds the look-ahead point
    y = x + delta v, where the gradient is wanted; what is exchanged is x.
    """

    variable: Any  # the strategy's variable; has worker_copies, center_copies
    velocity: Any = None  # v's variable if the look-ahead point is stored
    momentum: float = 0.0  # delta

    def point(self, worker: int) -> tf.Tensor:
        """The point x of one worker, of the variable's shape.

        Args:
            worker: index of the worker, from 0.
        """
        stored = self.variable.worker_copies[worker].read_value()
        if self.velocity is None:
            return stored
        return core.plain_point(
            stored,
            self.velocity.worker_copies[worker].read_value(),
            self.momentum,
        )
