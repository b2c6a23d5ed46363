"""Going on with an earlier run: its settings, then its newest backup."""

import math
import os
import shutil
import tempfile
from typing import TYPE_CHECKING

from tf_elastic import files
from tf_elastic.cluster.transport import json_text
from tf_elastic.program import console
from tf_elastic.program import defaults
from tf_elastic.program import flag_table
from tf_elastic.program import run_folder
from tf_elastic.program import usage
from tf_elastic.program.flag import Settings

if TYPE_CHECKING:
    import keras

# What --resume may change; all else is a property of the run.
_FREE = frozenset(
    "data_dir download device gpu_memory_mb epochs steps_per_execution "
    "deterministic logdir model_dir resume plot report verbose "
    "local_workers local_evaluator restart_workers status protocol "
    "compression trusted_network events rules".split()
)
_NOT_TAKEN_OVER = ("resume", "model_dir", "verbose", "status", "rules")


def take_over(settings: Settings, given: set[str]) -> None:
    """Takes the settings of the run that is resumed."""
    folder = settings["model_dir"]
    if not folder:
        raise usage.UsageError(
            "--resume needs --model_dir: the folder of the run to go on with."
        )
    if "TF_CONFIG" in os.environ and (
        settings["strategy"] in (None, *defaults.CLUSTER)
    ):
        raise usage.UsageError(
            "--resume is for a run that --local_workers or one process has "
            "begun. Received: --resume, and TF_CONFIG. Leave --resume out: "
            "with the same --model_dir the center servers go on from their "
            "snapshots."
        )
    path = os.path.join(folder, run_folder.SETTINGS)
    try:
        with open(path, encoding="utf-8") as file:
            stored = _checked(json_text.parse(file.read()), settings)
    except FileNotFoundError as error:
        raise usage.UsageError(
            f"--model_dir must hold a run to resume. Received: "
            f"--model_dir={folder}, in which there is no "
            f"{run_folder.SETTINGS}. Give the folder of an earlier run, or "
            "leave --resume out to begin one there."
        ) from error
    except ValueError as error:
        raise usage.UsageError(
            f"{path} does not hold the settings of a run ({error}). Begin "
            "anew in another --model_dir."
        ) from error
    _check_local_workers(settings, stored)
    free = _FREE
    if stored.get("virtual_workers"):
        free -= {"protocol"}  # Of what has happened and what will.
    for name, value in stored.items():
        if name not in settings:
            continue
        if name not in given:
            if name not in _NOT_TAKEN_OVER:
                settings[name] = value
        elif name not in free and settings[name] != value:
            before = (
                f"without --{name}"
                if value is None
                else (f"with --{name}={value}")
            )
            raise usage.UsageError(
                "A resumed run keeps its settings: it was begun "
                f"{before}. Received: --{name}={settings[name]}. "
                f"Leave --{name} out, or begin anew in another --model_dir."
            )
    given -= set(stored)


def _checked(stored: object, settings: Settings) -> Settings:
    """What `run_folder.write_settings` may have written.

    Raises:
        ValueError: it has not written this.
        UsageError: the run had files of the user's own. What a folder names
            is not imported unasked.
    """
    if not isinstance(stored, dict):
        raise ValueError("it is no object")
    if stored.get("rules") and not settings["rules"]:
        raise usage.UsageError(
            f"The run was begun with --rules={stored['rules']!s:.200}. "
            "Received: --resume without --rules. Give it again."
        )
    for flag in flag_table.all_flags():
        value = stored.get(flag.name)
        fits = value is None or {
            "integer": type(value) is int,
            "number": type(value) in (int, float) and math.isfinite(value),
            "switch": type(value) is bool,
        }.get(flag.kind, isinstance(value, str))
        if fits and isinstance(value, str):
            choices = flag.kind.split("|")
            fits = len(choices) == 1 or value in choices
            value.encode()  # Not halves of characters.
        if not fits:
            raise ValueError(f"{flag.name} is {value!r:.80}")
    return stored


def _check_local_workers(settings: Settings, stored: Settings) -> None:
    """Lets more or fewer workers go on, with epochs of the same size."""
    before, now = stored.get("local_workers"), settings["local_workers"]
    if now is None or now == before:
        return
    if before is None:
        raise usage.UsageError(
            "A resumed run keeps its settings: it was begun in one process. "
            f"Received: --local_workers={now}. Leave --local_workers out, or "
            "begin anew in another --model_dir."
        )
    if now >= 1 and "steps_per_epoch" in stored:
        # All workers' together; each has a part of them.
        steps = stored["steps_per_epoch"] * before
        stored["steps_per_epoch"] = max(steps // now, 1)


def restore(model: "keras.Model", settings: Settings) -> int:
    """Loads the newest backup that can be read.

    The one before is used if the newest was cut off while it was written.

    Args:
        model: what to load into, its optimizer built.
        settings: what `settings.parse` returned.

    Returns:
        How many epochs the run has had.

    Raises:
        UsageError: no backup can be read.
    """
    from tf_elastic.monitor import probe
    from tf_elastic.program import backup

    folder = os.path.join(settings["model_dir"], run_folder.BACKUP)
    weights = os.path.join(folder, run_folder.WEIGHTS)
    metadata = os.path.join(folder, run_folder.METADATA)
    if not os.path.exists(weights):
        console.say(
            "No epoch of this run was finished: beginning at the first."
        )
        return 0
    damages = []
    for suffix in ("", run_folder.BEFORE):
        try:
            epoch = _load_backup(model, weights + suffix, metadata + suffix)
        except (
            OSError,
            ValueError,
            KeyError,
            TypeError,
            OverflowError,
            RuntimeError,
        ) as error:
            reason = str(error).split("\n", 1)[0]
            damages.append(f"  {os.path.basename(weights)}{suffix}: {reason}")
            continue
        if suffix:
            files.copy(weights + suffix, weights)
            console.say("The newest backup is damaged; taking the one before.")
        # Weights are written first: after a kill in between they are ahead.
        steps = probe.local_steps(model)
        if settings["mixed_precision"] != "float16":  # It may skip steps.
            epoch = steps // settings["steps_per_epoch"]
        backup.note_epochs(folder, epoch)
        return epoch
    raise usage.UsageError(
        f"The backup in {folder} is damaged and cannot be loaded:\n"
        + "\n".join(damages)
        + "\nBegin anew in another --model_dir."
    )


def _load_backup(model: "keras.Model", weights: str, metadata: str) -> int:
    with open(metadata, encoding="utf-8") as file:
        epoch = int(json_text.parse(file.read())["epoch"])
    with tempfile.TemporaryDirectory() as folder:
        # Keras insists on the ending.
        copy = os.path.join(folder, "copy.weights.h5")
        shutil.copy(weights, copy)
        model.load_weights(copy)
    return epoch
