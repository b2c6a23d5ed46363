"""Draws the figures of the papers: python -m tf_elastic.figures --list."""

import argparse
import os
import sys
import time
from collections.abc import Sequence

from tf_elastic import extras
from tf_elastic import figures
from tf_elastic.figures.trained import records
from tf_elastic.figures.trained import scale
from tf_elastic.figures.trained.records import Runs


def main(arguments: list[str] | None = None) -> int:
    """Runs the command line.

    Args:
        arguments: what was given, without the program's name; by default the
            process' own.

    Returns:
        The exit status: 0, or 2 for a wrong argument.
    """
    parser = _parser()
    options = parser.parse_args(arguments)
    known = figures.all_figures()
    if options.list:
        for figure in known.values():
            sys.stdout.write(f"{figure.name:16} {figure.caption}\n")
        return 0
    if not options.names:
        parser.error("give the NAME of a figure, or 'all'; --list has them")
    trains = options.scale is not None
    names = options.names
    if names == ["all"]:
        draws_runs = trains or options.data is not None
        names = [n for n, f in known.items() if draws_runs or not f.runs]
    for name in names:
        if name not in known:
            parser.error(
                f"NAME must be one of {', '.join(known)}, or 'all'. "
                f"Received: {name!r}."
            )
    if options.jobs < 1:
        parser.error(f"--jobs must be at least 1. Received: {options.jobs}.")
    path = options.data or os.path.join(options.out, "runs.csv")
    try:
        extras.require("matplotlib", "A figure")
        if trains:
            scale.of(options.scale)  # Refused before anything is begun.
        for name in names:
            start = time.monotonic()
            figure = known[name]
            runs: Runs = {}
            if figure.runs:
                if trains:
                    _train(path, figure.runs, options)
                runs = records.read(path)
            picture, numbers = figures.write(figure, options.out, runs)
            _say(f"{picture} {numbers} ({time.monotonic() - start:.1f} s)")
    except (extras.MissingExtraError, FileNotFoundError, ValueError) as error:
        parser.error(str(error))
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m tf_elastic.figures",
        description="Draws figures of the papers and writes their numbers.",
    )
    parser.add_argument(
        "names",
        nargs="*",
        metavar="NAME",
        help="a figure, or 'all'; those that need training are among all if "
        "--data or --scale is given",
    )
    parser.add_argument(
        "--list", action="store_true", help="name all figures and end"
    )
    parser.add_argument(
        "--out",
        metavar="DIR",
        default="figures",
        help="where NAME.png and NAME.csv go (default: ./figures)",
    )
    parser.add_argument(
        "--data",
        metavar="CSV",
        help="what was trained, for figures that need it (default: runs.csv "
        "in the folder of --out)",
    )
    parser.add_argument(
        "--scale",
        help="train what is missing there: 'tiny', on the digits, or a part "
        "of the papers' training on CIFAR-10, from 0.001 to 1 for all; goes "
        "on where it was stopped (default: train nothing)",
    )
    parser.add_argument(
        "--jobs",
        type=int,
        default=1,
        help="how many runs are trained at once (default: 1)",
    )
    parser.add_argument(
        "--data_dir",
        metavar="DIR",
        help="folder of prepared TensorFlow Datasets, with CIFAR-10",
    )
    return parser


def _train(
    path: str,
    settings: Sequence[figures.Setting],
    options: argparse.Namespace,
) -> None:
    # TensorFlow is not loaded for what theory draws.
    from tf_elastic.figures.trained import side_by_side

    side_by_side.train(
        path,
        {
            setting: asked
            for setting in settings
            for asked in [scale.of(options.scale, setting.experiment)]
            if scale.trains(asked, setting)
        },
        jobs=options.jobs,
        data_dir=options.data_dir,
        say=_say,
    )


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
