"""Streaming PCA: limits, phases and delays against the simulator."""

import functools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import integrate
from scipy import special

from tests.drawing import examples
from tests.drawing import same_examples
from tf_elastic import theory
from tf_elastic.figures import streaming_pca as figure
from tf_elastic.theory import _monte_carlo
from tf_elastic.theory import delay_equations
from tf_elastic.theory import streaming_pca

PAPER = figure.COVARIANCE  # diag(4, 3, 2, 1)
MOMENTA = (0.7, 0.8, 0.85, 0.9, 0.95)
PRINTED_DELAYS = (120, 80, 60, 30, 10)

drawn = examples(20)


def rotation(seed, size):
    return np.linalg.qr(np.random.default_rng(seed).normal(size=(size, size)))[
        0
    ]


def spectra(sizes=(2, 3)):
    """Eigenvalues with gaps that are worth a run."""
    return st.lists(
        st.floats(0.5, 1.5), min_size=sizes[0], max_size=sizes[1]
    ).map(lambda steps: np.cumsum(steps)[::-1])


def within(samples, expected, errors=4):
    """Whether the mean over the runs (axis 0) is what is expected."""
    mean, error = _monte_carlo.estimate(samples)
    return np.all(np.abs(mean - expected) < errors * error)


# The ODE limit.


@drawn
@given(
    spectra((2, 5)),
    st.floats(0, 0.95),
    st.floats(0.1, 1),
    st.integers(0, 2**31),
)
def test_the_path_solves_the_ode(values, momentum, length, seed):
    turned = rotation(seed, len(values))
    covariance = turned * values @ turned.T
    start = np.random.default_rng(seed).normal(size=len(values))
    start *= length / np.linalg.norm(start)
    times = np.linspace(0, 2 * (1 - momentum), 9)

    def slope(_, v):
        pull = covariance @ v
        return (pull - v @ pull * v) / (1 - momentum)

    solved = integrate.solve_ivp(
        slope,
        (0, times[-1]),
        start,
        "DOP853",
        times,
        rtol=1e-10,
        atol=1e-12,
    )
    path = streaming_pca.ode_path(
        times, initial=start, momentum=momentum, covariance=covariance
    )
    np.testing.assert_allclose(path, solved.y.T, atol=1e-8)


def test_the_path_is_the_papers_and_ends_at_the_optimum():
    start = np.array([1e-3, np.sqrt(1 - 3e-6), 1e-3, 1e-3])
    momentum, t = np.array([[0.5], [0.9]]), np.array([0.0, 0.1, 0.5])
    path = streaming_pca.ode_path(
        t, initial=start, momentum=momentum, covariance=PAPER
    )
    grown = start * np.exp(np.diag(PAPER) * (t / (1 - momentum))[..., None])
    np.testing.assert_allclose(
        path,
        grown / np.linalg.norm(grown, axis=-1, keepdims=True),
        rtol=1e-12,
    )
    end = streaming_pca.ode_path(
        1e6, initial=start, momentum=0.9, covariance=PAPER
    )
    np.testing.assert_allclose(end, [1, 0, 0, 0], atol=1e-12)


@pytest.mark.parametrize("momentum", [0.0, 0.8])
@pytest.mark.parametrize("kind", ["none", "constant", "geometric"])
def test_small_learning_rates_follow_the_ode(momentum, kind):
    """The error of the mean goes to 0 as the learning rate does."""
    delay = {
        "none": 0,
        "constant": 4,
        "geometric": streaming_pca.geometric_delay(4.0),
    }[kind]
    covariance = np.diag([3.0, 2.0, 1.0])
    start = np.array([0.3, 0.8, np.sqrt(1 - 0.09 - 0.64)])
    end = 1.2 * (1 - momentum)
    errors = []
    for eta in (0.008 * (1 - momentum), 0.001 * (1 - momentum)):
        steps = round(end / eta)
        record = np.arange(1, 5) * steps // 4
        k, points = streaming_pca.simulate(
            momentum=momentum,
            delay=delay,
            learning_rate=eta,
            covariance=covariance,
            steps=steps,
            runs=800,
            seed=4,
            record=record,
            initial=start,
            inputs="sphere",
        )
        path = streaming_pca.ode_path(
            k * eta, initial=start, momentum=momentum, covariance=covariance
        )
        mean, error = _monte_carlo.estimate(points, axis=1)
        errors.append(np.abs(mean - path).max())
        # Each run by itself is near, too: within the noise's square root.
        distance = np.linalg.norm(points - path[:, None], axis=-1)
        assert np.quantile(distance, 0.95) < 8 * np.sqrt(eta / (1 - momentum))
    large, small = errors
    assert small < 0.02
    assert small < 0.25 * large + 4 * error.max()


