"""The benchmark of Keras' examples: it resumes, and says what is so."""

import contextlib
import importlib
import sys

import keras
import numpy as np
import pytest

import tf_elastic as te
from tests import source_tree as tree


@pytest.fixture
def program(monkeypatch):
    monkeypatch.syspath_prepend(str(tree.ROOT / "benchmarks"))
    found = importlib.import_module("bench_examples")
    # Those are of this process, and their numbers of the tests' own.
    threading = found.tf.config.threading
    for name in ("intra", "inter"):
        monkeypatch.setattr(
            threading, f"set_{name}_op_parallelism_threads", lambda count: None
        )
    return found


def data_of(networks, shape, classes, high=None):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(24, *shape)).astype(np.float32)
    if high:
        x = rng.integers(high, size=(24, *shape))
    y = rng.integers(classes, size=24)
    return networks.Data((x, y), (x, y))


@pytest.mark.parametrize(
    ("kind", "way"),
    [
        ("image", "stock"),
        ("text", "stock"),
        ("tabular", "stock learning_rate=0.002"),
        ("tabular", "2 learning_rate=0.002 beta=0.5 communication_period=2"),
    ],
)
def test_each_network_is_trained(program, kind, way):
    networks = sys.modules["_keras_examples"]
    data = {
        "image": data_of(networks, (28, 28, 3), 10),
        "text": data_of(
            networks, (networks.MOST_WORDS,), 10, high=networks.WORDS
        ),
        "tabular": data_of(networks, (29,), 2),
    }[kind]
    example = networks.examples("")[kind]._replace(epochs=1, batch_size=8)
    found = program.run(example, data, way, seed=0)
    assert found["samples"] == 24
    assert 0 <= found["accuracy"] <= 1
    assert np.isfinite(found["loss"])


def test_data_is_the_same_each_time(program):
    networks = sys.modules["_keras_examples"]
    (images, labels), (tested, _) = networks.read_digits()
    assert images.shape == (1437, 28, 28, 1)
    assert tested.shape == (360, 28, 28, 1)
    assert labels.shape == (1437,)
    assert 0 == images.min() < images.max() == 1
    (words, packages), _ = networks.read_text()
    assert set(packages) <= set(range(len(networks.PACKAGES)))
    assert words.max() < networks.WORDS
    again = networks.read_text().train
    np.testing.assert_array_equal(words, again[0])
    np.testing.assert_array_equal(packages, again[1])


def test_a_row_of_the_table(program):
    networks = sys.modules["_keras_examples"]
    tree = networks.ast.parse(
        "class A:\n"
        "    @property\n"
        "    def _b(self, c=1):\n"
        "        '''Told.'''\n"
        "        if c:\n"
        "            return d(c)\n"
        "def e():\n"
        "    def f(): pass\n"
    )
    rows = [networks._row(*one) for one in networks._functions(tree)]
    numbers, categories, has_docstring = rows[0]
    assert has_docstring
    # Its name, its arguments and defaults, the lines of its body.
    assert numbers[:4] == [2, 2, 1, 1]
    counts = dict(zip(networks.COUNTED, numbers[4:], strict=True))
    assert {n: c for n, c in counts.items() if c} == {
        "If": 1,
        "Return": 1,
        "Call": 1,
    }
    assert [categories for _, categories, _ in rows] == [
        [1, 1, 1],
        [0, 0, 0],
        [2, 0, 0],
    ]
    assert [told for *_, told in rows] == [True, False, False]


def test_what_is_in_the_file_is_not_done_again(
    program, monkeypatch, tmp_path, capsys
):
    accuracies = {"stock": 0.9, "2": 0.885, "4": 0.895}
    done = []

    def run(example, data, way, seed):
        done.append((way, seed))
        others = dict.fromkeys(set(program.FIELDS) - set(program.KEY), 0)
        return {**others, "accuracy": accuracies[way] + 0.001 * seed}

    monkeypatch.setattr(program, "run", run)
    path = tmp_path / "found.csv"
    for seeds in (1, 2, 2):
        arguments = [f"--csv={path}", f"--seeds={seeds}", "--examples=image"]
        monkeypatch.setattr(sys, "argv", ["bench", *arguments])
        program.main()
    ways = ["stock", "2", "4"]
    assert done == [(way, seed) for seed in range(2) for way in ways]
    printed = capsys.readouterr().out.splitlines()
    assert printed[-2:] == [
        "| image | 2 | 88.5 (88.5, 88.6) | -1.5 (-1.5, -1.5) | worse |",
        "| image | 4 | 89.5 (89.5, 89.6) | -0.5 (-0.5, -0.5) |"
        " within one point |",
    ]


def test_adam_moves_a_row_further_that_is_looked_up_more_often():
    """Keras squares slices one by one, and so does it inside of a method."""

    def moved(strategy):
        with strategy.scope() if strategy else contextlib.nullcontext():
            optimizer = keras.optimizers.Adam(0.1)
            if strategy:
                optimizer = te.optimizers.LocalSGD(
                    optimizer, communication_period=1
                )
            table = keras.layers.Embedding(2, 1, "zeros")
            model = keras.Sequential([keras.Input((4,), dtype="int32"), table])
            model.compile(optimizer, loss=lambda _, y: keras.ops.sum(y))
        x = np.zeros((1, 4), np.int32)
        model.fit(x, np.zeros((1, 4, 1)), verbose=0)
        return table.get_weights()[0][0, 0]

    one = te.strategies.ElasticMirroredStrategy(["CPU:0"])
    for strategy in (None, one):
        np.testing.assert_allclose(moved(strategy), -0.1 * 4**0.5, rtol=1e-4)
