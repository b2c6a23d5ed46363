"""The epochs of a run, as a file that is whole whenever somebody looks."""

import csv
import io
import os
from collections.abc import Mapping

from tf_elastic import files
from tf_elastic.program import run_folder


class HistoryFile:
    """Keeps what Keras logs of each epoch as CSV, as `CSVLogger` does.

    Args:
        path: the file.
        goes_on: whether it is to keep the epochs that it has.
    """

    def __init__(self, path: str | os.PathLike[str], goes_on: bool) -> None:
        self.path = path
        self._rows: dict[int, Mapping[str, object]] = {}
        if goes_on and os.path.exists(path):
            self._rows.update(run_folder.epochs_of(path))

    def note(self, epoch: int, logs: Mapping[str, float] | None = None) -> None:
        """Writes all epochs anew; as `on_epoch_end` of a callback.

        Raises:
            FileNotWrittenError: the file is as it was; the next time has this
                epoch, too.
        """
        self._rows[epoch] = {"epoch": epoch, **(logs or {})}
        names = ["epoch"]
        for row in self._rows.values():
            names += sorted(name for name in row if name not in names)
        text = io.StringIO(newline="")
        writer = csv.DictWriter(text, names, restval="NA")
        writer.writeheader()
        writer.writerows(row for _, row in sorted(self._rows.items()))
        files.write_text(self.path, text.getvalue())
