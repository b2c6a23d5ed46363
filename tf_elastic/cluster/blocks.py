"""Passes over large flat arrays, in pieces that stay in the cache."""

import functools
from collections.abc import Callable
from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any
from typing import NamedTuple

import numpy as np

from tf_elastic.cluster import errors
from tf_elastic.cluster.layout import PARAMETERS
from tf_elastic.cluster.layout import Layout
from tf_elastic.cluster.layout import Section
from tf_elastic.core.rules import Rule
from tf_elastic.core.rules.base import CENTER

_BLOCK = 1 << 16  # values


def may_overflow(method: Callable[..., Any]) -> Callable[..., Any]:
    """Lets a method overflow without a word, since it looks at the result."""

    @functools.wraps(method)
    def silent(*args: Any, **kwargs: Any) -> Any:
        with np.errstate(over="ignore", invalid="ignore"):
            return method(*args, **kwargs)

    return silent


def blocks(size: int) -> Iterator[slice]:
    """Cuts an array of `size` values."""
    for begin in range(0, size, _BLOCK):
        yield slice(begin, min(begin + _BLOCK, size))


def blocks_between(
    size: int, resting: Sequence[slice]
) -> Iterator[tuple[slice, bool]]:
    """Cuts an array as `blocks`, and tells what is at rest.

    Args:
        size: of the array.
        resting: the parts of it that are, in their order.

    Yields:
        All parts in their order, and whether each is at rest.
    """
    done = 0
    for place in [*resting, slice(size, size)]:
        for part in blocks(place.start - done):
            yield slice(part.start + done, part.stop + done), False
        if place.start < place.stop:
            yield place, True
        done = place.stop


class Block(NamedTuple):
    """A part of a section of a layout."""

    k: int  # of the section
    part: slice  # of what is held of it
    rule: Rule  # by which it moves
    slots: dict[str, np.ndarray]  # views, of those that its rule keeps
    rests: bool  # whether it stays where it is


def blocks_of(
    layout: Layout,
    slots: Mapping[str, Sequence[np.ndarray]],
    shard: int | None = None,
    at_rest: Sequence[Sequence[int]] = (),
) -> Iterator[Block]:
    """Cuts all sections of a center.

    Where a rule looks at whole variables, a block is one.

    Args:
        layout: of the model.
        slots: what is held of it, by name an array for each section; of one
            whose rule keeps less an empty one.
        shard: index of the server that holds it; None for what is done value
            by value, whatever the rule.
        at_rest: runs of variables that stay; see `layout.runs_of`.
    """
    for k, section in enumerate(layout.sections):
        resting: list[slice] = []
        if at_rest and shard is not None and section.role == PARAMETERS:
            resting = layout.places(section, shard, at_rest)
        if shard is not None and layout.is_by_variable(section):
            cut = _whole_variables(layout, section, shard, resting)
        else:
            cut = blocks_between(slots[CENTER][k].size, resting)
        for part, rests in cut:
            views = {
                name: arrays[k][part]
                for name, arrays in slots.items()
                if arrays[k].size
            }
            yield Block(k, part, layout.rule_of(section), views, rests)


def _whole_variables(
    layout: Layout, section: Section, shard: int, resting: Sequence[slice]
) -> Iterator[tuple[slice, bool]]:
    """The variables of a section that a server holds, and whether they rest."""
    begins = {place.start for place in resting}
    for part in layout.places(section, shard, [(0, len(layout.variables))]):
        yield part, part.start in begins


def put_block(
    moved: Mapping[str, Sequence[np.ndarray]],
    k: int,
    part: slice,
    after: Mapping[str, np.ndarray],
) -> None:
    """Copies what a rule has made of one block of section k, in all slots.

    Called with what is used nowhere else its memory is free for the next
    block, and in the cache.
    """
    for name, value in after.items():
        moved[name][k][part] = value


@may_overflow
def put_deltas(
    layout: Layout,
    slots: Mapping[str, Sequence[np.ndarray]],
    messages: Sequence[np.ndarray],
    results: Sequence[np.ndarray],
) -> None:
    """Puts what of messages moves a center into arrays.

    Args:
        layout: of the model.
        slots: of the center, as for `blocks_of`.
        messages: a worker's, one flat array for each section.
        results: what to fill; may be `messages`, or the center.
    """
    for k, part, rule, parent, _ in blocks_of(layout, slots):
        results[k][part] = rule.delta(messages[k][part], parent)


def sum_of_squares(values: np.ndarray) -> float:
    """Of a flat array; not finite if a value is not, or a square too large."""
    total = 0.0
    with np.errstate(over="ignore", invalid="ignore"):
        for part in blocks(values.size):
            block = values[part]
            if block.dtype.itemsize < 4:
                block = block.astype(np.float32)
            # Not `dot`: its library would start threads for a block.
            total += float(np.einsum("i,i->", block, block))
    return total


def largest(values: np.ndarray) -> float:
    """The largest absolute value of a flat array; NaN if one is NaN."""
    found = [
        max(float(values[part].max()), -float(values[part].min()))
        for part in blocks(values.size)
    ]
    return float(np.max(found)) if found else 0.0


def squares_of_parameters(
    layout: Layout, arrays: Sequence[np.ndarray]
) -> float:
    """The sum of the squares of a layout's sections of parameters."""
    return sum(
        sum_of_squares(array)
        for section, array in zip(layout.sections, arrays, strict=True)
        if section.role == PARAMETERS
    )


def check_finite(
    layout: Layout,
    shard: int,
    parts: Sequence[np.ndarray],
    worker: int | None,
) -> None:
    """Refuses NaN and infinity, by the name of the variable.

    Args:
        layout: of the model.
        shard: index of the center server.
        parts: of each section what the server holds.
        worker: whose they are.

    Raises:
        NonFiniteError: there is one.
    """
    for section, values in zip(layout.sections, parts, strict=True):
        for part in blocks(values.size):
            finite = np.isfinite(values[part])
            if finite.all():
                continue
            position = part.start + int(np.argmin(finite))
            first = layout.cut(section, shard).start
            name = layout.variable_at(section, first + position)
            raise errors.NonFiniteError(
                f"worker {worker} sent {float(values[position])} in {name!r}; "
                "the center has not taken it"
            )
