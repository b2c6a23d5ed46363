"""Checks of arguments that the modules of the theory share."""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from numpy.typing import NDArray


def checked(
    name: str,
    value: ArrayLike,
    rule: str = "finite",
    holds: Callable[[NDArray[np.float64]], Any] = np.isfinite,
) -> NDArray[np.float64]:
    """An argument as a float64 array, if a rule holds for all of it.

    Args:
        name: the argument's name, for the message.
        value: its value, a number or an array.
        rule: what it must be, for the message.
        holds: tells where an array keeps to the rule. A comparison does not
            hold for NaN.

    Returns:
        The value, float64.

    Raises:
        ValueError: the rule does not hold somewhere.

    Example:

    >>> checked("beta", 0.9, "in (0, 2)", lambda b: (0 < b) & (b < 2))
    array(0.9)
    """
    array = np.asarray(value, np.float64)
    if not np.all(holds(array)):
        raise ValueError(f"`{name}` must be {rule}. Received: {name}={value}.")
    return array


def positive(name: str, value: ArrayLike) -> NDArray[np.float64]:
    """The argument as a float64 array; positive and finite, or ValueError."""
    return checked(
        name, value, "positive", lambda array: (0 < array) & (array < np.inf)
    )


def not_negative(name: str, value: ArrayLike) -> NDArray[np.float64]:
    """The argument as a float64 array; finite and >= 0, or ValueError."""
    return checked(
        name,
        value,
        "at least 0 and finite",
        lambda array: (0 <= array) & (array < np.inf),
    )


def whole(name: str, value: ArrayLike, least: int = 1) -> NDArray[np.float64]:
    """The argument as an array; whole and at least `least`, or ValueError."""
    return checked(
        name,
        value,
        f"a whole number that is at least {least}",
        lambda array: (least <= array) & (array % 1 == 0),
    )
