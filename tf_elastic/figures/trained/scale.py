"""How much of the papers' training is done.

>>> of("tiny").data
'digits'
>>> of("0.01").steps
1000
"""

from typing import NamedTuple

# Local steps of each worker at scale 1. The thesis' text does not tell: these
# are 256 passes over CIFAR-10 by each worker, and most of an hour of its GPUs
# (Table 4.4).
FULL_STEPS = 100_000
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
    """

    data: str
    batch_size: int
    steps: int
    every: int
    test_images: int
    train_images: int


def of(text: str) -> Scale:
    """The scale of a word.

    Args:
        text: "tiny", a try of seconds on the digits; or a number in (0, 1],
            the part of the papers' training on CIFAR-10, 1 for all.

    Raises:
        ValueError: it is neither.
    """
    if text == TINY:
        return Scale("digits", 32, 40, 10, 360, 360)
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
    steps = max(round(part * FULL_STEPS), 1)
    every = min(max(steps // 20, 50), 400, steps)
    return Scale("cifar10", 128, steps, every, 2000, 1000)
