"""Stores ImageNet once with smaller images.

    python -m tf_elastic.data.prepare imagenet2012 --size=256 --data_dir=DIR

makes the folder `imagenet2012_256` in `--out` (default: `--data_dir`), as
TensorFlow Datasets has it, of the folder `imagenet2012` in `--data_dir`: each
image a JPEG with a shortest side of 256 pixels, in files of the same numbers
and order. `load("imagenet2012", stored_size=256)` reads it.

If it is interrupted the same command goes on: a file is there whole or not at
all, and dataset_info.json, without which nothing is read, comes last. Images
that cannot be decoded are left out, and told.
"""

import argparse
import concurrent.futures
import contextlib
import json
import os
import shutil
import sys
from collections.abc import Iterator
from collections.abc import Sequence
from typing import TYPE_CHECKING
from typing import Any

from tf_elastic import files
from tf_elastic.data import records
from tf_elastic.data.errors import DamagedDataError

if TYPE_CHECKING:
    import tensorflow_datasets as tfds

    from tf_elastic.data.encoded_images import EncodedImages

_INFO = "dataset_info.json"
_SETTINGS = "prepare.json"
_SPLITS = ("train", "validation")
# Images that are read, made smaller and written together.
_TOGETHER = 64


class PrepareError(ValueError):
    """Nothing can be prepared; the message says what to do."""


def prepare(
    name: str,
    *,
    size: int = 256,
    quality: int = 90,
    data_dir: str | os.PathLike[str] | None = None,
    out: str | os.PathLike[str] | None = None,
    verbose: bool = True,
) -> str:
    """Stores a prepared data set once more, with smaller images.

    Args:
        name: "imagenet2012".
        size: the shortest side to be, in pixels, >= 1. Smaller images are
            made larger: they all are as `load` needs them.
        quality: of the JPEGs, 1 to 100. The thesis' 36 GB are about those of
            the default, 90.
        data_dir: the folder that holds the folder `name`; None is TensorFlow
            Datasets' own.
        out: where to store it; None is `data_dir`.
        verbose: whether to show a bar.

    Returns:
        The folder, `out`/`name`_`size`/version.

    Raises:
        PrepareError: an argument is wrong, another process is at it, or the
            folder was begun with other settings.
        FileNotFoundError: `name` is not prepared in `data_dir`.
        DamagedDataError: its files are cut short or overwritten.
    """
    from tf_elastic.data import imagenet

    if name != imagenet.NAME:
        raise PrepareError(
            f"Only {imagenet.NAME!r} can be prepared. Received: {name!r}."
        )
    if size < 1 or not 1 <= quality <= 100:
        raise PrepareError(
            "The size must be at least 1, the quality from 1 to 100. Received: "
            f"size={size}, quality={quality}. The defaults are 256 and 90."
        )
    splits = {}
    for split in _SPLITS:
        part = "train" if split == "train" else "test"
        splits[split] = imagenet.read(part, data_dir)
    source = imagenet.builder(data_dir)
    folder = os.path.join(
        imagenet.root(data_dir if out is None else out),
        imagenet.stored_name(size),
        str(source.version),
    )
    os.makedirs(folder, exist_ok=True)
    with _alone(folder):
        _check_settings(folder, {"size": size, "quality": quality})
        if not os.path.exists(os.path.join(folder, _INFO)):
            _store(source, splits, folder, size, quality, verbose)
    return folder


@contextlib.contextmanager
def _alone(folder: str) -> Iterator[None]:
    """Inside, no other process prepares the same folder."""
    import fcntl

    with open(os.path.join(folder, ".lock"), "w", encoding="utf-8") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise PrepareError(
                f"Another process is preparing {folder!r}. Wait for it."
            ) from error
        yield


def _check_settings(folder: str, settings: dict[str, int]) -> None:
    """Refuses to go on with what was begun with other settings."""
    path = os.path.join(folder, _SETTINGS)
    if os.path.exists(path):
        with open(path, encoding="utf-8") as file:
            begun = json.load(file)
        if begun != settings:
            raise PrepareError(
                f"{folder!r} was begun with {begun}. Received: {settings}. "
                "Give the same, or remove the folder."
            )
    else:
        files.write_text(path, json.dumps(settings))


