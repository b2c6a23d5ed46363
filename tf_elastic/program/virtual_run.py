"""What is different about a run in a virtual cluster."""

import json
import os
from typing import TYPE_CHECKING

from tf_elastic import files
from tf_elastic.program import run_folder
from tf_elastic.program import tree_checks
from tf_elastic.program import usage
from tf_elastic.program import virtual_checks
from tf_elastic.program.flag import Settings

if TYPE_CHECKING:
    import keras

    from tf_elastic.callbacks import VirtualTime
    from tf_elastic.strategies import VirtualClusterStrategy


def make_strategy(settings: Settings, device: str) -> "VirtualClusterStrategy":
    """The strategy.

    Args:
        settings: what `settings.parse` returned.
        device: where all workers are.
    """
    from tf_elastic import strategies

    seed = settings["timing_seed"]
    tree = tree_checks.arguments(settings)
    with usage.explained("See docs/virtual.md."):
        return strategies.VirtualClusterStrategy(
            settings["workers"],
            timing=virtual_checks.read_timing(settings),
            protocol=settings["protocol"],
            seed=settings["seed"] if seed is None else seed,
            max_lag=None if tree else settings["max_lag"] or None,
            quorum=settings["quorum"],
            max_staleness=settings["max_staleness"],
            **tree,
            device=device,
        )


def keep_timing(settings: Settings) -> None:
    """Writes the timing beside the settings: its file may change."""
    timing = virtual_checks.read_timing(settings)
    path = os.path.join(settings["model_dir"], run_folder.TIMING)
    files.write_text(path, json.dumps(timing.config(), indent=2) + "\n")


def virtual_time(settings: Settings) -> "VirtualTime":
    """The callback that tells the time."""
    from tf_elastic.callbacks import VirtualTime

    folder = settings["logdir"]
    return VirtualTime(
        settings["batch_size"],
        log_dir=folder and os.path.join(folder, run_folder.VIRTUAL_MS),
    )


def write_events(settings: Settings, model: "keras.Model") -> None:
    """Writes all that has happened, from the beginning of the run.

    Raises:
        FileNotWrittenError: it could not be written.
    """
    events = model.distribute_strategy.events()
    path = settings["events"]
    with files.whole(path) as partial, open(partial, "w") as file:
        file.writelines(event.to_json() + "\n" for event in events)
