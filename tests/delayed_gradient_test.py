"""Delayed gradients against their transcription, and in every combination."""

import functools
import json
import math

import keras
import numpy as np
import pytest
import tensorflow as tf

from tests import elastic_multi_worker_job as job
from tests.reference import delayed
from tf_elastic import compat
from tf_elastic import optimizers
from tf_elastic import strategies
from tf_elastic.optimizers import delays

STEPS = 40
_GENERATOR = np.random.default_rng(11)
CURVATURES = np.array([0.2, 1.0, 3.0])
INITIAL = np.array([1.0, -2.0, 0.5])
NOISE = _GENERATOR.normal(size=(STEPS, 3))

DELAYS = {
    "none": 0,
    "one": 1,
    "four": 4,
    "uniform": delays.UniformDelay(0, 5, seed=2),
    "not_below_two": delays.UniformDelay(2, 5, seed=2),
    "geometric": delays.GeometricDelay(2.0, seed=3),
    "cut_geometric": delays.GeometricDelay(2.0, seed=3, max_delay=2),
    "poisson": delays.PoissonDelay(2.0),
    "sequence": delays.DelaySequence([0, 3, 1, 2, 7]),
    "trace": delays.DelayTrace(
        [(number, number % 3, (5 * number) % 4, 0.0) for number in range(9)]
    ),
}
each_delay = pytest.mark.parametrize("delay", DELAYS.values(), ids=DELAYS)
float64 = pytest.mark.usefixtures("float64")

HOW = {
    "eager": lambda function: function,
    "graph": lambda function: tf.function(function, autograph=False),
    "xla": lambda function: tf.function(
        function, autograph=False, jit_compile=True
    ),
}
each_way = pytest.mark.parametrize("how", HOW.values(), ids=HOW)


def gradient(worker, step, point):
    """Of a noisy quadratic, element by element: the same bits everywhere."""
    del worker
    return CURVATURES * point - NOISE[step]


def reference_delays(delay):
    delay = delays.as_delay(delay)
    return lambda worker, k: int(delay.draw(k, worker))


def trajectory(optimizer, steps=STEPS, how=HOW["eager"]):
    """The points of an optimizer, called as a training loop calls it."""
    x = keras.Variable(INITIAL, dtype="float64")
    optimizer.build([x])
    points = [x.numpy()]

    def step(noise):
        optimizer.apply([CURVATURES * tf.identity(x.value) - noise], [x])

    step = how(step)
    for k in range(steps):
        step(tf.constant(NOISE[k]))
        points.append(x.numpy())
    return np.stack(points)


@functools.cache
def plain_trajectory(name):
    """Of delayed SGD, eagerly; in float64."""
    return trajectory(late(keras.optimizers.SGD(0.1), DELAYS[name]))


def late(inner, delay, **kwargs):
    return optimizers.DelayedGradient(inner, delay=delay, **kwargs)


def dense_model(seed=1, optimizer=None, units=3, **kwargs):
    keras.utils.set_random_seed(seed)
    model = keras.Sequential(
        [
            keras.Input((6,)),
            keras.layers.Dense(5, activation="tanh"),
            keras.layers.Dense(units),
        ]
    )
    model.compile(
        optimizer,
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        **kwargs,
    )
    return model


X = _GENERATOR.normal(size=(96, 6)).astype("float32")
Y = (X @ _GENERATOR.normal(size=(6, 3))).argmax(axis=1)


def fit(model, epochs=1, **kwargs):
    model.fit(
        X, Y, batch_size=8, epochs=epochs, shuffle=False, verbose=0, **kwargs
    )
    return model


def values(model):
    return [v.numpy() for v in model.variables + model.optimizer.variables]


def assert_same(actual, expected, **tolerance):
    for a, b in zip(actual, expected, strict=True):
        if tolerance:
            np.testing.assert_allclose(a, b, **tolerance)
        else:
            np.testing.assert_array_equal(a, b)


# Against the transcriptions of the papers' equations.


@float64
@pytest.mark.parametrize("name", DELAYS)
def test_sgd_is_equation_3_to_the_bit(name):
    expected = delayed.delayed_sgd(
        gradient,
        INITIAL,
        learning_rate=0.1,
        delays=reference_delays(DELAYS[name]),
        num_steps=STEPS,
    )
    np.testing.assert_array_equal(plain_trajectory(name), expected)


