"""`MomentumController`: what it measures, what it sets, what it refuses."""

import types

import keras
import numpy as np
import pytest
import tensorflow as tf
from tensorboard.backend.event_processing import event_accumulator

import tf_elastic as te
from tests import cluster_support
from tests.elastic_multi_worker_test import does_not_wait
from tf_elastic.callbacks import MomentumController
from tf_elastic.core import momentum_control

N = 8
CURVATURE = np.linspace(0.1, 1.0, N)
CONSTANT = 12.5  # the default


class Quadratic(keras.Model):
    """Its output is the loss: w' H w / 2, less the sample times w."""

    def build(self, input_shape):
        self.w = self.add_weight(shape=(N,), initializer="ones", name="w")

    def call(self, inputs):
        w = tf.convert_to_tensor(self.w)
        curvature = tf.constant(CURVATURE, w.dtype)
        return tf.reduce_sum(curvature * w * w) / 2 - tf.linalg.matvec(
            inputs, w
        )


class Log(keras.callbacks.Callback):
    """What callbacks after the controller see of its batches."""

    def __init__(self):
        super().__init__()
        self.seen = []

    def on_train_batch_end(self, batch, logs=None):
        self.seen.append(
            {
                name: logs[name]
                for name in ("momentum", "staleness", "total_momentum")
                if name in logs
            }
        )


def build(strategy, make_optimizer, **kwargs):
    with strategy.scope():
        model = Quadratic()
        model.build((None, N))
        model.compile(make_optimizer(), loss=lambda _, output: output, **kwargs)
    return model


def fit(model, callbacks, samples, epochs=1):
    """Each of the p workers gets a row of `samples`, (steps, p, N)."""
    x = np.reshape(samples, (-1, N)).astype(keras.config.floatx())
    return model.fit(
        x,
        np.zeros(len(x)),
        batch_size=np.shape(samples)[1],
        epochs=epochs,
        shuffle=False,
        verbose=0,
        callbacks=callbacks,
    ).history


def distance(model):
    return float(np.linalg.norm(model.get_weights()[0]))


def noise(steps, p, size=0.3):
    return size * np.random.default_rng(4).normal(size=(steps, p, N))


def async_msgd(rate, momentum=0.5, **options):
    options |= {"momentum": momentum, "jit_compile": False}
    return lambda: te.optimizers.AsyncMSGD(rate, **options)


def mdownpour(rate, momentum, **options):
    options |= {"momentum": momentum, "jit_compile": False}
    return lambda: te.optimizers.MDownpour(rate, **options)


# By the staleness.


def test_eight_workers_converge_with_it_and_diverge_without(strategy):
    rate, steps = 0.05, 60
    exact = np.zeros((steps, 8, N))
    model = build(strategy(8, None), async_msgd(rate, 0.9))
    history = fit(model, [MomentumController()], exact)
    assert distance(model) < 0.05
    expected = 1 - np.sqrt(7 * np.sqrt(rate) / CONSTANT)
    assert history["momentum"] == pytest.approx([expected], rel=1e-6)
    assert history["staleness"] == [7.0]
    assert "total_momentum" not in history

    model.set_weights([np.ones(N)])
    model.optimizer.momentum = 0.9
    fit(model, [], exact)
    assert distance(model) > 1e6


