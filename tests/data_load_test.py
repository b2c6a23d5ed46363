"""`load` as a user meets it: digits everywhere, CIFAR-10 where it is there."""

import os
import pathlib
import sys

import numpy as np
import pytest
import tensorflow as tf

import tf_elastic.data
from tf_elastic.data import sources

ROOT = pathlib.Path(__file__).parents[1]
DATA_DIR = pathlib.Path(
    os.environ.get("TF_ELASTIC_DATA_DIR", ROOT.parent / "shared" / "data")
)
needs_cifar = pytest.mark.skipif(
    not (DATA_DIR / "cifar10").is_dir(),
    reason=f"no prepared CIFAR-10 in {DATA_DIR}: set TF_ELASTIC_DATA_DIR to "
    "the folder that holds 'cifar10/'",
)


def digits(split="train", **kwargs):
    kwargs = {"batch_size": 16, "num_workers": 2, "seed": 0, **kwargs}
    return tf_elastic.data.load("digits", split, **kwargs)


def cifar(split="train", **kwargs):
    kwargs = {"batch_size": 32, "num_workers": 2, "seed": 0, **kwargs}
    return tf_elastic.data.load("cifar10", split, data_dir=DATA_DIR, **kwargs)


def arrays(dataset):
    images, labels = zip(*dataset.as_numpy_iterator(), strict=True)
    return np.concatenate(images), np.concatenate(labels)


def test_split_forms():
    both = digits(None)
    assert list(both) == ["train", "test"]
    several = digits(["test", "train", "train_eval"])
    assert [len(dataset) for dataset in several] == [23, 44, 90]
    for dataset in (*both.values(), *several, digits("test")):
        images, labels = dataset.element_spec
        assert images.dtype == tf.float32 and labels.dtype == tf.int64
        assert images.shape[1:] == (8, 8, 1) and labels.shape.rank == 1


def test_training_batches_are_global_and_static():
    images, labels = digits().element_spec
    assert images.shape == (32, 8, 8, 1) and labels.shape == (32,)


@pytest.mark.parametrize(
    ("kwargs", "expected"),
    [
        ({}, 44),
        ({"num_workers": 1}, 89),
        ({"steps_per_epoch": 5}, 5),
        ({"num_workers": 200}, 1),
    ],
)
def test_cardinality_is_what_is_yielded(kwargs, expected):
    dataset = digits(**kwargs)
    assert int(dataset.cardinality()) == len(dataset) == expected
    assert len(list(dataset)) == expected
    assert len(list(dataset)) == expected


def test_digits_are_shipped_whole():
    train, test = (sources.read_digits(part) for part in ("train", "test"))
    assert train.images.shape == (1437, 8, 8, 1)
    assert test.images.shape == (360, 8, 8, 1)
    assert train.images.dtype == tf.uint8
    assert int(tf.reduce_max(train.images)) == 16
    total = np.bincount(train.labels) + np.bincount(test.labels)
    assert total.tolist() == [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]
    assert set(np.bincount(test.labels)) <= {35, 36, 37}
    assert (ROOT / "tf_elastic/data/digits_LICENSE.txt").is_file()


def test_evaluation_is_in_order_and_whole():
    for split in ("test", "train_eval"):
        images, labels = arrays(digits(split))
        source = sources.read_digits(split.removesuffix("_eval"))
        np.testing.assert_array_equal(labels, source.labels)
        np.testing.assert_array_equal(images * 16, source.images)


def test_epochs_continue_the_stream():
    dataset, whole = digits(), digits(steps_per_epoch=88)
    images, labels = (
        np.concatenate(pair)
        for pair in zip(arrays(dataset), arrays(dataset), strict=True)
    )
    expected_images, expected_labels = arrays(whole)
    np.testing.assert_array_equal(images, expected_images)
    np.testing.assert_array_equal(labels, expected_labels)


def test_two_epochs_differ():
    dataset = digits()
    assert (arrays(dataset)[0] != arrays(dataset)[0]).any()


def test_an_epoch_left_half_way_does_not_shift_the_next():
    left, read = digits(), digits()
    next(iter(left))
    arrays(read)
    np.testing.assert_array_equal(arrays(left)[0], arrays(read)[0])


def test_no_seed_means_fresh_entropy():
    a, b = (arrays(digits(seed=None, steps_per_epoch=2))[0] for _ in "ab")
    assert (a != b).any()


@pytest.mark.parametrize("sampling", ["loaders", "uniform"])
@pytest.mark.parametrize("steps", [1, 44, 61])
def test_resumes_where_it_was(sampling, steps):
    kwargs = {"sampling": sampling}
    images, labels = arrays(digits(steps_per_epoch=70, **kwargs))
    resumed = digits(skip_steps=steps, steps_per_epoch=9, **kwargs)
    resumed_images, resumed_labels = arrays(resumed)
    part = slice(32 * steps, 32 * (steps + 9))
    np.testing.assert_array_equal(resumed_images, images[part])
    np.testing.assert_array_equal(resumed_labels, labels[part])


