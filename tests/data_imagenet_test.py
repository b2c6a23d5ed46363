"""ImageNet through `load`: a small folder made here, and the sample."""

import logging
import os
import pathlib

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

import tf_elastic.data
from tests import imagenet_support as support
from tf_elastic.data import encoded_images
from tf_elastic.data import windows

ROOT = pathlib.Path(__file__).parents[1]
DATA_DIR = pathlib.Path(
    os.environ.get("TF_ELASTIC_DATA_DIR", ROOT.parent / "shared" / "data")
)
needs_sample = pytest.mark.skipif(
    not (DATA_DIR / "imagenet2012").is_dir(),
    reason=f"no prepared ImageNet in {DATA_DIR}: set TF_ELASTIC_DATA_DIR to "
    "the folder that holds 'imagenet2012/'",
)


@pytest.fixture(autouse=True)
def nothing_damaged():
    encoded_images.forget_damaged_images()
    yield
    encoded_images.forget_damaged_images()


def plain(numbers):
    return [
        support.example(support.saved(support.picture(n)), n) for n in numbers
    ]


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """12 + 8 images to train on, 5 to test."""
    data_dir = tmp_path_factory.mktemp("whole")
    support.make(
        data_dir,
        {
            "train": [plain(range(12)), plain(range(12, 20))],
            "validation": [plain(range(40, 45))],
        },
    )
    return data_dir


def load(data_dir, split="train", **kwargs):
    kwargs = {"batch_size": 2, "num_workers": 2, "seed": 0, **kwargs}
    return tf_elastic.data.load(
        "imagenet2012", split, data_dir=data_dir, **kwargs
    )


def labels_of(dataset):
    return [labels.numpy().tolist() for _, labels in dataset]


