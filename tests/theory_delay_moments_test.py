"""Moments of the linear delay equation, and the paper's bounds on them."""

import math

import numpy as np
import pytest
from hypothesis import example
from hypothesis import given
from hypothesis import strategies as st
from scipy import linalg

from tests.drawing import examples
from tf_elastic.theory import delay_equations
from tf_elastic.theory._monte_carlo import estimate

EXAMPLES = examples(20)
SLOW = examples(12)
# Of the critical delay.
FRACTIONS = st.just(0.0) | st.floats(0.01, 0.9)


def stable_matrix(generator, n):
    """Not symmetric, with eigenvalues of real part above about 0.3."""
    root = generator.normal(size=(n, n)) / np.sqrt(n)
    turn = generator.normal(size=(n, n)) * 0.4
    return root @ root.T + 0.3 * np.eye(n) + (turn - turn.T)


def delayed_exponential(t, matrix, delay):
    """The terms of R, (-A)^j (t - j tau)^j / j!, of which R is the sum."""
    return [
        np.linalg.matrix_power(-matrix, j)
        * max(t - j * delay, 0) ** j
        / math.factorial(j)
        for j in range(int(t / delay) + 1)
    ]


@EXAMPLES
@given(
    seed=st.integers(0, 10**6), n=st.integers(1, 4), delay=st.floats(0.05, 3)
)
@example(seed=534, n=1, delay=0.25)  # what is left of terms of 1 is 6e-6
def test_the_fundamental_solution_is_the_delayed_exponential(seed, n, delay):
    generator = np.random.default_rng(seed)
    matrix = generator.normal(size=(n, n))
    times = generator.uniform(0, 6, size=5)
    solution = delay_equations.fundamental_solution(
        times, matrix=matrix, delay=delay
    )
    for t, one in zip(times, solution, strict=True):
        terms = delayed_exponential(t, matrix, delay)
        expected = sum(terms)
        # Where the terms cancel, what is left has their rounding.
        error = 1e-8 * np.abs(expected).max() + 1e-11 * np.abs(terms).max()
        np.testing.assert_allclose(one, expected, rtol=1e-8, atol=error)


def test_it_decays_as_the_rightmost_root_says():
    for matrix, delay in (
        ([[1.0]], 0.2),
        ([[1.0]], 1.2),
        ([[1.0, 0.4], [-0.4, 0.5]], 0.6),
    ):
        times = np.linspace(0, 60, 6001)
        sizes = np.linalg.norm(
            delay_equations.fundamental_solution(
                times, matrix=matrix, delay=delay
            ),
            axis=(-2, -1),
        )
        root = delay_equations.rightmost_root(matrix, delay)
        later = 6 * np.pi / root.imag if root.imag else 15.0  # three periods
        at = np.searchsorted(times, [20.0, 20.0 + later])
        rate = math.log(sizes[at[1]] / sizes[at[0]]) / np.diff(times[at])
        assert rate == pytest.approx(root.real, rel=0.01)


@EXAMPLES
@given(seed=st.integers(0, 10**6), n=st.integers(1, 4))
def test_without_delay_it_is_ornstein_uhlenbeck(seed, n):
    generator = np.random.default_rng(seed)
    matrix = stable_matrix(generator, n)
    factor = generator.normal(size=(n, n))
    noise = factor @ factor.T
    start = generator.normal(size=n)
    t = generator.uniform(0.1, 5)
    mean, covariance = delay_equations.linear_moments(
        t,
        matrix=matrix,
        delay=0.0,
        displacement=start,
        noise_covariance=noise,
    )
    flow = linalg.expm(-matrix * t)
    np.testing.assert_allclose(mean, flow @ start, rtol=1e-9, atol=1e-11)
    settled = linalg.solve_continuous_lyapunov(matrix, noise)
    np.testing.assert_allclose(
        covariance, settled - flow @ settled @ flow.T, rtol=1e-8, atol=1e-10
    )


@SLOW
@given(
    seed=st.integers(0, 10**6),
    n=st.integers(1, 3),
    fraction=FRACTIONS,
)
def test_the_moments_are_those_of_many_runs(seed, n, fraction):
    """Euler-Maruyama of eq. 7, in steps far finer than the delay."""
    generator = np.random.default_rng(seed)
    matrix = stable_matrix(generator, n)
    factor = generator.normal(size=(n, n))
    start = generator.normal(size=n)
    horizon = 3.0
    step = 0.002
    lag = int(fraction * delay_equations.critical_delay(matrix) / step)
    paths = delay_equations.euler_maruyama(
        lambda t, now, then: -then @ matrix.T,
        lambda t, now, then: factor,
        start,
        time_step=step,
        steps=int(horizon / step),
        delay=lag,
        runs=2000,
        seed=seed,
    )
    for k in (250, 700, 1500):
        mean, covariance = delay_equations.linear_moments(
            k * step,
            matrix=matrix,
            delay=lag * step,
            displacement=start,
            noise_covariance=factor @ factor.T,
        )
        found, error = estimate(paths[k])
        assert (np.abs(found - mean) < 4 * error).all()
        centered = paths[k] - mean
        found, error = estimate(centered[:, :, None] * centered[:, None, :])
        assert (np.abs(found - covariance) < 4 * error).all()


