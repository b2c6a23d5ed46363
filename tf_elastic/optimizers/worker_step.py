"""Pieces of a worker's local step that several optimizers share."""

from collections.abc import Callable
from collections.abc import Sequence

import keras
import tensorflow as tf

from tf_elastic import compat
from tf_elastic import core
from tf_elastic.optimizers.strategy_interface import ElasticExtended
from tf_elastic.optimizers.strategy_interface import Gradient


def assign_sgd_step(
    optimizer: keras.optimizers.Optimizer,
    gradient: tf.Tensor | tf.IndexedSlices,
    variable: keras.Variable,
    learning_rate: tf.Tensor,
) -> None:
    """One SGD step of one worker's variable; a sparse one row by row."""
    if isinstance(gradient, tf.IndexedSlices):
        step = core.sgd_step(0.0, gradient.values, learning_rate)
        optimizer.assign_add(variable, tf.IndexedSlices(step, gradient.indices))
    else:
        optimizer.assign(
            variable, core.sgd_step(variable, gradient, learning_rate)
        )


def scale_gradients(grads: Sequence[Gradient], scale: float) -> list[Gradient]:
    """Multiplies gradients, dense, sparse or None, by a number."""
    if scale == 1.0:
        return list(grads)
    return [
        None
        if grad is None
        else tf.math.scalar_mul(tf.constant(scale, grad.dtype), grad)
        for grad in grads
    ]


def replica_device() -> str:
    """The device of the replica that runs now."""
    devices = tf.distribute.get_strategy().extended.worker_devices
    return devices[compat.current_replica_id()]


def step_of_own(
    extended: ElasticExtended,
    step: Callable[[], None],
    idle: Callable[[], None],
) -> None:
    """One step of this replica's worker, if it has got any rows.

    Args:
        extended: of the strategy.
        step: what it does then.
        idle: what it does else.
    """

    def locally(function: Callable[[], None]) -> Callable[[], None]:
        def local() -> None:
            with extended.local_updates():
                function()

        return local

    takes = extended.takes_step()
    if takes is None:
        locally(step)()
    else:
        tf.cond(takes, locally(step), locally(idle))
