"""--advise: what the theory says of the settings, instead of training."""

import os
from typing import TYPE_CHECKING
from typing import Any

from tf_elastic.program import console
from tf_elastic.program import defaults
from tf_elastic.program import known_methods
from tf_elastic.program import loading
from tf_elastic.program import usage
from tf_elastic.program.flag import Settings

if TYPE_CHECKING:
    from tf_elastic import theory

# Curvatures from the measured one down to this share of it are looked at.
_SMALLEST_SHARE = 1e-2

# What the advisor is asked about, of the flags of methods.
_ASKED = (
    *("momentum", "nesterov", "communication_period", "moving_rate", "beta"),
    *("elasticity", "outer_learning_rate", "outer_momentum"),
)


def advise(settings: Settings) -> int:
    """Measures the curvature on a batch, and prints the advice.

    Args:
        settings: what `settings.parse` returned.

    Returns:
        The exit status: 0, also where the settings are unstable.

    Raises:
        UsageError: the data is not there, or an argument is refused.
    """
    name, found = measured(settings)
    console.say(
        f"Largest curvature of {name}, not trained yet, on a batch of "
        f"{settings['batch_size']}: {found.eigenvalue:.4g} (within "
        f"{found.residual:.1g}). Train, and it changes."
    )
    console.say(str(advice_of(settings, found.eigenvalue)))
    return 0


def measured(settings: Settings) -> tuple[str, "theory.curvature.Curvature"]:
    """The network's name, and its largest curvature before it is trained.

    Raises:
        UsageError: the data is not there.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    with loading.libraries():
        import keras

        from tf_elastic import data
        from tf_elastic import monitor
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
            variant=settings["variant"],
            data_dir=settings["data_dir"],
            download=settings["download"],
            stored_size=settings["stored_size"],
        )
    x, y = next(iter(batches))
    found = monitor.largest_curvature(
        model, x, y, "sparse_categorical_crossentropy"
    )
    return str(model.name), found


def advice_of(settings: Settings, largest: float) -> "theory.Advice":
    """What the theory says; it starts no TensorFlow.

    Args:
        settings: what `settings.parse` returned.
        largest: the curvature.

    Raises:
        UsageError: an argument is refused, or nothing is known of the method.
    """
    from tf_elastic import theory

    with usage.explained("See `python train.py --help`."):
        return theory.advise(
            curvature=(_SMALLEST_SHARE * largest, largest),
            **_arguments(settings),
        )


def _arguments(settings: Settings) -> dict[str, Any]:
    """The settings as the advisor names them.

    Raises:
        UsageError: the theory knows nothing of the method.
    """
    method = known_methods.all_methods()[settings["optimizer"]]
    rule, period = method.advised_as, settings["communication_period"]
    if rule is None:
        raise usage.UsageError(
            f"--advise has nothing to say of --optimizer={method.option}: the "
            "theory does not know its rule. Leave it out; or, if a known one "
            "holds for it, say `register(advised_as=...)`."
        )
    if method.one_worker or period == "none":
        # Workers that never meet are sequential, each for itself.
        return {
            "rule": rule if method.one_worker else "AveragedSGD",
            "learning_rate": settings["learning_rate"],
            "num_workers": 1,
        }
    in_cluster = settings["strategy"] in (*defaults.CLUSTER, defaults.VIRTUAL)
    chosen = {
        "rule": rule,
        "learning_rate": settings["learning_rate"],
        "num_workers": settings["workers"],
        "protocol": settings["protocol" if in_cluster else "order"],
    }
    for name in _ASKED:
        if name in method.flags:
            chosen[name] = settings[name]
    if "communication_period" in chosen:
        chosen["communication_period"] = int(period)
    if settings["symmetric"] and settings["beta"] is not None:
        chosen.pop("moving_rate", None)  # It follows.
    return chosen
