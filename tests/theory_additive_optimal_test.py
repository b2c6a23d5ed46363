"""The fastest rates of thesis section 5.1, and what it says of them."""

import fractions
import math

import numpy as np
import pytest
from hypothesis import example
from hypothesis import given
from hypothesis import strategies as st

from tests.drawing import examples
from tf_elastic import theory
from tf_elastic.theory import additive

derived = examples(20)


def momentum_radius(eta_h, delta_h):
    matrix = additive.msgd_moment_matrix(eta_h=eta_h, delta_h=delta_h)
    return np.abs(np.linalg.eigvals(matrix)).max(axis=-1)


def elastic_radius(eta_h, alpha, beta):
    """sp(M_p) of the means, p = 2."""
    matrix = additive.easgd_drift_matrix(
        eta_h=eta_h, moving_rate=alpha, beta=beta, num_workers=2
    )
    return np.abs(np.linalg.eigvals(matrix)).max(axis=-1)


# Momentum.


def rounding_of_a_triple(matrix, value):
    """How far a triple eigenvalue may be computed from what it is.

    With N = M - lambda 1, where N^3 = 0, an error E of M moves lambda by the
    cube root of at most |E| |N^2|. Eigenvalues of small matrices are those of
    one within a few roundings: 8, which double the cube root.
    """
    nilpotent = matrix - value * np.eye(3)
    error = 8 * np.finfo(float).eps * np.linalg.norm(matrix, 2)
    return np.cbrt(error * np.linalg.norm(nilpotent @ nilpotent, 2))


@derived
@given(eta=st.floats(0.001, 3.95))
@example(eta=3.8667272193825215)  # where 3e-5 held on some processors only
def test_no_momentum_is_faster(eta):
    best = additive.optimal_momentum(eta_h=eta)
    assert best == pytest.approx((math.sqrt(eta) - 1) ** 2, rel=1e-12)
    error = rounding_of_a_triple(
        additive.msgd_moment_matrix(eta_h=eta, delta_h=best), best
    )
    assert error < 2e-4
    radius = momentum_radius(eta, best)
    assert radius == pytest.approx(best, abs=error)
    others = np.linspace(-1, 1, 4001)
    assert momentum_radius(eta, others).min() > best - error
    # It is a minimum, not just a low place: both sides are higher.
    for other in (best - 0.03, best + 0.03):
        assert momentum_radius(eta, other) > best + 0.02


@pytest.mark.parametrize(
    ("eta_h", "delta_h"), [(0.0, 1.0), (0.25, 0.25), (1.0, 0.0), (2.25, 0.25)]
)
def test_the_momentum_at_round_numbers(eta_h, delta_h):
    assert additive.optimal_momentum(eta_h=eta_h) == delta_h


def test_nesterovs_optimal_momentum_is_negative_beyond_one():
    eta = np.array([0.1, 0.5, 0.9, 1.1, 1.5, 1.9])
    delta = additive.optimal_momentum(eta_h=eta) / (1 - eta)
    np.testing.assert_array_equal(delta < 0, eta > 1)
    root = np.sqrt(eta)
    np.testing.assert_allclose(delta, (1 - root) / (1 + root), rtol=1e-12)
    np.testing.assert_allclose(
        additive.nesterov_delta_h(eta_h=eta, momentum=delta),
        additive.optimal_momentum(eta_h=eta),
    )


def test_momentum_helps_a_small_learning_rate():
    eta = np.array([0.01, 0.1, 0.5])
    assert np.all(additive.optimal_momentum(eta_h=eta) < (1 - eta) ** 2)


def test_the_discriminant_vanishes_once_more_than_the_thesis_says():
    """b = |delta_h| also at delta_h = eta_h - 1, below the optimum."""
    for eta in (0.1, 0.4, 0.8):
        _, lower, higher = additive.msgd_eigenvalues(eta_h=eta, delta_h=eta - 1)
        assert lower == pytest.approx(higher, abs=1e-7)
        assert lower == pytest.approx(1 - eta, abs=1e-7)
        best = additive.optimal_momentum(eta_h=eta)
        assert eta - 1 < best < 1 - eta
        # So "b > |delta_h| whenever delta_h < best" has this one exception.
        delta = np.linspace(-0.999, best - 1e-3, 997)
        delta = delta[np.abs(delta - (eta - 1)) > 1e-3]
        b = ((delta - eta) ** 2 + 1 - 2 * eta) / 2
        assert np.all(b > np.abs(delta))


# Variances of momentum.


