"""The network of chapter 6, whose convolutions are of low rank."""

from typing import Any

import keras

from tf_elastic.models import layer_options


def cifar_lowrank_convnet(
    input_shape: tuple[int, int, int] = (32, 32, 3),
    num_classes: int = 10,
    dropout: float = 0.5,
    l2: float = 1e-4,
    seed: int | None = None,
    name: str = "cifar_lowrank_convnet",
) -> keras.Model:
    """Builds the network of the CIFAR-lowrank experiments.

    Each convolution of 5 x 5 is one along columns, of few channels, and one
    along rows. In the notation of `cifar_convnet`: (3, 32, 32) -C->
    (10, 32, 32) -C,R-> (96, 32, 32) -P-> (96, 16, 16) -C-> (51, 16, 16) -C,R->
    (128, 16, 16) -P-> (128, 8, 8) -C-> (51, 8, 8) -C,R-> (256, 8, 8) -P->
    (256, 4, 4) -C,R-> (64, 4, 4) -D,L,R-> (256) -D,L,S-> (10): 442 000
    parameters. The first of each pair has kernels of one column and five
    rows, the second of five columns and one row, both padded so that sizes
    stay; the last convolution is of 1 x 1.

    Weights, biases and the term lambda/2 * ||x||^2 as in `cifar_convnet`. The
    data is `load("cifar10", variant="lowrank")`.

    Args:
        input_shape: (height, width, channels), height and width >= 8. The
            thesis' is (32, 32, 3).
        num_classes: Number of outputs, >= 1.
        dropout: Rate of dropout before each of the two dense layers, in
            [0, 1). That of the network's authors is 0.5.
        l2: lambda, >= 0. The thesis' is 1e-4.
        seed: Non-negative int from which every layer gets its own seed, or
            None: see `cifar_convnet`.
        name: Name of the model.

    Returns:
        A Keras model, [batch, *input_shape] to probabilities
        [batch, num_classes].

    Raises:
        ValueError: If `dropout` or `l2` is out of range.

    Example:
        >>> import tf_elastic.models
        >>> tf_elastic.models.cifar_lowrank_convnet(seed=0).count_params()
        442000

    Reference:
        S. Zhang, Distributed stochastic optimization for deep learning, 2016,
        section 6.1.2; C. Tai et al., Convolutional neural networks with
        low-rank regularization, ICLR 2016, and the authors' program.
    """
    layer_options.check_options(dropout, l2)
    seeds = layer_options.split_seed(seed, 11)

    def convolution(
        x: Any,
        filters: int,
        kernel: tuple[int, int],
        seed: int | None,
        activation: str | None = "relu",
    ) -> Any:
        layer = keras.layers.Conv2D(
            filters,
            kernel,
            padding="same",
            activation=activation,
            **layer_options.layer_options(seed, l2),
        )
        return layer(x)

    def dense(
        x: Any, units: int, activation: str, first: int | None, seed: int | None
    ) -> Any:
        layer = keras.layers.Dense(
            units,
            activation=activation,
            **layer_options.layer_options(seed, l2),
        )
        return layer(keras.layers.Dropout(dropout, seed=first)(x))

    inputs = keras.Input(input_shape)
    x = inputs
    for k, (rank, filters) in enumerate(((10, 96), (51, 128), (51, 256))):
        x = convolution(x, rank, (5, 1), seeds[2 * k], activation=None)
        x = convolution(x, filters, (1, 5), seeds[2 * k + 1])
        x = keras.layers.MaxPooling2D(2)(x)
    x = convolution(x, 64, (1, 1), seeds[6])
    x = keras.layers.Flatten()(x)
    x = dense(x, 256, "relu", seeds[7], seeds[8])
    outputs = dense(x, num_classes, "softmax", seeds[9], seeds[10])
    return keras.Model(inputs, outputs, name=name)
