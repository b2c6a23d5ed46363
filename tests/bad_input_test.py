"""Each bad input is refused, by a message that says what to do."""

import functools
import math

import keras
import numpy as np
import pytest
import tensorflow as tf

from tf_elastic import optimizers
from tf_elastic import strategies
from tf_elastic import theory

ELASTIC = [
    optimizers.EASGD,
    optimizers.EAMSGD,
    lambda **kwargs: optimizers.Elastic("sgd", **kwargs),
]
AVERAGED = [optimizers.AveragedSGD, optimizers.MovingAverageSGD]
X, Y = np.ones((8, 3), np.float32), np.zeros((8, 1), np.float32)


@functools.cache
def elastic(num_workers):
    """One strategy of so many workers for all tests of this file."""
    return strategies.ElasticMirroredStrategy(
        [f"CPU:{i}" for i in range(num_workers)]
    )


def network():
    return keras.Sequential([keras.Input((3,)), keras.layers.Dense(1)])


def compiled(optimizer, **kwargs):
    model = network()
    model.compile(optimizer, loss="mse", **kwargs)
    return model


def build(model):
    """Builds the optimizer, as the begin of `fit` does."""
    with model.distribute_strategy.scope():
        model.optimizer.build(model.trainable_variables)


def fit(model):
    # An error keeps the iterator of its `fit`. With a tuning thread, whoever
    # collects it may wait for as long as it is old; see `conftest.py`.
    options = tf.data.Options()
    options.autotune.enabled = False
    data = tf.data.Dataset.from_tensor_slices((X, Y)).batch(4)
    model.fit(data.with_options(options), verbose=0)


# Arguments of the optimizers.


@pytest.mark.parametrize("period", [0, -1, 2.5, True, "10", math.inf])
@pytest.mark.parametrize("make", ELASTIC)
def test_communication_period(make, period):
    with pytest.raises(ValueError, match="`communication_period` must") as e:
        make(communication_period=period)
    assert "an integer >= 1" in str(e.value)
    assert "None for no exchange" in str(e.value)
    assert f"Received: communication_period={period!r}" in str(e.value)


@pytest.mark.parametrize("rate", [-0.1, math.nan, math.inf])
@pytest.mark.parametrize("make", [*ELASTIC[:2], optimizers.AveragedSGD])
def test_learning_rate(make, rate):
    message = f"`learning_rate` must be finite.*learning_rate={rate}"
    with pytest.raises(ValueError, match=message):
        make(learning_rate=rate)


@pytest.mark.parametrize("rate", [-0.1, math.nan, math.inf])
@pytest.mark.parametrize("name", ["beta", "moving_rate"])
@pytest.mark.parametrize("make", ELASTIC)
def test_rates(make, name, rate):
    message = f"`{name}` must be a finite number.*Received: {name}={rate}"
    with pytest.raises(ValueError, match=message):
        make(**{name: rate})


@pytest.mark.parametrize("make", ELASTIC)
def test_alpha_and_beta_against_each_other(make):
    with elastic(2).scope():
        model = compiled(make(moving_rate=0.5, beta=0.9))
    with pytest.raises(ValueError, match="contradict each other") as error:
        build(model)
    message = str(error.value)
    assert "with 2 workers" in message
    assert "Received: moving_rate=0.5, beta=0.9" in message
    assert "moving_rate=0.45" in message  # what this beta means
    assert "`symmetric=False` to choose both" in message


@pytest.mark.parametrize("rates", [{}, {"moving_rate": 0.1}, {"beta": 0.9}])
def test_free_rates_with_one_missing(rates):
    with elastic(2).scope():
        model = compiled(optimizers.EASGD(symmetric=False, **rates))
    message = "both must be given. Received: moving_rate=.*, beta=.*Give both"
    with pytest.raises(ValueError, match=message):
        build(model)


