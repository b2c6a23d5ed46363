"""Three of Keras' published examples: their networks, on data that is at hand.

The networks, the losses, the optimizer (Adam as it comes) and the batch sizes
are those of the code examples of keras.io. Their data has to be downloaded; so
it is replaced by data that is here, with another number of epochs:

image     mnist_convnet, on CIFAR-10; where there is none, on the digits of the
          package, enlarged to 28 x 28.
text      text_classification_with_transformer: of which package of Python's
          standard library are these eight lines?
tabular   structured_data_classification: has a function of the standard
          library a docstring? By what its syntax tree tells else.

Text and table depend on the Python that they are of, and on nothing else.
"""

import ast
import collections
import os
import re
import sysconfig
from collections.abc import Callable
from typing import Any
from typing import NamedTuple

import keras
import numpy as np

import tf_elastic as te

layers = keras.layers


class Data(NamedTuple):
    """What is trained on and what is tested on: (x, y) each."""

    train: Any
    test: Any


class Example(NamedTuple):
    """One of Keras' examples."""

    name: str  # of the example, of keras.io
    data: str  # what it is trained on here
    read: Callable[[], Data]
    model: Callable[[Data], keras.Model]  # not compiled
    loss: str
    batch_size: int
    epochs: int


# The image: mnist_convnet.


def read_cifar(data_dir):
    """The middle of each image, of 28 x 28, from 0 to 1."""
    sets = te.data.load(
        "cifar10", ["train_eval", "test"], batch_size=1000, data_dir=data_dir
    )
    return Data(*map(_joined, sets))


def read_digits():
    """Each pixel is three by three, with a margin of two."""
    sets = te.data.load("digits", ["train_eval", "test"], batch_size=500)
    found = []
    for images, labels in map(_joined, sets):
        large = images.repeat(3, 1).repeat(3, 2)
        found.append((np.pad(large, ((0, 0), (2, 2), (2, 2), (0, 0))), labels))
    return Data(*found)


def _joined(dataset):
    parts = [[a.numpy() for a in batch] for batch in dataset]
    return tuple(map(np.concatenate, zip(*parts, strict=True)))


def convnet(data):
    """As in mnist_convnet."""
    return keras.Sequential(
        [
            keras.Input(data.train[0].shape[1:]),
            layers.Conv2D(32, kernel_size=(3, 3), activation="relu"),
            layers.MaxPooling2D(pool_size=(2, 2)),
            layers.Conv2D(64, kernel_size=(3, 3), activation="relu"),
            layers.MaxPooling2D(pool_size=(2, 2)),
            layers.Flatten(),
            layers.Dropout(0.5),
            layers.Dense(10, activation="softmax"),
        ]
    )


# The text: text_classification_with_transformer.

PACKAGES = (
    "asyncio",
    "email",
    "http",
    "idlelib",
    "importlib",
    "logging",
    "multiprocessing",
    "tkinter",
    "unittest",
    "xml",
)
LINES = 8
WORDS = 20_000
MOST_WORDS = 64  # of 200
TESTED = 5  # each fifth is not trained on


def _sources(folder):
    """The text of each file of a folder below the standard library's."""
    top = os.path.join(sysconfig.get_paths()["stdlib"], folder)
    for path, folders, files in os.walk(top):
        skipped = {"__pycache__", "site-packages", "test", "lib2to3"}
        folders[:] = sorted(set(folders) - skipped)
        for name in sorted(files):
            if name.endswith(".py"):
                with open(
                    os.path.join(path, name), encoding="utf-8", errors="replace"
                ) as file:
                    yield file.read()


def read_text():
    """Eight lines after another, as numbers of words: 0 for none, 1 rare."""
    texts, labels = [], []
    for label, package in enumerate(PACKAGES):
        for source in _sources(package):
            lines = [line for line in source.splitlines() if line.strip()]
            for k in range(0, len(lines) - LINES + 1, LINES):
                text = " ".join(lines[k : k + LINES]).lower()
                texts.append(re.findall(r"[a-z]+", text)[:MOST_WORDS])
                labels.append(label)
    tested = np.arange(len(texts)) % TESTED == 0
    trained = np.flatnonzero(~tested)
    counts = collections.Counter(w for k in trained for w in texts[k])
    known = [word for word, _ in counts.most_common(WORDS - 2)]
    numbers = {word: k + 2 for k, word in enumerate(known)}
    x = np.zeros((len(texts), MOST_WORDS), np.int32)
    for row, text in zip(x, texts, strict=True):
        row[: len(text)] = [numbers.get(word, 1) for word in text]
    return _split(x, np.array(labels), tested)


def _split(x, y, tested):
    return Data((x[~tested], y[~tested]), (x[tested], y[tested]))


class TransformerBlock(layers.Layer):
    """As in the example."""

    def __init__(self, embed_dim, num_heads, ff_dim, rate=0.1):
        super().__init__()
        self.att = layers.MultiHeadAttention(
            num_heads=num_heads, key_dim=embed_dim
        )
        self.ffn = keras.Sequential(
            [layers.Dense(ff_dim, activation="relu"), layers.Dense(embed_dim)]
        )
        self.layernorm1 = layers.LayerNormalization(epsilon=1e-6)
        self.layernorm2 = layers.LayerNormalization(epsilon=1e-6)
        self.dropout1 = layers.Dropout(rate)
        self.dropout2 = layers.Dropout(rate)

    def call(self, inputs):
        attn_output = self.att(inputs, inputs)
        attn_output = self.dropout1(attn_output)
        out1 = self.layernorm1(inputs + attn_output)
        ffn_output = self.dropout2(self.ffn(out1))
        return self.layernorm2(out1 + ffn_output)


