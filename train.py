r"""Trains a network on several devices of this machine, elastically.

Every device is a worker with parameters of its own. Every few steps workers
and a shared center give way to each other; the center is what is tested and
saved. Without any flag: handwritten digits (they come with the package),
4 workers on this machine's CPU, EAMSGD, less than a minute.

Three commands to begin with:

  python train.py
  python train.py --optimizer=easgd --epochs=12 --logdir=runs/tb --plot=runs/easgd.png
  python train.py --dataset=cifar10 --data_dir=~/tensorflow_datasets --model_dir=runs/cifar --logdir=runs/cifar/tb
"""  # noqa: E501

import contextlib
import csv
import dataclasses
import importlib.util
import json
import os
import shutil
import subprocess
import sys
import tempfile
import textwrap
import time
import warnings
from collections.abc import Iterator
from collections.abc import Sequence
from typing import Any

from absl import flags

# TensorFlow is imported in functions, once the flags are known to be right.

_NUM_TRAIN = {"digits": 1437, "cifar10": 50_000, "cifar100": 50_000}
_NUM_CLASSES = {"digits": 10, "cifar10": 10, "cifar100": 100}
_SEQUENTIAL = ("asgd", "mvasgd")
_BACKUP = "backup"
_SETTINGS = "settings.json"
_HISTORY = "history.csv"
_MODEL = "model.keras"

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

# What --resume may change; all else is a property of the run.
_FREE = frozenset(
    "data_dir download device gpu_memory_mb epochs steps_per_execution "
    "deterministic logdir model_dir resume plot report verbose".split()
)


class UsageError(Exception):
    """The program cannot do what was asked; the message says what to do."""


# Flags.


@dataclasses.dataclass(frozen=True)
class Flag:
    """A flag of the program: its type, its default and its words."""

    name: str
    kind: str  # "text", "integer", "number", "switch", or choices: "a|b|c"
    default: Any
    help: str
    shown: str | None = None  # in place of the default


