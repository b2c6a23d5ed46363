"""The closed forms of thesis section 5.1 against simulated runs."""

import math

import numpy as np
import pytest
from hypothesis import assume
from hypothesis import given
from hypothesis import strategies as st

from tests.drawing import same_examples
from tf_elastic import theory
from tf_elastic.theory import additive
from tf_elastic.theory._monte_carlo import estimate

simulated = same_examples(20)
seeds = st.integers(0, 2**32 - 1)
RUNS = 16000


def assert_agrees(samples, expected):
    """Within four standard errors; `samples` has a row for each moment."""
    mean, error = estimate(samples, axis=-1)
    np.testing.assert_array_less(
        np.abs(mean - expected), 4 * error + 1e-12 * np.abs(expected) + 1e-15
    )
    # The comparison means something: the errors are small.
    assert np.all(error <= 0.2 * np.abs(mean) + 0.2)


def settled(radius):
    """Steps after which the start is forgotten to 1e-5 of what it was."""
    assume(radius < 0.93)
    return math.ceil(math.log(1e-5) / math.log(max(radius, 0.1)))


@simulated
@given(
    eta=st.floats(0.01, 0.6),
    h=st.floats(0.3, 3.0),
    sigma=st.floats(0.1, 3.0),
    batch=st.integers(1, 8),
    steps=st.integers(0, 40),
    seed=seeds,
)
def test_sgd_with_mini_batch(eta, h, sigma, batch, steps, seed):
    runs = additive.simulate(
        learning_rate=eta,
        curvature=h,
        noise=sigma,
        batch_size=batch,
        start=1.5,
        steps=steps,
        runs=RUNS,
        seed=seed,
    )
    mean, variance = additive.sgd_moments(
        steps,
        learning_rate=eta,
        curvature=h,
        noise=sigma,
        batch_size=batch,
        start=1.5,
    )
    x = runs.workers[0]
    assert_agrees([x, (x - mean) ** 2], [mean, variance])
    assert np.all(runs.center == 1.5)


@simulated
@given(
    eta=st.floats(0.02, 0.8),
    h=st.floats(0.3, 2.0),
    delta=st.floats(-0.9, 0.99),
    nesterov=st.booleans(),
    steps=st.integers(0, 30),
    seed=seeds,
)
def test_momentum_sgd_at_some_time(eta, h, delta, nesterov, steps, seed):
    runs = additive.simulate(
        learning_rate=eta,
        curvature=h,
        momentum=delta,
        nesterov=nesterov,
        noise=0.7,
        start=1.5,
        steps=steps,
        runs=RUNS,
        seed=seed,
    )
    x, v = runs.workers[0], runs.velocities[0]
    delta_h = delta * (1 - eta * h) if nesterov else delta
    moments = additive.moments_at(
        steps,
        additive.msgd_moment_matrix(eta_h=eta * h, delta_h=delta_h),
        noise=np.full(3, (0.7 * eta) ** 2),
        start=[0.0, 0.0, 1.5**2],
    )
    assert_agrees([v**2, v * x, x**2], moments)


@simulated
@given(
    eta=st.floats(0.1, 1.5),
    h=st.floats(0.5, 2.0),
    delta=st.floats(-0.7, 0.9),
    nesterov=st.booleans(),
    seed=seeds,
)
def test_momentum_sgd_in_the_end(eta, h, delta, nesterov, seed):
    delta_h = delta * (1 - eta * h) if nesterov else delta
    matrix = additive.msgd_moment_matrix(eta_h=eta * h, delta_h=delta_h)
    runs = additive.simulate(
        learning_rate=eta,
        curvature=h,
        momentum=delta,
        nesterov=nesterov,
        noise=1.3,
        start=0.0,
        steps=settled(theory.spectral_radius(matrix)),
        runs=RUNS,
        seed=seed,
    )
    x, v = runs.workers[0], runs.velocities[0]
    moments = additive.msgd_asymptotic_moments(
        learning_rate=eta, curvature=h, delta_h=delta_h, noise=1.3
    )
    assert_agrees([v**2, v * x, x**2], moments)


def elastic_samples(runs):
    x, mean = runs.workers[0], runs.workers.mean(axis=0)
    center = runs.center[-1]
    return [x**2, mean**2, mean * center, center**2]


@simulated
@given(
    eta=st.floats(0.05, 0.8),
    alpha=st.floats(-0.2, 0.6),
    beta=st.floats(0.1, 1.5),
    p=st.integers(2, 5),
    steps=st.integers(0, 25),
    seed=seeds,
)
def test_easgd_at_some_time(eta, alpha, beta, p, steps, seed):
    setting = {"moving_rate": alpha, "beta": beta}
    runs = additive.simulate(
        learning_rate=eta,
        num_workers=p,
        noise=0.8,
        start=1.2,
        steps=steps,
        runs=RUNS,
        seed=seed,
        **setting,
    )
    x, y, center = runs.workers[0], runs.workers[1], runs.center[-1]
    start = np.full(4, 1.2**2)
    full = additive.moments_at(
        steps,
        additive.easgd_full_moment_matrix(eta_h=eta, num_workers=p, **setting),
        noise=[(0.8 * eta) ** 2, 0, 0, 0],
        start=start,
    )
    assert_agrees([x * x, x * y, x * center, center**2], full)
    reduced = additive.moments_at(
        steps,
        additive.easgd_moment_matrix(eta_h=eta, **setting),
        noise=[(0.8 * eta) ** 2 / p, 0, 0],
        start=start[:3],
    )
    assert_agrees(elastic_samples(runs)[1:], reduced)
    drift = additive.easgd_drift_matrix(eta_h=eta, num_workers=p, **setting)
    means = np.linalg.matrix_power(drift, steps) @ np.full(p + 1, 1.2)
    assert_agrees([*runs.workers, center], means)