@float64
@pytest.mark.parametrize(
    ("name", "how"),
    [
        ("four", "graph"),
        ("trace", "graph"),
        ("four", "xla"),
        ("not_below_two", "xla"),
        ("cut_geometric", "xla"),
        ("trace", "xla"),
    ],
)
def test_the_same_in_eager_and_in_graphs(name, how):
    optimizer = late(keras.optimizers.SGD(0.1), DELAYS[name])
    actual = trajectory(optimizer, how=HOW[how])
    # XLA may fuse a multiplication and an addition into one rounding.
    np.testing.assert_allclose(
        actual, plain_trajectory(name), rtol=1e-14, atol=1e-15
    )


@float64
@pytest.mark.parametrize("name", ["none", "four", "cut_geometric", "trace"])
def test_heavy_ball_is_equation_1_3(name):
    delay = DELAYS[name]
    expected = delayed.delayed_heavy_ball(
        gradient,
        INITIAL,
        learning_rate=0.02,
        momentum=0.75,  # a float32 number, as which Keras takes it
        delays=reference_delays(delay),
        num_steps=STEPS,
    )
    actual = trajectory(late(keras.optimizers.SGD(0.02, momentum=0.75), delay))
    np.testing.assert_allclose(actual, expected, rtol=1e-13, atol=1e-14)


@float64
@pytest.mark.parametrize("name", ["one", "uniform"])
def test_adam(name):
    delay = DELAYS[name]
    betas = {"beta_1": 0.875, "beta_2": 1 - 2.0**-10}  # float32 numbers
    expected = delayed.delayed_adam(
        gradient,
        INITIAL,
        learning_rate=0.05,
        delays=reference_delays(delay),
        num_steps=STEPS,
        **betas,
    )
    actual = trajectory(late(keras.optimizers.Adam(0.05, **betas), delay))
    np.testing.assert_allclose(actual, expected, rtol=1e-12, atol=1e-13)


@float64
def test_the_learning_rate_is_that_of_the_present_step():
    schedule = keras.optimizers.schedules.PiecewiseConstantDecay(
        [9, 19], [0.25, 0.125, 0.0625]
    )
    expected = delayed.delayed_sgd(
        gradient,
        INITIAL,
        learning_rate=lambda k: 0.25 / (1 + (k > 9)) / (1 + (k > 19)),
        delays=lambda worker, k: 3,
        num_steps=STEPS,
    )
    actual = trajectory(late(keras.optimizers.SGD(schedule), 3))
    np.testing.assert_allclose(actual, expected, rtol=1e-14, atol=1e-15)


def gradients_used(delay, grads):
    """What the inner optimizer gets when it is given these, one by one."""
    x = keras.Variable([0.0], dtype="float32")
    optimizer = late(keras.optimizers.SGD(1.0), delay)
    used = []
    for grad in grads:
        before = float(x[0])
        optimizer.apply([tf.constant([grad])], [x])
        used.append(before - float(x[0]))
    return used


def test_the_first_gradient_is_used_until_the_first_late_one_exists():
    grads = [1.0, 2.0, 4.0, 8.0, 16.0, 32.0]
    assert gradients_used(3, grads) == [1, 1, 1, 1, 2, 4]
    assert gradients_used(delays.DelaySequence([0, 5, 1]), grads) == [
        1,
        1,
        2,
        8,
        1,
        16,
    ]


def test_a_recorded_trace_replays_to_the_bit(tmp_path):
    generator = np.random.default_rng(4)
    entries = [
        (number, int(generator.integers(3)), int(versions), 1.0)
        for number, versions in enumerate(generator.poisson(2.0, STEPS), 17)
    ]
    trace = delays.DelayTrace(entries)
    trace.save(tmp_path / "trace.json")
    replayed = late(
        keras.optimizers.SGD(0.1),
        delays.DelayTrace.load(tmp_path / "trace.json"),
    )
    expected = delayed.delayed_sgd(
        gradient,
        INITIAL,
        learning_rate=np.float32(0.1),
        delays=lambda worker, k: entries[k][2],
        num_steps=STEPS,
    )
    np.testing.assert_array_equal(trajectory(replayed), expected)


