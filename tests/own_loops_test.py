"""Loops and training steps of one's own: TensorFlow's tutorials, GANs."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from tf_elastic import compat
from tf_elastic import optimizers

X = np.random.default_rng(3).normal(size=(24, 4)).astype("float32")


def native(variable):
    return compat.native_variable(variable)


UNBUILT = {
    "EAMSGD": lambda: optimizers.EAMSGD(
        0.05, momentum=0.5, communication_period=2
    ),
    "Downpour": lambda: optimizers.Downpour(0.02, communication_period=2),
    "Elastic Adam": lambda: optimizers.Elastic(
        keras.optimizers.Adam(0.1), communication_period=2
    ),
    "scaled loss": lambda: keras.optimizers.LossScaleOptimizer(
        optimizers.EASGD(0.05, communication_period=2), initial_scale=8.0
    ),
}


def looped(s, model, optimizer, graph):
    """The loop of TensorFlow's tutorial on custom training; its losses."""

    def train_step(x):
        with tf.GradientTape() as tape:
            losses = tf.square(model(x, training=True) - 1)
            loss = tf.nn.compute_average_loss(losses[:, 0], global_batch_size=8)
            scaled = optimizer.scale_loss(loss)
        variables = model.trainable_variables
        optimizer.apply_gradients(
            zip(tape.gradient(scaled, variables), variables, strict=True)
        )
        return loss

    def distributed_step(batch):
        each = s.run(train_step, args=(batch,))
        return s.reduce(tf.distribute.ReduceOp.SUM, each, axis=None)

    if graph:
        distributed_step = tf.function(distributed_step)
    data = s.experimental_distribute_dataset(
        tf.data.Dataset.from_tensor_slices(X).batch(8).repeat(2)
    )
    return [float(distributed_step(batch)) for batch in data]


@pytest.mark.parametrize(
    ("name", "graph"),
    [
        ("EAMSGD", True),
        ("Downpour", False),
        *(
            pytest.param(name, graph, marks=pytest.mark.full)
            for name, graph in (
                ("scaled loss", True),
                ("Elastic Adam", True),
                ("EAMSGD", False),
                ("Downpour", True),
                ("Elastic Adam", False),
                ("scaled loss", False),
            )
        ),
    ],
)
def test_a_loop_of_ones_own_builds_its_optimizer(strategy, name, graph):
    """TensorFlow's tutorial on custom training, against one built before."""
    results = []
    for built in (False, True):
        keras.utils.set_random_seed(1)
        with (s := strategy(2, None)).scope():
            model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(1)])
            optimizer = UNBUILT[name]()
            if built:
                optimizer.build(model.trainable_variables)

        losses = looped(s, model, optimizer, graph)
        assert losses[-1] < losses[0]
        results.append(
            losses + [native(v).worker_values() for v in model.variables]
        )
    for found, expected in zip(*results, strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-6)


@pytest.mark.parametrize("graph", [True, False])
@pytest.mark.parametrize(
    "name",
    [
        "EAMSGD",
        *(
            pytest.param(n, marks=pytest.mark.full)
            for n in UNBUILT
            if n != "EAMSGD"
        ),
    ],
)
def test_a_model_that_is_built_by_its_first_call(strategy, name, graph):
    """In the `tf.function` of the tutorial: as one that was built before."""
    results = []
    for built in (False, True):
        keras.utils.set_random_seed(1)
        with (s := strategy(2, None, closing=True)).scope():
            begin = [keras.Input((4,))] if built else []
            model = keras.Sequential(
                [*begin, keras.layers.Dense(3), keras.layers.Dense(1)]
            )
            optimizer = UNBUILT[name]()

        looped(s, model, optimizer, graph)
        results.append(
            [native(v).worker_values() for v in model.variables]
            + [native(v).numpy() for v in model.variables]
        )
        assert np.ptp(results[-1][0], axis=0).max() > 0
    for found, expected in zip(*results, strict=True):
        np.testing.assert_array_equal(found, expected)


