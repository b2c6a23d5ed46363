"""What was seen of runs: a row of a CSV file for each look at a center.

>>> time_to_level([], 0.4) is None
True
"""

import csv
import fcntl
import math
import os
from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Mapping
from collections.abc import Sequence
from typing import NamedTuple

from tf_elastic.figures.trained.settings import ALL
from tf_elastic.figures.trained.settings import Setting


class Record(NamedTuple):
    """A look at the center of a run.

    Attributes:
        experiment: to seed: as of `Setting`.
        data: what was trained on: "cifar10", or "digits" for a try.
        batch_size: of a worker.
        step: local steps of each worker so far, on average.
        local_steps: of all workers together.
        virtual_seconds: since the beginning.
        train_loss: negative log-likelihood on training images, unaltered.
        test_loss: the same on test images.
        test_error: the share of test images that are taken for others.
        test_images: how many of them were looked at, the first ones.
        goodput: the share of local steps that have reached the center.
    """

    experiment: str
    method: str
    workers: int
    period: int
    learning_rate: float
    decay: float
    seed: int
    data: str
    batch_size: int
    step: int
    local_steps: int
    virtual_seconds: float
    train_loss: float
    test_loss: float
    test_error: float
    test_images: int
    goodput: float

    @property
    def setting(self) -> Setting:
        """Of the run."""
        return Setting(*(getattr(self, name) for name in Setting._fields))

    @property
    def diverged(self) -> bool:
        """Whether nothing more can come of it."""
        return not math.isfinite(self.train_loss)


Runs = Mapping[Setting, Sequence[Record]]
_TYPES: Mapping[str, Callable[[str], object]] = Record.__annotations__


def read(path: str | os.PathLike[str]) -> dict[Setting, list[Record]]:
    """The records of a file by their runs; of none if there is no file.

    Raises:
        ValueError: the file is no such one.
    """
    if not os.path.exists(path):
        return {}
    runs: dict[Setting, list[Record]] = {}
    with open(path, encoding="utf-8", newline="") as file:
        reader = csv.DictReader(file)
        if tuple(reader.fieldnames or ()) != Record._fields:
            raise ValueError(
                "The file of runs must have the columns "
                f"{', '.join(Record._fields)}. Received: {os.fspath(path)} "
                f"with {', '.join(reader.fieldnames or ())}."
            )
        for row in reader:
            made = {name: _TYPES[name](row[name]) for name in Record._fields}
            record = Record(**made)  # type: ignore[arg-type]
            runs.setdefault(record.setting, []).append(record)
    return runs


def append(path: str | os.PathLike[str], record: Record) -> None:
    """Adds a record to a file, which is made if there is none.

    Several processes may.
    """
    folder = os.path.dirname(os.path.abspath(path))
    os.makedirs(folder, exist_ok=True)
    with open(path, "a", encoding="utf-8", newline="") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        writer = csv.writer(file)
        if not os.path.getsize(path):
            writer.writerow(Record._fields)
        writer.writerow(record)


def smallest_error(records: Iterable[Record]) -> float:
    """The smallest test error of a run; 1 if there was no look."""
    errors = (record.test_error for record in records if not record.diverged)
    return min(errors, default=1.0)


def time_to_level(records: Iterable[Record], level: float) -> float | None:
    """Virtual seconds until the first look with at most that test error.

    None if there is none.
    """
    for record in sorted(records, key=lambda record: record.virtual_seconds):
        if not record.diverged and record.test_error <= level:
            return record.virtual_seconds
    return None


def best(runs: Runs, settings: Iterable[Setting]) -> Setting | None:
    """The one with the smallest test error, as the thesis chooses."""
    known = [setting for setting in settings if setting in runs]
    return min(known, key=lambda s: smallest_error(runs[s]), default=None)


def best_of_each(
    runs: Runs, settings: Iterable[Setting]
) -> dict[tuple[str, int], Setting]:
    """The best learning rate for each method and p, of those that were run."""
    groups: dict[tuple[str, int], list[Setting]] = {}
    for setting in settings:
        if setting in runs:
            key = setting.method, setting.workers
            groups.setdefault(key, []).append(setting)
    found = {key: best(runs, group) for key, group in groups.items()}
    return {key: one for key, one in found.items() if one is not None}


def fastest_sequential(
    runs: Runs, chosen: Iterable[Setting], level: float
) -> tuple[str, float] | None:
    """The sequential method that is first at a level, and its time."""
    times = [
        (seconds, setting.method)
        for setting in chosen
        if ALL[setting.method].is_sequential
        and (seconds := time_to_level(runs[setting], level)) is not None
    ]
    if not times:
        return None
    seconds, method = min(times)
    return method, seconds
