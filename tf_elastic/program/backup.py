"""The newest two epochs of a run of one process, to go on from."""

import json
import os
import tempfile
from typing import TYPE_CHECKING

from tf_elastic import files
from tf_elastic.program import run_folder

if TYPE_CHECKING:
    import keras


def save(model: "keras.Model", folder: str, epochs: int) -> None:
    """Saves all of a model at an epoch's end, for `resuming`.

    The weights come first, then how many epochs they have had.

    Args:
        model: in training.
        folder: where to.
        epochs: that it has had.

    Raises:
        FileNotWrittenError: the disk is full, say; the backup as it was is
            there.
    """
    for name in (run_folder.WEIGHTS, run_folder.METADATA):
        newest = os.path.join(folder, name)
        if os.path.exists(newest):
            files.copy(newest, newest + run_folder.BEFORE)
    with tempfile.TemporaryDirectory() as elsewhere:
        # HDF5 tells of a full disk more than once, and not only to us.
        path = os.path.join(elsewhere, run_folder.WEIGHTS)
        model.save_weights(path)
        files.copy(path, os.path.join(folder, run_folder.WEIGHTS))
    note_epochs(folder, epochs)


def note_epochs(folder: str, epochs: int) -> None:
    """Writes how many epochs the newest backup has had."""
    files.write_text(
        os.path.join(folder, run_folder.METADATA),
        json.dumps({"epoch": epochs, "batch": 0}),
    )
