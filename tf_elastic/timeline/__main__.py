"""What a cluster's events tell: `python -m tf_elastic.timeline PATH`.

As a table of all that has happened, as a picture, or as the cluster is now; and
whether it can have been so. Give several paths where each process, or host, has
written a file of its own.
"""

import argparse
import json
import os
import sys
import time
from collections.abc import Sequence

from tf_elastic import extras
from tf_elastic.timeline import compare
from tf_elastic.timeline import event_file
from tf_elastic.timeline import following
from tf_elastic.timeline import picture
from tf_elastic.timeline import report
from tf_elastic.timeline import summary
from tf_elastic.timeline import verify
from tf_elastic.timeline.virtual.calibrate import calibrate

_COMMANDS = ("table", "plot", "status", "verify", "compare", "calibrate")


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the program; its exit status.

    Args:
        argv: what is given after the program's name; by default the process'
            own. Paths alone are for `table`.
    """
    given = list(sys.argv[1:] if argv is None else argv)
    first = given[0] if given else ""
    if first and first not in _COMMANDS and not first.startswith("-"):
        if not os.path.exists(first):
            return _complain(
                f"{first} is no file, and no command; these are "
                f"{', '.join(_COMMANDS)}."
            )
        given.insert(0, "table")
    options = _parser().parse_args(given)
    try:
        return _do(options)
    except extras.MissingExtraError as error:
        return _complain(str(error))
    except (OSError, ValueError) as error:
        return _complain(_reason(error))
    except KeyboardInterrupt:
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m tf_elastic.timeline",
        description="Tells what a cluster has done, from the events that "
        "--events has written.",
    )
    commands = parser.add_subparsers(
        dest="command", required=True, metavar="COMMAND"
    )
    for name, what in (
        ("table", "a line for each worker and center server; the default"),
        ("plot", "a picture, over time"),
        ("status", "the cluster as it is now, or was at the end"),
        ("verify", "whether it can have been so; 1 if it cannot"),
        ("compare", "the numbers of several runs, a file each"),
        ("calibrate", "a timing that goes as this run, for --timing; JSON"),
    ):
        command = commands.add_parser(name, help=what, description=what)
        command.add_argument("paths", nargs="+", metavar="PATH")
        if name == "plot":
            command.add_argument(
                "--output",
                metavar="FILE.png",
                help="where to (default: beside the first PATH)",
            )
        if name == "calibrate":
            command.add_argument(
                "--also",
                nargs="+",
                action="append",
                default=[],
                metavar="PATH",
                help="another run of the same with another period, or "
                "overlapped: tells what an exchange takes of a worker's own "
                "processor; may be given several times",
            )
        if name == "status":
            command.add_argument(
                "--follow",
                action="store_true",
                help="again each second, until all workers have ended",
            )
    return parser


def _do(options: argparse.Namespace) -> int:
    paths = options.paths
    if options.command == "table":
        _say(report.of(event_file.read(*paths)))
    elif options.command == "plot":
        output = options.output or os.path.splitext(paths[0])[0] + ".png"
        picture.plot(event_file.read(*paths), output, ", ".join(paths))
        _say(output)
    elif options.command == "verify":
        return _verify(paths)
    elif options.command == "compare":
        _say(_compared(paths))
    elif options.command == "calibrate":
        runs = [paths, *options.also]
        timing = calibrate(*(event_file.read(*run) for run in runs))
        _say(json.dumps(timing.config(), indent=2))
    else:
        following.follow(
            paths, sys.stdout, time.sleep if options.follow else None
        )
    return 0


def _verify(paths: Sequence[str]) -> int:
    found = list(verify.entries(*paths))
    wrong = verify.verify(found)
    for violation in wrong:
        _say(str(violation))
    _say(f"{len(found)} events, {len(wrong) or 'nothing'} wrong.")
    return 1 if wrong else 0


def _compared(paths: Sequence[str]) -> str:
    names = [os.path.basename(path) for path in paths]
    if len(set(names)) < len(names):
        names = list(paths)
    return compare.table(
        {
            name: summary.summary(event_file.read(path))
            for name, path in zip(names, paths, strict=True)
        }
    )


def _reason(error: Exception) -> str:
    if isinstance(error, OSError) and error.errno is not None:
        return f"{error.filename} cannot be read: {error.strerror}."
    return str(error)


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")


def _complain(text: str) -> int:
    sys.stderr.write(f"python -m tf_elastic.timeline: {text}\n")
    return 2


if __name__ == "__main__":
    sys.exit(main())
