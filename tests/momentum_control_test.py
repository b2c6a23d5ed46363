"""`core.momentum_control` against hand values and against simulations."""

import numpy as np
import pytest

from tf_elastic.core import momentum_control

CURVATURE = np.linspace(0.2, 1.0, 40)
RATE = 0.05


def heavy_ball(staleness, momentum, steps=40, noise=None):
    """Centers, and the gradients taken at each, one for each update.

    Eq. 1.3: what is applied was taken `staleness` updates ago; before that,
    at the start.
    """
    path = [np.ones_like(CURVATURE)]
    gradients = []
    for k in range(steps):
        at_k = CURVATURE * path[k]
        gradients.append(at_k if noise is None else at_k + noise[k])
        before = path[max(k - 1, 0)]
        late = gradients[max(k - staleness, 0)]
        path.append(path[k] - RATE * late + momentum * (path[k] - before))
    return np.stack(path), np.stack(gradients)


def measured(path, gradients, first, count=8, **kwargs):
    """The total momentum that `count` updates show."""
    return momentum_control.total_momentum(
        path[first - 1 : first + count + 1],
        gradients[first : first + count],
        np.full(count, RATE),
        **kwargs,
    )


@pytest.mark.parametrize(
    ("staleness", "rate", "constant", "expected"),
    [
        (7, 0.04, 5.6, 0.5),  # 1 - sqrt(7 * 0.2 / 5.6)
        (1, 0.0625, 4.0, 0.75),  # 1 - sqrt(0.25 / 4)
        (8, 0.25, 4.0, 0.0),  # 1 - sqrt(1)
        (50, 0.25, 4.0, 0.0),
        (0, 0.25, 4.0, 0.9),
        (7, 0.0, 4.0, 0.9),
        (0.01, 0.0001, 1.0, 0.9),  # 0.99, and no more than 0.9
    ],
)
def test_the_admissible_momentum(staleness, rate, constant, expected):
    found = momentum_control.admissible_momentum(
        staleness, rate, constant, max_momentum=0.9
    )
    assert found == pytest.approx(expected, abs=1e-12)


def test_the_admissible_momentum_meets_the_bound_with_equality():
    staleness, rate, constant = 6.5, 0.03, 9.0
    momentum = momentum_control.admissible_momentum(staleness, rate, constant)
    bound = constant * (1 - momentum) ** 2 / np.sqrt(rate)
    assert bound == pytest.approx(staleness, rel=1e-12)


def test_centers_behind_lookahead_points():
    path = np.random.default_rng(0).normal(size=(6, 3))
    momentum = 0.8
    lookaheads = path[1:] + momentum * np.diff(path, axis=0)
    found = momentum_control.plain_path(path[0], lookaheads, momentum)
    np.testing.assert_allclose(found, path[1:], rtol=1e-12)


@pytest.mark.parametrize("momentum", [0.0, 0.5, 0.9])
def test_without_staleness_it_is_the_momentum(momentum):
    noise = np.random.default_rng(1).normal(size=(40, len(CURVATURE)))
    for each in (None, noise):
        path, gradients = heavy_ball(0, momentum, noise=each)
        assert measured(path, gradients, 5) == pytest.approx(momentum, abs=1e-9)


def test_staleness_adds_to_it():
    """While the center goes one way, about eta h s."""
    found = [
        measured(*heavy_ball(staleness, 0.5), first=12)
        for staleness in (0, 1, 2, 4)
    ]
    assert np.all(np.diff(found) > 0.01)
    path, gradients = heavy_ball(2, 0.5)
    ratios = [
        0.5
        + RATE * CURVATURE * (path[k] - path[k - 2]) / (path[k] - path[k - 1])
        for k in range(12, 20)
    ]
    assert found[2] == pytest.approx(np.median(ratios), rel=1e-9)


def test_noise_leaves_the_median_where_it_is():
    """With many coordinates, each with a noise of its own."""
    momentum, staleness, many = 0.5, 2, 20_000
    rng = np.random.default_rng(2)
    path, gradients = [np.ones(many)], []
    for k in range(30):
        gradients.append(path[k] + 0.3 * rng.normal(size=many))
        late = gradients[max(k - staleness, 0)]
        path.append(
            path[k] - RATE * late + momentum * (path[k] - path[max(k - 1, 0)])
        )
    noisy = measured(np.stack(path), np.stack(gradients), 8)
    path, gradients = [np.ones(1)], []
    for k in range(30):
        gradients.append(path[k])
        late = gradients[max(k - staleness, 0)]
        path.append(
            path[k] - RATE * late + momentum * (path[k] - path[max(k - 1, 0)])
        )
    plain = measured(np.stack(path), np.stack(gradients), 8)
    assert plain > momentum + 0.05
    assert noisy == pytest.approx(plain, abs=0.02)


def test_coordinates_that_do_not_move_say_nothing():
    path, gradients = heavy_ball(0, 0.5)
    path = np.concatenate([path, np.ones((len(path), 60))], axis=1)
    gradients = np.concatenate(
        [gradients, np.zeros((len(gradients), 60))], axis=1
    )
    assert measured(path, gradients, 5) == pytest.approx(0.5, abs=1e-9)
    still, none = np.ones((10, 3)), np.zeros((10, 3))
    assert measured(still, none, 1) is None


def test_moves_of_a_few_roundings_say_nothing():
    path, gradients = heavy_ball(0, 0.5)
    flat = 1.0 + 1e-7 * np.random.default_rng(3).normal(size=(len(path), 90))
    path = np.concatenate([path, flat], axis=1)
    gradients = np.concatenate(
        [gradients, np.zeros((len(gradients), 90))], axis=1
    )
    with_them = measured(path, gradients, 5)
    without = measured(path, gradients, 5, resolution=1.2e-7)
    assert abs(with_them - 0.5) > 0.1
    assert without == pytest.approx(0.5, abs=1e-9)


def test_numbers_that_are_not_finite_are_left_out():
    path, gradients = heavy_ball(0, 0.5)
    gradients[6, :10] = np.inf
    gradients[7, :10] = np.nan
    path[8, :10] = [1e308, -1e308] * 5
    path[9, :10] = [-1e308, 1e308] * 5
    assert measured(path, gradients, 5) == pytest.approx(0.5, abs=1e-9)


@pytest.mark.parametrize(
    ("momentum", "measured_now", "expected"),
    [(0.5, 0.9, 0.46), (0.5, 0.3, 0.52), (0.01, 2.0, 0.0), (0.89, -1.0, 0.9)],
)
def test_one_step_of_the_loop(momentum, measured_now, expected):
    found = momentum_control.feedback_momentum(
        momentum, measured_now, target=0.5, gain=0.1, max_momentum=0.9
    )
    assert found == pytest.approx(expected, abs=1e-12)
