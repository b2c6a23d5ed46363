"""Gradients of the devices of one worker, which hold the same parameters."""

from collections.abc import Sequence

import tensorflow as tf

from tf_elastic.optimizers.strategy_interface import Gradient
from tf_elastic.strategies import views


def summed(grads: Sequence[Gradient]) -> list[Gradient]:
    """Their sums over the devices, in a replica.

    Args:
        grads: this replica's, dense, sparse or None.
    """
    present = [k for k, grad in enumerate(grads) if grad is not None]
    context = tf.distribute.get_replica_context()
    sums = context.all_reduce(
        tf.distribute.ReduceOp.SUM,
        [_none_if_idle(grads[k]) for k in present],
    )
    result: list[Gradient] = [None] * len(grads)
    for k, grad in zip(present, sums, strict=True):
        result[k] = grad
    return result


def _none_if_idle(gradient: Gradient) -> Gradient:
    """A gradient; 0 if this replica has got no rows, see `lent_rows`."""
    flag = views.has_rows()
    if flag is None:
        return gradient
    if isinstance(gradient, tf.IndexedSlices):
        return tf.IndexedSlices(
            _none_if_idle(gradient.values),
            gradient.indices,
            gradient.dense_shape,
        )
    return tf.where(flag, gradient, tf.zeros_like(gradient))
