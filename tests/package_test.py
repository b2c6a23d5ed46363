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


def test_the_import_alone_starts_no_tensorflow():
    run_python(
        "import sys\n"
        "import tf_elastic as te\n"
        "slow = {'tensorflow', 'keras', 'numpy'}\n"
        "assert not slow & set(sys.modules), slow & set(sys.modules)\n"
        "assert set(te.__all__) <= set(dir(te))\n"
        "assert 'tf_elastic.strategies' not in sys.modules\n"
        "te.strategies.ElasticMirroredStrategy\n"
    )


def test_every_public_name_is_there():
    for name in te.__all__:
        assert getattr(te, name)
    assert set(te.__all__) <= set(dir(te))


def test_another_name_is_refused():
    with pytest.raises(AttributeError, match="no attribute 'optimisers'"):
        te.optimisers  # noqa: B018


@pytest.mark.parametrize(
    "imports",
    [
        "import keras; import tf_elastic",
        "import tf_elastic.optimizers; import keras",
        "from tf_elastic import optimizers; import keras",
    ],
)
def test_a_saved_model_finds_its_optimizer(imports, strategy, tmp_path):
    with strategy(1).scope():
        model = keras.Sequential([keras.Input([2]), keras.layers.Dense(1)])
        model.compile(te.optimizers.EAMSGD(0.1), loss="mse")
    model.fit(np.ones([4, 2]), np.ones([4, 1]), batch_size=4, verbose=0)
    path = str(tmp_path / "model.keras")
    model.save(path)
    run_python(
        f"{imports}\n"
        f"model = keras.models.load_model({path!r})\n"
        "assert type(model.optimizer).__name__ == 'EAMSGD'\n"
        "assert int(model.optimizer.iterations) == 1\n"
    )
