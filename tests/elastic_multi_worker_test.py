"""`ElasticMultiWorkerStrategy` under stock `fit`, with real center servers.

All workers here are in this process, over loopback; those of
`worker_processes_test.py` have processes of their own.
"""

import types

import keras
import numpy as np
import pytest
import tensorflow as tf

from tests import cluster_support as support
from tests import elastic_multi_worker_job as job
from tests import reference
from tests.reference import overlapped
from tf_elastic import compat
from tf_elastic import optimizers
from tf_elastic import strategies
from tf_elastic.callbacks import SharedEpochs
from tf_elastic.cluster.launch.configuration import ClusterConfigurationError

METHODS = ["easgd", "nesterov", "heavy_ball"]


@pytest.fixture
def cluster():
    """`cluster(num_shards)`: center servers of this process."""
    made = []

    def make(*args, **kwargs):
        made.append(support.Cluster(*args, **kwargs))
        return made[-1]

    yield make
    for one in made:
        one.close()


@pytest.fixture
def worker(cluster):
    """`worker(servers, index)`: a strategy that is one worker of theirs."""
    made = []

    def make(
        servers=None,
        index=0,
        workers=1,
        protocol="blocking",
        job="worker",
        devices=("CPU:0",),
        timeouts=support.PATIENT,
        **kwargs,
    ):
        resolver = types.SimpleNamespace(
            cluster_spec=lambda: tf.train.ClusterSpec(
                {
                    "worker": [f"w{i}.invalid:1" for i in range(workers)],
                    "ps": (servers or cluster()).centers,
                }
            ),
            task_type=job,
            task_id=index,
        )
        made.append(
            strategies.ElasticMultiWorkerStrategy(
                resolver,
                protocol,
                devices=devices,
                timeouts=timeouts,
                **kwargs,
            )
        )
        return made[-1]

    yield make
    for strategy in made:
        strategy.leave()


def does_not_wait(strategy):
    """Nobody finishes whom the chief could wait for at the end of `fit`."""
    strategy.extended.client.wait_for_others = lambda seconds: []


def flat_center(servers, strategy):
    """The servers' own arrays, by variable, read from their memory."""
    layout = strategy.extended.sessions[0].exchange.layout
    flat = layout.zeros()
    for shard in servers.shards:
        for part, array in zip(
            layout.parts(flat, shard.index), shard.arrays, strict=True
        ):
            part[...] = array
    return strategy.extended.sessions[0].exchange._cut(flat)


def parameters(servers):
    """What the servers hold of the first section, the parameters."""
    return np.concatenate([shard.arrays[0] for shard in servers.shards])


# Exactly the papers' methods, one worker.


class Record(keras.callbacks.Callback):
    """The worker's x and the center, before the first and after each step."""

    def __init__(self, servers):
        super().__init__()
        self.servers = servers
        self.workers, self.center = [], []

    def note(self):
        strategy = self.model.distribute_strategy
        job.served(strategy)
        self.workers.append(job.point(self.model))
        self.center.append(np.concatenate(flat_center(self.servers, strategy)))

    def on_train_begin(self, logs=None):
        self.note()

    def on_train_batch_end(self, batch, logs=None):
        self.note()


def expected_run(method, protocol, tau, schedule, p, **kwargs):
    """The reference of a method and a protocol, float64."""
    settings = {
        "num_workers": p,
        "communication_period": tau,
        "learning_rate": job.LEARNING_RATE,
        "moving_rate": job.BETA / p,
        "beta": job.BETA,
    }
    if method != "easgd":
        settings["momentum"] = job.MOMENTUM
    if protocol == "synchronous":
        run = {
            "easgd": reference.easgd_synchronous,
            "nesterov": reference.eamsgd_synchronous,
            "heavy_ball": reference.heavy_ball_synchronous,
        }[method]
        steps = len(schedule) // p
        return run(job.gradient, job.INITIAL, num_steps=steps, **settings)
    if protocol == "overlapped":
        run = overlapped.overlapped_at_the_end
        settings["nesterov"] = method != "heavy_ball"
    else:
        run = {
            "easgd": reference.easgd_asynchronous,
            "nesterov": reference.eamsgd_asynchronous,
            "heavy_ball": overlapped.heavy_ball_asynchronous,
        }[method]
    return run(job.gradient, job.INITIAL, schedule=schedule, **settings)


