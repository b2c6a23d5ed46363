"""Lemma 3.1.1, its condition and its limits, against what they stand for."""

import fractions

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
from tf_elastic.theory.quadratic import sums

SIGMAS = 4
CLOSE = 1e-9  # cells whose radius is 1 up to rounding are on the bound
SETTING = dict(learning_rate=0.1, curvature=1.0, num_workers=4, beta=0.9)

sampled = same_examples(20)
quick = examples(60)


@st.composite
def settings(draw, free=True, most_workers=6):
    """A stable setting, in the words of `quadratic`."""
    setting = dict(
        learning_rate=draw(uniform(0.01, 1.5)),
        curvature=draw(uniform(0.2, 2.0)),
        num_workers=draw(whole(1, most_workers)),
        beta=draw(uniform(0.05, 1.8)),
    )
    if free and draw(st.booleans()):
        setting["moving_rate"] = draw(uniform(0.0, 1.5))
    hypothesis.assume(quadratic.is_stable(**setting))
    return setting


def full_drift(*, learning_rate, curvature, num_workers, beta, moving_rate):
    """The p + 1 square matrix M of the proof, entry by entry."""
    p = num_workers
    matrix = np.zeros((p + 1, p + 1))
    for i in range(p):
        matrix[i, i] = 1 - moving_rate - learning_rate * curvature
        matrix[i, p] = moving_rate
        matrix[p, i] = beta / p
    matrix[p, p] = 1 - beta
    return matrix


def full(setting):
    alpha = setting.get("moving_rate")
    if alpha is None:
        alpha = setting["beta"] / setting["num_workers"]
    return {**setting, "moving_rate": alpha}


def moments_by_steps(t, setting, noise, center, workers):
    """Mean and covariance of the whole system, step by step."""
    drift = full_drift(**full(setting))
    p = setting["num_workers"]
    source = np.zeros_like(drift)
    np.fill_diagonal(source[:p, :p], (setting["learning_rate"] * noise) ** 2)
    mean = np.append(np.asarray(workers, dtype=float), center)
    covariance = np.zeros_like(drift)
    for _ in range(t):
        mean = drift @ mean
        covariance = drift @ covariance @ drift.T + source
    return mean[-1], covariance[-1, -1]


def lemma_as_printed(t, setting, noise, center, workers):
    """Eqs. 3.2 and 3.3, letter by letter."""
    eta, h = setting["learning_rate"], setting["curvature"]
    p = setting["num_workers"]
    alpha = setting["beta"] / p
    a, c2 = eta * h + (p + 1) * alpha, eta * h * p * alpha
    gamma = 1 - (a - np.sqrt(a**2 - 4 * c2)) / 2
    phi = 1 - (a + np.sqrt(a**2 - 4 * c2)) / 2
    u_0 = sum(x - alpha / (1 - p * alpha - phi) * center for x in workers)
    bias = gamma**t * center
    bias += (gamma**t - phi**t) / (gamma - phi) * alpha * u_0
    inner = (gamma**2 - gamma ** (2 * t)) / (1 - gamma**2)
    inner += (phi**2 - phi ** (2 * t)) / (1 - phi**2)
    product = gamma * phi
    inner -= 2 * (product - product**t) / (1 - product)
    scale = p**2 * alpha**2 * eta**2 / (gamma - phi) ** 2
    return bias, scale * inner * noise**2 / p


# Lemma 3.1.1.


@quick
@hypothesis.given(
    settings(), st.integers(0, 60), st.floats(-3, 3), st.floats(0, 5), st.data()
)
def test_the_moments_are_those_of_the_whole_system(
    setting, t, center, noise, data
):
    p = setting["num_workers"]
    numbers = st.floats(-3, 3)
    workers = data.draw(st.lists(numbers, min_size=p, max_size=p))
    moments = quadratic.center_moments(
        t,
        noise=noise,
        center_start=center,
        worker_start=np.mean(workers),
        **setting,
    )
    bias, variance = moments_by_steps(t, setting, noise, center, workers)
    np.testing.assert_allclose(moments.bias, bias, rtol=1e-10, atol=1e-12)
    np.testing.assert_allclose(
        moments.variance, variance, rtol=1e-10, atol=1e-300
    )


