"""A folder that TensorFlow Datasets has prepared, and what is wrong with it."""

import os
import re
from typing import TYPE_CHECKING
from typing import Any

import tensorflow as tf

from tf_elastic import extras
from tf_elastic.data.errors import DamagedDataError

if TYPE_CHECKING:
    import tensorflow_datasets as tfds

_INFO = "dataset_info.json"
_LFS_POINTER = b"version https://git-lfs.github.com/"
# What TensorFlow puts around the reason of an error.
_NOISE = re.compile(
    r"\{\{.*?\}\}\s*|\s*\[Op:.*|Error in user-defined function .*? Iterator::"
    r'\S+: |Failed to construct dataset .*?"\{.*?\}": ',
    re.DOTALL,
)
_COUNT = re.compile(
    r"expected to contain (\d+) elements but contained (.+) elements"
)


def builder(name: str, data_dir: str | None) -> "tfds.core.DatasetBuilder":
    """The TensorFlow Datasets builder of a data set.

    Raises:
        ImportError: `tensorflow_datasets` is not installed, or not whole.
        DamagedDataError: what says how the data set is stored is damaged.
    """
    tfds = _package(name)
    try:
        return tfds.builder(name, data_dir=data_dir)
    except Exception as error:  # It reads the file, and raises anything.
        version = tfds.builder_cls(name).VERSION
        root = data_dir or os.environ.get(
            "TFDS_DATA_DIR", "~/tensorflow_datasets"
        )
        path = os.path.join(os.path.expanduser(root), name, str(version), _INFO)
        if not tf.io.gfile.exists(path):
            raise
        raise damaged(path, _what_is_wrong(path) or error) from error


def builder_of_folder(path: str) -> "tfds.core.DatasetBuilder":
    """The builder of a folder that holds one version of a data set.

    Raises:
        ImportError: as of `builder`.
        DamagedDataError: likewise.
    """
    tfds = _package(os.path.basename(os.path.dirname(path)))
    try:
        return tfds.builder_from_directory(path)
    except Exception as error:  # It reads files, and raises anything.
        info = os.path.join(path, _INFO)
        raise damaged(info, _what_is_wrong(info) or error) from error


def _package(name: str) -> Any:
    """TensorFlow Datasets, which a data set needs."""
    extras.require(
        "tensorflow_datasets",
        f"The data set {name!r}",
        'or use load("digits"), which comes with the package',
    )
    # Here, because it is slow to import and not always needed.
    import tensorflow_datasets as tfds

    if not hasattr(tfds, "builder"):
        # It keeps to itself what its own imports have raised.
        raise ImportError(
            f"The data set {name!r} is read by `tensorflow_datasets`. "
            "Received: one that could not import its own parts. If its log "
            "tells of versions of Protobuf, as with TensorFlow before 2.20: "
            "pip install 'tensorflow-metadata<1.18'."
        )
    return tfds


def files(builder: "tfds.core.DatasetBuilder", split: str) -> list[str]:
    """The files of a split, one after the other.

    Args:
        builder: what `builder` returned.
        split: its name.

    Returns:
        The files, which are there and hold something.

    Raises:
        FileNotFoundError: nothing is prepared.
        DamagedDataError: a file is not what it should be.
    """
    folder = os.fspath(builder.data_path)
    info = os.path.join(folder, _INFO)
    if not builder.is_prepared():
        if tf.io.gfile.isdir(folder):
            raise damaged(info, _what_is_wrong(info) or "no data set")
        root = os.path.dirname(os.path.dirname(folder))
        raise FileNotFoundError(
            f"The data set {builder.name!r} must be prepared in `data_dir`. "
            f"Received: data_dir={root!r}, in which {folder!r} is not "
            "there. Pass the folder that holds the prepared folder "
            f"{builder.name!r} as `data_dir`, or pass `download=True` to "
            "download and prepare it there."
        )
    splits = builder.info.splits
    if split not in splits or not splits[split].num_examples:
        raise damaged(info, f"no images in the split {split!r}")
    found = [os.fspath(path) for path in splits[split].filepaths]
    for path in found:
        wrong = _what_is_wrong(path)
        if wrong:
            raise damaged(path, wrong)
    return found


def damaged(path: str, received: str | Exception) -> DamagedDataError:
    """The error about a file of a prepared data set.

    Args:
        path: the file.
        received: what is there instead, or what reading it has led to.

    Returns:
        The error, to be raised.
    """
    if isinstance(received, Exception):
        received = _told(received)
    return DamagedDataError(
        f"{path!r} must be whole, as TensorFlow Datasets has prepared it. "
        f"Received: {received}. Copy it anew (where it is kept by Git LFS: "
        f"`git lfs pull`), or remove the folder {os.path.dirname(path)!r} and "
        "pass `download=True` to prepare it again."
    )


def _what_is_wrong(path: str) -> str | None:
    """What the first bytes of a file say; None if they may be right."""
    try:
        with tf.io.gfile.GFile(path, "rb") as file:
            first = file.read(len(_LFS_POINTER))
    except tf.errors.NotFoundError:
        return "no such file"
    except tf.errors.OpError as error:
        return _told(error)
    if not first:
        return "an empty file"
    if first == _LFS_POINTER:
        return "the pointer that Git LFS leaves in its place"
    return None


def _told(error: Exception) -> str:
    """The first line of an error, without what TensorFlow puts around it."""
    text = _NOISE.sub("", str(error)).strip()
    if count := _COUNT.search(text):
        return f"{count[2]} images, where {_INFO} tells of {count[1]}"
    lines = text.splitlines()
    return lines[0].rstrip(".") if lines else type(error).__name__
