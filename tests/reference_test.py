"""The references agree with each other and with steps worked out by hand."""

import inspect
import math

import numpy as np
import pytest

from tests import reference

P, TAU, N, STEPS = 3, 4, 5, 40
INITIAL = np.linspace(-1.0, 2.0, N)
COMMON = {"num_workers": P, "communication_period": TAU, "num_steps": STEPS}
RATES = {"learning_rate": 0.05, "moving_rate": 0.2}

_GENERATOR = np.random.default_rng(7)
_NOISE = _GENERATOR.normal(size=(P, STEPS, N))
_CURVATURE = _GENERATOR.uniform(0.2, 2.0, size=(P, N))


def noisy_gradient(worker, step, point):
    """A noisy, mildly non-linear field that differs from worker to worker."""
    return (
        _CURVATURE[worker] * point + 0.3 * np.sin(point) + _NOISE[worker, step]
    )


def assert_same(left, right, keys=("workers", "center", "gradient_points")):
    for key in keys:
        np.testing.assert_allclose(
            left[key], right[key], rtol=1e-13, atol=1e-13, err_msg=key
        )


WITH_MOMENTUM = [
    (reference.eamsgd_synchronous, reference.easgd_synchronous),
    (reference.heavy_ball_synchronous, reference.easgd_synchronous),
    (reference.eamsgd_round_robin, reference.easgd_round_robin),
    (reference.eamsgd_gauss_seidel, reference.easgd_gauss_seidel),
    (reference.heavy_ball_gauss_seidel, reference.easgd_gauss_seidel),
]
ELASTIC = sorted(
    {method for pair in WITH_MOMENTUM for method in pair},
    key=lambda method: method.__name__,
)


def call(method, **changes):
    """Runs `method` on the noisy field with the settings it has."""
    settings = {**COMMON, **RATES, "momentum": 0.8, **changes}
    accepted = inspect.signature(method).parameters
    settings = {k: v for k, v in settings.items() if k in accepted}
    return method(settings.pop("gradient", noisy_gradient), INITIAL, **settings)


@pytest.mark.parametrize("method", ELASTIC)
def test_shapes_and_start(method):
    run = call(method)
    assert run["workers"].shape == (STEPS + 1, P, N)
    assert run["center"].shape == (STEPS + 1, N)
    assert run["gradient_points"].shape == (STEPS, P, N)
    np.testing.assert_array_equal(run["center"][0], INITIAL)
    np.testing.assert_array_equal(
        run["workers"][0], np.broadcast_to(INITIAL, (P, N))
    )
    if "velocity" in run:
        assert run["velocity"].shape == (STEPS + 1, P, N)
        np.testing.assert_array_equal(run["velocity"][0], 0)
    assert {array.dtype for array in run.values()} == {np.dtype(np.float64)}


@pytest.mark.parametrize("method", ELASTIC)
def test_recorded_gradient_points_are_those_given_to_the_callback(method):
    seen = np.full((STEPS, P, N), np.nan)

    def gradient(worker, step, point):
        assert np.isnan(seen[step, worker]).all()
        seen[step, worker] = point
        return noisy_gradient(worker, step, point)

    run = call(method, gradient=gradient)
    np.testing.assert_array_equal(run["gradient_points"], seen)


@pytest.mark.parametrize("method", ELASTIC)
def test_the_initial_array_is_left_alone(method):
    before = INITIAL.copy()
    call(method)
    np.testing.assert_array_equal(INITIAL, before)


@pytest.mark.parametrize(("momentum_method", "plain"), WITH_MOMENTUM)
def test_zero_momentum_reduces_to_the_plain_method(momentum_method, plain):
    assert_same(call(momentum_method, momentum=0.0), call(plain))