@EXAMPLES
@given(curvature=st.floats(0.1, 3.0), fraction=FRACTIONS)
def test_the_stationary_variance_is_where_the_moments_end(curvature, fraction):
    delay = fraction * np.pi / 2 / curvature
    slowest = -delay_equations.rightmost_root([[curvature]], delay).real
    _, covariance = delay_equations.linear_moments(
        15 / slowest,
        matrix=[[curvature]],
        delay=delay,
        displacement=[0.0],
        noise_covariance=[[1.0]],
    )
    assert delay_equations.stationary_variance(
        curvature, delay
    ) == pytest.approx(covariance[0, 0], rel=1e-8)


def test_the_variance_settles_exactly_where_the_equation_is_stable():
    curvature = np.round(np.arange(-1, 4, 0.11), 3)[:, None]
    delay = np.round(np.arange(0, 3, 0.07), 3)
    settles = np.isfinite(delay_equations.stationary_variance(curvature, delay))
    stable = delay_equations.is_stable(curvature[..., None, None], delay)
    assert (settles == stable).all()
    assert settles.any() and not settles.all()


# Theorem 4.1.


@EXAMPLES
@given(
    seed=st.integers(0, 10**6),
    n=st.integers(1, 3),
    fraction=FRACTIONS,
    portion=st.floats(0.1, 0.9),
)
def test_the_moment_bound_holds(seed, n, fraction, portion):
    generator = np.random.default_rng(seed)
    matrix = stable_matrix(generator, n)
    delay = fraction * float(delay_equations.critical_delay(matrix))
    slowest = -delay_equations.rightmost_root(matrix, delay).real
    setting = {
        "matrix": matrix,
        "delay": delay,
        "displacement": generator.normal(size=n),
        "noise_covariance": np.diag(generator.uniform(0, 1, size=n)),
    }
    times = np.linspace(0, 8 / slowest, 60)
    mean, covariance = delay_equations.linear_moments(times, **setting)
    error = np.sum(mean**2, axis=-1) + np.trace(covariance, axis1=-2, axis2=-1)
    rate = portion * slowest
    bound = delay_equations.moment_bound(times, decay_rate=rate, **setting)
    assert (error <= 1.002 * bound).all()
    # Its constant is one for R, and the least.
    constant = delay_equations.decay_constant(
        matrix=matrix, delay=delay, decay_rate=rate
    )
    fine = np.linspace(0, 8 / slowest, 3001)
    scaled = np.exp(rate * fine) * np.linalg.norm(
        delay_equations.fundamental_solution(fine, matrix=matrix, delay=delay),
        ord=2,
        axis=(-2, -1),
    )
    assert scaled.max() == pytest.approx(constant, rel=2e-3)


def test_the_moment_bound_holds_for_asgd():
    """Regression by ASGD: what theorem 4.1 is about, with eta = delta."""
    generator = np.random.default_rng(3)
    problem = delay_equations.least_squares(
        generator.normal(size=(20, 2)), generator.normal(size=20)
    )
    eta, lag, batch = 0.02, 15, 8
    start = problem.optimum + [1.5, -1.0]
    paths = delay_equations.asgd_paths(
        lambda x, drawn: problem.batch_gradient(x, batch, drawn),
        start,
        learning_rate=eta,
        steps=1000,
        delay=lag,
        runs=500,
    )
    squares = np.sum((paths - problem.optimum) ** 2, axis=-1)
    mean, standard_error = estimate(squares, axis=1)
    # The largest noise on the way, as the paper takes sigma to be constant.
    sigma = max(
        np.trace(problem.gradient_covariance(x)) / batch
        for x in paths[::20].reshape(-1, 2)
    )
    delay = eta * lag
    rate = -0.7 * delay_equations.rightmost_root(problem.hessian, delay).real
    bound = delay_equations.moment_bound(
        eta * np.arange(1001),
        matrix=problem.hessian,
        delay=delay,
        displacement=start - problem.optimum,
        noise_covariance=eta * sigma / 2 * np.eye(2),
        decay_rate=rate,
    )
    assert (mean - 4 * standard_error <= bound).all()


def test_the_norm_of_sigma_is_frobenius():
    """With the spectral norm the moments of section 4 exceed their bound."""
    n, eta, t = 3, 0.1, 4.0
    matrix = np.eye(n)
    _, covariance = delay_equations.linear_moments(
        t,
        matrix=matrix,
        delay=0.0,
        displacement=np.zeros(n),
        noise_covariance=eta * np.eye(n),
    )
    exact = np.trace(covariance)
    integral = eta * (1 - math.exp(-2 * t)) / 2  # of e^(-2 s), norms are 1
    assert exact == pytest.approx(n * integral)  # Frobenius: equal
    assert exact > 2 * integral  # spectral, no bound
    bound = delay_equations.moment_bound(
        t,
        matrix=matrix,
        delay=0.0,
        displacement=np.zeros(n),
        noise_covariance=eta * np.eye(n),
        decay_rate=0.9,
    )
    assert exact <= bound < 1.2 * exact