def test_in_turn_a_batch_is_one_workers():
    together = digits(num_workers=4, steps_per_epoch=3)
    in_turn = digits(num_workers=4, steps_per_epoch=12, in_turn=True)
    assert in_turn.element_spec[0].shape == (16, 8, 8, 1)
    assert len(in_turn) == 12 and len(digits(in_turn=True)) == 1437 // 16
    images, labels = arrays(together)
    turn_images, turn_labels = arrays(in_turn)
    np.testing.assert_array_equal(turn_images, images)
    np.testing.assert_array_equal(turn_labels, labels)


def test_labels_go_with_their_images():
    images, labels = arrays(digits(steps_per_epoch=3))
    source = sources.read_digits("train")
    known = {
        image.tobytes(): label
        for image, label in zip(
            source.images.numpy(), source.labels.numpy(), strict=True
        )
    }
    found = [known[(i * 16).astype(np.uint8).tobytes()] for i in images]
    np.testing.assert_array_equal(found, labels)


def test_batch_size_may_be_all_the_data():
    _, labels = arrays(digits(batch_size=1437, num_workers=1))
    assert labels.size == 1437


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        (
            {"batch_size": 0},
            r"`batch_size` must be >= 1. Received: batch_size=0",
        ),
        (
            {"batch_size": 1438},
            r"not exceed .* 1437. Received: batch_size=1438",
        ),
        ({"num_workers": 0}, r"Received: num_workers=0"),
        ({"num_loaders": 0}, r"Received: num_loaders=0"),
        ({"chunk_size": -1}, r"Received: chunk_size=-1"),
        ({"steps_per_epoch": 0}, r"Received: steps_per_epoch=0"),
        ({"skip_steps": -1}, r"Received: skip_steps=-1"),
        ({"skip_steps": 3, "seed": None}, r"needs a `seed`.*skip_steps=3"),
        ({"seed": -1}, r"`seed` must be >= 0. Received: seed=-1"),
        ({"split": "valid"}, r"'train', 'test'.*Received: split='valid'"),
        ({"split": ["test", 3]}, r"Received: split=3"),
        ({"variant": "crop"}, r"must be one of 'plain'.*variant='crop'"),
        (
            {"sampling": "all"},
            r"'parts', 'uniform'. Received: sampling='all'",
        ),
    ],
)
def test_errors_name_the_argument_and_its_value(kwargs, message):
    with pytest.raises(ValueError, match=message):
        digits(**kwargs)


@pytest.mark.parametrize("value", [1.5, True, "8"])
def test_numbers_must_be_whole(value):
    with pytest.raises(TypeError, match="`batch_size` must be an integer"):
        digits(batch_size=value)


def test_unknown_name():
    with pytest.raises(ValueError, match="'cifar10', .*Received: name='mnist'"):
        tf_elastic.data.load("mnist")


@pytest.mark.parametrize("name", ["cifar10", "cifar100"])
def test_missing_data_set_says_where_it_looked(name, tmp_path):
    with pytest.raises(FileNotFoundError) as caught:
        tf_elastic.data.load(name, data_dir=tmp_path / "none")
    message = str(caught.value)
    assert str(tmp_path / "none" / name) in message
    assert "download=True" in message and "data_dir" in message
    assert not (tmp_path / "none").exists()


def test_download_prepares_in_data_dir(monkeypatch, tmp_path):
    """With `download=True` TensorFlow Datasets is asked, before reading."""
    import tensorflow_datasets as tfds

    asked = []

    def download_and_prepare(builder):
        asked.append(str(builder.data_path))
        raise OSError("no network")

    monkeypatch.setattr(
        tfds.core.DatasetBuilder, "download_and_prepare", download_and_prepare
    )
    with pytest.raises(OSError, match="no network"):
        tf_elastic.data.load(
            "cifar10", "test", data_dir=tmp_path, download=True
        )
    assert len(asked) == 1 and asked[0].startswith(str(tmp_path / "cifar10"))


def test_missing_package_says_what_to_install(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "tensorflow_datasets", None)
    with pytest.raises(ImportError, match=r"'tf_elastic\[datasets\]'"):
        tf_elastic.data.load("cifar10", data_dir=tmp_path)


def test_mirrored_replicas_get_their_workers_slice():
    strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
    distributed = strategy.experimental_distribute_dataset(digits())
    steps = 0
    for (images, _), (whole, _) in zip(distributed, digits(), strict=True):
        parts = strategy.experimental_local_results(images)
        np.testing.assert_array_equal(parts[0], whole[:16])
        np.testing.assert_array_equal(parts[1], whole[16:])
        steps += 1
    assert steps == 44
    tested = strategy.experimental_distribute_dataset(digits("test"))
    assert 360 == sum(
        len(part)
        for images, _ in tested
        for part in strategy.experimental_local_results(images)
    )


