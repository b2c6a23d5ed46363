"""Keras' options, and what is refused: the second half of the table."""

import re

import keras
import numpy as np
import pytest
import tensorflow as tf

from tests import conformance_cases as cases
from tests import conformance_support as support
from tests import devices
from tests.conformance_cases import CASES
from tests.conformance_support import TRAIN
from tests.conformance_support import X
from tests.conformance_support import Y
from tests.conformance_support import compiled
from tests.conformance_support import fit
from tests.conformance_support import state
from tf_elastic import compat
from tf_elastic import optimizers
from tf_elastic import strategies
from tf_elastic.optimizers import registration_checks


def each_optimizer(use, refused=False):
    """Those whose own code a use goes through, or those that refuse it."""
    chosen = {
        name: case
        for name, case in CASES.items()
        if (use in case.refused) == refused
        and (refused or cases.shown_by(name, use) == name)
    }
    each = pytest.mark.parametrize("case", cases.params(chosen))
    if refused:
        return each
    return lambda test: cases.shows(use)(each(test))


@each_optimizer("export")
def test_exported_model_is_the_center(case, tmp_path):
    model = fit(compiled(case, support.noisy_network))
    model.export(tmp_path / "export", verbose=False)
    exported = tf.saved_model.load(str(tmp_path / "export"))
    np.testing.assert_allclose(
        exported.serve(X), model.predict(X, verbose=0), rtol=1e-5, atol=1e-6
    )


@each_optimizer("clipping")
def test_clipping_acts_on_each_worker(case):
    """A tight clip bounds how far a worker gets in one step.

    Which of the three is Keras' own business: one without an inner optimizer
    and, in `make test-all`, one with have all.
    """
    limits = {"global_clipnorm": 0.01}
    if case in (CASES["EAMSGD"], CASES["Elastic(DelayedGradient)"]):
        limits |= {"clipnorm": 0.01, "clipvalue": 0.001}
    for name, limit in limits.items():
        model = compiled(case, options={name: limit}, run_eagerly=True)
        before = state(model)[: len(model.variables)]
        model.fit(X[:12], Y[:12], batch_size=12, epochs=1, verbose=0)
        moved = [
            compat.native_variable(variable).worker_values() - start
            for start, variable in zip(
                before, model.trainable_variables, strict=True
            )
        ]
        assert any(np.any(way) for way in moved)
        for way in moved:
            size = (
                np.abs(way).max()
                if name == "clipvalue"
                else np.sqrt(np.square(way).sum(axis=tuple(range(1, way.ndim))))
            )
            assert np.all(size <= reach(case) * limit * (1 + 1e-3))


def reach(case):
    """How far a gradient of norm 1 may take a worker in one step."""
    if case is CASES["Elastic(Adam)"]:
        return np.inf  # Adam's step does not scale with its gradient.
    if case is CASES["AsyncMSGD"]:
        return 0.05 * 2.5 * 1.001  # two pushes, with momentum 0.5
    return 0.05 * 1.8  # Nesterov's look-ahead point, momentum 0.8


@each_optimizer("accumulation")
def test_gradient_accumulation_equals_a_larger_batch(case):
    p, small = case.num_workers, support.BATCH // case.num_workers
    # In graphs for one with an inner optimizer and for one without.
    graph = case in (CASES["EAMSGD"], CASES["DiLoCo(SGD)"])
    accumulated = fit(
        compiled(
            case,
            options={"gradient_accumulation_steps": 2},
            run_eagerly=not graph,
        )
    )
    # The large batch whose slice i joins worker i's two small ones.
    order = (
        np.arange(len(X)).reshape(-1, 2, p, small).swapaxes(1, 2).reshape(-1)
    )
    at_once = compiled(case, run_eagerly=True)
    at_once.fit(X[order], Y[order], batch_size=24, shuffle=False, verbose=0)
    support.assert_same_workers(accumulated, at_once)
    assert int(accumulated.optimizer.iterations) == 4