@pytest.mark.parametrize("d", [0, 1, 3, 8])
@pytest.mark.parametrize("share", [0.98, 1.02], ids=["below", "above"])
@float64
def test_the_stability_bound_of_delayed_sgd(d, share):
    """eta h < 2 sin(pi / (4 d + 2)), at most 2 % from it on either side."""
    curvature = 0.7
    rate = share * 2 * math.sin(math.pi / (4 * d + 2)) / curvature
    x = keras.Variable([1.0], dtype="float64")
    optimizer = late(keras.optimizers.SGD(rate), d)
    optimizer.build([x])

    @tf.function(autograph=False)
    def run(steps):
        def body(k):
            optimizer.apply([curvature * tf.identity(x.value)], [x])
            return k + 1

        tf.while_loop(lambda k: k < steps, body, [tf.constant(0)])

    def peak():
        """The largest |x| in one period of the oscillation."""
        return max(
            abs(float(x[0]))
            for _ in range(4 * d + 4)
            if not run(tf.constant(1))
        )

    run(tf.constant(60 * (d + 1)))
    early = peak()
    run(tf.constant(400 * (d + 1)))
    assert peak() < 0.2 * early if share < 1 else peak() > 5 * early


# Memory.


@pytest.mark.parametrize(
    ("d", "dtype"),
    [(0, "float32"), (1, "float32"), (4, "bfloat16"), (4, "float64")],
)
def test_memory_is_that_of_the_gradients_in_reach(d, dtype):
    shapes = [(7, 3), (3,), ()]
    variables = [keras.Variable(np.ones(s), dtype=dtype) for s in shapes]
    inner = keras.optimizers.SGD(0.1, momentum=0.9)
    optimizer = late(inner, delays.UniformDelay(0, d))
    optimizer.build(variables)
    own = len(optimizer.variables) - len(inner.variables)
    sizes = [
        v.numpy().nbytes
        for v in optimizer.variables[:own]
        if v.path.endswith("gradient_ring")
    ]
    of_gradient = sum(v.numpy().nbytes for v in variables)
    assert sum(sizes) == (d + 1 if d else 0) * of_gradient
    # Besides: a count of calls, a rate that is not used, and the ring's clock.
    assert own - len(sizes) == (3 if d else 2)
    optimizer.apply([tf.ones(v.shape, v.dtype) for v in variables], variables)


def test_cut_delays_are_counted():
    delay = delays.PoissonDelay(2.0, seed=1, max_delay=3)
    optimizer = late(keras.optimizers.SGD(0.1), delay)
    assert optimizer.num_cut_delays == 0
    trajectory(optimizer)
    expected = int((delay.draw_uncut(np.arange(STEPS)) > 3).sum())
    assert optimizer.num_cut_delays == expected > 0
    never = late(keras.optimizers.SGD(0.1), delays.UniformDelay(0, 3))
    trajectory(never)
    assert never.num_cut_delays == 0
    nothing = late(keras.optimizers.SGD(0.1), delays.PoissonDelay(2.0, 1, 0))
    trajectory(nothing)
    drawn = delays.PoissonDelay(2.0, 1, 0).draw_uncut(np.arange(STEPS))
    assert nothing.num_cut_delays == int(drawn.sum()) > 0


# Plain Keras.


def test_zero_delay_is_the_inner_optimizer_under_fit():
    plain = fit(dense_model(optimizer=keras.optimizers.Adam(0.03)), 2)
    wrapped = fit(dense_model(optimizer=late("adam", 0)), 0)
    wrapped.optimizer.learning_rate = 0.03
    fit(wrapped, 2)
    assert_same(
        [v.numpy() for v in wrapped.variables],
        [v.numpy() for v in plain.variables],
    )
    assert int(wrapped.optimizer.iterations) == 24
    assert float(wrapped.optimizer.learning_rate) == pytest.approx(0.03)


def optimizer_to_resume():
    return late(
        keras.optimizers.SGD(0.1, momentum=0.5),
        delays.GeometricDelay(2.0, seed=5, max_delay=3),
    )


