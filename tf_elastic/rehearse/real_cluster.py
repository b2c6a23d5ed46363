"""The command of train.py that does in a real cluster what was rehearsed."""

import shlex

from tf_elastic.rehearse import runs
from tf_elastic.rehearse.runs import Run

# What a real cluster sees to by itself.
_VIRTUAL = (
    *("virtual_workers", "timing", "step_seconds", "timing_seed"),
    *("quorum", "max_staleness", "steps_per_epoch"),
)


def command(run: Run) -> str:
    """The command; on one machine, as `--local_workers` starts a cluster.

    Its epochs are as long: there each worker has its part of the steps.
    """
    p = run.settings["workers"]
    steps = -(-run.settings["steps_per_epoch"] // p)
    flags = {k: v for k, v in run.flags.items() if k not in _VIRTUAL}
    argv = runs.argv({**flags, "local_workers": p, "steps_per_epoch": steps})
    return shlex.join(["python", "train.py", *argv])


def lacks(run: Run) -> list[str]:
    """The flags of a run that a real cluster has not."""
    return [name for name in ("quorum", "max_staleness") if name in run.flags]
