"""`theory.gauss_seidel`: thesis, section 6.2."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.drawing import examples
from tests.drawing import same_examples
from tests.reference import gauss_seidel as reference
from tf_elastic import core
from tf_elastic import theory
from tf_elastic.theory import gauss_seidel

fixed = examples(25)
# The edges of the theorem's rows are among them.
ETAS = np.append(np.arange(0.04, 6.2, 0.173), [0.125, 1.0, 2.0, 4.0, 5.0])
BETAS = np.append(np.arange(0.05, 4.4, 0.137), [1.0, 2.0, 4.0, 8.0, 16.0, 40.0])
ALPHAS = np.append(np.arange(0.003, 3.0, 0.0717), [1.0, 2.0, 5.0, 30.0])
GRID = [
    axis.ravel() for axis in np.meshgrid(ETAS, ALPHAS, BETAS, indexing="ij")
]
CLOSE = 1e-7  # a double eigenvalue 1 carries this much rounding


def radii(matrices):
    return np.abs(np.linalg.eigvals(matrices)).max(axis=-1)


def period(state, eta, alpha, beta, tau=1):
    """Equation 6.3 with the gradient x, transcribed; the center is last."""
    x, center = state[:-1], state[-1]
    x = x - alpha * (x - center)
    for _ in range(tau):
        x = x - eta * x
    center = center + beta / len(x) * np.sum(x - center, axis=0)
    return np.append(x, [center], axis=0)


# The maps.


@fixed
@given(
    st.integers(1, 6),
    st.floats(0.01, 3),
    st.floats(0.01, 3),
    st.floats(0.01, 8),
    st.integers(1, 4),
)
def test_the_maps_are_those_of_equation_6_3(p, eta, alpha, beta, tau):
    setting = {
        "learning_rate": eta / 2,
        "moving_rate": alpha,
        "beta": beta,
        "curvature": 2.0,
        "communication_period": tau,
    }
    full = gauss_seidel.full_map_matrix(p, **setting)
    expected = period(np.eye(p + 1), eta, alpha, beta, tau)
    scale = np.abs(expected).max()
    np.testing.assert_allclose(full, expected, atol=1e-13 * scale)
    # The mean of the workers and the center are closed under it.
    mean = np.zeros((2, p + 1))
    mean[0, :p], mean[1, p] = 1 / p, 1
    matrix = gauss_seidel.map_matrix(**setting)
    assert matrix.dtype == np.float64
    np.testing.assert_allclose(matrix @ mean, mean @ full, atol=1e-13 * scale)


def test_map_matrix_is_equation_6_5():
    eta, alpha, beta = 0.3, 0.4, 1.7
    product = (
        np.array([[1, 0], [beta, 1 - beta]])
        @ np.array([[1 - eta, 0], [0, 1]])
        @ np.array([[1 - alpha, alpha], [0, 1]])
    )
    matrix = gauss_seidel.map_matrix(
        learning_rate=eta, moving_rate=alpha, beta=beta
    )
    np.testing.assert_allclose(matrix, product, rtol=1e-15)
    # Equation 6.6.
    b = (2 - beta - eta - alpha * (1 - beta) * (1 - eta)) / 2
    c = (1 - eta) * (1 - alpha) * (1 - beta)
    assert np.trace(matrix) == pytest.approx(2 * b, rel=1e-14)
    assert np.linalg.det(matrix) == pytest.approx(c, rel=1e-13)


@pytest.mark.parametrize("tau", [1, 3])
@pytest.mark.parametrize(
    ("p", "alpha", "beta"), [(1, 1.0, 1.0), (3, 0.3, 0.9), (4, 1.0, 4.0)]
)
def test_the_map_carries_the_exchange_that_is_trained_with(p, alpha, beta, tau):
    """The exchange of `core` is the end of a period and the next one's start.

    With G the gradient steps, S the push, P the pull: M = S G P, and core's
    exchange is P S, so (P S) G P = P M.
    """
    eta = 0.2
    pull = np.eye(p + 1)
    pull[:p] = (1 - alpha) * pull[:p] + alpha * pull[p]
    steps = np.diag([(1 - eta) ** tau] * p + [1.0])
    workers, center = core.gauss_seidel_exchange(
        list((steps @ pull)[:p]), pull[p], alpha, beta
    )
    matrix = gauss_seidel.full_map_matrix(
        p,
        learning_rate=eta,
        moving_rate=alpha,
        beta=beta,
        communication_period=tau,
    )
    np.testing.assert_allclose(
        np.stack([*workers, center]), pull @ matrix, atol=1e-14
    )


@pytest.mark.parametrize("tau", [1, 2, 5])
def test_the_map_is_the_pseudo_code(tau):
    run = reference.easgd_gauss_seidel(
        lambda i, t, x: 1.5 * x,
        2.0,
        num_workers=3,
        communication_period=tau,
        learning_rate=0.4,
        moving_rate=0.7,
        beta=1.3,
        num_steps=6 * tau,
    )
    matrix = gauss_seidel.map_matrix(
        learning_rate=0.4,
        moving_rate=0.7,
        beta=1.3,
        curvature=1.5,
        communication_period=tau,
    )
    state = np.array([2.0, 2.0])
    for k in range(1, 7):
        state = matrix @ state
        np.testing.assert_allclose(
            [run["workers"][k * tau].mean(), run["center"][k * tau]],
            state,
            rtol=1e-12,
            atol=1e-15,
        )


def test_arguments_broadcast():
    eta, beta = np.array([0.1, 0.2, 0.3]), np.array([[0.5], [1.5]])
    setting = {"learning_rate": eta, "moving_rate": 0.4, "beta": beta}
    matrices = gauss_seidel.map_matrix(**setting)
    assert matrices.shape == (2, 3, 2, 2)
    covariances = gauss_seidel.stationary_covariance(
        **setting, num_workers=np.array([[1], [4]])
    )
    assert covariances.shape == (2, 3, 2, 2)
    for i, j in itertools.product(range(2), range(3)):
        one = {
            "learning_rate": eta[j],
            "moving_rate": 0.4,
            "beta": beta[i, 0],
        }
        np.testing.assert_array_equal(
            matrices[i, j], gauss_seidel.map_matrix(**one)
        )
        np.testing.assert_allclose(
            covariances[i, j],
            gauss_seidel.stationary_covariance(**one, num_workers=(1, 4)[i]),
            rtol=1e-13,
        )


# Stability.


def test_the_lemma_on_a_grid():
    b, c = np.meshgrid(
        np.arange(-1.5, 1.5, 0.0171), np.arange(-1.4, 1.4, 0.0173)
    )
    b, c = b.ravel(), c.ravel()
    largest = np.maximum(
        np.abs(b + np.sqrt(b**2 - c + 0j)), np.abs(b - np.sqrt(b**2 - c + 0j))
    )
    away = np.abs(largest - 1) > CLOSE
    assert away.mean() > 0.999
    inside = gauss_seidel.roots_are_inside(b, c)
    np.testing.assert_array_equal(inside[away], largest[away] < 1)
    assert 0.1 < inside.mean() < 0.9


def test_the_lemmas_proof_has_a_square_for_a_root():
    """Erratum: |z_1| = |z_2| = sqrt(c) where complex, not c^2."""
    b, c = 0.5, 0.64
    roots = np.roots([1, -2 * b, c])
    np.testing.assert_allclose(np.abs(roots), 0.8, rtol=1e-14)
    assert abs(abs(roots[0]) - c**2) > 0.3


def test_no_cell_of_the_theorem_is_wrong():
    eta, alpha, beta = GRID
    setting = {"learning_rate": eta, "moving_rate": alpha, "beta": beta}
    radius = radii(gauss_seidel.map_matrix(**setting))
    away = np.abs(radius - 1) > CLOSE
    assert away.mean() > 0.998 and away.size > 50_000  # edges are on the grid
    stable = gauss_seidel.is_stable(**setting)
    np.testing.assert_array_equal(stable[away], radius[away] < 1)
    low, high = gauss_seidel.stable_moving_rates(learning_rate=eta, beta=beta)
    np.testing.assert_array_equal(stable, (low < alpha) & (alpha < high))
    # Every row of the theorem has cells.
    rows = {
        (int(np.digitize(e, [1, 1 + 1e-9, 2, 4 + 1e-9])), b)
        for e, b in zip(
            eta[stable],
            np.digitize(beta[stable], [1, 1 + 1e-9, 2 + 1e-9]),
            strict=True,
        )
    }
    assert rows == {
        (0, 0), (0, 1), (0, 2), (0, 3),
        (1, 0), (1, 1), (1, 2),
        (2, 0), (2, 1), (2, 2),
        (3, 0), (4, 0),
    }  # fmt: skip


@pytest.mark.parametrize("p", [2, 3, 16])
@pytest.mark.parametrize("tau", [1, 2, 3])
def test_no_cell_of_the_full_map_is_wrong(p, tau):
    chosen = np.random.default_rng(p).choice(len(GRID[0]), 600)
    cells = [axis[chosen] for axis in GRID]
    wrong, stable_cells = [], 0
    for eta, alpha, beta in zip(*cells, strict=True):
        setting = {
            "learning_rate": eta / 2,
            "moving_rate": alpha,
            "beta": beta,
            "curvature": 2.0,
            "communication_period": tau,
        }
        radius = theory.spectral_radius(
            gauss_seidel.full_map_matrix(p, **setting)
        )
        stable = bool(gauss_seidel.is_stable(num_workers=p, **setting))
        stable_cells += stable
        if abs(radius - 1) > CLOSE and stable != (radius < 1):
            wrong.append((eta, alpha, beta, radius))
    assert not wrong
    assert 50 < stable_cells < 500


def test_a_mean_that_converges_while_the_workers_part():
    """Erratum: the theorem's eta < 1, beta = 1, any alpha > 0."""
    setting = {"learning_rate": 0.2, "moving_rate": 5.0, "beta": 1.0}
    assert gauss_seidel.is_stable(**setting)
    assert not gauss_seidel.is_stable(num_workers=2, **setting)
    full = gauss_seidel.full_map_matrix(2, **setting)
    assert theory.spectral_radius(full) == pytest.approx(0.8 * 4)
    paths = [np.array([1.0, -0.5, 0.0])]
    for _ in range(20):
        paths.append(full @ paths[-1])
    assert abs(paths[-1][:2].mean()) < 0.1
    assert abs(paths[-1][0]) > 1e6


