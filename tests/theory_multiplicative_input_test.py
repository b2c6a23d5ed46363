"""SGD with mini-batches: rates and densities, by integrals and by runs."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import integrate
from scipy import stats

from tests.drawing import same_examples
from tf_elastic.theory import multiplicative

INPUTS = ((0.1, 0.3), (0.5, 0.5), (1.0, 1.0), (2.0, 5.0), (10.0, 10.0))
CLOSE = 1e-7  # cells whose radius is 1 up to rounding are on the bound
SIGMAS = 4
RUNS = 20_000
STEPS = 4

# The runs' squares have heavy tails, the heavier the wider the input, the
# larger the step, and the later. Where few of the runs make the mean, its
# standard error is too low; these ranges stay clear of that.
spreads = st.floats(1.0, 8.0)
rates = st.floats(0.5, 3.0)
steps_of_mean = st.floats(0.05, 0.6)  # eta lambda / omega
seeds = st.integers(0, 2**32 - 1)
drawn = same_examples(20)
workers = st.integers(1, 5)


@drawn
@given(spreads, rates, steps_of_mean, workers, seeds)
def test_minibatch_follows_its_rate(shape, rate, step, p, seed):
    """The batch is drawn input by input, not as a Gamma distribution of p."""
    eta = step * rate / shape
    curvature = np.random.default_rng(seed).gamma(
        shape, 1 / rate, (STEPS, p, RUNS)
    )
    squares = np.prod((1 - eta * curvature.mean(axis=1)) ** 2, axis=0)
    factor = multiplicative.minibatch_rate(
        learning_rate=eta, shape=shape, rate=rate, num_workers=p
    )
    error = squares.std(ddof=1) / math.sqrt(RUNS)
    assert abs(squares.mean() - factor**STEPS) <= SIGMAS * error


@pytest.mark.parametrize(("shape", "rate"), INPUTS)
def test_no_cell_of_minibatch_sgd_is_wrong(shape, rate):
    p = np.array([1, 2, 3, 10, 100])[:, None]
    eta = np.linspace(0, 3 * rate / shape, 400)[1:]
    factor = multiplicative.minibatch_rate(
        learning_rate=eta, shape=shape, rate=rate, num_workers=p
    )
    best = multiplicative.optimal_learning_rate(
        shape=shape, rate=rate, num_workers=p
    )
    decided = np.abs(factor - 1) > CLOSE
    assert ((eta < 2 * best) == (factor < 1))[decided].all()
    assert (factor < 1).any() and (factor > 1).any()
    # Nothing on the grid is better than the best, nor is more of p worse.
    lowest = multiplicative.minibatch_rate(
        learning_rate=best, shape=shape, rate=rate, num_workers=p
    )
    np.testing.assert_allclose(lowest, 1 / (p * shape + 1), rtol=1e-12)
    assert (factor >= lowest - 1e-12).all()
    assert (np.diff(factor, axis=0) < 0).all()


@pytest.mark.parametrize(("shape", "rate"), INPUTS)
def test_the_whole_data_is_the_limit(shape, rate):
    best = multiplicative.optimal_learning_rate(
        shape=shape, rate=rate, num_workers=np.inf
    )
    assert best == pytest.approx(rate / shape, rel=1e-14)
    factor = multiplicative.minibatch_rate(
        learning_rate=0.3, shape=shape, rate=rate, num_workers=10**12
    )
    assert factor == pytest.approx((1 - 0.3 * shape / rate) ** 2, rel=1e-9)


@pytest.mark.parametrize("p", [1, 2, 4])
@pytest.mark.parametrize(("shape", "rate"), INPUTS)
def test_density_of_a_minibatch(shape, rate, p):
    """A density, of the mean and the variance of a mean of p draws."""

    # In the logarithm there is no pole.
    def moment(power):
        return integrate.quad(
            lambda log: (
                math.exp(log) ** (power + 1)
                * float(
                    multiplicative.input_density(
                        math.exp(log), shape=shape, rate=rate, num_workers=p
                    )
                )
            ),
            -250,
            7,
            limit=500,
            points=[-50, -10, -1, 0, 1, 3],
        )[0]

    mean = shape / rate
    assert moment(0) == pytest.approx(1, rel=1e-6)
    assert moment(1) == pytest.approx(mean, rel=1e-6)
    assert moment(2) - mean**2 == pytest.approx(shape / (p * rate**2), rel=1e-5)


def test_density_is_that_of_scipy():
    value = np.array([-1, 0, 1e-300, 1e-3, 0.5, 3, 50, 900, np.nan])
    for shape, rate, p in itertools.product((0.3, 1, 2, 300), (0.1, 4), (1, 3)):
        np.testing.assert_allclose(
            multiplicative.input_density(
                value, shape=shape, rate=rate, num_workers=p
            ),
            stats.gamma.pdf(value, p * shape, scale=1 / (p * rate)),
            rtol=1e-10,
        )
    assert multiplicative.input_density(np.inf, shape=1, rate=1) == 0


def test_density_of_drawn_minibatches():
    drawn = np.random.default_rng(0).gamma(0.5, 2.0, (4, 20_000)).mean(axis=0)
    edges = np.quantile(drawn, np.linspace(0.01, 0.99, 9))
    for low, high in itertools.pairwise(edges):
        share = integrate.quad(
            lambda x: float(
                multiplicative.input_density(
                    x, shape=0.5, rate=0.5, num_workers=4
                )
            ),
            low,
            high,
        )[0]
        assert share == pytest.approx(0.98 / 8, abs=4 * 0.0024)


@pytest.mark.parametrize(
    ("eta", "shape", "rate", "p"),
    [(0.5, 0.5, 1.0, 1), (3.0, 0.5, 1.0, 2), (2.0, 0.8, 1.5, 4)],
)
def test_brownian_motion_follows_its_rates(eta, shape, rate, p):
    """By Euler-Maruyama, and X^2 for the mean, log X^2 for the paths."""
    runs, steps, end = 20_000, 1000, 0.5
    generator = np.random.default_rng(11)
    x = np.ones(runs)
    step = end / steps
    spread = math.sqrt(eta * shape / (p * rate**2))
    for _ in range(steps):
        noise = generator.normal(size=runs) * math.sqrt(step)
        x += -shape / rate * x * step + spread * x * noise
    expected = multiplicative.brownian_rates(
        learning_rate=eta, shape=shape, rate=rate, num_workers=p
    )
    square, logarithm = x**2, np.log(x**2)
    for found, wanted in (
        (square, math.exp(expected.mean_square * end)),
        (logarithm, expected.path * end),
    ):
        error = found.std(ddof=1) / math.sqrt(runs)
        assert abs(found.mean() - wanted) <= SIGMAS * error + 2 * step


def test_brownian_motion_is_the_limit_of_small_steps():
    """The first order in eta of the logarithm of eq. 5.26 over a time 1."""
    for shape, rate in INPUTS:
        gaps = []
        for eta in (1e-3, 5e-4):
            factor = multiplicative.minibatch_rate(
                learning_rate=eta, shape=shape, rate=rate, num_workers=3
            )
            brownian = multiplicative.brownian_rates(
                learning_rate=eta, shape=shape, rate=rate, num_workers=3
            )
            gaps.append(math.log(factor) / eta - brownian.mean_square)
        assert gaps[1] == pytest.approx(gaps[0] / 2, rel=0.02)


def test_the_mean_square_explodes_while_paths_converge():
    """Section 5.2.1, by the chain itself: few runs make the mean."""
    shape, rate, eta = 0.5, 0.5, 0.8
    assert eta > 2 * multiplicative.optimal_learning_rate(
        shape=shape, rate=rate
    )
    factor = multiplicative.minibatch_rate(
        learning_rate=eta, shape=shape, rate=rate
    )
    assert factor > 1.2
    generator = np.random.default_rng(3)
    curvature = generator.gamma(shape, 1 / rate, (60, 5000))
    square = np.prod((1 - eta * curvature) ** 2, axis=0)
    assert factor**60 > 1e5
    assert np.mean(square < 1e-6) > 0.99


def test_erratum_normalization_of_the_density():
    """Gamma(omega) for Gamma(lambda), after eq. 5.27."""
    lam, omega = 2.0, 3.0
    mass = integrate.quad(
        lambda x: (
            omega**lam
            / math.gamma(omega)
            * x ** (lam - 1)
            * math.exp(-omega * x)
        ),
        0,
        np.inf,
    )[0]
    assert mass == pytest.approx(0.5)
    x = np.linspace(0.1, 3, 20)
    np.testing.assert_allclose(
        multiplicative.input_density(x, shape=lam, rate=omega),
        omega**lam / math.gamma(lam) * x ** (lam - 1) * np.exp(-omega * x),
        rtol=1e-12,
    )
