"""Random numbers addressed by a counter: number k without the k before it.

A run that resumes at step k draws what it would have drawn, and a TensorFlow
graph draws what NumPy draws, since the same few integer operations make both.
"""

from typing import Any
from typing import Protocol
from typing import TypeVar

import numpy as np

_Self = TypeVar("_Self")


class WordArithmetic(Protocol):
    """What words are mixed by; as `core.arrays.Arithmetic`."""

    def __add__(self: _Self, other: Any, /) -> _Self: ...

    def __mul__(self: _Self, other: Any, /) -> _Self: ...

    def __floordiv__(self: _Self, other: Any, /) -> _Self: ...

    def __xor__(self: _Self, other: Any, /) -> _Self: ...


# uint64, a NumPy array or a TensorFlow tensor, any shape.
Words = TypeVar("Words", bound=WordArithmetic)

# The constants of SplitMix64.
_GAMMA = np.uint64(0x9E3779B97F4A7C15)
_FIRST = np.uint64(0xBF58476D1CE4E5B9)
_SECOND = np.uint64(0x94D049BB133111EB)


def random_words(start: Words | np.uint64, counter: Words) -> Words:
    """Word `counter` of the random stream that begins at `start`.

    Args:
        start: uint64, from `stream_start` (or any 64-bit seed).
        counter: uint64, from 0; no scalar of NumPy, which would warn of
            numbers that wrap around, as they do here.

    Returns:
        uint64, uniform in [0, 2^64), of the shape of `start + counter`.

    Example:

    >>> steps = np.arange(3, dtype=np.uint64)
    >>> random_words(np.uint64(1234567), steps)[0]
    np.uint64(6457827717110365317)

    Reference:
        Steele, Lea and Flood (2014), "Fast splittable pseudorandom number
        generators": SplitMix64, word counter + 1.
    """
    # x // 2**n shifts to the right by n; tensors have no operator for it.
    z = counter * _GAMMA + start + _GAMMA
    z = (z ^ (z // np.uint64(2**30))) * _FIRST
    z = (z ^ (z // np.uint64(2**27))) * _SECOND
    return z ^ (z // np.uint64(2**31))


def stream_start(seed: int, stream: int) -> np.uint64:
    """Where one of many streams of a seed begins.

    Args:
        seed: in [0, 2^63).
        stream: the stream's number, such as a worker's, at least 0.

    Returns:
        A start for `random_words`.

    Example:

    >>> bool(stream_start(7, 0) == stream_start(7, 1))
    False
    """
    of_seed = random_words(_array(seed), _array(0))
    return np.uint64(random_words(of_seed, _array(stream))[0])


def _array(value: int) -> np.ndarray:
    # An array, not a scalar: NumPy warns of scalars that wrap around.
    return np.array([value], np.uint64)
