"""ADMM and EASGD in round robin, against the thesis' own maps."""

import itertools

import numpy as np
import pytest

from tf_elastic import theory
from tf_elastic.theory import round_robin

WORKERS = (1, 2, 3, 5, 8)
CLOSE = 1e-9  # cells whose radius is 1 up to rounding are on the bound


def printed_admm_visit(i, p, eta, rho):
    """F_3^i F_2^i F_1^i as printed, for worker i of p."""
    dual, point, center = 2 * i, 2 * i + 1, 2 * p
    first, second, third = (np.eye(2 * p + 1) for _ in range(3))
    first[dual, point], first[dual, center] = -1, 1
    second[point, dual] = second[point, center] = eta * rho / (1 + eta * rho)
    second[point, point] = (1 - eta) / (1 + eta * rho)
    third[center] = [-1 / p, 1 / p] * p + [0]
    return third @ second @ first


def printed_easgd_visit(i, p, eta, alpha):
    """F^i as printed, for worker i of p."""
    visit = np.eye(p + 1)
    visit[i, i], visit[p, p] = 1 - eta - alpha, 1 - alpha
    visit[i, p] = visit[p, i] = alpha
    return visit


def composed(visits):
    product = np.eye(len(visits[0]))
    for visit in visits:
        product = visit @ product
    return product


# ADMM.


@pytest.mark.parametrize("p", WORKERS)
def test_a_round_of_admm_is_the_printed_one(p):
    for eta, rho in ((0.001, 2.5), (0.3, 0.7), (0.0, 1.0)):
        np.testing.assert_allclose(
            round_robin.admm_map(
                learning_rate=eta, elasticity=rho, num_workers=p
            ),
            composed([printed_admm_visit(i, p, eta, rho) for i in range(p)]),
            rtol=1e-13,
            atol=1e-15,
        )


def test_a_curvature_scales_the_gradient():
    """h enters with eta alone, and rho with eta: (eta h, rho / h)."""
    np.testing.assert_allclose(
        round_robin.admm_map(
            learning_rate=0.01, elasticity=6.0, num_workers=3, curvature=4.0
        ),
        round_robin.admm_map(learning_rate=0.04, elasticity=1.5, num_workers=3),
        rtol=1e-14,
    )
    np.testing.assert_allclose(
        round_robin.easgd_map(
            learning_rate=0.01, moving_rate=0.3, num_workers=3, curvature=4.0
        ),
        round_robin.easgd_map(
            learning_rate=0.04, moving_rate=0.3, num_workers=3
        ),
        rtol=1e-14,
    )


def test_admm_is_unstable_where_the_thesis_says():
    admm = round_robin.admm_map(
        learning_rate=0.001, elasticity=2.5, num_workers=3
    )
    assert admm.shape == (7, 7) and admm.dtype == np.float64
    assert f"{theory.spectral_radius(admm):.5f}" == "1.00097"
    # Each of its visits is stable.
    for i in range(3):
        visit = printed_admm_visit(i, 3, 0.001, 2.5)
        assert theory.spectral_radius(visit) < 1 + 1e-12


def test_admm_is_stable_for_one_and_for_two_workers():
    """Over all of Figure 3.2: it takes three."""
    grid = dict(
        learning_rate=np.linspace(1e-4, 1e-2, 40),
        elasticity=np.linspace(0.01, 10, 40)[:, None],
    )
    for p, unstable in ((1, False), (2, False), (3, True), (8, True)):
        maps = round_robin.admm_map(num_workers=p, **grid)
        radius = np.abs(np.linalg.eigvals(maps)).max(axis=-1)
        assert (radius > 1 + CLOSE).any() == unstable
    # EASGD with the same elasticity, alpha = eta rho, is stable everywhere.
    assert round_robin.easgd_is_stable(
        learning_rate=grid["learning_rate"],
        moving_rate=grid["learning_rate"] * grid["elasticity"],
    ).all()