def assert_close(found, expected):
    assert np.shape(found) == np.shape(expected)
    error = np.max(np.abs(found - expected)) / np.max(np.abs(expected))
    assert error < 1e-10


# The rest of the cross products below; the conformance tables have both.
EACH_PROTOCOL = [
    pytest.param("blocking", marks=pytest.mark.full),
    "overlapped",
]

# One worker with the default beta: what is warned of is compared, not trained.
SWINGS = pytest.mark.filterwarnings(
    "ignore:.*makes the center swing:tf_elastic.theory.StabilityWarning"
)


@SWINGS
@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize(
    "protocol",
    [
        "blocking",
        pytest.param("synchronous", marks=pytest.mark.full),
        "overlapped",
    ],
)
@pytest.mark.parametrize(
    ("method", "tau"),
    [
        ("nesterov", 4),
        pytest.param("easgd", 4, marks=pytest.mark.full),
        pytest.param("heavy_ball", 4, marks=pytest.mark.full),
        pytest.param("nesterov", 1, marks=pytest.mark.full),
    ],
)
def test_fit_of_one_worker_equals_the_pseudo_code(
    cluster, worker, method, protocol, tau
):
    """`worker_processes_test.py` has the other methods at every step."""
    servers = cluster(2)
    strategy = worker(servers, protocol=protocol)
    model = job.build(strategy, job.optimizer_of(method, tau))
    record = Record(servers)
    steps = job.STEPS
    model.fit(
        job.NOISE[0],
        np.zeros(steps),
        batch_size=1,
        shuffle=False,
        verbose=0,
        callbacks=[record],
    )
    expected = expected_run(method, protocol, tau, [0] * steps, 1)
    assert_close(np.stack(record.workers), expected["workers"][:, 0])
    assert_close(np.stack(record.center), expected["center"])


@pytest.mark.parametrize("method", ["easgd", "nesterov"])
def test_both_references_of_the_overlapped_protocol_agree_for_one(method):
    """A period's end is where its last step ends, or the next one begins."""
    momentum = {} if method == "easgd" else {"momentum": job.MOMENTUM}
    settings = {
        "schedule": [0] * job.STEPS,
        "num_workers": 1,
        "communication_period": 4,
        "learning_rate": job.LEARNING_RATE,
        "moving_rate": job.BETA,
        **momentum,
    }
    run = (job.gradient, job.INITIAL)
    early = overlapped.overlapped_at_the_end(*run, **settings)
    late = reference.easgd_overlapped(*run, **settings)
    inside = [k for k in range(job.STEPS + 1) if k % 4]
    for what in ("workers", "center"):
        np.testing.assert_array_equal(early[what][inside], late[what][inside])


@SWINGS
@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("protocol", EACH_PROTOCOL)
def test_several_steps_per_execution_end_the_same(cluster, worker, protocol):
    """5 is no multiple of the period."""
    servers = cluster()
    strategy = worker(servers, protocol=protocol)
    model = job.build(
        strategy, job.optimizer_of("nesterov", 4), steps_per_execution=5
    )
    record = Record(servers)
    model.fit(
        job.NOISE[0],
        np.zeros(job.STEPS),
        batch_size=1,
        shuffle=False,
        verbose=0,
        callbacks=[keras.callbacks.LambdaCallback()],
    )
    record.set_model(model)
    record.note()
    expected = expected_run("nesterov", protocol, 4, [0] * job.STEPS, 1)
    if protocol == "overlapped":
        # With nobody between the steps, the center may serve a period's
        # parameters a little later; for one worker that changes nothing.
        assert servers.shards[0].version == job.STEPS // 4
    # At the end of `fit` what is under way is waited for, or there is one
    # exchange more: alpha = beta for one worker.
    x, c = expected["workers"][-1, 0], expected["center"][-1]
    if protocol == "overlapped":
        x = x - (c - expected["center"][-2])
    else:
        x, c = x - job.BETA * (x - c), c + job.BETA * (x - c)
    assert_close(record.workers[0], x)
    assert_close(record.center[0], c)


