"""What CONTRIBUTING.md shows: its transport carries, its data set trains."""

import copy
import inspect
import re
import sys

import keras
import numpy as np
import pytest

import tf_elastic as te
from tests import interleaving_support as support
from tests import source_tree as tree
from tests import timeless_client
from tests.architecture_test import NAMES
from tf_elastic import user_code
from tf_elastic.cluster import errors
from tf_elastic.cluster import layout
from tf_elastic.cluster.transport import wire
from tf_elastic.cluster.transport.line import Line
from tf_elastic.cluster.worker import client
from tf_elastic.core import rules
from tf_elastic.data import registered

TEXT = (tree.ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")


def section(title):
    """What stands under a title."""
    _, _, rest = TEXT.partition(f"\n## {title}\n")
    return rest.partition("\n## ")[0]


def module_of(title, folder):
    """The example of a section, as a module in a file of its own."""
    text = section(title)
    [code] = re.findall(r"^```python\n(.*?)^```", text, re.M | re.S)
    name = title.lower().replace(" ", "_")
    path = folder / f"{name}.py"
    path.write_text(code, encoding="utf-8")
    user_code.import_files([path])
    return sys.modules.pop(name)


def test_a_class_that_is_named_is_there():
    """And what is given to it by a name, it takes."""
    text = section("Add a transport")
    prose = re.sub(r"^```.*?^```", "", text, flags=re.M | re.S)
    code = " ".join(re.findall(r"`([^`\n]+)`", prose))
    names = set(re.findall(r"\b[A-Z]\w*[a-z]\b", code)) - {"Noted"}
    assert {"CenterClient", "DirectLine", "Surroundings"} <= names
    assert [name for name in names if not NAMES.has(name)] == []
    assert NAMES.has("Surroundings.connect")
    assert "around" in inspect.signature(client.CenterClient).parameters


# The transport.


@pytest.fixture
def noted(tmp_path):
    """The module, whose servers are there."""
    module = module_of("Add a transport", tmp_path)
    module.nodes = [support.Host(k).shard for k in range(support.SERVERS)]
    for k, node in enumerate(module.nodes):
        module.SERVERS.serve(f"here:{k}", node)
    return module


def joined(noted, worker):
    """A worker's client, and the center as it has found it."""
    made = timeless_client.of_one_thread(
        noted.Noted,
        [f"here:{k}" for k in range(support.SERVERS)],
        worker,
        worker == 0,
        support.WORKERS,
    )
    description = layout.Layout(
        support.LAYOUT, support.SERVERS, rules.Elastic()
    )
    return made, made.join(description, copy.deepcopy(support.INITIAL))


@pytest.mark.parametrize("exchange", ["exchange", "read_and_push"])
def test_workers_train_by_the_transport(noted, exchange):
    """Two take turns with two servers, as Algorithm 1 has it."""
    clients, begun = zip(
        *(joined(noted, i) for i in range(support.WORKERS)), strict=True
    )
    points = [center[0].copy() for center in begun]
    center = support.INITIAL[0].copy()
    steps = np.random.default_rng(5).normal(size=(6, support.N))
    expected = [center.copy() for _ in clients]
    for turn, step in enumerate(steps):
        i = turn % support.WORKERS
        points[i] += step
        clients[i].clock += 1
        sent = [points[i].copy(), support.INITIAL[1].copy()]
        moved = getattr(clients[i], exchange)(sent, support.elastic_rates)
        points[i] = points[i] - moved.moving_rate * moved.arrays[0]
        alpha = support.BETA / support.WORKERS
        difference = expected[i] + step - center
        expected[i] = expected[i] + step - alpha * difference
        center = center + alpha * difference
        assert clients[i].counts.exchanges == turn // support.WORKERS + 1
    np.testing.assert_allclose(points, expected, rtol=0, atol=1e-13)
    found = np.concatenate([node.arrays[0] for node in noted.nodes])
    np.testing.assert_allclose(found, center, rtol=0, atol=1e-13)
    for _, name, nbytes, _ in noted.NOTES:
        assert (nbytes > 0) == (name in wire.STREAMS)


def test_what_a_server_refuses_is_raised_by_its_name(noted):
    line = noted.Noted("here:0", 0, None)
    with pytest.raises(errors.MessageError):
        line.call(wire.HEARTBEAT, 1.0, nonsense=1)


@pytest.mark.parametrize("how", ["gone", "closed"])
def test_a_server_that_is_not_there_is_unavailable(noted, how):
    line = noted.Noted("here:0", 0, None)
    if how == "gone":
        noted.SERVERS.stop("here:0")
    else:
        line.close()
    with pytest.raises(errors.CenterUnavailableError, match="here:0"):
        line.call(wire.STATUS, 1.0)


def test_it_is_called_as_other_lines_are(noted):
    for name in ("call", "stream"):
        found, wanted = (
            list(inspect.signature(getattr(kind, name)).parameters)
            for kind in (noted.Noted, Line)
        )
        assert found == wanted
    line = noted.Noted("here:0", 0, None)
    for name in {*vars(Line), *Line.__annotations__}:
        assert name.startswith("_") or hasattr(line, name)


# The data set.


@pytest.fixture
def stripes(tmp_path, monkeypatch):
    monkeypatch.setattr(registered, "_KNOWN", dict(registered._KNOWN))
    return module_of("Add a data set", tmp_path)


def test_a_model_trains_on_the_data_set(stripes):
    """And the center knows stripes apart that it has not seen."""
    keras.utils.set_random_seed(1)
    data = te.data.load("stripes", num_workers=2, batch_size=32, seed=0)
    strategy = te.strategies.ElasticMirroredStrategy(["CPU:0", "CPU:1"])
    with strategy.scope():
        model = keras.Sequential(
            [
                keras.Input((8, 8, 1)),
                keras.layers.Flatten(),
                keras.layers.Dense(2),
            ]
        )
        model.compile(
            te.optimizers.EAMSGD(
                0.05, momentum=0.5, communication_period=2, jit_compile=False
            ),
            loss=keras.losses.SparseCategoricalCrossentropy(True),
            metrics=["accuracy"],
        )
    history = model.fit(
        data["train"], epochs=2, verbose=0, validation_data=data["test"]
    ).history
    assert history["val_accuracy"][-1] > 0.95
