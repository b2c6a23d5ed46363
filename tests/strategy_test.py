"""What a Keras user sees of `ElasticMirroredStrategy`."""

import gc

import keras
import numpy as np
import pytest
import tensorflow as tf

from tf_elastic import compat
from tf_elastic import optimizers
from tf_elastic import strategies

X = np.random.default_rng(0).normal(size=(24, 4)).astype("float32")
Y = np.arange(24) % 3


def compiled(strategy, layers, optimizer=None, **kwargs):
    with strategy.scope():
        model = keras.Sequential([keras.Input((4,)), *layers()])
        model.compile(
            optimizer()
            if optimizer
            else optimizers.EASGD(
                0.1, communication_period=2, jit_compile=False
            ),
            loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
            **kwargs,
        )
    return model


def native(variable):
    return compat.native_variable(variable)


@pytest.fixture(scope="module")
def trained():
    """A model that two workers trained for 12 steps; tests may change it."""
    keras.utils.set_random_seed(1)
    s = strategies.ElasticMirroredStrategy(["CPU:0", "CPU:1"])
    model = compiled(s, lambda: [keras.layers.Dense(3)])

    class Boundaries(keras.callbacks.Callback):
        def on_train_batch_begin(self, batch, logs=None):
            s.mark_step_boundary()

    model.fit(X, Y, batch_size=4, epochs=2, verbose=0, callbacks=[Boundaries()])
    yield model
    gc.collect()


def test_all_workers_start_from_the_center(strategy):
    model = compiled(strategy(3), lambda: [keras.layers.Dense(3)])
    for variable in model.trainable_variables:
        for worker in native(variable).worker_values():
            np.testing.assert_array_equal(worker, variable.numpy())


def test_workers_step_on_their_own_slices(strategy):
    """Worker i's first step is plain SGD on the i-th slice of the batch."""
    model = compiled(
        strategy(2), lambda: [keras.layers.Dense(3)], run_eagerly=True
    )
    start = model.get_weights()
    model.fit(X, Y, batch_size=24, shuffle=False, verbose=0)
    for i in range(2):
        alone = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)])
        alone.set_weights(start)
        alone.compile(
            keras.optimizers.SGD(0.1), loss=model.loss, run_eagerly=True
        )
        own = slice(12 * i, 12 * (i + 1))
        alone.fit(X[own], Y[own], batch_size=12, verbose=0)
        for variable, expected in zip(
            model.trainable_variables, alone.get_weights(), strict=True
        ):
            np.testing.assert_allclose(
                native(variable).worker_values()[i], expected, rtol=1e-5
            )


def test_dropout_masks_differ_among_workers(strategy):
    def layers():
        return [keras.layers.Dropout(0.5, seed=3)]

    model = compiled(strategy(3), layers)
    generator = model.layers[0].seed_generator
    seeds = native(generator.state).worker_values()
    assert len({tuple(seed) for seed in seeds}) == 3

    @tf.function
    def masks():
        return model.distribute_strategy.run(
            lambda: model.layers[0](tf.ones((1, 64)), training=True)
        )

    drawn = {tuple(m.numpy()[0]) for m in masks().values}
    assert len(drawn) == 3


def test_predicting_with_noise_leaves_workers_apart(strategy):
    """Drawing at inference moves each worker's generator on, as its own."""

    class Noise(keras.layers.Layer):
        def __init__(self):
            super().__init__()
            self.generator = keras.random.SeedGenerator(1)
            self.calls = self.add_weight(
                shape=(), dtype="int32", initializer="zeros", trainable=False
            )

        def call(self, inputs):
            self.calls.assign_add(1)
            return inputs + keras.random.normal((1,), seed=self.generator)

    model = compiled(strategy(2), lambda: [Noise(), keras.layers.Dense(3)])
    model.fit(X, Y, batch_size=6, verbose=0)
    calls = model.layers[0].calls
    assert native(calls).worker_values().tolist() == [4, 4]
    model.predict(X, batch_size=12, verbose=0)
    assert int(calls.numpy()) == 6
    seeds = native(model.layers[0].generator.state).worker_values()
    assert not np.array_equal(seeds[0], seeds[1])


def test_views_can_be_opened_by_hand(strategy):
    with (s := strategy(2)).scope():
        variable = keras.Variable(np.zeros(2, "float32"))
    native(variable).assign_worker_values([[1, 1], [2, 2]])

    def read(view):
        def in_replica():
            with view():
                return tf.convert_to_tensor(variable)

        return [v.numpy()[0] for v in s.run(in_replica).values]

    assert read(strategies.worker_view) == [1, 2]
    assert read(strategies.center_view) == [0, 0]