def test_momentum_raises_the_variance():
    eta = np.linspace(0.01, 0.99, 50)
    delta = np.linspace(0.01, 0.99, 50)[:, None]
    with_momentum = additive.msgd_asymptotic_moments(
        learning_rate=eta, delta_h=delta
    ).parameters
    without = additive.sgd_moments(math.inf, learning_rate=eta).variance
    assert np.all(with_momentum > without)


def test_nesterovs_variance_is_bounded_and_the_heavy_balls_is_not():
    eta, h = 0.3, 2.0
    limit = (2 - eta * h) / (4 - 3 * eta * h) / h**2
    for gap in (1e-2, 1e-4, 1e-6):
        nesterov, ball = (
            additive.msgd_asymptotic_moments(
                learning_rate=eta, curvature=h, delta_h=delta_h
            ).parameters
            for delta_h in (
                additive.nesterov_delta_h(eta_h=eta * h, momentum=1 - gap),
                1 - gap,
            )
        )
        assert nesterov == pytest.approx(limit, rel=2 * gap)
        assert ball > 0.05 / gap


def test_the_center_is_calmer_than_the_mean_if_beta_is_below_one():
    beta = np.array([0.3, 0.9, 1.0, 1.1, 1.5])
    moments = additive.easgd_asymptotic_moments(
        learning_rate=0.3, moving_rate=0.1, beta=beta, num_workers=4
    )
    np.testing.assert_array_equal(
        np.sign((moments.center - moments.mean).round(12)),
        [-1, -1, 0, 1, 1],
    )
    assert np.all(moments.worker > moments.mean)


# The moving rate.


@derived
@given(eta=st.floats(0.02, 3.0), beta=st.floats(0.02, 1.3))
def test_no_moving_rate_is_faster_for_the_reduced_system(eta, beta):
    def radius(alpha):
        matrix = additive.easgd_moment_matrix(
            eta_h=eta, moving_rate=alpha, beta=beta
        )
        return np.abs(np.linalg.eigvals(matrix)).max(axis=-1)

    best = additive.reduced_optimal_moving_rate(eta_h=eta, beta=beta)
    assert best == pytest.approx(
        -((math.sqrt(beta) - math.sqrt(eta)) ** 2), abs=1e-14
    )
    assert radius(best) == pytest.approx(
        (math.sqrt(beta * eta) - 1) ** 2, abs=1e-4
    )
    assert radius(np.linspace(-6, 3, 4001)).min() > radius(best) - 1e-3


def random_settings():
    random = np.random.default_rng(11)
    eta, beta = random.uniform(0.01, 3.0, (2, 1000))
    possible = eta * beta < 3.99
    return eta[possible], beta[possible]


def test_no_moving_rate_is_faster_for_the_full_system():
    eta, beta = random_settings()
    best = additive.optimal_moving_rate(eta_h=eta, beta=beta)
    radius = elastic_radius(eta, best, beta)
    lowest = np.full(eta.shape, np.inf)
    far, near = np.linspace(-7, 4, 331), np.linspace(-0.05, 0.05, 101)
    for alpha in [*far, *(best + step for step in near)]:
        lowest = np.minimum(lowest, elastic_radius(eta, alpha, beta))
    # A double eigenvalue is only exact to the root of the rounding.
    assert np.all(lowest > radius - 1e-6)


def test_where_no_moving_rate_is_stable():
    """beta eta_h >= 4 is refused for this reason."""
    alpha = np.linspace(-12, 8, 4001)[:, None]
    eta = np.array([1.6, 2.0, 3.0, 4.0, 8.0])
    assert np.all(elastic_radius(eta, alpha, 4.0 / eta + 1e-3) > 1)
    best = additive.optimal_moving_rate(eta_h=2.0, beta=1.9)
    assert elastic_radius(2.0, best, 1.9) < 1


def test_the_claim_of_the_thesis_holds_in_part_of_its_range():
    """Errata: alpha = 0 for beta > eta_h, else eq. 5.17, is often not best.

    It is if beta + eta_h <= 2 in the first case, and in the second if
    beta eta_h <= 1 and 3 sqrt(beta eta_h) <= 2 + beta.
    """
    eta, beta = random_settings()
    best = elastic_radius(
        eta, additive.optimal_moving_rate(eta_h=eta, beta=beta), beta
    )
    printed = elastic_radius(
        eta,
        np.where(
            beta > eta,
            0.0,
            additive.reduced_optimal_moving_rate(eta_h=eta, beta=beta),
        ),
        beta,
    )
    root = np.sqrt(beta * eta)
    holds = np.where(
        beta > eta, beta + eta <= 2, (root <= 1) & (3 * root <= 2 + beta)
    )
    assert 0.2 < holds.mean() < 0.5
    np.testing.assert_array_equal(printed < best + 1e-6, holds)


