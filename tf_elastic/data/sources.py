"""Whole data sets in memory, read once in a process."""

import functools
import importlib.resources
import os
import zipfile
import zlib
from typing import TYPE_CHECKING
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from tf_elastic.data import prepared
from tf_elastic.data.errors import DamagedDataError

if TYPE_CHECKING:
    import tensorflow_datasets as tfds

_DIGITS = "digits.npz"
# What NumPy raises of a file that is damaged, by where.
_UNREADABLE = (
    OSError,
    ValueError,
    KeyError,
    EOFError,
    zipfile.BadZipFile,
    zlib.error,
)
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

    Raises:
        DamagedDataError: If the file of the package is damaged.
    """
    path = importlib.resources.files("tf_elastic.data") / _DIGITS
    try:
        with path.open("rb") as file, np.load(file) as arrays:
            images, labels = arrays["images"], arrays["labels"]
    except _UNREADABLE as error:
        raise DamagedDataError(
            f"{str(path)!r} must be as it comes with tf_elastic. Received: "
            f"a file that cannot be read ({error}). Install tf_elastic again."
        ) from error
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
    name: str,
    split: str,
    data_dir: str | os.PathLike[str] | None,
    download: bool,
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
        DamagedDataError: If a file of it is not what was prepared.
    """
    folder = None if data_dir is None else os.fspath(data_dir)
    if download:
        prepared.builder(name, folder).download_and_prepare()
    return _decode(name, split, folder)


@functools.lru_cache(maxsize=None)
def _decode(name: str, split: str, data_dir: str | None) -> Source:
    """Reads and decodes a whole split, in the order of its files."""
    builder = prepared.builder(name, data_dir)
    with tf.device("CPU:0"):
        parts = [
            _decode_file(builder, f"{split}[{i}shard]", path)
            for i, path in enumerate(prepared.files(builder, split))
        ]
        images, labels = zip(*parts, strict=True)
        return Source(tf.concat(images, 0), tf.concat(labels, 0))


def _decode_file(
    builder: "tfds.core.DatasetBuilder", split: str, path: str
) -> Source:
    """Reads and decodes one file, which is the split that is given."""
    import tensorflow_datasets as tfds

    try:
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
    except (tf.errors.OpError, ValueError) as error:
        raise prepared.damaged(path, error) from error
    images, labels = zip(*batches, strict=True)
    source = Source(tf.concat(images, 0), tf.concat(labels, 0))
    num_classes = builder.info.features["label"].num_classes
    wrong = tf.reduce_any((source.labels < 0) | (source.labels >= num_classes))
    if wrong:
        raise prepared.damaged(path, f"labels outside of [0, {num_classes})")
    return source


def _decode_batch(
    examples: dict[str, tf.Tensor],
) -> tuple[tf.Tensor, tf.Tensor]:
    """Decodes a batch of PNG or JPEG images of 32 x 32 pixels."""

    def decode(encoded: tf.Tensor) -> tf.Tensor:
        image = tf.io.decode_image(encoded, 3, expand_animations=False)
        return tf.ensure_shape(image, [32, 32, 3])

    images = tf.map_fn(decode, examples["image"], fn_output_signature=tf.uint8)
    return images, tf.cast(examples["label"], tf.int64)