@each_optimizer("weight_decay")
def test_weight_decay_shrinks(case):
    plain, decayed = (
        fit(
            compiled(case, options=options, run_eagerly=True),
            data=TRAIN.take(4),  # a period, and a step
        )
        for options in ({}, {"weight_decay": 0.3})
    )
    kernels = [
        np.linalg.norm(model.trainable_variables[0].numpy())
        for model in (plain, decayed)
    ]
    assert kernels[1] < kernels[0]


@each_optimizer("use_ema")
def test_use_ema_averages_the_center(case):
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


@pytest.mark.parametrize(
    ("make", "order"),
    [
        (optimizers.EASGD, "gauss_seidel"),
        (optimizers.EASGD, "jacobi"),
        (optimizers.Downpour, None),
        (optimizers.AsyncMSGD, None),
    ],
)
@pytest.mark.parametrize("accumulated", [None, 2])
def test_use_ema_takes_the_center_after_the_exchange(
    strategy, make, order, accumulated
):
    """On x^2 / 2 from 1, at rate 0.1: the center is averaged as by Keras."""
    options = {}
    if make is optimizers.EASGD:
        options["beta"] = {"jacobi": 0.5, "gauss_seidel": 1}[order]
    if make is not optimizers.AsyncMSGD:
        options["communication_period"] = 1
    with strategy(1, order).scope():
        x = keras.Variable([1.0])
        optimizer = make(
            0.1,
            use_ema=True,
            ema_momentum=0.9,
            gradient_accumulation_steps=accumulated,
            **options,
        )
        optimizer.build([x])
    center = keras.Variable([1.0])
    keras_own = keras.optimizers.SGD(
        1.0,
        use_ema=True,
        ema_momentum=0.9,
        gradient_accumulation_steps=accumulated,
    )
    keras_own.build([center])

    def step():
        with strategies.worker_view():
            optimizer.apply([tf.identity(x.value)], [x])

    averages = []
    for _ in range(4):
        optimizer._distribution_strategy.run(step)
        # Keras' average, of a model that moves as this center.
        center.assign(x)
        keras_own._update_model_variables_moving_average([center])
        keras_own._iterations.assign_add(1)
        [average], [expected] = (
            o._model_variables_moving_average for o in (optimizer, keras_own)
        )
        np.testing.assert_allclose(average, expected, rtol=1e-6)
        averages.append(float(average[0]))
    if order == "gauss_seidel" and accumulated is None:
        # Plain SGD: 0.9, 0.81, ...
        np.testing.assert_allclose(averages[:3], [0.9, 0.891, 0.8748], 1e-6)


@each_optimizer("train_step")
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
    fit(model)
    before = model.evaluate(TRAIN, verbose=0)
    fit(model)
    assert model.evaluate(TRAIN, verbose=0) < before
    assert float(model.steps) == 16


# What has no meaning is refused, with a sentence that names the argument.


@each_optimizer("use_ema", refused=True)
def test_use_ema_is_refused(case):
    says, _ = case.refused["use_ema"]
    with pytest.raises(ValueError, match=re.escape(says)):
        case.make(use_ema=True)


@each_optimizer("weight_decay", refused=True)
def test_weight_decay_is_refused(case):
    says, _ = case.refused["weight_decay"]
    with pytest.raises(ValueError, match=re.escape(says)) as error:
        case.make(weight_decay=0.3)
    assert "`weight_decay`" in str(error.value)
    assert "kernel_regularizer" in str(error.value)


def test_every_option_of_the_table_is_shown():
    shown = cases.SHOWN[__name__]
    assert set(shown) == set(cases.OPTIONS)
    assert set(shown.values()) <= set(globals())


def test_every_refusal_is_tested():
    refused = {use for case in CASES.values() for use in case.refused}
    assert refused == {"use_ema", "weight_decay"}


@pytest.mark.parametrize("make", [optimizers.AsyncMSGD, optimizers.MDownpour])
def test_a_period_of_gradients_is_refused(make):
    with pytest.raises(ValueError, match="communication_period=4"):
        make(communication_period=4)