# Under stock `fit`, overlapped. Every optimizer in every way of being used is
# in `conformance_cluster_test.py`.

X = np.random.default_rng(3).normal(size=(96, 6)).astype("float32")
Y = (X @ np.random.default_rng(4).normal(size=(6, 3))).argmax(axis=1)


def dataset(batch_size=12):
    # Without tf.data's tuner, which makes the end of an epoch hang at times.
    options = tf.data.Options()
    options.autotune.enabled = False
    rows = tf.data.Dataset.from_tensor_slices((X, Y)).batch(batch_size)
    return rows.with_options(options)


def network(noisy=False):
    layers = [keras.Input((6,)), keras.layers.Dense(8, activation="tanh")]
    if noisy:
        layers += [
            keras.layers.BatchNormalization(momentum=0.5),
            keras.layers.Dropout(0.2),
        ]
    return keras.Sequential([*layers, keras.layers.Dense(3)])


def easgd(**kwargs):
    return optimizers.EASGD(
        0.05, communication_period=2, jit_compile=False, **kwargs
    )


def compiled(strategy, optimizer=None, noisy=False, **kwargs):
    keras.utils.set_random_seed(1)
    with strategy.scope():
        model = network(noisy)
        model.compile(
            (optimizer or easgd)(),
            loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
            **kwargs,
        )
    return model


def fit(model, epochs=2, batch_size=12, **kwargs):
    model.fit(
        dataset(batch_size), epochs=epochs, shuffle=False, verbose=0, **kwargs
    )
    job.served(model.distribute_strategy)
    return model


def center_values(servers, model):
    """The servers' parameters, in the order of the trainable variables."""
    flat = flat_center(servers, model.distribute_strategy)
    return flat[: len(model.trainable_variables)]


OPTIMIZERS = {
    "eamsgd": lambda: optimizers.EAMSGD(
        0.02, momentum=0.8, communication_period=2, jit_compile=False
    ),
    "averaged_sgd": lambda: optimizers.AveragedSGD(0.05, jit_compile=False),
    "options": lambda: easgd(
        gradient_accumulation_steps=2, global_clipnorm=1.0, weight_decay=1e-3
    ),
    "loss_scale": lambda: keras.optimizers.LossScaleOptimizer(
        easgd(), initial_scale=2.0**10
    ),
}


