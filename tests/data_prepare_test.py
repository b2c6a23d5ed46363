"""`python -m tf_elastic.data.prepare`: whole, resumable, and read by `load`."""

import json
import os

import numpy as np
import pytest
import tensorflow as tf

import tf_elastic.data
from tests import imagenet_support as support
from tf_elastic.data import decoding
from tf_elastic.data import encoded_images
from tf_elastic.data import prepare

NAME = "imagenet2012_256"


@pytest.fixture(autouse=True)
def nothing_damaged():
    encoded_images.forget_damaged_images()
    yield
    encoded_images.forget_damaged_images()


def images(numbers):
    return [
        support.example(support.saved(support.picture(n, 300 + n, 400)), n)
        for n in numbers
    ]


@pytest.fixture
def data_dir(tmp_path):
    train = [images(range(3)), [support.example(b"no image", 9), *images([3])]]
    support.make(tmp_path, {"train": train, "validation": [images([7, 8])]})
    return tmp_path


def load(data_dir, split):
    return tf_elastic.data.load(
        "imagenet2012",
        split,
        batch_size=2,
        seed=0,
        data_dir=data_dir,
        stored_size=256,
    )


def run(data_dir, *arguments):
    return prepare.main(["imagenet2012", f"--data_dir={data_dir}", *arguments])


def test_what_is_stored_is_read(data_dir, tmp_path, capsys):
    out = tmp_path / "out"
    assert run(data_dir, f"--out={out}") == 0
    assert "1 images were left out" in capsys.readouterr().out
    folder = out / NAME / support.VERSION
    for record in tf.data.TFRecordDataset(
        sorted(map(str, folder.glob("*tfrecord*")))
    ):
        found = encoded_images.parse(record.numpy(), 1000)
        shape = tf.image.extract_jpeg_shape(found.image).numpy()
        assert shape.min() == 3 and sorted(shape)[1] == 256
        assert found.name == f"n{found.label:04}.JPEG"
    labels = [y.numpy().tolist() for _, y in load(out, "train_eval")]
    assert labels == [[0, 1], [2, 3]]
    ((pixels, labels),) = load(out, "test")
    assert labels.numpy().tolist() == [7, 8]
    np.testing.assert_allclose(255 * pixels[:, 9, 9, 0], [35, 40], atol=3)
    assert len(list(load(out, "train"))) == 2
    # TensorFlow Datasets reads it like any other.
    import tensorflow_datasets as tfds

    examples = tfds.load(NAME, split="validation", data_dir=str(out))
    assert [int(e["label"]) for e in examples] == [7, 8]


def test_it_goes_on_where_it_was(data_dir, monkeypatch):
    real, seen = decoding.shrink, []

    def shrink(encoded, size, quality):
        seen.append(1)
        if len(seen) > 3:
            raise KeyboardInterrupt
        return real(encoded, size, quality)

    monkeypatch.setattr(decoding, "shrink", shrink)
    with pytest.raises(KeyboardInterrupt):
        run(data_dir)
    folder = data_dir / NAME / support.VERSION
    first = folder / f"{NAME}-train.tfrecord-00000-of-00002"
    assert [path for path in folder.glob("*tfrecord*")] == [first]
    with pytest.raises(FileNotFoundError, match="prepared to its end"):
        load(data_dir, "train")
    before = first.read_bytes(), os.stat(first).st_mtime_ns

    monkeypatch.setattr(decoding, "shrink", real)
    assert run(data_dir) == 0
    assert (first.read_bytes(), os.stat(first).st_mtime_ns) == before
    labels = [y.numpy().tolist() for _, y in load(data_dir, "train_eval")]
    assert labels == [[0, 1], [2, 3]]
    assert not list(folder.glob(".partial*"))
    info = json.loads((folder / "dataset_info.json").read_text())
    lengths = {s["name"]: s["shardLengths"] for s in info["splits"]}
    assert lengths == {"train": ["3", "1"], "validation": ["2"]}


def test_other_settings_and_a_second_process_are_refused(data_dir, capsys):
    assert run(data_dir) == 0
    assert run(data_dir, "--quality=50") == 2
    assert "was begun with" in capsys.readouterr().err
    with prepare._alone(str(data_dir / NAME / support.VERSION)):
        assert run(data_dir) == 2
    assert "Another process" in capsys.readouterr().err


@pytest.mark.parametrize("argument", ["--size=0", "--quality=101"])
def test_numbers_out_of_range(data_dir, argument, capsys):
    assert run(data_dir, argument) == 2
    name, value = argument[2:].split("=")
    assert f"{name}={value}" in capsys.readouterr().err


def test_what_is_not_there(tmp_path, capsys):
    assert run(tmp_path) == 2
    assert "must be prepared in `data_dir`" in capsys.readouterr().err
