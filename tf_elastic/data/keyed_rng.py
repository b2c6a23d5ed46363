"""Random generators addressed by a key, so that any step can be redrawn."""

import enum

import numpy as np


class Stream(enum.IntEnum):
    """What a generator is used for: the first part of its key."""

    LOADERS = 0
    POOL = 1
    UNIFORM = 2
    AUGMENT = 3


def keyed_generator(
    seed: int, stream: Stream, *key: int
) -> np.random.Generator:
    """Returns the generator of one place in one random stream.

    Two different keys give independent generators, and the same key gives the
    same one whatever was drawn elsewhere. This is what lets a sampler skip
    ahead without drawing what it skips.

    Args:
        seed: Non-negative int, the run's seed.
        stream: What the numbers are for.
        *key: Non-negative ints, the place in the stream, e.g. a step number.

    Returns:
        A new `numpy.random.Generator` (PCG64).
    """
    sequence = np.random.SeedSequence(seed, spawn_key=(int(stream), *key))
    return np.random.Generator(np.random.PCG64(sequence))
