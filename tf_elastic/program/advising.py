"""--advise: what the theory says of the settings, instead of training."""

import os
from typing import Any

from tf_elastic.program import console
from tf_elastic.program import defaults
from tf_elastic.program import usage

# Curvatures from the measured one down to this share of it are looked at.
_SMALLEST_SHARE = 1e-2

# --optimizer -> the advisor's name.
RULES = {
    "eamsgd": "EAMSGD",
    "easgd": "EASGD",
    "elastic": "Elastic",
    "asgd": "ASGD",
    "mvasgd": "MVASGD",
    "downpour": "Downpour",
    "adownpour": "ADownpour",
    "mvadownpour": "MVADownpour",
    "mdownpour": "MDownpour",
    "async_msgd": "AsyncMSGD",
    "local_sgd": "LocalSGD",
    "diloco": "DiLoCo",
    "admm": "ADMM",
}
_WITH_MOMENTUM = ("eamsgd", "mdownpour", "async_msgd")


def advise(settings: dict[str, Any]) -> int:
    """Measures the curvature on a batch, and prints the advice.

    Args:
        settings: what `settings.parse` returned.

    Returns:
        The exit status: 0, also where the settings are unstable.

    Raises:
        UsageError: the data is not there, or an argument is refused.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    with console.quiet_stderr():
        import keras

        from tf_elastic import data
        from tf_elastic import monitor
        from tf_elastic import theory
        from tf_elastic.program import building
    keras.utils.set_random_seed(settings["seed"])
    model = building.make_network(settings)
    with usage.explained("See --data_dir and --download."):
        batches = data.load(
            settings["dataset"],
            "train",
            batch_size=settings["batch_size"],
            seed=settings["seed"],
            steps_per_epoch=1,
            data_dir=settings["data_dir"],
            download=settings["download"],
        )
    x, y = next(iter(batches))
    found = monitor.largest_curvature(
        model, x, y, "sparse_categorical_crossentropy"
    )
    console.say(
        f"Largest curvature of {model.name}, not trained yet, on a batch of "
        f"{settings['batch_size']}: {found.eigenvalue:.4g} (within "
        f"{found.residual:.1g}). Train, and it changes."
    )
    largest = found.eigenvalue
    with usage.explained("See `python train.py --help`."):
        advice = theory.advise(
            curvature=(_SMALLEST_SHARE * largest, largest),
            **_arguments(settings),
        )
    console.say(str(advice))
    return 0


def _arguments(settings: dict[str, Any]) -> dict[str, Any]:
    """The settings as the advisor names them."""
    optimizer, period = settings["optimizer"], settings["communication_period"]
    chosen = {
        "rule": RULES[optimizer],
        "learning_rate": settings["learning_rate"],
    }
    if optimizer in defaults.SEQUENTIAL or period == "none":
        # Workers that never meet are sequential, each for itself.
        alone = optimizer in defaults.SEQUENTIAL
        return chosen | {
            "rule": chosen["rule"] if alone else "ASGD",
            "num_workers": 1,
        }
    in_cluster = settings["strategy"] in defaults.CLUSTER
    chosen |= {
        "num_workers": settings["workers"],
        "protocol": settings["protocol" if in_cluster else "exchange"],
    }
    if optimizer not in ("mdownpour", "async_msgd"):
        chosen["communication_period"] = int(period)
    if optimizer in _WITH_MOMENTUM:
        chosen["momentum"] = settings["momentum"]
    if optimizer == "eamsgd":
        chosen["nesterov"] = settings["nesterov"]
    names: tuple[str, ...] = ()
    if optimizer in ("eamsgd", "easgd", "elastic"):
        names = ("moving_rate", "beta")
        if settings["symmetric"] and settings["beta"] is not None:
            names = ("beta",)
    elif optimizer == "admm":
        names = ("elasticity",)
    elif optimizer == "diloco":
        names = ("outer_learning_rate", "outer_momentum")
    return chosen | {name: settings[name] for name in names}