# The SDE limit.


@same_examples(8)
@given(
    spectra(),
    st.floats(0, 0.9),
    st.sampled_from(streaming_pca.INPUTS),
    st.sampled_from([0, 3, streaming_pca.geometric_delay(2.0)]),
    st.floats(0.2, 3.0),
    st.integers(0, 1000),
)
def test_runs_scatter_as_the_sde(values, momentum, inputs, delay, life, seed):
    """Mean and variance at the optimum, on the way to the stationary ones."""
    eta = 5e-4 * (1 - momentum)
    turned = rotation(seed, len(values))
    covariance = turned * values @ turned.T
    end = life * (1 - momentum) / (2 * (values[0] - values[1]))
    steps = round(end / eta)
    basis = streaming_pca.eigenbasis(covariance).vectors
    before = np.append(0.0, np.linspace(2, -1, len(values) - 1))
    points = streaming_pca.simulate(
        momentum=momentum,
        delay=delay,
        learning_rate=eta,
        covariance=covariance,
        steps=steps,
        runs=1200,
        seed=seed,
        initial=basis[:, 0] + np.sqrt(eta) * basis @ before,
        inputs=inputs,
    ).points[0]
    deviation = (points @ basis - np.eye(len(values))[0])[:, 1:] / np.sqrt(eta)
    mean, variance = (
        moment[1:]
        for moment in streaming_pca.deviation_moments(
            steps * eta,
            initial=before,
            momentum=momentum,
            covariance=covariance,
            inputs=inputs,
        )
    )
    assert within(deviation, mean)
    assert within((deviation - mean) ** 2, variance)


@pytest.mark.parametrize("inputs", streaming_pca.INPUTS)
def test_after_a_long_time_the_scatter_is_the_stationary_one(inputs):
    momentum = np.array([0.0, 0.7, 0.9])
    eta = 4e-4 * (1 - momentum)
    points = streaming_pca.simulate(
        momentum=momentum,
        delay=2,
        learning_rate=eta,
        covariance=PAPER,
        steps=10_000,  # four times 1 / (lambda_1 - lambda_2)
        runs=500,
        seed=8,
        initial=[1.0, 0.0, 0.0, 0.0],
        inputs=inputs,
    ).points[0]
    variance = streaming_pca.stationary_variance(
        momentum=momentum, covariance=PAPER, inputs=inputs
    )
    assert variance.shape == (3, 4) and np.all(variance[:, 0] == 0)
    for i in range(3):
        assert within(points[i, :, 1:] ** 2 / eta[i], variance[i, 1:])
    late = streaming_pca.deviation_moments(
        1e9,
        initial=np.ones(4),
        momentum=momentum,
        covariance=PAPER,
        inputs=inputs,
    )
    np.testing.assert_allclose(late.variance, variance, rtol=1e-12)
    np.testing.assert_allclose(late.mean, 0, atol=1e-12)


def test_directions_of_equal_eigenvalues_diffuse():
    """Where lambda_i = lambda_j the variance grows by alpha^2 t / (1-mu)^2."""
    mean, variance = streaming_pca.deviation_moments(
        0.25,
        initial=[0.0, 0.0, 1.5],
        momentum=0.5,
        covariance=np.diag([3.0, 2.0, 2.0]),
        around=2,
    )
    np.testing.assert_allclose(mean, [0, 0, 1.5])
    np.testing.assert_allclose(variance[1:], [0, 4 * 0.25 / 0.25])


# The three phases.

PHASE = {"covariance": PAPER, "inputs": "sphere"}
PLANE = {"covariance": np.diag([2.0, 1.0]), "inputs": "sphere"}
GAP, PHI = 1.0, 8 / 3 * (3 + 2 + 1)  # of PHASE: alpha_1i^2 = 4 l_i (4/6)


