"""Multiplicative noise: the numbers that the thesis prints, bad arguments."""

import numpy as np
import pytest
from scipy import optimize

from tf_elastic import theory
from tf_elastic.theory import multiplicative


@pytest.mark.parametrize(
    ("spread", "p", "eta", "radius"),
    [
        (0.5, 6, 0.3814, 0.5742),
        (1.0, 7, 0.5225, 0.4317),
        (2.0, 9, 0.6647, 0.2945),
        (10.0, 29, 0.8929, 0.0868),
    ],
)
def test_best_workers_of_the_thesis(spread, p, eta, radius):
    matrix = multiplicative.easgd_moment_matrix(
        learning_rate=eta,
        moving_rate=0.9 / p,
        beta=0.9,
        num_workers=p,
        shape=spread,
        rate=spread,
    )
    assert round(theory.spectral_radius(matrix), 4) == radius
    best = multiplicative.optimal_num_workers(shape=spread, rate=spread)
    assert best.num_workers == p
    assert round(best.radius, 4) == radius
    # The thesis took the best of a thousand learning rates.
    assert best.learning_rate == pytest.approx(eta, abs=2e-3)
    assert best.radius <= theory.spectral_radius(matrix)


def test_the_best_moving_rate_of_figure_5_19():
    def radius(place):
        return theory.spectral_radius(
            multiplicative.easgd_moment_matrix(
                learning_rate=place[0],
                moving_rate=place[1],
                beta=0.9,
                num_workers=100,
                shape=0.5,
                rate=0.5,
            )
        )

    # Printed is the lowest of 100 x 100 values; its place is rounded.
    on_grid = (43 / 99, -1 + 2 * 62 / 99)
    np.testing.assert_allclose(np.round(on_grid, 4), (0.4343, 0.2525))
    assert radius((0.4343, 0.2525)) == pytest.approx(0.5024, abs=6e-5)
    assert round(radius(on_grid), 4) == 0.5024
    found = optimize.minimize(radius, on_grid, method="Nelder-Mead")
    assert round(found.fun, 4) == 0.5024
    np.testing.assert_allclose(found.x, (0.4343, 0.2525), atol=2e-3)


@pytest.mark.parametrize(
    ("spread", "radius"), [(0.5, 0.6667), (1.0, 0.5), (2.0, 0.3333)]
)
def test_momentum_is_best_at_zero(spread, radius):
    eta = multiplicative.optimal_learning_rate(shape=spread, rate=spread)
    momentum = np.linspace(-1, 1, 2001)
    found = multiplicative.msgd_radius(
        learning_rate=eta, momentum=momentum, shape=spread, rate=spread
    )
    assert round(found.min(), 4) == radius
    assert abs(momentum[np.argmin(found)]) < 1e-12
    # Nor is there a better pair of both.
    everywhere = multiplicative.msgd_radius(
        learning_rate=np.linspace(0, 2, 201)[1:, None],
        momentum=np.linspace(-1, 1, 201),
        shape=spread,
        rate=spread,
    )
    assert everywhere.min() >= found.min() - 1e-12


def test_where_momentum_helps():
    """Figure 5.14: below a slope lambda / omega, and nowhere above."""
    slopes = np.geomspace(0.01, 3, 400)
    for shape in (1.0, 5.0, 20.0, 100.0):
        plain, fast = (
            multiplicative.msgd_radius(
                learning_rate=0.1,
                momentum=momentum,
                shape=shape,
                rate=shape / slopes,
            )
            for momentum in (0.0, 0.9)
        )
        helps = fast < plain
        edge = np.count_nonzero(helps)
        assert 0 < edge < len(slopes) and helps[:edge].all()
        assert 0.6 < slopes[edge] < 1.01


def test_the_best_number_of_workers_is_finite():
    """Ever more workers are as good as one alone, by SGD."""
    for spread in (0.5, 1.0, 2.0):
        eta = np.linspace(0.01, 2, 2000)
        many = multiplicative.elastic_radius(
            learning_rate=eta, num_workers=10**7, shape=spread, rate=spread
        ).min()
        assert many == pytest.approx(1 / (spread + 1), abs=1e-4)
        best = multiplicative.optimal_num_workers(shape=spread, rate=spread)
        assert best.radius < many - 0.03


