"""What a step of training does not train: frozen layers, averages, targets."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from tf_elastic import compat
from tf_elastic import optimizers

X = np.random.default_rng(0).normal(size=(64, 4)).astype("float32")
Y = X.sum(axis=1, keepdims=True)
EAMSGD = {"learning_rate": 0.05, "momentum": 0.5, "communication_period": 4}


def native(variable):
    return compat.native_variable(variable)


def distance(variables):
    """How far the workers are from the center, at most."""
    return max(
        np.abs(native(v).worker_values() - native(v).numpy()).max()
        for v in variables
    )


def network(seed=1):
    keras.utils.set_random_seed(seed)
    return keras.Sequential(
        [
            keras.Input((4,)),
            keras.layers.Dense(5),
            keras.layers.BatchNormalization(),
            keras.layers.Dense(1),
        ]
    )


def fit(model, epochs=1, **kwargs):
    """25 steps an epoch."""
    model.fit(
        X[:50],
        Y[:50],
        batch_size=2,
        epochs=epochs,
        shuffle=False,
        verbose=0,
        **kwargs,
    )


FREEZING = {
    "EASGD": lambda: optimizers.EASGD(0.05, communication_period=4),
    "EAMSGD": lambda: optimizers.EAMSGD(**EAMSGD),
    "AsyncMSGD": lambda: optimizers.AsyncMSGD(0.02, momentum=0.5),
    "MVADownpour": lambda: optimizers.MVADownpour(
        0.02, communication_period=2, averaging_rate=0.5
    ),
    "DiLoCo": lambda: optimizers.DiLoCo(
        keras.optimizers.SGD(0.05), communication_period=4
    ),
    "AsyncDiLoCo": lambda: optimizers.AsyncDiLoCo(
        keras.optimizers.SGD(0.05), communication_period=4
    ),
    "HeLoCo": lambda: optimizers.HeLoCo(
        keras.optimizers.SGD(0.05), communication_period=4
    ),
    "ADMM": lambda: optimizers.ADMM(
        0.05, elasticity=0.5, communication_period=2
    ),
}


@pytest.mark.parametrize(
    "name",
    [
        "AsyncMSGD",
        *(
            pytest.param(name, marks=pytest.mark.full)
            for name in FREEZING
            if name != "AsyncMSGD"
        ),
    ],
)
def test_what_is_frozen_is_the_same_everywhere_and_stays_put(strategy, name):
    """Frozen by a new optimizer, thawed and frozen again by the same one."""
    make = FREEZING[name]
    with (s := strategy(2, None)).scope():
        model = network()
        model.compile(make(), loss="mse")
    fit(model)
    frozen = model.layers[0].weights + model.layers[1].weights
    head = model.layers[2].weights
    assert distance(frozen) > 1e-3

    def compiled(optimizer, trainable):
        model.layers[0].trainable = model.layers[1].trainable = trainable
        with s.scope():
            model.compile(optimizer, loss="mse")
        shown = [v.numpy() for v in frozen]
        fit(model)
        moved = max(
            np.abs(v.numpy() - before).max()
            for v, before in zip(frozen, shown, strict=True)
        )
        return moved, distance(frozen), distance(head)

    with s.scope():
        first, optimizer = make(), make()
    assert compiled(first, False)[:2] == (0, 0)
    moved, apart, _ = compiled(optimizer, True)
    assert moved > 1e-3
    assert apart > 1e-3
    moved, apart, head_apart = compiled(optimizer, False)
    assert (moved, apart) == (0, 0)
    assert head_apart > 0
    moved, apart, _ = compiled(optimizer, True)
    assert moved > 1e-3
    assert apart > 1e-3


def test_a_head_on_a_frozen_network_is_trained_as_on_one_that_never_moved(
    strategy,
):
    """The workers' losses with a backbone frozen late, and one loaded so."""
    heads = []
    with (first := strategy(2)).scope():
        trained = network()
        trained.compile(optimizers.EAMSGD(**EAMSGD), loss="mse")
    fit(trained)
    with (second := strategy(2)).scope():
        loaded = network()
    loaded.set_weights(trained.get_weights())
    for s, model in ((first, trained), (second, loaded)):
        model.layers[0].trainable = model.layers[1].trainable = False
        model.layers[2].set_weights([np.ones((5, 1)), np.zeros(1)])
        with s.scope():
            model.compile(optimizers.EAMSGD(**EAMSGD), loss="mse")
        fit(model)
        heads.append(native(model.layers[2].kernel).worker_values())
    np.testing.assert_array_equal(*heads)