@drawn
@given(st.floats(0, 0.95), st.floats(1e-4, 0.3))
def test_phase_two_ends_where_it_should(momentum, radius):
    """The printed T2 is half of the right one, and ends half-way."""
    time = streaming_pca.traverse_time(
        momentum=momentum, covariance=PAPER, radius=radius
    )
    start = [radius, np.sqrt(1 - radius**2), 0.0, 0.0]
    printed = (1 - momentum) / 2 * np.log((1 - radius**2) / radius**2)
    path = streaming_pca.ode_path(
        [time, printed], initial=start, momentum=momentum, covariance=PAPER
    )
    np.testing.assert_allclose(path[:, 0] ** 2, [1 - radius**2, 0.5], rtol=1e-9)


@drawn
@given(st.floats(0, 0.9), st.floats(0.05, 0.9), st.floats(0.5, 4.0))
def test_phase_one_ends_for_the_share_of_runs_it_names(momentum, nu, radius):
    """In the SDE's law: P(|U| >= radius / sqrt(eta)) at T1 is 1 - nu."""
    eta = 1e-4
    setting = {
        "learning_rate": eta,
        "momentum": momentum,
        "radius": radius * np.sqrt(eta),
        **PHASE,
    }
    for nu_inside, left in ((nu, 1 - nu), (nu / 2, 1 - nu / 2)):
        time = streaming_pca.escape_time(**setting, failure_rate=nu_inside)
        variance = streaming_pca.deviation_moments(
            time, initial=np.zeros(4), momentum=momentum, around=2, **PHASE
        ).variance[0]
        share = 2 * special.ndtr(-radius / np.sqrt(variance))
        assert share == pytest.approx(left, rel=1e-9)


@pytest.mark.parametrize("momentum", [0.0, 0.8])
def test_phase_one_against_runs(momentum):
    """The share that left is 1 - nu; Proposition 3.10's nu/2 waits longer."""
    nu, eta = 0.4, 2e-4 * (1 - momentum)
    radius = 3 * np.sqrt(eta)
    times = [
        streaming_pca.escape_time(
            learning_rate=eta,
            momentum=momentum,
            radius=radius,
            failure_rate=rate,
            **PHASE,
        )
        for rate in (nu, nu / 2)
    ]
    # Time of the momentum to build up, a few steps, is not in the limit.
    record = [round(float(time / eta)) for time in times]
    points = streaming_pca.simulate(
        momentum=momentum,
        delay=0,
        learning_rate=eta,
        steps=record[1],
        runs=1000,
        seed=6,
        record=record,
        **PHASE,
    ).points
    left = (np.abs(points[..., 0]) >= radius).T
    assert within(left, [1 - nu, 1 - nu / 2])
    assert not within(left[:, 1], 1 - nu)


def settle_runs(momentum, eta, radius, times):
    """Squared errors at the times, from the edge of the optimum."""
    record = [round(float(time / eta)) for time in times]
    points = streaming_pca.simulate(
        momentum=momentum,
        delay=0,
        learning_rate=eta,
        steps=max(record),
        runs=800,
        seed=2,
        record=record,
        initial=[np.sqrt(1 - radius**2), radius],
        **PLANE,
    ).points
    return np.sum(points[..., 1:] ** 2, axis=-1)


@pytest.mark.parametrize("momentum", [0.0, 0.8])
def test_phase_three_ends_in_three_runs_of_four(momentum):
    """Appendix A.6 prints an argument of the logarithm without its 4."""
    tolerance, radius = 0.02, 0.4
    eta = 0.02 * (1 - momentum) * tolerance
    time = streaming_pca.settle_time(
        learning_rate=eta,
        momentum=momentum,
        radius=radius,
        tolerance=tolerance,
        **PLANE,
    )
    # lambda_1 - lambda_2 and phi are 1.
    rate = 1 - momentum
    printed = (
        (1 - momentum)
        / 2
        * np.log(rate * radius**2 / (rate * tolerance - 2 * eta))
    )
    late, early = sorted(
        settle_runs(momentum, eta, radius, [time, printed]),
        key=lambda error: np.mean(error > tolerance),
    )
    assert np.mean(late <= tolerance) >= 0.75
    mean, error = _monte_carlo.estimate(early <= tolerance)
    assert mean + 4 * error < 0.75