def test_the_path_is_that_of_the_updates():
    """Eqs. 3.52 to 3.54 in plain Python."""
    p, eta, rho, steps = 3, 0.02, 0.9, 50
    start = np.random.default_rng(4).normal(size=2 * p + 1)
    path = round_robin.admm_path(
        learning_rate=eta,
        elasticity=rho,
        num_workers=p,
        steps=steps,
        start=start,
    )
    duals, points, center = list(start[0:-1:2]), list(start[1:-1:2]), start[-1]
    for t in range(steps):
        np.testing.assert_allclose(path[t, 0:-1:2], duals, rtol=1e-11)
        np.testing.assert_allclose(path[t, 1:-1:2], points, rtol=1e-11)
        np.testing.assert_allclose(path[t, -1], center, rtol=1e-10)
        i = t % p
        duals[i] = duals[i] - (points[i] - center)
        points[i] = (
            points[i] - eta * points[i] + eta * rho * (duals[i] + center)
        ) / (1 + eta * rho)
        center = sum(points[j] - duals[j] for j in range(p)) / p


def test_the_path_of_figure_3_3_diverges_at_the_rate_of_the_radius():
    path = round_robin.admm_path(
        learning_rate=0.001, elasticity=2.5, num_workers=3, steps=60000
    )
    assert path.shape == (60001, 7)
    np.testing.assert_array_equal(path[0], [0, 1000, 0, 1000, 0, 1000, 1000])
    center = path[:, -1]
    # It swings about 0 with a growing amplitude, once in about 345 visits.
    # Both windows hold twelve swings, and are 8000 rounds apart.
    early = abs(center[30000:34140]).max()
    late = abs(center[54000:58140]).max()
    per_round = (late / early) ** (3 / 24000)
    radius = theory.spectral_radius(
        round_robin.admm_map(learning_rate=0.001, elasticity=2.5, num_workers=3)
    )
    assert per_round == pytest.approx(radius, abs=3e-6)
    assert center[50000:].max() > 1e5 and center[50000:].min() < -1e5


def test_maps_of_many_settings_at_once():
    eta, rho = np.array([0.001, 0.01]), np.array([[0.5], [2.5], [7.0]])
    maps = round_robin.admm_map(
        learning_rate=eta, elasticity=rho, num_workers=3
    )
    easgd = round_robin.easgd_map(
        learning_rate=eta, moving_rate=rho / 10, num_workers=3
    )
    assert maps.shape == (3, 2, 7, 7) and easgd.shape == (3, 2, 4, 4)
    for i, j in np.ndindex(3, 2):
        np.testing.assert_array_equal(
            maps[i, j],
            round_robin.admm_map(
                learning_rate=eta[j], elasticity=rho[i, 0], num_workers=3
            ),
        )
        np.testing.assert_array_equal(
            easgd[i, j],
            round_robin.easgd_map(
                learning_rate=eta[j], moving_rate=rho[i, 0] / 10, num_workers=3
            ),
        )


# EASGD.


@pytest.mark.parametrize("p", WORKERS)
def test_a_round_of_easgd_is_the_printed_one(p):
    for eta, alpha in ((0.1, 0.3), (1.7, 0.9), (0.0, 0.5)):
        np.testing.assert_allclose(
            round_robin.easgd_map(
                learning_rate=eta, moving_rate=alpha, num_workers=p
            ),
            composed([printed_easgd_visit(i, p, eta, alpha) for i in range(p)]),
            rtol=1e-13,
            atol=1e-15,
        )


def test_without_gradients_it_is_the_exchange():
    np.testing.assert_allclose(
        round_robin.easgd_map(learning_rate=0, moving_rate=0.3, num_workers=4),
        theory.exchange_map(4, 0.3, 1.2, "round_robin"),
        rtol=1e-13,
    )


ETAS = np.round(np.arange(0.0, 2.6, 0.0511), 4)
ALPHAS = np.round(np.arange(0.0, 1.6, 0.0307), 4)[:, None]


def stable_and_radius(p):
    stable = round_robin.easgd_is_stable(learning_rate=ETAS, moving_rate=ALPHAS)
    maps = round_robin.easgd_map(
        learning_rate=ETAS, moving_rate=ALPHAS, num_workers=p
    )
    return stable, np.abs(np.linalg.eigvals(maps)).max(axis=-1)


@pytest.mark.parametrize("p", [1, 3, 5, 7, 9])
def test_no_cell_of_the_region_is_wrong(p):
    """For an odd number of workers it is sufficient and necessary."""
    stable, radius = stable_and_radius(p)
    clear = np.abs(radius - 1) > CLOSE
    assert not (clear & (stable != (radius < 1))).any()
    assert 0.2 < stable.mean() < 0.5
    # What is on the edge of the grid: nothing learns, or nothing is pulled.
    assert not stable[0].any() and not stable[:, 0].any()