@pytest.mark.filterwarnings("ignore:Trace already exists")
def test_it_acts_once_per_call_and_follows_the_rate(strategy, tmp_path):
    """With a scaled loss, several steps in a call, and a rate that falls."""
    schedule = keras.optimizers.schedules.PiecewiseConstantDecay(
        [7, 15], [0.09, 0.04, 0.01]
    )
    model = build(
        strategy(2, None),
        lambda: keras.optimizers.LossScaleOptimizer(
            te.optimizers.MDownpour(schedule, momentum=0.2, jit_compile=False),
            initial_scale=2.0,
        ),
        steps_per_execution=4,
    )
    log = Log()
    controller = MomentumController(constant=2.0, update_freq=6)
    monitor = te.callbacks.ElasticMonitor(log_dir=tmp_path, update_freq=4)
    history = fit(model, [controller, log, monitor], noise(24, 2))

    def admissible(rate):
        return 1 - np.sqrt(1 * np.sqrt(rate) / 2.0)

    # Calls end after steps 4, 8, ..., 24; multiples of 6 were passed in those
    # that ended at 8, 12, 20 and 24. The rate is that of the step to come.
    expected = [
        admissible(rate) for rate in (0.09, 0.04, 0.04, 0.04, 0.01, 0.01)
    ]
    found = [batch["momentum"] for batch in log.seen]
    assert found == pytest.approx(expected, rel=1e-6)
    assert [batch["staleness"] for batch in log.seen] == [1.0] * 6
    assert history["momentum"] == pytest.approx(expected[-1:], rel=1e-6)

    events = event_accumulator.EventAccumulator(
        str(tmp_path), size_guidance={event_accumulator.TENSORS: 0}
    )
    events.Reload()
    written = [
        float(tf.make_ndarray(event.tensor_proto))
        for event in events.Tensors("worker/momentum")
    ]
    assert written[:6] == pytest.approx(expected, rel=1e-6)


def test_an_adjusted_rate_is_the_one_that_counts(strategy):
    """u_k = 1 / sqrt(k), and each rate over the staleness."""
    model = build(
        strategy(3, None),
        async_msgd(
            0.2,
            0.1,
            adjustment="inverse_sqrt",
            staleness_scaling=True,
        ),
    )
    log = Log()
    controller = MomentumController(constant=1.0, update_freq=3)
    fit(model, [controller, log], noise(6, 3))
    # After 3 and 6 steps of 3 workers the next updates are the 10th, the 19th.
    found = [log.seen[k]["momentum"] for k in (1, 2, 5)]
    expected = [
        1 - np.sqrt(2 * np.sqrt(0.2 / 2 / np.sqrt(update)))
        for update in (1, 10, 19)
    ]
    assert found == pytest.approx(expected, rel=1e-6)


@pytest.fixture
def cluster_workers():
    """`make(count)`: strategies that are workers of one center server."""
    servers = cluster_support.Cluster(1)
    made = []

    def make(count, protocol=None):
        for i in range(count):
            resolver = types.SimpleNamespace(
                cluster_spec=lambda: tf.train.ClusterSpec(
                    {
                        "worker": [f"w{k}.invalid:1" for k in range(count)],
                        "ps": servers.centers,
                    }
                ),
                task_type="worker",
                task_id=i,
            )
            made.append(
                te.strategies.ElasticMultiWorkerStrategy(
                    resolver,
                    protocol,
                    devices=["CPU:0"],
                    timeouts=cluster_support.PATIENT,
                )
            )
        return made

    yield make
    for one in made:
        one.leave()
    servers.close()


class Others(keras.callbacks.Callback):
    """Another worker takes its steps after each of this one."""

    def __init__(self, model, steps):
        super().__init__()
        self.other, self.steps = model, steps

    def on_train_batch_end(self, batch, logs=None):
        does_not_wait(self.model.distribute_strategy)
        x, y = np.zeros((1, N), keras.config.floatx()), np.zeros(1)
        for _ in range(self.steps):
            self.other.train_on_batch(x, y)


def test_a_cluster_measures_the_staleness_of_all_pushes(cluster_workers):
    """Of two workers one is three times as fast."""
    slow, fast = (
        build(one, async_msgd(0.01, 0.9)) for one in cluster_workers(2)
    )
    log = Log()
    controller = MomentumController(constant=1.0, update_freq=3)
    callbacks = [Others(fast, 3), controller, log]
    history = fit(slow, callbacks, np.zeros((7, 1, N)))

    # At each step 3 of this worker and 1, 0, 0 of the other; at the first one
    # nothing is late, for the other joins after it.
    status = cluster_workers(0)[0].center_status()[0]["staleness"]
    versions = [entry[2] for entry in status]
    looks = [versions[:12], versions[12:24]]
    assert [np.mean(look) for look in looks] == [8 / 12, 12 / 12]
    expected = [1 - np.sqrt(np.mean(look) * 0.1) for look in looks]
    found = [batch["momentum"] for batch in log.seen]
    assert found == pytest.approx(
        [0.9] * 2 + expected[:1] * 3 + expected[1:] * 2, rel=1e-6
    )
    assert "staleness" not in log.seen[1]
    assert history["staleness"] == [1.0]
    # It is what the center took the next pushes with.
    np.testing.assert_allclose(
        float(slow.optimizer.momentum), expected[1], rtol=1e-6
    )

    # Nothing new was pushed: nothing is changed.
    controller._act()
    assert float(slow.optimizer.momentum) == pytest.approx(expected[1])


