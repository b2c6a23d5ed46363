"""Whether a worker comes too late to move the center.

A worker that was away, or is far slower than the others, is where the center
was long ago: what it brings pulls back what the others have done since.

Its *lag* is how often the center has moved since it last settled an exchange,
or joined, in turns of all the others: 1 for equal workers. One whose lag is
above `max_lag` is *late*, and what it brings is left out by its rule's kind:

POINT      its exchange does not move the center, and it begins there, with no
           velocity; the slots of its local step, and its clock, stay.
INCREMENT  what it has done is dropped, and it goes on from the center.
GRADIENT   likewise.

It is a predicate and no weight: where nobody is late nothing is changed.
"""

import math

# By `python benchmarks/bench_max_lag.py`: the least of 2, 3, 5, 10, 20, 50 and
# 100 that leaves out next to nothing of workers that are merely uneven. The
# numbers are in docs/cluster.md.
DEFAULT_MAX_LAG = 10.0


def lag(versions: float, num_workers: float) -> float:
    """How many turns of the others a worker has missed.

    Args:
        versions: updates that the center has seen since the worker last
            settled an exchange, at least 0.
        num_workers: p, the workers present, at least 1.

    Example:

    >>> lag(3, num_workers=4)  # Each of the others was there once.
    1.0
    """
    return versions / max(num_workers - 1, 1)


def is_late(versions: float, num_workers: float, max_lag: float | None) -> bool:
    """Whether a worker's exchange is left out.

    Args:
        versions: as of `lag`.
        num_workers: as of `lag`.
        max_lag: the bound; None for none.
    """
    return max_lag is not None and lag(versions, num_workers) > max_lag


def check_max_lag(max_lag: float | None) -> None:
    """Refuses a bound that is none.

    Raises:
        ValueError: it is not a number above 0, or None.
    """
    is_number = isinstance(max_lag, (int, float)) and not isinstance(
        max_lag, bool
    )
    if max_lag is not None and not (
        is_number and math.isfinite(max_lag) and max_lag > 0
    ):
        raise ValueError(
            "`max_lag` must be a number above 0, in turns of the other "
            "workers, or None for no bound. Received: "
            f"max_lag={max_lag!r}."
        )