@pytest.fixture(scope="module")
def one_epoch():
    """A model that was trained in graphs for an epoch."""
    return fit(dense_model(optimizer=optimizer_to_resume()), 1)


@pytest.fixture(scope="module")
def two_epochs():
    return fit(dense_model(optimizer=optimizer_to_resume()), 2)


@pytest.mark.parametrize(
    "how",
    [
        pytest.param({"steps_per_execution": 5}, id="steps_per_execution"),
        pytest.param({"run_eagerly": True}, id="eager"),
        pytest.param({"jit_compile": True}, id="xla", marks=pytest.mark.full),
    ],
)
def test_fit_is_the_same_however_it_is_executed(one_epoch, how):
    other = fit(dense_model(optimizer=optimizer_to_resume(), **how))
    assert_same(values(other), values(one_epoch), rtol=2e-4, atol=2e-5)
    assert int(other.optimizer.iterations) == 12


@pytest.mark.parametrize("kind", ["checkpoint", "weights", "model"])
def test_resumes_to_the_bit(one_epoch, two_epochs, tmp_path, kind):
    half, whole = one_epoch, two_epochs
    resumed = dense_model(seed=2, optimizer=optimizer_to_resume())
    resumed.optimizer.build(resumed.trainable_variables)
    if kind == "checkpoint":
        path = tf.train.Checkpoint(model=half, optimizer=half.optimizer).save(
            str(tmp_path / "checkpoint")
        )
        tf.train.Checkpoint(model=resumed, optimizer=resumed.optimizer).restore(
            path
        ).assert_existing_objects_matched()
    elif kind == "weights":
        half.save_weights(tmp_path / "half.weights.h5")
        resumed.load_weights(tmp_path / "half.weights.h5")
    else:
        half.save(tmp_path / "half.keras")
        resumed = keras.models.load_model(tmp_path / "half.keras")
        assert resumed.optimizer.delay == half.optimizer.delay
    assert_same(values(resumed), values(half))
    fit(resumed, 2, initial_epoch=1)
    assert_same(values(resumed), values(whole))
    assert whole.optimizer.num_cut_delays == resumed.optimizer.num_cut_delays


@float64
def test_weight_decay_acts_on_the_present_point():
    rate, decay, d = 0.1, 0.25, 2
    x = [INITIAL]
    for k in range(STEPS):
        s = max(k - d, 0)
        point = x[k] - x[k] * decay * rate
        x.append(point - rate * gradient(0, s, x[s]))
    inner = keras.optimizers.SGD(rate, weight_decay=decay)
    np.testing.assert_allclose(
        trajectory(late(inner, d)), np.stack(x), rtol=1e-14, atol=1e-15
    )


@float64
@pytest.mark.parametrize(
    ("option", "clip"),
    [
        ({"clipvalue": 0.3}, lambda g: np.clip(g, -0.3, 0.3)),
        ({"clipnorm": 0.5}, lambda g: g * 0.5 / max(np.linalg.norm(g), 0.5)),
        (
            {"global_clipnorm": 0.5},
            lambda g: g * 0.5 / max(np.linalg.norm(g), 0.5),
        ),
    ],
    ids=["value", "norm", "global"],
)
def test_clipping_of_the_inner_optimizer(option, clip):
    expected = delayed.delayed_sgd(
        lambda *args: clip(gradient(*args)),
        INITIAL,
        learning_rate=0.1,
        delays=lambda worker, k: 3,
        num_steps=STEPS,
    )
    actual = trajectory(late(keras.optimizers.SGD(0.1, **option), 3))
    np.testing.assert_allclose(actual, expected, rtol=1e-13, atol=1e-14)


@float64
@each_way
def test_the_accumulated_gradient_is_late(how):
    """A step is one update; two gradients of one point make it."""
    delay, every = delays.UniformDelay(0, 3, seed=1), 2

    def mean(worker, step, point):
        noise = NOISE[every * step : every * (step + 1)].mean(axis=0)
        return CURVATURES * point - noise

    expected = delayed.delayed_sgd(
        mean,
        INITIAL,
        learning_rate=0.1,
        delays=reference_delays(delay),
        num_steps=STEPS // every,
    )
    inner = keras.optimizers.SGD(0.1, gradient_accumulation_steps=every)
    optimizer = late(inner, delay)
    actual = trajectory(optimizer, how=how)
    np.testing.assert_allclose(actual[::every], expected, rtol=1e-13)
    assert int(optimizer.iterations) == STEPS // every