@pytest.mark.parametrize(
    "name",
    [
        "eamsgd",
        pytest.param("options", marks=pytest.mark.full),
        pytest.param("averaged_sgd", marks=pytest.mark.full),
        pytest.param("loss_scale", marks=pytest.mark.full),
    ],
)
def test_overlapped_training_moves_the_center(cluster, worker, name):
    servers = cluster(2)
    strategy = worker(servers, protocol="overlapped")
    model = compiled(
        strategy,
        OPTIMIZERS[name],
        noisy=name == "eamsgd",
        steps_per_execution=5 if name == "eamsgd" else 1,
    )
    before = model.evaluate(dataset(), verbose=0)
    fit(model, epochs=4)
    loss = model.evaluate(dataset(), verbose=0)
    assert loss < 0.98 * before
    for variable, center in zip(
        model.trainable_variables, center_values(servers, model), strict=True
    ):
        np.testing.assert_array_equal(variable.numpy(), center)
    assert strategy.samples_trained() == (4 * 96, 4 * 96)
    assert servers.shards[0].registry.members[0].pushes == (
        strategy.exchange_counts().exchanges
    )


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize(
    ("name", "protocol"),
    [
        pytest.param("averaged_sgd", "blocking", marks=pytest.mark.full),
        ("moving_average_sgd", "synchronous"),
        pytest.param("averaged_sgd", "synchronous", marks=pytest.mark.full),
        pytest.param("moving_average_sgd", "blocking", marks=pytest.mark.full),
    ],
)
def test_averages_equal_the_pseudo_code(cluster, worker, name, protocol):
    servers = cluster()
    make, run, settings = {
        "averaged_sgd": (optimizers.AveragedSGD, reference.averaged_sgd, {}),
        "moving_average_sgd": (
            optimizers.MovingAverageSGD,
            reference.moving_average_sgd,
            {"averaging_rate": 0.2},
        ),
    }[name]
    model = job.build(
        worker(servers, protocol=protocol),
        lambda: make(0.05, jit_compile=False, **settings),
    )
    record = Record(servers)
    model.fit(
        job.NOISE[0],
        np.zeros(job.STEPS),
        batch_size=1,
        shuffle=False,
        verbose=0,
        callbacks=[record],
    )
    expected = run(
        job.gradient,
        job.INITIAL,
        learning_rate=0.05,
        num_steps=job.STEPS,
        **settings,
    )
    assert_close(np.stack(record.workers), expected["workers"][:, 0])
    assert_close(np.stack(record.center), expected["center"])


@pytest.mark.usefixtures("float64")
def test_use_ema_averages_the_center_of_each_step(cluster, worker):
    servers = cluster(2)
    model = job.build(
        worker(servers),
        job.optimizer_of("nesterov", 4, use_ema=True, ema_momentum=0.8),
    )
    record = Record(servers)
    model.fit(
        job.NOISE[0],
        np.zeros(job.STEPS),
        batch_size=1,
        shuffle=False,
        verbose=0,
        callbacks=[record],
    )
    average = record.center[0]
    for center in record.center[1:]:
        average = 0.8 * average + 0.2 * center
    found = np.concatenate(
        [
            compat.native_variable(v).numpy()
            for v in model.optimizer._model_variables_moving_average
        ]
    )
    assert_close(found, average)


# Several devices in one process.


def test_two_devices_equal_one_with_the_whole_batch(cluster, worker):
    def trained(devices):
        servers = cluster()
        model = compiled(
            worker(servers, devices=devices),
            lambda: optimizers.EAMSGD(
                0.05, momentum=0.8, communication_period=2, jit_compile=False
            ),
        )
        return servers, fit(model)

    (servers, one), (servers_2, two) = (
        trained(["CPU:0"]),
        trained(["CPU:0", "CPU:1"]),
    )
    for a, b in zip(
        one.trainable_variables, two.trainable_variables, strict=True
    ):
        a, b = compat.native_variable(a), compat.native_variable(b)
        first, second = b.worker_values()
        np.testing.assert_array_equal(first, second)
        np.testing.assert_allclose(
            a.worker_values()[0], first, rtol=1e-4, atol=1e-6
        )
        np.testing.assert_array_equal(
            b.store.centers[0].numpy(), b.store.centers[1].numpy()
        )
    for a, b in zip(
        center_values(servers, one), center_values(servers_2, two), strict=True
    ):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6)
    assert two.optimizer.worker_points()[0].shape[0] == 1
    assert two.distribute_strategy.samples_trained() == (192, 192)


