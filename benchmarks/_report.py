"""What the benchmarks share: arguments, medians in turns, files of results."""

import argparse
import csv
import json
import os
import platform
import statistics
import time
from typing import NamedTuple

import tensorflow as tf


def parse_args(description, **numbers):
    """Parses `--json` and a number for each keyword; ignores the rest.

    Args:
        description: the module's docstring.
        **numbers: name and default of each further argument; `False` makes a
            switch.

    Returns:
        The namespace.
    """
    parser = argparse.ArgumentParser(description=description.split("\n")[0])
    parser.add_argument("--json", help="file to write the results to")
    for name, default in numbers.items():
        if default is False:
            parser.add_argument(f"--{name}", action="store_true")
            continue
        parser.add_argument(
            f"--{name}", type=type(default), default=default, help="%(default)s"
        )
    return parser.parse_known_args()[0]


def in_turns(functions, repeats):
    """Calls each function in turn, so that a change of the machine hits all.

    Args:
        functions: name -> function that returns a number.
        repeats: how often each is called; the first call is a warm-up on top.

    Returns:
        name -> list of `repeats` numbers.
    """
    for function in functions.values():
        function()
    results = {name: [] for name in functions}
    for _ in range(repeats):
        for name, function in functions.items():
            results[name].append(function())
    return results


def ratios(numerators, denominators):
    """Median, minimum and maximum of the ratios of calls side by side."""
    each = [a / b for a, b in zip(numerators, denominators, strict=True)]
    return statistics.median(each), min(each), max(each)


class Rows:
    """What was found, in a file of CSV if one is named, for runs to go on.

    Args:
        path: of the file; empty for none.
        fields: of a row.
        key: those of them that say what was run.
    """

    def __init__(self, path, fields, key):
        self._path, self._fields, self._key = path, fields, key
        self.rows = []
        if path and os.path.exists(path):
            with open(path, encoding="utf-8", newline="") as file:
                self.rows = list(csv.DictReader(file))
        elif path:
            with open(path, "w", encoding="utf-8", newline="") as file:
                csv.writer(file).writerow(fields)

    def has(self, key):
        """Whether a key's rows are there."""
        wanted = tuple(map(str, key))
        return any(
            tuple(row[name] for name in self._key) == wanted
            for row in self.rows
        )

    def add(self, rows):
        """Keeps rows, {field: value} each."""
        rows = [{name: str(row[name]) for name in self._fields} for row in rows]
        self.rows += rows
        if self._path:
            with open(self._path, "a", encoding="utf-8", newline="") as file:
                csv.DictWriter(file, self._fields).writerows(rows)


def throughput(batches, seconds):
    """Images per second of wall and of processor time, after a warm-up."""
    iterator = iter(batches)
    end = time.perf_counter() + seconds / 4
    next(iterator)
    while time.perf_counter() < end:
        next(iterator)
    images, start, cpu_start = 0, time.perf_counter(), time.process_time()
    while (elapsed := time.perf_counter() - start) < seconds:
        images += next(iterator)[0].shape[0]
    return images / elapsed, images / (time.process_time() - cpu_start)


class Ratio(NamedTuple):
    """A ratio of a benchmark, as `all_ratios.py` shows it.

    Attributes:
        what: is compared with what.
        found: median, smallest and largest; or the same number three times.
        goal: what it should be at most; None for no goal.
        at_least: whether the goal is a lower bound.
    """

    what: str
    found: tuple[float, float, float]
    goal: float | None = None
    at_least: bool = False

    @property
    def verdict(self):
        """Whether the median meets the goal, in a word."""
        if self.goal is None:
            return "-"
        median = self.found[0]
        met = median >= self.goal if self.at_least else median <= self.goal
        return "met" if met else "missed"


def write(args, result, ratios=()):
    """Writes the JSON file if one is asked for.

    Args:
        args: from `parse_args`.
        result: JSON-able mapping.
        ratios: the `Ratio`s that are to be seen.
    """
    if args.json:
        whole = {
            **result,
            "ratios": [ratio._asdict() for ratio in ratios],
            "machine": machine(),
        }
        with open(args.json, "w", encoding="utf-8") as file:
            json.dump(whole, file, indent=2)


def machine():
    """What a result was found on."""
    return {
        "processor": _processor(),
        "cores": os.cpu_count(),
        "load": os.getloadavg()[0],
        "python": platform.python_version(),
        "tensorflow": tf.__version__,
    }


def _processor():
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            names = [line for line in file if line.startswith("model name")]
        return names[0].partition(":")[2].strip()
    except (OSError, IndexError):
        return platform.processor() or platform.machine()
