"""tf.data pipelines over a data set held in memory."""

import os
from collections.abc import Callable

import tensorflow as tf

from tf_elastic.data import epoch_stream
from tf_elastic.data import sources

_PARALLEL_BATCHES = min(8, os.cpu_count() or 1)
_PREFETCHED_BATCHES = 2 * _PARALLEL_BATCHES


def train_pipeline(
    source: sources.Source,
    stream: epoch_stream.EpochStream,
    prepare: Callable[..., tf.Tensor],
    *,
    steps_per_epoch: int,
    global_batch_size: int,
) -> tf.data.Dataset:
    """Builds the training data set: each iteration is the stream's next epoch.

    Args:
        source: The training split.
        stream: Gives indices and augmentation codes.
        prepare: `(images, indices, codes) -> float32 batch`.
        steps_per_epoch: The stream's.
        global_batch_size: num_workers * batch_size, in images.

    Returns:
        Data set of `(images float32, labels int64)`, of cardinality
        `steps_per_epoch`.
    """

    def batch(chosen: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        indices, codes = chosen[0], chosen[1]
        images = prepare(source.images, indices, codes)
        return images, tf.gather(source.labels, indices)

    return (
        steps(stream, global_batch_size)
        .map(batch, num_parallel_calls=_PARALLEL_BATCHES, deterministic=True)
        .apply(tf.data.experimental.assert_cardinality(steps_per_epoch))
        .prefetch(_PREFETCHED_BATCHES)
        .with_options(fixed_options(shards=False))
    )


def steps(
    stream: epoch_stream.EpochStream, global_batch_size: int
) -> tf.data.Dataset:
    """A data set of the steps of a stream, int32 [2, global_batch_size]."""
    blocks = tf.data.Dataset.from_generator(
        stream,
        output_signature=tf.TensorSpec([None, 2, global_batch_size], tf.int32),
    )
    return blocks.unbatch()


def eval_pipeline(
    source: sources.Source,
    evaluate: Callable[..., tf.Tensor],
    *,
    batch_size: int,
) -> tf.data.Dataset:
    """Builds an evaluation data set: every image once, in order.

    Args:
        source: The split to evaluate on.
        evaluate: `(uint8 batch) -> float32 batch`.
        batch_size: Images in a batch; the last batch holds the remainder.

    Returns:
        Data set of `(images float32, labels int64)`, of known cardinality.
    """

    def batch(start: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        part = slice(start, start + batch_size)
        return evaluate(source.images[part]), source.labels[part]

    starts = tf.data.Dataset.range(0, len(source.labels), batch_size)
    return (
        starts.map(
            batch, num_parallel_calls=_PARALLEL_BATCHES, deterministic=True
        )
        .prefetch(_PREFETCHED_BATCHES)
        .with_options(fixed_options(shards=True))
    )


def fixed_options(shards: bool) -> tf.data.Options:
    """Options under which tf.data does not tune the pipeline.

    Its tuner sleeps for up to a minute at a time, and an iterator cannot be
    closed while it does: the end of an epoch would hang now and then.

    Args:
        shards: whether TensorFlow may cut the data among processes. Training
            data has each worker's part in each batch: there is nothing to cut.
    """
    options = tf.data.Options()
    options.autotune.enabled = False
    if not shards:
        options.experimental_distribute.auto_shard_policy = (
            tf.data.experimental.AutoShardPolicy.OFF
        )
    return options