def test_sparse_gradients_are_filled_up():
    def train(sparse):
        table = keras.Variable(np.ones((5, 2)), dtype="float32")
        optimizer = late(keras.optimizers.Adam(0.1), delays.UniformDelay(0, 3))
        generator = np.random.default_rng(0)
        for _ in range(12):
            rows = generator.integers(0, 5, 3)  # a row may come twice
            slices = tf.IndexedSlices(
                tf.constant(generator.normal(size=(3, 2)), tf.float32),
                tf.constant(rows),
                tf.constant([5, 2], tf.int64),
            )
            grad = slices if sparse else tf.convert_to_tensor(slices)
            optimizer.apply([grad], [table])
        return table.numpy()

    np.testing.assert_array_equal(train(sparse=True), train(sparse=False))


@pytest.mark.filterwarnings("ignore:Gradients do not exist")
def test_a_variable_without_a_gradient_counts_as_zero_later():
    x, y = keras.Variable([0.0]), keras.Variable([0.0])
    optimizer = late(keras.optimizers.SGD(1.0), 1)
    one = tf.constant([1.0])
    seen = []
    for of_y in (one, None, 2 * one, 4 * one, 8 * one):
        optimizer.apply([one, of_y], [x, y])
        seen.append(float(y[0]))
    # The 1 of step 0 at once; step 1 leaves y alone; then late ones.
    assert seen == [-1.0, -1.0, -1.0, -3.0, -7.0]
    assert float(x[0]) == -5.0


def test_an_average_of_the_inner_optimizer_is_taken_over():
    inner = keras.optimizers.SGD(0.1, use_ema=True, ema_momentum=0.9)
    model = fit(dense_model(optimizer=late(inner, 2)), 2)
    plain = fit(dense_model(optimizer=late(keras.optimizers.SGD(0.1), 2)), 2)
    average = np.zeros(1)
    for variable, own in zip(
        model.trainable_variables, plain.trainable_variables, strict=True
    ):
        average = max(average, np.abs(variable.numpy() - own.numpy()).max())
    assert average > 1e-3


# Mixed precision.


@pytest.fixture
def policy():
    yield keras.config.set_dtype_policy
    keras.config.set_dtype_policy("float32")


@pytest.mark.parametrize(
    "name",
    [
        "mixed_float16",
        pytest.param("mixed_bfloat16", marks=pytest.mark.full),
    ],
)
def test_mixed_precision(policy, name):
    policy(name)
    model = dense_model(optimizer=late(keras.optimizers.SGD(0.2), 2))
    is_scaled = isinstance(model.optimizer, keras.optimizers.LossScaleOptimizer)
    assert is_scaled == (name == "mixed_float16")
    fit(model, 4)
    losses = model.history.history["loss"]
    assert losses[3] < 0.9 * losses[0]


def test_a_step_that_is_not_finite_does_not_count():
    x = keras.Variable([0.0], dtype="float32")
    inner = late(keras.optimizers.SGD(1.0), 1)
    outer = keras.optimizers.LossScaleOptimizer(inner, initial_scale=4.0)
    outer.build([x])
    points = []
    for grad in (1.0, np.inf, 2.0, 4.0):
        scale = float(outer.scale_loss(tf.constant(1.0)))
        outer.apply([tf.constant([grad * scale])], [x])
        points.append(float(x[0]))
    assert points == [-1.0, -1.0, -2.0, -4.0]
    assert int(inner.iterations) == 3


def test_the_inner_optimizers_own_loss_scale():
    scaled = late(keras.optimizers.SGD(0.1, loss_scale_factor=8.0), 2)
    plain = late(keras.optimizers.SGD(0.1), 2)
    assert_same(
        values(fit(dense_model(optimizer=scaled)))[:4],
        values(fit(dense_model(optimizer=plain)))[:4],
        rtol=1e-5,
        atol=1e-6,
    )


