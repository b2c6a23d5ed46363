"""Data sets whose files are missing, cut short or overwritten.

Each error names the file, what is wrong with it, and what to do.
"""

import json
import shutil
import struct
import sys
import types

import numpy as np
import pytest
import tensorflow as tf

import tf_elastic.data
from tf_elastic.data import sources
from tf_elastic.program import building
from tf_elastic.program import usage

TEST = "cifar10-test.tfrecord-00000-of-00001"
SECOND = "cifar10-train.tfrecord-00001-of-00002"
INFO = "dataset_info.json"
LENGTHS = {"train": [7, 5], "test": [4]}
POINTER = b"""\
version https://git-lfs.github.com/spec/v1
oid sha256:4d7a214614ab2935c943f9e0ff69d22eadbb8f32b1258daaa5e2ca24d17e2393
size 12345
"""


def example(number, label=None):
    """A record of a grey image whose brightness is its number."""
    image = tf.io.encode_png(tf.fill([32, 32, 3], tf.cast(number, tf.uint8)))
    values = {
        "id": tf.train.Feature(
            bytes_list=tf.train.BytesList(value=[str(number).encode()])
        ),
        "image": tf.train.Feature(
            bytes_list=tf.train.BytesList(value=[image.numpy()])
        ),
        "label": tf.train.Feature(
            int64_list=tf.train.Int64List(
                value=[number % 10 if label is None else label]
            )
        ),
    }
    features = tf.train.Features(feature=values)
    return tf.train.Example(features=features).SerializeToString()


