r"""Convolutions that look at angles alone (Liu et al. 2017, SphereNet)."""

import math
from collections.abc import Callable
from typing import Any

import keras
from keras import ops

# Added to squared norms, by the authors' program.
_EPSILON = 1e-4
# So far from 1 a cosine stays: there the slope of its angle has no bound.
_INSET = 1e-6
# Of the sigmoid operator.
_STEEPNESS = 0.3


def _linear(cosine: Any) -> Any:
    return 1 - 2 / math.pi * _angle(cosine)


def _cosine(cosine: Any) -> Any:
    return cosine


def _sigmoid(cosine: Any) -> Any:
    # (1 + e^{-pi/2k}) / (1 - e^{-pi/2k}) (1 - e^a) / (1 + e^a), of
    # a = theta / k - pi / 2k: the same, and no exponential is too large.
    largest = math.tanh(math.pi / (4 * _STEEPNESS))
    turn = (math.pi / 2 - _angle(cosine)) / (2 * _STEEPNESS)
    return ops.tanh(turn) / largest


def _angle(cosine: Any) -> Any:
    return ops.arccos(ops.clip(cosine, _INSET - 1, 1 - _INSET))


OPERATORS: dict[str, Callable[[Any], Any]] = {
    "linear": _linear,
    "cosine": _cosine,
    "sigmoid": _sigmoid,
}


@keras.saving.register_keras_serializable("tf_elastic")
class SphereConv2D(keras.layers.Layer):
    r"""A convolution whose output depends on angles alone.

    Of a filter w and the part x of the input that it is laid on, whose angle
    is :math:`\theta`, the output is :math:`g(\theta)`, from 1 for the same
    direction over 0 to -1 for the opposite one:

    .. math::
        \text{linear: } & 1 - 2 \theta / \pi \\
        \text{cosine: } & \cos \theta \\
        \text{sigmoid: } & \coth \frac{\pi}{4 k} \tanh
            \frac{\pi / 2 - \theta}{2 k}, \quad k = 0.3

    where :math:`\cos \theta = x \cdot w / |x| |w|` and 1e-4 is added to both
    squared norms. There is no bias.

    Args:
        filters: Number of outputs, >= 1.
        kernel_size: Height and width of the filters, >= 1.
        strides: Pixels between two places, >= 1. Default 1.
        operator: "linear" (default), "cosine" or "sigmoid".
        kernel_initializer: Default: normal, of variance
            2 / (kernel_size^2 * channels).
        kernel_regularizer: Default None.
        **kwargs: Of `keras.layers.Layer`.

    Raises:
        ValueError: `operator` is none of these.

    Input: [batch, height, width, channels], floating. The output is padded
    ("same"): [batch, ceil(height / strides), ceil(width / strides), filters].

    Reference:
        Liu et al. (2017), "Deep hyperspherical learning", section 3, and the
        authors' program.
    """

    def __init__(
        self,
        filters: int,
        kernel_size: int,
        strides: int = 1,
        operator: str = "linear",
        kernel_initializer: Any = None,
        kernel_regularizer: Any = None,
        **kwargs: Any,
    ) -> None:
        if operator not in OPERATORS:
            raise ValueError(
                f"`operator` must be one of {sorted(OPERATORS)}. "
                f"Received: operator={operator!r}."
            )
        super().__init__(**kwargs)
        self.filters, self.kernel_size = filters, kernel_size
        self.strides, self.operator = strides, operator
        self.kernel_initializer = keras.initializers.get(
            kernel_initializer or he_normal()
        )
        self.kernel_regularizer = keras.regularizers.get(kernel_regularizer)

    def build(self, input_shape: Any) -> None:
        """Makes the filters, [size, size, channels, filters]."""
        self.kernel = self.add_weight(
            shape=(
                *(self.kernel_size, self.kernel_size),
                *(input_shape[-1], self.filters),
            ),
            initializer=self.kernel_initializer,
            regularizer=self.kernel_regularizer,
            name="kernel",
        )

    def call(self, inputs: Any) -> Any:
        """See the class."""
        kernel = ops.convert_to_tensor(self.kernel)
        size = self.kernel_size

        def over(x: Any, filters: Any) -> Any:
            return ops.conv(x, filters, strides=self.strides, padding="same")

        ones = ops.ones((size, size, 1, 1), inputs.dtype)
        squares = ops.sum(ops.square(inputs), axis=-1, keepdims=True)
        of_inputs = ops.sqrt(over(squares, ones) + _EPSILON)
        of_filters = ops.sqrt(
            ops.sum(ops.square(kernel), axis=(0, 1, 2)) + _EPSILON
        )
        cosine = over(inputs, kernel) / of_inputs / of_filters
        return OPERATORS[self.operator](cosine)

    def compute_output_shape(self, input_shape: Any) -> Any:
        """The shape of the output of an input's."""
        batch, *sides, _ = input_shape
        rounded = [s and -(-s // self.strides) for s in sides]
        return (batch, *rounded, self.filters)

    def get_config(self) -> dict[str, Any]:
        """The arguments that make an equal layer."""
        return {
            **super().get_config(),
            "filters": self.filters,
            "kernel_size": self.kernel_size,
            "strides": self.strides,
            "operator": self.operator,
            "kernel_initializer": keras.initializers.serialize(
                self.kernel_initializer
            ),
            "kernel_regularizer": keras.regularizers.serialize(
                self.kernel_regularizer
            ),
        }


@keras.saving.register_keras_serializable("tf_elastic")
class Orthogonality(keras.regularizers.Regularizer):
    r"""Keeps filters of length one, and apart: :math:`c/2 |W^T W - I|_F^2`.

    Args:
        strength: c, >= 0. The authors' is 2e-4.

    W is the kernel with a column for each filter.
    """

    def __init__(self, strength: float = 2e-4) -> None:
        self.strength = strength

    def __call__(self, x: Any) -> Any:
        """The term, a scalar, of a kernel [..., filters]."""
        columns = ops.reshape(x, (-1, x.shape[-1]))
        products = ops.matmul(ops.transpose(columns), columns)
        apart = products - ops.eye(x.shape[-1], dtype=x.dtype)
        return self.strength / 2 * ops.sum(ops.square(apart))

    def get_config(self) -> dict[str, float]:
        """The arguments that make an equal one."""
        return {"strength": self.strength}


def he_normal(seed: int | None = None) -> keras.initializers.Initializer:
    """Normal, not cut, of variance 2 / (inputs of a filter).

    Args:
        seed: Of the numbers, or None.
    """
    return keras.initializers.VarianceScaling(
        2.0, "fan_in", "untruncated_normal", seed=seed
    )
