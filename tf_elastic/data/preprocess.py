"""Preprocessing of batches of stored images: each function is one batch op."""

import tensorflow as tf

# A box whose ends are moved inwards by this many pixels still rounds to the
# same pixels, and rounding errors cannot put its last pixel outside the image.
_INSET = 0.1


def num_crops(image_size: int, crop_size: int, padding: int = 0) -> int:
    """Returns how many crops there are, each counted as is and mirrored."""
    return 2 * (image_size + 2 * padding - crop_size + 1) ** 2


def crop_and_flip(
    images: tf.Tensor,
    indices: tf.Tensor,
    codes: tf.Tensor,
    crop_size: int,
    padding: int = 0,
) -> tf.Tensor:
    """Cuts one crop from each chosen image, mirrored or not, scaled to [0, 1].

    A code chooses the crop: with n = size + 2 * padding - crop_size + 1 places
    a side, it is `(row * n + column) * 2 + mirrored`. One op reads the stored
    pixels, cuts, mirrors and converts: a box whose left and right are
    exchanged is mirrored, and sampling a box of `crop_size` pixels at
    `crop_size` points gives the pixels themselves.

    Args:
        images: The data set, uint8 [num_examples, size, size, channels].
        indices: Images to take, int32 [batch], in [0, num_examples).
        codes: One for each of them, int32 [batch], in [0, `num_crops`).
        crop_size: Side of the crop, in pixels, 2 to size + 2 * padding.
        padding: Black pixels put around the image, 0 to half of its side.

    Returns:
        float32 [batch, crop_size, crop_size, channels], in [0, 1].
    """
    size = images.shape[1]
    places = size + 2 * padding - crop_size + 1
    top = tf.cast(codes // (2 * places) - padding, tf.float32)
    left = tf.cast(codes // 2 % places - padding, tf.float32)
    mirrored = codes % 2 == 1
    last = crop_size - 1
    start, end = left + _INSET, left + last - _INSET
    boxes = tf.stack(
        [
            top + _INSET,
            tf.where(mirrored, end, start),
            top + last - _INSET,
            tf.where(mirrored, start, end),
        ],
        axis=1,
    )
    crops = tf.image.crop_and_resize(
        images,
        boxes / (size - 1),
        indices,
        [crop_size, crop_size],
        method="nearest",
        extrapolation_value=0.0,
    )
    return crops * (1 / 255)


def center_crop(batch: tf.Tensor, crop_size: int) -> tf.Tensor:
    """Cuts the middle of each image, scaled to [0, 1].

    Args:
        batch: uint8 [batch, size, size, channels], 0 to 255.
        crop_size: Side of the crop, in pixels, 1 to size.

    Returns:
        float32 [batch, crop_size, crop_size, channels], in [0, 1].
    """
    start = (batch.shape[1] - crop_size) // 2
    end = start + crop_size
    return tf.cast(batch[:, start:end, start:end], tf.float32) * (1 / 255)


def affine(batch: tf.Tensor, scale: tf.Tensor, shift: tf.Tensor) -> tf.Tensor:
    """Returns `batch * scale + shift` as float32.

    Args:
        batch: uint8 [batch, height, width, channels].
        scale: float32 [channels] or [].
        shift: float32 [channels] or [].

    Returns:
        float32 of the shape of `batch`.
    """
    return tf.cast(batch, tf.float32) * scale + shift


def channel_statistics(images: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Returns the mean and the standard deviation of each channel's pixels.

    Exact: computed in float64 from the counts of the 256 values.

    Args:
        images: uint8 [num_examples, height, width, channels].

    Returns:
        Mean and standard deviation, float64 [channels], in pixel values.
    """
    values = tf.range(256, dtype=tf.float64)
    means, deviations = [], []
    for channel in tf.unstack(
        tf.reshape(images, [-1, images.shape[-1]]), axis=1
    ):
        counts = tf.math.bincount(
            tf.cast(channel, tf.int32), minlength=256, dtype=tf.float64
        )
        weights = counts / tf.reduce_sum(counts)
        mean = tf.reduce_sum(weights * values)
        variance = tf.reduce_sum(weights * (values - mean) ** 2)
        means.append(mean)
        deviations.append(tf.sqrt(variance))
    return tf.stack(means), tf.stack(deviations)
