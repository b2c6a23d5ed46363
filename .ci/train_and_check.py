"""Trains for a short while as a user would, and checks that the error falls.

    python .ci/train_and_check.py

Runs `train.py` with its defaults but fewer epochs, reads the report that it
writes, and fails if the center is not well better than guessing (90 % error).
"""

import json
import pathlib
import subprocess
import sys
import tempfile

EPOCHS = 4
WORST_ERROR = 0.4


def main():
    """Trains, and checks what came of it."""
    root = pathlib.Path(__file__).resolve().parent.parent
    with tempfile.TemporaryDirectory() as folder:
        report = pathlib.Path(folder) / "report.json"
        subprocess.run(
            [
                sys.executable,
                str(root / "train.py"),
                f"--epochs={EPOCHS}",
                "--seed=1",
                "--verbose=2",
                f"--report={report}",
                f"--plot={folder}/run.png",
            ],
            check=True,
            timeout=600,
        )
        result = json.loads(report.read_text(encoding="utf-8"))
    error = result["center"]["test_error"]
    if not error < WORST_ERROR:
        raise SystemExit(f"center test error {error} is not < {WORST_ERROR}")


if __name__ == "__main__":
    main()
