"""XLA compilation where a device can, plain graphs where it cannot."""

import functools
from collections.abc import Callable
from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf

from tf_elastic import compat


def check_jit_compile(jit_compile: bool | str) -> None:
    """Refuses anything but True, False and "auto".

    Raises:
        ValueError: `jit_compile` is something else.
    """
    if jit_compile not in (True, False, "auto"):
        raise ValueError(
            '`jit_compile` must be True, False or "auto" (use XLA where the '
            f"device can). Received: jit_compile={jit_compile!r}."
        )


@functools.cache
def can_compile(device_type: str) -> bool:
    """Whether XLA compiles for a kind of device here.

    Args:
        device_type: "CPU", "GPU", ...

    Returns:
        True if a small function could be compiled and run there.
    """

    @tf.function(jit_compile=True, autograph=False)
    def probe(x: tf.Tensor) -> tf.Tensor:
        return x + 1.0

    with tf.init_scope():
        try:
            with tf.device(f"/{device_type}:0"):
                probe(tf.constant(1.0))
        except (
            tf.errors.InvalidArgumentError,
            tf.errors.NotFoundError,
            tf.errors.UnimplementedError,
        ):
            return False
    return True


def compile_for(
    device: str, function: Callable[..., Any], jit_compile: bool | str
) -> Callable[..., Any]:
    """Makes a function one graph, compiled by XLA if asked and possible.

    Args:
        device: where it will run.
        function: takes and returns tensors; may assign variables on `device`.
        jit_compile: True, False, or "auto" for where the device can.

    Returns:
        The compiled function.
    """
    compiled = tf.function(
        function,
        jit_compile=is_compiled_for(device, jit_compile),
        autograph=False,
    )
    # One for each device and model, all of the same lines of code.
    compat.may_be_traced_often(compiled)
    return compiled


def is_compiled_for(device: str, jit_compile: bool | str) -> bool:
    """Whether `compile_for` uses XLA there; arguments as of it."""
    if jit_compile == "auto":
        device_type = tf.DeviceSpec.from_string(device).device_type or "CPU"
        return can_compile(device_type)
    return bool(jit_compile)


class FusedUpdate:
    """Runs an optimizer's update of all variables as one function.

    Args:
        jit_compile: True, False, or "auto".
        whole: whether a step is of all variables, sparse ones among them: it
            then does something beside, once.
    """

    def __init__(self, jit_compile: bool | str, whole: bool = False) -> None:
        self._jit_compile = jit_compile
        self._whole = whole
        self._compiled: dict[tuple, Callable[..., None]] = {}

    def __call__(
        self,
        step: Callable[[Sequence, Sequence, tf.Tensor], None],
        grads: Sequence[tf.Tensor | tf.IndexedSlices],
        variables: Sequence[keras.Variable],
        learning_rate: tf.Tensor,
        device: str,
    ) -> None:
        """Calls `step(grads, variables, learning_rate)`, dense part fused.

        Args:
            step: the update; assigns to `variables` and to slots.
            grads: one gradient for each variable. Sparse ones
                (`IndexedSlices`) are updated by a plain call, since the
                number of their rows changes from step to step.
            variables: what to update.
            learning_rate: a scalar.
            device: where the variables' copies are.
        """
        dense, sparse = [], []
        for grad, variable in zip(grads, variables, strict=True):
            is_sparse = isinstance(grad, tf.IndexedSlices)
            (sparse if is_sparse else dense).append((grad, variable))
        if sparse and self._whole:
            step(grads, variables, learning_rate)
            return
        if dense:
            dense_grads, dense_variables = zip(*dense, strict=True)
            self._function(step, dense_variables, device)(
                [tf.convert_to_tensor(grad) for grad in dense_grads],
                tf.convert_to_tensor(learning_rate),
            )
        if sparse:
            step(*zip(*sparse, strict=True), learning_rate)

    def _function(
        self, step: Callable, variables: Sequence[keras.Variable], device: str
    ) -> Callable[..., None]:
        key = (device, *map(id, variables))
        if key not in self._compiled:
            self._compiled[key] = compile_for(
                device,
                lambda grads, rate: step(grads, variables, rate),
                self._jit_compile,
            )
        return self._compiled[key]