_GROUPS: dict[str, list[Flag]] = {
    "Data": [
        Flag(
            "dataset", "digits|cifar10|cifar100", "digits",
            "What to train on. The digits come with the package; CIFAR is "
            "read as TensorFlow Datasets prepares it.",
        ),
        Flag(
            "data_dir", "text", None,
            "Folder that holds the prepared folder 'cifar10' or 'cifar100'.",
            "~/tensorflow_datasets",
        ),
        Flag(
            "download", "switch", False,
            "Download and prepare CIFAR in --data_dir if it is not there.",
        ),
    ],
    "Workers": [
        Flag(
            "strategy", "elastic_mirrored|mirrored", "elastic_mirrored",
            "elastic_mirrored: each device is a worker with its own "
            "parameters. mirrored: the baseline, TensorFlow's "
            "MirroredStrategy with Keras' SGD; all devices take each step "
            "together.",
        ),
        Flag(
            "workers", "integer", None,
            "How many workers. On a CPU they are logical devices; if there "
            "are fewer GPUs, several workers share one.",
            "4; 1 for asgd and mvasgd",
        ),
        Flag(
            "device", "auto|cpu|gpu", "auto",
            "Where the workers are. auto: on GPUs if there are any.",
        ),
        Flag(
            "gpu_memory_mb", "integer", None,
            "Memory of each worker, in MiB, if several share a GPU.",
            "an equal part of what is free",
        ),
        Flag(
            "exchange", "jacobi|gauss_seidel|round_robin", "jacobi",
            "Who moves first in an exchange. jacobi: all at once; "
            "gauss_seidel: the center, then the workers; round_robin: one "
            "worker after another.",
        ),
    ],
    "Method": [
        Flag(
            "optimizer", "eamsgd|easgd|elastic|asgd|mvasgd", "eamsgd",
            "eamsgd: elastic averaging with momentum. easgd: without. "
            "elastic: around the Keras optimizer --inner_optimizer. asgd, "
            "mvasgd: one worker, averaged over time.",
        ),
        Flag(
            "inner_optimizer", "text", "adam",
            "Name of a Keras optimizer: adam, adamw, sgd, ... Only with "
            "--optimizer=elastic.",
        ),
        Flag(
            "learning_rate", "number", None,
            "Step size of a worker, eta.",
            "digits, CIFAR: 0.05, 0.005; without momentum 0.2, 0.05; "
            "elastic: 0.003, 0.0003",
        ),
        Flag(
            "learning_rate_decay", "number", None,
            "Decay gamma: the rate at local step t is "
            "eta / sqrt(1 + gamma t).",
            "none",
        ),
        Flag(
            "momentum", "number", None,
            "Momentum of a worker, delta, in [0, 1). Only with eamsgd and "
            "--strategy=mirrored.",
            "0.9 for digits, 0.99 for CIFAR",
        ),
        Flag(
            "nesterov", "switch", True,
            "Take the gradient where the momentum leads; --nonesterov takes "
            "it where the worker is (heavy ball).",
        ),
        Flag(
            "beta", "number", None,
            "Rate at which the center follows the workers, per exchange.",
            "0.9, or workers * moving_rate",
        ),
        Flag(
            "moving_rate", "number", None,
            "Rate at which a worker is pulled to the center, per exchange, "
            "alpha.",
            "beta / workers",
        ),
        Flag(
            "symmetric", "switch", True,
            "Hold beta = workers * moving_rate; with --nosymmetric both are "
            "free, and must be given.",
        ),
        Flag(
            "communication_period", "text", "10",
            "Local steps between two exchanges, tau; none for no exchange.",
        ),
        Flag(
            "averaging_rate", "number", None,
            "Rate of mvasgd's moving average, in (0, 1].",
            "0.01 for digits, 0.001 for CIFAR",
        ),
        Flag(
            "weight_decay", "number", None,
            "Decoupled weight decay, as in Keras.", "none",
        ),
        Flag(
            "clipnorm", "number", None,
            "Largest norm of a variable's gradient, for each worker.", "none",
        ),
        Flag(
            "gradient_accumulation_steps", "integer", None,
            "Batches whose gradients make up one local step, at least 2.",
            "1",
        ),
    ],
    "Length": [
        Flag(
            "batch_size", "integer", None,
            "Images in a worker's batch.", "32 for digits, 128 for CIFAR",
        ),
        Flag("epochs", "integer", None, "Epochs in all.",
             "8 for digits, 10 for CIFAR"),
        Flag(
            "steps_per_epoch", "integer", None,
            "Batches of each worker in an epoch.",
            "training images / batch_size",
        ),
        Flag(
            "steps_per_execution", "integer", 1,
            "Batches in one call of the graph; more cost less Python.",
        ),
    ],
    "Numbers": [
        Flag(
            "mixed_precision", "none|float16|bfloat16", "none",
            "Type of computation; variables stay float32.",
        ),
        Flag(
            "jit_compile", "auto|true|false", "auto",
            "Whether XLA compiles update and exchange.",
        ),
        Flag("seed", "integer", 0, "Of initial values, data and dropout."),
        Flag(
            "deterministic", "switch", False,
            "The same numbers to the bit in every run; slower on GPUs.",
        ),
    ],
    "Files and output": [
        Flag(
            "logdir", "text", None,
            "Folder for TensorBoard; see it by `tensorboard --logdir`.",
            "none",
        ),
        Flag(
            "model_dir", "text", None,
            "Folder for a backup after each epoch, the history, and at the "
            "end the center, as model.keras.",
            "none",
        ),
        Flag(
            "resume", "switch", False,
            "Go on with the run in --model_dir, with the settings it was "
            "begun with. --epochs may be raised.",
        ),
        Flag(
            "plot", "text", None,
            "File for a picture of the run, ending in .png.", "none",
        ),
        Flag(
            "report", "text", None,
            "File for the report at the end, as JSON.", "none",
        ),
        Flag(
            "verbose", "0|1|2", None,
            "1: a progress bar; 2: a line for each epoch; 0: the end only.",
            "1 on a terminal, else 2",
        ),
    ],
}


def define_flags() -> flags.FlagValues:
    """The program's flags, apart from those of other packages."""
    values = flags.FlagValues()
    for flag in _all_flags():
        args = (flag.name, flag.default, flag.help)
        if "|" in flag.kind:
            flags.DEFINE_enum(
                args[0], args[1], flag.kind.split("|"), args[2],
                flag_values=values,
            )
        else:
            define = {
                "text": flags.DEFINE_string,
                "integer": flags.DEFINE_integer,
                "number": flags.DEFINE_float,
                "switch": flags.DEFINE_bool,
            }[flag.kind]
            define(*args, flag_values=values)
    return values


def _all_flags() -> list[Flag]:
    return [flag for group in _GROUPS.values() for flag in group]


def help_text() -> str:
    """What `--help` shows."""
    lines = [__doc__.strip(), ""]
    for group, members in _GROUPS.items():
        lines += [f"{group}:"]
        for flag in members:
            lines += _help_of(flag)
        lines.append("")
    lines += [
        "A switch is turned on by --name and off by --noname. Flags can also",
        "be read from a file: --flagfile=FILE, one flag on a line.",
    ]
    return "\n".join(lines)