# Inside of elastic averaging. `conformance_test.py` takes it through every way
# of being used.


@float64
@pytest.mark.parametrize(
    "delay",
    [
        pytest.param(0, id="none", marks=pytest.mark.full),
        pytest.param(
            delays.UniformDelay(0, 4, seed=7),
            id="uniform",
            marks=pytest.mark.full,
        ),
        pytest.param(
            delays.DelayTrace(
                [(n, n % 2, (3 * n) % 5, 0.0) for n in range(11)],
                by_worker=True,
            ),
            id="trace",
        ),
    ],
)
def test_elastic_averaging_of_late_workers(strategy, delay):
    p, tau, steps = job.WORKERS, 4, 30
    expected = delayed.delayed_easgd_synchronous(
        job.gradient,
        job.INITIAL,
        num_workers=p,
        learning_rate=job.LEARNING_RATE,
        beta=job.BETA,
        communication_period=tau,
        delays=reference_delays(delay),
        num_steps=steps,
    )
    with strategy(p).scope():
        model = job.Quadratic()
        model.build((None, job.N))
        model.set_weights([job.INITIAL[: job.SPLIT], job.INITIAL[job.SPLIT :]])
        optimizer = optimizers.Elastic(
            late(keras.optimizers.SGD(job.LEARNING_RATE), delay),
            beta=job.BETA,
            communication_period=tau,
            jit_compile=False,
        )
        model.compile(optimizer, loss=lambda _, output: output)
    rows = {"workers": [], "center": []}

    def note(batch=None, logs=None):
        natives = map(compat.native_variable, model.trainable_variables)
        values = [(v.worker_values(), v.numpy()) for v in natives]
        workers, center = zip(*values, strict=True)
        rows["workers"].append(np.concatenate(workers, axis=1))
        rows["center"].append(np.concatenate(center))

    note()
    model.fit(
        # A sample for each worker.
        np.concatenate(job.NOISE[:, :steps].swapaxes(0, 1)),
        np.zeros(p * steps),
        batch_size=p,
        shuffle=False,
        verbose=0,
        callbacks=[keras.callbacks.LambdaCallback(on_train_batch_end=note)],
    )
    for name, points in rows.items():
        np.testing.assert_allclose(
            points, expected[name], rtol=1e-10, atol=1e-12
        )


def elastic_model(strategy, p=2, delay=None, inner=None, seed=1, **kwargs):
    delay = delay or delays.GeometricDelay(2.0, seed=5, max_delay=3)
    with strategy(p).scope():
        inner = inner() if inner else keras.optimizers.Adam(0.03)
        optimizer = optimizers.Elastic(
            late(inner, delay), communication_period=3, jit_compile=False
        )
        return dense_model(seed, optimizer, **kwargs)


def test_workers_draw_their_own_delays(strategy):
    model = fit(elastic_model(strategy, delay=delays.GeometricDelay(2.0, 5, 3)))
    expected = sum(
        int(
            (
                model.optimizer.inner_optimizer.delay.draw_uncut(
                    np.arange(12), worker
                )
                > 3
            ).sum()
        )
        for worker in (0, 1)
    )
    inner = model.optimizer.inner_optimizer
    assert inner.num_cut_delays == expected > 0
    draws = [inner.delay.draw(np.arange(12), i).tolist() for i in (0, 1)]
    assert draws[0] != draws[1]


def test_a_ring_begins_anew_with_another_number_of_workers(strategy, tmp_path):
    """No worker steps along a gradient that is only zeros."""

    def inner():
        return keras.optimizers.SGD(0.1)

    two = fit(elastic_model(strategy, p=2, delay=3, inner=inner))
    two.save_weights(tmp_path / "two.weights.h5")
    one = elastic_model(strategy, p=1, delay=3, inner=inner)
    one.optimizer.build(one.trainable_variables)
    with pytest.warns(optimizers.CheckpointWarning, match="holds 2 workers"):
        one.load_weights(tmp_path / "two.weights.h5")
    assert int(one.optimizer.iterations) == 12
    before = one.get_weights()
    one.fit(X[:8], Y[:8], batch_size=8, verbose=0)
    for start, variable in zip(before, one.trainable_variables, strict=True):
        (worker,) = compat.native_variable(variable).worker_values()
        assert np.abs(worker - start).max() > 1e-4