def test_erratum_learning_rate_of_figure_5_13():
    """Lambda / (omega + 1) is eq. 5.27 only where lambda = omega."""
    lam, omega = 0.5, 2.0
    best = multiplicative.optimal_learning_rate(shape=lam, rate=omega)
    assert best == pytest.approx(omega / (lam + 1), rel=1e-14)
    at_best, at_printed = multiplicative.msgd_radius(
        learning_rate=np.array([best, lam / (omega + 1)]),
        momentum=0.0,
        shape=lam,
        rate=omega,
    )
    assert at_best == pytest.approx(1 / (lam + 1))
    assert at_printed > at_best + 0.2


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: multiplicative.minibatch_rate(
                learning_rate=0.1, shape=0.0, rate=1.0
            ),
            "`shape` must be positive and finite. Received: shape=0.0",
        ),
        (
            lambda: multiplicative.optimal_learning_rate(
                shape=1.0, rate=1.0, num_workers=1.5
            ),
            "`num_workers` must be a whole number.*num_workers=1.5",
        ),
        (
            lambda: multiplicative.input_density(
                1.0, shape=1.0, rate=-1.0, num_workers=2
            ),
            "`rate` must be positive.*rate=-1.0",
        ),
        (
            lambda: multiplicative.brownian_rates(
                learning_rate=-0.1, shape=1.0, rate=1.0
            ),
            "`learning_rate` must be at least 0.*learning_rate=-0.1",
        ),
        (
            lambda: multiplicative.msgd_moment_matrix(
                learning_rate=0.1, momentum=np.nan, shape=1.0, rate=1.0
            ),
            "`momentum` must be finite.*momentum=nan",
        ),
        (
            lambda: multiplicative.elastic_radius(
                learning_rate=0.1, num_workers=0, shape=1.0, rate=1.0
            ),
            "`num_workers` must be a whole number of at least 1.*=0",
        ),
        (
            lambda: multiplicative.eamsgd_moment_matrix(
                learning_rate=0.1,
                moving_rate=0.1,
                beta=np.inf,
                num_workers=3,
                momentum=0.5,
                shape=1.0,
                rate=1.0,
            ),
            "`beta` must be finite.*beta=inf",
        ),
        (
            lambda: multiplicative.optimal_num_workers(
                shape=1.0, rate=1.0, learning_rate=0.0
            ),
            "`learning_rate` must be positive.*learning_rate=0.0",
        ),
        (
            lambda: multiplicative.optimal_num_workers(
                shape=1.0, rate=1.0, momentum=1.0
            ),
            "`momentum` must be at least 0 and below 1.*momentum=1.0",
        ),
        (
            lambda: multiplicative.optimal_num_workers(
                shape=1.0, rate=1.0, moving_rate=-0.1
            ),
            "`moving_rate` must be at least 0.*moving_rate=-0.1",
        ),
        (
            lambda: multiplicative.optimal_num_workers(
                shape=1.0, rate=1.0, tolerance=1.0
            ),
            "`tolerance` must be at least 0 and below 1.*tolerance=1.0",
        ),
        (
            lambda: multiplicative.limit_learning_rates(
                beta=np.nan, shape=1.0, rate=1.0
            ),
            "`beta` must be finite.*beta=nan",
        ),
        (
            lambda: multiplicative.widest_moving_rate(shape=-1.0),
            "`shape` must be positive.*shape=-1.0",
        ),
        (
            lambda: multiplicative.simulate(
                learning_rate=0.1,
                moving_rate=0.1,
                beta=0.1,
                num_workers=1,
                shape=1.0,
                rate=1.0,
                steps=1,
                runs=1,
            ),
            "`runs` must be a whole number of at least 2.*runs=1",
        ),
    ],
)
def test_bad_arguments_are_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()
