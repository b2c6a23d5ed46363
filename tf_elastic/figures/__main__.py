"""Draws the figures of the papers: python -m tf_elastic.figures --list."""

import argparse
import sys
import time

from tf_elastic import extras
from tf_elastic import figures


def main(arguments: list[str] | None = None) -> int:
    """Runs the command line.

    Args:
        arguments: what was given, without the program's name; by default the
            process' own.

    Returns:
        The exit status: 0, or 2 for a wrong argument.
    """
    parser = argparse.ArgumentParser(
        prog="python -m tf_elastic.figures",
        description="Draws figures of the papers and writes their numbers.",
    )
    parser.add_argument(
        "names", nargs="*", metavar="NAME", help="a figure, or 'all'"
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
    options = parser.parse_args(arguments)
    known = figures.all_figures()
    if options.list:
        for figure in known.values():
            sys.stdout.write(f"{figure.name:16} {figure.caption}\n")
        return 0
    if not options.names:
        parser.error("give the NAME of a figure, or 'all'; --list has them")
    names = list(known) if options.names == ["all"] else options.names
    for name in names:
        if name not in known:
            parser.error(
                f"NAME must be one of {', '.join(known)}, or 'all'. "
                f"Received: {name!r}."
            )
    try:
        extras.require("matplotlib", "A figure")
    except extras.MissingExtraError as error:
        parser.error(str(error))
    for name in names:
        start = time.monotonic()
        picture, numbers = figures.write(known[name], options.out)
        sys.stdout.write(
            f"{picture} {numbers} ({time.monotonic() - start:.1f} s)\n"
        )
        sys.stdout.flush()
    return 0


if __name__ == "__main__":
    sys.exit(main())
