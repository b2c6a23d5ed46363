"""One table: every optimizer through every way of being used.

A new optimizer joins by one line in `CASES`, a new row by one function.
"""

from typing import NamedTuple

import keras
import numpy as np
import pytest
import tensorflow as tf
from tensorflow.python.framework import config as tf_config

from tf_elastic import compat
from tf_elastic import optimizers
from tf_elastic import strategies


class Case(NamedTuple):
    """How an optimizer is made, and with how many workers it is tested."""

    make: object  # make(**options) -> optimizer
    num_workers: int = 2
    wraps: bool = False  # whether options go to an inner optimizer


def _around(inner, **defaults):
    def make(jit_compile=False, **options):
        return optimizers.Elastic(
            inner(**defaults, **options),
            communication_period=3,
            jit_compile=jit_compile,
        )

    return make


def _elastic(cls, **defaults):
    def make(**options):
        return cls(0.05, **{"jit_compile": False, **defaults, **options})

    return make


def _delayed_sgd(**options):
    return optimizers.DelayedGradient(
        keras.optimizers.SGD(**options), optimizers.delays.UniformDelay(0, 3)
    )


CASES = {
    "easgd": Case(_elastic(optimizers.EASGD, communication_period=3)),
    "eamsgd": Case(
        _elastic(optimizers.EAMSGD, communication_period=3, momentum=0.8)
    ),
    "heavy_ball": Case(
        _elastic(
            optimizers.EAMSGD,
            communication_period=3,
            momentum=0.8,
            nesterov=False,
        )
    ),
    "elastic_adam": Case(
        _around(keras.optimizers.Adam, learning_rate=0.03), wraps=True
    ),
    "elastic_delayed": Case(
        _around(_delayed_sgd, learning_rate=0.05), wraps=True
    ),
    "asgd": Case(_elastic(optimizers.ASGD), num_workers=1),
    "mvasgd": Case(
        _elastic(optimizers.MVASGD, averaging_rate=0.2), num_workers=1
    ),
}

each_optimizer = pytest.mark.parametrize("case", CASES.values(), ids=CASES)

_GENERATOR = np.random.default_rng(3)
X = _GENERATOR.normal(size=(96, 6)).astype("float32")
Y = (X @ _GENERATOR.normal(size=(6, 3))).argmax(axis=1)
# Without tf.data's tuner, which makes the end of an epoch hang now and then.
_OPTIONS = tf.data.Options()
_OPTIONS.autotune.enabled = False
TRAIN = (
    tf.data.Dataset.from_tensor_slices((X, Y))
    .batch(12)  # 8 steps
    .with_options(_OPTIONS)
)


def new_strategy(case):
    return strategies.ElasticMirroredStrategy(
        [f"CPU:{i}" for i in range(case.num_workers)]
    )


def small_network(noisy=False):
    """A classifier; with `noisy` it has statistics and random masks."""
    layers = [keras.Input((6,)), keras.layers.Dense(8, activation="tanh")]
    if noisy:
        layers += [
            keras.layers.BatchNormalization(momentum=0.5),
            keras.layers.Dropout(0.2),
        ]
    return keras.Sequential([*layers, keras.layers.Dense(3)])


def compiled(case, network=small_network, options=None, seed=1, **kwargs):
    """A model in the scope of a strategy of its own."""
    keras.utils.set_random_seed(seed)
    with new_strategy(case).scope():
        model = network()
        model.compile(
            case.make(**(options or {})),
            loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
            **kwargs,
        )
    return model


def fit(model, epochs=2, **kwargs):
    model.fit(TRAIN, epochs=epochs, shuffle=False, verbose=0, **kwargs)
    return model


def state(model):
    """Everything that training goes on from, as arrays."""
    natives = [
        compat.native_variable(v)
        for v in model.variables + model.optimizer.variables
    ] + model.distribute_strategy.extended.untrained_variables()
    return [v.numpy() for v in natives] + [v.worker_values() for v in natives]


def assert_same_state(actual, expected, exactly=True):
    assert len(actual) == len(expected)
    for a, b in zip(actual, expected, strict=True):
        if exactly:
            np.testing.assert_array_equal(a, b)
        else:
            np.testing.assert_allclose(a, b, rtol=2e-4, atol=2e-5)


@pytest.fixture
def deterministic():
    """Runs give the same bits."""
    tf.config.experimental.enable_op_determinism()
    yield
    tf_config.disable_op_determinism()


@pytest.fixture
def policy():
    """`policy(name)` sets Keras' dtype policy for one test."""
    yield keras.config.set_dtype_policy
    keras.config.set_dtype_policy("float32")


@each_optimizer
def test_trains_the_center(case):
    model = compiled(case)
    before = model.evaluate(TRAIN, verbose=0)
    history = fit(model, epochs=3, validation_data=TRAIN)
    after = model.evaluate(TRAIN, verbose=0)
    assert after < 0.97 * before
    assert history.history.history["val_loss"][-1] == pytest.approx(
        after, rel=1e-5
    )


