"""The values that a run takes where no flag gives one."""

import os
import sys
from typing import Any

NUM_TRAIN = {"digits": 1437, "cifar10": 50_000, "cifar100": 50_000}
NUM_CLASSES = {"digits": 10, "cifar10": 10, "cifar100": 100}
SEQUENTIAL = ("asgd", "mvasgd")
MIRRORED = ("mirrored", "multi_worker_mirrored")  # the baselines
CLUSTER = ("elastic_multi_worker", "multi_worker_mirrored")

# What depends on the data set: (digits, CIFAR). CIFAR's are the thesis'.
_BY_DATASET = {
    "batch_size": (32, 128),
    "momentum": (0.9, 0.99),
    "averaging_rate": (0.01, 0.001),
    "epochs": (8, 10),
}

# And on the optimizer.
_LEARNING_RATES = {
    "eamsgd": (0.05, 0.005),
    "easgd": (0.2, 0.05),
    "elastic": (0.003, 0.0003),
    "asgd": (0.2, 0.05),
    "mvasgd": (0.2, 0.05),
    "downpour": (0.05, 0.005),
    "adownpour": (0.05, 0.005),
    "mvadownpour": (0.05, 0.005),
    "mdownpour": (0.005, 0.00005),
    "async_msgd": (0.05, 0.01),
    "local_sgd": (0.003, 0.0003),
    "diloco": (0.003, 0.0003),
    "admm": (0.1, 0.05),
}
_PERIODS = {
    "downpour": "1",
    "adownpour": "1",
    "mvadownpour": "1",
    "admm": "1",
    "diloco": "50",
}
_ASYNC_MOMENTUM = 0.5  # gradients are stale


def choose_strategy(settings: dict[str, Any]) -> None:
    """Sets the strategy, which other defaults depend on."""
    if settings["strategy"] is None:
        in_cluster = "TF_CONFIG" in os.environ
        settings["strategy"] = (
            "elastic_multi_worker"
            if in_cluster or settings["local_workers"] is not None
            else "elastic_mirrored"
        )


def fill_in(settings: dict[str, Any], task: Any) -> None:
    """Sets what depends on other flags.

    Args:
        settings: a value for each flag; changed.
        task: the `ClusterConfiguration` of this process, or None.
    """
    is_cifar = settings["dataset"] != "digits"
    optimizer = settings["optimizer"]
    if settings["momentum"] is None and optimizer == "async_msgd":
        settings["momentum"] = _ASYNC_MOMENTUM
    if settings["communication_period"] is None:
        settings["communication_period"] = _PERIODS.get(optimizer, "10")
    for name, defaults in _BY_DATASET.items():
        if settings[name] is None:
            settings[name] = defaults[is_cifar]
    if settings["learning_rate"] is None:
        rates = _LEARNING_RATES[optimizer]
        settings["learning_rate"] = rates[is_cifar]
    if settings["local_workers"] is not None:
        settings["workers"] = settings["local_workers"]
    elif settings["strategy"] in CLUSTER:
        settings["workers"] = task.num_workers
    elif settings["workers"] is None:
        alone = (
            settings["strategy"] not in MIRRORED
            and optimizer in SEQUENTIAL
        )
        settings["workers"] = 1 if alone else 4
    if settings["verbose"] is None:
        settings["verbose"] = "1" if sys.stdout.isatty() else "2"
    if settings["steps_per_epoch"] is None:
        settings["steps_per_epoch"] = max(
            NUM_TRAIN[settings["dataset"]] // max(settings["batch_size"], 1),
            1,
        )
