"""The thesis' convolutional network for ImageNet."""

from typing import Any

import keras

from tf_elastic.models import layer_options

# Filters, kernel, stride, and the pooling after it (0 for none).
_CONVOLUTIONS = (
    (96, 7, 2, 3),
    (256, 5, 1, 2),
    (384, 3, 1, 0),
    (384, 2, 1, 0),
    (256, 2, 1, 2),
)
_SMALLEST = 101


def imagenet_convnet(
    input_shape: tuple[int, int, int] = (221, 221, 3),
    num_classes: int = 1000,
    dropout: float = 0.5,
    l2: float = 1e-5,
    seed: int | None = None,
    name: str = "imagenet_convnet",
) -> keras.Model:
    """Builds the 11-layer network of the ImageNet experiments.

    In the notation of `cifar_convnet`: (3, 221, 221) -C,R-> (96, 108, 108)
    -P-> (96, 36, 36) -C,R-> (256, 32, 32) -P-> (256, 16, 16) -C,R->
    (384, 14, 14) -C,R-> (384, 13, 13) -C,R-> (256, 12, 12) -P-> (256, 6, 6)
    -L,R,D-> (4096) -L,R,D-> (4096) -L,S-> (1000): 61 128 808 parameters,
    233 MiB. Convolutions have kernels of 7 (and a stride of 2), 5, 3, 2 and 2
    and no padding.

    The text of the thesis that is at hand has ten of these layers: the
    convolution to (384, 13, 13) is missing. It counts 11, as it counts
    pooling in the 7 of CIFAR; from 14 x 14 to 12 x 12 two kernels of 2 lead;
    and its "233 MB" are met with them.

    Biases start at 0.1, as the thesis says for ImageNet; weights as in
    `cifar_convnet`. The term lambda/2 * ||x||^2 over all parameters is among
    the model's losses.

    Args:
        input_shape: (height, width, channels), height and width >= 101. The
            thesis' is (221, 221, 3).
        num_classes: Number of outputs, >= 1.
        dropout: Rate of dropout after the first two dense layers, in [0, 1).
            The thesis' is 0.5.
        l2: lambda, >= 0. The thesis' is 1e-5.
        seed: Non-negative int from which every layer gets its own seed, or
            None: see `cifar_convnet`.
        name: Name of the model.

    Returns:
        A Keras model, [batch, *input_shape] to probabilities
        [batch, num_classes].

    Raises:
        ValueError: If an argument is out of its range.

    Example:
        >>> import tf_elastic.models
        >>> small = tf_elastic.models.imagenet_convnet((101, 101, 3), 10)
        >>> small.count_params()
        20372618

    Reference:
        S. Zhang, Distributed stochastic optimization for deep learning, 2016,
        section 4.1, "Experimental setup".
    """
    layer_options.check_options(dropout, l2)
    if min(input_shape[:2]) < _SMALLEST:
        raise ValueError(
            f"`input_shape` must be at least {_SMALLEST} high and wide, or "
            f"nothing is left of it. Received: input_shape={input_shape!r}."
        )
    seeds = iter(layer_options.split_seed(seed, len(_CONVOLUTIONS) + 5))

    def options() -> dict[str, object]:
        return layer_options.layer_options(next(seeds), l2, bias=0.1)

    def dense(x: Any, units: int, activation: str) -> Any:
        layer = keras.layers.Dense(units, activation=activation, **options())
        return layer(x)

    inputs = keras.Input(input_shape)
    x = inputs
    for filters, kernel, stride, pooling in _CONVOLUTIONS:
        x = keras.layers.Conv2D(
            filters, kernel, stride, activation="relu", **options()
        )(x)
        if pooling:
            x = keras.layers.MaxPooling2D(pooling)(x)
    x = keras.layers.Flatten()(x)
    for _ in range(2):
        x = dense(x, 4096, "relu")
        x = keras.layers.Dropout(dropout, seed=next(seeds))(x)
    outputs = dense(x, num_classes, "softmax")
    return keras.Model(inputs, outputs, name=name)