@needs_cifar
def test_cifar_crops_are_crops_of_their_images():
    images, labels = arrays(cifar(steps_per_epoch=2))
    assert images.shape == (128, 28, 28, 3) and images.max() <= 1
    source = sources.read_cifar("cifar10", "train", DATA_DIR, False)
    pixels, truth = source.images.numpy(), source.labels.numpy()
    # Every crop holds the middle of its image, which tells which one it is.
    middles = {pixels[i, 14:18, 14:18].tobytes(): i for i in range(len(pixels))}
    places = [(top, left) for top in range(5) for left in range(5)]
    found = set()
    for image, label in zip(images, labels, strict=True):
        stored = np.round(image * 255).astype(np.uint8)
        matches = []
        for mirrored, view in enumerate((stored, stored[:, ::-1])):
            for top, left in places:
                middle = view[14 - top : 18 - top, 14 - left : 18 - left]
                index = middles.get(middle.tobytes())
                if index is None or truth[index] != label:
                    continue
                crop = pixels[index, top : top + 28, left : left + 28]
                if (crop == view).all():
                    matches.append((mirrored, top, left))
        assert matches
        found.add(matches[0])
    assert len(found) > 35  # Of the 50 there are, drawn 128 times.


@needs_cifar
def test_cifar_evaluation_is_the_center():
    for split in ("test", "train_eval"):
        dataset = cifar(split, batch_size=600)
        images, labels = next(iter(dataset))
        source = sources.read_cifar(
            "cifar10", split.removesuffix("_eval"), DATA_DIR, False
        )
        expected = source.images[:600, 2:30, 2:30].numpy() / 255
        np.testing.assert_allclose(images, expected, atol=1e-7)
        np.testing.assert_array_equal(labels, source.labels[:600])
        assert len(dataset) == -(-len(source.labels) // 600)


@needs_cifar
def test_cifar_lowrank_is_standardised_by_the_training_images():
    train = sources.read_cifar("cifar10", "train", DATA_DIR, False)
    pixels = train.images.numpy()
    channels = [pixels[..., c].ravel() for c in range(3)]
    mean = np.array([channel.mean() for channel in channels])
    deviation = np.array([channel.std() for channel in channels])
    for split in ("train_eval", "test"):
        dataset = cifar(split, variant="lowrank", batch_size=500)
        images, _ = next(iter(dataset))
        stored = sources.read_cifar(
            "cifar10", split.removesuffix("_eval"), DATA_DIR, False
        ).images[:500]
        expected = (stored.numpy() - mean) / deviation
        np.testing.assert_allclose(images, expected, atol=1e-5)


@needs_cifar
def test_cifar_padded_is_standardised_as_lowrank_is():
    padded, _ = next(iter(cifar("test", variant="pad")))
    lowrank, _ = next(iter(cifar("test", variant="lowrank")))
    np.testing.assert_array_equal(padded, lowrank)
    images, _ = next(iter(cifar(variant="pad")))
    train = sources.read_cifar("cifar10", "train", DATA_DIR, False)
    pixels = train.images.numpy().reshape(-1, 3).astype(np.float64)
    stored = images.numpy() * pixels.std(0) + pixels.mean(0)
    assert images.shape == (64, 32, 32, 3)
    np.testing.assert_allclose(stored, np.round(stored), atol=1e-3)
    black = (np.abs(stored) < 1e-3).all((2, 3)).any(1)  # whole rows
    assert 0.5 < black.mean() < 1  # 8 of 9 offsets


@needs_cifar
def test_cifar_lowrank_samples_with_replacement_and_resumes():
    kwargs = {"variant": "lowrank", "steps_per_epoch": 3}
    whole, _ = arrays(cifar(**kwargs))
    same, _ = arrays(cifar(sampling="uniform", **kwargs))
    other, _ = arrays(cifar(sampling="loaders", **kwargs))
    np.testing.assert_array_equal(whole, same)
    assert (whole != other).any()


@needs_cifar
def test_cifar_resumes_crops_and_flips_included():
    images, labels = arrays(cifar(steps_per_epoch=45))
    resumed = arrays(cifar(steps_per_epoch=5, skip_steps=40))
    np.testing.assert_array_equal(resumed[0], images[40 * 64 :])
    np.testing.assert_array_equal(resumed[1], labels[40 * 64 :])


@needs_cifar
def test_cifar_is_decoded_once_in_a_process():
    first = sources.read_cifar("cifar10", "test", DATA_DIR, False)
    second = sources.read_cifar("cifar10", "test", str(DATA_DIR), False)
    assert first.images is second.images
    assert first.images.dtype == tf.uint8
    assert np.bincount(first.labels).tolist() == [1000] * 10