@pytest.mark.parametrize("method", ELASTIC)
def test_zero_moving_rate_is_independent_runs(method):
    together = call(method, moving_rate=0.0)
    np.testing.assert_array_equal(
        together["center"], np.broadcast_to(INITIAL, (STEPS + 1, N))
    )
    for worker in range(P):
        alone = call(
            method,
            gradient=lambda _, step, x, i=worker: noisy_gradient(i, step, x),
            num_workers=1,
            moving_rate=0.0,
        )
        np.testing.assert_array_equal(
            together["workers"][:, worker], alone["workers"][:, 0]
        )


@pytest.mark.parametrize("method", ELASTIC)
def test_a_period_longer_than_the_run_is_independent_runs(method):
    # The first exchange, at t = 0, finds every worker at the center; in round
    # robin too, since nothing has moved the center before a worker's turn.
    assert_same(
        call(method, communication_period=STEPS + 1),
        call(method, moving_rate=0.0),
        keys=("workers", "gradient_points"),
    )


@pytest.mark.parametrize(
    "method",
    [method for method in ELASTIC if "gauss_seidel" not in method.__name__],
)
def test_exchanges_conserve_the_sum_of_workers_and_center(method):
    run = call(method, communication_period=3)
    total = run["workers"].sum(axis=1) + run["center"]
    if "velocity" in run:
        moved = run["velocity"][1:].sum(axis=1)
    else:
        gradients = np.array(
            [
                [noisy_gradient(i, t, x) for i, x in enumerate(row)]
                for t, row in enumerate(run["gradient_points"])
            ]
        )
        moved = -RATES["learning_rate"] * gradients.sum(axis=1)
    np.testing.assert_allclose(np.diff(total, axis=0), moved, atol=1e-13)


def test_gauss_seidel_averaging_keeps_the_consensus():
    # Without gradients and started from agreement, nothing moves.
    run = call(reference.easgd_gauss_seidel, gradient=lambda *_: np.zeros(N))
    np.testing.assert_allclose(
        run["workers"], np.broadcast_to(INITIAL, (STEPS + 1, P, N)), rtol=1e-15
    )


@pytest.mark.parametrize("tau", [1, 4])
def test_gauss_seidel_with_full_rates_is_downpour(tau):
    assert_same(
        call(
            reference.easgd_gauss_seidel,
            communication_period=tau,
            moving_rate=1.0,
            beta=float(P),
        ),
        call(reference.downpour_synchronous, communication_period=tau),
    )


@pytest.mark.parametrize("method", ELASTIC)
def test_beta_defaults_to_p_alpha_and_is_free(method):
    assert_same(call(method), call(method, beta=P * RATES["moving_rate"]))
    other = call(method, beta=0.5)
    assert not np.allclose(other["center"], call(method)["center"])


def test_one_worker_round_robin_is_synchronous():
    one = {"num_workers": 1}
    assert_same(
        call(reference.easgd_round_robin, **one),
        call(reference.easgd_synchronous, **one),
    )
    assert_same(
        call(reference.eamsgd_round_robin, **one),
        call(reference.eamsgd_synchronous, **one),
        keys=("workers", "center", "gradient_points", "velocity"),
    )


def test_equation_3_55_is_algorithm_1_one_worker_at_a_time():
    turns = call(reference.round_robin_3_55, num_steps=P * (STEPS - 1))
    lockstep = call(reference.easgd_round_robin, communication_period=1)
    # Worker i's k-th step is time k p + i; after each full turn they agree.
    np.testing.assert_allclose(
        turns["workers"][::P], lockstep["workers"][:STEPS], rtol=1e-13
    )
    np.testing.assert_allclose(
        turns["center"][::P], lockstep["center"][:STEPS], rtol=1e-13
    )
    active = ~np.isnan(turns["gradient_points"]).any(axis=2)
    np.testing.assert_array_equal(active.sum(axis=1), 1)
    np.testing.assert_array_equal(
        active.argmax(axis=1), np.arange(P * (STEPS - 1)) % P
    )


