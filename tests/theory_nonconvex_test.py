"""`theory.nonconvex`: thesis, section 5.3, and what it leaves out."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.drawing import examples
from tf_elastic.theory import nonconvex

elasticities = st.floats(0.02, 1.5)
fixed = examples(25)


def gradient(x, z, rho):
    """Equation 5.36, transcribed for any p."""
    by_worker = (x**2 - 1) * x + rho * (x - z)
    return np.append(by_worker, np.sum(rho * (z - x)))


def differences(function, at, step=1e-5):
    """Central differences of a scalar or vector function."""
    return np.stack(
        [
            (function(at + step * e) - function(at - step * e)) / (2 * step)
            for e in np.eye(len(at))
        ]
    )


def lone_state(p, upper, rho):
    """The split with `upper` above, by Newton's method from the corner."""
    x = np.repeat([1.0, -1.0], [upper, p - upper])
    for _ in range(60):
        slope = np.diag(3 * x**2 - 1 + rho) - rho / p
        x = x - np.linalg.solve(slope, (x**2 - 1) * x + rho * (x - x.mean()))
    return x


# The objective and its derivatives.


@fixed
@given(st.lists(st.floats(-2, 2), min_size=2, max_size=6), elasticities)
def test_gradient_and_hessian_are_derivatives(point, rho):
    point = np.array(point)
    np.testing.assert_allclose(
        differences(lambda v: nonconvex.objective(v[:-1], v[-1], rho), point),
        gradient(point[:-1], point[-1], rho),
        atol=1e-7,
    )
    np.testing.assert_allclose(
        differences(lambda v: gradient(v[:-1], v[-1], rho), point),
        nonconvex.hessian(point[:-1], rho),
        atol=1e-7,
    )
    np.testing.assert_array_equal(
        nonconvex.well_gradient(point), (point**2 - 1) * point
    )


def test_the_hessian_of_two_workers_is_equation_5_38():
    x, y, rho = 0.3, -0.8, 0.45
    np.testing.assert_array_equal(
        nonconvex.hessian([x, y], rho),
        [
            [3 * x**2 - 1 + rho, 0, -rho],
            [0, 3 * y**2 - 1 + rho, -rho],
            [-rho, -rho, 2 * rho],
        ],
    )


def test_arguments_broadcast():
    rho = np.array([0.1, 0.2, 0.3])
    workers = np.array([[[0.5, 0.4]], [[0.1, -0.7]]])
    many = nonconvex.hessian(workers, rho)
    assert many.shape == (2, 3, 3, 3) and many.dtype == np.float64
    for i, j in itertools.product(range(2), range(3)):
        np.testing.assert_array_equal(
            many[i, j], nonconvex.hessian(workers[i, 0], rho[j])
        )
    values = nonconvex.objective(workers, 0.2, rho)
    assert values.shape == (2, 3)
    assert values[1, 2] == nonconvex.objective(workers[1, 0], 0.2, rho[2])


# Critical points.


@fixed
@given(elasticities, st.integers(1, 5))
def test_critical_points_are_level(rho, p):
    for point in nonconvex.critical_points(rho, p):
        assert point.workers.shape == (p,)
        assert np.all(np.diff(point.workers) <= 0)
        assert point.center == pytest.approx(point.workers.mean())
        np.testing.assert_allclose(
            gradient(point.workers, point.center, rho), 0, atol=1e-9
        )
        np.testing.assert_allclose(
            point.eigenvalues,
            np.linalg.eigvalsh(nonconvex.hessian(point.workers, rho)),
            atol=1e-12,
        )


@pytest.mark.parametrize("p", [1, 2, 3, 4, 5, 6])
@pytest.mark.parametrize("rho", [0.01, 0.1, 0.3, 0.55, 0.72, 0.95, 1.3])
def test_no_critical_point_is_missing(p, rho):
    """By the degree of the gradient: minima - saddles + ... must be 1.

    The objective grows in all directions: (-1)^(ways down), summed over its
    critical points, is that of a single bowl.
    """
    points = nonconvex.critical_points(rho, p)
    assert sum(point.copies * (-1) ** point.ways_down for point in points) == 1
    if rho == 0.01:  # each worker is at -1, 0 or 1, nearly
        assert sum(point.copies for point in points) == 3**p