def _help_of(flag: Flag) -> list[str]:
    kind = {"integer": "N", "number": "X", "text": "TEXT"}.get(
        flag.kind, flag.kind
    )
    head = (
        f"  --[no]{flag.name}"
        if flag.kind == "switch"
        else f"  --{flag.name}={kind}"
    )
    default = flag.shown
    if default is None:
        default = flag.default
        if flag.kind == "switch":
            default = "on" if default else "off"
    text = f"{flag.help} (default: {default})"
    return [head, *textwrap.wrap(text, 74, initial_indent=" " * 6,
                                 subsequent_indent=" " * 6)]


# From flags to settings.


def parse(argv: Sequence[str]) -> dict[str, Any]:
    """Turns a command line into checked settings, without TensorFlow.

    Args:
        argv: the program's name, then its arguments.

    Returns:
        A value for each flag, defaults filled in.

    Raises:
        UsageError: a flag or a combination is wrong; says what to do.
    """
    values = define_flags()
    try:
        rest = values(list(argv))[1:]
    except flags.Error as error:
        raise UsageError(
            f"{error}\nSee `python train.py --help` for all flags."
        ) from error
    if rest:
        raise UsageError(
            f"Only flags are understood. Received: {' '.join(rest)}. "
            "Write --name=value."
        )
    settings = {flag.name: values[flag.name].value for flag in _all_flags()}
    given = {name for name in settings if values[name].present}
    if settings["resume"]:
        _take_over(settings, given)
    _check_choices(settings, given)
    _fill_in(settings)
    _check_ranges(settings)
    _check_rates(settings)
    _check_files(settings)
    return settings


def _take_over(settings: dict[str, Any], given: set[str]) -> None:
    """Takes the settings of the run that is resumed."""
    folder = settings["model_dir"]
    if not folder:
        raise UsageError(
            "--resume needs --model_dir: the folder of the run to go on with."
        )
    path = os.path.join(folder, _SETTINGS)
    try:
        with open(path, encoding="utf-8") as file:
            stored = json.load(file)
    except FileNotFoundError as error:
        raise UsageError(
            f"--model_dir must hold a run to resume. Received: "
            f"--model_dir={folder}, in which there is no {_SETTINGS}. Give "
            "the folder of an earlier run, or leave --resume out to begin "
            "one there."
        ) from error
    except ValueError as error:
        raise UsageError(
            f"{path} cannot be read as JSON ({error}). Begin anew in another "
            "--model_dir."
        ) from error
    for name, value in stored.items():
        if name not in settings:
            continue
        if name not in given:
            if name not in ("resume", "model_dir", "verbose"):
                settings[name] = value
        elif name not in _FREE and settings[name] != value:
            before = f"without --{name}" if value is None else (
                f"with --{name}={value}"
            )
            raise UsageError(
                "A resumed run keeps its settings: it was begun "
                f"{before}. Received: --{name}={settings[name]}. "
                f"Leave --{name} out, or begin anew in another --model_dir."
            )
    given -= set(stored)


def _check_choices(settings: dict[str, Any], given: set[str]) -> None:
    """Refuses flags that would be ignored, by which is chosen."""
    optimizer, strategy = settings["optimizer"], settings["strategy"]
    reasons = {}
    if settings["dataset"] == "digits":
        reasons |= dict.fromkeys(
            ("data_dir", "download"),
            "the digits come with the package. Leave it out, or choose "
            "--dataset=cifar10",
        )
    if strategy == "mirrored":
        reasons |= dict.fromkeys(
            "optimizer inner_optimizer exchange beta moving_rate symmetric "
            "communication_period averaging_rate jit_compile".split(),
            "--strategy=mirrored is the baseline with Keras' SGD, in which "
            "nothing is exchanged. Leave it out, or choose "
            "--strategy=elastic_mirrored",
        )
    else:
        if optimizer != "eamsgd":
            reasons |= dict.fromkeys(
                ("momentum", "nesterov"),
                f"--optimizer={optimizer} has no momentum. Leave it out, or "
                "choose --optimizer=eamsgd",
            )
        if optimizer != "elastic":
            reasons["inner_optimizer"] = (
                f"--optimizer={optimizer} has none inside. Leave it out, or "
                "choose --optimizer=elastic"
            )
        if optimizer != "mvasgd":
            reasons["averaging_rate"] = (
                f"--optimizer={optimizer} has none. Leave it out, or choose "
                "--optimizer=mvasgd"
            )
        if optimizer in _SEQUENTIAL:
            reasons |= dict.fromkeys(
                "beta moving_rate symmetric communication_period".split(),
                f"--optimizer={optimizer} is sequential and averages at "
                "every step. Leave it out, or choose --optimizer=easgd",
            )
    for name in sorted(given & set(reasons)):
        raise UsageError(
            f"--{name} has no effect here: {reasons[name]}. Received: "
            f"--{name}={settings[name]}."
        )
    if strategy != "mirrored" and optimizer in _SEQUENTIAL:
        if settings["workers"] not in (None, 1):
            raise UsageError(
                f"--optimizer={optimizer} is a sequential method: it averages "
                "one worker over time. Received: --workers="
                f"{settings['workers']}. Use --workers=1, or --optimizer="
                "easgd for several workers."
            )


