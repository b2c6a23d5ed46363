"""The optimizers under stock `fit` against the papers' pseudo-code, float64."""

import functools

import keras
import numpy as np
import pytest

from tests import reference
from tests.quadratic_support import INITIAL
from tests.quadratic_support import Record
from tests.quadratic_support import build
from tests.quadratic_support import fit
from tests.quadratic_support import gradient
from tests.quadratic_support import relative_error
from tests.quadratic_support import samples
from tf_elastic import compat
from tf_elastic import core
from tf_elastic import optimizers

LEARNING_RATE, MOMENTUM, BETA = 0.05, 0.9, 0.9
STEPS = 40  # local steps of each worker; a multiple of every period below

pytestmark = pytest.mark.usefixtures("float64")


def train(strategy, make_optimizer, p, order="jacobi"):
    """Trajectories of stock `fit`, in rows as the references have them."""
    with strategy(p, order).scope():
        model = build(make_optimizer)
        model.optimizer.build(model.trainable_variables)
    record = Record()
    fit(model, range(p), STEPS, callbacks=[record])
    rows = {k: np.stack(v) for k, v in record.rows.items() if v}
    rows["workers"] = rows["stored"]
    if getattr(model.optimizer, "nesterov", False):
        rows["workers"] = core.plain_point(
            rows["stored"], rows["velocity"], model.optimizer.momentum
        )
    return rows


def assert_same(found, expected, order="jacobi"):
    """Every worker, its velocity and the center, after every step."""
    assert relative_error(found["center"], expected["center"]) < 1e-10
    if "velocity" in expected:
        error = relative_error(found["velocity"], expected["velocity"])
        assert error < 1e-10
    if order == "gauss_seidel":
        # The workers move to the new center at once, in the pseudo-code at
        # the start of the next step: seen from where the gradient is taken
        # that is the same.
        error = relative_error(
            found["stored"][:-1], expected["gradient_points"]
        )
    else:
        error = relative_error(found["workers"], expected["workers"])
    assert error < 1e-10


def heavy_ball_round_robin(
    gradient,
    initial,
    *,
    num_workers,
    communication_period,
    learning_rate,
    moving_rate,
    momentum,
    beta,
    num_steps,
):
    """Algorithm 2 with the gradient of eq. 2.6, at x."""
    x = np.tile(initial, (num_workers, 1))
    v, c = np.zeros_like(x), np.array(initial)
    workers, velocity, center = [x.copy()], [v.copy()], [c]
    for t in range(num_steps):
        for i in range(num_workers):
            at = x[i].copy()
            if t % communication_period == 0:
                x[i] = x[i] - moving_rate * (at - c)
                c = c + (beta / num_workers) * (at - c)
            v[i] = momentum * v[i] - learning_rate * gradient(i, t, at)
            x[i] = x[i] + v[i]
        workers.append(x.copy())
        velocity.append(v.copy())
        center.append(c)
    return {
        "workers": np.stack(workers),
        "velocity": np.stack(velocity),
        "center": np.stack(center),
    }


REFERENCES = {
    ("easgd", "jacobi"): reference.easgd_synchronous,
    ("easgd", "round_robin"): reference.easgd_round_robin,
    ("easgd", "gauss_seidel"): reference.easgd_gauss_seidel,
    ("nesterov", "jacobi"): reference.eamsgd_synchronous,
    ("nesterov", "round_robin"): reference.eamsgd_round_robin,
    ("nesterov", "gauss_seidel"): reference.eamsgd_gauss_seidel,
    ("heavy_ball", "jacobi"): reference.heavy_ball_synchronous,
    ("heavy_ball", "round_robin"): heavy_ball_round_robin,
    ("heavy_ball", "gauss_seidel"): reference.heavy_ball_gauss_seidel,
}