def test_contractive_steps_may_diverge_together():
    """Erratum: rates below 2, each step a contraction, do not suffice."""
    setting = {"learning_rate": 1.9, "moving_rate": 1.0, "beta": 1.9}
    radius = theory.spectral_radius(gauss_seidel.map_matrix(**setting))
    assert radius == pytest.approx(abs(1 - 1.9 * 1.9))
    assert not gauss_seidel.is_stable(**setting)
    # With eta h <= 1 they do.
    rates = np.arange(0.02, 2.0, 0.06)
    eta, alpha, beta = np.meshgrid(rates[rates <= 1], rates, rates)
    assert np.all(
        gauss_seidel.is_stable(
            learning_rate=eta, moving_rate=alpha, beta=beta, num_workers=2
        )
    )


@pytest.mark.parametrize("p", [1, 2, 6, 16])
def test_a_small_learning_rate_gives_the_bounds_of_the_exchange_alone(p):
    """`stability.stable_moving_rates` is the limit eta h -> 0."""
    beta = np.append(np.arange(0.07, 3, 0.11), [5.0, 16.0])
    alpha = np.arange(0.013, 2.6, 0.0301)
    stable = gauss_seidel.is_stable(
        learning_rate=1e-9,
        moving_rate=alpha[:, np.newaxis],
        beta=beta,
        num_workers=p,
    )
    bounds = [
        theory.stable_moving_rates(p, float(b), "gauss_seidel") for b in beta
    ]
    low, high = np.array(bounds).T
    expected = (low < alpha[:, np.newaxis]) & (alpha[:, np.newaxis] < high)
    np.testing.assert_array_equal(stable, expected)