def _fill_in(settings: dict[str, Any]) -> None:
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
            and settings["optimizer"] in _SEQUENTIAL
        )
        settings["workers"] = 1 if alone else 4
    if settings["verbose"] is None:
        settings["verbose"] = "1" if sys.stdout.isatty() else "2"
    if settings["steps_per_epoch"] is None:
        settings["steps_per_epoch"] = max(
            _NUM_TRAIN[settings["dataset"]] // max(settings["batch_size"], 1),
            1,
        )


# (flag, test, rule)
_RANGES = (
    ("workers", lambda v: v >= 1, "at least 1"),
    ("gpu_memory_mb", lambda v: v >= 1, "at least 1"),
    ("learning_rate", lambda v: 0 <= v < float("inf"), "finite, at least 0"),
    ("learning_rate_decay", lambda v: v >= 0, "at least 0"),
    ("momentum", lambda v: 0 <= v < 1, "in [0, 1)"),
    ("beta", lambda v: 0 <= v < float("inf"), "finite, at least 0"),
    ("moving_rate", lambda v: 0 <= v < float("inf"), "finite, at least 0"),
    ("averaging_rate", lambda v: 0 < v <= 1, "in (0, 1]"),
    ("weight_decay", lambda v: v >= 0, "at least 0"),
    ("clipnorm", lambda v: v > 0, "more than 0"),
    ("gradient_accumulation_steps", lambda v: v >= 2, "at least 2"),
    ("epochs", lambda v: v >= 1, "at least 1"),
    ("steps_per_epoch", lambda v: v >= 1, "at least 1"),
    ("steps_per_execution", lambda v: v >= 1, "at least 1"),
    ("seed", lambda v: 0 <= v < 2**31, "from 0 to 2**31 - 1"),
)


def _check_ranges(settings: dict[str, Any]) -> None:
    for name, is_right, rule in _RANGES:
        value = settings[name]
        if value is not None and not is_right(value):
            raise UsageError(
                f"--{name} must be {rule}. Received: --{name}={value}. "
                "Leave it out for the default."
            )
    images = _NUM_TRAIN[settings["dataset"]]
    if not 1 <= settings["batch_size"] <= images:
        raise UsageError(
            f"--batch_size must be from 1 to {images}, the training images "
            f"of {settings['dataset']}. Received: --batch_size="
            f"{settings['batch_size']}. Leave it out for the default."
        )
    period = settings["communication_period"]
    if period != "none" and not (period.isdecimal() and int(period) >= 1):
        raise UsageError(
            "--communication_period must be an integer, at least 1 (1: "
            "exchange at every step), or none. Received: "
            f"--communication_period={period}. The default is 10."
        )
    every = settings["gradient_accumulation_steps"]
    if every is not None and settings["mixed_precision"] == "float16":
        raise UsageError(
            "--gradient_accumulation_steps cannot be combined with "
            "--mixed_precision=float16. Use --mixed_precision=bfloat16, or a "
            "larger --batch_size."
        )


def _check_rates(settings: dict[str, Any]) -> None:
    """Refuses a beta and a moving rate that contradict each other."""
    beta, alpha = settings["beta"], settings["moving_rate"]
    if not settings["symmetric"]:
        if beta is None or alpha is None:
            raise UsageError(
                "--nosymmetric needs both --beta and --moving_rate. Received: "
                f"--beta={beta}, --moving_rate={alpha}. Give both, or leave "
                "--nosymmetric out."
            )
        return
    if beta is None or alpha is None:
        return
    workers = settings["workers"]
    if abs(beta - workers * alpha) > 1e-6 * max(beta, 1e-12):
        raise UsageError(
            "--beta must equal workers * moving_rate. Received: --beta="
            f"{beta:g}, --moving_rate={alpha:g}, with {workers} workers. Give "
            f"one of them (--moving_rate={alpha:g} means --beta="
            f"{workers * alpha:g}), or add --nosymmetric to choose both."
        )


