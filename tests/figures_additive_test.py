"""What Figures 5.1 to 5.8 of the thesis are said to show."""

import numpy as np
import pytest

from tf_elastic.figures import additive as figures
from tf_elastic.theory import additive

STEP = 0.01  # of the grids


def grid(table, rate):
    """Learning rates, rates, and the radius with a row for each rate."""
    eta, rates = np.unique(table["learning_rate"]), np.unique(table[rate])
    radius = table["spectral_radius"].reshape(len(rates), len(eta))
    assert -1 < rates[0] < rates[-1] < 1 and 0 < eta[0] < eta[-1] < 2
    return eta, rates, radius


def test_the_valley_of_figure_5_1_is_the_optimal_momentum():
    eta, delta, radius = grid(figures.momentum_sgd(), "momentum")
    lowest = delta[radius.argmin(axis=0)]
    valley = additive.optimal_momentum(eta_h=eta) / (1 - eta)
    # At eta = 1 every momentum is the same.
    inside = (np.abs(valley) < 1) & (np.abs(eta - 1) > 0.05)
    assert np.abs(lowest - valley)[inside].max() <= STEP
    # "The optimal delta increases as eta decreases."
    assert np.all(np.diff(lowest[eta < 0.95]) <= 0)


def test_the_valley_of_figure_5_2_is_eq_5_17():
    eta, alpha, radius = grid(figures.reduced_elastic(), "moving_rate")
    lowest = alpha[radius.argmin(axis=0)]
    valley = additive.reduced_optimal_moving_rate(eta_h=eta, beta=0.9)
    assert np.abs(lowest - valley).max() <= STEP
    assert np.all(lowest < STEP)


def test_the_valley_of_figure_5_6_is_not():
    eta, alpha, radius = grid(figures.full_elastic(), "moving_rate")
    lowest = alpha[radius.argmin(axis=0)]
    valley = additive.optimal_moving_rate(eta_h=eta, beta=0.9)
    assert np.abs(lowest - valley).max() <= STEP
    printed = np.where(
        eta < 0.9,
        0.0,
        additive.reduced_optimal_moving_rate(eta_h=eta, beta=0.9),
    )
    assert np.abs(lowest - printed)[eta < 1.03].max() <= STEP
    assert np.abs(lowest - printed)[eta > 1.3].min() > 3 * STEP


def test_figures_5_2_and_5_6_meet_where_the_mean_decides():
    reduced, full = (
        grid(table, "moving_rate")[2]
        for table in (figures.reduced_elastic(), figures.full_elastic())
    )
    # One is of second moments, the other of means.
    assert np.all(full**2 > reduced - 1e-6)
    assert 0.2 < np.mean(np.abs(full**2 - reduced) < 1e-6) < 0.9


def test_in_figure_5_8_a_lower_learning_rate_wants_a_higher_moving_rate():
    eta, alpha, radius = grid(figures.elastic_momentum(), "moving_rate")
    lowest = alpha[radius.argmin(axis=0)]
    # But for a small step at eta = 0.68, where another eigenvalue takes over.
    rise = lowest - np.minimum.accumulate(lowest)
    assert rise[(eta < 0.66) | (eta > 0.75)].max() < STEP / 2
    assert 0 < rise.max() < 0.05
    assert lowest[0] > 0.85 and np.all(lowest[eta > 1.05] < 0)


@pytest.mark.parametrize(
    ("learning_rate", "steps", "diverges"),
    [(0.1, 250, True), (1.5, 100, False)],
)
def test_figures_5_3_and_5_7(learning_rate, steps, diverges):
    table = figures.simulations(learning_rate, steps)
    assert table["step"][-1] == steps and len(table) == 7
    for run in (1, 2, 3):
        assert table[f"symmetric_{run}"][0] == 1
        assert table[f"symmetric_{run}"][-20:].max() < 1e-2
        assert (table[f"optimal_{run}"][-1] > 1) == diverges
        assert table[f"optimal_{run}"][-20:].max() > 0


@pytest.mark.parametrize("eta_h", [0.1, 1.5])
def test_figures_5_4_and_5_5_hold_the_radius_of_figure_5_6(eta_h):
    table = figures.eigenvalues(eta_h)
    matrix = additive.easgd_drift_matrix(
        eta_h=eta_h, moving_rate=table["moving_rate"], beta=0.9, num_workers=3
    )
    np.testing.assert_allclose(
        np.max([table[f"z_{i}"] for i in (1, 2, 3)], axis=0),
        np.abs(np.linalg.eigvals(matrix)).max(axis=-1),
        rtol=1e-6,
    )