@pytest.mark.parametrize("method", ELASTIC)
def test_a_schedule_is_read_on_the_local_clock(method):
    constant = call(method, learning_rate=lambda clock: 0.05)
    assert_same(constant, call(method))
    clocks = []

    def schedule(clock):
        clocks.append(clock)
        return 0.05

    call(method, learning_rate=schedule)
    assert sorted(set(clocks)) == list(range(STEPS))


def test_square_root_decay():
    decay = reference.square_root_decay(0.1, 3.0)
    assert decay(0) == 0.1
    assert decay(1) == pytest.approx(0.05)
    assert decay(5) == pytest.approx(0.025)


# Single steps by hand: F(x) = x^2 / 2 (so g = x), p = 2, start at 8, eta = 1/4
# for worker 0. To part the workers, worker 1 has g = 2 x.


def by_hand(worker, step, point):
    del step
    return (worker + 1) * point


def hand_run(method, num_steps=2, **settings):
    settings = {
        "num_workers": 2,
        "communication_period": 1,
        "learning_rate": 0.25,
        "moving_rate": 0.25,
        **settings,
    }
    accepted = inspect.signature(method).parameters
    settings = {k: v for k, v in settings.items() if k in accepted}
    run = method(by_hand, np.array([8.0]), num_steps=num_steps, **settings)
    return {key: value[..., 0] for key, value in run.items()}


def test_easgd_synchronous_by_hand():
    run = hand_run(reference.easgd_synchronous)
    # Step 0: no elastic term (all at 8). x = 8 - 2, 8 - 4.
    # Step 1: x0 = 6 - 1.5 - (6 - 8)/4 = 5; x1 = 4 - 2 - (4 - 8)/4 = 3;
    #         c = 8 + (0.5/2) ((6 - 8) + (4 - 8)) = 6.5.
    np.testing.assert_array_equal(run["workers"], [[8, 8], [6, 4], [5, 3]])
    np.testing.assert_array_equal(run["center"], [8, 8, 6.5])
    np.testing.assert_array_equal(run["gradient_points"], [[8, 8], [6, 4]])


def test_easgd_synchronous_with_free_beta_by_hand():
    run = hand_run(reference.easgd_synchronous, beta=1.0)
    np.testing.assert_array_equal(run["workers"][2], [5, 3])
    np.testing.assert_array_equal(run["center"], [8, 8, 5])  # Mean of 6, 4.


def test_easgd_synchronous_with_a_period_by_hand():
    run = hand_run(
        reference.easgd_synchronous, communication_period=2, num_steps=3
    )
    # Step 1: x0 = 6 - 1.5, x1 = 4 - 2. Step 2 exchanges:
    # x0 = 4.5 - 1.125 + 3.5/4 = 4.25; x1 = 2 - 1 + 6/4 = 2.5;
    # c = 8 - (3.5 + 6)/4 = 5.625.
    np.testing.assert_array_equal(
        run["workers"], [[8, 8], [6, 4], [4.5, 2], [4.25, 2.5]]
    )
    np.testing.assert_array_equal(run["center"], [8, 8, 8, 5.625])


def test_eamsgd_synchronous_by_hand():
    run = hand_run(reference.eamsgd_synchronous, momentum=0.5)
    # Step 0: v = -2, -4; x = 6, 4.
    # Step 1: points 6 - 1 = 5 and 4 - 2 = 2; v0 = -1 - 5/4 = -2.25,
    #         v1 = -2 - 4/4 = -3; x0 = 6 - 2.25 + 0.5, x1 = 4 - 3 + 1.
    np.testing.assert_array_equal(run["velocity"][1:], [[-2, -4], [-2.25, -3]])
    np.testing.assert_array_equal(run["gradient_points"], [[8, 8], [5, 2]])
    np.testing.assert_array_equal(run["workers"][1:], [[6, 4], [4.25, 2]])
    np.testing.assert_array_equal(run["center"], [8, 8, 6.5])