def _check_files(settings: dict[str, Any]) -> None:
    """Looks for the folders and packages that will be needed."""
    for name in ("data_dir", "logdir", "model_dir", "plot", "report"):
        if settings[name]:
            settings[name] = os.path.expanduser(settings[name])
    dataset = settings["dataset"]
    if dataset != "digits" and not settings["download"]:
        folder = settings["data_dir"] or os.path.expanduser(
            os.environ.get("TFDS_DATA_DIR", "~/tensorflow_datasets")
        )
        if not os.path.isdir(os.path.join(folder, dataset)):
            raise UsageError(
                f"--data_dir must hold the prepared folder '{dataset}'. "
                f"Received: --data_dir={folder}, in which it is not. Give "
                "the folder that it is in, add --download to fetch it, or "
                "use --dataset=digits, which needs nothing."
            )
    if settings["plot"]:
        if not settings["plot"].endswith(".png"):
            raise UsageError(
                "--plot must end in .png. Received: --plot="
                f"{settings['plot']}."
            )
        if importlib.util.find_spec("matplotlib") is None:
            raise UsageError(
                "--plot needs matplotlib, which is not installed. Install "
                "`matplotlib`, or leave --plot out."
            )
    folder = settings["model_dir"]
    if folder and not settings["resume"]:
        if os.path.exists(os.path.join(folder, _BACKUP)):
            raise UsageError(
                f"--model_dir={folder} holds a run already. Add --resume to "
                "go on with it, or begin anew in another --model_dir."
            )


# Building.


@contextlib.contextmanager
def _explained(hint: str) -> Iterator[None]:
    """Turns an error about what was asked for into a message."""
    try:
        yield
    except (ValueError, TypeError, ImportError, OSError) as error:
        raise UsageError(f"{error}\n{hint}") from error


def make_devices(settings: dict[str, Any]) -> list[str]:
    """Sets up a logical device for each worker, before TensorFlow starts.

    Args:
        settings: what `parse` returned.

    Returns:
        The devices' names, one for each worker.

    Raises:
        UsageError: there are not enough devices.
    """
    import tensorflow as tf

    count = settings["workers"]
    gpus = tf.config.list_physical_devices("GPU")
    if settings["device"] == "gpu" and not gpus:
        raise UsageError(
            "--device=gpu needs a GPU that TensorFlow can use; there is "
            "none. Use --device=cpu."
        )
    kind = "GPU" if gpus and settings["device"] != "cpu" else "CPU"
    if kind == "GPU":
        physical = gpus[:count]
        shares = [
            len(range(i, count, len(physical))) for i in range(len(physical))
        ]
        memory = settings["gpu_memory_mb"]
        if count > len(physical) and memory is None:
            memory = split_memory_mb(_free_gpu_memory_mb(), max(shares))
    else:
        physical, shares, memory = (
            tf.config.list_physical_devices("CPU")[:1], [count], None
        )
    try:
        if kind == "CPU":
            tf.config.set_visible_devices([], "GPU")
        for device, share in zip(physical, shares, strict=True):
            if share > 1 or memory:
                tf.config.set_logical_device_configuration(
                    device,
                    [tf.config.LogicalDeviceConfiguration(memory)] * share,
                )
    except RuntimeError:
        pass  # TensorFlow runs already, in a process that imported this.
    found = len(tf.config.list_logical_devices(kind))
    if found < count:
        raise UsageError(
            f"{count} workers need {count} logical devices of kind {kind}. "
            f"Received: {found}, and TensorFlow has started already. Call "
            "`main` before anything else uses TensorFlow."
        )
    return [f"{kind}:{i}" for i in range(count)]


def split_memory_mb(free_mb: int, share: int) -> int:
    """Memory of each of `share` workers on a GPU, with a tenth left over."""
    return int(free_mb * 0.9) // share


def _free_gpu_memory_mb() -> int:
    """What is free on the fullest GPU, in MiB."""
    command = [
        "nvidia-smi", "--query-gpu=memory.free",
        "--format=csv,noheader,nounits",
    ]
    try:
        result = subprocess.run(
            command, capture_output=True, text=True, timeout=30, check=True
        )
        return min(int(line) for line in result.stdout.split())
    except (OSError, subprocess.SubprocessError, ValueError) as error:
        raise UsageError(
            "Several workers are to share a GPU, and nvidia-smi could not "
            "tell how much memory is free. Give --gpu_memory_mb, the memory "
            "of each worker."
        ) from error


def make_strategy(settings: dict[str, Any]) -> Any:
    """The strategy over the workers' devices."""
    import tensorflow as tf

    devices = make_devices(settings)
    if settings["strategy"] == "mirrored":
        # Not NCCL: it knows no logical devices.
        return tf.distribute.MirroredStrategy(
            devices, cross_device_ops=tf.distribute.ReductionToOneDevice()
        )
    import tf_elastic as te

    with _explained("See --exchange and --workers."):
        return te.strategies.ElasticMirroredStrategy(
            devices, exchange=settings["exchange"]
        )


