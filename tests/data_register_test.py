"""Data sets of one's own, known to `load` by a name."""

import numpy as np
import pytest
import tensorflow as tf

import tf_elastic.data
from tests import data_damaged_test
from tf_elastic.data import registered

whole = data_damaged_test.whole
IMAGES = {
    "train": np.arange(60, dtype=np.uint8).reshape(20, 3),
    "test": np.arange(100, 121, dtype=np.uint8).reshape(7, 3),
}


@pytest.fixture(autouse=True)
def forgotten(monkeypatch):
    """What a test registers is not there in the next one."""
    monkeypatch.setattr(registered, "_KNOWN", dict(registered._KNOWN))


def read(split):
    images = IMAGES[split]
    return images, images[:, 0] // 3


def load(*args, **kwargs):
    return tf_elastic.data.load("mine", *args, **kwargs)


def batches(data):
    return [(x.numpy(), y.numpy()) for x, y in data]


def test_evaluation_has_all_rows_in_order_and_scaled():
    tf_elastic.data.register("mine", scale=0.5)(read)
    for split in ("test", "train_eval"):
        found = batches(load(split, batch_size=4))
        source = IMAGES[split.removesuffix("_eval")]
        assert [len(x) for x, _ in found[:-1]] == [4] * (len(found) - 1)
        images = np.concatenate([x for x, _ in found])
        labels = np.concatenate([y for _, y in found])
        assert images.dtype == np.float32
        np.testing.assert_array_equal(images, source / 2)
        np.testing.assert_array_equal(labels, source[:, 0] // 3)


def test_training_samples_it_for_each_worker():
    """Rows and labels stay together, and every row has its turn."""
    tf_elastic.data.register("mine")(read)
    train = load(
        "train",
        batch_size=2,
        num_workers=2,
        num_loaders=2,
        seed=3,
        steps_per_epoch=25,
    )
    found = batches(train)
    assert len(found) == train.cardinality() == 25
    assert {x.shape for x, _ in found} == {(4, 3)}
    images = np.concatenate([x for x, _ in found])
    np.testing.assert_array_equal(
        np.concatenate([y for _, y in found]), images[:, 0] // 3
    )
    assert set(images[:, 0]) == set(IMAGES["train"][:, 0].astype(np.float32))


@pytest.mark.parametrize("sampling", ["loaders", "uniform"])
def test_a_stream_goes_on_where_it_was(sampling):
    tf_elastic.data.register("mine")(read)
    options = {"batch_size": 2, "seed": 4, "sampling": sampling}
    all_of_it = batches(load("train", steps_per_epoch=8, **options))
    rest = batches(load("train", steps_per_epoch=3, skip_steps=5, **options))
    for (x, y), (x_again, y_again) in zip(all_of_it[5:], rest, strict=True):
        np.testing.assert_array_equal(x, x_again)
        np.testing.assert_array_equal(y, y_again)


def test_it_is_read_once():
    asked = []

    @tf_elastic.data.register("mine")
    def counted(split):
        asked.append(split)
        return read(split)

    for _ in range(2):
        load(batch_size=4)
    assert sorted(asked) == ["test", "train"]
    assert counted.__name__ == "counted"  # It is the user's own still.


def test_tensors_and_labels_of_any_kind_stay_as_they_are():
    weights = tf.constant([[0.5, 1.5], [2.5, 3.5]])
    tf_elastic.data.register("mine")(lambda split: (tf.ones([2, 5]), weights))
    [(images, labels)] = load("test")
    assert images.shape == (2, 5)
    np.testing.assert_array_equal(labels, weights)


def test_tensorflow_datasets_gives_what_is_read(whole):
    """As docs/data.md has it, of a folder that is there."""
    import tensorflow_datasets as tfds

    @tf_elastic.data.register("mine", scale=1 / 255)
    def cifar(split):
        return tfds.as_numpy(
            tfds.load(
                "cifar10",
                split=split,
                batch_size=-1,
                as_supervised=True,
                data_dir=whole.parents[1],
                download=False,
            )
        )

    [(images, labels)] = load("test")
    grey = (images.numpy()[:, 0, 0, 0] * 255).round().astype(int)
    assert sorted(grey) == [12, 13, 14, 15]
    np.testing.assert_array_equal(labels, grey % 10)


@pytest.mark.parametrize(
    ("returned", "message"),
    [
        (np.ones(3), "must be read as a pair"),
        ((np.ones((3, 2)), np.ones(2)), r"one label for each .*\(3, 2\)"),
        ((np.ones((0, 2)), np.ones(0)), "at least one"),
        ((np.ones(()), np.ones(())), "one label for each"),
        ((np.array(["a", "b"]), np.ones(2)), "must be numbers.*string"),
    ],
)
def test_what_is_no_data_set_is_refused(returned, message):
    tf_elastic.data.register("mine")(lambda split: returned)
    with pytest.raises(ValueError, match=f"'mine' .*{message}"):
        load("test")


def test_a_name_that_is_taken_is_refused():
    with pytest.raises(ValueError, match="'digits' is in tf_elastic already"):
        tf_elastic.data.register("digits")(read)
    tf_elastic.data.register("mine")(read)
    tf_elastic.data.register("mine")(read)  # Its file is imported again.
    with pytest.raises(ValueError, match="'mine' is in .*read.* already"):
        tf_elastic.data.register("mine")(lambda split: read(split))


def test_other_variants_and_names_are_refused_by_what_there_is():
    tf_elastic.data.register("mine")(read)
    with pytest.raises(ValueError, match="`variant` must be one of 'plain'"):
        load("test", variant="crop")
    with pytest.raises(ValueError, match="'imagenet2012', 'mine'"):
        tf_elastic.data.load("theirs")
