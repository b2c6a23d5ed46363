"""Trains for a short while as a user would, and checks that the error falls.

    python .ci/train_and_check.py

Runs `train.py` with its defaults but fewer epochs, in one process and on two
worker processes, reads the reports that it writes, and fails if the center is
not well better than guessing (90 % error).
"""

import json
import pathlib
import subprocess
import sys
import tempfile

WORST_ERROR = 0.4


def train(*flags):
    """Runs train.py; its report."""
    root = pathlib.Path(__file__).resolve().parent.parent
    with tempfile.TemporaryDirectory() as folder:
        report = pathlib.Path(folder) / "report.json"
        subprocess.run(
            [
                sys.executable,
                str(root / "train.py"),
                "--seed=1",
                "--verbose=2",
                f"--report={report}",
                f"--plot={folder}/run.png",
                *flags,
            ],
            check=True,
            timeout=600,
        )
        result = json.loads(report.read_text(encoding="utf-8"))
    error = result["center"]["test_error"]
    if not error < WORST_ERROR:
        raise SystemExit(f"center test error {error} is not < {WORST_ERROR}")
    return result


def main():
    """Trains, and checks what came of it."""
    train("--epochs=4")
    cluster = train("--epochs=6", "--local_workers=2")["cluster"]
    if cluster["num_workers"] != 2 or len(cluster["members"]) != 2:
        raise SystemExit(f"there should be 2 workers: {cluster}")


if __name__ == "__main__":
    main()