# By the total momentum.


@pytest.mark.parametrize(
    ("make", "kwargs"),
    [(async_msgd, {}), (mdownpour, {"gradient_accumulation_steps": 2})],
)
def test_without_staleness_the_total_is_the_momentum(strategy, make, kwargs):
    model = build(strategy(1, None), make(0.05, 0.7, **kwargs))
    controller = MomentumController(
        "closed_loop", target=0.7, max_momentum=0.8, update_freq=4
    )
    log = Log()
    fit(model, [controller, log], noise(16, 1))
    found = [
        batch["total_momentum"]
        for batch in log.seen
        if "total_momentum" in batch
    ]
    assert len(found) >= 8
    assert found == pytest.approx([0.7] * len(found), abs=0.01)


def transcribed(nesterov, samples, rate, momentum, measured_at):
    """A round robin by hand, and the total momentum of its last cycles.

    Returns:
        The median of the ratios of the updates out of the points that the
        workers got in step `measured_at` - 1, counted from 1.
    """
    steps, p, _ = samples.shape
    x = np.ones((p, N))
    center, velocity = np.ones(N), np.zeros(N)
    path, fresh = [center], {}
    for t in range(steps):
        grads = [CURVATURE * x[i] - samples[t, i] for i in range(p)]
        for i in range(p):
            if t:  # taken at the center that this worker was given
                fresh[(t - 1) * p + i + 1] = grads[i]
            velocity = momentum * velocity - rate * grads[i]
            center = center + velocity
            path.append(center)
            x[i] = center + momentum * velocity if nesterov else center
    first = (measured_at - 2) * p + 1
    return np.median(
        [
            (path[j + 1] - path[j] + rate * fresh[j]) / (path[j] - path[j - 1])
            for j in range(first, first + p)
        ]
    )


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("make", [async_msgd, mdownpour])
def test_what_is_measured_equals_a_transcription(strategy, make):
    samples = noise(9, 3)
    model = build(strategy(3, None), make(0.05, 0.5))
    controller = MomentumController(
        "closed_loop", target=0.6, gain=0.1, update_freq=9
    )
    log = Log()
    fit(model, [controller, log], samples)
    expected = transcribed(make is mdownpour, samples, 0.05, 0.5, 9)
    assert "total_momentum" not in log.seen[-2]
    assert log.seen[-2]["momentum"] == 0.5
    found = log.seen[-1]["total_momentum"]
    assert found == pytest.approx(expected, rel=1e-9)
    assert log.seen[-1]["momentum"] == pytest.approx(
        0.5 + 0.1 * (0.6 - expected), rel=1e-9
    )


def test_the_loop_brings_the_total_to_its_target(strategy):
    model = build(strategy(4, None), async_msgd(0.05, 0.6))
    controller = MomentumController(
        "closed_loop", target=0.6, gain=0.3, update_freq=3
    )
    log = Log()
    fit(model, [controller, log], np.zeros((60, 4, N)))
    assert log.seen[2]["total_momentum"] > 0.63
    last = log.seen[-1]
    assert last["total_momentum"] == pytest.approx(0.6, abs=0.02)
    assert 0.4 < last["momentum"] < 0.57


