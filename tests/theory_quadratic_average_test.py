"""The average of the centers, Lemmas 3.1.2 to 3.1.4."""

import hypothesis
import numpy as np
import pytest
from hypothesis import strategies as st

from tests.drawing import examples
from tests.drawing import same_examples
from tests.theory_support import seeds
from tests.theory_support import uniform
from tests.theory_support import whole
from tf_elastic import theory
from tf_elastic.theory import _monte_carlo
from tf_elastic.theory import quadratic

SIGMAS = 4

sampled = same_examples(20)


def positive_definite(rng, n, low, high):
    """A random symmetric matrix with eigenvalues in [low, high]."""
    basis, _ = np.linalg.qr(rng.normal(size=(n, n)))
    matrix = basis @ np.diag(rng.uniform(low, high, n)) @ basis.T
    return (matrix + matrix.T) / 2


@st.composite
def settings(draw, slowest=0.0):
    """A stable setting in one to three dimensions."""
    rng = np.random.default_rng(draw(seeds))
    n = draw(whole(1, 3))
    setting = dict(
        learning_rate=draw(uniform(0.1, 1.0)),
        hessian=positive_definite(rng, n, 0.4, 1.8),
        num_workers=draw(whole(1, 5)),
        beta=draw(uniform(0.2, 1.5)),
    )
    if draw(st.booleans()):
        setting["moving_rate"] = draw(uniform(0.0, 1.0))
    matrix = quadratic.drift_matrix(**setting)
    hypothesis.assume(theory.spectral_radius(matrix) < 1 - slowest)
    return {**setting, "noise_covariance": positive_definite(rng, n, 0.5, 4.0)}


def simulate(setting, steps, runs, seed):
    hessian = setting["hessian"]
    return quadratic.simulate(
        lambda x: x @ hessian,  # it is symmetric
        steps=steps,
        runs=runs,
        seed=seed,
        **{name: x for name, x in setting.items() if name != "hessian"},
    )


def test_the_double_average_is_the_mean_of_all_so_far():
    path = np.random.default_rng(0).normal(size=(20, 3, 2))
    averages = quadratic.double_average(path)
    for t in range(20):
        np.testing.assert_allclose(
            averages[t], path[: t + 1].mean(axis=0), rtol=1e-12, atol=1e-15
        )


@sampled
@hypothesis.given(settings(), whole(1, 40), seeds)
def test_the_average_at_any_time_is_that_of_many_runs(setting, t, seed):
    simulated = simulate(setting, t - 1, 3000, seed)
    last = quadratic.double_average(simulated.centers)[-1]
    exact = quadratic.double_average_moments(t, **setting)
    mean = _monte_carlo.estimate(last)
    error = last - exact.bias
    products = _monte_carlo.estimate(error[:, :, None] * error[:, None, :])
    rounding = 1e-12
    assert (
        abs(mean.mean - exact.bias) <= SIGMAS * mean.standard_error + rounding
    ).all()
    assert (
        abs(products.mean - exact.covariance)
        <= SIGMAS * products.standard_error + rounding
    ).all()


@examples(40)
@hypothesis.given(settings(slowest=1e-3))
def test_the_asymptotic_covariance_is_where_the_exact_one_leads(setting):
    """Lemma 3.1.3, and with it that neither rate matters."""
    n = len(setting["hessian"])
    t = 10**9
    exact = quadratic.double_average_moments(t, **setting).covariance
    closed = quadratic.double_average_covariance(
        t,
        hessian=setting["hessian"],
        noise_covariance=setting["noise_covariance"],
        num_workers=setting["num_workers"],
    )
    assert closed.shape == (n, n)
    scale = np.sqrt(np.outer(np.diag(closed), np.diag(closed)))
    np.testing.assert_allclose(exact / scale, closed / scale, atol=1e-5)


@sampled
@hypothesis.given(settings(slowest=0.15), seeds)
def test_the_asymptotic_covariance_is_that_of_many_long_runs(setting, seed):
    """Lemmas 3.1.2 and 3.1.3 themselves, without what is between.

    What the last few steps leave is of order 1 / t of the covariance, a
    twentieth of a standard error.
    """
    t = 1500
    at_optimum = {**setting, "center_start": 0.0, "worker_start": 0.0}
    error = quadratic.double_average(
        simulate(at_optimum, t - 1, 300, seed).centers
    )[-1]
    closed = quadratic.double_average_covariance(
        t,
        hessian=setting["hessian"],
        noise_covariance=setting["noise_covariance"],
        num_workers=setting["num_workers"],
    )
    products = _monte_carlo.estimate(error[:, :, None] * error[:, None, :])
    assert (
        abs(products.mean - closed) <= SIGMAS * products.standard_error
    ).all()


def test_one_dimension_and_many_times():
    """Lemma 3.1.2: sigma^2 / (p h^2), over t."""
    covariance = quadratic.double_average_covariance(
        [10, 1000],
        hessian=[[0.5]],
        noise_covariance=[[9.0]],
        num_workers=[[2], [8]],
    )
    assert covariance.shape == (2, 2, 1, 1)
    np.testing.assert_allclose(
        covariance[..., 0, 0], [[1.8, 0.018], [0.45, 0.0045]], rtol=1e-14
    )