@quick
@hypothesis.given(settings(free=False), st.integers(1, 60), st.floats(-3, 3))
def test_the_lemma_as_it_is_printed(setting, t, center):
    """Away from gamma = phi, where the printed form loses its digits."""
    eigenvalues = quadratic.eigenvalues(**setting)
    hypothesis.assume(eigenvalues.gamma - eigenvalues.phi > 0.05)
    hypothesis.assume(eigenvalues.gamma < 0.999)
    workers = np.linspace(-1, 2, setting["num_workers"])
    moments = quadratic.center_moments(
        t,
        noise=2.0,
        center_start=center,
        worker_start=workers.mean(),
        **setting,
    )
    bias, variance = lemma_as_printed(t, setting, 2.0, center, workers)
    np.testing.assert_allclose(moments.bias, bias, rtol=1e-8, atol=1e-9)
    np.testing.assert_allclose(
        moments.variance, variance, rtol=1e-6, atol=1e-10
    )


@sampled
@hypothesis.given(settings(), whole(1, 40), seeds)
def test_the_moments_are_those_of_many_runs(setting, t, seed):
    noise, center, worker = 1.5, 2.0, -1.0
    curvature = setting["curvature"]
    simulated = quadratic.simulate(
        lambda x: curvature * x,
        steps=t,
        noise_covariance=[[noise**2]],
        center_start=center,
        worker_start=worker,
        runs=4000,
        seed=seed,
        **{k: v for k, v in setting.items() if k != "curvature"},
    )
    exact = quadratic.center_moments(
        t, noise=noise, center_start=center, worker_start=worker, **setting
    )
    last = simulated.centers[-1, :, 0]
    mean = _monte_carlo.estimate(last)
    square = _monte_carlo.estimate((last - exact.bias) ** 2)
    rounding = 1e-12
    assert (
        abs(mean.mean - exact.bias) <= SIGMAS * mean.standard_error + rounding
    )
    assert (
        abs(square.mean - exact.variance)
        <= SIGMAS * square.standard_error + rounding
    )


def test_one_call_for_many_settings():
    """All arguments broadcast, the time with its limit among them."""
    t = np.array([0.0, 1.0, 7.0, 50.0, np.inf])
    p = np.array([1, 3, 100])[:, None]
    eta = np.array([0.1, 0.7])[:, None, None]
    moments = quadratic.center_moments(
        t, learning_rate=eta, curvature=1.0, noise=3.0, num_workers=p, beta=0.5
    )
    assert moments.bias.shape == moments.variance.shape == (2, 3, 5)
    for index in np.ndindex(2, 3, 5):
        one = quadratic.center_moments(
            t[index[2]],
            learning_rate=eta[index[0], 0, 0],
            curvature=1.0,
            noise=3.0,
            num_workers=p[index[1], 0],
            beta=0.5,
        )
        assert one.bias == moments.bias[index]
        assert one.variance == moments.variance[index]
        assert one.mse == moments.mse[index]


@quick
@hypothesis.given(settings())
def test_the_limit_is_where_many_steps_lead(setting):
    hypothesis.assume(quadratic.eigenvalues(**setting).gamma < 1 - 1e-5)
    hypothesis.assume(quadratic.eigenvalues(**setting).phi > -1 + 1e-5)
    late = quadratic.center_moments(10**7, noise=2.0, **setting)
    limit = quadratic.center_moments(np.inf, noise=2.0, **setting)
    assert limit.bias == 0
    assert abs(late.bias) < 1e-12
    np.testing.assert_allclose(late.variance, limit.variance, rtol=1e-8)