@each_optimizer
@pytest.mark.parametrize(
    "how",
    [
        {"steps_per_execution": 3},
        {"run_eagerly": True},
        {"options": {"jit_compile": True}},
    ],
    ids=["steps_per_execution", "eager", "xla"],
)
def test_is_the_same_however_it_is_executed(case, how):
    plain = fit(compiled(case), epochs=1)
    other = fit(compiled(case, **how), epochs=1)
    assert_same_state(state(other), state(plain), exactly=False)


@each_optimizer
def test_checkpoint_resumes_to_the_bit(case, deterministic, tmp_path):
    def network():
        return small_network(noisy=True)

    whole = fit(compiled(case, network), epochs=3)
    half = fit(compiled(case, network), epochs=1)
    path = tf.train.Checkpoint(model=half, optimizer=half.optimizer).save(
        str(tmp_path / "checkpoint")
    )
    resumed = compiled(case, network, seed=2)
    resumed.optimizer.build(resumed.trainable_variables)
    status = tf.train.Checkpoint(
        model=resumed, optimizer=resumed.optimizer
    ).restore(path)
    status.assert_existing_objects_matched()
    fit(resumed, epochs=3, initial_epoch=1)
    assert_same_state(state(resumed), state(whole))


@each_optimizer
def test_backup_and_restore_resumes_to_the_bit(case, deterministic, tmp_path):
    def network():
        return small_network(noisy=True)

    def backup():
        return keras.callbacks.BackupAndRestore(
            tmp_path, delete_checkpoint=False
        )

    whole = fit(compiled(case, network), epochs=3)
    fit(compiled(case, network), epochs=1, callbacks=[backup()])
    resumed = fit(
        compiled(case, network, seed=2), epochs=3, callbacks=[backup()]
    )
    assert_same_state(state(resumed), state(whole))


@each_optimizer
def test_saved_model_is_the_center(case, tmp_path):
    model = fit(compiled(case, lambda: small_network(noisy=True)))
    expected = model.predict(X, verbose=0)
    model.save(tmp_path / "model.keras")

    plain = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_allclose(
        plain.predict(X, verbose=0), expected, rtol=1e-5, atol=1e-6
    )
    assert type(plain.optimizer) is type(model.optimizer)
    with new_strategy(case).scope():
        again = keras.models.load_model(tmp_path / "model.keras")
    assert_same_state(state(again), state(model))


@each_optimizer
def test_exported_model_is_the_center(case, tmp_path):
    model = fit(compiled(case, lambda: small_network(noisy=True)))
    model.export(tmp_path / "export", verbose=False)
    exported = tf.saved_model.load(str(tmp_path / "export"))
    np.testing.assert_allclose(
        exported.serve(X), model.predict(X, verbose=0), rtol=1e-5, atol=1e-6
    )


@each_optimizer
@pytest.mark.parametrize("name", ["mixed_bfloat16", "mixed_float16"])
def test_mixed_precision(case, policy, name):
    policy(name)
    model = compiled(case)
    before = model.evaluate(TRAIN, verbose=0)
    fit(model, epochs=3)
    assert model.evaluate(TRAIN, verbose=0) < 0.97 * before
    assert {v.dtype for v in model.trainable_variables} == {"float32"}


@each_optimizer
def test_sparse_gradients_equal_dense_ones(case):
    words = _GENERATOR.integers(0, 9, size=(96, 2))
    labels = words.sum(axis=1) % 3

    def by_lookup():
        inputs = keras.Input((2,), dtype="int32")
        rows = keras.layers.Embedding(9, 4, name="table")(inputs)
        return keras.Model(inputs, _head(rows))

    def by_product():
        inputs = keras.Input((2,), dtype="int32")
        one_hot = keras.ops.one_hot(inputs, 9)
        rows = keras.layers.Dense(4, use_bias=False, name="table")(one_hot)
        return keras.Model(inputs, _head(rows))

    def _head(rows):
        flat = keras.layers.Flatten()(rows)
        return keras.layers.Dense(3, name="head")(flat)

    sparse, dense = compiled(case, by_lookup), compiled(case, by_product)
    dense.set_weights(sparse.get_weights())
    for model in (sparse, dense):
        model.fit(
            words, labels, batch_size=12, epochs=2, shuffle=False, verbose=0
        )
    for a, b in zip(
        sparse.trainable_variables, dense.trainable_variables, strict=True
    ):
        a, b = compat.native_variable(a), compat.native_variable(b)
        np.testing.assert_allclose(
            a.worker_values(), b.worker_values(), rtol=1e-4, atol=1e-5
        )


@each_optimizer
def test_center_statistics_follow_the_workers(case):
    model = fit(compiled(case, lambda: small_network(noisy=True)), epochs=4)
    moving_mean = compat.native_variable(model.layers[1].moving_mean)
    workers, center = moving_mean.worker_values(), moving_mean.numpy()
    assert np.abs(center).max() > 0
    if case.num_workers > 1:
        assert np.abs(workers[0] - workers[1]).max() > 0
    plain = keras.models.clone_model(model)
    plain.set_weights(model.get_weights())
    np.testing.assert_allclose(
        plain(X, training=False),
        model.predict(X, verbose=0),
        rtol=1e-4,
        atol=1e-5,
    )


