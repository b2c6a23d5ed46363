"""A small convolutional network for quick trials on digits."""

import keras

from tf_elastic.models import layer_options


def digits_convnet(
    input_shape: tuple[int, int, int] = (8, 8, 1),
    num_classes: int = 10,
    dropout: float = 0.0,
    l2: float = 0.0,
    seed: int | None = None,
    name: str = "digits_convnet",
) -> keras.Model:
    """Builds a network of 5 130 parameters for `load("digits")`.

    A convolution of 16 kernels 3 x 3, relu, max pooling, a dense layer of 32,
    relu, and softmax. It is not from the papers: it is what tests and examples
    train in seconds. Weights and biases start as in `cifar_convnet`.

    Args:
        input_shape: (height, width, channels), height and width >= 4.
        num_classes: Number of outputs, >= 1.
        dropout: Rate of dropout before the last layer, in [0, 1); 0 is none.
        l2: lambda, >= 0, of the term lambda/2 * ||x||^2; 0 is none.
        seed: Non-negative int from which every layer gets its own seed, or
            None.
        name: Name of the model.

    Returns:
        A Keras model, [batch, *input_shape] to probabilities
        [batch, num_classes].

    Raises:
        ValueError: If `dropout` or `l2` is out of range.

    Example:
        >>> import tf_elastic.models
        >>> tf_elastic.models.digits_convnet(seed=0).count_params()
        5130
    """
    layer_options.check_options(dropout, l2)
    seeds = layer_options.split_seed(seed, 4)
    inputs = keras.Input(input_shape)
    x = keras.layers.Conv2D(
        16, 3, activation="relu", **layer_options.layer_options(seeds[0], l2)
    )(inputs)
    x = keras.layers.MaxPooling2D(2)(x)
    x = keras.layers.Flatten()(x)
    x = keras.layers.Dense(
        32, activation="relu", **layer_options.layer_options(seeds[1], l2)
    )(x)
    if dropout:
        x = keras.layers.Dropout(dropout, seed=seeds[2])(x)
    outputs = keras.layers.Dense(
        num_classes,
        activation="softmax",
        **layer_options.layer_options(seeds[3], l2),
    )(x)
    return keras.Model(inputs, outputs, name=name)