def test_elastic_with_options_of_the_inner_optimizer(strategy):
    """With p = 1 and alpha = 0 the worker is a plain one."""
    delay = delays.UniformDelay(0, 3, seed=2)

    def inner():
        return keras.optimizers.SGD(
            0.1,
            gradient_accumulation_steps=2,
            clipnorm=0.1,
            weight_decay=0.01,
        )

    with strategy(1).scope():
        elastic = dense_model(
            optimizer=optimizers.Elastic(
                late(inner(), delay),
                moving_rate=0.0,
                communication_period=4,
                jit_compile=False,
            )
        )
    fit(elastic, 2)
    plain = fit(dense_model(optimizer=late(inner(), delay)), 2)
    for a, b in zip(
        elastic.trainable_variables, plain.trainable_variables, strict=True
    ):
        (worker,) = compat.native_variable(a).worker_values()
        np.testing.assert_allclose(worker, b.numpy(), rtol=2e-4, atol=2e-5)


# Configurations and refusals.


@each_delay
def test_config_round_trip(delay):
    optimizer = late(keras.optimizers.SGD(0.1, momentum=0.3), delay, name="d")
    serialized = keras.optimizers.serialize(optimizer)
    again = keras.optimizers.deserialize(json.loads(json.dumps(serialized)))
    assert again.delay == optimizer.delay
    assert again.inner_optimizer.momentum == 0.3
    assert keras.optimizers.serialize(again) == serialized


def test_the_seed_of_the_optimizer_replaces_that_of_the_delay():
    delay = late("sgd", delays.UniformDelay(0, 3, seed=1), seed=9).delay
    assert delay == delays.UniformDelay(0, 3, seed=9)


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: late(3, 1), TypeError, "Received: inner_optimizer=builtins."),
        (lambda: late("sgd", 1.5), TypeError, "`delay` .* delay=1.5"),
        (lambda: late("sgd", -1), ValueError, "`delay` .* delay=-1"),
        (lambda: late("sgd", 2, seed=1), ValueError, "seed=1 with delay=Con"),
        (
            lambda: late("sgd", delays.UniformDelay(0, 2), seed=-4),
            ValueError,
            "seed=-4",
        ),
        (
            lambda: late(optimizers.EASGD(0.1), 1),
            TypeError,
            "inner_optimizer=EASGD. It exchanges with a center",
        ),
        (
            lambda: late(
                keras.optimizers.LossScaleOptimizer(keras.optimizers.SGD()), 1
            ),
            TypeError,
            "inner_optimizer=LossScaleOptimizer. Put it outside",
        ),
        (
            lambda: late(late("sgd", 1), 1),
            TypeError,
            "One delay is enough",
        ),
    ],
)
def test_refusals(make, error, message):
    with pytest.raises(error, match=message):
        make()


def test_an_inner_optimizer_in_use_is_refused():
    inner = keras.optimizers.SGD(0.1)
    inner.build([keras.Variable([1.0])])
    with pytest.raises(ValueError, match="`inner_optimizer` must be new"):
        late(inner, 1)


def test_a_strategy_that_sums_gradients_is_refused():
    with tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"]).scope():
        optimizer = late("sgd", 1)
        x = keras.Variable([1.0])
        with pytest.raises(ValueError, match="strategy=MirroredStrategy"):
            optimizer.build([x])


def test_another_scope_of_the_inner_optimizer_is_refused():
    inner = keras.optimizers.SGD(0.1)
    with strategies.ElasticMirroredStrategy(["CPU:0"]).scope():
        optimizer = late(inner, 1)
        with pytest.raises(ValueError, match="scope of the same strategy"):
            optimizer.build([keras.Variable([1.0])])


def test_alone_on_an_elastic_strategy_it_is_told_to_be_wrapped(strategy):
    with strategy(2).scope():
        model = dense_model(optimizer=late("sgd", 2))
    with pytest.raises(RuntimeError, match="Wrap it"):
        fit(model)