@pytest.mark.parametrize("in_scope", [True, False])
def test_a_tape_outside_of_replicas_sees_the_center(strategy, in_scope):
    with (s := strategy(2)).scope():
        variable = keras.Variable(np.zeros(2, "float32"))
    native(variable).assign_worker_values([[1, 1], [2, 2]])

    def look():
        with tf.GradientTape():
            return tf.convert_to_tensor(variable).numpy().tolist()

    if in_scope:
        with s.scope():
            assert look() == [0, 0]
    else:
        assert look() == [0, 0]


def test_assigning_sets_center_and_workers(trained):
    model = trained
    model.set_weights([w + 1 for w in model.get_weights()])
    for variable in model.trainable_variables:
        for worker in native(variable).worker_values():
            np.testing.assert_array_equal(worker, variable.numpy())


def test_batches_that_do_not_divide_among_the_workers(strategy):
    model = compiled(strategy(3), lambda: [keras.layers.Dense(3)])
    model.fit(X[:23], Y[:23], batch_size=8, verbose=0)
    loss = model.evaluate(X[:23], Y[:23], batch_size=8, verbose=0)
    logits = model.predict(X[:23], batch_size=8, verbose=0)
    expected = model.loss(Y[:23], logits)
    assert loss == pytest.approx(float(expected), rel=1e-5)


def test_train_on_batch(strategy):
    model = compiled(strategy(2), lambda: [keras.layers.Dense(3)])
    first = model.train_on_batch(X, Y)
    for _ in range(10):
        last = model.train_on_batch(X, Y)
    assert last < first


def test_a_network_of_keras_applications(strategy):
    """Its first blocks, with BatchNorm; a few steps, and the center."""
    whole = keras.applications.MobileNet(
        input_shape=(32, 32, 3), alpha=0.25, weights=None, include_top=False
    )
    x = whole.get_layer("conv_pw_2_relu").output
    x = keras.layers.GlobalAveragePooling2D()(x)
    plain = keras.Model(whole.input, keras.layers.Dense(3, "softmax")(x))
    with strategy(2).scope():
        model = keras.models.clone_model(plain)
        model.compile(
            optimizers.EASGD(0.01, communication_period=1, jit_compile=False),
            loss="sparse_categorical_crossentropy",
        )
    images = np.random.default_rng(0).random((8, 32, 32, 3), "float32")
    model.fit(images, Y[:8], batch_size=4, verbose=0)
    plain.set_weights(model.get_weights())
    np.testing.assert_allclose(
        plain(images, training=False),
        model(images, training=False),
        atol=1e-5,
    )


def test_time_is_split(trained):
    times = trained.distribute_strategy.step_times()
    assert 8 <= times.steps <= 12
    assert min(times.data_s, times.compute_s, times.exchange_s) > 0


def test_center_steps_are_counted(trained):
    assert int(trained.optimizer.iterations) == 12
    assert int(trained.optimizer.center_step) == 6
    assert trained.optimizer.elastic_distances().shape == (2,)


def test_memory_is_weights_and_slots_for_each_and_one_center(strategy):
    def optimizer():
        return optimizers.EAMSGD(0.1, jit_compile=False)

    model = compiled(strategy(3), lambda: [keras.layers.Dense(3)], optimizer)
    with model.distribute_strategy.scope():
        model.optimizer.build(model.trainable_variables)
    for variable in model.trainable_variables:
        assert len(native(variable).store.live) == 3
        assert len(native(variable).store.centers) == 3
    for slot in model.optimizer._velocities:
        assert len(native(slot).store.live) == 3
        assert not native(slot).store.centers


def test_another_number_of_workers_starts_from_the_center(
    strategy, trained, tmp_path
):
    path = tmp_path / "model.weights.h5"
    model = trained
    model.save_weights(path)
    other = compiled(strategy(3), lambda: [keras.layers.Dense(3)])
    other.optimizer.build(other.trainable_variables)
    with pytest.warns(optimizers.CheckpointWarning, match="2 workers"):
        other.load_weights(path)
    for a, b in zip(model.variables, other.variables, strict=True):
        np.testing.assert_array_equal(a.numpy(), b.numpy())
        for worker in native(b).worker_values():
            np.testing.assert_array_equal(worker, a.numpy())
