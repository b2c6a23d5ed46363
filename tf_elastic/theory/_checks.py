"""What the arguments of the theory must be."""

from typing import Any

import numpy as np
from numpy.typing import ArrayLike


def require(holds: ArrayLike, rule: str, **argument: Any) -> None:
    """Refuses an argument, unless what must hold does so everywhere.

    Args:
        holds: a truth value, or an array of them. It is false for what is
            not a number, if it comes from a comparison.
        rule: what the argument must be, as "positive".
        **argument: its name and its value.

    Raises:
        ValueError: "`name` must be rule. Received: name=value."
    """
    if not np.all(holds):
        for name, value in argument.items():
            raise ValueError(
                f"`{name}` must be {rule}. Received: {name}={value}."
            )


def finite(**arguments: ArrayLike) -> None:
    """Refuses what is not a finite number, or an array of them."""
    for name, value in arguments.items():
        require(np.isfinite(value), "finite", **{name: value})


def positive(**arguments: ArrayLike) -> None:
    """Refuses what is not finite and above 0."""
    for name, value in arguments.items():
        array = np.asarray(value)
        holds = np.isfinite(array) & (array > 0)
        require(holds, "positive and finite", **{name: value})


def whole(minimum: int = 1, **arguments: ArrayLike) -> None:
    """Refuses what is not a whole number of at least `minimum`."""
    for name, value in arguments.items():
        array = np.asarray(value)
        holds = np.isfinite(array) & (array >= minimum)
        holds = holds & (np.floor(array) == array)
        rule = f"a whole number of at least {minimum}"
        require(holds, rule, **{name: value})