class Gan(keras.Model):
    """Keras' guide on customizing `fit`: two networks, two optimizers."""

    def __init__(self):
        super().__init__()
        self.discriminator = keras.Sequential(
            [
                keras.Input((4,)),
                keras.layers.Dense(3, activation="tanh"),
                keras.layers.Dense(1),
            ]
        )
        self.generator = keras.Sequential(
            [keras.Input((2,)), keras.layers.Dense(4)]
        )
        self.d_loss_tracker = keras.metrics.Mean(name="d_loss")
        self.seed_generator = keras.random.SeedGenerator(1)
        self.built = True

    def compile(self, d_optimizer, g_optimizer, loss_fn):
        super().compile()
        self.d_optimizer = d_optimizer
        self.g_optimizer = g_optimizer
        self.loss_fn = loss_fn

    def train_step(self, real):
        count = tf.shape(real)[0]
        noise = keras.random.normal((count, 2), seed=self.seed_generator)
        fake = self.generator(noise)
        images = tf.concat([fake, real], axis=0)
        labels = tf.concat([tf.ones((count, 1)), tf.zeros((count, 1))], axis=0)
        with tf.GradientTape() as tape:
            d_loss = self.loss_fn(labels, self.discriminator(images))
        weights = self.discriminator.trainable_weights
        self.d_optimizer.apply(tape.gradient(d_loss, weights), weights)
        with tf.GradientTape() as tape:
            judged = self.discriminator(self.generator(noise))
            g_loss = self.loss_fn(tf.zeros((count, 1)), judged)
        weights = self.generator.trainable_weights
        self.g_optimizer.apply(tape.gradient(g_loss, weights), weights)
        self.d_loss_tracker.update_state(d_loss)
        return {"d_loss": self.d_loss_tracker.result()}


def test_a_gan_with_two_optimizers(strategy):
    """Each exchanges its own network, at its own clock and period."""
    with strategy(2).scope():
        gan = Gan()
        gan.compile(
            optimizers.EASGD(0.1, communication_period=3),
            optimizers.EAMSGD(0.1, momentum=0.5, communication_period=2),
            keras.losses.BinaryCrossentropy(from_logits=True),
        )
    centers = {"discriminator": [], "generator": []}

    class Record(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            for name, kept in centers.items():
                kept.append(getattr(self.model, name).get_weights()[0])

    data = tf.data.Dataset.from_tensor_slices(X).batch(4)
    gan.fit(data, epochs=2, verbose=0, callbacks=[Record()])

    def changes(name):
        rows = centers[name]
        return [
            k + 1
            for k in range(1, len(rows))
            if not np.array_equal(rows[k], rows[k - 1])
        ]

    assert changes("discriminator") == [4, 7, 10]
    assert changes("generator") == [3, 5, 7, 9, 11]
    for network in (gan.discriminator, gan.generator):
        values = native(network.weights[0]).worker_values()
        assert np.abs(values[0] - values[1]).max() > 1e-4


def test_a_tape_tells_which_variables_it_watches(strategy):
    with (s := strategy(2)).scope():
        model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(1)])

    def in_replica():
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum(model(tf.ones((1, 4))))
        watched = tape.watched_variables()
        return tape.gradient(loss, watched)

    expected = {(4, 1), (1,)}
    for gradients in zip(*(g.values for g in s.run(in_replica)), strict=True):
        assert {tuple(g.shape) for g in gradients} == expected


def test_sparse_slices_are_arguments_like_others(strategy):
    slices = tf.IndexedSlices(
        tf.ones((1, 2)), tf.constant([1]), tf.constant([3, 2])
    )
    result = strategy(2).run(tf.convert_to_tensor, args=(slices,))
    for value in result.values:
        np.testing.assert_array_equal(value, [[0, 0], [1, 1], [0, 0]])


def test_a_step_that_is_a_function_of_its_own(strategy):
    """`strategy.run(tf.function)`."""
    with (s := strategy(2)).scope():
        variable = tf.Variable([1.0])
        optimizer = optimizers.EASGD(0.5, communication_period=1)
        optimizer.build([variable])

    @tf.function
    def step():
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum(variable) / 2
        optimizer.apply([tape.gradient(loss, variable)], [variable])

    for _ in range(2):
        s.run(step)
    np.testing.assert_allclose(
        variable.worker_values(), [[0.225]] * 2, rtol=1e-6
    )