def test_a_device_without_rows_takes_its_workers_step(cluster, worker):
    """Five rows in batches of four on two: the last one has got one row."""
    strategy = worker(cluster(), devices=["CPU:0", "CPU:1"])
    with strategy.scope():
        model = keras.Sequential(
            [
                keras.Input((3,)),
                keras.layers.Dense(4),
                keras.layers.BatchNormalization(),
                keras.layers.Dense(1),
            ]
        )
        model.compile(
            optimizers.EAMSGD(0.05, momentum=0.5, communication_period=2),
            loss="mse",
        )
    x = np.random.default_rng(2).normal(size=(5, 3)).astype("float32")
    model.fit(x, x[:, :1], batch_size=4, epochs=3, verbose=0)
    for variable in model.variables + model.optimizer.variables:
        copies = compat.native_variable(variable).worker_values()
        assert np.isfinite(copies).all(), variable.path
        if "moving" in variable.path:
            continue  # Statistics are each device's own between exchanges.
        for copy in copies[1:]:
            np.testing.assert_array_equal(copies[0], copy, variable.path)
    assert int(model.optimizer.iterations.numpy()) == 6


# The center is the answer.


def test_others_moves_are_seen(cluster, worker, tmp_path):
    """evaluate, predict, validation, save and checkpoints: as it is now."""
    servers = cluster(2)
    chief, other = (
        compiled(worker(servers, i, 2), noisy=True) for i in range(2)
    )

    def assert_is_the_center(model, center=None):
        plain = network(noisy=True)
        weights = model if isinstance(model, list) else model.get_weights()
        plain.set_weights(weights)
        for value, expected in zip(
            [v.numpy() for v in plain.trainable_variables],
            center or center_values(servers, chief),
            strict=True,
        ):
            np.testing.assert_array_equal(value, expected)
        return plain

    def plain_loss(plain):
        plain.compile(loss=chief.loss)
        return plain.evaluate(dataset(), verbose=0)

    class MoveByTheOther(keras.callbacks.Callback):
        """Before the validation of the chief's epoch."""

        def on_train_batch_end(self, batch, logs=None):
            if batch == 7:
                fit(other, epochs=1)

        def on_epoch_end(self, epoch, logs=None):
            # At the end of `fit` there is one exchange more.
            self.center = center_values(servers, chief)

    move = MoveByTheOther()
    best = tmp_path / "best.keras"
    history = chief.fit(
        dataset(),
        validation_data=dataset(),
        epochs=2,
        verbose=0,
        callbacks=[
            move,
            keras.callbacks.ModelCheckpoint(best),
        ],
    ).history
    loaded = keras.models.load_model(best)
    plain = assert_is_the_center(loaded.get_weights(), move.center)
    assert history["val_loss"][-1] == pytest.approx(plain_loss(plain), rel=1e-4)
    fit(other, epochs=1)
    loss = chief.evaluate(dataset(), verbose=0)
    plain = assert_is_the_center(chief)
    assert loss == pytest.approx(plain_loss(plain), rel=1e-4)
    fit(other, epochs=1)
    logits = chief.predict(X, verbose=0)
    plain = assert_is_the_center(chief)
    np.testing.assert_allclose(
        logits, plain.predict(X, verbose=0), rtol=1e-4, atol=1e-5
    )
    fit(chief, epochs=1)
    chief.save(tmp_path / "center.keras")
    chief.save_weights(tmp_path / "center.weights.h5")
    for path in tmp_path.iterdir():
        if path.suffix == ".keras" and path != best:
            assert_is_the_center(keras.models.load_model(path).get_weights())
    assert_is_the_center(chief)
    worker_point = chief.optimizer.worker_points()[0][0]
    assert np.abs(worker_point - center_values(servers, chief)[0]).max() > 0


# Joining.


