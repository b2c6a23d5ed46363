"""The files of a run, in --model_dir."""

import contextlib
import csv
import json
import os

from tf_elastic import files
from tf_elastic.program import usage
from tf_elastic.program.flag import Settings

BACKUP = "backup"
CENTERS = "centers"  # snapshots of a cluster's center servers
LOGS = "logs"  # of a cluster's processes
EVENTS = "events.png"  # of a local cluster, drawn
BEST = "best.keras"  # that the evaluator has seen
SETTINGS = "settings.json"
TIMING = "timing.json"  # of a virtual cluster
VIRTUAL_MS = "virtual_ms"  # in --logdir, curves over virtual milliseconds
HISTORY = "history.csv"
MODEL = "model.keras"
RATE_CUTS = "rate_cuts.jsonl"  # what is known of the loss, for the next cut
# In the backup; the names are those of Keras' `BackupAndRestore`.
WEIGHTS = "latest.weights.h5"
METADATA = "training_metadata.json"
BEFORE = ".bkp"  # behind the names of the backup before


def make(settings: Settings) -> None:
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


def write_settings(settings: Settings) -> None:
    """Writes what `--resume` takes over."""
    path = os.path.join(settings["model_dir"], SETTINGS)
    files.write_text(path, json.dumps(settings, indent=2) + "\n")


def epochs_of(path: str | os.PathLike[str]) -> dict[int, dict[str, str]]:
    """The rows of a history, by their epochs."""
    with open(path, encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    epochs = {}
    for row in rows:
        with contextlib.suppress(TypeError, ValueError):  # It was cut off.
            epochs[int(row["epoch"])] = row
    return epochs


def whole_history(path: str) -> dict[str, list[float]]:
    """All epochs of a run, from the file that `HistoryFile` has written."""
    columns: dict[str, list[float]] = {}
    for _, row in sorted(epochs_of(path).items()):
        for name, value in row.items():
            with contextlib.suppress(TypeError, ValueError):
                columns.setdefault(name, []).append(float(value))
    return columns