@pytest.mark.parametrize("period", [None, 0, 1.5])
def test_admm_refuses_a_period_that_is_none(period):
    with pytest.raises(ValueError, match=f"communication_period={period}"):
        optimizers.ADMM(communication_period=period)


@pytest.mark.parametrize(
    ("make", "argument"),
    [
        (lambda: optimizers.AsyncMSGD(adjustment="linear"), "adjustment"),
        (lambda: optimizers.AsyncMSGD(momentum=1.0), "momentum"),
        (
            lambda: optimizers.AsyncMSGD(delay_compensation=-1.0),
            "delay_compensation",
        ),
        (lambda: optimizers.MDownpour(momentum=-0.1), "momentum"),
        (lambda: optimizers.MVADownpour(averaging_rate=0), "averaging_rate"),
        (
            lambda: optimizers.DiLoCo(outer_learning_rate=-1.0),
            "outer_learning_rate",
        ),
        (lambda: optimizers.DiLoCo(outer_momentum=1.0), "outer_momentum"),
        (lambda: optimizers.ADMM(elasticity=-1.0), "elasticity"),
        (lambda: optimizers.Downpour(learning_rate=-1.0), "learning_rate"),
        (lambda: optimizers.Downpour(jit_compile="yes"), "jit_compile"),
        (
            lambda: optimizers.Downpour(ema_overwrite_frequency=3),
            "ema_overwrite_frequency",
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_an_argument_out_of_its_range_is_named(make, argument):
    with pytest.raises(ValueError, match=f"(?s)`{argument}`.*Received: "):
        make()


def test_momentum_that_is_set_is_checked():
    optimizer = optimizers.AsyncMSGD(momentum=0.5)
    with pytest.raises(ValueError, match="`momentum`.*momentum=1.5"):
        optimizer.momentum = 1.5
    assert float(optimizer.momentum.numpy()) == 0.5


def test_the_default_momentum_of_the_center_is_shared_by_the_workers():
    optimizer = one_weight(optimizers.AsyncMSGD)
    assert float(optimizer.momentum.numpy()) == pytest.approx(0.9 / 2)
    config = optimizer.get_config()
    assert config["momentum"] is None  # Another number of workers, another.
    optimizer.momentum = 0.25
    assert optimizer.get_config()["momentum"] == 0.25


def test_a_momentum_that_is_set_before_the_building_stays():
    def make():
        optimizer = optimizers.AsyncMSGD()
        optimizer.momentum = 0.25
        return optimizer

    assert float(one_weight(make).momentum.numpy()) == 0.25


def one_weight(make, **strategy_options):
    """A model with one weight, built with an optimizer; it is not trained."""
    strategy = strategies.ElasticMirroredStrategy(
        devices.names(2), **strategy_options
    )
    with strategy.scope():
        model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
        optimizer = make()
        optimizer.build(model.trainable_variables)
    return optimizer


@pytest.mark.parametrize("name", CASES)
def test_every_order_is_there_or_refused(name):
    case = CASES[name]
    if case.num_workers == 1:
        return
    method = case.make().method
    for order in registration_checks.ORDERS:
        if order in method.orders:
            optimizer = one_weight(case.make, order=order)
            assert optimizer.built
            continue
        with pytest.raises(ValueError) as error:
            one_weight(case.make, order=order)
        assert f"Received: order='{order}'" in str(error.value)
        assert method.refusal in str(error.value)
        assert str(method.orders) in str(error.value)


@pytest.mark.parametrize("name", CASES)
def test_conservation_is_checked_or_refused(name):
    case = CASES[name]
    if case.num_workers == 1:
        return
    if "jacobi" in case.make().method.orders:
        assert one_weight(case.make, check_conservation=True).built
        return
    with pytest.raises(ValueError, match="`check_conservation` is for"):
        one_weight(case.make, check_conservation=True)
