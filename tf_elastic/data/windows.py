"""Which part of an image is cut out: random and middle windows.

A window is a rectangle of the stored image, of which `size` x `size` pixels
are made; its sides need not be whole numbers.
"""

from collections.abc import Callable
from typing import NamedTuple

import tensorflow as tf

# Augmentation codes are the seeds of an image's own random numbers.
NUM_CODES = 2**31
SHORTEST = 256
_ATTEMPTS = 10
_AREA = (0.08, 1.0)
_RATIO = (3 / 4, 4 / 3)


class Window(NamedTuple):
    """A part of an image, in pixels, mirrored or not."""

    begin: tf.Tensor  # float64 [2], top and left.
    size: tf.Tensor  # float64 [2], height and width.
    mirrored: tf.Tensor  # bool [].


# (height and width int32 [2], code int32 []) -> the window.
MakeWindow = Callable[[tf.Tensor, tf.Tensor], Window]


def resized(shape: tf.Tensor, shortest: int = SHORTEST) -> tf.Tensor:
    """An image's size once its shortest side is resized.

    Args:
        shape: height and width, int32 [2], in pixels.
        shortest: the shortest side to be, in pixels.

    Returns:
        Height and width, float64 [2]: whole numbers.
    """
    sides = tf.cast(shape, tf.float64)
    return tf.round(sides * shortest / tf.reduce_min(sides))


def uniform(code: tf.Tensor, count: int) -> tf.Tensor:
    """The first random numbers of a code, float64 [count], in [0, 1)."""
    return tf.random.stateless_uniform(
        [count], seed=tf.stack([code, 0]), dtype=tf.float64, alg="philox"
    )


def random_crop(shape: tf.Tensor, code: tf.Tensor, size: int) -> Window:
    """A random crop of the image whose shortest side is 256.

    Every place is as likely as any other, and one half is mirrored.

    Args:
        shape: height and width of the stored image, int32 [2].
        code: what chooses the crop, int32 [], in [0, `NUM_CODES`).
        size: side of the crop in pixels of the resized image, 1 to 256.

    Reference:
        S. Zhang, Distributed stochastic optimization for deep learning, 2016,
        section 4.1, "Data preprocessing".
    """
    new = resized(shape)
    u = uniform(code, 3)
    offset = tf.floor(u[:2] * (new - size + 1))
    return _of_resized(shape, new, offset, size, u[2] < 0.5)


def center_crop(shape: tf.Tensor, code: tf.Tensor, size: int) -> Window:
    """The middle of the image whose shortest side is 256; see `random_crop`."""
    del code
    new = resized(shape)
    offset = (new - size) // 2
    return _of_resized(shape, new, offset, size, tf.constant(False))


def random_resized(shape: tf.Tensor, code: tf.Tensor) -> Window:
    """A random part of the image, of 8 to 100 % of its area.

    Area and logarithm of the ratio of width to height (3/4 to 4/3) are drawn
    uniformly, up to ten times, until the part fits; then its place is, and
    one half is mirrored. If none fits, it is the largest part in the middle
    whose ratio is in the range.

    Args:
        shape: height and width of the stored image, int32 [2].
        code: what chooses the part, int32 [], in [0, `NUM_CODES`).

    Reference:
        Szegedy et al., Going deeper with convolutions, 2015, section 6.
    """
    sides = tf.cast(shape, tf.float64)
    u = uniform(code, 2 * _ATTEMPTS + 3)
    low, high = _AREA
    area = (low + (high - low) * u[:_ATTEMPTS]) * tf.reduce_prod(sides)
    low, high = _RATIO
    ratio = low * (high / low) ** u[_ATTEMPTS : 2 * _ATTEMPTS]
    drawn = tf.round(
        tf.stack([tf.sqrt(area / ratio), tf.sqrt(area * ratio)], 1)
    )
    fits = tf.reduce_all((drawn >= 1) & (drawn <= sides), axis=1)
    largest = tf.round(
        tf.stack(
            [
                tf.minimum(sides[0], sides[1] / low),
                tf.minimum(sides[1], sides[0] * high),
            ]
        )
    )
    is_found = tf.reduce_any(fits)
    size = tf.where(is_found, drawn[tf.argmax(fits)], largest)
    room = sides - size
    place = tf.floor(u[2 * _ATTEMPTS : 2 * _ATTEMPTS + 2] * (room + 1))
    begin = tf.where(is_found, place, room // 2)
    return Window(begin, size, u[-1] < 0.5)


def _of_resized(
    shape: tf.Tensor,
    new: tf.Tensor,
    offset: tf.Tensor,
    size: int,
    mirrored: tf.Tensor,
) -> Window:
    """The window of the stored image that a crop of the resized one is."""
    step = tf.cast(shape, tf.float64) / new
    return Window(offset * step, size * step, mirrored)
