"""What the moments of thesis section 5.1 tend to, and their way there."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.drawing import examples
from tf_elastic.theory import additive

derived = examples(20)
workers = st.integers(1, 5)


def elastic_drift(eta_h, alpha, beta, p):
    """Eq. 5.18, entry by entry."""
    matrix = np.zeros((p + 1, p + 1))
    for i in range(p):
        matrix[i, i] = 1 - alpha - eta_h
        matrix[i, p] = alpha
        matrix[p, i] = beta / p
    matrix[p, p] = 1 - beta
    return matrix


@derived
@given(
    eta=st.floats(0.05, 2.0),
    h=st.floats(0.2, 3.0),
    delta=st.floats(-0.9, 0.9),
    sigma=st.floats(0.1, 5.0),
)
def test_eq_5_7_is_stationary(eta, h, delta, sigma):
    moments = additive.msgd_asymptotic_moments(
        learning_rate=eta, curvature=h, delta_h=delta, noise=sigma
    )
    if not additive.msgd_is_stable(eta_h=eta * h, delta_h=delta):
        assert np.all(np.isinf(moments))
        return
    matrix = additive.msgd_moment_matrix(eta_h=eta * h, delta_h=delta)
    np.testing.assert_allclose(
        moments, matrix @ moments + (eta * sigma) ** 2, rtol=1e-8
    )


@derived
@given(
    eta=st.floats(0.05, 1.5),
    h=st.floats(0.2, 1.5),
    alpha=st.floats(-0.2, 0.5),
    beta=st.floats(0.05, 1.8),
    p=workers,
)
def test_eqs_5_13_and_5_14_are_stationary(eta, h, alpha, beta, p):
    arguments = {"moving_rate": alpha, "beta": beta, "num_workers": p}
    moments = additive.easgd_asymptotic_moments(
        learning_rate=eta, curvature=h, noise=2.0, **arguments
    )
    if not additive.easgd_is_stable(eta_h=eta * h, **arguments):
        assert np.isinf(moments.worker)
        return
    drift = elastic_drift(eta * h, alpha, beta, p)
    noise = np.diag([(2 * eta) ** 2] * p + [0.0])
    whole = additive.stationary_covariance(drift, noise)
    after = drift @ whole @ drift.T + noise
    np.testing.assert_allclose(whole, after, rtol=1e-7, atol=1e-12)
    mean = np.full(p, 1 / p)
    np.testing.assert_allclose(
        moments,
        [
            whole[0, 0],
            mean @ whole[:p, :p] @ mean,
            mean @ whole[:p, p],
            whole[p, p],
        ],
        rtol=1e-7,
        atol=1e-12,
    )


@derived
@given(
    eta=st.floats(0.05, 1.0),
    delta=st.floats(-0.5, 0.9),
    alpha=st.floats(-0.1, 0.4),
    beta=st.floats(0.1, 1.5),
    p=workers,
)
def test_variance_of_eamsgd_is_that_of_the_whole_system(
    eta, delta, alpha, beta, p
):
    arguments = {
        "delta_h": delta,
        "moving_rate": alpha,
        "beta": beta,
        "num_workers": p,
    }
    moments = additive.eamsgd_asymptotic_moments(learning_rate=eta, **arguments)
    if not additive.eamsgd_is_stable(eta_h=eta, **arguments):
        assert np.isinf(moments.worker)
        return
    drift = additive.eamsgd_drift_matrix(eta_h=eta, **arguments)
    # Each worker's noise enters its velocity and its parameters.
    noise = np.zeros((2 * p + 1, 2 * p + 1))
    for i in range(p):
        noise[2 * i : 2 * i + 2, 2 * i : 2 * i + 2] = eta**2
    whole = additive.stationary_covariance(drift, noise)
    mean = np.zeros(2 * p + 1)
    mean[1::2] = 1 / p
    np.testing.assert_allclose(
        moments,
        [whole[1, 1], mean @ whole @ mean, mean @ whole[:, -1], whole[-1, -1]],
        rtol=1e-6,
        atol=1e-12,
    )


def test_eamsgd_without_momentum_has_the_variance_of_easgd():
    setting = {
        "learning_rate": np.array([0.1, 0.5, 1.0]),
        "moving_rate": 0.2,
        "beta": 0.8,
        "num_workers": 4,
    }
    np.testing.assert_allclose(
        additive.eamsgd_asymptotic_moments(delta_h=0.0, **setting),
        additive.easgd_asymptotic_moments(**setting),
        rtol=1e-10,
    )


def test_moments_at_some_time():
    matrix = additive.msgd_moment_matrix(eta_h=0.3, delta_h=1.2)  # unstable
    noise, moments = np.array([0.4, 0.4, 0.4]), np.array([0.0, 0.0, 2.0])
    for t in range(12):
        np.testing.assert_allclose(
            additive.moments_at(t, matrix, noise, [0.0, 0.0, 2.0]),
            moments,
            rtol=1e-12,
        )
        moments = matrix @ moments + noise


def test_sgd_by_its_recursion():
    mean, second = 1.5, 1.5**2
    for t in range(10):
        found = additive.sgd_moments(
            t,
            learning_rate=0.3,
            curvature=2.0,
            noise=0.7,
            batch_size=4,
            start=1.5,
        )
        assert found.mean == pytest.approx(mean, rel=1e-12)
        assert found.variance == pytest.approx(second - mean**2, abs=1e-14)
        mean *= 1 - 0.6
        second = (1 - 0.6) ** 2 * second + (0.3 * 0.7) ** 2 / 4
    limit = additive.sgd_moments(math.inf, learning_rate=0.3, curvature=2.0)
    assert limit.mean == 0
    assert limit.variance == pytest.approx(0.09 / (1 - 0.4**2), rel=1e-12)
    # On the edge the variance grows by the same amount each step.
    edge = additive.sgd_moments([3, 7, math.inf], learning_rate=2.0)
    np.testing.assert_array_equal(edge.variance, [12.0, 28.0, math.inf])
    assert np.all(np.abs(edge.mean) == 1)
    beyond = additive.sgd_moments([3, math.inf], learning_rate=2.5)
    np.testing.assert_allclose(beyond.mean, [-3.375, math.inf])
    assert beyond.variance[1] == math.inf
    still = additive.sgd_moments([0, 5], learning_rate=2.5, noise=0.0)
    np.testing.assert_array_equal(still.variance, [0.0, 0.0])