# DOWNPOUR.


@fixed
@given(st.integers(1, 20), st.floats(0.001, 1.2), st.integers(1, 4))
def test_downpour_is_equation_6_1(p, eta, tau):
    """Workers start from the center; the center adds what all have found."""
    center = 1.0
    worker = center * (1 - eta) ** tau
    next_center = center + p * (worker - center)
    matrix = gauss_seidel.downpour_map_matrix(
        learning_rate=eta, num_workers=p, communication_period=tau
    )
    np.testing.assert_allclose(
        matrix @ [0.123, center], [worker, next_center], atol=1e-12
    )
    np.testing.assert_allclose(
        sorted(np.linalg.eigvals(matrix), key=abs),
        sorted([0, 1 - p * (1 - (1 - eta) ** tau)], key=abs),
        atol=1e-12,
    )


def test_the_limit_of_downpour():
    for p in (1, 2, 3, 4, 16, 64):
        limit = gauss_seidel.downpour_learning_rate_limit(p)
        for factor, stable in ((1 - 1e-6, True), (1 + 1e-6, False)):
            setting = {"learning_rate": limit * factor, "num_workers": p}
            radius = theory.spectral_radius(
                gauss_seidel.downpour_map_matrix(**setting)
            )
            assert (radius < 1) == stable
            assert stable == gauss_seidel.is_stable(
                moving_rate=1.0, beta=float(p), **setting
            )
    assert gauss_seidel.downpour_learning_rate_limit(
        16, curvature=2.0
    ) == pytest.approx(1 / 16)


