"""What elastic averaging is compared with, under stock `fit`, in float64.

Asynchronous DiLoCo and synchronous SGD against the papers' pseudo-code; Muon
inside against Keras' own.
"""

import keras
import numpy as np
import pytest

from tests import quadratic_support as quadratic
from tests import reference
from tests.family_exact_test import DECAY
from tests.family_exact_test import after_rounds
from tests.family_exact_test import assert_center
from tests.family_exact_test import rate_of
from tests.family_exact_test import train
from tests.family_exact_test import turns
from tests.quadratic_support import INITIAL
from tests.quadratic_support import gradient
from tests.quadratic_support import relative_error
from tests.quadratic_support import worker_rows
from tf_elastic import compat
from tf_elastic import optimizers

pytestmark = pytest.mark.usefixtures("float64")

SGD = keras.optimizers.SGD


# Asynchronous DiLoCo.


@pytest.mark.parametrize(
    ("p", "tau", "options"),
    [
        pytest.param(3, 4, {}, marks=pytest.mark.full),
        (
            2,
            3,
            {
                "momentum_delay": 3,
                "momentum_activation": 0.2,
                "jit_compile": True,
            },
        ),
    ],
)
def test_async_diloco_equals_algorithm_3(strategy, p, tau, options):
    found, model = train(
        strategy,
        lambda: optimizers.AsyncDiLoCo(
            SGD(0.05),
            communication_period=tau,
            **{"jit_compile": False, **options},
        ),
        p,
    )
    options.pop("jit_compile", None)
    expected = reference.async_diloco(
        gradient,
        INITIAL,
        num_workers=p,
        communication_period=tau,
        learning_rate=0.05,
        outer_learning_rate=0.7,
        outer_momentum=0.9,
        schedule=turns(p),
        together=True,
        **options,
    )
    assert_center(found, after_rounds(expected, "center", p))
    workers = after_rounds(expected, "workers", p)
    assert relative_error(found["stored"], workers) < 1e-10
    velocity = worker_rows(model.optimizer._center_slots["velocity"])
    # The paper's momentum is a gradient's: it points back.
    momentum = -np.tile(expected["momentum"][-1], (p, 1))
    assert relative_error(velocity, momentum) < 1e-10


@pytest.mark.full
def test_async_diloco_of_one_worker_is_diloco(strategy):
    """Each of its pushes is a step of the outer optimizer."""
    ends = []
    for wrapper in (optimizers.AsyncDiLoCo, optimizers.DiLoCo):
        found, _ = train(
            strategy,
            lambda: wrapper(  # noqa: B023
                SGD(0.05), communication_period=4, jit_compile=False
            ),
            1,
        )
        ends.append(found["center"])
    assert relative_error(*ends) < 1e-10


def test_what_a_period_has_done_is_shown_without_momentum(strategy):
    """`fit` ends in the middle: the others' ways, each by its N-th part."""
    p, tau, steps = 2, 4, 10
    settings = {"communication_period": tau, "jit_compile": False}
    with strategy(p, None, closing=True).scope():
        model = quadratic.build(
            lambda: optimizers.AsyncDiLoCo(SGD(0.05), **settings)
        )
    quadratic.fit(model, range(p), steps=steps)
    expected = reference.async_diloco(
        gradient,
        INITIAL,
        num_workers=p,
        communication_period=tau,
        learning_rate=0.05,
        outer_learning_rate=0.7,
        outer_momentum=0.9,
        schedule=turns(p, steps),
        together=True,
    )
    center, x = expected["center"][-1], expected["workers"]
    begun = x[steps // tau * tau * p]
    shown = center + 0.7 * (x[-1] - begun).sum(axis=0) / p
    assert relative_error(np.concatenate(model.get_weights()), shown) < 1e-10


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"momentum_delay": 0}, "momentum_delay=0"),
        ({"momentum_delay": 2.0}, "momentum_delay=2.0"),
        ({"momentum_activation": -0.1}, "momentum_activation=-0.1"),
        (
            {"momentum_delay": 4, "momentum_activation": 0.3},
            r"`momentum_delay` \(4 here\)",
        ),
        ({"outer_momentum": 1.0}, "outer_momentum"),
    ],
)
def test_what_async_diloco_refuses(options, message):
    with pytest.raises(ValueError, match=message):
        optimizers.AsyncDiLoCo(**options)