def make_optimizer(settings: dict[str, Any]) -> Any:
    """The optimizer; to be called in the strategy's scope.

    Raises:
        UsageError: an argument is refused.
    """
    import keras

    import tf_elastic as te

    rate = settings["learning_rate"]
    if settings["learning_rate_decay"] is not None:
        rate = te.optimizers.schedules.InverseSqrtDecay(
            rate, settings["learning_rate_decay"]
        )
    common = {
        name: settings[name]
        for name in ("weight_decay", "clipnorm", "gradient_accumulation_steps")
        if settings[name] is not None
    }
    momentum = {name: settings[name] for name in ("momentum", "nesterov")}
    jit = {"auto": "auto", "true": True, "false": False}
    compiled = {"jit_compile": jit[settings["jit_compile"]]}
    period = settings["communication_period"]
    elastic = {
        "moving_rate": settings["moving_rate"],
        "beta": settings["beta"],
        "symmetric": settings["symmetric"],
        "communication_period": None if period == "none" else int(period),
        **compiled,
    }
    name = settings["optimizer"]
    with _explained("See `python train.py --help` for the flags of Method."):
        if settings["strategy"] == "mirrored":
            return keras.optimizers.SGD(rate, **momentum, **common)
        if name == "elastic":
            inner = _inner_optimizer(settings["inner_optimizer"])
            return te.optimizers.Elastic(inner(rate, **common), **elastic)
        if name == "asgd":
            return te.optimizers.ASGD(rate, **common, **compiled)
        if name == "mvasgd":
            return te.optimizers.MVASGD(
                rate, settings["averaging_rate"], **common, **compiled
            )
        if name == "easgd":
            return te.optimizers.EASGD(rate, **elastic, **common)
        return te.optimizers.EAMSGD(rate, **momentum, **elastic, **common)


def _inner_optimizer(name: str) -> Any:
    import keras

    try:
        return type(keras.optimizers.get(name))
    except ValueError as error:
        raise UsageError(
            "--inner_optimizer must be the name of a Keras optimizer, such "
            f"as adam, adamw, sgd or rmsprop. Received: {name}."
        ) from error


def make_model(settings: dict[str, Any], strategy: Any) -> Any:
    """The network, compiled, its optimizer built."""
    import tf_elastic as te

    with strategy.scope():
        if settings["dataset"] == "digits":
            model = te.models.digits_convnet(seed=settings["seed"])
        else:
            model = te.models.cifar_convnet(
                num_classes=_NUM_CLASSES[settings["dataset"]],
                seed=settings["seed"],
            )
        model.compile(
            make_optimizer(settings),
            loss="sparse_categorical_crossentropy",
            metrics=["accuracy"],
            steps_per_execution=settings["steps_per_execution"],
        )
        with _explained("See --beta, --moving_rate and --workers."):
            model.optimizer.build(model.trainable_variables)
    return model


def load_data(settings: dict[str, Any], skip_steps: int) -> list[Any]:
    """The splits train, test and train_eval, as batches of all workers."""
    import tf_elastic as te

    common = {
        "data_dir": settings["data_dir"],
        "download": settings["download"],
    }
    workers, batch_size = settings["workers"], settings["batch_size"]
    with _explained("See --data_dir and --download."):
        train = te.data.load(
            settings["dataset"],
            "train",
            batch_size=batch_size,
            num_workers=workers,
            seed=settings["seed"],
            steps_per_epoch=settings["steps_per_epoch"],
            skip_steps=skip_steps,
            **common,
        )
        return [
            train,
            *te.data.load(
                settings["dataset"],
                ["test", "train_eval"],
                batch_size=256,
                **common,
            ),
        ]


# Going on with a run.


