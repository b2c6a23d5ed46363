"""What the benchmarks share: arguments, medians in turns, the JSON file."""

import argparse
import json
import os
import platform
import statistics

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


def write(args, result):
    """Writes the JSON file if one is asked for.

    Args:
        args: from `parse_args`.
        result: JSON-able mapping.
    """
    if args.json:
        machine = {
            "processor": platform.processor() or platform.machine(),
            "cores": os.cpu_count(),
            "python": platform.python_version(),
            "tensorflow": tf.__version__,
        }
        with open(args.json, "w", encoding="utf-8") as file:
            json.dump({**result, **machine}, file, indent=2)
