"""The family's references agree with each other and with steps by hand."""

import numpy as np
import pytest

from tests import reference

P, TAU, N, STEPS = 3, 4, 5, 40
INITIAL = np.linspace(-1.0, 2.0, N)
ROUND_ROBIN = list(range(P)) * STEPS
RATE = {"learning_rate": 0.05}

_GENERATOR = np.random.default_rng(7)
_NOISE = _GENERATOR.normal(size=(P, STEPS, N))
_CURVATURE = _GENERATOR.uniform(0.2, 2.0, size=(P, N))


def noisy_gradient(worker, step, point):
    """A noisy, mildly non-linear field that differs from worker to worker."""
    return (
        _CURVATURE[worker] * point + 0.3 * np.sin(point) + _NOISE[worker, step]
    )


TURNS = {
    "downpour": (
        reference.downpour,
        {"communication_period": TAU, "averaging": "polyak"},
    ),
    "mdownpour": (reference.mdownpour, {"momentum": 0.8}),
    "async_msgd": (
        reference.async_msgd,
        {
            "momentum": 0.5,
            "adjustment": lambda k: 1 / k,
            "staleness_scaling": True,
            "delay_compensation": 0.1,
        },
    ),
    "admm": (reference.admm, {"communication_period": TAU, "elasticity": 1.5}),
}
MEETINGS = {
    "local_sgd": (reference.local_sgd, {}),
    "diloco": (
        reference.diloco,
        {"outer_learning_rate": 0.7, "outer_momentum": 0.9},
    ),
}


def call(name, gradient=noisy_gradient, num_workers=P, **changes):
    """Runs a reference on the noisy field with the settings above."""
    if name in TURNS:
        method, settings = TURNS[name]
        settings = {"schedule": ROUND_ROBIN, **settings}
    else:
        method, settings = MEETINGS[name]
        settings = {
            "num_steps": STEPS,
            "communication_period": TAU,
            **settings,
        }
    settings = {**RATE, "num_workers": num_workers, **settings, **changes}
    return method(gradient, INITIAL, **settings)


each_method = pytest.mark.parametrize("name", [*TURNS, *MEETINGS])


@each_method
def test_shapes_and_start(name):
    before = INITIAL.copy()
    run = call(name)
    rows = STEPS * P if name in TURNS else STEPS
    assert run["workers"].shape == (rows + 1, P, N)
    assert run["center"].shape == (rows + 1, N)
    np.testing.assert_array_equal(run["center"][0], INITIAL)
    np.testing.assert_array_equal(
        run["workers"][0], np.broadcast_to(INITIAL, (P, N))
    )
    np.testing.assert_array_equal(INITIAL, before)


