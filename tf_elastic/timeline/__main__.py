"""Tables of what a cluster's events tell: `python -m tf_elastic.timeline PATH`.

Give several paths where each process, or host, has written a file of its own.
"""

import sys
from collections.abc import Sequence

from tf_elastic.timeline import event_file
from tf_elastic.timeline import report


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the program; its exit status."""
    paths = list(sys.argv[1:] if argv is None else argv)
    if not paths or any(path.startswith("-") for path in paths):
        sys.stderr.write(
            "usage: python -m tf_elastic.timeline PATH [PATH ...]\n"
        )
        return 2
    try:
        found = event_file.read(*paths)
    except (OSError, ValueError) as error:
        sys.stderr.write(f"{error}\n")
        return 2
    sys.stdout.write(report.of(found) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
