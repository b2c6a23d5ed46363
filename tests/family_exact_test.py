"""The family under stock `fit` against the papers' pseudo-code, float64.

Workers come to the center one after another, so that what one brings is late
by what the others have done: p - 1 updates for a gradient, and after a longer
period whole periods of the others.
"""

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
from tests.quadratic_support import worker_rows
from tf_elastic import optimizers

STEPS = 24  # local steps of each worker; a multiple of every period below

# In some of the cases, instead of tests of their own.
DECAY = optimizers.schedules.InverseSqrtDecay(0.02, decay=0.1)
XLA_AND_DECAY = {"jit_compile": True, "learning_rate": DECAY}

pytestmark = pytest.mark.usefixtures("float64")


def train(strategy, make_optimizer, p, order=None, **compile_kwargs):
    """Rows of stock `fit`: "stored", "center", and what the rule keeps."""
    with strategy(p, order).scope():
        model = build(make_optimizer, **compile_kwargs)
        model.optimizer.build(model.trainable_variables)
    record = Record()
    fit(model, range(p), steps=STEPS, callbacks=[record])
    return {k: np.stack(v) for k, v in record.rows.items() if v}, model


def turns(p, steps=STEPS):
    return list(range(p)) * steps


def after_rounds(run, key, p):
    """Rows of a run by turns: before the first and after every round."""
    return run[key][::p]


def points_of_rounds(run, p):
    """Where each worker took its gradient, shape (steps, p, n)."""
    points = run["gradient_points"]
    rows = points[np.arange(len(points)), np.arange(len(points)) % p]
    return rows.reshape(-1, p, points.shape[-1])


def rate_of(options, learning_rate):
    """What a reference is given for an optimizer's learning rate."""
    if "learning_rate" in options:
        return reference.square_root_decay(0.02, 0.1)
    return learning_rate


def assert_gradients_at(found, points):
    """The workers hold the points of the next gradient."""
    steps = len(found["stored"]) - 1
    assert relative_error(found["stored"][:-1], points[:steps]) < 1e-10


def assert_center(found, expected):
    assert relative_error(found["center"], expected) < 1e-10


# DOWNPOUR.

DOWNPOURS = {
    None: optimizers.Downpour,
    "polyak": optimizers.ADownpour,
    0.1: optimizers.MVADownpour,
}


def downpour_of(averaging, tau, learning_rate=0.01, **kwargs):
    kwargs = {
        "learning_rate": learning_rate,
        "communication_period": tau,
        "jit_compile": False,
        **kwargs,
    }
    if isinstance(averaging, float):
        kwargs["averaging_rate"] = averaging
    return lambda: DOWNPOURS[averaging](**kwargs)


def assert_is_downpour(found, p, tau, averaging, learning_rate, average_from=0):
    """Algorithm 3 pushes a period when the worker begins the next one.

    So what `fit` shows after a step is the algorithm a round later, with the
    pushes of that step's period.
    """
    expected = reference.downpour(
        gradient,
        INITIAL,
        num_workers=p,
        communication_period=tau,
        learning_rate=learning_rate,
        schedule=turns(p, STEPS + 1),
        averaging=averaging,
        average_from=average_from,
    )
    key = "center" if averaging is None else "average"
    assert_center(found, after_rounds(expected, key, p)[1:])
    assert_gradients_at(found, points_of_rounds(expected, p))


@pytest.mark.parametrize(
    ("averaging", "p", "tau", "options"),
    [
        (None, 1, 4, {}),
        (None, 3, 1, {}),
        ("polyak", 2, 4, XLA_AND_DECAY),
        pytest.param(0.1, 3, 3, {}, marks=pytest.mark.full),
        ("polyak", 2, 2, {"average_from": 7}),
        (0.1, 2, 1, {"average_from": 7}),
    ],
)
def test_downpour_equals_algorithm_3(strategy, averaging, p, tau, options):
    found, _ = train(strategy, downpour_of(averaging, tau, **options), p)
    assert_is_downpour(
        found,
        p,
        tau,
        averaging,
        rate_of(options, 0.01),
        options.get("average_from", 0),
    )


def test_downpours_average_at_once_counts_updates_of_the_center(strategy):
    p, tau = 2, 4
    run = reference.downpour_synchronous(
        gradient,
        INITIAL,
        num_workers=p,
        communication_period=tau,
        learning_rate=0.01,
        num_steps=STEPS,
    )
    found, _ = train(strategy, downpour_of("polyak", tau), p, "gauss_seidel")
    # After k updates: the mean of the centers before each of them.
    before = run["center"][:-1:tau]
    means = np.cumsum(before, axis=0) / np.arange(1, len(before) + 1)[:, None]
    assert_center({"center": found["center"][tau::tau]}, means)


