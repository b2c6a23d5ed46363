"""Windows of images, pixel by pixel against a whole decode and NumPy."""

import io

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from tf_elastic.data import decoding
from tf_elastic.data import windows

# Sides of images: larger and smaller than 256, odd ones, and the size itself.
SHAPES = [
    (375, 500),
    (500, 333),
    (256, 341),
    (100, 80),
    (257, 1000),
    (700, 513),
]


def picture(height, width, seed=0):
    """A smooth coloured picture with some noise, uint8."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width]
    waves = [np.sin(x / (9 + c)) + np.cos(y / (13 - c)) for c in range(3)]
    noise = rng.normal(0, 0.1, (height, width, 3))
    pixels = 127 + 50 * (np.stack(waves, -1) + noise)
    return np.clip(pixels, 0, 255).astype(np.uint8)


def saved(image, kind, **kwargs):
    file = io.BytesIO()
    Image.fromarray(image).save(file, kind, **kwargs)
    return file.getvalue()


def jpeg(height, width):
    return saved(picture(height, width), "JPEG", quality=90)


def bilinear(image, window, size):
    """Points of a window in float64, and the edge beyond the image."""
    rows, columns = (
        begin + (np.arange(size) + 0.5) * length / size - 0.5
        for begin, length in zip(window.begin, window.size, strict=True)
    )
    result = image.astype(np.float64)
    for axis, points in enumerate((rows, columns)):
        last = image.shape[axis] - 1
        low = np.floor(points)
        share = (points - low).reshape([-1, 1, 1] if axis == 0 else [1, -1, 1])
        before, after = (
            np.take(result, np.clip(low + k, 0, last).astype(int), axis)
            for k in (0, 1)
        )
        result = before * (1 - share) + after * share
    return result[:, ::-1] if window.mirrored else result


def numbers(window):
    return windows.Window(*(part.numpy() for part in window))


def crop(shape, code):
    return windows.random_crop(shape, code, 221)


def center(shape, code):
    return windows.center_crop(shape, code, 221)


MAKERS = {"crop": (crop, 221), "random_resized": (windows.random_resized, 224)}
MAKERS["center"] = (center, 221)


@pytest.mark.parametrize("make", MAKERS)
@pytest.mark.parametrize("shape", SHAPES)
def test_a_window_is_that_of_the_whole_image(make, shape):
    """Exactly (to 0.01 of 255 levels) where the JPEG is decoded in full size.

    Where it is decoded smaller, against the whole image decoded so.
    """
    encoded = jpeg(*shape)
    make_window, size = MAKERS[make]
    for code in (0, 1, 12345, 2**31 - 1):
        window = numbers(make_window(tf.constant(shape), tf.constant(code)))
        ratio = 1
        while ratio < 8 and min(window.size) / size >= 2 * ratio:
            ratio *= 2
        whole = tf.io.decode_jpeg(encoded, 3, ratio=ratio).numpy()
        smaller = windows.Window(
            window.begin / ratio, window.size / ratio, window.mirrored
        )
        got = decoding.decode_window(
            tf.constant(encoded), tf.constant(code), make_window, size
        )
        expected = bilinear(whole, smaller, size)
        np.testing.assert_allclose(255 * got, expected, atol=0.01)


@pytest.mark.parametrize("shape", SHAPES[:5])
def test_a_crop_is_that_of_the_resized_image(shape):
    """`tf.image.resize`, then a slice: the thesis' words, in its order."""
    encoded = jpeg(*shape)
    whole = tf.io.decode_jpeg(encoded, 3)
    new = windows.resized(tf.constant(shape)).numpy()
    assert new.min() == 256
    resized = tf.image.resize(whole, new.astype(int)).numpy()
    for code in (3, 4, 77):
        u = windows.uniform(tf.constant(code), 3).numpy()
        top, left = np.floor(u[:2] * (new - 220)).astype(int)
        expected = resized[top : top + 221, left : left + 221]
        if u[2] < 0.5:
            expected = expected[:, ::-1]
        got = decoding.decode_window(
            tf.constant(encoded), tf.constant(code), crop, 221
        )
        np.testing.assert_allclose(255 * got, expected, atol=0.01)


@pytest.mark.parametrize("shape", [(700, 513), (1200, 1600), (3000, 2100)])
def test_a_large_jpeg_that_is_decoded_smaller_looks_the_same(shape):
    """Within 2 of 255 levels on average of a smoothed resize of the whole."""
    encoded = jpeg(*shape)
    window = numbers(center(tf.constant(shape), None))
    new = windows.resized(tf.constant(shape)).numpy().astype(int)
    whole = tf.io.decode_jpeg(encoded, 3)
    resized = tf.image.resize(whole, new, antialias=True).numpy()
    top, left = (new - 221) // 2
    got = decoding.decode_window(
        tf.constant(encoded), tf.constant(0), center, 221
    )
    assert min(window.size) / 221 >= 2
    away = 255 * got - resized[top : top + 221, left : left + 221]
    assert np.abs(away).mean() < 2


def test_pixels_that_are_stored_are_not_touched():
    encoded = jpeg(256, 341)
    got = decoding.decode_window(
        tf.constant(encoded), tf.constant(0), center, 221
    )
    pixels = tf.io.decode_jpeg(encoded, 3)[17:238, 60:281].numpy()
    np.testing.assert_array_equal(np.round(255 * got.numpy()), pixels)


KINDS = {
    "png": lambda image: saved(image, "PNG"),
    "bmp": lambda image: saved(image, "BMP"),
    "grey": lambda image: saved(image[..., 0], "JPEG"),
    "grey_png": lambda image: saved(image[..., 0], "PNG"),
    "progressive": lambda image: saved(image, "JPEG", progressive=True),
}


@pytest.mark.parametrize("kind", KINDS)
def test_other_images_named_jpeg(kind):
    encoded = KINDS[kind](picture(120, 150))
    whole = tf.io.decode_image(encoded, 3, expand_animations=False).numpy()
    window = numbers(crop(tf.constant([120, 150]), tf.constant(5)))
    got = decoding.decode_window(
        tf.constant(encoded), tf.constant(5), crop, 221
    )
    np.testing.assert_allclose(
        255 * got, bilinear(whole, window, 221), atol=0.01
    )


def test_cmyk_is_decoded_to_colours():
    file = io.BytesIO()
    Image.fromarray(picture(300, 260)).convert("CMYK").save(file, "JPEG")
    encoded = file.getvalue()
    whole = tf.io.decode_jpeg(encoded, 3).numpy()
    window = numbers(crop(tf.constant([300, 260]), tf.constant(5)))
    got = decoding.decode_window(
        tf.constant(encoded), tf.constant(5), crop, 221
    )
    np.testing.assert_allclose(
        255 * got, bilinear(whole, window, 221), atol=0.01
    )
    # The colours are those of the picture, about as JPEG keeps them.
    away = np.abs(whole.astype(int) - picture(300, 260)).mean()
    assert away < 10


def test_shrink_is_a_smoothed_resize():
    encoded = jpeg(375, 500)
    small = tf.io.decode_jpeg(
        decoding.shrink(tf.constant(encoded), 256, 100), 3
    ).numpy()
    assert small.shape == (256, 341, 3)
    whole = tf.io.decode_jpeg(encoded, 3)
    expected = tf.image.resize(whole, [256, 341], antialias=True)
    assert np.abs(small - expected).mean() < 2