@pytest.mark.parametrize("rho", [0.05, 0.3, 0.5, 0.65, 0.7, 0.9, 1.1])
def test_critical_points_are_those_that_a_search_finds(rho):
    """Newton's method on eq. 5.37 from a fine grid finds the same ones."""
    known = {
        tuple(order)
        for point in nonconvex.critical_points(rho)
        for order in itertools.permutations(point.workers.round(6) + 0.0)
    }
    start = np.linspace(-1.3, 1.3, 41)
    v = np.stack(np.meshgrid(start, start), axis=-1).reshape(-1, 2)
    coupling = rho / 2 * np.array([[1.0, -1.0], [-1.0, 1.0]])
    for _ in range(100):
        slope = (3 * v**2 - 1)[..., np.newaxis] * np.eye(2) + coupling
        slope += 1e-12 * np.eye(2)
        v = (
            v
            - np.linalg.solve(
                slope, ((v**2 - 1) * v + v @ coupling)[..., np.newaxis]
            )[..., 0]
        )
    level = np.abs((v**2 - 1) * v + v @ coupling).max(axis=1) < 1e-10
    assert level.mean() > 0.9
    assert {tuple(row) for row in v[level].round(6) + 0.0} == known


def test_equation_5_39_has_real_solutions():
    """Erratum: the thesis says x = y and x = -y are all there is.

    Its two equations are x^2 + y^2 = 1 - rho / 2 and x y = -rho / 2, hence
    (x + y)^2 = 1 - 3 rho / 2, which is real for rho <= 2/3.
    """
    for rho in (0.1, 0.4, 0.6):
        total, gap = math.sqrt(1 - 1.5 * rho), math.sqrt(1 + rho / 2)
        x, y = (total + gap) / 2, (total - gap) / 2
        assert x**2 - x * y + y**2 == pytest.approx(1)
        assert x**2 + x * y + y**2 == pytest.approx(1 - rho)
        assert abs(x - y) > 0.1 and abs(x + y) > 0.1
        at = np.array([x, y])
        np.testing.assert_allclose(gradient(at, at.mean(), rho), 0, atol=1e-15)
        assert any(
            np.allclose(point.workers, at) and point.ways_down == 1
            for point in nonconvex.critical_points(rho)
        )
    # Beyond 2/3 the thesis is right.
    for point in nonconvex.critical_points(0.68):
        x, y = point.workers
        assert x == pytest.approx(y) or x == pytest.approx(-y)


# The critical elasticity.


def test_two_thirds():
    critical = nonconvex.critical_elasticity()
    assert critical == pytest.approx(2 / 3, abs=1e-12)
    assert round(critical, 4) == 0.6667
    assert nonconvex.critical_elasticity(2, upper=1) == critical


def test_the_smallest_eigenvalue_of_figure_5_20():
    rho = np.linspace(0, 1, 1001)
    split = np.sqrt(1 - rho)
    numeric = np.linalg.eigvalsh(
        nonconvex.hessian(np.stack([split, -split], -1), rho)
    )[:, 0]
    closed = nonconvex.smallest_eigenvalue(rho)
    np.testing.assert_allclose(closed, numeric, atol=1e-14)
    inside = (rho > 0) & (rho < 2 / 3)
    np.testing.assert_array_equal(numeric > 1e-12, inside)
    assert closed.max() == pytest.approx(1 - math.sqrt(1 / 3), abs=1e-6)


@pytest.mark.parametrize("p", [2, 3, 4, 5, 6, 9])
def test_no_cell_of_split_and_elasticity_is_wrong(p):
    """Below its critical elasticity a split is a local minimum, not beyond.

    Whether it is, is read off all critical points.
    """
    for rho in np.arange(0.0125, 1.1, 0.025):
        minima = sorted(
            int(np.sum(point.workers > 0))
            for point in nonconvex.critical_points(rho, p)
            if point.eigenvalues[0] > 0
        )
        assert nonconvex.stable_splits(rho, p) == minima, rho


@pytest.mark.parametrize("p", [2, 3, 5, 8])
def test_the_critical_elasticity_is_tight(p):
    for upper in range(1, p):
        critical = nonconvex.critical_elasticity(p, upper)
        below = critical - 1e-6
        x = lone_state(p, upper, below)
        assert np.sum(x > 0) == upper
        # At a fold the eigenvalue goes like the root of what is left.
        assert 0 < np.linalg.eigvalsh(nonconvex.hessian(x, below))[0] < 0.004
        assert upper in nonconvex.stable_splits(below, p)
        assert upper not in nonconvex.stable_splits(critical + 1e-6, p)


