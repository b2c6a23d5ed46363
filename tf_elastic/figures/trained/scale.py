"""How much of the papers' training is done.

>>> of("tiny").data
'digits'
>>> of("0.01").steps
1000
"""

import math
from typing import NamedTuple

from tf_elastic.figures.trained.settings import ALL
from tf_elastic.figures.trained.settings import CIFAR
from tf_elastic.figures.trained.settings import LOWRANK
from tf_elastic.figures.trained.settings import SINGLE
from tf_elastic.figures.trained.settings import Setting

# Local steps of each worker at scale 1. The thesis' text does not tell: these
# are 256 passes over CIFAR-10 by each worker, and most of an hour of its GPUs
# (Table 4.4).
FULL_STEPS = 100_000
# Of chapter 6: 12 hours of 0.13 s, and 3 hours of 0.01 s.
_FULL_STEPS = {LOWRANK: 332_000, SINGLE: 1_080_000}
_BATCH_SIZES = {LOWRANK: 16, SINGLE: 1}
# Leaves of the trees of chapter 6: of a try, below scale 1, and at scale 1.
ALL_LEAVES = _TINY_LEAVES, _LEAVES, _FULL_LEAVES = 4, 16, 256
TINY = "tiny"


class Scale(NamedTuple):
    """What a run is trained on, and for how long.

    Attributes:
        data: "cifar10" or "digits".
        batch_size: of a worker.
        steps: local steps of each worker.
        every: steps of each worker between two looks at the center.
        test_images: of the looks but the last, which is at all.
        train_images: of all looks.
        leaves: of trees, p.
    """

    data: str
    batch_size: int
    steps: int
    every: int
    test_images: int
    train_images: int
    leaves: int


def trains(scale: Scale, setting: Setting) -> bool:
    """Whether a setting is of this scale, or of another: trees are."""
    return not ALL[setting.method].scheme or setting.workers == scale.leaves


def of(text: str, experiment: str = CIFAR) -> Scale:
    """The scale of a word.

    Args:
        text: "tiny", a try of seconds on the digits; or a number in (0, 1],
            the part of the papers' training on CIFAR-10, 1 for all.
        experiment: of `settings`.

    Raises:
        ValueError: it is neither.
    """
    if text == TINY:
        batch_size = _BATCH_SIZES.get(experiment, 32)
        return Scale("digits", batch_size, 40, 10, 360, 360, _TINY_LEAVES)
    try:
        part = float(text)
    except ValueError:
        part = 0.0
    if not 0 < part <= 1:
        raise ValueError(
            f"The scale must be {TINY!r}, or a number in (0, 1]. Received: "
            f"scale={text!r:.40}. Give 0.01 for a run of 1000 steps of each "
            "worker."
        )
    full = _FULL_STEPS.get(experiment, FULL_STEPS)
    steps = max(math.floor(part * full + 0.5), 1)
    most = 400 * full // FULL_STEPS
    every = min(max(steps // 20, 50), most, steps)
    batch_size = _BATCH_SIZES.get(experiment, 128)
    leaves = _FULL_LEAVES if part == 1 else _LEAVES
    return Scale("cifar10", batch_size, steps, every, 2000, 1000, leaves)
