"""An optimizer's variables that go with the model's: slots of all kinds.

What a worker or the center keeps beside a variable begins by it, and begins
anew where the variable is set, or is trained no more.
"""

from collections.abc import Callable
from collections.abc import Sequence

import keras
import numpy as np
import tensorflow as tf

from tf_elastic import compat
from tf_elastic.core import rules
from tf_elastic.core.arrays import wide_dtype

Initial = Callable[[tf.Tensor], tf.Tensor]


def _itself(value: tf.Tensor) -> tf.Tensor:
    return value


def copies_of(
    optimizer: keras.optimizers.Optimizer,
    variables: Sequence[keras.Variable],
    name: str,
    initial: Initial = _itself,
    dtype_of: Callable[[str], str] = str,
) -> list[keras.Variable]:
    """Variables of an optimizer that begin by what is made of the model's.

    Args:
        optimizer: a `CenterOptimizer`, which gets them.
        variables: the model's.
        name: of the new ones.
        initial: from a value to a first value; left out, it is the same.
        dtype_of: from the model's variable's dtype to the new one's; left
            out, it is the same.
    """

    def beginning(variable: keras.Variable) -> Callable[..., tf.Tensor]:
        return lambda shape, dtype=None: tf.cast(
            initial(compat.native_variable(variable).read_value()), dtype
        )

    copies = [
        _like(optimizer, variable, name, beginning(variable), dtype_of)
        for variable in variables
    ]
    begin_anew_with(optimizer, variables, copies, initial)
    return copies


def begin_anew_with(
    optimizer: keras.optimizers.Optimizer,
    variables: Sequence[keras.Variable],
    kept: Sequence[keras.Variable],
    initial: Initial = _itself,
) -> None:
    """Lets what is kept start anew when a model's variables are set."""
    if not optimizer.is_elastic:
        return
    for variable, follower in zip(variables, kept, strict=True):
        compat.native_variable(variable).begins_anew_with(
            compat.native_variable(follower), initial
        )


def rest_with(
    optimizer: keras.optimizers.Optimizer,
    variables: Sequence[keras.Variable],
    slots: Sequence[keras.Variable | None],
) -> None:
    """Lets slots be zero from when a variable is trained no more."""
    if not optimizer.is_elastic:
        return
    for variable, slot in zip(variables, slots, strict=True):
        if slot is not None:
            compat.native_variable(variable).begins_anew_with(
                compat.native_variable(slot),
                tf.zeros_like,
                only_at_rest=True,
            )


def _like(
    optimizer: keras.optimizers.Optimizer,
    variable: keras.Variable,
    name: str,
    initializer: str | Callable[..., tf.Tensor],
    dtype_of: Callable[[str], str],
) -> keras.Variable:
    """A variable of an optimizer, as Keras makes them of a model's."""
    return optimizer.add_variable(
        variable.shape,
        initializer,
        dtype_of(keras.backend.standardize_dtype(variable.dtype)),
        name=f"{variable.path.replace('/', '_')}_{name}",
    )


def center_slots(
    optimizer: keras.optimizers.Optimizer,
    rule: rules.Rule,
    variables: Sequence[keras.Variable],
) -> dict[str, list[keras.Variable]]:
    """What a rule keeps at the center by name, beside what is shown.

    In float32 where variables have 16 bits: see `core.rules.master`.
    """
    firsts = rule.init(np.ones(1))
    slots = {}
    for name, first in firsts.items():
        if name == rule.shown:
            continue
        own = name if name == "center" else f"center_{name}"
        if np.all(first == 0):
            slots[name] = [
                _like(optimizer, variable, own, "zeros", wide_dtype)
                for variable in variables
            ]
            rest_with(optimizer, variables, slots[name])
        else:
            slots[name] = copies_of(
                optimizer, variables, own, _initial_of(rule, name), wide_dtype
            )
    return slots


def center_numbers(
    optimizer: keras.optimizers.Optimizer, rule: rules.Rule
) -> dict[str, keras.Variable]:
    """The numbers that a rule keeps at the center, by name."""
    return {
        name: optimizer.add_variable(
            (),
            keras.initializers.Constant(first),
            "float64",
            name=f"center_{name}",
        )
        for name, first in rule.numbers.items()
    }


def _initial_of(rule: rules.Rule, name: str) -> Initial:
    return lambda x: rule.init(x)[name]