@each_optimizer
def test_gradient_accumulation_equals_a_larger_batch(case):
    p, small = case.num_workers, 12 // case.num_workers
    accumulated = fit(
        compiled(case, options={"gradient_accumulation_steps": 2}), epochs=1
    )
    # The large batch whose slice i joins worker i's two small ones.
    order = (
        np.arange(len(X)).reshape(-1, 2, p, small).swapaxes(1, 2).reshape(-1)
    )
    at_once = compiled(case)
    at_once.fit(X[order], Y[order], batch_size=24, shuffle=False, verbose=0)
    for a, b in zip(
        accumulated.trainable_variables,
        at_once.trainable_variables,
        strict=True,
    ):
        a, b = compat.native_variable(a), compat.native_variable(b)
        np.testing.assert_allclose(
            a.worker_values(), b.worker_values(), rtol=1e-4, atol=1e-5
        )
        np.testing.assert_allclose(a.numpy(), b.numpy(), rtol=1e-4, atol=1e-5)
    assert int(accumulated.optimizer.iterations) == 4


@each_optimizer
@pytest.mark.parametrize(
    "option",
    [{"clipnorm": 0.1}, {"clipvalue": 0.01}, {"global_clipnorm": 0.1}],
    ids=lambda option: next(iter(option)),
)
def test_clipping_acts_on_each_worker(case, option):
    """A tight clip bounds how far a worker gets in one step."""
    model = compiled(case, options=option)
    before = state(model)[: len(model.variables)]
    model.fit(X[:12], Y[:12], batch_size=12, epochs=1, verbose=0)
    if case.wraps:
        return  # Adam's step does not scale with its gradient.
    for start, variable in zip(before, model.trainable_variables, strict=True):
        moved = compat.native_variable(variable).worker_values() - start
        (limit,) = option.values()
        size = (
            np.abs(moved).max()
            if "clipvalue" in option
            else np.sqrt(np.square(moved).sum(axis=tuple(range(1, moved.ndim))))
        )
        # Nesterov's look-ahead point moves by 1 + momentum steps.
        assert np.all(size <= 0.05 * 1.8 * limit * (1 + 1e-3))
        assert np.any(size > 0)


@each_optimizer
def test_weight_decay_shrinks(case):
    plain, decayed = (
        fit(compiled(case, options=options), epochs=1)
        for options in ({}, {"weight_decay": 0.3})
    )
    kernels = [
        np.linalg.norm(model.trainable_variables[0].numpy())
        for model in (plain, decayed)
    ]
    assert kernels[1] < kernels[0]


@each_optimizer
def test_use_ema_averages_the_center(case):
    if case.wraps:
        with pytest.raises(ValueError, match="`use_ema` of the inner"):
            case.make(use_ema=True)
        return
    model = compiled(case, options={"use_ema": True, "ema_momentum": 0.5})
    validation = fit(
        model,
        epochs=2,
        validation_data=TRAIN,
        callbacks=[keras.callbacks.SwapEMAWeights()],
    ).history.history["val_loss"]
    averages = model.optimizer._model_variables_moving_average
    for variable, average in zip(
        model.trainable_variables, averages, strict=True
    ):
        np.testing.assert_array_equal(variable.numpy(), average.numpy())
    assert model.evaluate(TRAIN, verbose=0) == pytest.approx(
        validation[-1], rel=1e-4
    )


@each_optimizer
def test_custom_train_step_of_a_subclassed_model(case):
    class Custom(keras.Model):
        def __init__(self):
            super().__init__()
            self.z_output = keras.layers.Dense(3)  # sorts after `optimizer`
            self.steps = self.add_weight(
                shape=(), initializer="zeros", trainable=False, name="steps"
            )

        def call(self, inputs):
            return self.z_output(inputs)

        def train_step(self, data):
            x, y = data
            with tf.GradientTape() as tape:
                loss = self.compute_loss(x, y, self(x, training=True))
            gradients = tape.gradient(loss, self.trainable_variables)
            self.optimizer.apply(gradients, self.trainable_variables)
            self.steps.assign_add(1.0)
            return {"loss": loss}

    model = compiled(case, Custom)
    fit(model, epochs=1)
    before = model.evaluate(TRAIN, verbose=0)
    fit(model, epochs=2)
    assert model.evaluate(TRAIN, verbose=0) < before
    assert float(model.steps) == 24


@each_optimizer
def test_config_round_trip(case):
    optimizer = case.make()
    config = optimizer.get_config()
    again = type(optimizer).from_config(config.copy())
    assert again.get_config() == optimizer.get_config()
    serialized = keras.optimizers.serialize(optimizer)
    assert keras.optimizers.deserialize(serialized).get_config() == config