def test_trainable_means_what_it_means_to_keras(strategy):
    """Toggled without `compile` it does nothing to a step that is built."""
    results = []
    for elastic in (False, True):
        scope = strategy(1) if elastic else tf.distribute.get_strategy()
        with scope.scope():
            model = network()
            model.compile(
                optimizers.EASGD(0.05, communication_period=None)
                if elastic
                else keras.optimizers.SGD(0.05),
                loss="mse",
                jit_compile=False,
            )
        fit(model)
        model.layers[0].trainable = False
        fit(model)
        results.append(
            native(model.layers[0].kernel).worker_values()[0]
            if elastic
            else model.layers[0].kernel.numpy()
        )
    np.testing.assert_allclose(*results, atol=1e-4)


class Averaged(keras.Model):
    """Its output is that of the average of the network that it trains."""

    def __init__(self, momentum=0.75):
        super().__init__()
        self.network = keras.layers.Dense(1)
        self.average = keras.layers.Dense(1)
        self.momentum = momentum

    def build(self, shape):
        self.network.build(shape)
        self.average.build(shape)
        self.average.set_weights(self.network.get_weights())

    def call(self, inputs):
        return self.average(inputs)

    def train_step(self, data):
        x, y = data
        with tf.GradientTape() as tape:
            loss = self.compute_loss(y=y, y_pred=self.network(x))
        weights = self.network.trainable_weights
        self.optimizer.apply_gradients(
            zip(tape.gradient(loss, weights), weights, strict=True)
        )
        for weight, average in zip(weights, self.average.weights, strict=True):
            average.assign(
                self.momentum * average + (1 - self.momentum) * weight
            )
        return {"loss": loss}


@pytest.mark.parametrize(
    ("name", "built_by"),
    [
        ("EASGD", "Keras, on all"),
        ("AsyncMSGD", "the step"),
        pytest.param("EASGD", "the step", marks=pytest.mark.full),
        pytest.param("AsyncMSGD", "Keras, on all", marks=pytest.mark.full),
    ],
)
def test_the_average_of_a_network(strategy, name, built_by):
    """Each worker's is that of its own network; the center is their mean."""
    period = 4 if name == "EASGD" else 1

    def optimizer():
        if name == "AsyncMSGD":
            return optimizers.AsyncMSGD(0.02, momentum=0.5)
        return optimizers.EASGD(0.05, beta=0.5, communication_period=period)

    order = "gauss_seidel" if name == "EASGD" else None
    with strategy(2, order, closing=True).scope():
        model = Averaged()
        model.build((None, 4))
        model.compile(optimizer(), loss="mse")
    if built_by == "the step":
        model.optimizer.build(model.network.trainable_variables)
    kernel, average = model.network.kernel, model.average.kernel
    rows = {"network": [], "average": [], "center": []}

    class Record(keras.callbacks.Callback):
        def on_train_begin(self, logs=None):
            self.on_train_batch_end(0)

        def on_train_batch_end(self, batch, logs=None):
            rows["network"].append(native(kernel).worker_values())
            rows["average"].append(native(average).worker_values())
            rows["center"].append(average.numpy())

    fit(model, callbacks=[Record()])
    center = rows["center"][0]
    for t in range(1, len(rows["center"])):
        # The network's point at the moment of the assignment is that after
        # its exchange; so is what is recorded.
        expected = 0.75 * rows["average"][t - 1] + 0.25 * rows["network"][t]
        np.testing.assert_allclose(rows["average"][t], expected, atol=1e-6)
        if t % period == 0:
            center = rows["average"][t].mean(axis=0)
        np.testing.assert_allclose(rows["center"][t], center, atol=1e-6)
    # Training has ended within a period: it is the mean all the same.
    np.testing.assert_allclose(
        average.numpy(), rows["average"][-1].mean(axis=0), atol=1e-6
    )
    np.testing.assert_allclose(
        model.predict(X[:4], verbose=0),
        X[:4] @ model.average.get_weights()[0] + model.average.bias.numpy(),
        rtol=1e-5,
    )