def test_heavy_ball_synchronous_by_hand():
    run = hand_run(reference.heavy_ball_synchronous, momentum=0.5)
    # Step 1: v0 = -1 - 6/4 = -2.5, v1 = -2 - 8/4 = -4;
    #         x0 = 6 - 2.5 + 0.5 = 4, x1 = 4 - 4 + 1 = 1.
    np.testing.assert_array_equal(run["velocity"][1:], [[-2, -4], [-2.5, -4]])
    np.testing.assert_array_equal(run["gradient_points"], [[8, 8], [6, 4]])
    np.testing.assert_array_equal(run["workers"][1:], [[6, 4], [4, 1]])
    np.testing.assert_array_equal(run["center"], [8, 8, 6.5])


def test_easgd_round_robin_by_hand():
    run = hand_run(reference.easgd_round_robin)
    # Step 1: worker 0 as before, then c = 8 - 2/4 = 7.5; worker 1 meets that:
    #         x1 = 4 - 2 + 3.5/4 = 2.875, c = 7.5 - 3.5/4 = 6.625.
    np.testing.assert_array_equal(run["workers"][1:], [[6, 4], [5, 2.875]])
    np.testing.assert_array_equal(run["center"], [8, 8, 6.625])
    np.testing.assert_array_equal(run["gradient_points"], [[8, 8], [6, 4]])


def test_eamsgd_round_robin_by_hand():
    run = hand_run(reference.eamsgd_round_robin, momentum=0.5)
    np.testing.assert_array_equal(run["gradient_points"], [[8, 8], [5, 2]])
    np.testing.assert_array_equal(run["velocity"][1:], [[-2, -4], [-2.25, -3]])
    np.testing.assert_array_equal(run["workers"][1:], [[6, 4], [4.25, 1.875]])
    np.testing.assert_array_equal(run["center"], [8, 8, 6.625])


def test_round_robin_3_55_by_hand():
    run = hand_run(reference.round_robin_3_55, num_steps=4)
    np.testing.assert_array_equal(
        run["workers"], [[8, 8], [6, 8], [6, 4], [5, 4], [5, 2.875]]
    )
    np.testing.assert_array_equal(run["center"], [8, 8, 8, 7.5, 6.625])


def test_easgd_gauss_seidel_by_hand():
    run = hand_run(reference.easgd_gauss_seidel)
    # Step 0: x = 6, 4; c = 8 + (0.5/2) (-2 - 4) = 6.5.
    # Step 1: x_{1/2} = 6 + 0.5/4 = 6.125, 4 + 2.5/4 = 4.625;
    #         x = 6.125 * 3/4 = 4.59375, 4.625 / 2 = 2.3125;
    #         c = 6.5 - (1.90625 + 4.1875)/4 = 4.9765625.
    np.testing.assert_array_equal(
        run["gradient_points"], [[8, 8], [6.125, 4.625]]
    )
    np.testing.assert_array_equal(
        run["workers"][1:], [[6, 4], [4.59375, 2.3125]]
    )
    np.testing.assert_array_equal(run["center"], [8, 6.5, 4.9765625])


def test_easgd_gauss_seidel_with_a_period_by_hand():
    run = hand_run(
        reference.easgd_gauss_seidel, communication_period=2, num_steps=3
    )
    # Period 0: x = 6, 4, then 4.5, 2; c = 8 - (3.5 + 6)/4 = 5.625.
    # Step 2: x_{1/2} = 4.5 + 1.125/4 = 4.78125, 2 + 3.625/4 = 2.90625.
    np.testing.assert_array_equal(
        run["workers"], [[8, 8], [6, 4], [4.5, 2], [3.5859375, 1.453125]]
    )
    np.testing.assert_array_equal(run["center"], [8, 8, 5.625, 5.625])


