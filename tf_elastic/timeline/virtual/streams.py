"""Random numbers of a virtual cluster, one after another.

Each worker has a generator of its own for each purpose: what one draws changes
nothing of what others do, however many there are.
"""

import array
import itertools
from collections.abc import Iterator

import numpy as np

from tf_elastic.timeline.virtual.durations import Constant
from tf_elastic.timeline.virtual.durations import Duration
from tf_elastic.timeline.virtual.durations import Sampler

# Purposes. Their numbers are part of what a seed means.
STEP = 0
DATA = 1
STRAGGLE = 2
LATENCY = 3
LOSS = 4
SERVICE = 5
PAUSE_BEGINS = 6
PAUSE = 7
DEATH = 8
RECOVERY = 9
OVERHEAD = 10

CENTER = 0  # in a worker's place, for a purpose of the center's own

# Numbers are drawn in chunks, few at first: there may be many workers.
_FIRST, _MOST = 16, 256


def generator(seed: int, purpose: int, worker: int) -> np.random.Generator:
    """The generator of a worker for a purpose."""
    key = (purpose, worker)
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=key))


def one_by_one(draw: Sampler) -> Iterator[float]:
    """What a sampler draws, without an end."""
    return itertools.chain.from_iterable(_chunks(draw))


def _chunks(draw: Sampler) -> Iterator["array.array[float]"]:
    count = _FIRST
    while True:
        # Close together: where there are many workers, that is most of what
        # a step costs.
        yield array.array("d", draw(count).tobytes())
        count = min(2 * count, _MOST)


def of(
    duration: Duration, seed: int, purpose: int, worker: int
) -> Iterator[float]:
    """The seconds of a duration, one after another, without an end."""
    if isinstance(duration, Constant):
        return itertools.repeat(float(duration.seconds))
    return one_by_one(sampler(duration, seed, purpose, worker))


def sampler(
    duration: Duration, seed: int, purpose: int, worker: int
) -> Sampler:
    """Draws of a duration, by a generator of their own."""
    if isinstance(duration, Constant):  # Which needs none, and many are.
        return duration.sampler(_NONE)
    return duration.sampler(generator(seed, purpose, worker))


_NONE = np.random.default_rng(0)
