"""What runs have come to: a row for each, in a file that is always whole."""

import csv
import io
import json
import math
import os
from collections.abc import Mapping
from collections.abc import Sequence

from tf_elastic import files
from tf_elastic.program import run_folder
from tf_elastic.program import usage
from tf_elastic.rehearse.runs import Run

RESULTS = "results.csv"
RUNS = "runs"
REPORT = "report.json"
LOG = "log.txt"
EVENTS = "events.jsonl"

DONE = "done"
LATE = "deadline"
FAILED = "failed"

# A row of the file; all as text.
Row = dict[str, str]
# Values by name, of an epoch each.
History = Mapping[str, Sequence[float]]


def folder_of(run: Run, out: str) -> str:
    """The folder of a run."""
    return os.path.join(out, RUNS, run.name)


def history_of(run: Run, out: str) -> History:
    """The epochs of a run, as far as they are written."""
    path = os.path.join(folder_of(run, out), run_folder.HISTORY)
    if not os.path.exists(path):
        return {}
    return run_folder.whole_history(path)


def errors_of(history: History) -> list[float]:
    """The center's test error, after each epoch."""
    return [1 - accuracy for accuracy in history.get("val_accuracy", ())]


def seconds_to(history: History, target: float) -> float | None:
    """Virtual seconds until the test error is at most `target`.

    At the end of the first epoch of which this holds; None if of none.
    """
    for error, seconds in zip(
        errors_of(history), history.get("virtual_seconds", ()), strict=False
    ):
        if error <= target:
            return seconds
    return None


def seconds_name(target: float) -> str:
    """The column of a target."""
    return f"seconds_to_{target:g}"


def row_of(run: Run, out: str, targets: Sequence[float]) -> Row | None:
    """The row of a run that has ended well; None if it has not."""
    path = os.path.join(folder_of(run, out), REPORT)
    try:
        with open(path, encoding="utf-8") as file:
            report = json.load(file)
        virtual = report["virtual"]
        numbers = {
            "final_error": report["center"]["test_error"],
            "virtual_seconds": virtual["virtual_seconds"],
            "local_steps": virtual["local_steps"],
            "samples": virtual["samples"],
            "bytes": virtual["bytes"],
            "updates": virtual["updates"],
            "goodput": virtual["goodput"],
            "staleness": virtual["mean_staleness"],
            "wall_s": report["time"]["wall_s"],
        }
    except (OSError, ValueError, KeyError, TypeError):
        return None
    history = history_of(run, out)
    numbers["best_error"] = min(
        (e for e in errors_of(history) if not math.isnan(e)), default=None
    )
    for target in targets:
        numbers[seconds_name(target)] = seconds_to(history, target)
    row = {k: "" if v is None else repr(v) for k, v in numbers.items()}
    return {"status": DONE, **row}


class Results:
    """The rows of all runs that have ended.

    Args:
        out: the folder of the rehearsal.

    Raises:
        UsageError: the file that is there is none of a rehearsal.
    """

    def __init__(self, out: str) -> None:
        self.path = os.path.join(out, RESULTS)
        self._rows: dict[str, Row] = {}
        if not os.path.exists(self.path):
            return
        with open(self.path, encoding="utf-8", newline="") as file:
            for row in csv.DictReader(file):
                if not row.get("run") or not row.get("status"):
                    raise usage.UsageError(
                        f"{self.path} is not the results of a rehearsal. "
                        "Move it away, or choose another --out."
                    )
                self._rows[row["run"]] = {k: v or "" for k, v in row.items()}

    def status(self, run: Run) -> str | None:
        """How it has ended; None if it has not."""
        return self._rows.get(run.name, {}).get("status")

    def row(self, run: Run) -> Row:
        """What is known of a run."""
        return self._rows.get(run.name, {})

    def note(self, run: Run, row: Row) -> None:
        """Adds a run, or puts it in place of an earlier try.

        Raises:
            FileNotWrittenError: the file is as it was.
        """
        flags = {name: str(value) for name, value in run.flags.items()}
        before = self._rows.get(run.name, {})
        self._rows[run.name] = {**before, "run": run.name, **row, **flags}
        names = list(dict.fromkeys(n for r in self._rows.values() for n in r))
        text = io.StringIO(newline="")
        writer = csv.DictWriter(text, names, restval="")
        writer.writeheader()
        writer.writerows(self._rows.values())
        files.write_text(self.path, text.getvalue())
