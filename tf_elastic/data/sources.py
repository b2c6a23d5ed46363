"""Whole data sets in memory, read once in a process."""

import functools
import importlib.resources
import os
import pathlib
from typing import NamedTuple

import numpy as np
import tensorflow as tf

_DIGITS_TEST_EVERY = 5


class Source(NamedTuple):
    """One split of a data set, held in the host's memory."""

    images: tf.Tensor  # uint8 [num_examples, height, width, channels].
    labels: tf.Tensor  # int64 [num_examples].


@functools.lru_cache(maxsize=None)
def read_digits(split: str) -> Source:
    """Reads the handwritten digits that come with the package.

    1797 images of 8 x 8 pixels from 0 to 16. In each class every fifth image
    is in the test split, beginning with the first, 360 in all. So both splits
    hold all classes and all writers evenly; the order is kept.

    Args:
        split: "train" or "test".

    Returns:
        The split, images uint8 [num_examples, 8, 8, 1].
    """
    package = importlib.resources.files("tf_elastic.data")
    with (package / "digits.npz").open("rb") as file, np.load(file) as arrays:
        images, labels = arrays["images"], arrays["labels"]
    by_class = np.argsort(labels, kind="stable")
    is_test = np.zeros(len(labels), bool)
    is_test[by_class[::_DIGITS_TEST_EVERY]] = True
    part = is_test if split == "test" else ~is_test
    with tf.device("CPU:0"):
        return Source(
            tf.constant(images[part][..., np.newaxis]),
            tf.constant(labels[part], tf.int64),
        )


def read_cifar(
    name: str, split: str, data_dir: str | os.PathLike | None, download: bool
) -> Source:
    """Reads a split of CIFAR from a prepared TensorFlow Datasets folder.

    The images are decoded at the first call; later calls in the same process
    return the same tensors. Nothing is written unless `download` is set.

    Args:
        name: "cifar10" or "cifar100".
        split: "train" or "test".
        data_dir: Folder that holds the folder `name`; None is TensorFlow
            Datasets' own, usually `~/tensorflow_datasets`.
        download: Whether to download and prepare the data set if it is not
            there.

    Returns:
        The split, images uint8 [num_examples, 32, 32, 3].

    Raises:
        ImportError: If `tensorflow_datasets` is not installed.
        FileNotFoundError: If the data set is not prepared in `data_dir` and
            `download` is False.
    """
    folder = None if data_dir is None else os.fspath(data_dir)
    if download:
        _builder(name, folder).download_and_prepare()
    return _decode(name, split, folder)


def _builder(name: str, data_dir: str | None):
    """Returns the TensorFlow Datasets builder of a data set."""
    try:
        # Here, because it is slow to import and not always needed.
        import tensorflow_datasets as tfds
    except ImportError as error:
        raise ImportError(
            f"The data set {name!r} is read by `tensorflow_datasets`, which is "
            "not installed. Install `tensorflow-datasets`, or use "
            'load("digits"), which needs nothing.'
        ) from error
    return tfds.builder(name, data_dir=data_dir)


@functools.lru_cache(maxsize=None)
def _decode(name: str, split: str, data_dir: str | None) -> Source:
    """Reads and decodes a whole split, in the order of its files."""
    builder = _builder(name, data_dir)
    path = pathlib.Path(builder.data_path)
    if not builder.is_prepared():
        raise FileNotFoundError(
            f"The data set {name!r} must be prepared in `data_dir`. "
            f"Received: data_dir={data_dir!r}, in which {str(path)!r} is not "
            "there. Pass the folder that holds the prepared folder "
            f"{name!r} as `data_dir`, or pass `download=True` to download "
            "and prepare it there."
        )
    import tensorflow_datasets as tfds

    with tf.device("CPU:0"):
        encoded = builder.as_dataset(
            split=split,
            shuffle_files=False,
            decoders={"image": tfds.decode.SkipDecoding()},
        )
        batches = list(
            encoded.batch(500).map(
                _decode_batch, num_parallel_calls=tf.data.AUTOTUNE
            )
        )
        images, labels = zip(*batches, strict=True)
        return Source(tf.concat(images, 0), tf.concat(labels, 0))


def _decode_batch(examples: dict) -> tuple[tf.Tensor, tf.Tensor]:
    """Decodes a batch of PNG or JPEG images of 32 x 32 pixels."""

    def decode(encoded):
        image = tf.io.decode_image(encoded, 3, expand_animations=False)
        return tf.ensure_shape(image, [32, 32, 3])

    images = tf.map_fn(decode, examples["image"], fn_output_signature=tf.uint8)
    return images, tf.cast(examples["label"], tf.int64)
