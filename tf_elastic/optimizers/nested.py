"""The optimizers inside of an optimizer, such as `MultiOptimizer`'s."""

from collections.abc import Iterator
from collections.abc import Mapping
from typing import Any
from typing import TypeAlias

import keras

Optimizer: TypeAlias = keras.optimizers.Optimizer


def optimizers_in(optimizer: Optimizer) -> list[Optimizer]:
    """An optimizer and those inside of it, to any depth, each once.

    They are found in its attributes, and in lists and mappings there. One that
    is made later (`MultiOptimizer` of a function makes them when it is built)
    is found from then on.

    Args:
        optimizer: the outermost, the first of the result.
    """
    found: list[Optimizer] = []
    waiting = [optimizer]
    while waiting:
        present = waiting.pop(0)
        if not _is_among(present, found):
            found.append(present)
            waiting.extend(_held(present))
    return found


def steppers_in(optimizer: Optimizer) -> list[Optimizer]:
    """Those of `optimizers_in` that take the steps.

    No other optimizer is inside of them, or none that they do not see to
    themselves, as `DelayedGradient` does.

    Args:
        optimizer: the outermost.
    """
    found: list[Optimizer] = []
    passed: list[Optimizer] = []
    waiting = [optimizer]
    while waiting:
        present = waiting.pop(0)
        if _is_among(present, passed):
            continue
        passed.append(present)
        inside = _steps_by(present)
        waiting.extend(inside)
        if not inside:
            found.append(present)
    return found


def calls_per_step(
    optimizer: Optimizer, around: tuple[Optimizer, ...] = ()
) -> int:
    """How many calls of `apply` make a step, by gradient accumulation.

    Where optimizers inside accumulate different numbers of gradients, a step
    is one of those that step most often.

    Args:
        optimizer: the outermost.
        around: those that it is inside of.
    """
    around = (*around, optimizer)
    inside = [
        calls_per_step(one, around)
        for one in _steps_by(optimizer)
        if not _is_among(one, list(around))
    ]
    own = optimizer.gradient_accumulation_steps or 1
    return own * min(inside, default=1)


def _steps_by(optimizer: Optimizer) -> list[Optimizer]:
    sees_to_them = getattr(optimizer, "steps_inner_optimizer", False)
    return [] if sees_to_them else _held(optimizer)


def _held(optimizer: Optimizer) -> list[Optimizer]:
    """The optimizers that this one holds itself."""
    found: list[Optimizer] = []
    for one in _in_value(vars(optimizer), set()):
        if not _is_among(one, [optimizer, *found]):
            found.append(one)
    return found


def _in_value(value: Any, seen: set[int]) -> Iterator[Optimizer]:
    if isinstance(value, Optimizer):
        yield value
    elif isinstance(value, (Mapping, list, tuple, set, frozenset)):
        if id(value) in seen:
            return
        seen.add(id(value))
        inside = value.values() if isinstance(value, Mapping) else value
        for element in list(inside):
            yield from _in_value(element, seen)


def _is_among(optimizer: Optimizer, others: list[Optimizer]) -> bool:
    return any(optimizer is other for other in others)