def test_what_is_known_of_more_workers():
    """Equal halves as with two; the fold of one against very many is 1/4."""
    for p in (4, 6, 10, 30):
        assert nonconvex.critical_elasticity(p) == pytest.approx(2 / 3)
    for p in (3, 5, 7, 9):
        assert nonconvex.critical_elasticity(
            p
        ) == nonconvex.critical_elasticity(p, p // 2)
    every = [nonconvex.critical_elasticity(12, k) for k in range(1, 12)]
    assert every == every[::-1] and np.all(np.diff(every[:6]) > 0)
    # A worker in the field of a center at -1: x^3 - (1 - rho) x + rho has a
    # double root where 4 (1 - rho)^3 = 27 rho^2.
    field = float(np.roots([-4, 12 - 27, -12, 4]).real.max())
    assert field == pytest.approx(0.25)
    lone = [nonconvex.critical_elasticity(p, 1) for p in (50, 100, 200)]
    assert np.all(np.diff(lone) < 0)
    richardson = 2 * lone[2] - lone[1]
    assert richardson == pytest.approx(field, abs=2e-4)


# Descent.


@pytest.mark.parametrize("p", [2, 3, 4, 5])
@pytest.mark.parametrize("rho", [0.2, 0.35, 0.45, 0.6, 0.72])
def test_descent_ends_in_the_stable_splits(p, rho):
    start = np.random.default_rng(5).uniform(-1.4, 1.4, size=(1500, p))
    end = nonconvex.descend(
        start, elasticity=rho, learning_rate=0.15, steps=2500
    )
    assert sorted(set(end.upper.tolist())) == nonconvex.stable_splits(rho, p)
    for upper in set(end.upper.tolist()):
        runs = np.sort(end.workers[end.upper == upper], axis=1)[:, ::-1]
        np.testing.assert_allclose(
            runs,
            np.broadcast_to(lone_state(p, upper, rho), runs.shape),
            atol=1e-6,
        )


def test_a_little_noise_tells_a_minimum_from_a_saddle():
    """Two workers that start at the split, on either side of 2/3."""
    for rho, stays in ((0.6, True), (0.75, False)):
        split = math.sqrt(1 - rho)
        end = nonconvex.descend(
            np.tile([split, -split], (200, 1)),
            elasticity=rho,
            noise_std=0.005,
            steps=6000,
            seed=1,
        )
        assert np.mean(end.upper == 1) == (1.0 if stays else 0.0)


def test_descent_is_plain_gradient_descent():
    """Eqs. 2.3 and 2.4 with the gradient of eq. 5.36."""
    rho, eta = 0.4, 0.1
    state = np.array([0.9, -0.2, -1.1, 0.3])
    end = nonconvex.descend(
        [state[:3]], state[3:], elasticity=rho, learning_rate=eta, steps=7
    )
    for _ in range(7):
        state = state - eta * gradient(state[:3], state[3], rho)
    np.testing.assert_allclose(end.workers[0], state[:3], rtol=1e-13)
    np.testing.assert_allclose(end.center[0], state[3], rtol=1e-13)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: nonconvex.critical_points(0.0), "elasticity=0.0"),
        (lambda: nonconvex.critical_points(math.nan), "elasticity=nan"),
        (lambda: nonconvex.critical_points(0.5, 0), "num_workers=0"),
        (lambda: nonconvex.critical_elasticity(1), "num_workers=1"),
        (lambda: nonconvex.critical_elasticity(3, 3), "upper=3"),
        (lambda: nonconvex.critical_elasticity(3, 0), "upper=0"),
        (lambda: nonconvex.stable_splits(-1.0, 3), "elasticity=-1.0"),
        (lambda: nonconvex.smallest_eigenvalue(1.5), "elasticity=1.5"),
        (
            lambda: nonconvex.descend([1.0], elasticity=0.5),
            r"workers=\[1.0\]",
        ),
        (
            lambda: nonconvex.descend(
                [[1.0, 0.0]], elasticity=1.0, learning_rate=0.7
            ),
            "learning_rate=0.7",
        ),
    ],
)
def test_bad_input_is_refused(call, message):
    with pytest.raises(ValueError, match=rf"must .*Received: .*{message}"):
        call()
