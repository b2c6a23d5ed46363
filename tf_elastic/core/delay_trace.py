"""Delays that were measured in a real run, to be replayed in another one."""

import dataclasses
import json
import os
from collections.abc import Iterable
from typing import ClassVar
from typing import NamedTuple

import numpy as np

from tf_elastic import files
from tf_elastic.core.listed_delays import ListedDelay
from tf_elastic.core.listed_delays import check_delay

_FORMAT = "tf_elastic delay trace"
_VERSION = 1


class TraceEntry(NamedTuple):
    """One push to a center, as the center has seen it."""

    number: int  # pushes are numbered in the order in which they arrived
    worker: int  # who pushed
    versions: int  # versions that others made since this worker's read
    milliseconds: float  # the same in time


@dataclasses.dataclass(frozen=True)
class DelayTrace(ListedDelay):
    r"""The staleness that a cluster's center has measured, as a delay.

    The k-th push that the center saw was :math:`\tau_k` versions old; so is
    the k-th gradient here. After the last push the trace begins again with
    the first. A center remembers its newest pushes only, so the numbers of a
    trace need not begin with 1.

    Args:
        entries: `(number, worker, versions, milliseconds)` of each push, in
            any order; equal ones count once, so that what several looks at
            the center have brought may be joined.
        by_worker: False (default): every worker replays all pushes in the
            order of the center, which is what one process that stands for
            the whole cluster needs. True: worker i replays the pushes of the
            i-th recorded worker alone, and begins with the first again where
            more workers train than were recorded.

    Raises:
        ValueError: there is no entry, one is not of this form, or two of the
            same number differ.

    Example:

    >>> trace = DelayTrace([(1, 0, 0, 2.0), (2, 1, 1, 5.0), (3, 0, 2, 7.5)])
    >>> trace.draw(np.arange(4))
    array([0, 1, 2, 0])
    >>> dataclasses.replace(trace, by_worker=True).draw(np.arange(4))
    array([0, 2, 0, 2])

    Reference:
        :math:`\tau_k` of eq. 1.3 of the paper on momentum and asynchrony:
        "the number of updates that have occurred between its corresponding
        read and update operations".
    """

    kind: ClassVar[str] = "trace"
    entries: Iterable[TraceEntry]
    by_worker: bool = False

    def __post_init__(self) -> None:
        """Checks the entries and puts them in order."""
        by_number: dict[int, TraceEntry] = {}
        for entry in map(_checked_entry, self.entries):
            if by_number.setdefault(entry.number, entry) != entry:
                raise ValueError(
                    "`entries` must not hold two pushes of the same number. "
                    f"Received: entries with {by_number[entry.number]} and "
                    f"{entry}. A center that began anew counts from 1 again: "
                    "make a trace of each part."
                )
        if not by_number:
            raise ValueError(
                "`entries` must hold at least one push. Received: entries=[]. "
                "A center lists the pushes that it remembers under "
                '"staleness" of its status.'
            )
        ordered = tuple(by_number[number] for number in sorted(by_number))
        object.__setattr__(self, "entries", ordered)

    @property
    def max_delay(self) -> int:
        """The largest delay."""
        return max(entry.versions for entry in self.entries)

    def values_of(self, worker: int) -> np.ndarray:
        """The delays of a worker; see `ListedDelay.values_of`."""
        recorded = sorted({entry.worker for entry in self.entries})
        chosen = recorded[worker % len(recorded)]
        versions = [
            entry.versions
            for entry in self.entries
            if not self.by_worker or entry.worker == chosen
        ]
        return np.array(versions, np.int64)

    def get_config(self) -> dict[str, object]:
        """What `delay_from_config` makes an equal delay from; JSON."""
        entries = [list(entry) for entry in self.entries]
        return {**super().get_config(), "entries": entries}

    def save(self, path: str | os.PathLike[str]) -> None:
        """Writes the trace as JSON.

        Args:
            path: the file; it is overwritten.
        """
        content = {"format": _FORMAT, "version": _VERSION, **self.get_config()}
        del content["kind"]
        files.write_text(path, json.dumps(content) + "\n")

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> "DelayTrace":
        """Reads what `save` wrote.

        Args:
            path: the file.

        Returns:
            An equal trace.

        Raises:
            ValueError: the file is no trace.
        """
        with open(path, encoding="utf-8") as file:
            try:
                content = json.load(file)
            except (ValueError, RecursionError) as error:
                raise ValueError(
                    "`path` must be a delay trace. Received: "
                    f"path={str(path)!r}, which is not JSON: {error!r}."
                ) from error
        is_trace = isinstance(content, dict) and (
            content.get("format"),
            content.get("version"),
        ) == (_FORMAT, _VERSION)
        if not is_trace or "entries" not in content:
            raise ValueError(
                "`path` must be a file that `DelayTrace.save` wrote. "
                f"Received: path={str(path)!r}."
            )
        try:
            by_worker = bool(content.get("by_worker", False))
            return cls(content["entries"], by_worker)
        except (TypeError, ValueError) as error:
            raise ValueError(
                "`path` must be a file that `DelayTrace.save` wrote. "
                f"Received: path={str(path)!r}, in which: {error}"
            ) from error


def _checked_entry(entry: TraceEntry) -> TraceEntry:
    try:
        number, worker, versions, milliseconds = entry
    except (TypeError, ValueError) as error:
        raise ValueError(
            "`entries` must consist of (number, worker, versions, "
            f"milliseconds). Received: entries with {entry!r}."
        ) from error
    for name, value in (
        ("number", number),
        ("worker", worker),
        ("versions", versions),
    ):
        check_delay(f"{name} of entries", value)
    return TraceEntry(number, worker, versions, float(milliseconds))