def test_downpour_is_gauss_seidel_with_alpha_1_and_beta_p(strategy):
    """Section 6.2: two optimizers of the package, the same at every step.

    And both are eq. 6.1.
    """
    p, tau = 2, 4

    def elastic():
        return optimizers.EASGD(
            0.01,
            moving_rate=1.0,
            beta=float(p),
            communication_period=tau,
            jit_compile=False,
        )

    downpour, _ = train(strategy, downpour_of(None, tau), p, "gauss_seidel")
    expected = reference.downpour_synchronous(
        gradient,
        INITIAL,
        num_workers=p,
        communication_period=tau,
        learning_rate=0.01,
        num_steps=STEPS,
    )
    assert_center(downpour, expected["center"])
    assert_gradients_at(downpour, expected["gradient_points"])
    easgd, _ = train(strategy, elastic, p, "gauss_seidel")
    for key in ("stored", "center"):
        assert relative_error(downpour[key], easgd[key]) < 1e-10
    assert relative_error(easgd["center"][-1], INITIAL) > 1e-2


# Momentum at the center.

ADJUSTMENTS = {
    "constant": None,
    "inverse": lambda k: 1 / k,
    "inverse_sqrt": lambda k: 1 / np.sqrt(k),
}


@pytest.mark.parametrize(
    ("p", "settings", "options"),
    [
        pytest.param(3, {"momentum": 0.5}, {}, marks=pytest.mark.full),
        (2, {"momentum": 0.0, "adjustment": "inverse"}, XLA_AND_DECAY),
        (
            4,
            {
                "momentum": 0.3,
                "adjustment": "inverse_sqrt",
                "staleness_scaling": True,
                "delay_compensation": 0.2,
            },
            {},
        ),
    ],
    ids=["plain", "u_k", "all"],
)
def test_async_msgd_equals_equation_1_3(strategy, p, settings, options):
    arguments = {"learning_rate": 0.05, "jit_compile": False, **options}
    found, _ = train(
        strategy, lambda: optimizers.AsyncMSGD(**arguments, **settings), p
    )
    expected = reference.async_msgd(
        gradient,
        INITIAL,
        num_workers=p,
        learning_rate=rate_of(options, 0.05),
        schedule=turns(p),
        **{
            **settings,
            "adjustment": ADJUSTMENTS[settings.get("adjustment", "constant")],
        },
    )
    assert_center(found, after_rounds(expected, "center", p))
    workers = after_rounds(expected, "workers", p)
    assert relative_error(found["stored"], workers) < 1e-10


def test_mdownpour_equals_algorithms_4_and_5(strategy):
    p = 3
    found, model = train(
        strategy,
        lambda: optimizers.MDownpour(0.01, momentum=0.8, jit_compile=False),
        p,
    )
    expected = reference.mdownpour(
        gradient,
        INITIAL,
        num_workers=p,
        learning_rate=0.01,
        momentum=0.8,
        schedule=turns(p),
    )
    assert_center(found, after_rounds(expected, "center", p))
    workers = after_rounds(expected, "workers", p)
    assert relative_error(found["stored"], workers) < 1e-10
    velocity = worker_rows(model.optimizer._center_slots["velocity"])
    expected = np.tile(expected["center_velocity"][-1], (p, 1))
    assert relative_error(velocity, expected) < 1e-10


def test_mdownpour_of_one_worker_is_nesterovs_sgd(strategy):
    """Both hold the look-ahead point. Keras rounds 0.875 nowhere."""
    found, _ = train(
        strategy,
        lambda: optimizers.MDownpour(0.05, momentum=0.875, jit_compile=False),
        1,
    )
    model = build(
        lambda: keras.optimizers.SGD(0.05, momentum=0.875, nesterov=True)
    )
    rows = [INITIAL]
    note = keras.callbacks.LambdaCallback(
        on_train_batch_end=lambda batch, logs: rows.append(
            np.concatenate(model.get_weights())
        )
    )
    fit(model, [0], steps=STEPS, callbacks=[note])
    assert relative_error(found["stored"][:, 0], np.stack(rows)) < 1e-10


def test_momentum_may_change_while_training_goes_on(strategy):
    """Without a new graph: the rate of a push is read when it is made."""
    with strategy(2, None).scope():
        model = build(
            lambda: optimizers.AsyncMSGD(0.05, momentum=0.5, jit_compile=False),
            steps_per_execution=2,
        )
        model.optimizer.build(model.trainable_variables)
    fit(model, range(2), steps=4)
    model.optimizer.momentum = 0.0
    fit(model, range(2), steps=4)
    first = reference.async_msgd(
        gradient,
        INITIAL,
        num_workers=2,
        learning_rate=0.05,
        momentum=0.5,
        schedule=turns(2, 4),
    )["center"][-2:]
    # From here plain ASGD, each worker at the point that it was given.
    points, center = list(first), first[-1]
    for t in range(4):
        for i in range(2):
            center = center - 0.05 * gradient(i, t, points[i])
            points[i] = center
    record = Record()
    record.set_model(model)
    record.note()
    assert relative_error(record.rows["center"][0], center) < 1e-10


