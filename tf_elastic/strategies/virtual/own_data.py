"""Data of which each worker has its own."""

from collections.abc import Callable
from collections.abc import Iterator

import tensorflow as tf

DatasetFn = Callable[[tf.distribute.InputContext], tf.data.Dataset]


def taken_in_turn(
    dataset_fn: DatasetFn,
    num_workers: int,
    workers: Callable[[], Iterator[int]],
) -> tf.data.Dataset:
    """One data set of p: each element is of the worker whose step it is for.

    It ends with the first of them of which an element is wanted in vain.

    Args:
        dataset_fn: makes a worker's data set, told its number and p as
            `input_pipeline_id` and `num_input_pipelines`.
        num_workers: p.
        workers: gives the workers of the steps that come, whenever a pass over
            the data begins.
    """
    datasets = [
        dataset_fn(
            tf.distribute.InputContext(
                num_input_pipelines=num_workers,
                input_pipeline_id=worker,
                num_replicas_in_sync=1,
            )
        )
        for worker in range(num_workers)
    ]
    choice = tf.data.Dataset.from_generator(
        workers, output_signature=tf.TensorSpec((), tf.int64)
    )
    return tf.data.Dataset.choose_from_datasets(datasets, choice)
