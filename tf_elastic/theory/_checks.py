"""What the arguments of the theory must be.

`require`, `finite`, `positive` and `whole` check keyword arguments; `at_least`,
`above` and `whole_number` check one and return it converted.
"""

import operator
from typing import SupportsIndex

import numpy as np
from numpy.typing import ArrayLike
from numpy.typing import NDArray


def require(holds: ArrayLike, rule: str, **argument: object) -> None:
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
    holds = np.isfinite(array) & (array >= low)
    require(holds, f"finite and at least {low:g}", **{name: value})
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
    holds = np.isfinite(array) & (array > low)
    require(holds, f"finite and above {low:g}", **{name: value})
    return array


def whole_number(name: str, value: SupportsIndex, low: int = 1) -> int:
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


def square(name: str, matrix: ArrayLike) -> NDArray[np.float64]:
    """`matrix` as float64, if it is square (or a stack of such).

    Args:
        name: the argument's name, for the message.
        matrix: shape (..., n, n).

    Returns:
        The matrix, same shape.

    Raises:
        ValueError: it is not square, or not finite.
    """
    array = np.asarray(matrix, dtype=np.float64)
    holds = array.ndim >= 2 and array.shape[-1] == array.shape[-2]
    holds = holds and bool(np.all(np.isfinite(array)))
    require(holds, "a finite square matrix", **{name: matrix})
    return array


def rates(
    num_workers: ArrayLike, moving_rate: ArrayLike | None, beta: ArrayLike
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    r"""The two rates of an exchange, which both may be arrays.

    Args:
        num_workers: p, at least 1.
        moving_rate: :math:`\alpha`, at least 0, or None for
            :math:`\beta / p`, the elastic symmetry.
        beta: :math:`\beta`, at least 0.

    Returns:
        :math:`\alpha` and :math:`\beta`.

    Raises:
        ValueError: one of the three is out of range.
    """
    workers = at_least("num_workers", num_workers, 1)
    pull = at_least("beta", beta, 0)
    if moving_rate is None:
        return pull / workers, pull
    return at_least("moving_rate", moving_rate, 0), pull


def as_finite(**arguments: ArrayLike) -> list[NDArray[np.float64]]:
    """The arguments as float64, in their order, if all are finite."""
    finite(**arguments)
    return [np.asarray(value, np.float64) for value in arguments.values()]