@pytest.mark.parametrize("shift", [0.0, 1e-12, 1e-6])
@pytest.mark.parametrize("size", [0.5, 1e-9])
def test_no_digits_are_lost_where_the_eigenvalues_meet(size, shift):
    """gamma = phi at alpha = 0, eta h = beta; near it 3.12 cancels."""
    gamma = fractions.Fraction(1 - size)
    phi = fractions.Fraction(float(gamma) - size * shift)
    t = 40
    s = [sum(gamma**i * phi ** (k - 1 - i) for i in range(k)) for k in range(t)]
    power, spread, squares = sums.powers(
        np.array(float(gamma)), np.array(float(phi)), np.array(t)
    )
    expected = sum(gamma**i * phi ** (t - 1 - i) for i in range(t))
    np.testing.assert_allclose(power, float(gamma**t), rtol=1e-13)
    np.testing.assert_allclose(spread, float(expected), rtol=1e-13)
    np.testing.assert_allclose(
        squares, float(sum(x * x for x in s)), rtol=1e-13
    )


def test_the_printed_sum_loses_all_digits_there():
    """Why the code doubles; the values of a plausible, very slow setting."""
    setting = dict(learning_rate=1e-7, curvature=1.0, num_workers=1, beta=1e-7)
    exact = quadratic.center_moments(2, noise=1.0, **setting).variance
    np.testing.assert_allclose(exact, 1e-28, rtol=1e-12)  # (beta eta)^2 / p
    _, printed = lemma_as_printed(2, setting, 1.0, 1.0, [1.0])
    assert abs(printed / exact - 1) > 0.01


def test_an_unstable_setting_has_its_values_but_no_limit():
    setting = dict(learning_rate=1.9, curvature=1.0, num_workers=2, beta=1.5)
    moments = quadratic.center_moments([5, 20, np.inf], noise=1.0, **setting)
    for i, t in enumerate((5, 20)):
        bias, variance = moments_by_steps(t, setting, 1.0, 1.0, [1.0, 1.0])
        np.testing.assert_allclose(moments.bias[i], bias, rtol=1e-11)
        np.testing.assert_allclose(moments.variance[i], variance, rtol=1e-11)
    assert np.isnan(moments.bias[2]) and np.isposinf(moments.variance[2])
    assert np.isposinf(moments.mse[2])
    far = quadratic.center_moments(10**6, noise=1.0, **setting)
    assert np.isposinf(far.mse)


def test_a_center_that_nothing_moves_stays():
    for still in (dict(beta=0.0), dict(learning_rate=0.0)):
        moments = quadratic.center_moments(
            [0, 1, 1000], noise=3.0, **{**SETTING, **still}
        )
        assert (moments.bias == 1).all() and (moments.variance == 0).all()


# Condition 3.4.

STEPS = np.round(np.arange(0.0, 2.6, 0.0519), 4)
BETAS = np.round(np.arange(0.0, 2.6, 0.0513), 4)


@pytest.mark.parametrize("p", [1, 2, 3, 10, 50])
def test_no_cell_of_the_condition_is_wrong(p):
    """Against the whole system, differences among the workers included."""
    grid = dict(
        learning_rate=STEPS[:, None] / 0.8,
        curvature=0.8,
        num_workers=p,
        beta=BETAS,
    )
    stable = quadratic.is_stable(**grid)
    matrices = np.array(
        [
            [
                full_drift(
                    learning_rate=step / 0.8,
                    curvature=0.8,
                    num_workers=p,
                    beta=beta,
                    moving_rate=beta / p,
                )
                for beta in BETAS
            ]
            for step in STEPS
        ]
    )
    radius = np.abs(np.linalg.eigvals(matrices)).max(axis=-1)
    wrong = (np.abs(radius - 1) > CLOSE) & (stable != (radius < 1))
    assert not wrong.any()
    # Where nothing pulls, or no gradient is taken, it does not converge.
    assert not stable[0].any() and not stable[:, 0].any()
    assert 0.05 < stable.mean() < 0.9
    gamma, phi = quadratic.eigenvalues(**grid)
    np.testing.assert_allclose(
        np.maximum(abs(gamma), abs(phi)), radius, rtol=1e-7
    )
    between = 1 - BETAS / p - STEPS[:, None]
    assert (phi <= between + 1e-12).all() and (between <= gamma + 1e-12).all()


