"""The moment matrices: exact sums over all products, and simulated runs."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.drawing import same_examples
from tf_elastic import theory
from tf_elastic.theory import multiplicative

SIGMAS = 4
RUNS = 20_000
STEPS = 4

# The runs' squares have heavy tails, the heavier the wider the input, the
# larger the step, and the later. Where few of the runs make the mean, its
# standard error is too low; these ranges stay clear of that.
spreads = st.floats(1.0, 8.0)
rates = st.floats(0.5, 3.0)
steps_of_mean = st.floats(0.05, 0.6)  # eta lambda / omega
small = st.floats(-0.2, 0.9)
workers = st.integers(1, 5)
seeds = st.integers(0, 2**32 - 1)
drawn = same_examples(20)


def full_system(eta, alpha, beta, p, delta, shape, rate):
    """The exact map of all products of (center, x^1.., v^1..).

    One step is L + sum_i e_i N_i with independent noises e_i of variance s,
    so the products are mapped by L (x) L + s sum_i N_i (x) N_i.
    """
    u, s = eta * shape / rate, eta**2 * shape / rate**2
    size = 2 * p + 1
    mean = np.zeros((size, size))
    noises = []
    mean[0, 0] = 1 - beta
    for i in range(p):
        x, v = 1 + i, 1 + p + i
        mean[0, x] = beta / p
        mean[v, v] = delta - u * delta
        mean[v, x] = -u
        mean[x] = mean[v]
        mean[x, x] += 1 - alpha
        mean[x, 0] = alpha
        noise = np.zeros((size, size))
        noise[[x, v], x] = -1
        noise[[x, v], v] = -delta
        noises.append(noise)
    return np.kron(mean, mean) + s * sum(np.kron(n, n) for n in noises)


def averages(p):
    """What takes all products to the nine variables."""
    center = np.eye(2 * p + 1)[0]
    x, v = np.eye(2 * p + 1)[1 : p + 1], np.eye(2 * p + 1)[p + 1 :]
    mean_x, mean_v = x.mean(axis=0), v.mean(axis=0)
    return np.stack(
        [
            np.kron(center, center),
            sum(np.kron(a, a) for a in x) / p,
            np.kron(center, mean_x),
            np.kron(mean_x, mean_x),
            np.kron(center, mean_v),
            np.kron(mean_v, mean_v),
            sum(np.kron(a, a) for a in v) / p,
            sum(np.kron(a, b) for a, b in zip(x, v, strict=True)) / p,
            np.kron(mean_x, mean_v),
        ]
    )


def symmetric(p):
    """The states that are products: those are symmetric."""
    size = 2 * p + 1
    states = np.random.default_rng(p).normal(size=(60, size))
    return np.stack([np.kron(state, state) for state in states], axis=1)


def printed_msgd(eta, delta, lam, omega):
    """Equation 5.30, as it stands."""
    u1, u2 = lam / omega, lam * (lam + 1) / omega**2
    kept = delta**2 * (1 - 2 * eta * u1 + eta**2 * u2)
    cross = 2 * delta * eta * (u1 - eta * u2)
    return np.array(
        [
            [kept, eta**2 * u2, -cross],
            [
                kept,
                1 - 2 * eta * u1 + eta**2 * u2,
                2 * delta * (1 - eta * u1) - cross,
            ],
            [kept, -eta * u1 + eta**2 * u2, delta * (1 - eta * u1) - cross],
        ]
    )


def printed_easgd(eta, alpha, beta, p, lam, omega):
    """Equation 5.34, as it stands."""
    q = 1 - alpha - eta * lam / omega
    return np.array(
        [
            [(1 - beta) ** 2, 0, 2 * beta * (1 - beta), beta**2],
            [alpha**2, q**2 + eta**2 * lam / omega**2, 2 * alpha * q, 0],
            [alpha * (1 - beta), 0, (1 - beta) * q + alpha * beta, q * beta],
            [alpha**2, eta**2 * lam / (p * omega**2), 2 * alpha * q, q**2],
        ]
    )


SETTINGS = [
    # eta, alpha, beta, p, delta, shape, rate
    (0.3, 0.2, 0.7, 2, 0.4, 0.8, 0.9),
    (0.1, 0.3, 0.9, 3, 0.9, 0.5, 0.5),
    (0.7, -0.1, 0.5, 4, -0.3, 2.0, 3.0),
    (1.5, 0.9, 1.6, 1, 0.0, 5.0, 4.0),
]


@pytest.mark.parametrize("setting", SETTINGS)
def test_matrices_are_the_printed_ones(setting):
    eta, alpha, beta, p, delta, lam, omega = setting
    np.testing.assert_allclose(
        multiplicative.msgd_moment_matrix(
            learning_rate=eta, momentum=delta, shape=lam, rate=omega
        ),
        printed_msgd(eta, delta, lam, omega),
        rtol=1e-12,
    )
    np.testing.assert_allclose(
        multiplicative.easgd_moment_matrix(
            learning_rate=eta,
            moving_rate=alpha,
            beta=beta,
            num_workers=p,
            shape=lam,
            rate=omega,
        ),
        printed_easgd(eta, alpha, beta, p, lam, omega),
        rtol=1e-12,
    )


def eamsgd(eta, alpha, beta, p, delta, lam, omega):
    return multiplicative.eamsgd_moment_matrix(
        learning_rate=eta,
        moving_rate=alpha,
        beta=beta,
        num_workers=p,
        momentum=delta,
        shape=lam,
        rate=omega,
    )


@pytest.mark.parametrize("setting", SETTINGS)
def test_nine_variables_are_closed_and_exact(setting):
    """A step and then the averages, or the averages and then a step."""
    p = setting[3]
    states = symmetric(p)
    np.testing.assert_allclose(
        eamsgd(*setting) @ averages(p) @ states,
        averages(p) @ full_system(*setting) @ states,
        rtol=1e-10,
        atol=1e-10,
    )


@pytest.mark.parametrize("setting", SETTINGS)
def test_eamsgd_without_momentum_is_easgd(setting):
    eta, alpha, beta, p, _, lam, omega = setting
    matrix = eamsgd(eta, alpha, beta, p, 0.0, lam, omega)
    np.testing.assert_allclose(
        matrix[:4, :4],
        printed_easgd(eta, alpha, beta, p, lam, omega),
        rtol=1e-12,
    )
    assert not matrix[:, 4:].any()


@pytest.mark.parametrize("setting", SETTINGS)
def test_eamsgd_alone_is_msgd(setting):
    eta, _, beta, _, delta, lam, omega = setting
    matrix = eamsgd(eta, 0.0, beta, 3, delta, lam, omega)
    own = [6, 1, 7]  # v^2, x^2, v x
    np.testing.assert_allclose(
        matrix[np.ix_(own, own)],
        printed_msgd(eta, delta, lam, omega),
        rtol=1e-10,
    )


def test_nothing_unstable_is_hidden():
    """Nine variables have the radius that all products have."""
    generator = np.random.default_rng(5)
    for p in (2, 3):
        for _ in range(20):
            eta, alpha, beta, delta = generator.uniform(0, [1, 1, 1.5, 0.95])
            setting = (eta, alpha, beta, p, delta, 0.7, 0.9)
            assert theory.spectral_radius(eamsgd(*setting)) == pytest.approx(
                theory.spectral_radius(full_system(*setting)), rel=1e-6
            )


def test_arguments_broadcast():
    eta = np.array([0.1, 0.2, 0.4])
    p = np.array([[1], [5]])
    matrix = eamsgd(eta, 0.9 / p, 0.9, p, 0.5, 1.0, 1.0)
    assert matrix.shape == (2, 3, 9, 9) and matrix.dtype == np.float64
    np.testing.assert_array_equal(
        matrix[1, 2], eamsgd(0.4, 0.18, 0.9, 5, 0.5, 1.0, 1.0)
    )
    for momentum in (0.0, 0.5):
        radius = multiplicative.elastic_radius(
            learning_rate=eta,
            num_workers=p,
            momentum=momentum,
            shape=1.0,
            rate=1.0,
        )
        assert radius.shape == (2, 3)
        for i, j in itertools.product(range(2), range(3)):
            assert radius[i, j] == pytest.approx(
                theory.spectral_radius(
                    eamsgd(
                        eta[j], 0.9 / p[i, 0], 0.9, p[i, 0], momentum, 1.0, 1.0
                    )
                ),
                rel=1e-9,
            )


def assert_within_errors(found, expected):
    # What is the same in all runs differs by rounding alone.
    error = SIGMAS * found.standard_error + 1e-12 * (1 + np.abs(expected))
    distance = np.abs(found.mean - expected) / error
    worst = np.unravel_index(np.argmax(distance), distance.shape)
    assert distance[worst] <= 1, (worst, SIGMAS * distance[worst])


@drawn
@given(spreads, rates, steps_of_mean, small, small, small, workers, seeds)
def test_eamsgd_follows_its_moments(
    shape, rate, step, alpha, beta, delta, p, seed
):
    generator = np.random.default_rng(seed)
    center, x, v = generator.normal(size=(3, p))
    options = {
        "learning_rate": step * rate / shape,
        "moving_rate": alpha,
        "beta": beta,
        "num_workers": p,
        "momentum": delta,
        "shape": shape,
        "rate": rate,
    }
    found = multiplicative.simulate(
        **options,
        steps=STEPS,
        runs=RUNS,
        center=center[0],
        workers=x,
        velocities=v,
        seed=seed,
    )
    matrix = multiplicative.eamsgd_moment_matrix(**options)
    moments = [multiplicative.second_moments(center[0], x, v)]
    for _ in range(STEPS):
        moments.append(matrix @ moments[-1])
    assert_within_errors(found, np.stack(moments))


@drawn
@given(spreads, rates, steps_of_mean, small, workers, seeds)
def test_easgd_follows_its_moments(shape, rate, step, beta, p, seed):
    options = {
        "learning_rate": step * rate / shape,
        "moving_rate": beta / p,
        "beta": beta,
        "num_workers": p,
        "shape": shape,
        "rate": rate,
    }
    found = multiplicative.simulate(
        **options, steps=STEPS, runs=RUNS, seed=seed
    )
    assert not found.mean[0, 4:].any()
    matrix = multiplicative.easgd_moment_matrix(**options)
    moments = [np.ones(4)]
    for _ in range(STEPS):
        moments.append(matrix @ moments[-1])
    four = type(found)(found.mean[:, :4], found.standard_error[:, :4])
    assert_within_errors(four, np.stack(moments))


@drawn
@given(spreads, rates, steps_of_mean, small, seeds)
def test_msgd_follows_its_moments(shape, rate, step, delta, seed):
    options = {
        "learning_rate": step * rate / shape,
        "momentum": delta,
        "shape": shape,
        "rate": rate,
    }
    found = multiplicative.simulate(
        **options,
        moving_rate=0.0,
        beta=0.0,
        num_workers=1,
        steps=STEPS,
        runs=RUNS,
        seed=seed,
    )
    matrix = multiplicative.msgd_moment_matrix(**options)
    moments = [np.array([0.0, 1.0, 0.0])]
    for _ in range(STEPS):
        moments.append(matrix @ moments[-1])
    own = [6, 1, 7]
    three = type(found)(found.mean[:, own], found.standard_error[:, own])
    assert_within_errors(three, np.stack(moments))


def test_a_run_can_be_repeated():
    options = {"learning_rate": 0.1, "moving_rate": 0.2}
    options |= {"beta": 0.6, "num_workers": 3, "shape": 1.0, "rate": 1.0}
    options |= {"steps": 3, "runs": 10}
    once, again, other = (
        multiplicative.simulate(**options, seed=seed).mean for seed in (1, 1, 2)
    )
    np.testing.assert_array_equal(once, again)
    assert (once[1:, 1] != other[1:, 1]).all()


def test_erratum_center_times_worker():
    """The third line of eq. 5.32 lacks alpha beta x~ mean(x); 5.33 has it."""
    generator = np.random.default_rng(12)
    x, xi = generator.normal(size=4), generator.gamma(0.5, 2.0, 4)
    center, alpha, beta, eta = 0.7, 0.2, 0.6, 0.3
    new = x - eta * xi * x + alpha * (center - x)
    new_center = center + beta * (x.mean() - center)
    q = 1 - alpha - eta * xi
    printed = (
        (1 - beta) * q * center * x
        + alpha * (1 - beta) * center**2
        + q * beta * x * x.mean()
    )
    missing = alpha * beta * center * x.mean()
    assert abs(missing) > 1e-3
    np.testing.assert_allclose(new_center * new, printed + missing, rtol=1e-12)


def test_erratum_one_worker_has_a_false_eigenvalue():
    """Of eq. 5.34 with p = 1, where b = d at all times."""
    eta, alpha, beta, lam = 0.618, -0.5763, 1.34, 14.18
    matrix = printed_easgd(eta, alpha, beta, 1, lam, lam)
    moments, ratios = np.ones(4), []
    for _ in range(400):
        after = matrix @ moments
        assert after[1] == pytest.approx(after[3], rel=1e-9)
        # Rounding would let the false mode in.
        after[3] = after[1]
        ratios.append(np.linalg.norm(after))
        moments = after / ratios[-1]
    grows = np.exp(np.mean(np.log(ratios[200:])))
    assert theory.spectral_radius(matrix) == pytest.approx(
        (1 - alpha - eta) ** 2, rel=1e-9
    )
    assert grows < 0.6 * theory.spectral_radius(matrix)
