"""Batch preprocessing against plain NumPy slicing."""

import numpy as np
import pytest
import tensorflow as tf

from tf_elastic.data import preprocess


def random_images(count=6, size=32, channels=3):
    rng = np.random.default_rng(0)
    shape = (count, size, size, channels)
    return rng.integers(0, 256, shape, dtype=np.uint8)


def scaled(pixels):
    return pixels.astype(np.float32) * np.float32(1 / 255)


@pytest.mark.parametrize(
    ("size", "crop", "channels"), [(32, 28, 3), (8, 8, 1), (11, 4, 2)]
)
def test_every_crop_is_the_slice_it_stands_for(size, crop, channels):
    images = random_images(size=size, channels=channels)
    count = preprocess.num_crops(size, crop)
    codes = np.arange(count, dtype=np.int32)
    indices = (codes % len(images)).astype(np.int32)
    crops = preprocess.crop_and_flip(
        tf.constant(images), tf.constant(indices), tf.constant(codes), crop
    )
    places = size - crop + 1
    expected = []
    for index, code in zip(indices, codes, strict=True):
        place, mirrored = divmod(code, 2)
        top, left = divmod(place, places)
        pixels = images[index, top : top + crop, left : left + crop]
        expected.append(pixels[:, ::-1] if mirrored else pixels)
    assert count == len(expected) == 2 * places**2
    np.testing.assert_array_equal(crops.numpy(), scaled(np.stack(expected)))


def test_center_crop():
    images = random_images()
    np.testing.assert_array_equal(
        preprocess.center_crop(tf.constant(images), 28).numpy(),
        scaled(images[:, 2:30, 2:30]),
    )


def test_all_pixel_values_are_kept():
    values = np.arange(256, dtype=np.uint8).reshape(1, 16, 16, 1)
    out = preprocess.center_crop(tf.constant(values), 16).numpy()
    np.testing.assert_allclose(out.ravel(), np.arange(256) / 255, rtol=2e-7)
    assert out.min() == 0 and out.max() == 1


def test_channel_statistics_are_numpys():
    images = random_images(count=50)
    mean, deviation = preprocess.channel_statistics(tf.constant(images))
    exact = images.astype(np.float64)
    np.testing.assert_allclose(mean, exact.mean((0, 1, 2)), rtol=1e-12)
    np.testing.assert_allclose(deviation, exact.std((0, 1, 2)), rtol=1e-12)


def test_affine():
    images = random_images()
    out = preprocess.affine(
        tf.constant(images), tf.constant([1.0, 2.0, 3.0]), tf.constant(-1.0)
    )
    np.testing.assert_allclose(out, images * [1.0, 2.0, 3.0] - 1)


def test_every_crop_of_a_padded_image_is_the_slice_it_stands_for():
    images = random_images()
    count = preprocess.num_crops(32, 32, 4)
    codes = np.arange(count, dtype=np.int32)
    indices = (codes % len(images)).astype(np.int32)
    crops = preprocess.crop_and_flip(
        tf.constant(images), tf.constant(indices), tf.constant(codes), 32, 4
    )
    padded = np.pad(images, [(0, 0), (4, 4), (4, 4), (0, 0)])
    expected = []
    for index, code in zip(indices, codes, strict=True):
        place, mirrored = divmod(code, 2)
        top, left = divmod(place, 9)
        pixels = padded[index, top : top + 32, left : left + 32]
        expected.append(pixels[:, ::-1] if mirrored else pixels)
    assert count == len(expected) == 2 * 81
    np.testing.assert_array_equal(crops.numpy(), scaled(np.stack(expected)))