@pytest.mark.usefixtures("float64")
def test_who_comes_later_gets_the_center_and_no_velocity(cluster, worker):
    servers = cluster()
    initial = np.full(job.N, 5.0)
    first = job.build(worker(servers, 0, 2), job.optimizer_of("nesterov", 2))
    first.fit(
        job.NOISE[0],
        np.zeros(job.STEPS),
        batch_size=1,
        shuffle=False,
        verbose=0,
    )
    center = np.concatenate(flat_center(servers, first.distribute_strategy))
    assert np.abs(center - initial).max() > 1
    strategy = worker(servers, 1, 2)
    with strategy.scope():
        second = job.Quadratic()
        second.build((None, job.N))
        second.set_weights([initial[: job.SPLIT], initial[job.SPLIT :]])
        optimizer = job.optimizer_of("nesterov", 2)()
        second.compile(optimizer, loss=lambda _, output: output)
        optimizer.build(second.trainable_variables)
        for velocity in optimizer._velocities:
            velocity.assign(np.ones(velocity.shape))
    strategy.extended.before_step()
    np.testing.assert_array_equal(job.point(second), center)
    np.testing.assert_array_equal(
        np.concatenate([v.numpy() for v in second.trainable_variables]), center
    )
    for velocity in optimizer._velocities:
        assert not compat.native_variable(velocity).worker_values().any()
    assert first.distribute_strategy.center_status()[0]["num_workers"] == 2


def test_the_chiefs_checkpoint_begins_a_new_center(cluster, worker, tmp_path):
    servers = cluster()
    chief = fit(compiled(worker(servers)))
    weights = chief.get_weights()
    chief.save(tmp_path / "model.keras")
    points = chief.optimizer.worker_points()

    servers = cluster()
    strategy = worker(servers)
    with strategy.scope():
        again = keras.models.load_model(tmp_path / "model.keras")
    strategy.extended.before_step()
    # The worker goes on from its own point, and begins the center with it.
    for center, mine in zip(center_values(servers, again), points, strict=True):
        np.testing.assert_array_equal(center, mine[0])
    assert len(weights) == len(again.get_weights())
    loss = again.evaluate(dataset(), verbose=0)
    fit(again, epochs=3)
    assert again.evaluate(dataset(), verbose=0) < loss


def test_train_on_batch_joins_before_its_first_gradient(cluster, worker):
    servers = cluster()
    chief = fit(compiled(worker(servers, 0, 2)))
    other = compiled(worker(servers, 1, 2))
    other.set_weights([w + 3 for w in other.get_weights()])
    center = center_values(servers, chief)
    loss = other.train_on_batch(X, Y)
    plain = network()
    plain.set_weights(center)
    plain.compile(loss=chief.loss)
    assert loss == pytest.approx(plain.evaluate(X, Y, verbose=0), rel=1e-4)


# The end of `fit`.


def test_the_last_exchange_can_be_left_out(cluster, worker):
    """8 steps with a period of 2; the first has nothing to give."""
    versions = []
    for closing in (True, False):
        servers = cluster()
        fit(compiled(worker(servers, closing=closing)), epochs=1)
        versions.append(servers.shards[0].applied)
    assert versions == [4, 3]


# Some of a model's layers.


@pytest.mark.parametrize("protocol", EACH_PROTOCOL)
def test_layers_are_frozen_and_thawed(cluster, worker, protocol):
    """By a new optimizer: what is frozen stays, the rest goes on."""
    servers = cluster(2)
    strategy = worker(servers, protocol=protocol)
    model = fit(compiled(strategy))
    kernel = compat.native_variable(model.layers[0].kernel)
    head = compat.native_variable(model.layers[1].kernel)

    def compiled_again(trainable):
        model.layers[0].trainable = trainable
        with strategy.scope():
            model.compile(
                optimizers.EAMSGD(
                    0.05, momentum=0.5, beta=0.5, communication_period=2
                ),
                loss=model.loss,
            )
        fit(model)  # What was under way arrives.
        before = [v.numpy() for v in (kernel, head)]
        fit(model)
        return [
            np.abs(v.numpy() - b).max()
            for v, b in zip((kernel, head), before, strict=True)
        ]

    frozen, moved = compiled_again(trainable=False)
    assert frozen < 1e-5
    assert moved > 1e-3
    np.testing.assert_allclose(
        kernel.worker_values()[0], kernel.numpy(), atol=1e-5
    )
    np.testing.assert_allclose(
        center_of(servers, model, 0), kernel.numpy(), atol=1e-5
    )
    thawed, _ = compiled_again(trainable=True)
    assert thawed > 1e-3