class ControlledOthers(keras.callbacks.Callback):
    """Other workers, each with a controller, in turn after this one."""

    def __init__(self, models, make_controller):
        super().__init__()
        self.others = [(one, make_controller()) for one in models]
        self.seen = []  # what each has logged after its last step

    def on_train_begin(self, logs=None):
        for one, controller in self.others:
            controller.set_model(one)
            controller.on_train_begin()

    def on_train_batch_end(self, batch, logs=None):
        does_not_wait(self.model.distribute_strategy)
        x, y = np.zeros((1, N), keras.config.floatx()), np.zeros(1)
        self.seen = []
        for one, controller in self.others:
            one.train_on_batch(x, y)
            self.seen.append({})
            controller.on_train_batch_end(batch, self.seen[-1])


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize(
    "make", [async_msgd, pytest.param(mdownpour, marks=pytest.mark.full)]
)
def test_the_loop_brings_a_cluster_to_its_target(cluster_workers, make):
    """Four workers that begin with different momenta, in turn."""
    first, *others = (
        build(one, make(0.05, momentum))
        for one, momentum in zip(
            cluster_workers(4), (0.6, 0.7, 0.5, 0.6), strict=True
        )
    )

    def controller():
        return MomentumController(
            "closed_loop", target=0.6, gain=0.3, update_freq=3
        )

    log = Log()
    of_others = ControlledOthers(others, controller)
    callbacks = [of_others, controller(), log]
    history = fit(first, callbacks, np.zeros((60, 1, N)))
    found = [b["total_momentum"] for b in log.seen if "total_momentum" in b]
    assert found[0] > 0.63
    assert history["total_momentum"] == pytest.approx([0.6], abs=0.02)
    momenta = [b["momentum"] for b in (log.seen[-1], *of_others.seen)]
    assert 0.4 < min(momenta) and max(momenta) < 0.57
    assert max(momenta) - min(momenta) < 0.01


def test_each_acts_on_what_its_last_look_has_not_seen(cluster_workers):
    """One step of the loop, from what the server says."""
    slow, fast = (
        build(one, async_msgd(0.05, momentum))
        for one, momentum in zip(cluster_workers(2), (0.5, 0.2), strict=True)
    )
    log = Log()
    controller = MomentumController(
        "closed_loop", target=0.6, gain=0.25, update_freq=4
    )
    fit(slow, [Others(fast, 2), controller, log], np.zeros((9, 1, N)))
    status = cluster_workers(0)[0].center_status()[0]
    readings = np.array(status["total_momentum"])
    # At each step 1 push of this worker and 2 of the other; the first one was
    # of the first center, and shows nothing.
    expected, momentum = [], 0.5
    for look in (readings[:11], readings[11:23]):
        total, own = look[:, 3], look[:, 2]
        assert sorted(set(own)) == pytest.approx([0.2, momentum], abs=1e-6)
        momentum += 0.25 * (0.6 - momentum - np.median(total - own))
        expected.append((np.median(total), momentum))
    for k, (total, momentum) in zip((3, 7), expected, strict=True):
        assert log.seen[k]["total_momentum"] == pytest.approx(total)
        assert log.seen[k]["momentum"] == pytest.approx(momentum, rel=1e-6)
    assert "total_momentum" not in log.seen[2]
    assert log.seen[6]["momentum"] == log.seen[3]["momentum"]

    # Nothing new but the last push: the next look sees that alone.
    before = float(slow.optimizer.momentum)
    controller._act()
    assert float(slow.optimizer.momentum) != before
    after = float(slow.optimizer.momentum)
    controller._act()
    assert float(slow.optimizer.momentum) == after


