"""The values that a run takes where no flag gives one."""

import sys
from typing import Any

NUM_TRAIN = {"digits": 1437, "cifar10": 50_000, "cifar100": 50_000}
NUM_CLASSES = {"digits": 10, "cifar10": 10, "cifar100": 100}
SEQUENTIAL = ("asgd", "mvasgd")

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
}


def fill_in(settings: dict[str, Any]) -> None:
    """Sets what depends on other flags."""
    is_cifar = settings["dataset"] != "digits"
    for name, defaults in _BY_DATASET.items():
        if settings[name] is None:
            settings[name] = defaults[is_cifar]
    if settings["learning_rate"] is None:
        rates = _LEARNING_RATES[settings["optimizer"]]
        settings["learning_rate"] = rates[is_cifar]
    if settings["workers"] is None:
        alone = (
            settings["strategy"] != "mirrored"
            and settings["optimizer"] in SEQUENTIAL
        )
        settings["workers"] = 1 if alone else 4
    if settings["verbose"] is None:
        settings["verbose"] = "1" if sys.stdout.isatty() else "2"
    if settings["steps_per_epoch"] is None:
        settings["steps_per_epoch"] = max(
            NUM_TRAIN[settings["dataset"]] // max(settings["batch_size"], 1),
            1,
        )