def _store(
    source: "tfds.core.DatasetBuilder",
    splits: "dict[str, EncodedImages]",
    folder: str,
    size: int,
    quality: int,
    verbose: bool,
) -> None:
    """Writes what is not there yet, and dataset_info.json at the end."""
    import keras

    name = os.path.basename(os.path.dirname(folder))
    total = sum(len(images) for images in splits.values())
    bar = keras.utils.Progbar(total, unit_name="image", verbose=int(verbose))
    done, told = 0, []
    for split, images in splits.items():
        lengths = source.info.splits[split].shard_lengths
        first, written, num_bytes = 0, [], 0
        for shard, length in enumerate(lengths):
            path = os.path.join(
                folder,
                f"{name}-{split}.tfrecord-{shard:05}-of-{len(lengths):05}",
            )
            if not os.path.exists(path):
                for count in _write(
                    images, range(first, first + length), path, size, quality
                ):
                    bar.update(done + count)
            first, done = first + length, done + length
            bar.update(done)
            ends = records.offsets(path)
            written.append(len(ends) - 1)
            num_bytes += int(ends[-1]) - written[-1] * records.FRAME_BYTES
        told.append(
            {
                "name": split,
                "filepathTemplate": (
                    "{DATASET}-{SPLIT}.{FILEFORMAT}-{SHARD_X_OF_Y}"
                ),
                "numBytes": str(num_bytes),
                "shardLengths": [str(count) for count in written],
            }
        )
    _describe(source, folder, name, size, told)


def _write(
    images: "EncodedImages",
    numbers: range,
    path: str,
    size: int,
    quality: int,
) -> Iterator[int]:
    """Writes one file; tells after some images how many are done."""
    import tensorflow as tf

    from tf_elastic.data import decoding

    def smaller(number: int) -> bytes | None:
        found = images.read(number)
        if found is None:
            return None
        try:
            with tf.device("CPU:0"):
                encoded = decoding.shrink(
                    tf.constant(found.image), size, quality
                )
        except tf.errors.OpError as error:
            images.leave_out(number, found.name, error)
            return None
        return _example(encoded.numpy(), found.label, found.name)

    with files.whole(path) as partial:
        with (
            tf.io.TFRecordWriter(partial) as writer,
            concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool,
        ):
            for start in range(0, len(numbers), _TOGETHER):
                part = numbers[start : start + _TOGETHER]
                for record in pool.map(smaller, part):
                    if record is not None:
                        writer.write(record)
                yield start + len(part)


def _example(image: bytes, label: int, name: str) -> bytes:
    """A record as TensorFlow Datasets writes it."""
    import tensorflow as tf

    def of_bytes(value: bytes) -> Any:
        return tf.train.Feature(bytes_list=tf.train.BytesList(value=[value]))

    features = {
        "image": of_bytes(image),
        "file_name": of_bytes(name.encode()),
        "label": tf.train.Feature(int64_list=tf.train.Int64List(value=[label])),
    }
    example = tf.train.Example(features=tf.train.Features(feature=features))
    return bytes(example.SerializeToString())


def _describe(
    source: "tfds.core.DatasetBuilder",
    folder: str,
    name: str,
    size: int,
    splits: list[dict[str, Any]],
) -> None:
    """Writes what says how the data set is stored; after all else."""
    before = os.fspath(source.data_path)
    for path in os.listdir(before):
        if path == "features.json" or path.endswith(".labels.txt"):
            shutil.copyfile(
                os.path.join(before, path), os.path.join(folder, path)
            )
    info = {
        "name": name,
        "version": str(source.version),
        "description": f"ImageNet, the shortest side of {size} pixels.",
        "citation": source.info.citation,
        "fileFormat": "tfrecord",
        "moduleName": "tf_elastic.data.prepare",
        "splits": splits,
        "supervisedKeys": {
            "tuple": {
                "items": [{"featureKey": "image"}, {"featureKey": "label"}]
            }
        },
    }
    files.write_text(os.path.join(folder, _INFO), json.dumps(info, indent=2))


def main(argv: Sequence[str] | None = None) -> int:
    """Is the program; returns its exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m tf_elastic.data.prepare",
        description="Stores ImageNet once with smaller images.",
    )
    parser.add_argument("name", choices=["imagenet2012"])
    parser.add_argument("--size", type=int, default=256, help="shortest side")
    parser.add_argument("--quality", type=int, default=90, help="of the JPEGs")
    parser.add_argument("--data_dir", help="folder that holds imagenet2012")
    parser.add_argument("--out", help="where to store it, if not there")
    args = parser.parse_args(argv)
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    from tf_elastic.data import encoded_images

    try:
        folder = prepare(
            args.name,
            size=args.size,
            quality=args.quality,
            data_dir=args.data_dir,
            out=args.out,
        )
    except (PrepareError, DamagedDataError, OSError, ImportError) as error:
        sys.stderr.write(f"{error}\n")
        return 2
    left_out = len(encoded_images.damaged_images())
    sys.stdout.write(
        f"{folder} is whole, {left_out} images were left out.\n"
        f'load("imagenet2012", stored_size={args.size}, ...) reads it.\n'
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