def test_the_sixteen_workers_of_the_thesis():
    """alpha = 1 and beta = 16: eta < 1/8. alpha = 0.9: no eta at all."""
    assert gauss_seidel.downpour_learning_rate_limit(16) == 1 / 8
    eta = np.geomspace(1e-6, 10, 20_001)
    one = gauss_seidel.is_stable(learning_rate=eta, moving_rate=1.0, beta=16.0)
    np.testing.assert_array_equal(one, eta < 1 / 8)
    for alpha, any_stable in ((0.9, False), (0.99, True)):
        setting = {"learning_rate": eta, "moving_rate": alpha, "beta": 16.0}
        assert np.any(gauss_seidel.is_stable(**setting)) == any_stable
        radius = radii(gauss_seidel.map_matrix(**setting))
        assert np.any(radius < 1) == any_stable


def test_eta_below_4_over_p_is_not_enough_for_downpour():
    """Erratum: beta < 4 / eta is necessary; with alpha = 1 it is 2 / p."""
    setting = {"learning_rate": 3 / 16, "beta": 16.0}
    assert 0 < setting["learning_rate"] < 4 / 16
    assert not gauss_seidel.is_stable(moving_rate=1.0, **setting)
    low, high = gauss_seidel.stable_moving_rates(**setting)
    assert 1 < low < high  # some moving rate is, but not DOWNPOUR's
    # Both bounds tend to 1 as p grows, as the thesis says.
    for p, width in ((1e2, 0.1), (1e4, 1e-3)):
        low, high = gauss_seidel.stable_moving_rates(
            learning_rate=1 / p, beta=p
        )
        assert 1 - width < low < 1 < high < 1 + width


# Moments.


@fixed
@given(
    st.integers(1, 8),
    st.floats(0.05, 1.2),
    st.floats(0.05, 1.5),
    st.floats(0.1, 2.5),
    st.integers(1, 3),
)
def test_moments_tend_to_the_stationary_ones(p, eta, alpha, beta, tau):
    setting = {
        "learning_rate": eta / 0.7,
        "moving_rate": alpha,
        "beta": beta,
        "num_workers": p,
        "curvature": 0.7,
        "noise_std": 1.3,
        "communication_period": tau,
    }
    limit = gauss_seidel.stationary_covariance(**setting)
    stable = gauss_seidel.is_stable(
        **{
            name: value
            for name, value in setting.items()
            if name not in ("num_workers", "noise_std")
        }
    )
    assert np.all(np.isfinite(limit)) == stable
    if stable:
        mean, covariance = gauss_seidel.moments(
            periods=3000, start=1.0, **setting
        )
        np.testing.assert_allclose(covariance[-1], limit, rtol=1e-6)
        np.testing.assert_allclose(mean[-1], 0, atol=1e-6)


