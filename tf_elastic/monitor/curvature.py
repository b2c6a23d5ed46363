"""How strongly a model's loss is curved, which limits its learning rate."""

from collections.abc import Callable

import keras
import numpy as np
import tensorflow as tf

from tf_elastic import compat
from tf_elastic.theory import curvature


def largest_curvature(
    model: keras.Model,
    x: object,
    y: object,
    loss: keras.losses.Loss | str | Callable[..., tf.Tensor] | None = None,
    *,
    tolerance: float = 1e-2,
    max_products: int = 200,
    seed: int = 0,
) -> curvature.Curvature:
    """The largest eigenvalue of the Hessian of a model's loss on a batch.

    By Lanczos' method; a product with the Hessian costs about two gradients.
    Layers behave as in `evaluate`: no dropout, BatchNorm by its statistics,
    and nothing is changed.

    Args:
        model: a built model, outside of a strategy's replicas. Of a model in
            an elastic strategy it is the center's curvature.
        x: inputs of one batch, as the model takes them.
        y: targets of the batch.
        loss: a Keras loss, its name, or a function of (y, predictions).
            Default: the one that the model was compiled with.
        tolerance: relative to the eigenvalue, see
            `theory.curvature.largest_eigenvalue`.
        max_products: likewise.
        seed: likewise.

    Returns:
        `theory.curvature.Curvature`: the eigenvalue, its direction (all
        trainable variables, flat, end to end), and how sure it is.

    Raises:
        ValueError: there is no loss, or nothing to train, or the loss is not
            finite.

    Example:

    >>> model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(
    ...     1, use_bias=False)])
    >>> x = tf.constant([[3.0, 0.0], [0.0, 1.0]])
    >>> found = largest_curvature(model, x, tf.zeros([2, 1]), loss="mse")
    >>> print(f"{found.eigenvalue:.3f}")  # 2 / 2 * 3^2
    9.000

    The batch is all that it knows of the data: measure on several, and again
    when training has begun.
    """
    if loss is None:
        loss = getattr(model, "loss", None)
    if loss is None:
        raise ValueError(
            "`loss` must be given for a model that was not compiled. "
            "Received: loss=None."
        )
    measure = keras.losses.get(loss)
    variables = [compat.native_variable(v) for v in model.trainable_variables]
    if not variables:
        raise ValueError(
            "`model` must have variables to train. Received: model="
            f"{model.name!r}, which has none."
        )
    sizes = [int(np.prod(v.shape, dtype=np.int64)) for v in variables]

    def value() -> tf.Tensor:
        errors = measure(y, model(x, training=False))
        total = tf.reduce_mean(tf.cast(errors, tf.float32))
        losses = [tf.cast(loss, tf.float32) for loss in model.losses]
        return tf.add_n([total, *losses])

    @tf.function
    def product(flat: tf.Tensor) -> tf.Tensor:
        parts = [
            tf.cast(tf.reshape(part, v.shape), v.dtype)
            for part, v in zip(tf.split(flat, sizes), variables, strict=True)
        ]
        with tf.GradientTape() as outer:
            with tf.GradientTape() as inner:
                height = value()
            slope = inner.gradient(
                height, variables, unconnected_gradients="zero"
            )
            along = tf.add_n(
                [
                    tf.reduce_sum(tf.convert_to_tensor(g) * part)
                    for g, part in zip(slope, parts, strict=True)
                ]
            )
        image = outer.gradient(along, variables, unconnected_gradients="zero")
        return tf.concat(
            [
                tf.reshape(tf.cast(tf.convert_to_tensor(g), tf.float64), [-1])
                for g in image
            ],
            0,
        )

    return curvature.largest_eigenvalue(
        lambda vector: product(tf.constant(vector)).numpy(),
        sum(sizes),
        tolerance=tolerance,
        max_products=max_products,
        seed=seed,
    )