def expected_run(
    method,
    order,
    p,
    tau,
    *,
    moving_rate=None,
    beta=BETA,
    learning_rate=LEARNING_RATE,
):
    return REFERENCES[method, order](
        gradient,
        INITIAL,
        num_workers=p,
        communication_period=tau,
        learning_rate=learning_rate,
        moving_rate=beta / p if moving_rate is None else moving_rate,
        beta=beta,
        num_steps=STEPS,
        **({} if method == "easgd" else {"momentum": MOMENTUM}),
    )


def optimizer_of(method, tau, jit_compile=False, momentum=MOMENTUM, **kwargs):
    """A function that makes it, to be called in the scope."""
    kwargs = {
        "learning_rate": LEARNING_RATE,
        "beta": BETA,
        "communication_period": tau,
        "jit_compile": jit_compile,
        **kwargs,
    }
    if method == "easgd":
        return lambda: optimizers.EASGD(**kwargs)
    return lambda: optimizers.EAMSGD(
        momentum=momentum, nesterov=method == "nesterov", **kwargs
    )


XLA = {"jit_compile": True}
FREE_RATES = {"moving_rate": 0.15, "beta": 1.2, "symmetric": False}


def cases():
    """All p and tau for EAMSGD as in the thesis; every rule with p = 3.

    Every order has XLA too, and rates of which alpha is not beta / p. All p,
    tau, rules and orders, but not every pair of them, are in `make test`.
    """
    main = ("nesterov", "jacobi")
    for p in (1, 3, 8):
        for tau in (1, 4, 10):
            yield *main, p, tau, {}
    yield *main, 3, 4, XLA
    yield *main, 3, 10, FREE_RATES
    yield "nesterov", "round_robin", 3, 4, FREE_RATES
    yield "nesterov", "gauss_seidel", 3, 4, FREE_RATES
    yield "easgd", "jacobi", 3, 1, {}
    yield "easgd", "round_robin", 3, 4, XLA
    yield "easgd", "gauss_seidel", 3, 10, {}
    yield "heavy_ball", "jacobi", 3, 10, {}
    yield "heavy_ball", "round_robin", 1, 10, {}
    yield "heavy_ball", "round_robin", 3, 1, {}
    yield "heavy_ball", "gauss_seidel", 3, 4, XLA


def name_of(case):
    method, order, p, tau, options = case
    ending = {"jit_compile": "-xla", "moving_rate": "-free"}
    return f"{method}-{order}-{p}-{tau}" + "".join(
        ending.get(option, "") for option in options
    )


# Enough for all the code.
IN_MAKE_TEST = {
    "nesterov-jacobi-1-10",
    "nesterov-jacobi-3-4",
    "nesterov-jacobi-8-1",
    "nesterov-jacobi-3-4-xla",
    "nesterov-round_robin-3-4-free",
    "easgd-round_robin-3-4-xla",
    "heavy_ball-gauss_seidel-3-4-xla",
}


def tier_of(case):
    return [] if name_of(case) in IN_MAKE_TEST else [pytest.mark.full]


@pytest.mark.parametrize(
    ("method", "order", "p", "tau", "options"),
    [
        pytest.param(*case, id=name_of(case), marks=tier_of(case))
        for case in cases()
    ],
)
def test_every_step_equals_the_pseudo_code(
    strategy, method, order, p, tau, options
):
    found = train(strategy, optimizer_of(method, tau, **options), p, order)
    rates = {k: options[k] for k in ("moving_rate", "beta") if k in options}
    expected = expected_run(method, order, p, tau, **rates)
    assert_same(found, expected, order)