def center_of(servers, model, k):
    """The servers' values of parameter k."""
    return flat_center(servers, model.distribute_strategy)[k]


def test_workers_agree_on_what_they_have_frozen(cluster, worker):
    """Each freezes when it has seen another center than the others."""
    servers = cluster()
    models = [fit(compiled(worker(servers, i, 2))) for i in range(2)]
    kernels = [compat.native_variable(m.layers[0].kernel) for m in models]
    for model in models:
        model.layers[0].trainable = False
        with model.distribute_strategy.scope():
            model.compile(easgd(), loss=model.loss)
    for _ in range(4):
        for model in models:
            fit(model)
    center = center_of(servers, models[0], 0)
    for kernel in kernels:
        np.testing.assert_allclose(kernel.worker_values()[0], center, atol=1e-5)


# What is refused.


def test_only_elastic_optimizers(worker):
    with pytest.raises(RuntimeError, match="Elastic\\(your_optimizer"):
        fit(compiled(worker(), lambda: keras.optimizers.SGD(0.1)))


def test_a_model_of_another_scope(worker):
    model = network()
    with worker().scope():
        optimizer = easgd()
    with pytest.raises(ValueError, match="must be built inside the scope"):
        optimizer.build(model.trainable_variables)


def test_training_in_an_evaluator(cluster, worker):
    servers = cluster()
    chief = fit(compiled(worker(servers)))
    looking = compiled(worker(servers, job="evaluator"))
    with pytest.raises(RuntimeError, match="looks at the center and trains"):
        fit(looking)
    assert not looking.distribute_strategy.is_chief
    assert looking.distribute_strategy.worker_index is None
    assert looking.evaluate(dataset(), verbose=0) == pytest.approx(
        chief.evaluate(dataset(), verbose=0), rel=1e-5
    )
    assert sorted(servers.shards[0].registry.members) == [0]


def test_a_process_of_job_ps(worker):
    with pytest.raises(ValueError, match="python -m tf_elastic.cluster.ps"):
        worker(job="ps")


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (None, "must describe the cluster. Received: nothing"),
        ("{'cluster'", "TF_CONFIG must be JSON"),
        ('{"cluster": {"worker": ["a:1"]}}', "must have `task`"),
        (
            '{"cluster": {"worker": ["a:1"]},'
            ' "task": {"type": "worker", "index": 0}}',
            "must have a job 'ps'",
        ),
        (
            '{"cluster": {"worker": ["a:1"], "ps": ["a:2"]},'
            ' "task": {"type": "worker", "index": 1}}',
            "Received: 1",
        ),
    ],
)
def test_a_wrong_tf_config(monkeypatch, config, message):
    monkeypatch.delenv("TF_CONFIG", raising=False)
    if config is not None:
        monkeypatch.setenv("TF_CONFIG", config)
    with pytest.raises(ClusterConfigurationError, match=message):
        strategies.ElasticMultiWorkerStrategy()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"protocol": "now"}, "`protocol` must be one of"),
        ({"compression": "zip"}, "`compression` must be one of"),
        (
            {"protocol": "blocking", "compression": "int8"},
            "`compression` needs",
        ),
        ({"devices": ["CPU:0", "CPU:0"]}, "must not name a device twice"),
    ],
)
def test_wrong_arguments(worker, arguments, message):
    with pytest.raises(ValueError, match=message):
        worker(**arguments)


def test_another_model_at_the_center(cluster, worker):
    servers = cluster()
    fit(compiled(worker(servers, 0, 2)), epochs=1)
    with pytest.raises(Exception, match="Start all processes with the same"):
        fit(compiled(worker(servers, 1, 2), noisy=True), epochs=1)


