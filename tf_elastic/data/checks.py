"""Checks of arguments, with errors that say what to do."""

import numbers
from collections.abc import Iterable


def check_int(name: str, value: object, minimum: int, advice: str) -> int:
    """Returns `value` as an int if it is a whole number >= `minimum`.

    Args:
        name: Name of the argument, for the error.
        value: Its value.
        minimum: The smallest value allowed.
        advice: What to do, for the error.

    Returns:
        The value as a Python int.

    Raises:
        TypeError: If it is not an integer.
        ValueError: If it is below `minimum`.
    """
    received = f"Received: {name}={value!r}. {advice}"
    if isinstance(value, bool) or not isinstance(value, numbers.Integral):
        raise TypeError(f"`{name}` must be an integer. {received}")
    if value < minimum:
        raise ValueError(f"`{name}` must be >= {minimum}. {received}")
    return int(value)


def check_choice(name: str, value: object, choices: Iterable[str]) -> str:
    """Returns `value` if it is one of the choices.

    Args:
        name: Name of the argument, for the error.
        value: Its value.
        choices: The strings allowed.

    Returns:
        The value.

    Raises:
        ValueError: If it is not one of the choices.
    """
    choices = tuple(choices)
    if not isinstance(value, str) or value not in choices:
        listed = ", ".join(repr(choice) for choice in choices)
        raise ValueError(
            f"`{name}` must be one of {listed}. Received: {name}={value!r}. "
            "Pass one of the names listed."
        )
    return value
