"""Theorem 3.2.1: the recursion, its eigenvalues, and that it is a bound."""

import hypothesis
import numpy as np
import pytest
from hypothesis import strategies as st

from tests.drawing import examples
from tests.drawing import same_examples
from tests.theory_support import seeds
from tests.theory_support import uniform
from tests.theory_support import whole
from tf_elastic.theory import _monte_carlo
from tf_elastic.theory import quadratic
from tf_elastic.theory import strongly_convex

SIGMAS = 4
SETTING = dict(
    learning_rate=0.1,
    strong_convexity=1.0,
    smoothness=2.0,
    num_workers=4,
    beta=0.9,
)

quick = examples(60)


@st.composite
def settings(draw):
    """A setting for which the theorem holds."""
    mu = draw(uniform(0.1, 1.0))
    setting = dict(
        strong_convexity=mu,
        smoothness=mu * draw(uniform(1.0, 10.0)),
        num_workers=draw(whole(1, 6)),
        beta=draw(uniform(0.05, 1.0)),
    )
    if draw(st.booleans()):
        setting["moving_rate"] = draw(uniform(0.0, 0.9))
    most = 2 / (mu + setting["smoothness"])
    setting["learning_rate"] = most * draw(uniform(0.01, 1.0))
    hypothesis.assume(strongly_convex.holds(**setting))
    return setting


def gammas(setting):
    eta = setting["learning_rate"]
    mu, high = setting["strong_convexity"], setting["smoothness"]
    gamma_1 = 2 * eta * mu * high / (mu + high)
    gamma_2 = 2 * eta * high * (1 - 2 * np.sqrt(mu * high) / (mu + high))
    return gamma_1, gamma_2


@quick
@hypothesis.given(settings())
def test_the_eigenvalues_are_those_of_the_matrix(setting):
    matrix = strongly_convex.recursion_matrix(**setting)
    values = strongly_convex.recursion_eigenvalues(**setting)
    np.testing.assert_allclose(
        sorted(values),
        sorted(np.linalg.eigvals(matrix).real),
        rtol=1e-6,
        atol=1e-7,
    )
    first, second, third = values
    assert (matrix >= -1e-12).all()
    rounding = 1e-12
    assert -1 < third <= second < 1 and first <= second + rounding


@quick
@hypothesis.given(settings())
def test_the_matrix_is_the_printed_one(setting):
    gamma_1, gamma_2 = gammas(setting)
    beta = setting["beta"]
    alpha = setting.get("moving_rate", beta / setting["num_workers"])
    np.testing.assert_allclose(
        strongly_convex.recursion_matrix(**setting),
        [
            [1 - gamma_1 - gamma_2 - alpha, gamma_2, alpha],
            [0, 1 - gamma_1 - alpha, alpha],
            [beta, 0, 1 - beta],
        ],
        rtol=1e-11,
        atol=1e-12,
    )


@quick
@hypothesis.given(settings(), st.floats(0.0, 3.0))
def test_the_asymptotic_bounds_are_the_fixed_point(setting, noise):
    errors = strongly_convex.asymptotic_bounds(noise=noise, **setting)
    eta, p = setting["learning_rate"], setting["num_workers"]
    source = (eta * noise) ** 2 * np.array([1 / p, 1, 0])
    matrix = strongly_convex.recursion_matrix(**setting)
    np.testing.assert_allclose(
        errors, np.linalg.solve(np.eye(3) - matrix, source), rtol=1e-6
    )
    assert errors.center == errors.workers_mean <= errors.worker
    late = strongly_convex.bounds(10**9, noise=noise, **setting)
    np.testing.assert_allclose(late, errors, rtol=1e-4, atol=1e-12)


def test_the_bounds_are_the_recursion_step_by_step():
    matrix = strongly_convex.recursion_matrix(**SETTING)
    source = 0.1**2 * 9.0 * np.array([0.25, 1.0, 0.0])
    state = np.array([1.0, 2.0, 3.0])
    for t in range(30):
        np.testing.assert_allclose(
            strongly_convex.bounds(
                t, noise=3.0, start=(1.0, 2.0, 3.0), **SETTING
            ),
            state,
            rtol=1e-12,
        )
        state = matrix @ state + source


def smooth_gradient(mu, high):
    """Of a convex function that is no quadratic: its curvature is all of
    (mu, high], the highest at 0."""
    return lambda x: mu * x + (high - mu) * np.tanh(x)


def simulated_errors(setting, gradient, n, t, noise, seed):
    """Estimates of a, b, c after t steps from all at (1, ..., 1)."""
    rates = {
        name: setting[name]
        for name in ("learning_rate", "num_workers", "beta", "moving_rate")
        if name in setting
    }
    runs = quadratic.simulate(
        gradient,
        steps=t,
        noise_covariance=noise**2 / n * np.eye(n),
        runs=2000,
        seed=seed,
        **rates,
    )
    mean = runs.workers.mean(axis=0)
    return [
        _monte_carlo.estimate(error)
        for error in (
            (mean**2).sum(axis=-1),
            (runs.workers**2).sum(axis=-1).mean(axis=0),
            (runs.centers[-1] ** 2).sum(axis=-1),
        )
    ]


