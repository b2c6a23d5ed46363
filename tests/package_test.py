"""`import tf_elastic`: what it brings at once, and what when it is named."""

import subprocess
import sys

import keras
import numpy as np
import pytest

import tf_elastic as te
from tests import source_tree as tree


def run_python(code):
    result = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tree.ROOT,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert result.returncode == 0, result.stderr


def test_every_public_name_is_there():
    for name in te.__all__:
        assert getattr(te, name)
    assert set(te.__all__) <= set(dir(te))


def test_another_name_is_refused():
    with pytest.raises(AttributeError, match="no attribute 'optimisers'"):
        te.optimisers  # noqa: B018


def test_a_process_ends_without_looking_for_garbage():
    """It took seconds of what one waits for after Ctrl-C."""
    run_python(
        """
import os, sys
IMPORT

class Knot:
    def __init__(self):
        self.knot = self

    def __del__(self):
        os._exit(1)

sys.knot = Knot()
""".replace("IMPORT", "import tf_elastic")
    )


def test_what_a_thread_waits_for_is_ended_at_the_exit():
    run_python(
        """
import concurrent.futures, os, runpy, sys, threading

class Worker:
    let_go = threading.Event()

    def stop(self, finished):
        if not finished:
            self.let_go.set()

def wait():
    if not worker.let_go.wait(60):
        os._exit(1)

worker = Worker()
concurrent.futures.ThreadPoolExecutor(1).submit(wait)
leaving = runpy.run_path("tf_elastic/strategies/leaving.py")
leaving["leaves_at_exit"](worker)
sys.last_value = KeyboardInterrupt()
"""
    )


FIRST_ALONE = """
import sys
import tf_elastic

slow = {"tensorflow", "keras", "numpy"}
assert not slow & set(sys.modules), slow & set(sys.modules)
assert set(tf_elastic.__all__) <= set(dir(tf_elastic))
assert "tf_elastic.strategies" not in sys.modules
from tf_elastic import optimizers
import keras
assert "scipy.stats" not in sys.modules  # It takes half a second.
"""


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """A model that was trained by an optimizer of this package."""
    with te.strategies.ElasticMirroredStrategy(["CPU:0"]).scope():
        model = keras.Sequential([keras.Input([2]), keras.layers.Dense(1)])
        optimizer = te.optimizers.EAMSGD(0.1, jit_compile=False)
        model.compile(optimizer, loss="mse")
    model.fit(np.ones([4, 2]), np.ones([4, 1]), batch_size=4, verbose=0)
    path = str(tmp_path_factory.mktemp("saved") / "model.keras")
    model.save(path)
    return path


@pytest.mark.parametrize(
    "imports",
    [
        "import keras; import tf_elastic",
        # The import alone starts no TensorFlow; what is named is there then.
        FIRST_ALONE,
    ],
    ids=["keras_first", "the_package_first"],
)
def test_a_saved_model_finds_its_optimizer(imports, saved):
    run_python(
        f"{imports}\n"
        f"model = keras.models.load_model({saved!r})\n"
        "assert type(model.optimizer).__name__ == 'EAMSGD'\n"
        "assert int(model.optimizer.iterations) == 1\n"
        "tf_elastic.strategies.ElasticMirroredStrategy\n"
    )