@drawn
@given(
    st.floats(0, 0.95),
    st.floats(0.01, 0.45),
    st.floats(0.01, 0.05),
    st.floats(0.3, 0.6),
)
def test_phase_three_is_markovs_bound(momentum, share, tolerance, radius):
    """At T3 the bound in A.6 is 1/4; at the printed ones it is not."""
    rate = (1 - momentum) * GAP
    eta = share * rate * tolerance / PHI
    time = streaming_pca.settle_time(
        learning_rate=eta,
        momentum=momentum,
        radius=radius,
        tolerance=tolerance,
        **PHASE,
    )

    def bound(t):
        decay = np.exp(-2 * GAP * t / (1 - momentum))
        return (eta * PHI / (2 * rate) + radius**2 * decay) / tolerance

    def printed(eight, four):
        logarithm = np.log(
            eight * rate * radius**2 / (rate * tolerance - four * eta * PHI)
        )
        return (1 - momentum) / (2 * GAP) * logarithm

    assert bound(time) == pytest.approx(0.25, rel=1e-9)
    assert bound(printed(1, 2)) > 0.25 * (1 + 1e-9)  # A.6
    if share < 0.24:
        # Proposition 3.6, longer than the proof needs.
        assert bound(printed(8, 4)) < 0.25 * (1 - 1e-9)


def test_a_learning_rate_that_never_settles():
    """Also the printed one: (1 - mu) eps (lambda_1 - lambda_2) / phi."""
    tolerance, momentum = 0.02, 0.5
    largest = (1 - momentum) * GAP * tolerance / PHI
    rates = np.array([0.24, 0.26, 0.49, 0.51, 1.0]) * largest
    # The printed T3 is the logarithm of something over this.
    printed = (1 - momentum) * GAP * tolerance - 4 * rates * PHI
    assert printed[0] > 0 and np.all(printed[1:] < 0)
    time = streaming_pca.settle_time(
        learning_rate=rates,
        momentum=momentum,
        radius=0.3,
        tolerance=tolerance,
        **PHASE,
    )
    assert np.all(np.isfinite(time[:3])) and np.all(np.isinf(time[3:]))
    # Met from the beginning.
    assert 0 == streaming_pca.settle_time(
        learning_rate=0.01 * largest,
        momentum=momentum,
        radius=0.01,
        tolerance=tolerance,
        **PHASE,
    )


@drawn
@given(
    st.floats(0, 0.95),
    st.floats(0.05, 0.5),
    st.floats(0.01, 0.2),
    st.floats(1.0, 50.0),
)
def test_iterations_are_those_printed(momentum, gamma, share, bound):
    """N1, N2, N3 at the paper's learning rates and delays."""
    tolerance, nu, radius = 0.02, 0.3, 0.35
    slow = 1 - momentum
    order = (4 + bound) * PHI ** (0.5 + gamma)
    power = GAP ** (1.5 + gamma) * tolerance ** (0.5 + gamma)

    def computed(eta, delay):
        times = streaming_pca.phase_times(
            learning_rate=eta,
            momentum=momentum,
            radius=radius,
            tolerance=tolerance,
            failure_rate=nu,
            **PHASE,
        )
        # A share of a worker, for the formula's sake: the count is linear.
        one = streaming_pca.effective_iterations(times, learning_rate=eta)
        return streaming_pca.Phases(*(n / delay for n in one))

    setting = {"momentum": momentum, "covariance": PAPER, "gamma": gamma}
    eta = tolerance * GAP / PHI
    delay = streaming_pca.admissible_delay(
        learning_rate=eta, input_bound=bound, **setting
    )
    quantile = special.ndtri((1 + nu) / 2)
    noise = 8.0  # alpha_12^2
    assert computed(eta, delay).escape == pytest.approx(
        order
        / (2 * slow * power)
        * np.log(2 * slow / eta * radius**2 * GAP / (quantile**2 * noise) + 1)
    )
    delay = streaming_pca.traversing_delay(learning_rate=eta, **setting)
    assert computed(eta, delay).traverse == pytest.approx(
        2  # the paper's factor is misprinted along with T2
        * (4 * PHI**gamma)
        / (2 * slow * GAP ** (1 + gamma) * tolerance**gamma)
        * np.log((1 - radius**2) / radius**2)
    )
    eta = share * slow * tolerance * GAP / PHI
    delay = streaming_pca.admissible_delay(
        learning_rate=eta, input_bound=bound, **setting
    )
    assert computed(eta, delay).settle == pytest.approx(
        order
        / (2 * slow ** (1.5 + gamma) * power * share ** (0.5 + gamma))
        * np.log(
            4
            * slow
            * GAP
            * radius**2
            / (slow * GAP * tolerance - 2 * eta * PHI)
        )
    )