@simulated
@given(
    eta=st.floats(0.1, 1.2),
    h=st.floats(0.5, 1.5),
    alpha=st.floats(-0.2, 0.6),
    beta=st.floats(0.2, 1.5),
    p=st.integers(1, 5),
    seed=seeds,
)
def test_easgd_in_the_end(eta, h, alpha, beta, p, seed):
    setting = {"moving_rate": alpha, "beta": beta, "num_workers": p}
    drift = additive.easgd_drift_matrix(eta_h=eta * h, **setting)
    runs = additive.simulate(
        learning_rate=eta,
        curvature=h,
        noise=1.3,
        start=0.0,
        steps=settled(theory.spectral_radius(drift)),
        runs=RUNS,
        seed=seed,
        **setting,
    )
    moments = additive.easgd_asymptotic_moments(
        learning_rate=eta, curvature=h, noise=1.3, **setting
    )
    assert_agrees(elastic_samples(runs), moments)


@simulated
@given(
    eta=st.floats(0.1, 1.0),
    h=st.floats(0.5, 1.5),
    delta=st.floats(-0.5, 0.9),
    nesterov=st.booleans(),
    alpha=st.floats(-0.1, 0.5),
    beta=st.floats(0.2, 1.3),
    p=st.integers(1, 5),
    seed=seeds,
)
def test_eamsgd_in_the_end(eta, h, delta, nesterov, alpha, beta, p, seed):
    setting = {"moving_rate": alpha, "beta": beta, "num_workers": p}
    delta_h = delta * (1 - eta * h) if nesterov else delta
    drift = additive.eamsgd_drift_matrix(
        eta_h=eta * h, delta_h=delta_h, **setting
    )
    runs = additive.simulate(
        learning_rate=eta,
        curvature=h,
        momentum=delta,
        nesterov=nesterov,
        noise=1.3,
        start=0.0,
        steps=settled(theory.spectral_radius(drift)),
        runs=RUNS,
        seed=seed,
        **setting,
    )
    moments = additive.eamsgd_asymptotic_moments(
        learning_rate=eta,
        curvature=h,
        delta_h=delta_h,
        noise=1.3,
        **setting,
    )
    assert_agrees(elastic_samples(runs), moments)


# The simulator itself.


def test_without_noise_it_is_the_drift():
    setting = {"moving_rate": 0.3, "beta": 0.8, "num_workers": 3}
    runs = additive.simulate(
        learning_rate=0.4,
        curvature=0.5,
        momentum=0.6,
        noise=0.0,
        start=2.0,
        steps=12,
        runs=2,
        seed=0,
        **setting,
    )
    matrix = additive.eamsgd_drift_matrix(
        eta_h=0.2, delta_h=0.6 * 0.8, **setting
    )
    state = np.array([0.0, 2.0] * 3 + [2.0])
    for t in range(13):
        np.testing.assert_allclose(runs.center[t], state[-1], rtol=1e-12)
        last, state = state, matrix @ state
    np.testing.assert_allclose(runs.workers[:, 1], last[1::2], rtol=1e-12)
    np.testing.assert_allclose(runs.velocities[:, 0], last[:-1:2], rtol=1e-12)


def test_a_hand_computed_step():
    """eta = 0.5, h = 2, delta = 0.5 from x = 1, v = 0: two steps."""
    runs = additive.simulate(
        learning_rate=0.25,
        curvature=2.0,
        momentum=0.5,
        nesterov=True,
        noise=0.0,
        steps=2,
        runs=1,
        seed=0,
    )
    # v = -0.5, x = 0.5; then the gradient at 0.5 - 0.25 is 0.5:
    # v = -0.25 - 0.125 = -0.375, x = 0.125.
    assert runs.velocities[0, 0] == -0.375 and runs.workers[0, 0] == 0.125
    ball = additive.simulate(
        learning_rate=0.25,
        curvature=2.0,
        momentum=0.5,
        nesterov=False,
        noise=0.0,
        steps=2,
        runs=1,
        seed=0,
    )
    # The gradient at 0.5 is 1: v = -0.25 - 0.25 = -0.5, x = 0.
    assert ball.velocities[0, 0] == -0.5 and ball.workers[0, 0] == 0.0


def test_a_seed_repeats_and_another_does_not():
    setting = {"learning_rate": 0.1, "num_workers": 2, "beta": 0.5}
    first, again, other = (
        additive.simulate(steps=5, runs=3, seed=seed, **setting)
        for seed in (1, 1, 2)
    )
    np.testing.assert_array_equal(first.workers, again.workers)
    assert first.center.shape == (6, 3) and first.workers.shape == (2, 3)
    assert np.all(first.workers != other.workers)
    assert len(np.unique(first.workers)) == 6


def test_a_wrong_closed_form_is_found_out():
    """Four standard errors tell 5 % apart."""
    x = additive.simulate(
        learning_rate=0.5, steps=40, runs=40000, seed=3
    ).workers[0]
    variance = additive.sgd_moments(math.inf, learning_rate=0.5).variance
    assert_agrees([x**2], [variance])
    for wrong in (0.95, 1.05):
        with pytest.raises(AssertionError):
            assert_agrees([x**2], [wrong * variance])