def test_a_target_network_that_is_set_before_the_step(strategy):
    """Outside of training both the worker and the center are set."""
    with (s := strategy(2)).scope():
        network = keras.Variable([1.0, 2.0])
        target = keras.Variable([0.0, 0.0])
        optimizer = optimizers.EASGD(0.1, communication_period=1)

    @tf.function
    def step():
        def in_replica():
            target.assign(0.5 * target + 0.5 * network)
            with tf.GradientTape() as tape:
                loss = tf.reduce_sum(network * target)
            optimizer.apply([tape.gradient(loss, network.value)], [network])

        s.run(in_replica)

    step()
    np.testing.assert_allclose(target.numpy(), [0.5, 1.0])
    np.testing.assert_allclose(native(target).worker_values(), [[0.5, 1.0]] * 2)


def test_a_constraint_by_hand_acts_on_the_worker(strategy):
    """After the optimizer's step an assignment means the worker."""
    with strategy(2).scope():
        model = network()

        class Clipped(keras.Sequential):
            def train_step(self, data):
                logs = super().train_step(data)
                for weight in self.trainable_weights:
                    weight.assign(tf.clip_by_value(weight, -0.1, 0.1))
                return logs

        model = Clipped(model.layers)
        model.compile(
            optimizers.EASGD(0.05, communication_period=None), loss="mse"
        )
    fit(model)
    values = [native(v).worker_values() for v in model.trainable_variables]
    assert max(np.abs(v).max() for v in values) <= 0.1 + 1e-7
    assert max(np.abs(v[0] - v[1]).max() for v in values) > 0


@pytest.mark.parametrize("dtype", ["float32", "int64"])
def test_aggregation_is_followed_where_nobody_owns_a_variable(strategy, dtype):
    kinds = tf.VariableAggregation
    with (s := strategy(2)).scope():
        summed, first, own = (
            tf.Variable(tf.zeros([], dtype), aggregation=kind)
            for kind in (kinds.SUM, kinds.ONLY_FIRST_REPLICA, kinds.NONE)
        )
        # TensorFlow makes none of integers.
        mean = tf.Variable(0.0, aggregation=kinds.MEAN)

    @tf.function
    def step():
        def in_replica():
            context = tf.distribute.get_replica_context()
            number = tf.cast(context.replica_id_in_sync_group, dtype)
            summed.assign_add(1)
            mean.assign(1 + 2 * tf.cast(number, "float32"))
            first.assign(5 + number)
            own.assign_add(1 + number)

        s.run(in_replica)

    step()
    step()
    assert summed.numpy() == 4
    np.testing.assert_array_equal(mean.worker_values(), [2, 2])
    assert first.numpy() == 5
    np.testing.assert_array_equal(own.worker_values(), [2, 4])


def test_aggregation_is_not_followed_where_a_worker_owns_a_variable(strategy):
    with (s := strategy(2)).scope():
        variable = tf.Variable([0.0], aggregation=tf.VariableAggregation.MEAN)
        optimizer = optimizers.EASGD(1.0, communication_period=None)
    gradients = s.experimental_distribute_values_from_function(
        lambda context: tf.constant(
            [1.0 + 2.0 * context.replica_id_in_sync_group]
        )
    )
    s.run(lambda g: optimizer.apply([g / 2], [variable]), args=(gradients,))
    np.testing.assert_array_equal(variable.worker_values(), [[-1], [-3]])