def test_no_cell_of_the_condition_is_wrong_for_free_rates():
    rng = np.random.default_rng(5)
    step, alpha, beta = rng.uniform(0, 2.5, (3, 20000))
    setting = dict(
        learning_rate=step,
        curvature=1.0,
        num_workers=7,
        beta=beta,
        moving_rate=alpha,
    )
    stable = quadratic.is_stable(**setting)
    setting["hessian"] = np.ones((1, 1))
    del setting["curvature"]
    matrix = quadratic.drift_matrix(**setting)
    radius = np.abs(np.linalg.eigvals(matrix)).max(axis=-1)
    assert not ((np.abs(radius - 1) > CLOSE) & (stable != (radius < 1))).any()
    assert 0.05 < stable.mean() < 0.95


def test_the_bounds_of_one_worker():
    """(2 - eta h)(2 - beta) > 2 beta, as in Figure 3.1's first row."""
    setting = dict(curvature=1.0, num_workers=1)
    for step in (0.2, 1.0, 1.8):
        bound = 2 * (2 - step) / (4 - step)
        inside, outside = quadratic.is_stable(
            learning_rate=step, beta=[bound - 1e-9, bound + 1e-9], **setting
        )
        assert inside and not outside


# Corollary 3.1.1.


@quick
@hypothesis.given(
    st.floats(0.02, 1.9), st.floats(0.02, 1.9), st.floats(0.1, 3.0)
)
def test_many_workers(step, beta, curvature):
    setting = dict(
        learning_rate=step / curvature,
        curvature=curvature,
        noise=2.0,
        beta=beta,
    )
    limit = quadratic.many_workers_limit(**setting)
    p = np.array([1e6, 1e8, 1e10])
    error = quadratic.center_moments(np.inf, num_workers=p, **setting).mse
    relative = abs(p * error / limit - 1)
    # It comes near as 1 / p.
    assert (relative * p < 1e3 / (2 - max(step, beta)) ** 2).all()
    assert relative[-1] < 1e-4


def test_many_workers_where_it_is_unstable():
    limits = quadratic.many_workers_limit(
        learning_rate=[0.0, 1.0, 1.0, 2.0],
        curvature=1.0,
        noise=1.0,
        beta=[1.0, 0.0, 2.5, 1.0],
    )
    assert np.isposinf(limits).all()


# Bad input.


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("learning_rate", -0.1),
        ("curvature", 0.0),
        ("num_workers", 0),
        ("beta", [0.5, -1.0]),
        ("moving_rate", float("nan")),
        ("noise", -1.0),
        ("t", 1.5),
        ("t", -1),
        ("t", float("nan")),
    ],
)
def test_bad_arguments_are_refused(name, value):
    arguments = {**SETTING, "t": 3, "noise": 1.0, name: value}
    with pytest.raises(
        ValueError, match=f"`{name}` must be .* Received: {name}"
    ):
        quadratic.center_moments(**arguments)


@pytest.mark.parametrize(
    "hessian", [1.0, [1.0], [[1.0, 2.0]], [[float("nan")]]]
)
def test_a_hessian_that_is_none_is_refused(hessian):
    with pytest.raises(ValueError, match="`hessian` must be a finite square"):
        quadratic.drift_matrix(
            learning_rate=0.1, hessian=hessian, num_workers=2, beta=0.5
        )


def test_the_simulator_refuses_bad_arguments():
    good = dict(
        steps=1,
        learning_rate=0.1,
        noise_covariance=[[1.0]],
        num_workers=2,
        beta=0.5,
        runs=3,
        seed=0,
    )
    quadratic.simulate(lambda x: x, **good)
    for name, value in (
        ("steps", -1),
        ("runs", 0),
        ("num_workers", 1.5),
        ("noise_covariance", [1.0]),
        ("learning_rate", -1.0),
    ):
        with pytest.raises(ValueError, match=f"`{name}` must be"):
            quadratic.simulate(lambda x: x, **{**good, name: value})