def four_standard_errors(samples, mean, variance):
    """Whether a Gaussian sample's mean and variance are as they must be."""
    runs = samples.shape[-1]
    error = np.sqrt(variance / runs)
    assert np.all(np.abs(samples.mean(axis=-1) - mean) <= 4 * error + 1e-12)
    measured = np.mean((samples - mean[..., np.newaxis]) ** 2, axis=-1)
    error = variance * np.sqrt(2 / runs)
    assert np.all(np.abs(measured - variance) <= 4 * error + 1e-12)


@same_examples(25)
@given(
    st.integers(1, 6),
    st.floats(0.05, 1.5),
    st.floats(0.05, 1.5),
    st.floats(0.1, 3.0),
    st.integers(1, 3),
    st.integers(0, 10_000),
)
def test_the_simulator_agrees(p, eta, alpha, beta, tau, seed):
    setting = {
        "learning_rate": eta,
        "moving_rate": alpha,
        "beta": beta,
        "num_workers": p,
        "periods": 6,
        "start": 1.5,
        "noise_std": 0.8,
        "curvature": 0.9,
        "communication_period": tau,
    }
    mean, covariance = gauss_seidel.moments(**setting)
    paths = gauss_seidel.simulate(runs=4000, seed=seed, **setting)
    for which, samples in enumerate(paths):
        four_standard_errors(
            samples, mean[:, which], covariance[:, which, which]
        )


def test_the_simulator_agrees_for_downpour():
    setting = {
        "learning_rate": 0.1,
        "moving_rate": 1.0,
        "beta": 4.0,
        "num_workers": 4,
    }
    limit = gauss_seidel.stationary_covariance(**setting)
    assert limit[1, 1] == pytest.approx(0.1 / (2 - 0.4))
    paths = gauss_seidel.simulate(periods=60, runs=20_000, seed=1, **setting)
    four_standard_errors(paths.center[-1], np.array(0.0), limit[1, 1])
    four_standard_errors(paths.worker_mean[-1], np.array(0.0), limit[0, 0])
    again = gauss_seidel.simulate(periods=60, runs=20_000, seed=1, **setting)
    np.testing.assert_array_equal(again.center, paths.center)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("learning_rate", 0.0),
        ("learning_rate", np.nan),
        ("moving_rate", -0.1),
        ("beta", 0.0),
        ("curvature", -1.0),
        ("num_workers", 0),
        ("communication_period", 0),
        ("communication_period", 1.5),
    ],
)
def test_bad_input_is_refused(name, value):
    setting = {"learning_rate": 0.1, "moving_rate": 0.1, "beta": 0.9}
    setting[name] = value
    with pytest.raises(ValueError, match=f"`{name}` must be .*{name}={value}"):
        gauss_seidel.is_stable(**setting)


def test_bad_input_is_refused_by_the_others():
    with pytest.raises(ValueError, match="`beta` must be finite.*beta=inf"):
        gauss_seidel.map_matrix(learning_rate=0.1, moving_rate=0.1, beta=np.inf)
    with pytest.raises(ValueError, match="`num_workers` must.*num_workers=0"):
        gauss_seidel.downpour_learning_rate_limit(0)
    setting = {
        "learning_rate": 0.1,
        "moving_rate": 0.1,
        "beta": 0.9,
        "num_workers": 2,
    }
    with pytest.raises(ValueError, match="`noise_std` must.*noise_std=-1"):
        gauss_seidel.stationary_covariance(noise_std=-1, **setting)
    with pytest.raises(ValueError, match="`runs` must.*runs=0"):
        gauss_seidel.simulate(periods=1, runs=0, seed=0, **setting)
    with pytest.raises(ValueError, match="`periods` must.*periods=-1"):
        gauss_seidel.moments(periods=-1, **setting)
