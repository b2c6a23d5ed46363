"""The thesis' convolutional network for CIFAR."""

from typing import Any

import keras

from tf_elastic.models import layer_options


def cifar_convnet(
    input_shape: tuple[int, int, int] = (28, 28, 3),
    num_classes: int = 10,
    dropout: float = 0.5,
    l2: float = 1e-4,
    seed: int | None = None,
    name: str = "cifar_convnet",
) -> keras.Model:
    """Builds the 7-layer network of the CIFAR experiments.

    In the thesis' notation (channels, width, height), C a convolution, R relu,
    P max pooling, L linear, D dropout, S softmax: (3, 28, 28) -C,R->
    (64, 24, 24) -P-> (64, 12, 12) -C,R-> (128, 8, 8) -P-> (128, 4, 4) -C,R->
    (64, 2, 2) -L,R,D-> (256) -L,S-> (10): 351 946 parameters. Convolutions
    have kernels of 5, 5 and 3 and no padding.

    Biases start at zero, as the thesis says for CIFAR. It does not say where
    the weights start: here in Keras' default, `GlorotUniform` (Torch's, which
    is smaller, costs about 100 local steps more to leave the first plateau).
    The term lambda/2 * ||x||^2 over all parameters is among the model's
    losses, so `fit` adds it to the loss.

    Args:
        input_shape: (height, width, channels), height and width >= 24. The
            thesis' is (28, 28, 3).
        num_classes: Number of outputs, >= 1.
        dropout: Rate of dropout before the last layer, in [0, 1). The thesis'
            is 0.5.
        l2: lambda, >= 0. The thesis' is 1e-4.
        seed: Non-negative int from which every layer gets its own seed: two
            networks with the same seed start equal. With None,
            `keras.utils.set_random_seed` decides.
        name: Name of the model.

    Returns:
        A Keras model, [batch, *input_shape] to probabilities
        [batch, num_classes].

    Raises:
        ValueError: If `dropout` or `l2` is out of range.

    Example:
        >>> import tf_elastic.models
        >>> tf_elastic.models.cifar_convnet(seed=0).count_params()
        351946

    Reference:
        S. Zhang, Distributed stochastic optimization for deep learning, 2016,
        section 4.1, "Experimental setup".
    """
    layer_options.check_options(dropout, l2)
    seeds = layer_options.split_seed(seed, 6)

    def convolution(filters: int, size: int, seed: int | None) -> Any:
        return keras.layers.Conv2D(
            filters,
            size,
            activation="relu",
            **layer_options.layer_options(seed, l2),
        )

    def dense(units: int, activation: str, seed: int | None) -> Any:
        return keras.layers.Dense(
            units,
            activation=activation,
            **layer_options.layer_options(seed, l2),
        )

    inputs = keras.Input(input_shape)
    x = convolution(64, 5, seeds[0])(inputs)
    x = keras.layers.MaxPooling2D(2)(x)
    x = convolution(128, 5, seeds[1])(x)
    x = keras.layers.MaxPooling2D(2)(x)
    x = convolution(64, 3, seeds[2])(x)
    x = keras.layers.Flatten()(x)
    x = dense(256, "relu", seeds[3])(x)
    x = keras.layers.Dropout(dropout, seed=seeds[4])(x)
    outputs = dense(num_classes, "softmax", seeds[5])(x)
    return keras.Model(inputs, outputs, name=name)
