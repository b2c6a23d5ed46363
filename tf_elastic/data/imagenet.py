"""ImageNet: where it is prepared, its variants and its splits."""

import functools
import os
from collections.abc import Callable
from typing import TYPE_CHECKING
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from tf_elastic.data import decoding
from tf_elastic.data import encoded_images
from tf_elastic.data import prepared
from tf_elastic.data import records
from tf_elastic.data import windows

if TYPE_CHECKING:
    import tensorflow_datasets as tfds

NAME = "imagenet2012"
# "training loss is measured on a subset of the training data of size 50,000"
_TRAIN_EVAL = 50_000
_DEFAULT_DIR = "~/tensorflow_datasets"
_INFO = "dataset_info.json"


class ImageVariant(NamedTuple):
    """How an encoded image becomes a network's input.

    The two functions decode one image, (encoded image, code) -> float32
    [size, size, 3], in [0, 1].
    """

    size: int
    train: Callable[[tf.Tensor, tf.Tensor], tf.Tensor]
    evaluate: Callable[[tf.Tensor, tf.Tensor], tf.Tensor]


def _variant(size: int, train: windows.MakeWindow) -> ImageVariant:
    center = functools.partial(windows.center_crop, size=size)
    return ImageVariant(
        size,
        *(
            functools.partial(
                decoding.decode_window, make_window=make_window, size=size
            )
            for make_window in (train, center)
        ),
    )


_CROP, _RESIZED = 221, 224
VARIANTS = {
    "crop": _variant(_CROP, functools.partial(windows.random_crop, size=_CROP)),
    "random_resized": _variant(_RESIZED, windows.random_resized),
}
"""The default first."""


def stored_name(shortest: int) -> str:
    """What the data set is called whose images are stored smaller."""
    return f"{NAME}_{shortest}"


def root(data_dir: str | os.PathLike[str] | None) -> str:
    """The folder of prepared data sets; None is TensorFlow Datasets' own."""
    if data_dir is None:
        data_dir = os.environ.get("TFDS_DATA_DIR", _DEFAULT_DIR)
    return os.path.expanduser(os.fspath(data_dir))


def builder(
    data_dir: str | os.PathLike[str] | None,
) -> "tfds.core.DatasetBuilder":
    """TensorFlow Datasets' builder of the originals."""
    folder = None if data_dir is None else os.fspath(data_dir)
    return prepared.builder(NAME, folder)


def read(
    split: str,
    data_dir: str | os.PathLike[str] | None,
    *,
    download: bool = False,
    stored_size: int | None = None,
    consecutive: bool = True,
) -> encoded_images.EncodedImages:
    """Finds a split, and checks that its files are whole; reads no image.

    Args:
        split: "train", "test" (TensorFlow Datasets' "validation") or
            "train_eval", 50 000 images spread evenly over "train".
        data_dir: Folder that holds the folder of the data set; None is
            TensorFlow Datasets' own.
        download: Whether to prepare it from `manual_dir` if it is not there.
        stored_size: The shortest side of the images as they are stored; None
            for the originals.
        consecutive: Whether chunks will be read.

    Raises:
        ImportError: If `tensorflow_datasets` is not installed.
        FileNotFoundError: If it is not prepared.
        DamagedDataError: If files are cut short or overwritten.
    """
    if stored_size is None:
        found = builder(data_dir)
        if download and not found.is_prepared():
            found.download_and_prepare()
    else:
        found = _stored(stored_size, root(data_dir))
    part = "validation" if split == "test" else "train"
    stored = _records(found, part, consecutive)
    indices = None
    if split == "train_eval" and len(stored) > _TRAIN_EVAL:
        indices = np.arange(_TRAIN_EVAL) * len(stored) // _TRAIN_EVAL
    classes = found.info.features["label"].num_classes
    return encoded_images.EncodedImages(stored, classes, indices)


def _stored(shortest: int, folder: str) -> "tfds.core.DatasetBuilder":
    """The images that `tf_elastic.data.prepare` has stored."""
    own = os.path.join(folder, stored_name(shortest))
    command = (
        f"python -m tf_elastic.data.prepare {NAME} --size={shortest} "
        f"--data_dir={folder}"
    )
    versions = sorted(os.listdir(own)) if os.path.isdir(own) else []
    if not versions:
        raise FileNotFoundError(
            f"{own!r} must hold ImageNet with a shortest side of {shortest} "
            f"pixels. Received: stored_size={shortest}, for which it is not "
            f"there. Make it: `{command}`, or leave `stored_size` out."
        )
    path = os.path.join(own, versions[-1])
    if not os.path.exists(os.path.join(path, _INFO)):
        raise FileNotFoundError(
            f"{path!r} must be prepared to its end. Received: a folder "
            f"without {_INFO}, as it is where that was interrupted. Go on "
            f"with it: `{command}`."
        )
    return prepared.builder_of_folder(path)


def _records(
    builder: "tfds.core.DatasetBuilder", split: str, consecutive: bool
) -> records.Records:
    """The records of a split, all of which are there."""
    files = prepared.files(builder, split)
    info = builder.info.splits[split]
    if builder.info.file_format.value != "tfrecord":
        raise ValueError(
            f"{NAME} must be prepared as TFRecord files. Received: "
            f"{builder.info.file_format.value!r} in {builder.data_path}. "
            "Prepare it with TensorFlow Datasets' default format."
        )
    lengths = info.shard_lengths
    size = info.num_bytes + info.num_examples * records.FRAME_BYTES
    if sum(map(os.path.getsize, files)) != size:  # Then it takes longer.
        for path, length in zip(files, lengths, strict=True):
            ends = records.offsets(path)
            if len(ends) - 1 != length or ends[-1] != os.path.getsize(path):
                raise prepared.damaged(
                    path,
                    f"{len(ends) - 1} whole images, where {_INFO} tells of "
                    f"{length}",
                )
    return records.Records(files, lengths, consecutive=consecutive)