def test_eamsgd_gauss_seidel_by_hand():
    run = hand_run(reference.eamsgd_gauss_seidel, momentum=0.5)
    # Step 1: points 6.125 - 1 and 4.625 - 2; v0 = -1 - 5.125/4 = -2.28125,
    #         v1 = -2 - 2 * 2.625/4 = -3.3125; x = 3.84375, 1.3125;
    #         c = 6.5 - (2.65625 + 5.1875)/4 = 4.5390625.
    np.testing.assert_array_equal(
        run["gradient_points"], [[8, 8], [5.125, 2.625]]
    )
    np.testing.assert_array_equal(
        run["velocity"][1:], [[-2, -4], [-2.28125, -3.3125]]
    )
    np.testing.assert_array_equal(
        run["workers"][1:], [[6, 4], [3.84375, 1.3125]]
    )
    np.testing.assert_array_equal(run["center"], [8, 6.5, 4.5390625])


def test_heavy_ball_gauss_seidel_by_hand():
    run = hand_run(reference.heavy_ball_gauss_seidel, momentum=0.5)
    # Step 1: v0 = -1 - 6.125/4 = -2.53125, v1 = -2 - 4.625/2 = -4.3125;
    #         x = 3.59375, 0.3125; c = 6.5 - (2.90625 + 6.1875)/4 = 4.2265625.
    np.testing.assert_array_equal(
        run["velocity"][1:], [[-2, -4], [-2.53125, -4.3125]]
    )
    np.testing.assert_array_equal(
        run["workers"][1:], [[6, 4], [3.59375, 0.3125]]
    )
    np.testing.assert_array_equal(run["center"], [8, 6.5, 4.2265625])


def test_downpour_synchronous_by_hand():
    run = hand_run(reference.downpour_synchronous)
    # Step 0: x = 6, 4; c = 8 - 2 - 4 = 2. Step 1: x = 1.5, 1; c = 0.5.
    np.testing.assert_array_equal(run["workers"], [[8, 8], [6, 4], [1.5, 1]])
    np.testing.assert_array_equal(run["center"], [8, 2, 0.5])


def test_asgd_by_hand():
    run = reference.averaged_sgd(
        by_hand, np.array([8.0]), learning_rate=0.5, num_steps=3
    )
    # x = 8, 4, 2, 1; z_1 = 8, z_2 = (8 + 4)/2, z_3 = (8 + 4 + 2)/3.
    np.testing.assert_array_equal(run["workers"][:, 0, 0], [8, 4, 2, 1])
    np.testing.assert_allclose(run["center"][:, 0], [8, 8, 6, 14 / 3])
    np.testing.assert_array_equal(run["gradient_points"][:, 0, 0], [8, 4, 2])


def test_asgd_is_the_mean_of_the_points_passed():
    run = reference.averaged_sgd(
        noisy_gradient, INITIAL, learning_rate=0.05, num_steps=STEPS
    )
    for t in range(1, STEPS + 1):
        np.testing.assert_allclose(
            run["center"][t],
            run["workers"][:t, 0].mean(axis=0),
            rtol=1e-12,
            atol=1e-14,
        )


def test_mvasgd_by_hand():
    run = reference.moving_average_sgd(
        by_hand,
        np.array([8.0]),
        learning_rate=0.5,
        averaging_rate=0.25,
        num_steps=3,
    )
    # z_1 = 8, z_2 = 6 + 1, z_3 = 5.25 + 0.5.
    np.testing.assert_array_equal(run["workers"][:, 0, 0], [8, 4, 2, 1])
    np.testing.assert_array_equal(run["center"][:, 0], [8, 8, 7, 5.75])


def test_averaging_with_a_schedule():
    decay = reference.square_root_decay(0.5, 3.0)
    run = reference.averaged_sgd(
        by_hand, np.array([8.0]), learning_rate=decay, num_steps=2
    )
    assert run["workers"][2, 0, 0] == pytest.approx(4 * 0.75)
    assert math.isclose(run["center"][2, 0], 6.0)
