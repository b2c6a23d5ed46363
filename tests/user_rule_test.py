"""`examples/adam_center.py`: a rule that the package knows nothing of.

On devices and in a cluster it is a transcription in float64 of its own.
"""

import sys

import keras
import numpy as np
import pytest
import tensorflow as tf

from tests import cluster_support as support
from tests import several_optimizers_test as several
from tests import source_tree as tree
from tests.process_support import Processes
from tests.process_support import free
from tf_elastic import strategies
from tf_elastic import user_code
from tf_elastic.optimizers import registry
from tf_elastic.program import method_table

EXAMPLE = tree.ROOT / "examples" / "adam_center.py"
N, STEPS, TAU = 12, 8, 2
ETA, CENTER_RATE = 0.05, 0.02
INITIAL = np.linspace(-1.0, 2.0, N)
_GENERATOR = np.random.default_rng(8)
# For each worker and step, what it is drawn to; and how strongly.
TARGETS = _GENERATOR.normal(size=(2, STEPS, N))
CURVATURE = np.linspace(0.2, 2.0, N)


@pytest.fixture(scope="module")
def example():
    """The file's module; what it registers is forgotten again."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(registry, "_registered", dict(registry._registered))
        user_code.import_files([EXAMPLE])
        yield sys.modules.pop("adam_center")


def test_it_is_among_the_methods(example):
    table = method_table.text()
    assert "\nAdamCenter  (--optimizer=adam_center)\n" in table
    assert "c += eta m / (sqrt(v) + eps)" in table


def transcription():
    """Center, moments and workers after each turn of the workers."""
    center, m, v = INITIAL.copy(), np.zeros(N), np.zeros(N)
    x = [INITIAL.copy() for _ in range(2)]
    read = [point.copy() for point in x]
    updates, rows = 0, []
    for step in range(STEPS):
        for i in range(2):
            x[i] = x[i] - ETA * CURVATURE * (x[i] - TARGETS[i, step])
        for i in range(2):
            if (step + 1) % TAU == 0:
                way = x[i] - read[i]
                updates += 1
                m = 0.9 * m + 0.1 * way
                v = 0.999 * v + 0.001 * way**2
                unbiased_m = m / (1 - 0.9**updates)
                unbiased_v = v / (1 - 0.999**updates)
                # Epsilon is added before the second one is corrected.
                epsilon = 1e-7 / np.sqrt(1 - 0.999**updates)
                center = center + CENTER_RATE * unbiased_m / (
                    np.sqrt(unbiased_v) + epsilon
                )
                x[i], read[i] = center.copy(), center.copy()
        rows.append([center, m, v, *x])
    return np.array(rows)


class Point(keras.layers.Layer):
    """A vector that is drawn to its inputs."""

    def build(self, input_shape):
        self.x = self.add_weight(
            shape=(N,), initializer=lambda shape, dtype: INITIAL
        )

    def call(self, inputs):
        drawn = tf.constant(CURVATURE) * tf.square(self.x - inputs)
        return tf.reduce_sum(drawn, axis=-1, keepdims=True) / 2


def model_of(strategy, example):
    with strategy.scope():
        model = keras.Sequential([keras.Input((N,)), Point()])
        model.compile(
            example.AdamCenter(
                ETA, communication_period=TAU, center_rate=CENTER_RATE
            ),
            loss=lambda y_true, y_pred: tf.reduce_mean(y_pred, axis=-1),
        )
    return model


def assert_close(found, expected):
    np.testing.assert_allclose(found, expected, rtol=1e-10, atol=1e-12)


@pytest.mark.usefixtures("float64")
def test_on_devices(strategy, example):
    model = model_of(strategy(2, "round_robin", closing=False), example)
    zeros = np.zeros((2, 1))
    for step, expected in enumerate(transcription()):
        model.train_on_batch(TARGETS[:, step], zeros)
        [parameter] = model.optimizer._exchange.parameters
        assert set(parameter.parent) == {"m", "v"}
        assert_close(parameter.variable.numpy(), expected[0])
        for name, wanted in (("m", expected[1]), ("v", expected[2])):
            for copy in parameter.parent[name].worker_values():
                assert_close(copy, wanted)
        assert_close(parameter.variable.worker_values(), expected[3:])


@pytest.mark.usefixtures("float64")
def test_in_a_cluster_of_which_a_server_is_killed(tmp_path, example):
    """Two servers in processes of their own, two workers in turn."""
    processes = Processes(tmp_path)
    made = []
    try:
        centers = free(2)

        def serve(k, life):
            return processes.center(
                k,
                centers,
                f"--snapshot_dir={tmp_path / str(k)}",
                "--snapshot_interval_s=0.1",
                f"--rules={EXAMPLE}",
                name=f"ps{k}-{life}",
            )

        servers = [serve(k, 0) for k in range(2)]
        for i in range(2):
            made.append(
                strategies.ElasticMultiWorkerStrategy(
                    several.resolver(centers, i, 2),
                    "blocking",
                    devices=["CPU:0"],
                    timeouts=support.PATIENT,
                    closing=False,
                )
            )
        models = [model_of(strategy, example) for strategy in made]
        for step, expected in enumerate(transcription()):
            for i, model in enumerate(models):
                model.train_on_batch(TARGETS[i : i + 1, step], np.zeros((1, 1)))
            for i, model in enumerate(models):
                weight = model.layers[0].x
                assert_close(weight.value.worker_values()[0], expected[3 + i])
            if step % TAU == TAU - 1:
                version = 2 * (step + 1) // TAU
                support.until(
                    lambda v=version: kept(tmp_path, "center")[0] == v
                )
                names = ("center", "m", "v")
                for name, wanted in zip(names, expected[:3], strict=True):
                    assert_close(kept(tmp_path, name)[1], wanted)
            if step == STEPS // 2 - 1:
                # Each loads TensorFlow, with the file.
                servers[1].kill()
                servers[1].wait(timeout=30)
                serve(1, 1)
                support.until(
                    lambda: all(
                        status and status["version"] == STEPS // TAU
                        for strategy in made
                        for status in strategy.center_status()
                    )
                )
        counts = [strategy.exchange_counts() for strategy in made]
        assert [c.exchanges for c in counts] == [STEPS // TAU] * 2
        assert [c.missed + c.restarts for c in counts] == [0, 0]
    finally:
        for strategy in made:
            strategy.leave()
        processes.close()


def kept(folder, name):
    """(version, what both servers keep by a name), as in their snapshots."""
    versions, parts = set(), []
    for k in range(2):
        state = support.newest_snapshot(folder / str(k))
        if state is None:
            return None, None
        meta = state["shard"]
        versions.add(meta["version"])
        n = len(state) - 1
        place = meta["slots"].index(name) * (n // len(meta["slots"]))
        parts.append(state[f"section.{place}"])
    return versions.pop() if len(versions) == 1 else None, np.concatenate(parts)


@pytest.mark.usefixtures("float64")
def test_a_server_that_does_not_know_the_rule_says_so(example, monkeypatch):
    """As the server's process would, in which nobody has imported it."""
    from tf_elastic.core.rules import base

    known = dict(base._KNOWN)
    config = example.CenterAdam().config()
    monkeypatch.setattr(
        base, "_KNOWN", {k: v for k, v in known.items() if k != "adam_center"}
    )
    with pytest.raises(ValueError, match="'adam_center' is known .*--rules"):
        base.from_config(config)
