"""What the theory says of a setting, in a few words."""

import json
import os
from collections.abc import Sequence

from tf_elastic.program import advising
from tf_elastic.program import console
from tf_elastic.program import usage
from tf_elastic.program.flag import Settings
from tf_elastic.rehearse import child
from tf_elastic.rehearse import runs
from tf_elastic.rehearse.processes import Processes
from tf_elastic.rehearse.runs import Run

# Of the curvature, which has no deadline of a run.
_DEADLINE_S = 900.0
_OF_MODEL = ("dataset", "batch_size")


def verdicts(every: Sequence[Run], out: str, processes: Processes) -> list[str]:
    """A verdict for each run; the curvature is measured where it must be.

    Args:
        every: the runs.
        out: the folder of the rehearsal, where curvatures are kept.
        processes: by which they are measured.
    """
    curvatures: dict[str, float | None] = {}
    known: dict[str, str] = {}
    found = []
    for run in every:
        key = "-".join(str(run.settings[name]) for name in _OF_MODEL)
        if key not in curvatures:
            path = os.path.join(out, f"curvature-{key}.json")
            curvatures[key] = _curvature(run, path, processes)
        flags = {k: v for k, v in run.flags.items() if k not in runs.SEEDS}
        setting = json.dumps(flags, sort_keys=True)
        if setting not in known:
            known[setting] = verdict(run.settings, curvatures[key])
        found.append(known[setting])
    return found


def _curvature(run: Run, path: str, processes: Processes) -> float | None:
    """That of the network before training; None if it cannot be measured."""
    if not os.path.exists(path):
        console.say("Measuring the curvature, for the advisor ...")
        argv = [f"{child.CURVATURE}{path}", *runs.argv(run.flags)]
        processes.run(argv, f"{path.removesuffix('.json')}.txt", _DEADLINE_S)
    try:
        with open(path, encoding="utf-8") as file:
            return float(json.load(file))
    except (OSError, ValueError):
        return None


def verdict(settings: Settings, curvature: float | None) -> str:
    """Stable or not, and what would be; "" if the theory has no word.

    Args:
        settings: of a run.
        curvature: the largest; None if it is not known.
    """
    if curvature is None:
        return ""
    try:
        advice = advising.advice_of(settings, curvature)
    except usage.UsageError:
        return ""
    if not advice.stable:
        near = advice.nearest_stable
        return "unstable" + (
            f"; {near.argument}={near.value:.3g} is not" if near else ""
        )
    words = f"stable, rate up to x{advice.margin:.2g}"
    useful = advice.useful_workers
    if useful is not None and useful < settings["workers"]:
        words += f", gain up to p={useful}"
    return words