# Delays.


def radius_with_delay(mu, pull, tau):
    """The spectral radius of the heavy ball with a delay, all roots."""
    matrix = np.zeros((tau + 2, tau + 2))
    matrix[0, 0] = 1 + mu
    matrix[0, 1] = -mu
    matrix[0, tau] -= pull
    matrix[1:, :-1] += np.eye(tau + 1)
    return theory.spectral_radius(matrix)


@pytest.mark.parametrize("mu", [0.0, 0.1, 0.5, 0.7, 0.9, 0.97])
def test_no_cell_of_the_critical_delay_is_wrong(mu):
    pulls = np.append(np.geomspace(1e-3, 3.9, 19), 2 * (1 + mu) + 1e-3)
    critical = streaming_pca.critical_delay(
        learning_rate=0.1, momentum=mu, curvature=10 * pulls
    )
    assert critical[-1] == 0 < critical[0]
    wrong = []
    for pull, bound in zip(pulls, critical, strict=True):
        around = {int(bound) + shift for shift in (-1, 0, 1, 2)}
        for tau in sorted({0, 1, 2, 3, 5, 10, 30, 90} | around):
            if 0 <= tau <= 120:
                radius = radius_with_delay(mu, pull, tau)
                if abs(radius - 1) > 1e-9 and (radius < 1) != (tau < bound):
                    wrong.append((pull, tau, bound, radius))
    assert not wrong


@pytest.mark.parametrize("mu", [0.0, 0.6, 0.95])
def test_the_critical_delay_undoes_the_largest_learning_rate(mu):
    delays = np.array([1, 2, 7, 30, 200])
    largest = delay_equations.largest_stable_eta_h(delays, momentum=mu)
    critical = streaming_pca.critical_delay(
        learning_rate=largest, momentum=mu, curvature=1.0
    )
    np.testing.assert_allclose(critical, delays, rtol=1e-8)


@drawn
@given(
    st.floats(0, 0.95), st.floats(0.01, 0.5), st.floats(1e-6, 1e-3), spectra()
)
def test_the_admissible_delay_never_is_a_critical_one(mu, gamma, eta, values):
    """With bounded inputs, and less and less as the learning rate falls."""
    covariance = np.diag(values)
    rates = eta * np.array([1.0, 0.01])
    admissible = streaming_pca.admissible_delay(
        learning_rate=rates,
        momentum=mu,
        covariance=covariance,
        input_bound=values.sum(),
        gamma=gamma,
    )
    critical = streaming_pca.critical_delay(
        learning_rate=rates, momentum=mu, curvature=2 * values[0]
    )
    assert np.all(admissible < critical)
    share = admissible / critical
    assert share[1] / share[0] < 0.01**0.45
    # The ODE bears more delay than the SDE.
    assert np.all(
        admissible
        < streaming_pca.traversing_delay(
            learning_rate=rates, momentum=mu, covariance=covariance, gamma=gamma
        )
    )


@pytest.mark.parametrize("inputs", streaming_pca.INPUTS)
def test_runs_diverge_beyond_the_critical_delay_and_not_below(inputs):
    """With steps so small that the noise does not do it alone."""
    generator = np.random.default_rng(5)
    mu = generator.choice([0.0, 0.3, 0.6, 0.8, 0.9, 0.95], 60)
    size = 10 ** generator.uniform(-1.5, -0.9, 60)  # 2 eta lambda_1 / (1 - mu)
    eta = size * (1 - mu) / 8
    critical = streaming_pca.critical_delay(
        learning_rate=eta, momentum=mu, curvature=8.0
    )
    below = np.floor(critical * generator.uniform(0, 0.95, 60))
    beyond = np.ceil(critical * generator.uniform(2.0, 3.0, 60)) + 1
    points = streaming_pca.simulate(
        momentum=mu,
        delay=[below, beyond],
        learning_rate=eta,
        covariance=PAPER,
        steps=6000,
        runs=12,
        seed=3,
        initial=[1.0, 0.0, 0.0, 0.0],
        inputs=inputs,
    ).points[0]
    finite = np.isfinite(points).all(axis=-1)
    assert np.all(finite[0])
    assert np.all(~finite[1].all(axis=-1))