def restore(model: Any, settings: dict[str, Any]) -> int:
    """Loads the newest backup that can be read.

    The one before is used if the newest was cut off while it was written.

    Args:
        model: what to load into, its optimizer built.
        settings: what `parse` returned.

    Returns:
        How many epochs the run has had.

    Raises:
        UsageError: no backup can be read.
    """
    folder = os.path.join(settings["model_dir"], _BACKUP)
    weights = os.path.join(folder, "latest.weights.h5")
    metadata = os.path.join(folder, "training_metadata.json")
    if not os.path.exists(weights):
        say("No epoch of this run was finished: beginning at the first.")
        return 0
    damages = []
    for suffix in ("", ".bkp"):
        try:
            epoch = _load_backup(model, weights + suffix, metadata + suffix)
        except (OSError, ValueError, KeyError, RuntimeError) as error:
            reason = str(error).split("\n", 1)[0]
            damages.append(f"  {os.path.basename(weights)}{suffix}: {reason}")
            continue
        if suffix:
            shutil.copy(weights + suffix, weights)
            say("The newest backup is damaged; taking the one before.")
        # Weights are written first: after a kill in between they are ahead.
        steps = _local_steps(model)
        if settings["mixed_precision"] != "float16":  # It may skip steps.
            epoch = steps // settings["steps_per_epoch"]
        with open(metadata, "w", encoding="utf-8") as file:
            json.dump({"epoch": epoch, "batch": 0}, file)
        return epoch
    raise UsageError(
        f"The backup in {folder} is damaged and cannot be loaded:\n"
        + "\n".join(damages)
        + "\nBegin anew in another --model_dir."
    )


def _load_backup(model: Any, weights: str, metadata: str) -> int:
    with open(metadata, encoding="utf-8") as file:
        epoch = int(json.load(file)["epoch"])
    with tempfile.TemporaryDirectory() as folder:
        # Keras insists on the ending.
        copy = os.path.join(folder, "copy.weights.h5")
        shutil.copy(weights, copy)
        model.load_weights(copy)
    return epoch


def _local_steps(model: Any) -> int:
    from tf_elastic.monitor import probe

    return probe.local_steps(model)


def _write_settings(settings: dict[str, Any]) -> None:
    os.makedirs(settings["model_dir"], exist_ok=True)
    path = os.path.join(settings["model_dir"], _SETTINGS)
    with open(path, "w", encoding="utf-8") as file:
        json.dump(settings, file, indent=2)
        file.write("\n")


def _whole_history(path: str) -> dict[str, list[float]]:
    """All epochs of a run, from the file that `CSVLogger` has written."""
    with open(path, encoding="utf-8", newline="") as file:
        rows = {int(row["epoch"]): row for row in csv.DictReader(file)}
    columns: dict[str, list[float]] = {}
    for _, row in sorted(rows.items()):
        for name, value in row.items():
            with contextlib.suppress(TypeError, ValueError):
                columns.setdefault(name, []).append(float(value))
    return columns


# Running.


def say(text: str) -> None:
    """Prints a line at once, in order with the progress bar."""
    print(text, flush=True)


def complain(text: str) -> None:
    """Prints to stderr, under the program's name."""
    print(f"train.py: {text}", file=sys.stderr, flush=True)


def train(settings: dict[str, Any]) -> dict[str, Any]:
    """Trains, tests and saves.

    Args:
        settings: what `parse` returned.

    Returns:
        The report, see `tf_elastic.monitor.build_report`.
    """
    began = time.perf_counter()
    # TensorFlow's own notes on devices and instructions help nobody here;
    # where ops are deterministic it also calls a rewrite of its own an error.
    level = "3" if settings["deterministic"] else "2"
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", level)
    with _quiet_stderr():
        import keras
        import tensorflow as tf

        import tf_elastic as te

        strategy = make_strategy(settings)
    keras.utils.set_random_seed(settings["seed"])
    if settings["deterministic"]:
        tf.config.experimental.enable_op_determinism()
    policy_before = keras.config.dtype_policy()
    if settings["mixed_precision"] != "none":
        keras.config.set_dtype_policy(f"mixed_{settings['mixed_precision']}")
    try:
        model = make_model(settings, strategy)
    finally:
        keras.config.set_dtype_policy(policy_before)
    model_dir = settings["model_dir"]
    first_epoch = restore(model, settings) if settings["resume"] else 0
    per_epoch = settings["steps_per_epoch"]
    train_data, test_data, train_eval = load_data(
        settings, first_epoch * per_epoch
    )
    if model_dir:
        _write_settings(settings)
    _announce(settings, first_epoch)

    global_batch = settings["workers"] * settings["batch_size"]
    monitor = te.monitor.ElasticMonitor(
        center_data=train_eval,
        center_steps=min(6, int(train_eval.cardinality())),
        log_dir=settings["logdir"],
        global_batch_size=global_batch,
    )
    callbacks = [monitor]
    if settings["verbose"] != "0":
        # Before the monitor, so that its many numbers stay out of the bar.
        callbacks.insert(0, keras.callbacks.ProgbarLogger())
    if model_dir:
        callbacks += [
            keras.callbacks.CSVLogger(
                os.path.join(model_dir, _HISTORY), append=settings["resume"]
            ),
            keras.callbacks.BackupAndRestore(
                os.path.join(model_dir, _BACKUP),
                double_checkpoint=True,
                delete_checkpoint=False,
            ),
        ]
    history = model.fit(
        train_data,
        epochs=settings["epochs"],
        validation_data=test_data,
        callbacks=callbacks,
        shuffle=False,
        verbose=int(settings["verbose"]),
    )
    test = model.evaluate(test_data, verbose=0, return_dict=True)

    files = {}
    if model_dir:
        files["model"] = os.path.join(model_dir, _MODEL)
        model.save(files["model"])
        files["backup"] = os.path.join(model_dir, _BACKUP)
    if settings["plot"]:
        values: Any = history
        if model_dir:
            values = _whole_history(os.path.join(model_dir, _HISTORY))
        if model_dir or history.epoch:
            te.monitor.plot_history(
                values,
                settings["plot"],
                steps_per_epoch=per_epoch,
                title=_title(settings),
            )
            files["plot"] = settings["plot"]
    if settings["logdir"]:
        files["tensorboard"] = settings["logdir"]
    if settings["report"]:
        files["report"] = settings["report"]
    report = te.monitor.build_report(
        model,
        test,
        monitor.times,
        wall_s=time.perf_counter() - began,
        global_batch_size=global_batch,
        settings=settings,
        files=files,
    )
    if settings["report"]:
        te.monitor.write_report(report, settings["report"])
    say(te.monitor.format_report(report))
    return report