@pytest.mark.parametrize("momentum", [1.0, -0.1, 1.5, math.nan, "0.9", None])
def test_momentum(momentum):
    message = r"`momentum` must be a number in \[0, 1\). Received: momentum="
    with pytest.raises(ValueError, match=message) as error:
        optimizers.EAMSGD(momentum=momentum)
    assert f"momentum={momentum!r}" in str(error.value)


@pytest.mark.parametrize("make", ELASTIC[:2])
def test_ema_overwrite_frequency(make):
    message = "`ema_overwrite_frequency` is not supp.*=5. Leave it out"
    with pytest.raises(ValueError, match=message):
        make(use_ema=True, ema_overwrite_frequency=5)


@pytest.mark.parametrize("jit_compile", ["yes", None, 2])
@pytest.mark.parametrize("make", ELASTIC)
def test_jit_compile(make, jit_compile):
    message = f'True, False or "auto".*jit_compile={jit_compile!r}'
    with pytest.raises(ValueError, match=message):
        make(jit_compile=jit_compile)


@pytest.mark.parametrize("make", AVERAGED)
@pytest.mark.parametrize(
    "argument",
    [{"moving_rate": 0.1}, {"communication_period": 5}, {"symmetric": True}],
)
def test_averages_have_no_such_argument(make, argument):
    [(name, value)] = argument.items()
    message = f"`{name}` has no meaning for .*SGD.*Received: {name}={value}"
    with pytest.raises(ValueError, match=message):
        make(**argument)


def test_beta_of_averages():
    message = "`beta` has no meaning for AveragedSGD.*beta=0.9. Use `Moving"
    with pytest.raises(ValueError, match=message):
        optimizers.AveragedSGD(beta=0.9)
    message = "`beta` is called `averaging_rate` in MovingAverageSGD.*beta=0.9"
    with pytest.raises(ValueError, match=message):
        optimizers.MovingAverageSGD(beta=0.9)


@pytest.mark.parametrize("rate", [0.0, -0.1, 1.5, math.nan])
def test_averaging_rate(rate):
    message = r"`averaging_rate` must be in \(0, 1\].*averaging_rate="
    with pytest.raises(ValueError, match=message):
        optimizers.MovingAverageSGD(averaging_rate=rate)


@pytest.mark.parametrize("make", AVERAGED)
def test_averages_of_several_workers(make):
    with elastic(2).scope():
        model = compiled(make())
    message = "is a sequential method.*Received: a strategy with 2 workers.*"
    with pytest.raises(ValueError, match=message) as error:
        fit(model)
    assert 'ElasticMirroredStrategy(["CPU:0"])' in str(error.value)
    assert "`EASGD` for several workers" in str(error.value)


@pytest.mark.parametrize("name", ["initial_learning_rate", "decay"])
def test_schedule(name):
    arguments = {"initial_learning_rate": 0.1, "decay": 0.1, name: -1.0}
    message = f"`{name}` must be a finite.*Received: {name}=-1.0"
    with pytest.raises(ValueError, match=message):
        optimizers.schedules.InverseSqrtDecay(**arguments)


# What `Elastic` can be put around.


class TorchLike:
    """An optimizer as other libraries have it."""

    def step(self):
        raise NotImplementedError


@pytest.mark.parametrize(
    "inner", [TorchLike(), TorchLike, keras.optimizers.SGD, None, 0.1]
)
def test_elastic_of_no_keras_optimizer(inner):
    message = "must be a `keras.optimizers.Optimizer` or the name of one"
    with pytest.raises(TypeError, match=message) as error:
        optimizers.Elastic(inner)
    assert type(inner).__qualname__ in str(error.value)
    assert "its counterpart in `keras.optimizers`" in str(error.value)


def test_elastic_of_a_loss_scale_optimizer():
    inner = keras.optimizers.LossScaleOptimizer(keras.optimizers.SGD())
    with pytest.raises(TypeError, match="LossScaleOptimizer cannot be") as e:
        optimizers.Elastic(inner)
    assert "outside: `LossScaleOptimizer(Elastic(" in str(e.value)


