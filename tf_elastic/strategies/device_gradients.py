"""Gradients of the devices of one worker, which hold the same parameters."""

from collections.abc import Callable
from collections.abc import Sequence
from typing import Any

import tensorflow as tf

from tf_elastic.optimizers.strategy_interface import Gradient
from tf_elastic.strategies import views


def summed(grads: Sequence[Gradient]) -> list[Gradient]:
    """Their sums over the devices, in a replica.

    Args:
        grads: this replica's, dense, sparse or None.
    """
    context = tf.distribute.get_replica_context()
    return _sums(
        lambda own: context.all_reduce(tf.distribute.ReduceOp.SUM, own), grads
    )


def summed_by(
    sums: Callable[[Sequence[Any]], list[Any]], grads: Sequence[Gradient]
) -> list[Gradient]:
    """The same, by a function of one's own.

    Args:
        sums: of per-replica values, in cross-replica context.
        grads: as of `summed`.
    """
    context = tf.distribute.get_replica_context()

    def of_all(strategy: tf.distribute.Strategy, *own: Any) -> list[Any]:
        del strategy
        return sums(own)

    return _sums(lambda own: context.merge_call(of_all, args=own), grads)


def _sums(
    sums: Callable[[list[Gradient]], Sequence[Gradient]],
    grads: Sequence[Gradient],
) -> list[Gradient]:
    present = [k for k, grad in enumerate(grads) if grad is not None]
    result: list[Gradient] = [None] * len(grads)
    found = sums([_none_if_idle(grads[k]) for k in present])
    for k, grad in zip(present, found, strict=True):
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
