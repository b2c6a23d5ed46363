"""EASGD with ever more workers: limits, intervals and the widest rate."""

import math

import numpy as np
import pytest

from tf_elastic.theory import multiplicative

INPUTS = ((0.1, 0.3), (0.5, 0.5), (1.0, 1.0), (2.0, 5.0), (10.0, 10.0))


@pytest.mark.parametrize("alpha", [None, -0.1, 0.2, 0.7])
def test_eigenvalues_go_to_their_limits(alpha):
    """With an error of the order of 1 / p, in both cases."""
    generator = np.random.default_rng(7)
    for _ in range(30):
        h, beta = generator.uniform(0.05, 1.9), generator.uniform(0.05, 1.9)
        shape = generator.uniform(0.2, 5)
        options = {"learning_rate": h, "shape": shape, "rate": shape}
        limit = multiplicative.limit_eigenvalues(
            **options, beta=beta, moving_rate=alpha or 0.0
        )
        wanted = np.poly(limit)
        errors = []
        for p in (10**4, 2 * 10**4):
            matrix = multiplicative.easgd_moment_matrix(
                **options,
                beta=beta,
                moving_rate=beta / p if alpha is None else alpha,
                num_workers=p,
            )
            errors.append(np.abs(np.poly(matrix) - wanted).max())
        assert errors[0] < 0.05
        assert errors[1] == pytest.approx(errors[0] / 2, rel=0.05)


def test_the_limits_are_those_printed():
    generator = np.random.default_rng(8)
    for _ in range(50):
        eta, beta, lam, omega = generator.uniform(0.1, 1.9, 4)
        alpha, u = generator.uniform(-0.5, 1), eta * lam / omega
        options = {"learning_rate": eta, "shape": lam, "rate": omega}
        first = multiplicative.limit_eigenvalues(**options, beta=beta)
        np.testing.assert_allclose(
            np.sort(first.real),
            np.sort(
                [
                    (1 - beta) ** 2,
                    (1 - beta) * (1 - u),
                    1 - 2 * u + eta**2 * lam * (lam + 1) / omega**2,
                    (1 - u) ** 2,
                ]
            ),
            rtol=1e-9,
            atol=1e-12,
        )
        z1, z2, z3, z4 = multiplicative.limit_eigenvalues(
            **options, beta=beta, moving_rate=alpha
        )
        assert z1 == pytest.approx((1 - beta) * (1 - u) - alpha)
        assert z2 == pytest.approx(
            (1 - alpha) ** 2
            - 2 * (1 - alpha) * u
            + eta**2 * lam * (lam + 1) / omega**2
        )
        assert z3 + z4 == pytest.approx(
            2
            + alpha**2
            - (2 - beta) * beta
            - (2 - u) * u
            - 2 * alpha * (1 - beta - u)
        )
        assert z3 * z4 == pytest.approx(z1**2)
        assert abs(z3) >= abs(z4) - 1e-12


GRID = {
    "moving_rate": np.array([-0.6, -0.21, 0.0, 0.13, 0.5, 0.77, 1.3, 1.9]),
    "beta": np.array([-0.3, 0.0, 0.2, 0.9, 1.0, 1.4, 1.93, 2.0, 2.4, 4.1]),
    "shape": np.array([0.04, 0.31, 0.5, 1.0, 2.7, 11.0]),
}


@pytest.mark.parametrize("spread", GRID["shape"])
def test_no_cell_of_many_workers_is_wrong(spread):
    alpha = GRID["moving_rate"][:, None, None]
    beta = GRID["beta"][:, None]
    eta = np.linspace(0, 3, 301)[1:] + 1e-4
    options = {"beta": beta, "shape": spread, "rate": spread}
    low, high = multiplicative.limit_learning_rates(
        **options, moving_rate=alpha
    )
    limit = np.abs(
        multiplicative.limit_eigenvalues(
            **options, moving_rate=alpha, learning_rate=eta
        )
    ).max(axis=-1)
    finite = multiplicative.elastic_radius(
        **options, moving_rate=alpha, learning_rate=eta, num_workers=10**9
    )
    within = (low < eta) & (eta < high)
    for radius in (limit, finite):
        decided = np.abs(radius - 1) > 1e-5
        assert np.mean(decided) > 0.9  # with beta = 0 it is 1
        assert ((radius < 1) == within)[decided].all()
    assert within.any() and not within.all()