def test_elastic_of_an_elastic_optimizer():
    message = "EASGD cannot be inside.*needs no second one around it"
    with pytest.raises(TypeError, match=message):
        optimizers.Elastic(optimizers.EASGD())


def test_elastic_of_use_ema():
    inner = keras.optimizers.SGD(use_ema=True)
    message = "average each worker.*Received: use_ema=True. Leave it out"
    with pytest.raises(ValueError, match=message):
        optimizers.Elastic(inner)


def test_elastic_of_an_optimizer_of_another_scope():
    inner = keras.optimizers.SGD()
    with elastic(2).scope():
        model = compiled(optimizers.Elastic(inner))
    message = "created in the scope of the same strategy.*Create both inside"
    with pytest.raises(ValueError, match=message):
        fit(model)


# Strategies and scopes.


def test_unknown_exchange():
    message = "`order` must be one of.*'jacobi'.*Received: order='ring'"
    with pytest.raises(ValueError, match=message):
        strategies.ElasticMirroredStrategy(["CPU:0"], order="ring")


@pytest.mark.parametrize(
    "devices",
    [["CPU:0", "CPU:0"], ["CPU:0", "/device:CPU:0"], ["CPU:0", "cpu:0"]],
)
def test_a_device_named_twice(devices):
    message = "`devices` must not name a device twice. Received: devices="
    with pytest.raises(ValueError, match=message):
        strategies.ElasticMirroredStrategy(devices)


def test_a_model_built_outside_of_the_scope():
    model = network()
    with elastic(2).scope():
        model.compile(optimizers.EASGD(), loss="mse")
    message = "must be built inside the scope.*Received: variable='.*kernel'"
    with pytest.raises(ValueError, match=message) as error:
        fit(model)
    assert "into `with strategy.scope():`" in str(error.value)


def test_a_model_of_another_elastic_strategy():
    with elastic(2).scope():
        model = network()
    with strategies.ElasticMirroredStrategy(["CPU:0", "CPU:1"]).scope():
        optimizer = optimizers.EASGD()
    with pytest.raises(ValueError, match="must be built inside the scope"):
        optimizer.build(model.trainable_variables)


@pytest.mark.parametrize("make", [*ELASTIC, optimizers.AveragedSGD])
def test_no_elastic_strategy(make):
    model = compiled(make())
    with pytest.raises(ValueError, match="needs an elastic strategy") as e:
        fit(model)
    assert "Received: strategy=" in str(e.value)
    assert "ElasticMirroredStrategy().scope():" in str(e.value)


def test_the_stock_mirrored_strategy():
    with tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"]).scope():
        model = compiled(optimizers.EASGD())
    message = "needs an elastic strategy.*Received: strategy=MirroredStrategy"
    with pytest.raises(ValueError, match=message):
        fit(model)


def test_an_optimizer_created_outside_of_the_scope():
    optimizer = optimizers.EASGD()
    with elastic(2).scope():
        model = compiled(optimizer)
    message = "must be created inside the scope.*Received: EASGD, created out"
    with pytest.raises(ValueError, match=message):
        fit(model)


@pytest.mark.parametrize("make", ELASTIC)
def test_building_without_a_strategy_works(make):
    model = network()
    optimizer = make()
    optimizer.build(model.trainable_variables)
    assert optimizer.built and len(optimizer.variables) >= 2


@pytest.mark.parametrize("make", ELASTIC)
def test_loading_without_a_strategy_works(tmp_path, make):
    with elastic(2).scope():
        model = compiled(make())
    build(model)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    for found, expected in zip(
        loaded.get_weights(), model.get_weights(), strict=True
    ):
        np.testing.assert_array_equal(found, expected)
    with pytest.raises(ValueError, match="needs an elastic strategy"):
        fit(loaded)


