"""The files of a run, in --model_dir."""

import contextlib
import csv
import json
import os
from typing import Any

BACKUP = "backup"
CENTERS = "centers"  # snapshots of a cluster's center servers
LOGS = "logs"  # of a cluster's processes
BEST = "best.keras"  # that the evaluator has seen
SETTINGS = "settings.json"
HISTORY = "history.csv"
MODEL = "model.keras"
METADATA = "training_metadata.json"  # Keras' name, in the backup.


def write_settings(settings: dict[str, Any]) -> None:
    """Writes what `--resume` takes over."""
    os.makedirs(settings["model_dir"], exist_ok=True)
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
