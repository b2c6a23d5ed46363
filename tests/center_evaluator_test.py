"""`CenterEvaluator`: servers and a worker's client in this process."""

import json
import threading
import types

import keras
import numpy as np
import pytest
import tensorflow as tf
from tensorboard.backend.event_processing import event_accumulator

import tf_elastic as te
from tests import cluster_support as support
from tf_elastic.cluster.layout import Layout
from tf_elastic.strategies.center_exchange import CenterExchange


class Resolver:
    """What a cluster resolver of TensorFlow knows."""

    task_type = "evaluator"
    task_id = 0

    def __init__(self, centers):
        self._cluster = {"worker": ["worker-0:1"], "ps": centers}

    def cluster_spec(self):
        return types.SimpleNamespace(as_dict=lambda: self._cluster)


def make_model(strategy, run_eagerly):
    with strategy.scope():
        model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
        model.compile(
            te.optimizers.EASGD(0.1, jit_compile=False),
            loss="mse",
            metrics=["mae"],
            run_eagerly=run_eagerly,
        )
        model.optimizer.build(model.trainable_variables)
    return model


@pytest.fixture
def layout(monkeypatch):
    """The layout that an evaluator's model has."""
    made = []
    init = CenterExchange.__init__

    def watched(self, *args, **kwargs):
        init(self, *args, **kwargs)
        made.append(self.layout)

    monkeypatch.setattr(CenterExchange, "__init__", watched)
    return lambda: made[-1]


class Stage:
    """Center servers, an evaluator's model, and a worker's client."""

    def __init__(self, layout, run_eagerly=True):
        self.cluster = support.Cluster(num_shards=2)
        self.strategy = te.strategies.ElasticMultiWorkerStrategy(
            Resolver(self.cluster.centers),
            devices=["CPU:0"],
            timeouts=support.PATIENT,
        )
        self.model = make_model(self.strategy, run_eagerly)
        self.layout: Layout = layout()
        self.sequence = 0

    def worker(self, weight):
        """A worker that joins, the chief: the center begins with `weight`."""
        client = self.cluster.client(0, 1)
        client.join(self.layout, self.values(weight))
        return client

    def values(self, weight):
        """The sections of a model y = weight x."""
        flat = self.layout.zeros()
        flat[0][...] = weight  # kernel and bias: inputs sum to zero
        return flat

    def push(self, client, weight):
        """The center is `weight` afterwards: beta = 1, p = 1."""
        client.clock += 1
        client.read_and_push(self.values(weight), support.fixed_rates(0.0, 1.0))

    def close(self):
        self.strategy.extended.stop(finished=True)
        self.cluster.close()


@pytest.fixture
def stage(layout):
    """A model that runs eagerly: tracing it takes longer than all else."""
    made = Stage(layout)
    yield made
    made.close()


@pytest.fixture
def traced(layout):
    made = Stage(layout, run_eagerly=False)
    yield made
    made.close()


def data():
    """y = 2 x + 2: the loss of weight w is 2 (w - 2)^2, w as bias too."""
    x = np.array([[-1.0], [1.0]], "float32")
    return tf.data.Dataset.from_tensors((x, 2 * x + 2))


def loss_of(weight):
    return 2 * (weight - 2.0) ** 2


def evaluator(stage, **kwargs):
    kwargs.setdefault("poll_s", 0.1)
    kwargs.setdefault("patience_s", 60.0)
    return te.monitor.CenterEvaluator(stage.model, data(), **kwargs)


def test_versions_best_and_tensorboard_until_all_are_done(traced, tmp_path):
    client = traced.worker(0.0)
    best, logs = tmp_path / "new" / "best.keras", tmp_path / "tb"
    seen = []
    made = evaluator(traced, best_path=best, log_dir=logs)
    weights = [0.0, 1.5, 5.0]  # of versions 0, 1 and 2
    for found in made.evaluations():
        seen.append(found)
        if len(seen) < len(weights):
            traced.push(client, weights[len(seen)])
        else:
            client.leave(finished=True)
    assert [found.version for found in seen] == [0, 1, 2]
    assert [found.is_best for found in seen] == [True, True, False]
    np.testing.assert_allclose(
        [found.values["loss"] for found in seen],
        [loss_of(weight) for weight in weights],
        rtol=1e-5,
    )
    assert made.best == seen[1].values["loss"]

    model = keras.models.load_model(best)
    np.testing.assert_allclose(model.get_weights()[0], [[1.5]], rtol=1e-6)
    noted = json.loads(best.with_name("best.json").read_text())
    assert noted == {"version": 1, "values": seen[1].values}
    assert sorted(p.name for p in best.parent.iterdir()) == [
        "best.json",
        "best.keras",
    ]

    events = event_accumulator.EventAccumulator(str(logs))
    events.Reload()
    tags = set(events.Tags()["tensors"])
    assert tags == {"evaluator/loss", "evaluator/mae"}
    points = events.Tensors("evaluator/loss")
    assert [point.step for point in points] == [0, 1, 2]


