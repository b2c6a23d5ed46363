"""Things that happen at listed times, to workers or to nodes."""

from collections.abc import Sequence
from typing import Any

from tf_elastic.timeline.virtual.durations import check_number


def is_sequence(value: object) -> bool:
    """Whether it is a list, say, and no text."""
    return isinstance(value, Sequence) and not isinstance(value, str | bytes)


def pairs(name: str, given: Any) -> tuple[tuple[int, float], ...]:
    """Pairs of a worker and a time, in the order of times.

    Raises:
        ValueError: one is none.
    """
    found = []
    for pair in given:
        if not is_sequence(pair) or len(pair) != 2:
            raise ValueError(
                f"`{name}` must hold pairs (worker, time). "
                f"Received: {pair!r:.80}."
            )
        worker, time = pair
        if type(worker) is not int or worker < 0:
            raise ValueError(
                f"`{name}` must name workers by integers from 0. "
                f"Received: {worker!r:.80}."
            )
        check_number(f"{name}.time", time, above=0)
        found.append((worker, time))
    return tuple(sorted(found, key=lambda pair: (pair[1], pair[0])))


def check_once(
    name: str,
    named: Sequence[object],
    what: str,
    whose: str = "worker",
) -> None:
    """Refuses what is named twice.

    Raises:
        ValueError: something is.
    """
    for one in named:
        if named.count(one) > 1:
            raise ValueError(
                f"`{name}`: a {whose} {what}. Received: {whose} {one} "
                f"{named.count(one)} times."
            )


def triples(given: Any) -> tuple[tuple[int, int, float], ...]:
    """Triples of a level, an index and a time, in the order of times.

    Raises:
        ValueError: one is none.
    """
    found = []
    for triple in given:
        if not is_sequence(triple) or len(triple) != 3:
            raise ValueError(
                "`node_deaths` must hold triples (level, index, time). "
                f"Received: {triple!r:.80}."
            )
        level, index, time = triple
        if type(level) is not int or level < 1:
            raise ValueError(
                "`node_deaths` must name levels by integers from 1: the root, "
                f"level 0, does not die here. Received: {level!r:.80}."
            )
        if type(index) is not int or index < 0:
            raise ValueError(
                "`node_deaths` must name nodes of a level by integers from 0. "
                f"Received: {index!r:.80}."
            )
        check_number("node_deaths.time", time, above=0)
        found.append((level, index, time))
    return tuple(sorted(found, key=lambda t: (t[2], t[0], t[1])))