def test_a_fit_on_a_cluster_logs_it(cluster_workers):
    """Calls of several steps, exchanges that overlap, real layers."""
    rng = np.random.default_rng(7)
    x = rng.normal(size=(32, 12)).astype("float32")
    y = x @ rng.normal(size=(12, 1)).astype("float32")
    # Each step on all of the data: what is left is what the delay does.
    x, y = np.tile(x, (24, 1)), np.tile(y, (24, 1))
    with cluster_workers(1, "overlapped")[0].scope():
        model = keras.Sequential(
            [
                keras.Input((12,)),
                keras.layers.Dense(16, "relu"),
                keras.layers.BatchNormalization(),
                keras.layers.Dense(1),
            ]
        )
        model.compile(
            async_msgd(0.02, 0.6)(), loss="mse", steps_per_execution=4
        )
    controller = MomentumController(
        "closed_loop", target=0.5, update_freq=4, gain=0.2
    )
    log = Log()
    history = model.fit(
        x,
        y,
        batch_size=32,
        epochs=3,
        shuffle=False,
        verbose=0,
        callbacks=[controller, log],
    ).history
    assert len(history["total_momentum"]) == 3
    assert np.all(np.isfinite(history["total_momentum"]))
    # Its gradients are a push of its own old.
    assert log.seen[0]["total_momentum"] > 0.6
    assert history["momentum"][-1] < 0.55
    assert history["total_momentum"][-1] == pytest.approx(0.5, abs=0.1)
    assert history["loss"][-1] < history["loss"][0]


# Around it.


def test_training_goes_on_from_a_file(strategy, tmp_path):
    rng = np.random.default_rng(5)
    x = rng.normal(size=(24, 3)).astype("float32")
    y = (x @ [[1.0], [-2.0], [0.5]]).astype("float32")

    def train(model, epochs):
        controller = MomentumController(
            "closed_loop", target=0.5, gain=0.5, update_freq=3
        )
        return model.fit(
            x,
            y,
            batch_size=4,
            epochs=epochs,
            shuffle=False,
            verbose=0,
            callbacks=[controller],
        ).history["momentum"]

    def begin():
        keras.utils.set_random_seed(6)
        with strategy(2, None).scope():
            model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1)])
            model.compile(async_msgd(0.05, 0.5)(), loss="mse")
        return model

    whole = begin()
    at_once = train(whole, 2)
    half = begin()
    in_two = train(half, 1)
    half.save(tmp_path / "half.keras")
    with strategy(2, None).scope():
        loaded = keras.models.load_model(tmp_path / "half.keras")
    assert float(loaded.optimizer.momentum) == in_two[0] != 0.5
    in_two += train(loaded, 1)
    assert at_once == in_two and at_once[0] != at_once[1]
    for one, other in zip(
        whole.get_weights(), loaded.get_weights(), strict=True
    ):
        np.testing.assert_array_equal(one, other)


def test_what_it_cannot_control_is_refused(strategy):
    one_step = np.zeros((1, 2, N))
    elastic = build(
        strategy(2), lambda: te.optimizers.EAMSGD(0.1, jit_compile=False)
    )
    with pytest.raises(ValueError, match="momentum of the center, and EAMSGD"):
        fit(elastic, [MomentumController()], one_step)

    alone = build(tf.distribute.get_strategy(), async_msgd(0.1))
    with pytest.raises(ValueError, match="strategy that measures"):
        fit(alone, [MomentumController()], one_step)

    several = build(strategy(2, None), async_msgd(0.1), steps_per_execution=2)
    with pytest.raises(ValueError, match="Received: mode='closed_loop', step"):
        fit(several, [MomentumController("closed_loop")], one_step)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"mode": "open"}, "Received: mode='open'"),
        ({"constant": 0}, "`constant` must be positive"),
        ({"constant": float("inf")}, "`constant` must be positive"),
        ({"target": 1.0}, r"`target` must be in \[0, 1\)"),
        ({"gain": 0.0}, r"`gain` must be in \(0, 1\]"),
        ({"max_momentum": -0.1}, "`max_momentum` must be in"),
        ({"max_momentum": True}, "Received: max_momentum=True"),
        ({"update_freq": 0}, "`update_freq` must be an integer >= 1"),
        ({"update_freq": 2.5}, "Received: update_freq=2.5"),
    ],
)
def test_wrong_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        MomentumController(**arguments)


def test_the_defaults_are_those_of_the_papers_figure_2():
    """Eight workers at a rate of 0.2: a momentum of 0.5."""
    assert momentum_control.admissible_momentum(
        7, 0.2, MomentumController().constant
    ) == pytest.approx(0.5, abs=0.001)