# Theorem 4.2.


def decreasing_rate_paths(delay, delta, sigma, runs=2000, end=12.0):
    """F = x^2 / 2 with eta_k = 1 / (mu k), mu = 1, from t = 1."""
    first = round(1 / delta)
    paths = delay_equations.sdde_paths(
        lambda x: x,
        lambda x: np.full((1, 1), sigma),
        [1.0],
        learning_rate=1.0,
        time_step=delta,
        steps=round((end - 1) / delta),
        delay=round(delay / delta),
        schedule="inverse",
        first_step=first,
        runs=runs,
        seed=1,
    )[..., 0]
    return 1 + delta * np.arange(1, len(paths)), paths[1:]


@pytest.mark.parametrize("sigma", [0.0, 0.5, 3.0])
@pytest.mark.parametrize("delay", [0.0, 0.1, 0.5, 2.0])
def test_the_energy_bound_holds(delay, sigma):
    delta = 0.02
    times, paths = decreasing_rate_paths(delay, delta, sigma)
    mean, standard_error = estimate(paths**2, axis=1)
    bound = delay_equations.energy_bound(
        times,
        strong_convexity=1.0,
        smoothness=1.0,
        radius=max(1.0, np.abs(paths).max()),
        noise=sigma**2,
        delay=delay,
        time_step=delta,
    )
    assert (mean - 4 * standard_error <= bound).all()


def test_the_energy_has_the_factor_one_half():
    """With (t - 1) / tau, as printed once, the bound would be wrong.

    It would be tau / 2 of the one that the proof arrives at.
    """
    delay, delta, sigma = 0.02, 0.01, 0.0
    times, paths = decreasing_rate_paths(delay, delta, sigma, runs=2)
    bound = delay_equations.energy_bound(
        times,
        strong_convexity=1.0,
        smoothness=1.0,
        radius=1.0,
        noise=0.0,
        delay=delay,
        time_step=delta,
    )
    mean = np.mean(paths**2, axis=1)
    assert (mean <= bound).all()
    assert (mean > delay / 2 * bound).mean() > 0.5


def test_the_equation_of_theorem_4_2_cannot_start_at_zero():
    """Its drift is -F'(X) / (mu t): X(tau) = x_0 (1 - ln(tau / start))."""
    tau, ends = 0.5, []
    for start in (1e-1, 1e-2, 1e-3):
        steps = round((tau - start) / 5e-5)
        path = delay_equations.euler_maruyama(
            lambda t, now, then: -then / t,
            lambda t, now, then: 0.0,
            [1.0],
            time_step=5e-5,
            steps=steps,
            delay=steps,
            start_time=start,
        )
        ends.append(path[-1, 0, 0])
        assert ends[-1] == pytest.approx(1 - math.log(tau / start), rel=0.02)
    assert ends[0] > ends[1] + 2 > ends[2] + 4  # no limit


def test_bad_arguments_are_refused():
    good = {
        "strong_convexity": 1.0,
        "smoothness": 1.0,
        "radius": 1.0,
        "noise": 0.0,
        "time_step": 0.1,
    }
    for match, t, changes in (
        ("`t` must be above 1", 1.0, {}),
        ("`smoothness` must be at least", 2.0, {"smoothness": 0.5}),
        ("`radius` must be positive", 2.0, {"radius": 0.0}),
        ("`noise` must be at least 0", 2.0, {"noise": -1.0}),
        ("`delay` must be at least 0", 2.0, {"delay": -1.0}),
    ):
        with pytest.raises(ValueError, match=match):
            delay_equations.energy_bound(t, **good | changes)
    with pytest.raises(ValueError, match="`decay_rate` must be in"):
        delay_equations.decay_constant(
            matrix=[[1.0]], delay=0.5, decay_rate=5.0
        )
    with pytest.raises(ValueError, match="`decay_rate` must be in"):
        delay_equations.decay_constant(
            matrix=[[1.0]], delay=2.0, decay_rate=0.1
        )
    with pytest.raises(ValueError, match="`t` must be at least 0"):
        delay_equations.fundamental_solution(-1.0, matrix=[[1.0]], delay=1.0)
    with pytest.raises(ValueError, match="`delay` must be 0, or at least"):
        delay_equations.fundamental_solution(2.0, matrix=[[1]], delay=1e-6)
    with pytest.raises(ValueError, match=r"`displacement` must be of shape"):
        delay_equations.linear_moments(
            1.0,
            matrix=[[1.0]],
            delay=0.0,
            displacement=[1.0, 2.0],
            noise_covariance=[[1.0]],
        )