@functools.cache
def edges():
    """Errors of the figure's setting around the printed delays.

    Shape (momenta, 4, steps, runs), for the delays 0, and the printed one less
    10, itself, and plus 10.
    """
    printed = np.array(PRINTED_DELAYS)[:, None]
    delay = np.hstack([0 * printed, printed + [-10, 0, 10]])
    _, points = streaming_pca.simulate(
        momentum=np.array(MOMENTA)[:, None],
        delay=delay,
        learning_rate=figure.LEARNING_RATE,
        covariance=PAPER,
        steps=figure.STEPS,
        runs=250,
        seed=10,
        record=figure.SETTLED,
    )
    error = streaming_pca.squared_error(points, covariance=PAPER)
    return delay, np.moveaxis(error, 0, 2)


@pytest.mark.parametrize("factor", [2.75, 3.0])
def test_the_optimal_delays_that_the_paper_prints(factor):
    delays, errors = edges()
    with np.errstate(over="ignore", invalid="ignore"):
        means = errors.mean(axis=(2, 3))
    for row, mu in enumerate(MOMENTA):
        given_, index = np.unique(delays[row], return_index=True)
        best = streaming_pca.optimal_delay(
            given_, means[row, index], factor=factor
        )
        assert best == PRINTED_DELAYS[row], (mu, means[row] / means[row, 0])


def test_the_criterion_is_the_errors_own_quantile():
    """An error of 3 times the mean is one that MSGD has once in 20 runs."""
    for errors in edges()[1][:, 0]:
        assert np.mean(errors > 3 * errors.mean()) == pytest.approx(
            0.05, abs=0.01
        )


def test_the_level_is_the_stationary_variance():
    """Without a delay, and where the learning rate is small enough."""
    level = edges()[1][0, 0].mean()
    variance = streaming_pca.stationary_variance(momentum=0.7, covariance=PAPER)
    assert level == pytest.approx(
        figure.LEARNING_RATE * variance.sum(), rel=0.08
    )


def test_the_error_is_that_of_the_nearer_optimum():
    covariance = rotation(1, 3) * [3.0, 2.0, 1.0] @ rotation(1, 3).T
    best = streaming_pca.eigenbasis(covariance).vectors[:, 0]
    points = np.random.default_rng(0).normal(size=(4, 5, 3))
    expected = np.minimum(
        np.sum((points - best) ** 2, axis=-1),
        np.sum((points + best) ** 2, axis=-1),
    )
    np.testing.assert_allclose(
        streaming_pca.squared_error(points, covariance=covariance),
        expected,
        rtol=1e-12,
    )


def test_the_optimal_delay_of_known_errors():
    delays = [0, 5, 10, 15]
    errors = [
        [1.0, 2.0, 2.9, 2.95],  # never leaves
        [1.0, 3.5, 1.0, 1.0],  # leaves at once, and comes back
        [1.0, 2.0, np.nan, 1.0],
        [1.0, 2.0, 2.0, np.inf],
    ]
    np.testing.assert_array_equal(
        streaming_pca.optimal_delay(delays, errors), [15, 0, 5, 10]
    )


# What else the paper misprints.


def test_the_decomposition_of_the_step():
    """Eq. 3.1 holds with stale points throughout the momentum's noise."""
    generator = np.random.default_rng(0)
    mu, eta, tau, steps = 0.6, 0.01, 2, 12
    inputs = generator.normal(size=(steps, 4)) * np.sqrt(np.diag(PAPER))
    path = [np.full(4, 0.5)] * (tau + 1)  # v_{-tau}, ..., v_0
    for x in inputs:
        stale = path[-1 - tau]
        gradient = x * (x @ stale) - (x @ stale) ** 2 * stale
        velocity = path[-1] - path[-2]
        path.append(path[-1] + mu * velocity + eta * gradient)

    def field(matrix, v, outer):
        return matrix @ v - (outer @ matrix @ v) * v

    def step(outer):
        total = np.zeros(4)
        for i, x in enumerate(inputs):
            stale = path[i]  # v_{i - tau}
            noise = np.outer(x, x) - PAPER
            last = i == steps - 1
            at = stale if last else outer(i)
            total += mu ** (steps - 1 - i) * (
                field(PAPER, stale, stale) + field(noise, stale, at)
            )
        return eta * total

    taken = path[-1] - path[-2]
    np.testing.assert_allclose(step(lambda i: path[i]), taken, rtol=1e-10)
    printed = step(lambda i: path[i + tau])  # v_i instead of v_{i - tau}
    assert np.linalg.norm(printed - taken) > 0.01 * np.linalg.norm(taken)