def test_what_was_trained_predicts_without_a_strategy(tmp_path):
    with elastic(2).scope():
        model = compiled(
            optimizers.EASGD(communication_period=1, jit_compile=False)
        )
    before = model.get_weights()
    fit(model)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    np.testing.assert_allclose(
        loaded.predict(X, verbose=0), model.predict(X, verbose=0), rtol=1e-6
    )
    for found, expected, initial in zip(
        loaded.get_weights(), model.get_weights(), before, strict=True
    ):
        np.testing.assert_array_equal(found, expected)
        assert (found != initial).all()


def test_a_stock_optimizer_under_the_elastic_strategy():
    with elastic(2).scope():
        model = compiled("adam")
    before = model.get_weights()
    with pytest.raises(RuntimeError, match="trains only with the opt") as e:
        fit(model)
    assert "`tf_elastic.optimizers.Elastic(your_optimizer)`" in str(e.value)
    assert "Received: an update of '" in str(e.value)
    for found, expected in zip(model.get_weights(), before, strict=True):
        np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("graph", [False, True])
@pytest.mark.parametrize("method", ["assign", "assign_add", "assign_sub"])
def test_an_assignment_from_a_replica(method, graph):
    with elastic(2).scope():
        variable = tf.Variable([1.0, 2.0], name="mine")
        optimizers.EASGD().build([variable])

    def assign():
        getattr(variable, method)([3.0, 4.0])

    def run():
        elastic(2).run(assign)

    message = "may not assign to a var.* trained .*Received: variable='mine"
    with pytest.raises(RuntimeError, match=message) as error:
        (tf.function(run) if graph else run)()
    assert "`constraint`" in str(error.value)
    assert "tf_elastic.strategies.worker_view()" in str(error.value)
    np.testing.assert_array_equal(variable.numpy(), [1.0, 2.0])


def test_an_update_outside_of_replicas():
    with elastic(2).scope():
        model = compiled(optimizers.EASGD())
        optimizer = model.optimizer
        optimizer.build(model.trainable_variables)
    grads = [tf.ones(v.shape) for v in model.trainable_variables]
    message = "for each replica. Received: a call outside of `strategy.run`"
    with pytest.raises(ValueError, match=message) as error:
        optimizer.apply(grads, model.trainable_variables)
    assert "Use `model.fit`" in str(error.value)


def test_compile_with_jit_compile():
    with elastic(2).scope():
        model = compiled(optimizers.EASGD(), jit_compile=True)
    message = "An elastic exchange must be able to reach all devices"
    with pytest.raises(RuntimeError, match=message) as error:
        fit(model)
    assert "`model.compile(jit_compile=True)`" in str(error.value)
    assert 'Leave `jit_compile="auto"` in `compile`' in str(error.value)


def test_rates_that_cannot_converge_are_warned_of():
    with elastic(3).scope():
        model = compiled(optimizers.EASGD(moving_rate=0.5))
    with pytest.warns(theory.StabilityWarning, match="cannot conv") as caught:
        build(model)
    [warning] = [w for w in caught if w.category is theory.StabilityWarning]
    message = str(warning.message)
    assert "moving_rate=0.5 (beta=1.5) with 3 workers" in message
    assert "strictly between 0 and 0.5" in message
    assert "nearest stable value is moving_rate=0.4995" in message


def test_rates_on_the_stable_side_are_not():
    with elastic(3).scope():
        model = compiled(optimizers.EASGD(moving_rate=0.49))
    build(model)


def test_without_an_exchange_no_rate_is_warned_of():
    with elastic(3).scope():
        model = compiled(
            optimizers.EASGD(moving_rate=5.0, communication_period=None)
        )
    build(model)


def test_workers_that_have_not_been_built():
    message = "EASGD has no workers yet.*optimizer.build"
    with pytest.raises(ValueError, match=message):
        optimizers.EASGD().worker_points()
    with pytest.raises(ValueError, match=message):
        optimizers.EASGD().elastic_distances()
