"""The optimizer, the network and the data that the settings ask for."""

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING

from tf_elastic.program import defaults
from tf_elastic.program import inside_checks
from tf_elastic.program import usage
from tf_elastic.program.flag import Settings

if TYPE_CHECKING:
    import keras
    import tensorflow as tf

    from tf_elastic.cluster.launch.configuration import ClusterConfiguration


def make_optimizer(settings: Settings) -> "keras.optimizers.Optimizer":
    """The optimizer; to be called in the strategy's scope.

    Raises:
        UsageError: an argument is refused.
    """
    import keras

    from tf_elastic import optimizers
    from tf_elastic.optimizers import constructor_flags

    rate = settings["learning_rate"]
    if settings["learning_rate_decay"] is not None:
        rate = optimizers.schedules.InverseSqrtDecay(
            rate, settings["learning_rate_decay"]
        )
    common = {
        name: settings[name]
        for name in constructor_flags.COMMON
        if settings[name] is not None
    }
    hint = "See `python train.py --help` for the flags of Method."
    with usage.explained(hint):
        if settings["strategy"] in defaults.MIRRORED:
            momentum = {
                name: settings[name] for name in ("momentum", "nesterov")
            }
            return keras.optimizers.SGD(rate, **momentum, **common)
        return _of_method(settings, rate, common)


def _of_method(
    settings: Settings, rate: object, common: Settings
) -> "keras.optimizers.Optimizer":
    """The registered class, made with those of its arguments that are flags."""
    from tf_elastic import core
    from tf_elastic.optimizers import constructor_flags
    from tf_elastic.optimizers import registry

    [method] = [
        each
        for each in registry.listed()
        if each.option == settings["optimizer"]
    ]
    arguments = {
        name: settings[name]
        for name in method.flags
        if settings[name] is not None
    }
    period = arguments.get("communication_period")
    if period is not None:
        arguments["communication_period"] = (
            None if period == "none" else int(period)
        )
    average = arguments.get("center_average")
    if average == "none":
        arguments["center_average"] = None
    elif average not in (None, "polyak"):
        arguments["center_average"] = float(average)
    start = arguments.get("average_from")
    if start not in (None, core.FIRST_CUT):
        arguments["average_from"] = int(start)
    if "inner_optimizer" in arguments:
        inner = _inner_optimizer(arguments["inner_optimizer"])
        arguments["inner_optimizer"] = inner(rate, **common)
    else:
        arguments |= {"learning_rate": rate, **common}
    if constructor_flags.accepts(method.cls, "jit_compile"):
        jit = {"auto": "auto", "true": True, "false": False}
        arguments["jit_compile"] = jit[settings["jit_compile"]]
    return method.cls(**arguments)


def _inner_optimizer(name: str) -> "type[keras.optimizers.Optimizer]":
    import keras

    try:
        return type(keras.optimizers.get(name))
    except ValueError as error:
        raise usage.UsageError(
            "--inner_optimizer must be the name of a Keras optimizer, such "
            f"as adam, adamw, sgd or rmsprop. Received: {name}."
        ) from error


@contextlib.contextmanager
def _dtype_policy(settings: Settings) -> Iterator[None]:
    """Inside, layers compute in the type that the settings ask for."""
    import keras

    before = keras.config.dtype_policy()
    if settings["mixed_precision"] != "none":
        keras.config.set_dtype_policy(f"mixed_{settings['mixed_precision']}")
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)


def make_network(settings: Settings) -> "keras.Model":
    """The network for the data set, not compiled."""
    from tf_elastic import models

    if settings["dataset"] == "digits":
        return models.digits_convnet(seed=settings["seed"])
    if settings["dataset"] == defaults.IMAGENET:
        side = 224 if settings["variant"] == "random_resized" else 221
        return models.imagenet_convnet((side, side, 3), seed=settings["seed"])
    options = {
        "num_classes": defaults.NUM_CLASSES[settings["dataset"]],
        "seed": settings["seed"],
    }
    if settings["variant"] == "lowrank":
        return models.cifar_lowrank_convnet(**options)
    side = 32 if settings["variant"] == "pad" else 28
    return models.cifar_convnet((side, side, 3), **options)


def make_model(
    settings: Settings, strategy: "tf.distribute.Strategy"
) -> "keras.Model":
    """The network, compiled, its optimizer built."""
    with strategy.scope(), _dtype_policy(settings):
        model = make_network(settings)
        model.compile(
            make_optimizer(settings),
            loss="sparse_categorical_crossentropy",
            metrics=["accuracy"],
            steps_per_execution=settings["steps_per_execution"],
        )
        hint = "See --beta, --moving_rate and --workers."
        if settings["strategy"] == defaults.VIRTUAL:
            hint = "Choose another --optimizer, or leave --virtual_workers out."
        with usage.explained(hint):
            model.optimizer.build(model.trainable_variables)
    return model


def _own_seed(seed: int, task: "ClusterConfiguration | None") -> int:
    """A seed for the data of one worker of a cluster."""
    index = task.worker_index if task is not None else None
    return (seed + 7919 * (index or 0)) % 2**31


def load_data(
    settings: Settings, skip_steps: int, task: "ClusterConfiguration | None"
) -> "list[tf.data.Dataset]":
    """The splits train, test and train_eval.

    Args:
        settings: what `settings.parse` returned.
        skip_steps: of the training data, that were trained on before.
        task: the `ClusterConfiguration` of this process, or None.

    Returns:
        Three data sets. Batches to train on are those of all workers; in a
        cluster, this worker's, who draws its own; in a virtual one, one
        worker's after another's.
    """
    from tf_elastic import data

    common = {
        "variant": settings["variant"],
        "data_dir": settings["data_dir"],
        "download": settings["download"],
        "stored_size": settings["stored_size"],
    }
    workers, batch_size = settings["workers"], settings["batch_size"]
    seed = settings["seed"]
    in_turn = settings["strategy"] == defaults.VIRTUAL
    is_imagenet = settings["dataset"] == defaults.IMAGENET
    if settings["strategy"] in defaults.WITH_CENTERS:
        workers = inside_checks.workers_of_process(settings)
        seed = _own_seed(seed, task)
    with usage.explained("See --data_dir and --download."):
        train = data.load(
            settings["dataset"],
            "train",
            batch_size=batch_size,
            num_workers=workers,
            seed=seed,
            steps_per_epoch=settings["steps_per_epoch"],
            skip_steps=skip_steps,
            in_turn=in_turn,
            **common,
        )
        return [
            train,
            *data.load(
                settings["dataset"],
                ["test", "train_eval"],
                batch_size=128 if is_imagenet else 256,
                **common,
            ),
        ]
