r"""Delays of gradients, and those that are given one by one.

A delay is an immutable value. What it says about step k is a pure function of
its arguments, the worker's number and k, so a run that resumes at step k goes
on as it would have. Whoever uses it takes :math:`\min(\tau_k, k)`: there is
no gradient from before the start.
"""

import abc
import dataclasses
from collections.abc import Iterable
from collections.abc import Sequence
from typing import Any
from typing import ClassVar
from typing import TypeGuard

import numpy as np
from numpy.typing import ArrayLike


class Delay(abc.ABC):
    """Base class: a delay for every step of every worker."""

    kind: ClassVar[str]  # its name in a configuration
    unbounded: ClassVar[bool] = False  # whether `max_delay` cuts some draws
    max_delay: Any  # the largest delay, an integer >= 0

    @abc.abstractmethod
    def draw(self, steps: ArrayLike, worker: int = 0) -> np.ndarray:
        """The delays of some steps.

        Args:
            steps: k, integers >= 0, any shape.
            worker: number of the worker, from 0.

        Returns:
            int64 of the shape of `steps`, in [0, max_delay].
        """

    def get_config(self) -> dict[str, object]:
        """What `delay_from_config` makes an equal delay from; JSON."""
        fields = dataclasses.fields(self)  # type: ignore[arg-type]
        values = {f.name: _json(getattr(self, f.name)) for f in fields}
        return {"kind": self.kind, **values}


class ListedDelay(Delay):
    """Base class of delays that are given one by one."""

    @abc.abstractmethod
    def values_of(self, worker: int) -> np.ndarray:
        """The delays of a worker's steps, int64; they begin again at the end.

        Args:
            worker: number of the worker, from 0.
        """

    def draw(self, steps: ArrayLike, worker: int = 0) -> np.ndarray:
        """The delays of some steps; see `Delay.draw`."""
        values = self.values_of(worker)
        return np.asarray(values[np.asarray(steps, np.int64) % len(values)])


@dataclasses.dataclass(frozen=True)
class ConstantDelay(ListedDelay):
    r"""Every gradient is equally late.

    Args:
        delay: :math:`\tau`, in steps, an integer >= 0; 0 for no delay.

    Raises:
        ValueError: `delay` is out of its range.

    Example:

    >>> ConstantDelay(4).draw([0, 1, 2])
    array([4, 4, 4])
    """

    kind: ClassVar[str] = "constant"
    delay: int

    def __post_init__(self) -> None:
        """Checks the arguments."""
        check_delay("delay", self.delay)

    @property
    def max_delay(self) -> int:
        """The largest delay."""
        return self.delay

    def values_of(self, worker: int) -> np.ndarray:
        """The delays of a worker; see `ListedDelay.values_of`."""
        del worker
        return np.array([self.delay], np.int64)


@dataclasses.dataclass(frozen=True)
class DelaySequence(ListedDelay):
    r"""Delays that are given, the same to all workers.

    After the last one they begin again with the first.

    Args:
        values: :math:`\tau_0, \tau_1, ...`, integers >= 0, at least one.

    Raises:
        ValueError: a value is out of its range, or there is none.

    Example:

    >>> DelaySequence([0, 3, 1]).draw(np.arange(5))
    array([0, 3, 1, 0, 3])
    """

    kind: ClassVar[str] = "sequence"
    values: Sequence[int]

    def __post_init__(self) -> None:
        """Checks the arguments."""
        object.__setattr__(self, "values", tuple(_plain(self.values)))
        if not self.values:
            raise ValueError(
                "`values` must hold at least one delay. Received: values=()."
            )
        for value in self.values:
            check_delay("values", value)

    @property
    def max_delay(self) -> int:
        """The largest delay."""
        return max(self.values)

    def values_of(self, worker: int) -> np.ndarray:
        """The delays of a worker; see `ListedDelay.values_of`."""
        del worker
        return np.array(self.values, np.int64)


def is_integer(value: object) -> TypeGuard[int]:
    """Whether a value is an integer, and not a truth value."""
    return isinstance(value, int) and not isinstance(value, bool)


def check_delay(name: str, delay: object) -> None:
    """Refuses what is no delay.

    Args:
        name: the argument's name, for the message.
        delay: its value.

    Raises:
        ValueError: it is not an integer >= 0.
    """
    if not (is_integer(delay) and delay >= 0):
        raise ValueError(
            f"`{name}` must be an integer >= 0, counted in steps. "
            f"Received: {name}={delay!r}."
        )


def _plain(values: Iterable[object]) -> list[object]:
    return [v.item() if isinstance(v, np.generic) else v for v in values]


def _json(value: object) -> object:
    return list(value) if isinstance(value, tuple) else value
