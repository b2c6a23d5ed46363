"""What is refused of a virtual cluster, before TensorFlow starts."""

import dataclasses
import os
from typing import TYPE_CHECKING

from tf_elastic.program import defaults
from tf_elastic.program import known_methods
from tf_elastic.program import run_folder
from tf_elastic.program import tree_checks
from tf_elastic.program import usage
from tf_elastic.program.flag import Settings

if TYPE_CHECKING:
    from tf_elastic.timeline.virtual.timing import Timing

_ONLY_HERE = (
    *("timing", "timing_seed", "step_seconds"),
    *("quorum", "max_staleness"),
)


def without_effect(settings: Settings) -> dict[str, str]:
    """The flags that mean nothing here, and why, by their names."""
    if settings["strategy"] != defaults.VIRTUAL:
        return dict.fromkeys(
            _ONLY_HERE,
            "it is of a virtual cluster. Leave it out, or give "
            "--virtual_workers",
        )
    return {
        "workers": "--virtual_workers says how many there are. Leave it out",
        "order": "a cluster exchanges by --protocol. Leave it out",
        "gpu_memory_mb": "all workers are on one device. Leave it out",
        **dict.fromkeys(
            ("compression", "trusted_network"),
            "nothing travels in a virtual cluster. Leave it out, or start a "
            "real one by --local_workers",
        ),
    }


def check_choices(settings: Settings) -> None:
    """Refuses a virtual cluster that is something else, too."""
    virtual, strategy = settings["virtual_workers"], settings["strategy"]
    if virtual is None:
        if strategy == defaults.VIRTUAL:
            raise usage.UsageError(
                f"--strategy={strategy} needs a number of workers. Give "
                "--virtual_workers=16, say."
            )
        return
    if settings["local_workers"] is not None:
        raise usage.UsageError(
            "--virtual_workers rehearses a cluster in one process, and "
            "--local_workers starts a real one. Received: both. Leave one of "
            "them out."
        )
    if strategy != defaults.VIRTUAL:
        raise usage.UsageError(
            "--virtual_workers rehearses a cluster, and "
            f"--strategy={strategy} is another. Leave --strategy out."
        )
    if "TF_CONFIG" in os.environ:
        raise usage.UsageError(
            "--virtual_workers is all workers in one process, and TF_CONFIG "
            "says that this is a process of a cluster. Received: both. Leave "
            "--virtual_workers out, or unset TF_CONFIG."
        )


def check(settings: Settings) -> None:
    """Refuses a timing that is none, or that does not fit the workers."""
    if settings["strategy"] != defaults.VIRTUAL:
        return
    workers, quorum = settings["workers"], settings["quorum"]
    method = known_methods.all_methods()[settings["optimizer"]]
    protocol = settings["protocol"] or method.protocols[0]
    if quorum is not None and protocol != "synchronous":
        raise usage.UsageError(
            "--quorum is of --protocol=synchronous, in which workers meet. "
            f"Received: --quorum={quorum}, with --protocol={protocol}. Leave "
            "it out, or add --protocol=synchronous."
        )
    stale = settings["max_staleness"]
    if stale is not None and protocol == "synchronous":
        raise usage.UsageError(
            "--max_staleness is of workers that do not meet. Received: "
            f"--max_staleness={stale}, with --protocol=synchronous. Leave it "
            "out, or choose another --protocol."
        )
    if quorum is not None and quorum > workers:
        raise usage.UsageError(
            f"--quorum must be at most the {workers} workers. Received: "
            f"--quorum={quorum}."
        )
    timing = read_timing(settings)
    with usage.explained(f"Received: --timing={settings['timing']}."):
        timing.check(workers)
        timing.check_nodes(tree_checks.inner_per_level(settings))


def read_timing(settings: Settings) -> "Timing":
    """What the flags say; of a run that is resumed what it was begun with.

    Raises:
        UsageError: there is no such timing.
    """
    # Here, since NumPy is slow to import.
    from tf_elastic.timeline.virtual.timing import Timing

    with usage.explained("See docs/virtual.md for the timings."):
        if settings["resume"]:
            folder = settings["model_dir"]
            return Timing.from_file(os.path.join(folder, run_folder.TIMING))
        timing = _named(settings)
    if known_methods.all_methods()[settings["optimizer"]].one_worker:
        return timing.without_links  # Its average is at home.
    return timing


def _named(settings: Settings) -> "Timing":
    """What --timing and --step_seconds say."""
    from tf_elastic.timeline.virtual import presets
    from tf_elastic.timeline.virtual.timing import Timing

    name, step = settings["timing"], settings["step_seconds"]
    if name is None:
        return Timing(1.0 if step is None else step)
    path = os.path.expanduser(name)
    is_file = name.endswith(".json") or os.path.exists(path)
    if name in presets.PRESETS or not is_file:
        hint = "Give one of these, or a JSON file of a `Timing`."
        if name in presets.PRESETS:
            hint = "Give --step_seconds=0.1, say."
        with usage.explained(hint):
            return presets.preset(
                name, step=step, num_workers=settings["workers"]
            )
    timing = Timing.from_file(path)
    return timing if step is None else dataclasses.replace(timing, step=step)