def test_a_velocity_that_acts_too_often_for_the_workers_is_refused(strategy):
    with strategy(3, None).scope():
        model = quadratic.build(
            lambda: optimizers.AsyncDiLoCo("sgd", momentum_activation=0.5)
        )
    with pytest.raises(ValueError, match=r"`momentum_delay` \(3 here\)"):
        model.optimizer.build(model.trainable_variables)


# HeLoCo.


@pytest.mark.parametrize(
    ("p", "tau", "options"),
    [
        (3, 1, {"jit_compile": True}),
        pytest.param(2, 4, {"push_weight": 0.8}, marks=pytest.mark.full),
    ],
)
def test_heloco_equals_algorithms_1_and_2(strategy, p, tau, options):
    """Of each of the two variables by itself."""
    found, model = train(
        strategy,
        lambda: optimizers.HeLoCo(
            SGD(0.2),
            communication_period=tau,
            **{"jit_compile": False, **options},
        ),
        p,
    )
    expected = reference.heloco(
        gradient,
        INITIAL,
        blocks=[slice(0, quadratic.SPLIT), slice(quadratic.SPLIT, None)],
        num_workers=p,
        communication_period=tau,
        learning_rate=0.2,
        outer_learning_rate=0.7,
        outer_momentum=0.9,
        weight=options.get("push_weight"),
        schedule=turns(p),
        together=True,
    )
    assert expected["kinds"][-1].min() > 0
    assert_center(found, after_rounds(expected, "center", p))
    workers = after_rounds(expected, "workers", p)
    assert relative_error(found["stored"], workers) < 1e-10
    velocity = worker_rows(model.optimizer._center_slots["velocity"])
    momentum = -np.tile(expected["momentum"][-1], (p, 1))
    assert relative_error(velocity, momentum) < 1e-10


@pytest.mark.parametrize("weight", [0, -0.5, 1.5, "all"])
def test_a_push_weight_is_a_share(weight):
    with pytest.raises(ValueError, match="`push_weight` must be a number"):
        optimizers.HeLoCo(push_weight=weight)


# Synchronous SGD.


@pytest.mark.parametrize(
    ("p", "momentum", "options"),
    [
        (3, 0.75, {"learning_rate": DECAY}),
        pytest.param(2, 0.0, {"jit_compile": True}, marks=pytest.mark.full),
    ],
)
def test_sync_sgd_is_a_step_by_the_mean(strategy, p, momentum, options):
    arguments = {"learning_rate": 0.05, "jit_compile": False, **options}
    found, _ = train(
        strategy, lambda: optimizers.SyncSGD(momentum=momentum, **arguments), p
    )
    expected = reference.sync_sgd(
        gradient,
        INITIAL,
        num_workers=p,
        learning_rate=rate_of(
            options if options.get("learning_rate") is DECAY else {}, 0.05
        ),
        momentum=momentum,
        schedule=turns(p),
    )
    assert_center(found, after_rounds(expected, "center", p))
    workers = after_rounds(expected, "workers", p)
    assert relative_error(found["stored"], workers) < 1e-10


def test_sync_sgd_is_sgd_of_all_rows(strategy):
    """One worker or three: the same batch, the same step."""
    rows = {}
    for p in (1, 3):
        model = network(
            strategy(p, None),
            lambda: optimizers.SyncSGD(0.05, momentum=0.75, jit_compile=False),
        )
        rows[p] = trained(model, batch_size=12)
    plain = network(None, lambda: SGD(0.05, momentum=0.75))
    expected = trained(plain, batch_size=12)
    for found in rows.values():
        assert_same(found, expected)


# Muon inside.


GENERATOR = np.random.default_rng(8)
X = GENERATOR.normal(size=(48, 5))
Y = np.tanh(X @ GENERATOR.normal(size=(5, 2)))


def network(strategy, make, seed=1):
    """Two matrices and their biases; the second has Adam's step in Muon."""

    def build():
        keras.utils.set_random_seed(seed)
        model = keras.Sequential(
            [
                keras.Input((5,)),
                keras.layers.Dense(4, activation="tanh", name="hidden"),
                keras.layers.Dense(2, name="head"),
            ]
        )
        model.compile(make(), loss="mse")
        return model

    if strategy is None:
        return build()
    with strategy.scope():
        return build()


