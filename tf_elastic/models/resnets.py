"""Residual networks for CIFAR: SphereResNet, and the plain one beside it."""

from collections.abc import Callable
from typing import Any

import keras

from tf_elastic.models import layer_options
from tf_elastic.models.sphere_conv import Orthogonality
from tf_elastic.models.sphere_conv import SphereConv2D
from tf_elastic.models.sphere_conv import he_normal

_WIDTHS = (96, 192, 384)
_POOL = 8
# (filters, kernel size, strides, seed) -> a layer without a bias.
_Convolution = Callable[[int, int, int, int | None], keras.layers.Layer]


def sphere_resnet(
    depth: int = 32,
    num_classes: int = 100,
    input_shape: tuple[int, int, int] = (32, 32, 3),
    operator: str = "linear",
    l2: float = 5e-4,
    orthogonality: float = 2e-4,
    seed: int | None = None,
    name: str = "sphere_resnet",
) -> keras.Model:
    """Builds a SphereResNet for CIFAR.

    A convolution of 96 filters, three stages of (depth - 2) / 6 units with 96,
    192 and 384 filters, the second and third with a stride of 2; average
    pooling of 8 x 8, and a convolution of 1 x 1 for the classes. A unit is two
    `SphereConv2D` of 3 x 3 with batch normalisation, relu between them and
    after the addition. Where the width changes the way around is a plain
    convolution of 1 x 1 with batch normalisation. With depth 32 these two make
    the 34 of the momentum paper's "SphereResNet34".

    Batch normalisation has an epsilon of 1e-3 and a momentum of 0.999. Filters
    of `SphereConv2D` are kept orthogonal (see `Orthogonality`), and have no
    weight decay; all else has (lambda/2 * ||x||^2). Both are among the model's
    losses. Pixels are expected about 0, within [-1, 1].

    Args:
        depth: Layers with weights, 6 n + 2, of n >= 1 units in a stage.
        num_classes: Number of outputs, >= 1.
        input_shape: (height, width, channels), height and width >= 32.
        operator: Of `SphereConv2D`: "linear" (default), "cosine", "sigmoid".
        l2: lambda / 2, >= 0. The authors' is 5e-4.
        orthogonality: Its strength, >= 0. The authors' is 2e-4.
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
        >>> tf_elastic.models.sphere_resnet(8).count_params()
        2795424

    Reference:
        Liu et al. (2017), "Deep hyperspherical learning", and the authors'
        program; Mitliagkas et al. (2016), section 5.2, trains it.
    """

    def convolution(
        filters: int, size: int, strides: int, seed: int | None
    ) -> keras.layers.Layer:
        return SphereConv2D(
            filters,
            size,
            strides,
            operator,
            he_normal(seed),
            Orthogonality(orthogonality) if orthogonality else None,
        )

    return _resnet(depth, num_classes, input_shape, convolution, l2, seed, name)


def resnet(
    depth: int = 32,
    num_classes: int = 100,
    input_shape: tuple[int, int, int] = (32, 32, 3),
    l2: float = 5e-4,
    seed: int | None = None,
    name: str = "resnet",
) -> keras.Model:
    """Builds the plain network beside `sphere_resnet`: the same, but for this.

    Its convolutions are the usual ones, with weight decay.

    For arguments see `sphere_resnet`.

    Example:
        >>> import tf_elastic.models
        >>> tf_elastic.models.resnet(8).count_params()
        2795424
    """

    def convolution(
        filters: int, size: int, strides: int, seed: int | None
    ) -> keras.layers.Layer:
        return _plain(filters, size, strides, seed, l2)

    return _resnet(depth, num_classes, input_shape, convolution, l2, seed, name)


def _plain(
    filters: int, size: int, strides: int, seed: int | None, l2: float
) -> keras.layers.Layer:
    return keras.layers.Conv2D(
        filters,
        size,
        strides,
        padding="same",
        use_bias=False,
        kernel_initializer=he_normal(seed),
        kernel_regularizer=keras.regularizers.L2(l2) if l2 else None,
    )


def _resnet(
    depth: int,
    num_classes: int,
    input_shape: tuple[int, int, int],
    convolution: _Convolution,
    l2: float,
    seed: int | None,
    name: str,
) -> keras.Model:
    layer_options.check_options(0.0, l2)
    units = (depth - 2) // 6
    if units < 1 or depth != 6 * units + 2:
        raise ValueError(
            "`depth` must be 6 n + 2: 8, 14, 20, 26, 32 and so on. "
            f"Received: depth={depth!r}."
        )
    seeds = iter(layer_options.split_seed(seed, depth + 2))

    def normalised(x: Any, layer: keras.layers.Layer) -> Any:
        decay = keras.regularizers.L2(l2) if l2 else None
        return keras.layers.BatchNormalization(
            momentum=0.999,
            epsilon=1e-3,
            beta_regularizer=decay,
            gamma_regularizer=decay,
        )(layer(x))

    def unit(x: Any, filters: int, strides: int) -> Any:
        around = x
        if x.shape[-1] != filters or strides > 1:
            side = _plain(filters, 1, strides, next(seeds), l2)
            around = normalised(x, side)
        x = normalised(x, convolution(filters, 3, strides, next(seeds)))
        x = keras.layers.Activation("relu")(x)
        x = normalised(x, convolution(filters, 3, 1, next(seeds)))
        return keras.layers.Activation("relu")(keras.layers.add([x, around]))

    inputs = keras.Input(input_shape)
    x = normalised(inputs, convolution(_WIDTHS[0], 3, 1, next(seeds)))
    x = keras.layers.Activation("relu")(x)
    for stage, filters in enumerate(_WIDTHS):
        for k in range(units):
            x = unit(x, filters, 2 if stage and not k else 1)
    x = keras.layers.AveragePooling2D(_POOL)(x)
    last = _plain(num_classes, 1, 1, next(seeds), l2)
    x = keras.layers.Flatten()(last(x))
    outputs = keras.layers.Activation("softmax", dtype="float32")(x)
    return keras.Model(inputs, outputs, name=name)
