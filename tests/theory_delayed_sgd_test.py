"""Delayed SGD on a quadratic: its spectrum, its limits, its variance."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import linalg

from tests.drawing import examples
from tests.drawing import same_examples
from tf_elastic.theory import delay_equations
from tf_elastic.theory._monte_carlo import estimate

EXAMPLES = examples(20)
DELAYS = (0, 1, 2, 3, 5, 8, 13, 24)


def transcribed(eta_h, delay, momentum, past, steps):
    """The recursion, one number after another."""
    x = list(past)
    for _ in range(steps):
        x.append(x[-1] - eta_h * x[-1 - delay] + momentum * (x[-1] - x[-2]))
    return x


def polynomial_radius(eta_h, delay, momentum):
    """From the characteristic polynomial, with no matrix of ours."""
    coefficients = np.zeros(max(delay, 1) + 2)
    coefficients[:3] = 1, -(1 + momentum), momentum
    coefficients[delay + 1] += eta_h
    return np.abs(np.roots(coefficients)).max()


@EXAMPLES
@given(
    eta_h=st.floats(0.01, 2.0),
    delay=st.integers(0, 6),
    momentum=st.floats(0.0, 0.95),
    seed=st.integers(0, 10**6),
)
def test_the_matrix_is_the_recursion(eta_h, delay, momentum, seed):
    matrix = delay_equations.delayed_sgd_matrix(eta_h, delay, momentum)
    past = np.random.default_rng(seed).normal(size=len(matrix))
    x = transcribed(eta_h, delay, momentum, past, steps=5)
    state = np.linalg.matrix_power(matrix, 5) @ past[::-1]
    np.testing.assert_allclose(
        state, x[: -len(matrix) - 1 : -1], rtol=1e-9, atol=1e-9
    )


@EXAMPLES
@given(
    eta_h=st.floats(0.01, 2.0),
    delay=st.integers(0, 12),
    momentum=st.floats(0.0, 0.95),
)
def test_the_radius_is_that_of_the_polynomial(eta_h, delay, momentum):
    radius = delay_equations.delayed_sgd_radius(eta_h, delay, momentum)
    expected = polynomial_radius(eta_h, delay, momentum)
    assert radius == pytest.approx(expected, rel=1e-6)


def test_the_radius_is_the_rate_of_a_long_run():
    for delay, eta_h, momentum in ((3, 0.3, 0.0), (4, 0.05, 0.5)):
        x = transcribed(eta_h, delay, momentum, [1.0] * 6, steps=4000)
        size = np.array([max(np.abs(x[k : k + 60])) for k in (400, 1000)])
        rate = (size[1] / size[0]) ** (1 / 600)
        radius = delay_equations.delayed_sgd_radius(eta_h, delay, momentum)
        assert rate == pytest.approx(radius, rel=1e-3)


def test_no_cell_of_the_stability_condition_is_wrong():
    rates = np.round(np.arange(-0.1, 4.1, 0.0131), 4)[:, None, None]
    delays = np.array(DELAYS)[:, None]
    momenta = np.array([0.0, 0.1, 0.5, 0.9, 0.97])
    radius = delay_equations.delayed_sgd_radius(rates, delays, momenta)
    limit = delay_equations.largest_stable_eta_h(delays, momenta)
    predicted = (rates > 0) & (rates < limit)
    wrong = (predicted != (radius < 1)) & (np.abs(radius - 1) > 1e-12)
    assert predicted.sum() > 500 and (~predicted).sum() > 500
    assert not wrong.any()


@pytest.mark.parametrize("momentum", [0.0, 0.3, 0.9, 0.99])
def test_the_limit_is_tight(momentum):
    limit = delay_equations.largest_stable_eta_h(DELAYS, momentum)
    for factor in (1 - 1e-4, 1 + 1e-4):
        radius = delay_equations.delayed_sgd_radius(
            factor * limit, DELAYS, momentum
        )
        assert ((radius < 1) == (factor < 1)).all()


def test_limits_in_closed_form():
    d = np.arange(60)
    limit = delay_equations.largest_stable_eta_h(d)
    np.testing.assert_allclose(
        limit, 2 * np.sin(np.pi / (2 * (2 * d + 1))), rtol=1e-14
    )
    # Heavy ball with no delay, and with a delay of one step.
    momentum = np.linspace(0, 0.99, 12)
    np.testing.assert_allclose(
        delay_equations.largest_stable_eta_h(0, momentum), 2 * (1 + momentum)
    )
    np.testing.assert_allclose(
        delay_equations.largest_stable_eta_h(1, momentum), 1 - momentum
    )
    # The bisection has the closed form's limit.
    np.testing.assert_allclose(
        delay_equations.largest_stable_eta_h(d, 1e-13), limit, rtol=1e-11
    )


def test_long_delays_meet_the_equation():
    """eta h d -> pi / 2, from below: time is more lenient than steps."""
    d = np.array([10, 100, 1000, 10_000])
    product = delay_equations.largest_stable_eta_h(d) * d
    assert (product < np.pi / 2).all()
    np.testing.assert_allclose(product[-1], np.pi / 2, rtol=1e-4)
    # And so does the rate of decay: log(radius) / eta -> V.
    delay, product = 200, 0.7
    rate = delay * np.log(
        delay_equations.delayed_sgd_radius(product / delay, delay)
    )
    root = delay_equations.rightmost_root([[product]], 1.0)
    assert rate == pytest.approx(root.real, rel=0.02)


@pytest.mark.parametrize("delay", DELAYS)
def test_nothing_is_faster_than_the_fastest(delay):
    best = delay_equations.fastest_eta_h(delay)
    radius = delay_equations.delayed_sgd_radius(best, delay)
    # A double root: its companion matrix knows it to the root of rounding.
    assert radius == pytest.approx(delay / (delay + 1), abs=3e-7)
    around = best * np.linspace(0.5, 2.0, 301)
    radii = delay_equations.delayed_sgd_radius(around, delay)
    assert (radii > delay / (delay + 1) - 3e-7).all()
    assert abs(around[np.argmin(radii)] / best - 1) < 0.011


@EXAMPLES
@given(delay=st.integers(0, 20), fraction=st.floats(0.01, 0.99))
def test_the_variance_is_that_of_the_lyapunov_equation(delay, fraction):
    eta_h = fraction * delay_equations.largest_stable_eta_h(delay)
    matrix = delay_equations.delayed_sgd_matrix(eta_h, delay)
    noise = np.zeros_like(matrix)
    noise[0, 0] = 1
    covariance = linalg.solve_discrete_lyapunov(matrix, noise)
    variance = delay_equations.delayed_sgd_variance(eta_h, delay)
    assert variance == pytest.approx(covariance[0, 0], rel=1e-8)


@same_examples(20)
@given(
    delay=st.integers(0, 8),
    fraction=st.floats(0.1, 0.85),
    seed=st.integers(0, 10**6),
)
def test_the_variance_of_many_runs(delay, fraction, seed):
    eta_h = fraction * delay_equations.largest_stable_eta_h(delay)
    radius = delay_equations.delayed_sgd_radius(eta_h, delay)
    paths = delay_equations.asgd_paths(
        lambda x, generator: eta_h * x + generator.normal(size=x.shape),
        [0.0],
        learning_rate=1.0,
        steps=int(np.ceil(8 / -np.log(max(radius, 0.1)))),
        delay=delay,
        runs=3000,
        seed=seed,
    )
    mean, standard_error = estimate(paths[-1, :, 0] ** 2)
    variance = delay_equations.delayed_sgd_variance(eta_h, delay)
    assert abs(mean - variance) < 4 * standard_error


def test_small_steps_meet_the_variance_of_the_equation():
    delay, product = 500, np.array([0.1, 0.8, 1.4])
    eta_h = product / delay
    np.testing.assert_allclose(
        delay_equations.delayed_sgd_variance(eta_h, delay) * eta_h**2,
        delay_equations.stationary_variance(product, 1.0) * product**2 / delay,
        rtol=0.02,
    )


def test_bad_arguments_are_refused():
    with pytest.raises(ValueError, match="`delay` must be a whole number"):
        delay_equations.delayed_sgd_radius(0.1, 1.5)
    with pytest.raises(ValueError, match="`delay` must be a whole number"):
        delay_equations.fastest_eta_h(-1)
    with pytest.raises(ValueError, match="`eta_h` must be finite"):
        delay_equations.delayed_sgd_matrix(np.inf, 1)
    with pytest.raises(ValueError, match=r"`momentum` must be in \[0, 1\)"):
        delay_equations.largest_stable_eta_h(1, momentum=1.0)