def write_records(path, records):
    with tf.io.TFRecordWriter(str(path)) as writer:
        for record in records:
            writer.write(record)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A prepared CIFAR-10 of 12 images in two files, and 4 in another."""
    folder = tmp_path_factory.mktemp("data") / "cifar10" / "3.0.2"
    folder.mkdir(parents=True)
    number = 0
    for split, lengths in LENGTHS.items():
        for i, length in enumerate(lengths):
            name = f"cifar10-{split}.tfrecord-{i:05}-of-{len(lengths):05}"
            numbers = range(number, number + length)
            write_records(folder / name, map(example, numbers))
            number += length
    splits = [
        {
            "name": split,
            "filepathTemplate": "{DATASET}-{SPLIT}.{FILEFORMAT}-{SHARD_X_OF_Y}",
            "numBytes": "1",
            "shardLengths": [str(length) for length in lengths],
        }
        for split, lengths in LENGTHS.items()
    ]
    info = {
        "name": "cifar10",
        "version": "3.0.2",
        "fileFormat": "tfrecord",
        "splits": splits,
    }
    (folder / INFO).write_text(json.dumps(info))
    return folder


@pytest.fixture
def folder(whole, tmp_path):
    """A copy, to be damaged."""
    copy = tmp_path / "cifar10" / "3.0.2"
    shutil.copytree(whole, copy)
    yield copy
    sources._decode.cache_clear()


def load(folder, split):
    return tf_elastic.data.load(
        "cifar10", split, batch_size=2, seed=1, data_dir=folder.parents[1]
    )


def refused(folder, split):
    """What is said of a damaged data set."""
    with pytest.raises(tf_elastic.data.DamagedDataError) as error:
        load(folder, split)
    assert isinstance(error.value, ValueError)
    return str(error.value)


def test_a_whole_one_is_read_in_the_order_of_its_files(folder):
    _, labels = zip(*load(folder, "train_eval"), strict=True)
    assert np.concatenate(labels).tolist() == [i % 10 for i in range(12)]
    _, labels = zip(*load(folder, "test"), strict=True)
    assert np.concatenate(labels).tolist() == [2, 3, 4, 5]


def test_training_reads_no_file(folder):
    """Nothing that happens to the files later can stop it."""
    train, again = load(folder, "train"), load(folder, "train")
    for path in folder.iterdir():
        path.write_bytes(b"")
    for _ in range(2):
        for (x, y), (same_x, same_y) in zip(train, again, strict=True):
            np.testing.assert_array_equal(x, same_x)
            np.testing.assert_array_equal(y, same_y)


def cut(path):
    path.write_bytes(path.read_bytes()[:-10])


def cut_between_records(path):
    path.write_bytes(path.read_bytes()[: -size_of_last(path)])


def size_of_last(path):
    """How many bytes the last record of a file takes."""
    data, at = path.read_bytes(), 0
    while at < len(data):
        size = 16 + struct.unpack_from("<Q", data, at)[0]
        at += size
    return size


def overwrite(path):
    data = bytearray(path.read_bytes())
    data[100:110] = b"x" * 10
    path.write_bytes(data)


RECORDS = {
    "cut": (cut, "truncated record at"),
    "cut_between_records": (
        cut_between_records,
        f"only 3 images, where {INFO} tells of 4",
    ),
    "appended": (
        lambda path: path.write_bytes(path.read_bytes() * 2),
        f"at least 5 images, where {INFO} tells of 4",
    ),
    "overwritten": (overwrite, "corrupted record at "),
    "empty": (lambda path: path.write_bytes(b""), "an empty file"),
    "pointer": (
        lambda path: path.write_bytes(POINTER),
        "the pointer that Git LFS leaves in its place",
    ),
    "text": (
        lambda path: path.write_text("404: Not Found\n"),
        "corrupted record at 0",
    ),
    "missing": (lambda path: path.unlink(), "no such file"),
    "other_records": (
        lambda path: write_records(path, [b"abc"] * 4),
        "Could not parse example input, value: 'abc'",
    ),
    "other_features": (
        lambda path: write_records(path, [b""] * 4),
        "is required but could not be found",
    ),
    "labels": (
        lambda path: write_records(path, [example(1, 10)] * 4),
        "labels outside of [0, 10)",
    ),
}


@pytest.mark.parametrize("name", RECORDS)
def test_a_damaged_file_of_records(folder, name):
    damage, reason = RECORDS[name]
    damage(folder / TEST)
    text = refused(folder, "test")
    assert text.startswith(f"{str(folder / TEST)!r} must be whole")
    start = "Feature: " if name == "other_features" else reason
    assert f"Received: {start}" in text and reason in text
    assert "`git lfs pull`" in text
    assert f"remove the folder {str(folder)!r} and pass `download=Tr" in text
    assert "\n" not in text and "[[" not in text and "{{" not in text


def test_the_file_that_is_damaged_is_named(folder):
    """Of several; the other split can be read."""
    overwrite(folder / SECOND)
    assert refused(folder, "train").startswith(repr(str(folder / SECOND)))
    assert len(load(folder, "test")) == 2


def edit(change):
    def edited(path):
        info = json.loads(path.read_text())
        change(info)
        path.write_text(json.dumps(info))

    return edited


INFOS = {
    "missing": (lambda path: path.unlink(), "no such file"),
    "empty": (lambda path: path.write_bytes(b""), "an empty file"),
    "pointer": (
        lambda path: path.write_bytes(POINTER),
        "the pointer that Git LFS leaves in its place",
    ),
    "cut": (cut, "Failed to load JSON"),
    "no_text": (lambda path: path.write_bytes(b"\xff\xfe"), "UnicodeDecode"),
    "a_list": (lambda path: path.write_text("[]"), "The constructed Data"),
    "a_split_less": (
        edit(lambda info: info["splits"].pop()),
        "no images in the split 'test'",
    ),
    "no_lengths": (
        edit(lambda info: info["splits"][1].pop("shardLengths")),
        "no images in the split 'test'",
    ),
    "another_version": (
        edit(lambda info: info.update(version="9.9.9")),
        "The constructed Data",
    ),
}


@pytest.mark.parametrize("name", INFOS)
def test_a_damaged_description(folder, name):
    damage, reason = INFOS[name]
    damage(folder / INFO)
    text = refused(folder, "test")
    assert text.startswith(f"{str(folder / INFO)!r} must be whole")
    assert f"Received: {reason}" in text


def test_a_package_that_could_not_import_its_parts(folder, monkeypatch):
    """As TensorFlow Datasets is where versions of Protobuf do not fit."""
    empty = types.ModuleType("tensorflow_datasets")
    monkeypatch.setitem(sys.modules, "tensorflow_datasets", empty)
    with pytest.raises(ImportError, match="tensorflow-metadata<1.18"):
        load(folder, "test")


def test_a_folder_that_is_not_there(folder):
    shutil.rmtree(folder)
    with pytest.raises(FileNotFoundError, match="is not there"):
        load(folder, "test")


@pytest.mark.parametrize("damage", [cut, overwrite, lambda p: p.write_text("")])
def test_digits_that_are_damaged(tmp_path, monkeypatch, damage):
    own = sources.importlib.resources.files("tf_elastic.data") / "digits.npz"
    path = tmp_path / "digits.npz"
    path.write_bytes(own.read_bytes())
    damage(path)
    resources = types.SimpleNamespace(files=lambda package: tmp_path)
    monkeypatch.setattr(
        sources, "importlib", types.SimpleNamespace(resources=resources)
    )
    with pytest.raises(tf_elastic.data.DamagedDataError) as error:
        sources.read_digits.__wrapped__("train")
    assert str(error.value).startswith(f"{str(path)!r} must be as it comes")
    assert "Install tf_elastic again." in str(error.value)


def test_the_program_tells_it(folder):
    """Without a traceback, whatever reads the data."""
    overwrite(folder / TEST)
    settings = {
        "dataset": "cifar10",
        "variant": None,
        "stored_size": None,
        "data_dir": str(folder.parents[1]),
        "download": False,
        "workers": 1,
        "batch_size": 2,
        "seed": 1,
        "strategy": "elastic_mirrored",
        "steps_per_epoch": 1,
    }
    with pytest.raises(usage.UsageError, match=TEST) as error:
        building.load_data(settings, 0, None)
    assert "--download" in str(error.value)
