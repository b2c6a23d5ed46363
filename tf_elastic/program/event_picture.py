"""The picture of a local cluster's events, beside the run's other files."""

import os
from typing import Any

from tf_elastic import extras
from tf_elastic.program import console
from tf_elastic.program import run_folder
from tf_elastic.timeline import event_file


def draw(settings: dict[str, Any]) -> None:
    """Draws what a cluster that has ended has told, if anything is asked for.

    Where matplotlib is not installed there is no picture. What goes wrong with
    it is told, and spoils nothing else. The chief's table stays the last that
    is written.

    Args:
        settings: what `settings.parse` returned.
    """
    told = settings["events"] or os.environ.get(event_file.VARIABLE)
    if not told:
        return
    try:
        extras.require("matplotlib", "A plot")
    except extras.MissingExtraError:
        return
    # Here, since NumPy is slow to import.
    from tf_elastic.timeline import picture

    folder = settings["model_dir"] or os.path.dirname(told)
    path = os.path.join(folder, run_folder.EVENTS)
    try:
        found = event_file.read(told)
        if found:
            picture.plot(found, path, told)
    except (OSError, ValueError) as error:
        console.complain(f"{error} There is no picture of the events.")