def test_the_bound_of_a_step():
    """A.1: sup |X X^T v - v^T X X^T v v| is 6 |X|^2, not 2 C_d."""
    x, v = np.array([1.0, 0.0]), np.array([2.0, 0.0])
    step = np.outer(x, x) @ v - (v @ x) ** 2 * v
    assert np.linalg.norm(step) == 6 > 2 * np.linalg.norm(x)
    # The largest over the ball, for any other v.
    v = np.random.default_rng(1).normal(size=(1000, 2))
    v *= 2 / np.maximum(np.linalg.norm(v, axis=1, keepdims=True), 2)
    along = v @ x
    steps = along[:, None] * x - along[:, None] ** 2 * v
    assert np.linalg.norm(steps, axis=1).max() <= 6


# Bad input.


@pytest.mark.parametrize(
    ("function", "arguments", "message"),
    [
        ("ode_path", {"t": -1}, "`t` must be.*t=-1"),
        ("ode_path", {"initial": [1, 1, 0, 0]}, "`initial` must.*initial="),
        ("ode_path", {"initial": [1, 0]}, "`initial` must.*initial="),
        ("ode_path", {"momentum": 1}, "`momentum` must.*momentum=1"),
        ("deviation_moments", {"around": 0}, "`around` must.*around=0"),
        ("deviation_moments", {"around": 5}, "`around` must.*around=5"),
        ("deviation_moments", {"initial": [0.0]}, "`initial` must.*initial="),
        ("deviation_moments", {"inputs": "box"}, "`inputs` must.*inputs='box'"),
        ("escape_time", {"radius": 0}, "`radius` must.*radius=0"),
        ("escape_time", {"failure_rate": 1}, "`failure_rate` must.*=1"),
        ("escape_time", {"learning_rate": 0}, "`learning_rate` must.*=0"),
        ("traverse_time", {"radius": 1}, "`radius` must.*radius=1"),
        ("settle_time", {"tolerance": 0}, "`tolerance` must.*tolerance=0"),
        ("effective_iterations", {"delay": 0}, "`delay` must.*delay=0"),
        ("admissible_delay", {"gamma": 0.6}, "`gamma` must.*gamma=0.6"),
        ("admissible_delay", {"input_bound": 0}, "`input_bound` must.*=0"),
        ("traversing_delay", {"gamma": 0}, "`gamma` must.*gamma=0"),
        ("critical_delay", {"curvature": 0}, "`curvature` must.*=0"),
        ("optimal_delay", {"delays": [1, 2]}, "`delays` must.*delays="),
        ("optimal_delay", {"delays": [0, 2, 2]}, "`delays` must.*delays="),
        ("optimal_delay", {"errors": [1.0]}, "`errors` must.*errors="),
        ("optimal_delay", {"factor": 1}, "`factor` must.*factor=1"),
    ],
)
def test_bad_input_is_refused(function, arguments, message):
    rates = {"learning_rate": 1e-3, "momentum": 0.5}
    pca = {"momentum": 0.5, "covariance": PAPER}
    path = {"t": 1.0, "initial": [1.0, 0.0, 0.0, 0.0], **pca}
    good = {
        "ode_path": path,
        "deviation_moments": path,
        "escape_time": {**rates, **pca, "radius": 0.1},
        "traverse_time": {**pca, "radius": 0.1},
        "settle_time": {**rates, **pca, "radius": 0.1, "tolerance": 0.1},
        "effective_iterations": {
            "times": streaming_pca.Phases(*np.ones(3)),
            "learning_rate": 1e-3,
        },
        "admissible_delay": {**rates, **pca, "input_bound": 4.0},
        "traversing_delay": {**rates, **pca},
        "critical_delay": {**rates, "curvature": 8.0},
        "optimal_delay": {"delays": [0, 1], "errors": [1.0, 2.0]},
    }[function]
    getattr(streaming_pca, function)(**good)
    with pytest.raises(ValueError, match=f"(?s){message}"):
        getattr(streaming_pca, function)(**{**good, **arguments})