def test_the_optimal_case_of_figures_5_5_and_5_7_is_not_optimal():
    printed = additive.reduced_optimal_moving_rate(eta_h=1.5, beta=0.9)
    right = additive.optimal_moving_rate(eta_h=1.5, beta=0.9)
    assert round(float(printed), 4) == -0.0762
    assert right == pytest.approx(math.sqrt(0.7) - 1, rel=1e-12)
    radius = elastic_radius(1.5, np.array([printed, right]), 0.9)
    np.testing.assert_allclose(radius, [0.4238, 0.3367], atol=5e-5)
    # Where z_1 meets them, z_2 and z_3 are complex, which the thesis leaves
    # out: it looks at where z_1 itself, not -z_1, meets z_3.
    z = additive.easgd_drift_eigenvalues(eta_h=1.5, moving_rate=right, beta=0.9)
    np.testing.assert_allclose(np.abs(z), radius[1], rtol=1e-7)
    assert z[0].real < 0 and z[2].imag > 0
    assert np.ptp(np.abs(z)) < 1e-12


def test_the_optimal_case_of_figure_5_4():
    assert additive.optimal_moving_rate(eta_h=0.1, beta=0.9) == 0.0
    assert elastic_radius(0.1, 0.0, 0.9) == pytest.approx(0.9, rel=1e-12)


# Figure 5.3.


def figure_5_3(steps):
    alpha = float(additive.reduced_optimal_moving_rate(eta_h=0.1, beta=0.9))
    setting = {
        "learning_rate": 0.1,
        "num_workers": 4,
        "moving_rate": alpha,
        "beta": 0.9,
        "noise": 1e-2,
        "steps": steps,
        "runs": 1,
        "seed": 5,
    }
    return alpha, additive.simulate(**setting).center[:, 0]


def test_the_reduced_optimum_is_unstable_with_more_than_one_worker():
    alpha, center = figure_5_3(250)
    arguments = {"eta_h": 0.1, "moving_rate": alpha, "beta": 0.9}
    stable = additive.easgd_is_stable(num_workers=[1, 2, 4], **arguments)
    np.testing.assert_array_equal(stable, [True, False, False])
    matrix = additive.easgd_drift_matrix(num_workers=4, **arguments)
    assert theory.spectral_radius(matrix) == pytest.approx(1.3, rel=1e-6)
    assert np.abs(center[50:100]).max() < 1e-2
    assert np.abs(center[-1]) > 1e3


def test_it_is_rounding_that_lets_the_center_of_figure_5_3_diverge():
    """In exact arithmetic the center does not see the workers drift apart."""
    steps, p = 250, 4
    alpha, floating = figure_5_3(steps)
    random = np.random.default_rng(5)  # as in the simulator
    eta, rate, beta = (fractions.Fraction(a) for a in (0.1, alpha, 0.9))
    workers, center = [fractions.Fraction(1)] * p, fractions.Fraction(1)
    exact = [1.0]
    for _ in range(steps):
        noise = [
            fractions.Fraction(float(1e-2 * value))
            for value in random.standard_normal((p, 1))[:, 0]
        ]
        differences = [x - center for x in workers]
        workers = [
            x - eta * (x - noise_i) - rate * difference
            for x, noise_i, difference in zip(
                workers, noise, differences, strict=True
            )
        ]
        center += beta / p * sum(differences)
        exact.append(float(center))
    exact = np.array(exact)
    np.testing.assert_allclose(floating[:90], exact[:90], atol=1e-4)
    assert np.abs(exact[50:]).max() < 1e-2
    assert np.abs([float(x) for x in workers]).max() > 1e20
    assert np.abs(floating[-1]) > 1e3


# The objective.


def test_the_printed_objective_has_another_gradient():
    """Errata: eq. 5.2 descends h x^2 / 2 - xi x, not (h x - xi)^2."""
    h, x, xi, step = 2.0, 0.7, 0.3, 1e-6

    def slope(loss):
        return (loss(x + step) - loss(x - step)) / (2 * step)

    gradient = h * x - xi
    assert slope(lambda x: h * x**2 / 2 - xi * x) == pytest.approx(gradient)
    printed = slope(lambda x: (h * x - xi) ** 2)
    assert printed == pytest.approx(2 * h * gradient)
    runs = additive.simulate(
        learning_rate=0.1,
        curvature=h,
        noise=0.0,
        start=x,
        steps=1,
        runs=1,
        seed=0,
    )
    assert runs.workers[0, 0] == pytest.approx(x - 0.1 * h * x)
