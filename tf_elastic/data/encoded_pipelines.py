"""tf.data pipelines over images that stay encoded in their files."""

import os
from collections.abc import Callable

import numpy as np
import tensorflow as tf

from tf_elastic.data import encoded_images
from tf_elastic.data import epoch_stream
from tf_elastic.data import pipelines

_CORES = os.cpu_count() or 1
# One batch is decoded while the next one is read from the disk.
_PARALLEL_BATCHES = 2
_PREFETCHED_BATCHES = 2
# (encoded image, code) -> float32 [size, size, 3].
Decode = Callable[[tf.Tensor, tf.Tensor], tf.Tensor]


def train_pipeline(
    images: encoded_images.EncodedImages,
    stream: epoch_stream.EpochStream,
    decode: Decode,
    *,
    size: int,
    steps_per_epoch: int,
    global_batch_size: int,
) -> tf.data.Dataset:
    """Builds the training data set: each iteration is the stream's next epoch.

    An image that is damaged is replaced by the next one in the data set.

    Args:
        images: The training split.
        stream: Gives numbers of images and augmentation codes.
        decode: `(encoded image, code) -> float32 [size, size, 3]`.
        size: Height and width of what `decode` returns.
        steps_per_epoch: The stream's.
        global_batch_size: num_workers * batch_size, in images.

    Returns:
        Data set of `(images float32, labels int64)`, of cardinality
        `steps_per_epoch`.
    """

    def batch(chosen: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        pixels, labels = _batch(images, chosen[0], chosen[1], decode, True)
        return (
            tf.ensure_shape(pixels, [global_batch_size, size, size, 3]),
            tf.ensure_shape(labels, [global_batch_size]),
        )

    return _finished(
        pipelines.steps(stream, global_batch_size),
        batch,
        steps_per_epoch,
        shards=False,
    )


def eval_pipeline(
    images: encoded_images.EncodedImages,
    decode: Decode,
    *,
    size: int,
    batch_size: int,
) -> tf.data.Dataset:
    """Builds an evaluation data set: every image once, in order.

    An image that is damaged is left out of its batch. Of a batch all of which
    are, one is replaced by the next image that can be read.

    Args:
        images: The split to evaluate on.
        decode: as of `train_pipeline`; it is given the code 0.
        size: Height and width of what `decode` returns.
        batch_size: Images in a batch; the last batch holds the remainder.

    Returns:
        Data set of `(images float32, labels int64)`, of known cardinality.
    """

    def batch(start: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        indices = tf.range(
            start, tf.minimum(start + batch_size, len(images)), dtype=tf.int64
        )
        codes = tf.zeros_like(indices, tf.int32)
        pixels, labels = _batch(images, indices, codes, decode, False)
        return (
            tf.ensure_shape(pixels, [None, size, size, 3]),
            tf.ensure_shape(labels, [None]),
        )

    starts = tf.data.Dataset.range(0, len(images), batch_size)
    return _finished(starts, batch, len(starts), shards=True)


def _finished(
    steps: tf.data.Dataset,
    batch: Callable[[tf.Tensor], tuple[tf.Tensor, tf.Tensor]],
    count: int,
    shards: bool,
) -> tf.data.Dataset:
    return (
        steps.map(
            batch, num_parallel_calls=_PARALLEL_BATCHES, deterministic=True
        )
        .apply(tf.data.experimental.assert_cardinality(count))
        .prefetch(_PREFETCHED_BATCHES)
        .with_options(pipelines.fixed_options(shards))
    )


def _batch(
    images: encoded_images.EncodedImages,
    indices: tf.Tensor,
    codes: tf.Tensor,
    decode: Decode,
    replace: bool,
) -> tuple[tf.Tensor, tf.Tensor]:
    """Reads and decodes a batch; one by one if one of them is damaged.

    What decodes the images raises an error for a damaged one, and nothing in
    a graph catches it but `ignore_errors`: then the batch is empty, and what
    is concatenated to it takes its place.
    """

    def read(numbers: np.ndarray) -> tuple[np.ndarray, ...]:
        return images.encoded(numbers, replace)

    def one_by_one(
        numbers: np.ndarray, their_codes: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        return images.decoded(numbers, their_codes, decode, replace)

    encoded, labels, places = tf.numpy_function(
        read, [indices], [tf.string, tf.int64, tf.int64]
    )
    encoded.set_shape([None])
    labels.set_shape([None])
    their_codes = tf.gather(codes, tf.ensure_shape(places, [None]))
    whole = (
        tf.data.Dataset.from_tensor_slices((encoded, their_codes))
        .map(decode, num_parallel_calls=_CORES, deterministic=True)
        .batch(tf.size(labels, tf.int64), drop_remainder=True)
        .map(lambda pixels: (pixels, labels))
        .ignore_errors(log_warning=False)
    )

    def repaired(_: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        pixels, kept = tf.numpy_function(
            one_by_one, [indices, codes], [tf.float32, tf.int64]
        )
        shape = whole.element_spec[0].shape
        return tf.ensure_shape(pixels, shape), tf.ensure_shape(kept, [None])

    either = whole.concatenate(tf.data.Dataset.from_tensors(0).map(repaired))
    pixels, labels = either.take(1).get_single_element()
    return pixels, labels
