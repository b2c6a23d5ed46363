"""How windows are drawn: by a transcription, and over many codes."""

import numpy as np
import pytest
import tensorflow as tf

from tf_elastic.data import windows


def many(make_window, shape, count):
    """Windows of the codes 0 to `count` - 1, float64 [count, 5]."""

    @tf.function
    def drawn(codes):
        return tf.map_fn(
            lambda code: tf.concat(
                [
                    *(w := make_window(tf.constant(shape), code))[:2],
                    tf.cast(w.mirrored, tf.float64)[tf.newaxis],
                ],
                0,
            ),
            codes,
            fn_output_signature=tf.float64,
        )

    return drawn(tf.range(count)).numpy()


def transcribed(shape, u):
    """Szegedy's crops in Python's floats: top, left, height, width."""
    height, width = shape
    for area_u, ratio_u in zip(u[:10], u[10:20], strict=True):
        area = (0.08 + 0.92 * area_u) * height * width
        low, high = np.log(3 / 4), np.log(4 / 3)
        ratio = np.exp(low + (high - low) * ratio_u)
        h = np.round(np.sqrt(area / ratio))
        w = np.round(np.sqrt(area * ratio))
        if 1 <= h <= height and 1 <= w <= width:
            top = np.floor(u[20] * (height - h + 1))
            return top, np.floor(u[21] * (width - w + 1)), h, w
    h, w = height, width
    if width / height < 3 / 4:
        h = np.round(width / (3 / 4))
    elif width / height > 4 / 3:
        w = np.round(height * (4 / 3))
    return (height - h) // 2, (width - w) // 2, h, w


@pytest.mark.parametrize("shape", [(375, 500), (1000, 60), (60, 900), (1, 1)])
def test_random_resized_is_as_transcribed(shape):
    got = many(windows.random_resized, shape, 60)
    for code in range(60):
        u = windows.uniform(tf.constant(code), 23).numpy()
        np.testing.assert_array_equal(got[code, :4], transcribed(shape, u))
        assert got[code, 4] == (u[22] < 0.5)


def test_random_resized_covers_what_it_says():
    top, left, height, width, mirrored = many(
        windows.random_resized, (400, 500), 4000
    ).T
    area, ratio = height * width / 200_000, width / height
    assert 0.079 < area.min() < 0.1 and area.max() > 0.95
    assert 0.74 < ratio.min() < 0.77 and 1.3 < ratio.max() < 1.345
    assert (top >= 0).all() and (top + height <= 400).all()
    assert (left >= 0).all() and (left + width <= 500).all()
    # Small ones always fit: their area is uniform, the ratio's log too.
    small = area < 0.5
    assert abs(np.median(area[small]) - 0.29) < 0.02
    assert abs(np.log(ratio[small]).mean()) < 0.02
    for place, room in ((top, 400 - height), (left, 500 - width)):
        assert abs((place / np.maximum(room, 1))[room > 50].mean() - 0.5) < 0.02
    assert abs(mirrored.mean() - 0.5) < 0.03


def test_crops_are_uniform_over_all_places():
    """Chi-square over 36 offsets a side and the flip; the sample is fixed."""
    crops = many(lambda *a: windows.random_crop(*a, size=221), (256, 256), 7200)
    assert (crops[:, 2:4] == 221).all()
    for axis in (0, 1):
        counts = np.bincount(crops[:, axis].astype(int), minlength=36)
        assert counts.size == 36
        # 35 degrees of freedom: 66.6 is exceeded once in a thousand times.
        assert ((counts - 200) ** 2 / 200).sum() < 66.6
    assert abs(crops[:, 4].mean() - 0.5) < 0.02
    together = np.corrcoef(crops[:, [0, 1, 4]].T)
    assert np.abs(together - np.eye(3)).max() < 0.04


def test_a_crop_is_given_in_pixels_of_the_stored_image():
    shape = (512, 768)
    crops = many(lambda *a: windows.random_crop(*a, size=221), shape, 50)
    assert (crops[:, 2:4] == 442).all() and (crops[:, :2] % 2 == 0).all()
    assert (crops[:, 0] <= 2 * 35).all() and crops[:, 1].max() > 2 * 35
    middle = windows.center_crop(tf.constant(shape), None, 221)
    np.testing.assert_array_equal(middle.begin, [34, 162])
    assert not middle.mirrored


def test_the_shortest_side_is_exact():
    for shape in ((500, 375), (375, 500), (257, 1999), (80, 100), (256, 256)):
        new = windows.resized(tf.constant(shape)).numpy()
        assert new.min() == 256
        expected = np.array(shape) * 256 / min(shape)
        assert np.abs(new - expected).max() <= 0.5