def test_what_is_saved_is_what_was_measured(traced, tmp_path, monkeypatch):
    client = traced.worker(1.5)
    evaluate = traced.model.evaluate

    def slow(*args, **kwargs):
        result = evaluate(*args, **kwargs)
        # The workers go on meanwhile, for the worse; and it takes longer
        # than what counts as one look.
        traced.push(client, 9.0)
        traced.strategy.extended.sessions[0]._last_look = 0.0
        return result

    monkeypatch.setattr(traced.model, "evaluate", slow)
    best = tmp_path / "best.keras"
    first = next(evaluator(traced, best_path=best).evaluations())
    assert first.values["loss"] == pytest.approx(loss_of(1.5), rel=1e-5)
    model = keras.models.load_model(best)
    np.testing.assert_allclose(model.get_weights()[0], [[1.5]], rtol=1e-6)


def test_the_best_of_an_earlier_run_stays(stage, tmp_path):
    best = tmp_path / "best.keras"
    client = stage.worker(1.5)
    next(evaluator(stage, best_path=best).evaluations())
    before = best.read_bytes()
    stage.push(client, 0.0)
    again = evaluator(stage, best_path=best)
    assert again.best == pytest.approx(loss_of(1.5), rel=1e-5)
    assert not next(again.evaluations()).is_best
    assert best.read_bytes() == before

    best.with_name("best.json").write_text("{")
    assert evaluator(stage, best_path=best).best is None


def test_it_waits_for_the_first_parameters(stage):
    thread = threading.Timer(0.3, lambda: stage.worker(1.0))
    thread.start()
    try:
        first = next(evaluator(stage).evaluations())
    finally:
        thread.join()
    assert first.values["loss"] == pytest.approx(loss_of(1.0), rel=1e-5)


def test_it_waits_for_every_center_server(stage):
    stage.worker(1.5)
    found = evaluator(stage).evaluations()
    assert next(found).version == 0
    stage.cluster.servers[1].stop(0.0)
    # Only half of it could be read.
    stage.cluster.shards[0].state.version += 1

    thread = threading.Timer(0.5, lambda: stage.cluster.serve(1))
    thread.start()
    try:
        second = next(found)
    finally:
        thread.join()
    assert second.version >= 1
    assert second.values["loss"] == pytest.approx(loss_of(1.5), rel=1e-5)


def test_stopped_it_looks_once_more(stage):
    client = stage.worker(0.0)
    made = evaluator(stage)
    found = made.evaluations()
    next(found)
    stage.push(client, 1.5)
    made.stop()
    last = next(found)
    assert last.values["loss"] == pytest.approx(loss_of(1.5), rel=1e-5)
    stage.push(client, 1.0)
    assert list(found) == []


def test_workers_of_the_run_before_do_not_end_it(stage):
    client = stage.worker(1.5)
    client.leave(finished=True)
    found = evaluator(stage).evaluations()
    assert next(found).version == 0
    thread = threading.Timer(0.2, lambda: stage.push(stage.worker(0.0), 1.0))
    thread.start()
    try:
        second = next(found)  # Not the end.
    finally:
        thread.join()
    assert second.values["loss"] == pytest.approx(loss_of(1.0), rel=1e-5)


def test_its_patience_ends_where_nobody_comes(stage):
    assert evaluator(stage, patience_s=0.05).run() == []


def test_the_best_accuracy_is_the_largest(stage):
    assert evaluator(stage, monitor="accuracy").mode == "max"
    assert evaluator(stage, monitor="loss").mode == "min"
    assert evaluator(stage, monitor="mae", mode="max").mode == "max"


def test_what_is_not_finite_is_never_the_best(stage, monkeypatch):
    stage.worker(0.0)
    made = evaluator(stage)
    monkeypatch.setattr(
        stage.model, "evaluate", lambda *_, **__: {"loss": float("nan")}
    )
    assert not next(made.evaluations()).is_best
    assert made.best is None


def test_what_is_refused(stage, strategy):
    with pytest.raises(ValueError, match="`mode` must be"):
        evaluator(stage, mode="least")
    stage.worker(0.0)
    with pytest.raises(ValueError, match="Received: monitor='speed'"):
        evaluator(stage, monitor="speed").run()
    with strategy(1).scope():
        model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
        model.compile("sgd", "mse")
    with pytest.raises(ValueError, match="has no center elsewhere"):
        te.monitor.CenterEvaluator(model, data())


def test_an_evaluator_trains_nothing(stage):
    stage.worker(0.0)
    with pytest.raises(RuntimeError, match="trains nothing"):
        stage.model.fit(data(), verbose=0)