def test_evaluation_is_in_order_and_whole(whole):
    for split, numbers in (
        ("train_eval", range(20)),
        ("test", range(40, 45)),
    ):
        dataset = load(whole, split, batch_size=3)
        assert len(dataset) == -(-len(numbers) // 3)
        images, labels = zip(*dataset, strict=True)
        labels = np.concatenate(labels)
        assert labels.tolist() == list(numbers)
        reds = 255 * np.concatenate(images)[:, 110, 110, 0]
        np.testing.assert_allclose(reds, 5 * labels, atol=4)
    assert images[0].shape == (3, 221, 221, 3)
    assert len(load(whole, None)) == 2


@pytest.mark.parametrize("variant", ["crop", "random_resized"])
def test_labels_go_with_their_images(whole, variant):
    size = {"crop": 221, "random_resized": 224}[variant]
    dataset = load(whole, variant=variant)
    assert dataset.element_spec[0].shape == (4, size, size, 3)
    assert dataset.element_spec[1].shape == (4,)
    assert len(dataset) == len(list(dataset)) == 5
    for images, labels in dataset:
        reds = 255 * images.numpy().mean((1, 2))[:, 0]
        np.testing.assert_allclose(reds, 5 * labels.numpy(), atol=4)


@pytest.mark.parametrize("sampling", ["parts", "loaders", "uniform"])
def test_resumes_in_the_middle_of_an_epoch_to_the_bit(whole, sampling):
    kwargs = {"sampling": sampling, "num_loaders": 3, "in_turn": True}
    steps = list(load(whole, steps_per_epoch=9, **kwargs))
    resumed = load(whole, skip_steps=5, steps_per_epoch=4, **kwargs)
    for (x, y), (same_x, same_y) in zip(steps[5:], resumed, strict=True):
        np.testing.assert_array_equal(x, same_x)
        np.testing.assert_array_equal(y, same_y)


def test_in_turn_a_batch_is_one_workers(whole):
    together = labels_of(load(whole, num_loaders=3))
    in_turn = labels_of(
        load(whole, num_loaders=3, in_turn=True, steps_per_epoch=10)
    )
    assert sum(together, []) == sum(in_turn, [])


def test_each_loader_has_its_part(whole):
    """Four loaders, each of five images: a pool has one chunk of each."""
    labels = labels_of(
        load(whole, num_workers=1, num_loaders=4, steps_per_epoch=40)
    )
    flat = np.array(sum(labels, [])).reshape(-1, 16)  # Pools.
    for pool in flat:
        assert np.bincount(pool // 5, minlength=4).tolist() == [4] * 4
    assert len(set(flat.ravel())) == 20


def test_a_shard_is_a_part_of_the_images(whole):
    kwargs = {"num_workers": 1, "num_loaders": 1, "steps_per_epoch": 3}
    seen = [
        sorted(sum(labels_of(load(whole, shard=(i, 3), **kwargs)), []))
        for i in range(3)
    ]
    # A pass misses the remainder modulo the minibatch, at one of its ends.
    assert seen[0] == list(range(6))
    assert seen[1] in (list(range(6, 12)), list(range(7, 13)))
    assert seen[2] in (list(range(13, 19)), list(range(14, 20)))


def damaged_records():
    """Seven images: the first and the last can be read, others are odd."""
    cut = support.saved(Image.effect_noise((300, 300), 50))[:-4000]
    small = support.picture(3, 80, 100)
    grey = support.picture(5).convert("L")
    return [
        support.example(support.saved(support.picture(0)), 0),
        support.example(cut, 1),
        support.example(support.saved(support.picture(2), "PNG"), 2),
        support.example(support.saved(small), 3),
        support.example(support.saved(support.picture(4).convert("CMYK")), 4),
        support.example(support.saved(grey), 5),
        support.example(b"no image", 6),
        b"no record",
        support.example(support.saved(support.picture(8)), 8, label=1000),
        support.example(support.saved(support.picture(9)), 9),
    ]


@pytest.fixture
def odd(tmp_path):
    records = damaged_records()
    support.make(tmp_path, {"train": [records], "validation": [records]})
    return tmp_path


DAMAGED = [1, 6, 7, 8]


def test_a_damaged_image_is_left_out_counted_and_named(odd, caplog):
    with caplog.at_level(logging.WARNING, "absl"):
        data = load(odd, "test", batch_size=10)
        assert labels_of(data) == [[0, 2, 3, 4, 5, 9]]
    found = tf_elastic.data.damaged_images()
    # What is no record is found first, what cannot be decoded afterwards.
    assert sorted(image.record for image in found) == DAMAGED
    names = {image.record: image.name for image in found}
    assert names[1] == "n0001.JPEG" and names[6] == "n0006.JPEG"
    reasons = {image.record: image.reason for image in found}
    assert "1000, outside of [0, 1000)" in reasons[8]
    assert all(image.file.endswith("00000-of-00001") for image in found)
    text = caplog.text
    assert text.count("is left out") == 4 and "n0001.JPEG" in text
    before = {image.record: image.times for image in found}
    assert labels_of(data) == [[0, 2, 3, 4, 5, 9]]
    after = {
        image.record: image.times for image in tf_elastic.data.damaged_images()
    }
    assert all(after[record] > before[record] for record in DAMAGED)


def test_evaluation_of_nothing_but_damaged_images_takes_the_next(odd):
    assert labels_of(load(odd, "test", batch_size=2)) == [
        [0],
        [2, 3],
        [4, 5],
        [9],
        [9],
    ]


def test_in_training_the_next_image_takes_its_place(odd, whole):
    """The same order as of ten whole images; others keep their crops."""
    kwargs = {"num_workers": 1, "num_loaders": 1, "steps_per_epoch": 15}
    following = {1: 2, 6: 9, 7: 9, 8: 9}
    asked = labels_of(load(whole, shard=(0, 2), **kwargs))
    got = labels_of(load(odd, **kwargs))
    expected = [[following.get(n, n) for n in batch] for batch in asked]
    assert got == expected
    assert labels_of(load(odd, skip_steps=7, **kwargs))[:8] == got[7:]


def test_odd_images_have_their_colours(odd):
    [(images, labels)] = load(odd, "test", batch_size=10)
    middle = dict(
        zip(labels.numpy(), 255 * images.numpy()[:, 110, 110], strict=True)
    )
    for number in (0, 2, 3, 9):
        np.testing.assert_allclose(
            middle[number], [5 * number, 128, 128], atol=3
        )
    assert np.ptp(middle[5]) < 1  # grey
    np.testing.assert_allclose(middle[4], [20, 128, 128], atol=8)  # CMYK


def test_a_split_without_any_image_that_can_be_read(tmp_path):
    support.make(
        tmp_path,
        {
            "train": [[support.example(b"x", 0)] * 4],
            "validation": [plain([0])],
        },
    )
    with pytest.raises(tf.errors.OpError, match="4 images, all of which"):
        list(load(tmp_path))


def test_a_file_that_is_cut_short_is_refused(tmp_path):
    folder = support.make(
        tmp_path, {"train": [plain(range(3))], "validation": [plain([0])]}
    )
    [path] = folder.glob("*train*")
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(
        tf_elastic.data.DamagedDataError, match="2 whole images, .* of 3"
    ):
        load(tmp_path)


def test_a_file_that_goes_away_is_told(tmp_path):
    folder = support.make(
        tmp_path, {"train": [plain(range(4))], "validation": [plain([0])]}
    )
    data = load(tmp_path)
    [path] = folder.glob("*train*")
    path.unlink()
    with pytest.raises(tf.errors.OpError, match="all of which are damaged"):
        list(data)


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"variant": "pad"}, "'crop', 'random_resized'. .*variant='pad'"),
        ({"shard": (2, 2)}, r"Received: shard=\(2, 2\)"),
        ({"shard": 3}, "Received: shard=3"),
        ({"shard": (0, 15)}, "of shard 0 of 15, 1. Received: batch_size=2"),
        ({"stored_size": 0}, "Received: stored_size=0"),
        (
            {"sampling": "parts", "num_loaders": 11},
            "num_loaders=11, batch_size=2, with 20 images",
        ),
        ({"batch_size": 21}, "images, 20. Received: batch_size=21"),
    ],
)
def test_errors_name_the_argument_and_its_value(whole, kwargs, message):
    with pytest.raises(ValueError, match=message):
        load(whole, **kwargs)


