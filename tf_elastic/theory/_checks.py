"""Checks of arguments that the modules of `theory` share."""

import operator
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from numpy.typing import NDArray


def at_least(name: str, value: ArrayLike, low: float) -> NDArray[np.float64]:
    """`value` as float64, if all of it is finite and at least `low`.

    Args:
        name: the argument's name, for the message.
        value: numbers, any shape.
        low: the lowest value that passes.

    Returns:
        The numbers, same shape.

    Raises:
        ValueError: a number is lower, or not finite.
    """
    array = np.asarray(value, dtype=np.float64)
    if not np.all(np.isfinite(array) & (array >= low)):
        raise ValueError(
            f"`{name}` must be finite and at least {low:g}. "
            f"Received: {name}={value}."
        )
    return array


def above(name: str, value: ArrayLike, low: float) -> NDArray[np.float64]:
    """`value` as float64, if all of it is finite and above `low`.

    Args:
        name: the argument's name, for the message.
        value: numbers, any shape.
        low: what all of them must be above.

    Returns:
        The numbers, same shape.

    Raises:
        ValueError: a number is not above `low`, or not finite.
    """
    array = np.asarray(value, dtype=np.float64)
    if not np.all(np.isfinite(array) & (array > low)):
        raise ValueError(
            f"`{name}` must be finite and above {low:g}. "
            f"Received: {name}={value}."
        )
    return array


def whole(name: str, value: Any, low: int = 1) -> int:
    """`value` as an integer, if it is one and at least `low`.

    Args:
        name: the argument's name, for the message.
        value: an integer, of Python or of NumPy.
        low: the lowest value that passes.

    Returns:
        The integer.

    Raises:
        ValueError: it is lower, or not an integer.
    """
    try:
        number = operator.index(value)
    except TypeError:
        number = low - 1
    if number < low:
        raise ValueError(
            f"`{name}` must be an integer of at least {low}. "
            f"Received: {name}={value}."
        )
    return number
