"""From an encoded image to the pixels of a window of it."""

import functools
from typing import NamedTuple

import tensorflow as tf

from tf_elastic.data import windows

# By what a JPEG can be made smaller as it is decoded.
_RATIOS = (1, 2, 4, 8)
# More columns are decoded on both sides: where only a part of a JPEG is, the
# colours of its outermost columns are made without those next to them.
_MARGIN = (0, 2)


class _Grid(NamedTuple):
    """The points that pixels are made at, in pixels of the decoded image."""

    first: tf.Tensor  # float64 [2], of the top left point.
    step: tf.Tensor  # float64 [2], from one point to the next.
    begin: tf.Tensor  # int32 [2], of the part that is decoded
    end: tf.Tensor  # int32 [2].


def decode_window(
    encoded: tf.Tensor,
    code: tf.Tensor,
    make_window: windows.MakeWindow,
    size: int,
) -> tf.Tensor:
    """Decodes a window of an image, and resizes it.

    The same as to decode the image, to resize it (bilinear, pixels at the
    middle of their squares, nothing smoothed before) and to crop it; but of a
    JPEG only what is needed is decoded, at 1/2, 1/4 or 1/8 of its size where
    that is still as large as the result.

    Args:
        encoded: a JPEG (also grey or CMYK), PNG, GIF or BMP, string [].
        code: for `make_window`, int32 [].
        make_window: chooses the window.
        size: height and width of the result, in pixels, >= 2.

    Returns:
        float32 [size, size, 3], in [0, 1].

    Raises:
        tf.errors.InvalidArgumentError: the image cannot be decoded.
    """
    is_jpeg = tf.io.is_jpeg(encoded)
    shape = tf.cond(
        is_jpeg,
        lambda: tf.image.extract_jpeg_shape(encoded)[:2],
        lambda: tf.shape(_whole(encoded))[:2],
    )
    window = make_window(shape, code)
    most = tf.reduce_min(window.size) / size
    smaller = sum(tf.cast(most >= r, tf.int32) for r in _RATIOS[1:])
    power = tf.where(is_jpeg, smaller, 0)
    grid = _grid(window, size, shape, tf.bitwise.left_shift(1, power))
    region = tf.concat([grid.begin, grid.end - grid.begin], 0)

    def of_jpeg(ratio: int) -> tf.Tensor:
        return tf.image.decode_and_crop_jpeg(
            encoded, region, channels=3, ratio=ratio
        )

    def of_another() -> tf.Tensor:
        begin, sides = (
            tf.concat([part, [channels]], 0)
            for part, channels in ((region[:2], 0), (region[2:], 3))
        )
        return tf.slice(_whole(encoded), begin, sides)

    part = tf.switch_case(
        tf.where(is_jpeg, power, len(_RATIOS)),
        [*(functools.partial(of_jpeg, ratio) for ratio in _RATIOS), of_another],
    )
    pixels = _resampled(part, grid, size, window.mirrored)
    return tf.ensure_shape(pixels, [size, size, 3])


def _whole(encoded: tf.Tensor) -> tf.Tensor:
    """The whole image, uint8 [height, width, 3]."""
    return tf.io.decode_image(encoded, 3, expand_animations=False)


def _grid(
    window: windows.Window, size: int, shape: tf.Tensor, ratio: tf.Tensor
) -> _Grid:
    """The points of a window in an image that is `ratio` times smaller."""
    scale = tf.cast(ratio, tf.float64)
    step = window.size / (size * scale)
    first = window.begin / scale + step / 2 - 0.5
    last = first + (size - 1) * step
    begin = tf.cast(tf.floor(first), tf.int32) - _MARGIN
    end = tf.cast(tf.math.ceil(last), tf.int32) + 1 + _MARGIN
    # As libjpeg rounds the sides of a smaller image.
    sides = -(-shape // ratio)
    begin, end = tf.maximum(begin, 0), tf.minimum(end, sides)
    return _Grid(first, step, begin, end)


def _resampled(
    part: tf.Tensor, grid: _Grid, size: int, mirrored: tf.Tensor
) -> tf.Tensor:
    """Makes the pixels of a grid; beyond the image its edge goes on."""

    def as_they_are() -> tf.Tensor:
        start = tf.cast(grid.first, tf.int32) - grid.begin
        pixels = tf.slice(part, tf.concat([start, [0]], 0), [size, size, 3])
        pixels = tf.cast(pixels, tf.float32)
        return tf.cond(
            mirrored, lambda: tf.reverse(pixels, [1]), lambda: pixels
        )

    def between() -> tf.Tensor:
        # A point at the last pixel, or beyond it, has no neighbour there.
        is_edge = tf.reduce_any(grid.step <= 1)
        source = tf.cond(
            is_edge,
            lambda: tf.pad(part, [[1, 1], [1, 1], [0, 0]], "SYMMETRIC"),
            lambda: part,
        )
        begin = tf.cast(grid.begin - tf.cast(is_edge, tf.int32), tf.float64)
        first = grid.first - begin
        last = first + (size - 1) * grid.step
        left, right = (
            tf.where(mirrored, a, b)
            for a, b in ((last[1], first[1]), (first[1], last[1]))
        )
        ends = tf.cast(tf.shape(source)[:2] - 1, tf.float64)
        box = tf.stack([first[0], left, last[0], right])
        return tf.image.crop_and_resize(
            source[tf.newaxis],
            tf.cast(box / tf.tile(ends, [2]), tf.float32)[tf.newaxis],
            [0],
            [size, size],
        )[0]

    is_stored = tf.reduce_all(grid.step == 1) & tf.reduce_all(
        grid.first == tf.round(grid.first)
    )
    return tf.cond(is_stored, as_they_are, between) * (1 / 255)


def shrink(encoded: tf.Tensor, shortest: int, quality: int) -> tf.Tensor:
    """Makes a smaller JPEG of an image.

    Args:
        encoded: as of `decode_window`.
        shortest: its shortest side to be, in pixels.
        quality: of the JPEG, 1 to 100.

    Returns:
        The JPEG, string []. The image is smoothed as it is made smaller.

    Raises:
        tf.errors.InvalidArgumentError: the image cannot be decoded.
    """
    image = _whole(encoded)
    sides = tf.cast(windows.resized(tf.shape(image)[:2], shortest), tf.int32)
    pixels = tf.round(tf.image.resize(image, sides, antialias=True))
    return tf.io.encode_jpeg(
        tf.saturate_cast(pixels, tf.uint8), quality=quality
    )