class TokenAndPositionEmbedding(layers.Layer):
    """As in the example."""

    def __init__(self, maxlen, vocab_size, embed_dim):
        super().__init__()
        self.token_emb = layers.Embedding(vocab_size, embed_dim)
        self.pos_emb = layers.Embedding(maxlen, embed_dim)

    def call(self, x):
        positions = keras.ops.arange(0, keras.ops.shape(x)[-1])
        return self.token_emb(x) + self.pos_emb(positions)


def transformer(data):
    """As in text_classification_with_transformer."""
    del data
    embed_dim = num_heads_dim = 32
    inputs = layers.Input(shape=(MOST_WORDS,))
    x = TokenAndPositionEmbedding(MOST_WORDS, WORDS, embed_dim)(inputs)
    x = TransformerBlock(embed_dim, 2, num_heads_dim)(x)
    x = layers.GlobalAveragePooling1D()(x)
    x = layers.Dropout(0.1)(x)
    x = layers.Dense(20, activation="relu")(x)
    x = layers.Dropout(0.1)(x)
    outputs = layers.Dense(len(PACKAGES), activation="softmax")(x)
    return keras.Model(inputs, outputs)


# The table: structured_data_classification.

COUNTED = (
    *("If", "For", "While", "Return", "Raise", "Try", "With", "Call"),
    *("Assign", "Attribute", "Yield", "Lambda", "Compare", "BinOp"),
)
KINDS = ("function", "method", "nested")
NAMES = ("public", "private", "special")
DECORATORS = ("none", "property", "classmethod", "staticmethod", "other")


def _functions(node, kind="function"):
    """All functions below a node, and what kind each is."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef):
            yield child, kind
            yield from _functions(child, "nested")
        else:
            is_class = isinstance(child, ast.ClassDef)
            yield from _functions(child, "method" if is_class else kind)


def _row(function, kind):
    """The numbers and the categories of a function."""
    body = function.body
    has_docstring = ast.get_docstring(function) is not None
    if has_docstring:
        body = body[1:]
    nodes = collections.Counter(
        type(node).__name__ for part in body for node in ast.walk(part)
    )
    args = function.args
    begin = min((part.lineno for part in body), default=0)
    end = max((part.end_lineno for part in body), default=0)
    numbers = [
        len(function.name),
        len(args.args) + len(args.kwonlyargs),
        len(args.defaults) + len(args.kw_defaults),
        end - begin,
        *(nodes[name] for name in COUNTED),
    ]
    name = function.name
    special = name.startswith("__") and name.endswith("__")
    style = "private" if name.startswith("_") else "public"
    decorator = "none"
    if function.decorator_list:
        decorator = getattr(function.decorator_list[0], "id", "other")
        decorator = decorator if decorator in DECORATORS else "other"
    categories = [
        KINDS.index(kind),
        NAMES.index("special" if special else style),
        DECORATORS.index(decorator),
    ]
    return numbers, categories, has_docstring


def read_table():
    """Functions: numbers, normalized, and categories, each one of several."""
    found = []
    for source in _sources(""):
        try:
            tree = ast.parse(source)
        except (SyntaxError, ValueError):  # Made so, to be tried.
            continue
        found += [_row(*function) for function in _functions(tree)]
    numbers, categories, y = map(np.array, zip(*found, strict=True))
    tested = np.arange(len(y)) % TESTED == 0
    numbers = numbers.astype(np.float32)
    trained = numbers[~tested]
    numbers = (numbers - trained.mean(0)) / trained.std(0)
    sizes = map(len, (KINDS, NAMES, DECORATORS))
    hot = [
        np.eye(size, dtype=np.float32)[categories[:, k]]
        for k, size in enumerate(sizes)
    ]
    x = np.concatenate([numbers, *hot], 1)
    return _split(x, y.astype(np.float32), tested)


def structured(data):
    """As in structured_data_classification."""
    inputs = keras.Input((data.train[0].shape[1],))
    x = layers.Dense(32, activation="relu")(inputs)
    x = layers.Dropout(0.5)(x)
    return keras.Model(inputs, layers.Dense(1, activation="sigmoid")(x))


def examples(data_dir):
    """{kind: Example}.

    Args:
        data_dir: of CIFAR-10; empty for the digits.
    """
    of_many = "sparse_categorical_crossentropy"
    if data_dir:
        images, epochs = "CIFAR-10", 4
    else:
        images, epochs = "digits, 28 x 28", 30
    return {
        "image": Example(
            "mnist_convnet",
            images,
            (lambda: read_cifar(data_dir)) if data_dir else read_digits,
            convnet,
            of_many,
            128,
            epochs,
        ),
        "text": Example(
            "text_classification_with_transformer",
            "lines of the standard library",
            read_text,
            transformer,
            of_many,
            32,
            4,
        ),
        "tabular": Example(
            "structured_data_classification",
            "functions of the standard library",
            read_table,
            structured,
            "binary_crossentropy",
            32,
            10,
        ),
    }