def test_the_interval_is_the_printed_one():
    generator = np.random.default_rng(9)
    alpha, beta = generator.uniform(0, 1, (2, 200))
    lam, omega = generator.uniform(0.05, 4, (2, 200))
    low, high = multiplicative.limit_learning_rates(
        beta=beta, shape=lam, rate=omega, moving_rate=alpha
    )
    means = (4 - 2 * alpha - 2 * beta) / (2 - beta) * omega / lam
    drift = omega * (1 - alpha) / (lam + 1) + omega / (
        lam * (lam + 1)
    ) * np.sqrt(lam**2 + lam * (2 * alpha - alpha**2))
    printed = np.minimum(means, drift)
    stable = printed > 0
    np.testing.assert_allclose(high[stable], printed[stable], rtol=1e-12)
    assert not low.any() and not high[~stable].any()
    assert 100 < np.count_nonzero(stable)


def test_alpha_that_shrinks_leaves_the_interval_of_sgd():
    """Case I, by the interval and by the radius just beside its end."""
    for shape, rate in INPUTS:
        _, high = multiplicative.limit_learning_rates(
            beta=0.9, shape=shape, rate=rate
        )
        assert high == pytest.approx(2 * rate / (shape + 1), rel=1e-12)
        inside, outside = multiplicative.elastic_radius(
            learning_rate=high * np.array([0.999, 1.001]),
            num_workers=10**9,
            shape=shape,
            rate=rate,
        )
        assert inside < 1 < outside


@pytest.mark.parametrize("spread", [0.05, 0.3, 0.5, 0.9])
def test_the_widest_moving_rate(spread):
    widest = multiplicative.widest_moving_rate(shape=spread)
    assert widest == pytest.approx(1 - math.sqrt(spread))
    alpha = np.append(np.linspace(0, 1, 2001), widest)
    for beta in (0.2, 0.9, 1.0):
        low, high = multiplicative.limit_learning_rates(
            beta=beta, shape=spread, rate=2.0, moving_rate=alpha
        )
        assert not low.any()
        assert high[-1] == pytest.approx(2.0 / math.sqrt(spread), rel=1e-12)
        assert high.max() <= high[-1] * (1 + 1e-12)
        assert high[-1] > 4.0 / (spread + 1)


@pytest.mark.parametrize("spread", [1.0, 1.5, 4.0])
def test_no_moving_rate_is_wider_where_the_spread_is_small(spread):
    """The thesis' alpha = 1 - sqrt(lambda) is then negative."""
    assert multiplicative.widest_moving_rate(shape=spread) == 0
    alpha = np.linspace(0, 1, 2001)
    _, high = multiplicative.limit_learning_rates(
        beta=0.9, shape=spread, rate=2.0, moving_rate=alpha
    )
    assert high[0] == pytest.approx(4.0 / (spread + 1), rel=1e-12)
    assert high.max() == high[0]
    if spread > 1:
        low, _ = multiplicative.limit_learning_rates(
            beta=0.9,
            shape=spread,
            rate=2.0,
            moving_rate=1 - math.sqrt(spread),
        )
        assert low > 0.1


def test_the_widest_moving_rate_of_figure_5_19():
    """With a hundred workers it is there already, up to 1 / p."""
    alpha = np.linspace(0, 0.6, 61)[:, None]
    eta = np.linspace(0.6, 0.8, 2001)
    stable = (
        multiplicative.elastic_radius(
            learning_rate=eta,
            num_workers=100,
            moving_rate=alpha,
            shape=0.5,
            rate=0.5,
        )
        < 1
    )
    highest = np.where(stable, eta, 0).max(axis=1)
    assert alpha[np.argmax(highest), 0] == pytest.approx(0.2929, abs=0.03)
    assert highest.max() == pytest.approx(math.sqrt(0.5), abs=1e-3)
