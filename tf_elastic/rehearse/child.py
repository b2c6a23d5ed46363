"""What a process of a rehearsal does: train, or measure the curvature."""

import json
import sys
from collections.abc import Sequence

from tf_elastic import files
from tf_elastic.program import advising
from tf_elastic.program import main as program
from tf_elastic.program import settings as run_settings

CURVATURE = "--curvature="


def main(argv: Sequence[str]) -> int:
    """Does it.

    Args:
        argv: flags of train.py. After a first one `--curvature=PATH` nothing
            is trained, and a file is written.

    Returns:
        The exit status of train.py.
    """
    if not argv or not argv[0].startswith(CURVATURE):
        return program.main(["train.py", *argv], __doc__ or "")
    path, *flags = argv
    settings = run_settings.parse(["train.py", *flags])
    _, found = advising.measured(settings)
    files.write_text(path.removeprefix(CURVATURE), json.dumps(found.eigenvalue))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