def _title(settings: dict[str, Any]) -> str:
    name = settings["optimizer"].upper()
    if settings["strategy"] == "mirrored":
        name = "MirroredStrategy, SGD"
    elif settings["optimizer"] == "elastic":
        name = f"Elastic({settings['inner_optimizer']})"
    workers = settings["workers"]
    return (
        f"{name} on {settings['dataset']}, {workers} "
        f"worker{'s' if workers > 1 else ''}"
    )


def _announce(settings: dict[str, Any], first_epoch: int) -> None:
    say(
        f"{_title(settings)}: batches of {settings['batch_size']}, "
        f"{settings['steps_per_epoch']} local steps in an epoch, "
        f"{settings['epochs']} epochs."
    )
    if settings["strategy"] != "mirrored":
        if settings["verbose"] != "0":
            say("accuracy and loss are the workers', val_... the center's.")
    if first_epoch >= settings["epochs"]:
        say(
            f"This run has had all its {first_epoch} epochs: nothing is left "
            "to train. Raise --epochs to go on."
        )
    elif first_epoch:
        say(f"Going on after epoch {first_epoch}.")


@contextlib.contextmanager
def _quiet_stderr() -> Iterator[None]:
    """Holds back what native code writes, and shows it after an error.

    TensorFlow tells on stderr that there is no GPU, before its log level
    counts.
    """
    sys.stderr.flush()
    with tempfile.TemporaryFile() as held:
        before = os.dup(2)
        os.dup2(held.fileno(), 2)
        try:
            yield
        except UsageError:
            raise
        except BaseException:
            held.seek(0)
            os.write(before, held.read())
            raise
        finally:
            sys.stderr.flush()
            os.dup2(before, 2)
            os.close(before)


def _show_warning(message: Any, category: Any, *_: Any, **__: Any) -> None:
    complain(f"{category.__name__}: {message}")


def _stopped(settings: dict[str, Any] | None) -> str:
    """What to say after Ctrl-C."""
    folder = settings and settings["model_dir"]
    if not folder:
        return "Stopped. Nothing was saved; --model_dir would keep each epoch."
    metadata = os.path.join(folder, _BACKUP, "training_metadata.json")
    try:
        with open(metadata, encoding="utf-8") as file:
            epoch = int(json.load(file)["epoch"])
    except (OSError, ValueError, KeyError):
        return "Stopped before the end of the first epoch: nothing was saved."
    return (
        f"Stopped. Saved: epoch {epoch} of {settings['epochs']}, in "
        f"{os.path.join(folder, _BACKUP)}. Go on with:\n"
        f"  python train.py --model_dir={folder} --resume"
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the program.

    Args:
        argv: the program's name, then its flags; None for `sys.argv`.

    Returns:
        The exit status: 0; 2 if what was asked for cannot be done, 130 after
        Ctrl-C.
    """
    argv = list(sys.argv if argv is None else argv)
    if any(arg in ("-h", "-help", "--help", "--helpfull") for arg in argv[1:]):
        print(help_text())
        return 0
    settings = None
    try:
        settings = parse(argv)
        with warnings.catch_warnings():
            warnings.showwarning = _show_warning
            train(settings)
    except UsageError as error:
        complain(str(error))
        return 2
    except KeyboardInterrupt:
        complain(f"\n{_stopped(settings)}")
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
