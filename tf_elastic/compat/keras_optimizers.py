"""Keras' optimizers and variables, by what is private of them."""

import inspect
from collections.abc import Callable
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from tensorflow.python.util import tf_decorator

_SEED_STATE_NAME = "seed_generator_state"
_SWAP_EMA_MODULE = "keras.src.callbacks.swap_ema_weights"


def loss_scale_of(num_replicas: int) -> float:
    """What Keras multiplies the loss by under so many replicas.

    It is 1 / num_replicas, rounded to float32 whatever the loss's dtype.
    """
    return float(np.float32(1.0 / num_replicas))


def is_on_read(creator_kwargs: dict[str, Any]) -> bool:
    """Whether a variable to be created is summed up on read (Keras metrics)."""
    return (
        creator_kwargs.get("synchronization")
        == tf.VariableSynchronization.ON_READ
    )


def is_clock(creator_kwargs: dict[str, Any]) -> bool:
    """Whether a variable to be created counts or scales for an optimizer.

    Keras gives `iterations` and `learning_rate`, and nothing else, the
    aggregation ONLY_FIRST_REPLICA.
    """
    return (
        creator_kwargs.get("aggregation")
        == tf.VariableAggregation.ONLY_FIRST_REPLICA
    )


def is_rate(creator_kwargs: dict[str, Any]) -> bool:
    """Whether it scales: such as `learning_rate`, which is set from outside."""
    dtype = creator_kwargs.get("dtype")
    return (
        is_clock(creator_kwargs)
        and dtype is not None
        and bool(tf.as_dtype(dtype).is_floating)
    )


def clock_and_rate(optimizer: keras.optimizers.Optimizer) -> tuple[Any, Any]:
    """An optimizer's count of calls, and what its learning rate is.

    Both as TensorFlow has them; the second is no variable where a schedule or
    a function gives the rate.
    """
    return (
        native_variable(optimizer._iterations),
        native_variable(optimizer._learning_rate),
    )


def is_seed_state(creator_kwargs: dict[str, Any]) -> bool:
    """Whether a variable to be created is a `keras.random.SeedGenerator`'s."""
    return creator_kwargs.get("name") == _SEED_STATE_NAME


def is_ema_swap(update_fn: Callable[..., Any]) -> bool:
    """Whether an update comes from the callback `SwapEMAWeights`."""
    function = inspect.unwrap(tf_decorator.unwrap(update_fn)[1])
    return getattr(function, "__module__", None) == _SWAP_EMA_MODULE


def is_finite_check(function: Callable[..., Any]) -> bool:
    """Whether a function is `LossScaleOptimizer.check_finite`.

    The optimizer asks every replica whether its gradients are finite, then
    believes the first, since gradients used to be summed before.
    """
    owner = getattr(function, "__self__", None)
    return (
        isinstance(owner, keras.optimizers.LossScaleOptimizer)
        and getattr(function, "__name__", None) == "check_finite"
    )


def native_variable(variable: Any) -> Any:
    """The TensorFlow variable inside a Keras variable, or itself."""
    if isinstance(variable, keras.Variable):
        return variable._value
    return variable


def make_local(
    optimizer: keras.optimizers.Optimizer,
    update: Callable[[Callable[..., None], Sequence, Sequence, Any], None],
) -> None:
    """Makes a Keras optimizer step on its own replica's gradients.

    Keras sums gradients over replicas in `_all_reduce_sum_gradients`, then
    updates in `_backend_update_step`. The first becomes the identity, the
    second goes through `update`.

    Args:
        optimizer: any `keras.optimizers.Optimizer`; changed in place.
        update: called as `update(step, grads, variables, learning_rate)`,
            where `step(grads, variables, learning_rate)` is the optimizer's
            own update.
    """
    step = optimizer._backend_update_step
    optimizer._all_reduce_sum_gradients = list
    optimizer._backend_update_step = lambda grads, variables, learning_rate: (
        update(step, grads, variables, learning_rate)
    )


def has_step_of_all(optimizer: keras.optimizers.Optimizer) -> bool:
    """Whether a Keras optimizer does more in a step than move each variable.

    Nadam keeps a product of its steps' momenta. Relies on
    `_backend_update_step`; to be asked before `make_local`.

    Args:
        optimizer: any `keras.optimizers.Optimizer`.
    """
    usual = keras.optimizers.Optimizer._backend_update_step
    own = type(optimizer)._backend_update_step
    return bool(own is not usual)


def leave_saving(optimizer: keras.optimizers.Optimizer) -> None:
    """Makes a Keras optimizer save nothing: the one around it does.

    Args:
        optimizer: any `keras.optimizers.Optimizer`; changed in place.
    """
    optimizer.save_own_variables = lambda store: None
    optimizer.load_own_variables = lambda store: None
