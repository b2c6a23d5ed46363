"""The values that a run takes where no flag gives one."""

import os
import sys
from typing import TYPE_CHECKING

from tf_elastic.program import flag_table
from tf_elastic.program import known_methods
from tf_elastic.program import usage
from tf_elastic.program.flag import Settings

if TYPE_CHECKING:
    from tf_elastic.cluster.launch.configuration import ClusterConfiguration

IMAGENET = "imagenet2012"
NUM_TRAIN = {
    "digits": 1437,
    "cifar10": 50_000,
    "cifar100": 50_000,
    IMAGENET: 1_281_167,
}
NUM_CLASSES = {"digits": 10, "cifar10": 10, "cifar100": 100, IMAGENET: 1000}
# The default first.
VARIANTS = {
    "digits": (),
    "cifar10": ("crop", "lowrank", "pad"),
    "cifar100": ("crop", "lowrank", "pad"),
    IMAGENET: ("crop", "random_resized"),
}
MIRRORED = ("mirrored", "multi_worker_mirrored")  # the baselines
# Those of processes that exchange with center servers.
STAR, TREE = "elastic_multi_worker", "elastic_tree"
WITH_CENTERS = (STAR, TREE)
CLUSTER = (*WITH_CENTERS, "multi_worker_mirrored")
VIRTUAL = "virtual_cluster"
# As `cluster_tree` has it, which is slow to import.
TREE_VARIABLE = "TF_ELASTIC_TREE"

# What depends on the data: (digits, CIFAR, CIFAR-lowrank). CIFAR's are the
# thesis'.
_BY_DATA = {
    "batch_size": (32, 128, 16),
    "epochs": (8, 10, 10),
}


def choose_strategy(settings: Settings) -> None:
    """Sets the strategy, which other defaults depend on."""
    if settings["strategy"] is None:
        in_cluster = "TF_CONFIG" in os.environ
        if settings["virtual_workers"] is not None:
            settings["strategy"] = VIRTUAL
            return
        if not in_cluster and settings["local_workers"] is None:
            settings["strategy"] = "elastic_mirrored"
            return
        asked_for = settings["tree"] is not None or TREE_VARIABLE in os.environ
        settings["strategy"] = TREE if asked_for else STAR


def fill_in(settings: Settings, task: "ClusterConfiguration | None") -> None:
    """Sets what depends on other flags.

    Args:
        settings: a value for each flag; changed.
        task: the `ClusterConfiguration` of this process, or None.
    """
    is_cifar = settings["dataset"] != "digits"
    which = is_cifar + (settings["variant"] == "lowrank")
    method = known_methods.all_methods()[settings["optimizer"]]
    _fill_in_method(settings, method)
    for name, defaults in _BY_DATA.items():
        if settings[name] is None:
            settings[name] = defaults[which]
    if settings["local_workers"] is not None:
        settings["workers"] = settings["local_workers"]
    elif settings["virtual_workers"] is not None:
        settings["workers"] = settings["virtual_workers"]
    elif task is not None:
        settings["workers"] = task.num_workers
    elif settings["workers"] is None:
        alone = settings["strategy"] not in MIRRORED and method.one_worker
        settings["workers"] = 1 if alone else 4
    if settings["verbose"] is None:
        settings["verbose"] = "1" if sys.stdout.isatty() else "2"
    if settings["steps_per_epoch"] is None:
        settings["steps_per_epoch"] = max(
            NUM_TRAIN[settings["dataset"]] // max(settings["batch_size"], 1),
            1,
        )


# Flags of which "none" is one of the values, and so is told from not given.
_NONE_IS_A_VALUE = ("communication_period", "center_average")


def _fill_in_method(settings: Settings, method: known_methods.Known) -> None:
    """Sets what a method takes for its flags that are not given."""
    kinds = {flag.name: flag.kind for flag in flag_table.all_flags()}
    for name in ("learning_rate", *method.flags):
        if settings[name] is not None:
            continue
        value = method.default(name, settings["dataset"])
        if kinds[name] == "text" and type(value) is int:
            value = str(value)
        if name in _NONE_IS_A_VALUE and value is None:
            value = "none"
        settings[name] = value
    if settings["learning_rate"] is None:
        raise usage.UsageError(
            f"--optimizer={method.option} needs a --learning_rate: "
            f"{method.name} has no default for it. Give one, say "
            "--learning_rate=0.01."
        )