@same_examples(40)
@hypothesis.given(
    settings(),
    st.booleans(),
    whole(1, 60),
    uniform(0.1, 3.0),
    seeds,
)
def test_no_run_is_beyond_the_bounds(setting, is_quadratic, t, noise, seed):
    mu, high = setting["strong_convexity"], setting["smoothness"]
    curvatures = np.array([mu, high])
    gradient = (
        (lambda x: x * curvatures)
        if is_quadratic
        else smooth_gradient(mu, high)
    )
    bounds = strongly_convex.bounds(
        t, noise=noise, start=(2.0, 2.0, 2.0), **setting
    )
    estimates = simulated_errors(setting, gradient, 2, t, noise, seed)
    for error, bound in zip(estimates, bounds, strict=True):
        assert error.mean <= bound + SIGMAS * error.standard_error


def test_the_bounds_are_not_far_off():
    """Equal curvatures, small steps: the noise counts about twice.

    (1 - eta h)^2 is 1 - 2 eta h, of which gamma_1 has the half.
    """
    setting = {**SETTING, "strong_convexity": 2.0, "learning_rate": 0.01}
    bound = strongly_convex.asymptotic_bounds(noise=1.0, **setting).center
    exact = quadratic.center_moments(
        np.inf,
        learning_rate=0.01,
        curvature=2.0,
        noise=1.0,
        num_workers=4,
        beta=0.9,
    ).mse
    assert 1.9 < bound / exact < 2.5


def test_with_equal_curvatures_workers_help():
    """The center's bound is of order 1 / p for mu = L, not for mu << L."""

    def center(p, mu):
        return strongly_convex.asymptotic_bounds(
            learning_rate=0.01,
            strong_convexity=mu,
            smoothness=1.0,
            noise=1.0,
            num_workers=p,
            beta=0.5,
        ).center

    p = np.array([1, 10, 1000])
    np.testing.assert_allclose(center(p, 1.0) * p, center(1, 1.0), rtol=1e-12)
    assert center(1000, 1e-4) > 0.9 * center(1, 1e-4)


def test_where_the_theorem_holds():
    assert strongly_convex.holds(**SETTING)
    for change in (
        dict(learning_rate=0.6),  # eta (mu + L) <= 2 (1 - alpha)
        dict(beta=1.1),
        dict(moving_rate=1.0, learning_rate=0.0),
        dict(moving_rate=0.8, smoothness=8.0),  # lambda_1 >= 0
    ):
        broken = {**SETTING, **change}
        assert not strongly_convex.holds(**broken), change
    errors = strongly_convex.asymptotic_bounds(
        noise=1.0, **{**SETTING, "beta": 1.1}
    )
    assert np.isnan(errors).all()
    # The limits printed for mu = L and for mu -> 0: (1 - alpha) / L, half.
    for mu, limit in ((1.0, 1.0), (1e-12, 0.5)):
        setting = dict(
            strong_convexity=mu,
            smoothness=1.0,
            num_workers=1,
            beta=0.5,
            moving_rate=0.2,
        )
        below, above = strongly_convex.holds(
            learning_rate=[0.8 * limit - 1e-5, 0.8 * limit + 1e-5], **setting
        )
        assert below and not above


def test_the_bounds_may_swing():
    """Printed: under-damping (no oscillations). lambda_3 can be negative.

    A real spectrum is over-damped, and with beta = 1 a part of the errors
    changes its sign in every step.
    """
    setting = {**SETTING, "beta": 1.0}
    assert strongly_convex.holds(**setting)
    values = strongly_convex.recursion_eigenvalues(**setting)
    assert np.isrealobj(values) and values[2] < -0.1
    matrix = strongly_convex.recursion_matrix(**setting)
    assert np.linalg.eigvals(matrix).min() < -0.1


def test_arguments_broadcast():
    setting = {
        **SETTING,
        "learning_rate": np.array([0.05, 0.1]),
        "num_workers": np.array([[2], [4], [8]]),
    }
    assert strongly_convex.recursion_matrix(**setting).shape == (3, 2, 3, 3)
    values = strongly_convex.recursion_eigenvalues(**setting)
    assert values.shape == (3, 2, 3)
    one = strongly_convex.recursion_eigenvalues(**SETTING)
    np.testing.assert_array_equal(values[1, 1], one)
    errors = strongly_convex.asymptotic_bounds(noise=1.0, **setting)
    assert errors.worker.shape == (3, 2)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("learning_rate", 0.0),
        ("strong_convexity", 0.0),
        ("smoothness", 0.5),
        ("smoothness", float("inf")),
        ("num_workers", 0.5),
        ("beta", 0.0),
        ("moving_rate", -0.1),
        ("noise", -1.0),
    ],
)
def test_bad_arguments_are_refused(name, value):
    arguments = {**SETTING, "noise": 1.0, name: value}
    with pytest.raises(
        ValueError, match=f"`{name}` must be .* Received: {name}"
    ):
        strongly_convex.asymptotic_bounds(**arguments)