def test_a_hessian_that_is_not_symmetric():
    """The closed form has A^-T, not A^-1, on its right."""
    setting = dict(
        hessian=[[1.0, 0.6], [0.0, 0.7]],
        noise_covariance=[[1.0, 0.3], [0.3, 2.0]],
        num_workers=3,
    )
    exact = quadratic.double_average_moments(
        10**8, learning_rate=0.3, beta=0.6, **setting
    ).covariance
    closed = quadratic.double_average_covariance(10**8, **setting)
    np.testing.assert_allclose(exact, closed, rtol=1e-5)


# Lemma 3.1.4.


@pytest.mark.parametrize("p", [1, 2, 3, 16])
def test_no_cell_of_lemma_3_1_4_is_wrong(p):
    hessian = positive_definite(np.random.default_rng(p), 3, 0.1, 2.0)
    largest = np.linalg.eigvalsh(hessian).max()
    rates = np.round(np.arange(0.01, 2.8, 0.0517), 4)
    grid = dict(
        learning_rate=rates[:, None] / largest, num_workers=p, beta=rates
    )
    stable = quadratic.is_stable(curvature=largest, **grid)
    matrices = quadratic.drift_matrix(hessian=hessian, **grid)
    assert matrices.shape == (len(rates), len(rates), 6, 6)
    radius = np.abs(np.linalg.eigvals(matrices)).max(axis=-1)
    clear = np.abs(radius - 1) > 1e-9
    assert not (clear & (stable != (radius < 1))).any()
    assert 0.05 < stable.mean() < 0.9


def test_lemma_3_1_4_holds_for_the_radius_not_for_the_norm():
    """Printed: ||M||_2 < 1. M is not symmetric for p > 1."""
    setting = dict(learning_rate=0.1, num_workers=10, beta=0.9)
    assert quadratic.is_stable(curvature=1.0, **setting)
    matrix = quadratic.drift_matrix(hessian=[[1.0]], **setting)
    np.testing.assert_allclose(matrix, [[0.81, 0.09], [0.9, 0.1]], rtol=1e-14)
    assert theory.spectral_radius(matrix) < 1
    assert np.linalg.norm(matrix, 2) > 1.2


def test_the_sum_in_the_proof_of_lemma_3_1_2():
    """Printed: 1 / (gamma - mu), with no mu anywhere; mu is phi.

    Without noise, from a center of 1.5 and workers at 0.5.
    """
    t, alpha, beta, step = 9, 0.15, 0.6, 0.2
    gamma, phi = quadratic.eigenvalues(
        learning_rate=step, curvature=1.0, num_workers=4, beta=beta
    )
    center, u_0 = 1.5, 4 * (0.5 - alpha / (1 - beta - phi) * 1.5)
    right = (1 - gamma ** (t + 1)) / (1 - gamma) * center
    right += (
        alpha
        * u_0
        / (gamma - phi)
        * (
            (1 - gamma ** (t + 1)) / (1 - gamma)
            - (1 - phi ** (t + 1)) / (1 - phi)
        )
    )
    centers = quadratic.center_moments(
        np.arange(t + 1),
        learning_rate=step,
        curvature=1.0,
        noise=0.0,
        num_workers=4,
        beta=beta,
        center_start=1.5,
        worker_start=0.5,
    )
    np.testing.assert_allclose(centers.bias.sum(), right, rtol=1e-12)


def test_the_sum_in_the_proof_of_lemma_3_1_3():
    """Printed: (U_0 + eta L^-1 sum Xi - sum M^(k+1) Xi) / sqrt(t).

    With A = 1 of one dimension; L = (I - M) / eta.
    """
    eta, t = 0.2, 7
    matrix = quadratic.drift_matrix(
        learning_rate=eta, hessian=[[1.0]], num_workers=3, beta=0.6
    )
    rng = np.random.default_rng(1)
    start, shocks = rng.normal(size=2), rng.normal(size=(t, 2))
    shocks[:, 1] = 0
    state, total = start, start
    for shock in shocks:
        state = matrix @ state + shock
        total = total + state
    inverse = np.linalg.inv(np.eye(2) - matrix)  # (eta L)^-1

    def power(k):
        return np.linalg.matrix_power(matrix, k)

    right = inverse @ (np.eye(2) - power(t + 1)) @ start
    right += inverse @ shocks.sum(axis=0)
    right -= inverse @ sum(
        power(t - k + 1) @ shocks[k - 1] for k in range(1, t + 1)
    )
    np.testing.assert_allclose(right, total, rtol=1e-12)
    printed = start + eta * (eta * inverse) @ shocks.sum(axis=0)
    printed -= sum(power(k + 1) @ shocks[k - 1] for k in range(1, t + 1))
    assert abs(printed - total).max() > 0.5


# Bad input.


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("t", 0),
        ("t", 2.5),
        ("noise_covariance", 1.0),
        ("hessian", [[1.0, 2.0]]),
        ("beta", -1.0),
        ("learning_rate", -1.0),
    ],
)
def test_bad_arguments_are_refused(name, value):
    arguments = dict(
        t=3,
        learning_rate=0.1,
        hessian=[[1.0]],
        noise_covariance=[[1.0]],
        num_workers=2,
        beta=0.5,
    )
    quadratic.double_average_moments(**arguments)
    with pytest.raises(
        ValueError, match=f"`{name}` must be .* Received: {name}"
    ):
        quadratic.double_average_moments(**{**arguments, name: value})
