"""The matrices of thesis section 5.1 against their updates, cell by cell."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.drawing import examples
from tf_elastic import theory
from tf_elastic.theory import additive

derived = examples(20)

rates = st.floats(-1.5, 2.5)
etas = st.floats(-0.5, 3.0)
workers = st.integers(1, 5)
CLOSE = 1e-7  # cells whose radius is 1 up to rounding are on the bound


def momentum_drift(eta_h, delta_h):
    """Eq. 5.4 on (v, x), by hand."""
    return np.array([[delta_h, -eta_h], [delta_h, 1 - eta_h]])


def elastic_drift(eta_h, alpha, beta, p):
    """Eq. 5.18, entry by entry."""
    matrix = np.zeros((p + 1, p + 1))
    for i in range(p):
        matrix[i, i] = 1 - alpha - eta_h
        matrix[i, p] = alpha
        matrix[p, i] = beta / p
    matrix[p, p] = 1 - beta
    return matrix


def elastic_momentum_step(state, eta, h, delta, alpha, beta, p):
    """EAMSGD as printed above eq. 5.20, without noise."""
    v, x, center = list(state[:-1:2]), list(state[1::2]), state[-1]
    new = []
    for i in range(p):
        velocity = delta * v[i] - eta * h * (x[i] + delta * v[i])
        new += [velocity, x[i] + velocity + alpha * (center - x[i])]
    return [*new, center + beta * (sum(x) / p - center)]


def moved(drift, moments, pairs):
    """Second moments after a step without noise, from the whole matrix."""
    after = drift @ moments @ drift.T
    return [after[pair] for pair in pairs]


# The matrices.


@derived
@given(eta=etas, delta=rates, entries=st.tuples(rates, rates, rates))
def test_moments_of_momentum_sgd(eta, delta, entries):
    vv, vx, xx = entries
    matrix = additive.msgd_moment_matrix(eta_h=eta, delta_h=delta)
    np.testing.assert_allclose(
        matrix @ entries,
        moved(
            momentum_drift(eta, delta),
            np.array([[vv, vx], [vx, xx]]),
            [(0, 0), (0, 1), (1, 1)],
        ),
        atol=1e-12,
    )


@derived
@given(eta=etas, alpha=rates, beta=rates, p=workers)
def test_drift_of_easgd(eta, alpha, beta, p):
    matrix = additive.easgd_drift_matrix(
        eta_h=eta, moving_rate=alpha, beta=beta, num_workers=p
    )
    assert matrix.dtype == np.float64
    np.testing.assert_allclose(
        matrix, elastic_drift(eta, alpha, beta, p), atol=1e-14
    )


@derived
@given(eta=etas, alpha=rates, beta=rates, entries=st.tuples(*[rates] * 3))
def test_moments_of_the_reduced_system(eta, alpha, beta, entries):
    yy, yc, cc = entries
    matrix = additive.easgd_moment_matrix(
        eta_h=eta, moving_rate=alpha, beta=beta
    )
    np.testing.assert_allclose(
        matrix @ entries,
        moved(
            elastic_drift(eta, alpha, beta, 1),
            np.array([[yy, yc], [yc, cc]]),
            [(0, 0), (0, 1), (1, 1)],
        ),
        atol=1e-12,
    )


@derived
@given(
    eta=etas,
    alpha=rates,
    beta=rates,
    p=st.integers(2, 5),
    entries=st.tuples(rates, rates, rates, rates),
)
def test_moments_of_the_full_system(eta, alpha, beta, p, entries):
    own, other, cross, center = entries
    whole = np.full((p + 1, p + 1), other)
    np.fill_diagonal(whole, own)
    whole[:p, p] = whole[p, :p] = cross
    whole[p, p] = center
    matrix = additive.easgd_full_moment_matrix(
        eta_h=eta, moving_rate=alpha, beta=beta, num_workers=p
    )
    np.testing.assert_allclose(
        matrix @ entries,
        moved(
            elastic_drift(eta, alpha, beta, p),
            whole,
            [(0, 0), (0, 1), (0, p), (p, p)],
        ),
        atol=1e-11,
    )


@derived
@given(
    eta=st.floats(0.01, 2.0),
    h=st.floats(0.1, 3.0),
    delta=st.floats(-1.0, 1.0),
    alpha=rates,
    beta=rates,
    p=workers,
)
def test_drift_of_eamsgd(eta, h, delta, alpha, beta, p):
    matrix = additive.eamsgd_drift_matrix(
        eta_h=eta * h,
        delta_h=additive.nesterov_delta_h(eta_h=eta * h, momentum=delta),
        moving_rate=alpha,
        beta=beta,
        num_workers=p,
    )
    state = np.random.default_rng(p).normal(size=2 * p + 1)
    np.testing.assert_allclose(
        matrix @ state,
        elastic_momentum_step(state, eta, h, delta, alpha, beta, p),
        atol=1e-11,
    )


def test_without_momentum_eamsgd_is_easgd():
    setting = {"moving_rate": 0.3, "beta": 0.8, "num_workers": 3}
    with_velocities = additive.eamsgd_drift_matrix(
        eta_h=0.4, delta_h=0.0, **setting
    )
    kept = [1, 3, 5, 6]
    np.testing.assert_array_equal(
        with_velocities[np.ix_(kept, kept)],
        additive.easgd_drift_matrix(eta_h=0.4, **setting),
    )


def test_arguments_broadcast():
    eta, delta = np.array([0.1, 0.2, 0.3]), np.array([[0.5], [0.7]])
    pair = {"eta_h": eta, "delta_h": delta}
    elastic = {"eta_h": eta, "moving_rate": delta, "beta": 0.9}
    p = {"num_workers": 3}
    for function, arguments, matrix in (
        (additive.msgd_moment_matrix, pair, (3, 3)),
        (additive.msgd_eigenvalues, pair, (3,)),
        (additive.msgd_is_stable, pair, ()),
        (additive.easgd_drift_matrix, elastic | p, (4, 4)),
        (additive.easgd_drift_eigenvalues, elastic, (3,)),
        (additive.easgd_moment_matrix, elastic, (3, 3)),
        (additive.easgd_moment_eigenvalues, elastic, (3,)),
        (additive.easgd_full_moment_matrix, elastic | p, (4, 4)),
        (additive.easgd_is_stable, elastic | p, ()),
        (
            additive.eamsgd_drift_matrix,
            elastic | p | {"delta_h": 0.1},
            (7, 7),
        ),
        (additive.eamsgd_is_stable, elastic | p | {"delta_h": 0.1}, ()),
    ):
        together = function(**arguments)
        assert together.shape == (2, 3, *matrix)
        one = {
            name: value if np.ndim(value) == 0 else np.ravel(value)[1]
            for name, value in arguments.items()
        }
        np.testing.assert_array_equal(together[1, 1], function(**one))
    # The number of workers broadcasts where it does not shape a matrix.
    variances = additive.easgd_asymptotic_moments(
        learning_rate=0.1, moving_rate=0.2, beta=0.9, num_workers=[1, 2, 4]
    )
    assert all(moment.shape == (3,) for moment in variances)
    one, two, four = variances.center
    assert one == pytest.approx(2 * two) == pytest.approx(4 * four)


# The spectra.


def assert_same_spectrum(found, matrix):
    """The characteristic polynomials agree: no order, and no double roots."""
    np.testing.assert_allclose(
        np.poly(found), np.poly(matrix), rtol=1e-9, atol=1e-9
    )


@derived
@given(eta=etas, delta=rates)
def test_eigenvalues_of_momentum_sgd(eta, delta):
    arguments = {"eta_h": eta, "delta_h": delta}
    assert_same_spectrum(
        additive.msgd_eigenvalues(**arguments),
        additive.msgd_moment_matrix(**arguments),
    )


@derived
@given(eta=etas, alpha=rates, beta=rates, p=workers)
def test_eigenvalues_of_easgd(eta, alpha, beta, p):
    arguments = {"eta_h": eta, "moving_rate": alpha, "beta": beta}
    apart, *together = additive.easgd_drift_eigenvalues(**arguments)
    assert_same_spectrum(
        [apart] * (p - 1) + together,
        additive.easgd_drift_matrix(num_workers=p, **arguments),
    )
    moments = additive.easgd_moment_eigenvalues(**arguments)
    assert_same_spectrum(moments, additive.easgd_moment_matrix(**arguments))
    # One system and its squares (eqs. 5.16 and 5.19), and the differences.
    z = np.prod(together), together[0] ** 2, together[1] ** 2
    np.testing.assert_allclose(
        np.poly(moments), np.poly(z), rtol=1e-9, atol=1e-9
    )
    if p > 1:
        assert_same_spectrum(
            [apart**2, *z],
            additive.easgd_full_moment_matrix(num_workers=p, **arguments),
        )


@derived
@given(eta=etas, delta=rates, alpha=rates, beta=rates, p=workers, z=rates)
def test_characteristic_polynomial_of_eamsgd(eta, delta, alpha, beta, p, z):
    """Eq. 5.21 with the right sign; with the printed one it fails."""
    arguments = {
        "eta_h": eta,
        "delta_h": delta,
        "moving_rate": alpha,
        "beta": beta,
    }
    matrix = additive.eamsgd_drift_matrix(num_workers=p, **arguments)
    truth = np.linalg.det(matrix - z * np.eye(2 * p + 1))
    apart, together = additive.eamsgd_characteristic(**arguments)
    u, v = np.polyval(apart, z), -np.polyval(together, z)
    scale = max(1.0, np.linalg.norm(matrix - z * np.eye(2 * p + 1)))
    tolerance = 1e-13 * scale ** (2 * p + 1)
    assert u ** (p - 1) * v == pytest.approx(truth, rel=1e-8, abs=tolerance)
    by_hand = (
        (delta - z) * (1 - eta - alpha - z) * (1 - beta - z)
        + eta * delta * (1 - beta - z)
        - alpha * beta * (delta - z)
    )
    assert v == pytest.approx(by_hand, rel=1e-9, abs=1e-9)


def test_the_printed_u_of_eamsgd_is_wrong():
    eta, delta, alpha, beta, z = 0.3, 0.6, 0.2, 0.9, 0.4
    matrix = additive.eamsgd_drift_matrix(
        eta_h=eta, delta_h=delta, moving_rate=alpha, beta=beta, num_workers=2
    )
    truth = np.linalg.det(matrix - z * np.eye(5))
    v = -np.polyval(
        additive.eamsgd_characteristic(
            eta_h=eta, delta_h=delta, moving_rate=alpha, beta=beta
        ).together,
        z,
    )
    printed, right = (
        z**2 - (1 - eta - alpha + sign * delta) * z + delta * (1 - alpha)
        for sign in (-1, 1)
    )
    assert right * v == pytest.approx(truth, rel=1e-12)
    assert abs(printed * v - truth) > 0.5 * abs(truth)


@pytest.mark.parametrize("p", [2, 3, 7])
def test_the_radius_does_not_depend_on_p_above_one(p):
    for eta, alpha, delta in itertools.product(
        (0.1, 0.7, 1.5), (-0.4, 0.0, 0.3), (0.0, 0.5)
    ):
        setting = {
            "eta_h": eta,
            "delta_h": delta,
            "moving_rate": alpha,
            "beta": 0.9,
        }
        two, more = (
            theory.spectral_radius(
                additive.eamsgd_drift_matrix(num_workers=n, **setting)
            )
            for n in (2, p)
        )
        # A multiple eigenvalue is only as exact as a root of the rounding.
        assert more == pytest.approx(two, rel=1e-4)


# Where they are stable.


def radii(matrices):
    return np.abs(np.linalg.eigvals(matrices)).max(axis=-1)


def wrong_cells(stable, radius):
    assert stable.shape == radius.shape
    inside = np.abs(radius - 1) > CLOSE
    assert inside.mean() > 0.9
    assert 0.02 < stable.mean() < 0.98
    return int(((stable != (radius < 1)) & inside).sum())


def test_no_cell_of_momentum_sgd_is_wrong():
    eta = np.linspace(-0.513, 4.5, 211)
    delta = np.linspace(-1.307, 1.31, 173)[:, None]
    arguments = {"eta_h": eta, "delta_h": delta}
    matrix = additive.msgd_moment_matrix(**arguments)
    assert not wrong_cells(additive.msgd_is_stable(**arguments), radii(matrix))


@pytest.mark.parametrize("p", [1, 2, 5])
def test_no_cell_of_easgd_is_wrong(p):
    eta = np.linspace(-0.513, 4.3, 41)
    alpha = np.linspace(-1.507, 2.51, 37)[:, None]
    beta = np.linspace(-0.511, 3.1, 31)[:, None, None]
    arguments = {"eta_h": eta, "moving_rate": alpha, "beta": beta}
    stable = additive.easgd_is_stable(num_workers=p, **arguments)
    drift = additive.easgd_drift_matrix(num_workers=p, **arguments)
    assert not wrong_cells(stable, radii(drift))
    moments = (
        additive.easgd_moment_matrix(**arguments)
        if p == 1
        else additive.easgd_full_moment_matrix(num_workers=p, **arguments)
    )
    assert not wrong_cells(stable, radii(moments))


@pytest.mark.parametrize("p", [1, 2, 3])
def test_no_cell_of_eamsgd_is_wrong(p):
    arguments = {
        "eta_h": np.linspace(-0.313, 3.3, 23),
        "delta_h": np.linspace(-1.207, 1.31, 17)[:, None],
        "moving_rate": np.linspace(-1.107, 2.51, 19)[:, None, None],
        "beta": np.linspace(-0.311, 2.6, 15)[:, None, None, None],
    }
    stable = additive.eamsgd_is_stable(num_workers=p, **arguments)
    drift = additive.eamsgd_drift_matrix(num_workers=p, **arguments)
    assert not wrong_cells(stable, radii(drift))


def test_eq_5_15_is_the_reduced_system_exactly():
    """The thesis leaves open whether it is sufficient; it is."""
    eta = np.linspace(0.013, 4.3, 61)
    alpha = np.linspace(-1.507, 2.51, 57)[:, None]
    beta = np.linspace(0.011, 3.1, 41)[:, None, None]
    with np.errstate(divide="ignore", invalid="ignore"):
        printed = ((2 - beta) * (2 - eta) - 2 * alpha > 0) & (
            (2 - alpha - beta - eta + beta * eta)
            / (alpha + beta + eta * (1 - beta))
            > 0
        )
    arguments = {"eta_h": eta, "moving_rate": alpha, "beta": beta}
    ours = additive.easgd_is_stable(num_workers=1, **arguments)
    np.testing.assert_array_equal(printed, ours)
    matrix = additive.easgd_moment_matrix(**arguments)
    assert not wrong_cells(printed, radii(matrix))


# Bad input.


@pytest.mark.parametrize(
    ("function", "arguments", "message"),
    [
        (
            additive.msgd_moment_matrix,
            {"eta_h": math.nan, "delta_h": 0.5},
            "`eta_h` must be finite. Received: eta_h=nan",
        ),
        (
            additive.optimal_momentum,
            {"eta_h": 4.0},
            "`eta_h` must be at least 0 and below 4. Received: eta_h=4.0",
        ),
        (
            additive.easgd_drift_matrix,
            {"eta_h": 1, "moving_rate": 0.1, "beta": 0.9, "num_workers": 0},
            "`num_workers` must be .* Received: num_workers=0",
        ),
        (
            additive.easgd_full_moment_matrix,
            {"eta_h": 1, "moving_rate": 0.1, "beta": 0.9, "num_workers": 1},
            "`num_workers` must be .* at least 2. Received: num_workers=1",
        ),
        (
            additive.optimal_moving_rate,
            {"eta_h": 2.0, "beta": 2.0},
            "`beta` must be below 4 / `eta_h`. Received: beta=2.0",
        ),
        (
            additive.reduced_optimal_moving_rate,
            {"eta_h": 0.0, "beta": 0.5},
            "`eta_h` must be positive.* Received: eta_h=0.0",
        ),
        (
            additive.easgd_asymptotic_moments,
            {
                "learning_rate": 0.1,
                "moving_rate": 0.1,
                "beta": 0.9,
                "num_workers": 2,
                "noise": -1.0,
            },
            "`noise` must be .* Received: noise=-1.0",
        ),
        (
            additive.simulate,
            {"learning_rate": 0.1, "steps": 1.5, "runs": 1, "seed": 0},
            "`steps` must be .* Received: steps=1.5",
        ),
    ],
)
def test_bad_input_is_refused(function, arguments, message):
    with pytest.raises(ValueError, match=message):
        function(**arguments)


def test_a_negative_time_is_refused():
    with pytest.raises(ValueError, match="`t` must be at least 0. Received"):
        additive.sgd_moments([0.0, -1.0], learning_rate=0.1)
    with pytest.raises(ValueError, match="`t` must be .* Received: t=-1"):
        additive.moments_at(-1, [[1.0]], [0.0], [0.0])