def fit(model, batch_size, epochs=1, **kwargs):
    model.fit(
        X,
        Y,
        batch_size=batch_size,
        epochs=epochs,
        shuffle=False,
        verbose=0,
        **kwargs,
    )


def trained(model, batch_size, epochs=2):
    fit(model, batch_size, epochs)
    return model.get_weights()


def assert_same(found, expected, rtol=1e-10):
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_allclose(a, b, rtol=rtol, atol=1e-12)


def muon():
    return keras.optimizers.Muon(0.02, exclude_layers=["head"])


def around(wrapper, **options):
    return lambda: wrapper(muon(), jit_compile=False, **options)


# With these one worker goes where its inner optimizer does.
PLAIN = {"outer_learning_rate": 1.0, "outer_momentum": 0.0}
MUONS = {
    "Elastic": around(optimizers.Elastic, communication_period=None),
    "LocalSGD": around(optimizers.LocalSGD, communication_period=3),
    "DiLoCo": around(optimizers.DiLoCo, communication_period=3, **PLAIN),
    "AsyncDiLoCo": around(
        optimizers.AsyncDiLoCo, communication_period=3, **PLAIN
    ),
}


@pytest.mark.parametrize(
    "wrapper",
    [
        "Elastic",
        *(
            pytest.param(name, marks=pytest.mark.full)
            for name in ("LocalSGD", "DiLoCo", "AsyncDiLoCo")
        ),
    ],
)
def test_muon_of_one_worker_is_that_of_keras(strategy, wrapper):
    model = network(strategy(1, None), MUONS[wrapper])
    expected = trained(network(None, muon), batch_size=4)
    fit(model, batch_size=4, epochs=2)
    assert_same([x[0] for x in model.optimizer.worker_points()], expected)
    kinds = [v is None for v in model.optimizer.inner_optimizer.adam_velocities]
    assert kinds == [True, False, False, False]


def test_muloco_is_nesterovs_step_by_the_mean_of_muons(strategy):
    """Two workers: two models of Keras alone, and NumPy where they meet."""
    tau, rate, mu = 3, 0.7, 0.9
    model = network(
        strategy(2, None), around(optimizers.DiLoCo, communication_period=tau)
    )
    alone = [network(None, muon) for _ in range(2)]
    center = alone[0].get_weights()
    velocity = [0 * c for c in center]
    for begin in range(0, 48, 8 * tau):
        rows = slice(begin, begin + 8 * tau)
        x, y = X[rows].reshape(tau, 2, 4, 5), Y[rows].reshape(tau, 2, 4, 2)
        for step in range(tau):
            for i, worker in enumerate(alone):
                worker.train_on_batch(x[step, i], y[step, i])
        weights = [worker.get_weights() for worker in alone]
        for k, c in enumerate(center):
            gone = (weights[0][k] + weights[1][k]) / 2 - c
            velocity[k] = mu * velocity[k] + rate * gone
            center[k] = c + mu * velocity[k] + rate * gone
        for worker in alone:
            worker.set_weights(center)
    fit(model, batch_size=8)
    assert_same(model.get_weights(), center)


@pytest.mark.full
@pytest.mark.parametrize(
    "wrapper",
    [
        "AsyncDiLoCo",
        *(
            pytest.param(name, marks=pytest.mark.full)
            for name in ("Elastic", "LocalSGD", "DiLoCo")
        ),
    ],
)
def test_a_run_with_muon_goes_on_from_its_file(strategy, wrapper, tmp_path):
    """In the midst of a period: 6 steps an epoch, 4 a period."""
    periods = {"communication_period": 4}
    make = around(getattr(optimizers, wrapper), **periods)
    whole, part = (network(strategy(2, None), make) for _ in range(2))
    fit(whole, batch_size=8, epochs=3)
    fit(part, batch_size=8)
    part.save(tmp_path / "model.keras")
    with strategy(2, None).scope():
        again = keras.models.load_model(tmp_path / "model.keras")
    fit(again, batch_size=8, epochs=2)
    for a, b in zip(
        again.variables + again.optimizer.variables,
        whole.variables + whole.optimizer.variables,
        strict=True,
    ):
        a, b = (compat.native_variable(v).worker_values() for v in (a, b))
        np.testing.assert_array_equal(a, b)