def test_stored_size_is_for_imagenet():
    with pytest.raises(ValueError, match="stored_size=256, name='digits'"):
        tf_elastic.data.load("digits", stored_size=256)


def test_what_is_not_there(tmp_path):
    with pytest.raises(FileNotFoundError, match="download=True"):
        load(tmp_path)
    with pytest.raises(
        FileNotFoundError, match="tf_elastic.data.prepare imagenet2012"
    ):
        load(tmp_path, stored_size=256)


@needs_sample
@pytest.mark.parametrize("variant", ["crop", "random_resized"])
def test_the_sample_through_all_loaders(variant):
    """All 200 and 50 images; what is seen is what was asked for."""
    train, test = load(
        DATA_DIR, ["train", "test"], variant=variant, batch_size=25
    )
    seen = np.concatenate([labels for _, labels in test])
    assert seen.size == 50 and len(set(seen)) == 50
    counts = np.zeros(1000, int)
    for images, labels in train:
        assert 0 <= float(tf.reduce_min(images))
        assert float(tf.reduce_max(images)) <= 1
        np.add.at(counts, labels.numpy(), 1)
    # 8 parts of 25 images, all of which are in the pools of two workers.
    assert counts.sum() == 200 and not counts[seen].any()
    assert tf_elastic.data.damaged_images() == []


@needs_sample
def test_the_sample_is_cropped_as_it_says():
    """Each image of a batch is one crop of its resized image."""
    images, labels = next(iter(load(DATA_DIR, batch_size=4)))
    stored = {}
    path = next((DATA_DIR / "imagenet2012").glob("*/*-train.*"))
    for record in tf.data.TFRecordDataset(str(path)):
        found = encoded_images.parse(record.numpy(), 1000)
        if found.label in labels.numpy():
            stored[found.label] = tf.io.decode_jpeg(found.image, 3)
    for image, label in zip(255 * images.numpy(), labels.numpy(), strict=True):
        new = windows.resized(tf.shape(stored[label])[:2]).numpy().astype(int)
        resized = tf.image.resize(stored[label], new).numpy()
        places = np.lib.stride_tricks.sliding_window_view(
            resized[..., 1], (221, 221)
        )
        nearest = min(
            np.abs(places[:, :, ::20, ::20] - view[::20, ::20, 1])
            .max((2, 3))
            .min()
            for view in (image, image[:, ::-1])
        )
        assert nearest < 0.05
