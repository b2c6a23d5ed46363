"""`use_ema`: the average over time of the center."""

from collections.abc import Sequence

import keras
import tensorflow as tf


def average_center(
    averages: Sequence[keras.Variable | None],
    centers: Sequence[keras.Variable],
    momentum: float,
    is_first_step: tf.Tensor,
) -> None:
    """Moves averages towards the center, as Keras' `use_ema` does.

    Args:
        averages: the variables that hold them; None where there is none.
        centers: variables or tensors that read as the center.
        momentum: in [0, 1], of the average.
        is_first_step: boolean scalar: whether averages begin at the center.
    """
    for average, center in zip(averages, centers, strict=True):
        if average is None:
            continue
        center = tf.convert_to_tensor(center)
        kept = tf.where(
            is_first_step,
            tf.zeros([], center.dtype),
            tf.constant(momentum, center.dtype),
        )
        average.assign(kept * average + (1 - kept) * center)