@pytest.mark.parametrize(
    "method", [pytest.param("easgd", marks=pytest.mark.full), "nesterov"]
)
def test_several_steps_per_execution_end_the_same(strategy, method):
    """7 divides neither the 40 steps nor the period."""
    expected = expected_run(method, "jacobi", 2, 4)
    with strategy(2).scope():
        model = build(optimizer_of(method, 4), steps_per_execution=7)
    fit(model, [0, 1], STEPS)
    record = Record()
    record.set_model(model)
    record.note()
    stored, center = record.rows["stored"][0], record.rows["center"][0]
    if method == "nesterov":
        velocity = record.rows["velocity"][0]
        stored = core.plain_point(stored, velocity, MOMENTUM)
    assert relative_error(stored, expected["workers"][-1]) < 1e-10
    assert relative_error(center, expected["center"][-1]) < 1e-10
    assert model.optimizer.iterations.numpy() == STEPS
    assert model.optimizer.center_step.numpy() == STEPS // 4


def test_train_on_batch_equals_the_pseudo_code(strategy):
    """Its batch is cut up among the workers as that of `fit` is."""
    steps = 10
    with strategy(2).scope():
        model = build(optimizer_of("nesterov", 4))
        model.optimizer.build(model.trainable_variables)
    record = Record()
    record.set_model(model)
    record.note()
    x, y = samples([0, 1])
    for t in range(steps):
        model.train_on_batch(x[2 * t : 2 * t + 2], y[2 * t : 2 * t + 2])
        record.note()
    expected = reference.eamsgd_synchronous(
        gradient,
        INITIAL,
        num_workers=2,
        communication_period=4,
        learning_rate=LEARNING_RATE,
        moving_rate=BETA / 2,
        momentum=MOMENTUM,
        num_steps=steps,
    )
    found = {k: np.stack(v) for k, v in record.rows.items()}
    found["workers"] = core.plain_point(
        found["stored"], found["velocity"], MOMENTUM
    )
    assert_same(found, expected)


def test_decay_runs_on_the_workers_clock(strategy):
    schedule = optimizers.schedules.InverseSqrtDecay(0.1, decay=0.02)
    found = train(
        strategy, optimizer_of("nesterov", 4, learning_rate=schedule), 2
    )
    expected = expected_run(
        "nesterov",
        "jacobi",
        2,
        4,
        learning_rate=reference.square_root_decay(0.1, 0.02),
    )
    assert_same(found, expected)


@pytest.mark.parametrize("average_from", [0, 5])
def test_asgd_equals_the_pseudo_code(strategy, average_from):
    found = train(
        strategy,
        lambda: optimizers.AveragedSGD(
            0.05, average_from=average_from, jit_compile=False
        ),
        1,
    )
    expected = reference.averaged_sgd(
        gradient,
        INITIAL,
        learning_rate=0.05,
        num_steps=STEPS,
        average_from=average_from,
    )
    assert_same(found, expected)


@pytest.mark.parametrize("average_from", [0, 5])
def test_mvasgd_equals_the_pseudo_code(strategy, average_from):
    found = train(
        strategy,
        lambda: optimizers.MovingAverageSGD(
            0.05,
            averaging_rate=0.01,
            average_from=average_from,
            jit_compile=False,
        ),
        1,
    )
    expected = reference.moving_average_sgd(
        gradient,
        INITIAL,
        learning_rate=0.05,
        averaging_rate=0.01,
        num_steps=STEPS,
        average_from=average_from,
    )
    assert_same(found, expected)


# Known methods as special cases.

# Keras rounds SGD's momentum to float32: one that this does not change.
SGD_MOMENTUM = 0.875
SGD_OF = {
    "easgd": {},
    "nesterov": {"momentum": SGD_MOMENTUM, "nesterov": True},
    "heavy_ball": {"momentum": SGD_MOMENTUM},
}


@functools.cache
def keras_sgd(method, worker):
    """What `keras.optimizers.SGD` stores on one worker's data, every step."""
    model = build(lambda: keras.optimizers.SGD(LEARNING_RATE, **SGD_OF[method]))
    rows = [INITIAL]

    def note(batch, logs):
        rows.append(np.concatenate(model.get_weights()))

    callback = keras.callbacks.LambdaCallback(on_train_batch_end=note)
    fit(model, [worker], STEPS, callbacks=[callback])
    return np.stack(rows)