@pytest.mark.parametrize("steps", [None, 3])
def test_shared_epochs_say_what_they_need(worker, steps):
    if steps:
        model, match = compiled(worker()), "not known before"
    else:
        model, match = (
            compiled(tf.distribute.get_strategy(), lambda: "sgd"),
            "needs a center",
        )
    with pytest.raises(ValueError, match=match):
        model.fit(
            dataset().repeat(),
            steps_per_epoch=steps,
            verbose=0,
            callbacks=[SharedEpochs(96)],
        )


# Epochs that all workers end together.


def endless():
    return dataset().repeat()


def shared_fit(model, epochs, callbacks=(), samples=96, **kwargs):
    seen = job.Epochs()
    history = model.fit(
        endless(),
        epochs=epochs,
        verbose=0,
        callbacks=[*(callbacks or [SharedEpochs(samples)]), seen],
        **kwargs,
    )
    return len(history.epoch), [own for _, own in seen.samples]


def test_shared_epochs_go_on_and_late_workers_catch_up(cluster, worker):
    servers = cluster()
    first = compiled(worker(servers, 0, 2))
    assert shared_fit(first, 2) == (2, [96, 192])
    # Another fit, with a callback of its own, is of as many epochs more.
    assert shared_fit(first, 1) == (1, [288])
    # Who comes late has one batch in each epoch that is over ...
    second = compiled(worker(servers, 1, 2))
    assert shared_fit(second, 3) == (3, [12, 24, 36])
    # ... and the epochs that come are shared: 36 samples are done of this,
    # of which the last 12 are told by the next exchange or sign of life.
    epochs, [own] = shared_fit(first, 1)
    assert epochs == 1 and own in (348, 360)
    assert servers.shards[0].registry.members[1].samples in (24, 36)


def test_a_resumed_script_on_new_servers_does_the_epochs_left(worker):
    model = compiled(worker())
    assert shared_fit(model, 5, initial_epoch=3) == (2, [96, 192])


@pytest.mark.parametrize(
    "first", [True, pytest.param(False, marks=pytest.mark.full)]
)
def test_shared_epochs_let_others_stop_the_training(worker, first):
    stop = keras.callbacks.EarlyStopping("loss", mode="max", patience=0)
    shared = SharedEpochs(96)
    callbacks = [shared, stop] if first else [stop, shared]
    epochs, _ = shared_fit(compiled(worker()), 9, callbacks)
    assert epochs == 2


class EndServers(keras.callbacks.Callback):
    """In the second epoch these servers end, for good."""

    def __init__(self, servers):
        super().__init__()
        self.servers = servers

    def on_epoch_begin(self, epoch, logs=None):
        if epoch == 1:
            for server in self.servers:
                server.stop(0.0)


@pytest.mark.parametrize(
    "num_servers", [pytest.param(1, marks=pytest.mark.full), 2]
)
def test_epochs_end_while_center_0_is_away(cluster, worker, num_servers):
    servers = cluster(num_servers)
    # That it is waited for in vain does not depend on how long.
    timeouts = support.PATIENT._replace(exchange_s=4.0)
    first, second = (
        fit(compiled(worker(servers, i, 2, timeouts=timeouts)), 1)
        for i in range(2)
    )
    trained = first.distribute_strategy.samples_trained
    assert second.distribute_strategy.samples_trained()[1] == 96
    support.until(lambda: trained() == (192, 96))
    callbacks = [SharedEpochs(96), EndServers(servers.servers[:1])]
    assert shared_fit(first, 3, callbacks) == (3, [192, 288, 384])
    fit(second, 1)
    assert second.distribute_strategy.samples_trained()[1] == 192
    if num_servers == 2:  # Any one that lives tells of the others.
        support.until(lambda: trained() == (192 + 384, 384))
