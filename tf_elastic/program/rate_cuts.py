"""--rate_cuts: cuts of the learning rate when the loss stagnates."""

import os
from typing import TYPE_CHECKING

from tf_elastic.core import stagnation
from tf_elastic.program import run_folder
from tf_elastic.program import usage
from tf_elastic.program.flag import Settings

if TYPE_CHECKING:
    from tf_elastic.callbacks import CutOnStagnation

_OF_CUTS = ("rate_window", "rate_patience")


def without_effect(settings: Settings) -> dict[str, str]:
    """The flags that mean nothing without cuts, and why."""
    if settings["rate_cuts"] is not None:
        return {}
    return dict.fromkeys(
        _OF_CUTS,
        "only --rate_cuts cuts the learning rate. Leave it out, or add "
        "--rate_cuts=5,2",
    )


def check(settings: Settings) -> None:
    """Refuses what are no cuts, and cuts of a rate that falls already."""
    if settings["rate_cuts"] is None:
        return
    try:
        stagnation.check_cuts(_cuts(settings))
    except ValueError as error:
        raise usage.UsageError(
            "--rate_cuts must be numbers above 1 with commas between them, "
            "what the learning rate is divided by. Received: --rate_cuts="
            f"{settings['rate_cuts']}. The thesis has --rate_cuts=5,2."
        ) from error
    if settings["learning_rate_decay"] is not None:
        raise usage.UsageError(
            "--rate_cuts and --learning_rate_decay both set the learning "
            "rate. Received: both. Leave one of them out."
        )


def callback(settings: Settings) -> "CutOnStagnation":
    """The callback that does so, and goes on with a run that is resumed."""
    from tf_elastic.callbacks import CutOnStagnation

    folder = settings["model_dir"]
    return CutOnStagnation(
        _cuts(settings),
        window=settings["rate_window"] or "epoch",
        patience=settings["rate_patience"],
        state_file=folder and os.path.join(folder, run_folder.RATE_CUTS),
    )


def _cuts(settings: Settings) -> list[float]:
    return [float(cut) for cut in settings["rate_cuts"].split(",")]
