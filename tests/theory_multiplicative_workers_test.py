"""How many workers help, against brute force."""

import numpy as np
import pytest

from tf_elastic.theory import multiplicative


@pytest.mark.parametrize("momentum", [0.0, 0.5])
@pytest.mark.parametrize("moving_rate", [None, 0.2])
@pytest.mark.parametrize("spread", [0.2, 3.0])
def test_best_workers_against_brute_force(spread, moving_rate, momentum):
    options = {"shape": spread, "rate": 2.0, "beta": 0.7}
    options |= {"moving_rate": moving_rate, "momentum": momentum}
    best = multiplicative.optimal_num_workers(**options, max_num_workers=16)
    eta = np.linspace(0, 4.0 / spread, 1201)[1:]
    radius = multiplicative.elastic_radius(
        **options, learning_rate=eta, num_workers=np.arange(1, 17)[:, None]
    )
    assert best.radius <= radius.min() + 1e-9
    assert best.radius == pytest.approx(radius.min(), abs=2e-3)
    assert best.radius == multiplicative.elastic_radius(
        **options,
        learning_rate=best.learning_rate,
        num_workers=best.num_workers,
    )


@pytest.mark.parametrize("eta", [0.02, 0.5, 0.8])
def test_best_workers_at_a_given_learning_rate(eta):
    p = np.arange(1, 129)
    radius = multiplicative.elastic_radius(
        learning_rate=eta, num_workers=p, shape=1.0, rate=1.0
    )
    best = multiplicative.optimal_num_workers(
        shape=1.0, rate=1.0, learning_rate=eta
    )
    assert best.learning_rate == eta
    assert best.num_workers == p[np.argmin(radius)]
    assert best.radius == radius.min()
    fewer = multiplicative.optimal_num_workers(
        shape=1.0, rate=1.0, learning_rate=eta, tolerance=0.1
    )
    enough = np.log(radius) <= 0.9 * np.log(best.radius)
    assert fewer.num_workers == p[enough][0] < best.num_workers


def test_best_workers_where_nothing_is_stable():
    best = multiplicative.optimal_num_workers(
        shape=1.0, rate=1.0, learning_rate=2.5
    )
    assert best.radius > 1


def test_above_twice_the_curvature_nothing_is_stable():
    """What bounds the search for the best learning rate."""
    generator = np.random.default_rng(10)
    count = 4000
    p = generator.integers(1, 40, count)
    spread = 10 ** generator.uniform(-1, 3, count)
    beta = generator.uniform(0, 3, count)
    free = generator.uniform(0, 2, count)
    radius = multiplicative.elastic_radius(
        learning_rate=generator.uniform(2, 4, count),
        num_workers=p,
        shape=spread,
        rate=spread,
        beta=beta,
        moving_rate=np.where(generator.random(count) < 0.5, beta / p, free),
        momentum=generator.uniform(0, 1, count),
    )
    assert radius.min() > 1