# Model averaging.


def test_local_sgd_is_gauss_seidel_with_alpha_and_beta_1(strategy):
    """The latter by its reference, which EASGD equals with any rates."""
    p, tau = 3, 4
    local, _ = train(
        strategy,
        lambda: optimizers.LocalSGD(
            keras.optimizers.SGD(0.05),
            communication_period=tau,
            jit_compile=False,
        ),
        p,
    )
    settings = {
        "num_workers": p,
        "communication_period": tau,
        "learning_rate": 0.05,
        "num_steps": STEPS,
    }
    expected = reference.local_sgd(gradient, INITIAL, **settings)
    assert_center(local, expected["center"])
    assert relative_error(local["stored"], expected["workers"]) < 1e-10
    easgd = reference.easgd_gauss_seidel(
        gradient, INITIAL, moving_rate=1.0, beta=1.0, **settings
    )
    assert_center(local, easgd["center"])
    assert_gradients_at(local, easgd["gradient_points"])


@pytest.mark.parametrize(
    ("p", "tau", "outer"),
    [(1, 3, (0.7, 0.9)), (2, 4, (0.5, 0.8))],
)
def test_diloco_equals_algorithm_1(strategy, p, tau, outer):
    found, _ = train(
        strategy,
        lambda: optimizers.DiLoCo(
            keras.optimizers.SGD(0.05),
            outer_learning_rate=outer[0],
            outer_momentum=outer[1],
            communication_period=tau,
            jit_compile=False,
        ),
        p,
    )
    expected = reference.diloco(
        gradient,
        INITIAL,
        num_workers=p,
        communication_period=tau,
        learning_rate=0.05,
        outer_learning_rate=outer[0],
        outer_momentum=outer[1],
        num_steps=STEPS,
    )
    assert_center(found, expected["center"])
    assert relative_error(found["stored"], expected["workers"]) < 1e-10


# ADMM.


@pytest.mark.parametrize(
    ("p", "tau", "options"), [(3, 1, {}), (2, 4, XLA_AND_DECAY)]
)
def test_admm_equals_equations_3_52_to_3_54(strategy, p, tau, options):
    arguments = {
        "learning_rate": 0.05,
        "elasticity": 1.5,
        "communication_period": tau,
        "jit_compile": False,
        **options,
    }
    found, model = train(strategy, lambda: optimizers.ADMM(**arguments), p)
    expected = reference.admm(
        gradient,
        INITIAL,
        num_workers=p,
        learning_rate=rate_of(options, 0.05),
        elasticity=1.5,
        schedule=turns(p),
        communication_period=tau,
    )
    assert_center(found, after_rounds(expected, "center", p))
    workers = after_rounds(expected, "workers", p)
    assert relative_error(found["stored"], workers) < 1e-10
    multipliers = worker_rows(model.optimizer._multipliers)
    expected = expected["multipliers"][-1]
    assert relative_error(multipliers, expected) < 1e-10


# Weights that are set from outside.


@pytest.mark.parametrize(
    "make",
    [
        pytest.param(
            lambda: optimizers.ADownpour(0.05, jit_compile=False),
            id="adownpour",
        ),
        pytest.param(
            lambda: optimizers.ADMM(0.05, jit_compile=False),
            id="admm",
            marks=pytest.mark.full,
        ),
    ],
)
def test_weights_that_are_set_are_where_all_go_on(strategy, make):
    """The way there is nobody's update: training goes on as from new."""
    with strategy(2, None).scope():
        old, new = build(make), build(make)
        # A time average counts from the first update.
        new.optimizer.build(new.trainable_variables)
    fit(old, range(2), steps=3)
    moved = [np.linspace(3.0, 5.0, len(w)) for w in old.get_weights()]
    for model in (old, new):
        model.set_weights(moved)
    old.optimizer.center_step.assign(0)
    for model in (old, new):
        fit(model, range(2), steps=4)
    for a, b in zip(old.get_weights(), new.get_weights(), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-12)
    a, b = (worker_rows(model.trainable_variables) for model in (old, new))
    np.testing.assert_allclose(a, b, rtol=1e-12)
    # And it is a step of this size, not a jump by the way that was set.
    assert np.max(np.abs(np.concatenate(new.get_weights()) - 4)) < 3