@each_method
def test_recorded_gradient_points_are_those_given_to_the_callback(name):
    seen = []

    def gradient(worker, step, point):
        seen.append((worker, step, point.copy()))
        return noisy_gradient(worker, step, point)

    points = call(name, gradient=gradient)["gradient_points"]
    if name in MEETINGS:
        points = points.reshape(-1, N)
    else:
        points = points[np.arange(P * STEPS), np.array(ROUND_ROBIN)]
    for k, (worker, step, point) in enumerate(seen):
        assert (worker, step) == (k % P, k // P)
        np.testing.assert_array_equal(points[k], point)
    assert len(seen) == P * STEPS


@each_method
def test_a_schedule_is_read_on_the_local_clock(name):
    clocks = []

    def schedule(clock):
        clocks.append(clock)
        return 0.05

    np.testing.assert_array_equal(
        call(name, learning_rate=schedule)["center"], call(name)["center"]
    )
    assert sorted(set(clocks)) == list(range(STEPS))


# Known methods as special cases.


def test_one_worker_that_pushes_is_sgd():
    x = INITIAL
    for t in range(STEPS):
        x = x - 0.05 * noisy_gradient(0, t, x)
    one = {"num_workers": 1, "schedule": [0] * STEPS}
    for name, settings in (
        ("downpour", {"averaging": None}),
        ("mdownpour", {"momentum": 0.0}),
        (
            "async_msgd",
            {"momentum": 0.0, "adjustment": None},
        ),
    ):
        run = call(name, **one, **settings)
        np.testing.assert_allclose(
            run["workers"][-1, 0], x, rtol=1e-13, atol=1e-13
        )


def test_mdownpour_of_one_worker_is_nesterovs_sgd():
    found = call("mdownpour", num_workers=1, schedule=[0] * STEPS)
    expected = reference.eamsgd_synchronous(
        noisy_gradient,
        INITIAL,
        num_workers=1,
        communication_period=1,
        moving_rate=0.0,
        momentum=0.8,
        num_steps=STEPS,
        **RATE,
    )
    np.testing.assert_allclose(
        found["center"], expected["workers"][:, 0], rtol=1e-13, atol=1e-13
    )
    np.testing.assert_allclose(
        found["gradient_points"][:, 0],
        expected["gradient_points"][:, 0],
        rtol=1e-13,
    )


def test_async_msgd_of_one_worker_is_the_heavy_ball():
    found = call(
        "async_msgd",
        num_workers=1,
        schedule=[0] * STEPS,
        momentum=0.8,
        adjustment=None,
    )
    expected = reference.heavy_ball_synchronous(
        noisy_gradient,
        INITIAL,
        num_workers=1,
        communication_period=1,
        moving_rate=0.0,
        momentum=0.8,
        num_steps=STEPS,
        **RATE,
    )
    np.testing.assert_allclose(
        found["center"], expected["workers"][:, 0], rtol=1e-13, atol=1e-13
    )
    assert set(found["staleness"]) == {0}


def test_round_robin_is_p_minus_1_updates_late():
    staleness = call("async_msgd")["staleness"]
    np.testing.assert_array_equal(staleness[:P], range(P))
    np.testing.assert_array_equal(staleness[P:], P - 1)


def test_any_order_is_a_schedule():
    """A worker that is away for long is served with what it was given."""
    schedule = [0, 0, 0, 1, 0, 2]
    run = call("async_msgd", schedule=schedule, adjustment=None)
    np.testing.assert_array_equal(run["staleness"], [0, 0, 0, 3, 1, 5])


@pytest.mark.parametrize("tau", [1, 4])
def test_local_sgd_is_gauss_seidel_with_rates_of_1(tau):
    expected = reference.easgd_gauss_seidel(
        noisy_gradient,
        INITIAL,
        num_workers=P,
        communication_period=tau,
        moving_rate=1.0,
        beta=1.0,
        num_steps=STEPS,
        **RATE,
    )
    found = call("local_sgd", communication_period=tau)
    for key in ("center", "gradient_points"):
        np.testing.assert_allclose(
            found[key], expected[key], rtol=1e-12, atol=1e-13
        )


def test_diloco_with_a_plain_outer_step_is_local_sgd():
    found = call("diloco", outer_learning_rate=1.0, outer_momentum=0.0)
    np.testing.assert_allclose(
        found["center"], call("local_sgd")["center"], rtol=1e-12, atol=1e-13
    )


def test_admm_makes_the_center_the_mean_of_all_parts():
    run = call("admm", communication_period=1)
    parts = run["workers"] - run["multipliers"]
    np.testing.assert_allclose(
        parts.mean(axis=1), run["center"], rtol=1e-12, atol=1e-13
    )


# By hand: F(x) = (i + 1) x^2 / 2 on worker i, p = 2, start at 8, eta = 1/4.


def by_hand(worker, step, point):
    del step
    return (worker + 1) * point


HAND = {"num_workers": 2, "learning_rate": 0.25}


def hand_run(method, turns, **settings):
    return method(
        by_hand,
        np.array([8.0]),
        **HAND,
        **settings,
        **(
            {"schedule": turns}
            if isinstance(turns, list)
            else {"num_steps": turns, "communication_period": 1}
        ),
    )


def test_downpour_by_hand():
    run = hand_run(
        reference.downpour,
        [0, 1, 0, 1],
        communication_period=1,
        averaging="polyak",
    )
    assert run["center"].ravel().tolist() == [8, 8, 8, 6, 2]
    assert run["workers"][-1].ravel().tolist() == [4.5, 1]
    assert run["average"].ravel().tolist() == [8, 8, 8, 8, 7]


def test_mdownpour_by_hand():
    run = hand_run(reference.mdownpour, [0, 1, 0], momentum=0.5)
    assert run["center"].ravel().tolist() == [8, 6, 1, -2.75]
    assert run["workers"][-1].ravel().tolist() == [-4.625, -1.5]


def test_async_msgd_by_hand():
    run = hand_run(reference.async_msgd, [0, 1, 0, 1], momentum=0.5)
    assert run["center"].ravel().tolist() == [8, 6, 1, -3, -5.5]


def test_delay_compensation_by_hand():
    run = hand_run(
        reference.async_msgd, [0, 1], momentum=0.5, delay_compensation=0.25
    )
    assert run["center"].ravel().tolist() == [8, 6, 33]


def test_adjustment_and_staleness_by_hand():
    run = hand_run(
        reference.async_msgd,
        [0, 0, 1],
        momentum=0.0,
        adjustment=lambda k: 1 / k**2,
        staleness_scaling=True,
    )
    # 8 - 8 / 4, 6 - 6 / 16, 5.625 - 16 / 36 / 2
    np.testing.assert_allclose(
        run["center"].ravel(), [8, 6, 5.625, 5.625 - 16 / 72], rtol=1e-15
    )


def test_model_averaging_by_hand():
    assert hand_run(reference.local_sgd, 2)["center"].ravel().tolist() == [
        8,
        5,
        3.125,
    ]
    run = hand_run(
        reference.diloco, 2, outer_learning_rate=0.5, outer_momentum=0.5
    )
    assert run["center"].ravel().tolist() == [8, 5.75, 3.7578125]


def test_admm_by_hand():
    run = hand_run(reference.admm, [0, 1], elasticity=4.0)
    assert run["workers"][-1].ravel().tolist() == [7, 5.5]
    assert run["multipliers"][-1].ravel().tolist() == [0, -0.5]
    assert run["center"].ravel().tolist() == [8, 7.5, 6.5]