@pytest.mark.parametrize("p", [2, 4, 6, 8])
def test_no_cell_of_the_region_is_unstable(p):
    """For an even number it is sufficient."""
    stable, radius = stable_and_radius(p)
    assert (radius[stable] < 1).all()


def test_the_region_is_not_all_for_an_even_number():
    """Printed: the same condition for any p. For p = 2 more is stable.

    At eta = 1 the characteristic equation is (z^2 + alpha)(z - 1 + alpha) =
    alpha^2, whose pair of roots leaves the unit circle at 1 / sqrt(2).
    """
    bound = round_robin.easgd_moving_rate_bound(learning_rate=1.0)
    assert bound == pytest.approx(2 / 3, rel=1e-15)
    edge = 1 / np.sqrt(2)
    for alpha, is_stable in (
        (bound + 1e-6, True),
        (edge - 1e-6, True),
        (edge + 1e-6, False),
    ):
        two = round_robin.easgd_map(
            learning_rate=1.0, moving_rate=alpha, num_workers=2
        )
        assert (theory.spectral_radius(two) < 1) == is_stable
        assert not round_robin.easgd_is_stable(
            learning_rate=1.0, moving_rate=alpha
        )
    # One more worker, and the printed bound is the edge.
    three = round_robin.easgd_map(
        learning_rate=1.0, moving_rate=bound + 1e-6, num_workers=3
    )
    assert theory.spectral_radius(three) > 1


def test_inside_of_the_region_any_order_is_stable():
    """A visit lengthens no state, so no order of visits can."""
    rng = np.random.default_rng(6)
    eta, alpha = rng.uniform(0, 2, 300), rng.uniform(0, 1, 300)
    inside = round_robin.easgd_is_stable(learning_rate=eta, moving_rate=alpha)
    assert 50 < inside.sum() < 250
    for one_eta, one_alpha, expected in zip(eta, alpha, inside, strict=True):
        visits = [
            printed_easgd_visit(i, 4, one_eta, one_alpha) for i in range(4)
        ]
        norms = [np.linalg.norm(visit, 2) for visit in visits]
        assert (max(norms) <= 1 + 1e-12) == expected
        if expected:
            order = rng.permutation([0, 1, 2, 3, *rng.integers(0, 4, 8)])
            radius = theory.spectral_radius(
                composed([visits[i] for i in order])
            )
            assert radius < 1


def test_the_printed_bound():
    for step, h in itertools.product((0.0, 0.5, 1.0, 1.9), (0.5, 2.0)):
        bound = round_robin.easgd_moving_rate_bound(
            learning_rate=step / h, curvature=h
        )
        assert bound == pytest.approx((4 - 2 * step) / (4 - step), rel=1e-14)
    bounds = round_robin.easgd_moving_rate_bound(learning_rate=[2.0, 3.0, 5.0])
    assert (bounds == 0).all()
    assert theory.stable_moving_rates(3, order="round_robin")[1] == (
        round_robin.easgd_moving_rate_bound(learning_rate=0.0)
    )


# Bad input.


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("learning_rate", -0.1),
        ("elasticity", float("inf")),
        ("num_workers", 2.5),
        ("num_workers", 0),
        ("curvature", 0.0),
        ("steps", -1),
    ],
)
def test_bad_arguments_of_admm_are_refused(name, value):
    arguments = dict(learning_rate=0.1, elasticity=1.0, num_workers=2, steps=3)
    with pytest.raises(
        ValueError, match=f"`{name}` must be .* Received: {name}"
    ):
        round_robin.admm_path(**{**arguments, name: value})


@pytest.mark.parametrize(
    ("name", "value"),
    [("learning_rate", -0.1), ("moving_rate", [-1.0]), ("curvature", -1.0)],
)
def test_bad_arguments_of_easgd_are_refused(name, value):
    arguments = {"learning_rate": 0.1, "moving_rate": 0.3, name: value}
    with pytest.raises(
        ValueError, match=f"`{name}` must be .* Received: {name}"
    ):
        round_robin.easgd_is_stable(**arguments)
    with pytest.raises(
        ValueError, match=f"`{name}` must be .* Received: {name}"
    ):
        round_robin.easgd_map(num_workers=2, **arguments)