@pytest.mark.parametrize(
    ("method", "change"),
    [
        ("nesterov", {"communication_period": None}),
        pytest.param(
            "nesterov",
            {"moving_rate": 0.0, "beta": 0.0},
            marks=pytest.mark.full,
        ),
        (
            "easgd",
            {"moving_rate": 0.0, "beta": 0.9, "symmetric": False},
        ),
    ],
    ids=["nesterov-alone", "alpha_0", "alpha_0-beta"],
)
def test_no_pull_equals_independent_runs_of_keras_sgd(strategy, method, change):
    found = train(
        strategy, optimizer_of(method, 4, momentum=SGD_MOMENTUM, **change), 2
    )
    for worker in range(2):
        expected = keras_sgd(method, worker)
        assert relative_error(found["stored"][:, worker], expected) < 1e-10
    if change.get("beta") != 0.9:
        np.testing.assert_array_equal(
            found["center"], np.tile(INITIAL, (STEPS + 1, 1))
        )


@pytest.mark.parametrize(
    ("method", "order"),
    [
        ("heavy_ball", "jacobi"),
        pytest.param("nesterov", "gauss_seidel", marks=pytest.mark.full),
    ],
)
def test_one_worker_that_is_not_pulled_is_keras_sgd(strategy, method, order):
    found = train(
        strategy,
        optimizer_of(
            method,
            4,
            momentum=SGD_MOMENTUM,
            moving_rate=0.0,
            beta=0.0,
            symmetric=False,
        ),
        1,
        order,
    )
    expected = keras_sgd(method, 0)
    assert relative_error(found["stored"][:, 0], expected) < 1e-10
    np.testing.assert_array_equal(
        found["center"], np.tile(INITIAL, (STEPS + 1, 1))
    )


def test_elastic_of_sgd_is_easgd(strategy):
    kwargs = {
        "beta": BETA,
        "communication_period": 4,
        "jit_compile": False,
    }
    found = train(
        strategy,
        lambda: optimizers.Elastic(
            keras.optimizers.SGD(LEARNING_RATE), **kwargs
        ),
        2,
    )
    assert_same(found, expected_run("easgd", "jacobi", 2, 4))


# Conservation.


def sum_of_all(model):
    """sum(workers) + center, and the center, of all variables in a row."""
    record = Record()
    record.set_model(model)
    record.note()
    workers, center = record.rows["stored"][0], record.rows["center"][0]
    if record.rows["velocity"]:
        workers = core.plain_point(
            workers, record.rows["velocity"][0], model.optimizer.momentum
        )
    return workers.sum(axis=0) + center, center


@pytest.mark.parametrize(
    ("method", "order", "jit_compile"),
    [
        ("nesterov", "jacobi", True),
        pytest.param("nesterov", "gauss_seidel", False, marks=pytest.mark.full),
    ],
)
def test_a_live_exchange_conserves_workers_plus_center(
    strategy, method, order, jit_compile
):
    """A learning rate of 0, and workers that were moved apart by hand.

    Gauss-Seidel pulls by another difference than it pushes: it conserves
    sum(workers) + (1 - beta) center, see `tests/core_test.py`.
    """
    p, beta = 2, 0.6
    with strategy(p, order).scope():
        model = build(
            optimizer_of(method, 1, jit_compile, learning_rate=0.0, beta=beta)
        )
        model.optimizer.build(model.trainable_variables)
    generator = np.random.default_rng(2)
    for variable in model.trainable_variables:
        compat.native_variable(variable).assign_worker_values(
            generator.normal(size=(p, *variable.shape))
        )
    total, center = sum_of_all(model)
    fit(model, range(p), steps=5)
    new_total, new_center = sum_of_all(model)
    assert np.min(np.abs(new_center - center)) > 1e-3
    if order == "gauss_seidel":
        total, new_total = total - beta * center, new_total - beta * new_center
    assert relative_error(new_total, total) < 1e-13
