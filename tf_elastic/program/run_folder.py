"""The files of a run, in --model_dir."""

import contextlib
import csv
import json
import os
from typing import Any

from tf_elastic.program import usage

BACKUP = "backup"
CENTERS = "centers"  # snapshots of a cluster's center servers
LOGS = "logs"  # of a cluster's processes
BEST = "best.keras"  # that the evaluator has seen
SETTINGS = "settings.json"
HISTORY = "history.csv"
MODEL = "model.keras"
METADATA = "training_metadata.json"  # Keras' name, in the backup.


def make(settings: dict[str, Any]) -> None:
    """Makes the folder, if one is asked for and is not there.

    Raises:
        UsageError: it cannot be made.
    """
    folder = settings["model_dir"]
    if not folder:
        return
    try:
        os.makedirs(folder, exist_ok=True)
    except OSError as error:
        raise usage.UsageError(
            "--model_dir must be a folder in which files can be written. "
            f"Received: --model_dir={folder}, which cannot be made "
            f"({error.strerror}). Give another one."
        ) from error


def write_settings(settings: dict[str, Any]) -> None:
    """Writes what `--resume` takes over."""
    path = os.path.join(settings["model_dir"], SETTINGS)
    with open(path, "w", encoding="utf-8") as file:
        json.dump(settings, file, indent=2)
        file.write("\n")


def whole_history(path: str) -> dict[str, list[float]]:
    """All epochs of a run, from the file that `CSVLogger` has written."""
    with open(path, encoding="utf-8", newline="") as file:
        rows = {int(row["epoch"]): row for row in csv.DictReader(file)}
    columns: dict[str, list[float]] = {}
    for _, row in sorted(rows.items()):
        for name, value in row.items():
            with contextlib.suppress(TypeError, ValueError):
                columns.setdefault(name, []).append(float(value))
    return columns
