"""Data sets of the user's own, by their names."""

import functools
import inspect
from collections.abc import Callable
from typing import NamedTuple
from typing import TypeAlias
from typing import TypeVar

import numpy as np
import tensorflow as tf
from numpy.typing import ArrayLike

from tf_elastic.data import variants
from tf_elastic.data.sources import Source

ArrayOrTensor: TypeAlias = ArrayLike | tf.Tensor

# Of "train" or "test": (images, labels), one row for each example.
Read = Callable[[str], tuple[ArrayOrTensor, ArrayOrTensor]]
_Read = TypeVar("_Read", bound=Read)


class Registered(NamedTuple):
    """A data set, and how its numbers become a network's input."""

    read: Callable[[str], Source]
    scale: float
    place: str  # where the user's function is


_KNOWN: dict[str, Registered] = {}


def register(name: str, *, scale: float = 1.0) -> Callable[[_Read], _Read]:
    """Makes a data set of one's own known to `load`, by a name.

    It decorates a function that is given "train" or "test" and returns all
    examples of that split, as (images, labels): arrays of NumPy or TensorFlow
    of any shape, one row for each example. It is called once for each split
    in a process. `load` samples the rows for the workers as it does its own;
    `variant` is "plain", float32 numbers times `scale`. For more give what
    `load` returns a `map` of your own.

    Args:
        name: what to call it in `load`.
        scale: what images are multiplied by: 1 / 255 for uint8 pixels.

    Raises:
        ValueError: the name is that of another data set.

    Example:

    >>> import numpy as np
    >>> import tf_elastic.data
    >>> @tf_elastic.data.register("numbers of the docs", scale=0.5)
    ... def numbers(split):
    ...     return np.arange(6).reshape(6, 1), np.arange(6) % 2
    >>> test = tf_elastic.data.load("numbers of the docs", "test")
    >>> images, labels = next(iter(test))
    >>> images.numpy().ravel().tolist()
    [0.0, 0.5, 1.0, 1.5, 2.0, 2.5]
    """

    def remember(read: _Read) -> _Read:
        place = _place_of(read)
        taken = _KNOWN[name].place if name in _KNOWN else place
        if name in variants.VARIANTS:
            taken = "tf_elastic"
        if taken != place:
            raise ValueError(
                f"A data set of the name {name!r} is in {taken} already. "
                f"Received: {place}. Give it another name."
            )
        _KNOWN[name] = Registered(
            functools.lru_cache(functools.partial(_checked, name, read)),
            scale,
            place,
        )
        return read

    return remember


def names() -> list[str]:
    """What has been registered."""
    return list(_KNOWN)


def find(name: str) -> Registered | None:
    """The data set of a name, or None."""
    return _KNOWN.get(name)


def _place_of(read: Read) -> str:
    """The file of a function, and its name there."""
    read = inspect.unwrap(read)
    try:
        file = inspect.getfile(read)
    except TypeError:  # An object that can be called.
        file = type(read).__module__
    return f"{file} ({getattr(read, '__qualname__', type(read).__name__)})"


def _checked(name: str, read: Read, split: str) -> Source:
    """What the user's function returns, in the memory of the host."""
    received = read(split)
    if not isinstance(received, tuple | list) or len(received) != 2:
        raise ValueError(
            f"The data set {name!r} must be read as a pair (images, labels). "
            f"Received: {type(received).__name__} for the split {split!r}."
        )
    with tf.device("CPU:0"):
        images, labels = map(_as_tensor, received)
    rows = [tuple(part.shape)[:1] for part in (images, labels)]
    if rows[0] != rows[1] or rows[0] in ((), (0,)):
        raise ValueError(
            f"The data set {name!r} must have one label for each image, and "
            "at least one of them. Received: images of shape "
            f"{tuple(images.shape)} and labels of shape {tuple(labels.shape)} "
            f"for the split {split!r}."
        )
    if not (images.dtype.is_floating or images.dtype.is_integer):
        raise ValueError(
            f"The images of the data set {name!r} must be numbers. Received: "
            f"{images.dtype.name} for the split {split!r}."
        )
    return Source(images, labels)


def _as_tensor(part: ArrayOrTensor) -> tf.Tensor:
    """An array as it is."""
    return tf.convert_to_tensor(
        part if tf.is_tensor(part) else np.asarray(part)
    )
