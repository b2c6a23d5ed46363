"""The command line of a rehearsal, and the file that it may name."""

import argparse
import contextlib
import fcntl
import os
from collections.abc import Iterator
from collections.abc import Sequence
from typing import Any
from typing import NamedTuple

from tf_elastic.program import usage
from tf_elastic.rehearse import plan as plans
from tf_elastic.rehearse import plan_file
from tf_elastic.rehearse.plan import Plan

PROGRAM = "python -m tf_elastic.rehearse"
# Of train.py's flags those whose commas are a part of the value.
_WITH_COMMAS = ("rules", "rate_cuts")

_DESCRIPTION = """\
Trains many settings, each in a virtual cluster and in a process of its own, and
ranks them by the virtual time to a test error. The same command again goes on
where it was stopped.

Any flag of train.py may be given, with several values by commas between them:
all combinations are rehearsed. A file (YAML or JSON) has the same under "base",
and under "runs" a list of settings, each again with one value or several. What
is on the command line is for all runs, in place of what "base" says.

  python -m tf_elastic.rehearse --virtual_workers=16 --timing=thesis-cifar \\
      --optimizer=easgd,eamsgd --learning_rate=0.05,0.1 --seed=0,1
  python -m tf_elastic.rehearse plan.yaml --out=runs/rehearsal --jobs=4
"""


class Asked(NamedTuple):
    """What a command line asks for."""

    plan: Plan
    out: str
    jobs: int
    with_events: bool


def parse(arguments: Sequence[str]) -> Asked:
    """Reads a command line, and the file that it names.

    Raises:
        UsageError: something is wrong, and nothing was begun.
        MissingExtraError: the file is YAML, whose package is not installed.
    """
    options, rest = _parser().parse_known_args(list(arguments))
    given: dict[str, Any] = dict(map(_flag, rest))
    if options.targets is not None:
        given["targets"] = [
            _number("--targets", text) for text in options.targets.split(",")
        ]
    if options.deadline_s is not None:
        given["deadline_s"] = options.deadline_s
    content = plan_file.read(options.file) if options.file else None
    if content is None and not given:
        raise usage.UsageError(
            "There is nothing to rehearse. Give flags of train.py "
            "(--virtual_workers=16 --optimizer=easgd,eamsgd, say), or the "
            f"file of a plan. See {PROGRAM} --help."
        )
    plan = plans.make(content, given)
    jobs = options.jobs
    if jobs is None:
        jobs = max((os.cpu_count() or 1) // 2, 1)
    if jobs < 1:
        raise usage.UsageError(
            f"--jobs must be at least 1. Received: --jobs={jobs}."
        )
    jobs = min(jobs, len(plan.runs))
    return Asked(
        plan, os.path.expanduser(options.out), jobs, options.with_events
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=PROGRAM,
        description=_DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("file", nargs="?", help="a plan, ending in .yaml, .yml or .json")
    add(
        "--out",
        metavar="DIR",
        default="rehearsal",
        help="where all goes: results.csv, errors.png, and a folder for each "
        "run (default: ./rehearsal)",
    )
    add(
        "--jobs",
        type=int,
        metavar="N",
        help="runs side by side (default: half of the cores)",
    )
    add(
        "--targets",
        metavar="ERROR,...",
        help="test errors that are waited for, such as 0.1,0.05 (default: by "
        "the data)",
    )
    add(
        "--deadline_s",
        type=float,
        metavar="SECONDS",
        help="after which a run is ended; the same command goes on with it "
        f"(default: {plans.DEADLINE_S:g})",
    )
    add(
        "--with_events",
        action="store_true",
        help="write the events of each run, for python -m tf_elastic.timeline",
    )
    return parser


def _flag(text: str) -> tuple[str, Any]:
    """A flag of train.py: its name, and its value or values."""
    name, has_value, value = text.partition("=")
    if not name.startswith("--"):
        raise usage.UsageError(
            f"Only one file and flags are understood. Received: {text}. Write "
            "--name=value."
        )
    name = name.removeprefix("--")
    if not has_value:
        return (name[2:], False) if name.startswith("no") else (name, True)
    if name in _WITH_COMMAS:
        return name, value
    return name, value.split(",")


def _number(name: str, text: str) -> float:
    try:
        return float(text)
    except ValueError as error:
        raise usage.UsageError(
            f"{name} must be numbers with commas between them. "
            f"Received: {name}={text}."
        ) from error


@contextlib.contextmanager
def alone_in(out: str) -> Iterator[None]:
    """Inside, no other rehearsal is in this folder; it is made.

    Raises:
        UsageError: there is one, or the folder cannot be made.
    """
    try:
        os.makedirs(out, exist_ok=True)
        lock = open(os.path.join(out, ".lock"), "w")
    except OSError as error:
        raise usage.UsageError(
            "--out must be a folder in which files can be written. Received: "
            f"--out={out} ({error.strerror}). Choose another one."
        ) from error
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise usage.UsageError(
                f"A rehearsal is going on in {out} already. Wait for its end, "
                "or choose another --out."
            ) from error
        yield
