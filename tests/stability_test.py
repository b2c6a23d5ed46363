"""The bounds of `theory` against the eigenvalues, cell by cell."""

import itertools
import math
import re
import warnings

import numpy as np
import pytest

from tf_elastic import core
from tf_elastic import theory

WORKERS = (1, 2, 3, 4, 5, 6, 7, 8, 16)
each_number_of_workers = pytest.mark.parametrize(
    "p",
    [
        pytest.param(p, marks=[pytest.mark.full] if p in (4, 5, 7, 8) else [])
        for p in WORKERS
    ],
)
# On no bound but the round ones that `CLOSE` takes care of.
ALPHAS = np.round(np.arange(0.01, 2.6, 0.0301), 4)
BETAS = np.round(np.append(np.arange(0.0, 3.0, 0.167), [5.0, 8.0, 16.0]), 4)
CLOSE = 1e-9  # cells whose radius is 1 up to rounding are on the bound


def contraction(p, alpha, beta, order):
    """The spectral radius of an exchange, its consensus aside.

    In the differences x^i - center the consensus is 0, so what acts on them
    has the other p eigenvalues of the map.
    """
    matrix = theory.exchange_map(p, alpha, beta, order)
    differences = np.hstack([np.eye(p), -np.ones((p, 1))])
    back = np.vstack([np.eye(p), np.zeros((1, p))])
    return theory.spectral_radius(differences @ matrix @ back)


def wrong_cells(p, order, rates, bounds):
    """The (alpha, beta, radius) whose side of the bounds is not the radius'."""
    wrong = []
    for alpha, beta in rates:
        radius = contraction(p, alpha, beta, order)
        low, high = bounds(alpha, beta)
        if abs(radius - 1) > CLOSE and (low < alpha < high) != (radius < 1):
            wrong.append((float(alpha), float(beta), radius))
    return wrong


@each_number_of_workers
@pytest.mark.parametrize("order", theory.ORDERS)
def test_no_cell_with_free_rates_is_wrong(order, p):
    wrong = wrong_cells(
        p,
        order,
        itertools.product(ALPHAS, BETAS),
        lambda _, beta: theory.stable_moving_rates(p, beta, order),
    )
    assert not wrong


@each_number_of_workers
@pytest.mark.parametrize("order", theory.ORDERS)
def test_no_symmetric_cell_is_wrong(order, p):
    """With beta = p alpha the interval is the one that begins at 0.

    Gauss-Seidel with six workers or more has another one around alpha = 1;
    what is warned about knows it, see below.
    """
    cells = [(alpha, p * alpha) for alpha in ALPHAS]
    unstable = [
        alpha
        for alpha, beta in cells
        if contraction(p, alpha, beta, order) > 1 + CLOSE
    ]
    cells = [cell for cell in cells if cell[0] <= unstable[0]]
    assert len(cells) > 3
    wrong = wrong_cells(
        p,
        order,
        cells,
        lambda *_: theory.stable_moving_rates(p, order=order),
    )
    assert not wrong


@each_number_of_workers
@pytest.mark.parametrize("order", theory.ORDERS)
def test_bounds_are_tight(order, p):
    """Just inside contracts, just outside does not."""
    for beta in (None, 0.3, 0.9, 1.5):
        low, high = theory.stable_moving_rates(p, beta, order)
        for bound, inwards in ((low, 1e-4), (high, -1e-4)):
            if not 0 < bound < math.inf:
                continue
            inside, outside = bound + inwards, bound - inwards
            for alpha, contracts in ((inside, True), (outside, False)):
                radius = contraction(
                    p, alpha, p * alpha if beta is None else beta, order
                )
                assert (radius < 1) == contracts, (beta, alpha, radius)


@pytest.mark.parametrize("order", theory.ORDERS)
def test_the_map_keeps_a_consensus(order):
    matrix = theory.exchange_map(4, 0.3, 0.9, order)
    assert matrix.shape == (5, 5) and matrix.dtype == np.float64
    np.testing.assert_allclose(matrix.sum(axis=1), 1, rtol=1e-14)


@pytest.mark.parametrize("order", theory.ORDERS)
def test_the_map_is_the_exchange(order):
    state = np.random.default_rng(3).normal(size=(4, 5))
    rule = getattr(core, f"{order}_exchange")
    workers, center = rule(list(state[:-1]), state[-1], 0.3, 0.8)
    np.testing.assert_allclose(
        theory.exchange_map(3, 0.3, 0.8, order) @ state,
        np.stack([*workers, center]),
        rtol=1e-13,
    )


def test_a_long_run_follows_the_radius():
    """An unstable exchange drives workers apart, a stable one together."""
    for alpha, shrinks in ((0.49, True), (0.51, False)):
        matrix = theory.exchange_map(3, alpha, 3 * alpha, "jacobi")
        state = np.linalg.matrix_power(matrix, 2000) @ [1.0, 0.0, 0.0, -1.0]
        assert (np.ptp(state) < 1e-6) == shrinks


def test_spectral_radius_of_known_matrices():
    assert theory.spectral_radius(np.diag([0.5, -3.0, 1.0])) == 3.0
    rotation = 0.7 * np.array([[0.0, -1.0], [1.0, 0.0]])
    assert theory.spectral_radius(rotation) == pytest.approx(0.7, rel=1e-14)
    # Not normal: its norm is large, its radius is not.
    assert theory.spectral_radius([[0.5, 100.0], [0.0, 0.25]]) == 0.5


def test_numbers_of_the_thesis():
    """Round robin stays below 1, jacobi below 2 / (p + 1)."""
    for p in WORKERS:
        assert theory.stable_moving_rates(p) == (0.0, 2 / (p + 1))
        assert theory.stable_moving_rates(p, order="round_robin") == (
            0.0,
            1.0,
        )


@pytest.mark.parametrize("p", WORKERS)
def test_downpour_is_stable(p):
    """Gauss-Seidel, alpha = 1, beta = p: workers and center meet at once."""
    assert contraction(p, 1.0, float(p), "gauss_seidel") < CLOSE
    low, high = theory.stable_moving_rates(p, float(p), "gauss_seidel")
    assert low < 1.0 < high
    assert message_for(p, 1.0, float(p), "gauss_seidel") is None


def test_unknown_exchange_is_refused():
    message = "`order` must be one of.*jacobi.*Received: order='ring'"
    with pytest.raises(ValueError, match=message):
        theory.exchange_map(3, 0.1, 0.3, "ring")
    with pytest.raises(ValueError, match=message):
        theory.stable_moving_rates(3, order="ring")


# Warnings.


def message_for(p, alpha, beta, order):
    """What `warn_if_unstable` warns, or None."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        theory.warn_if_unstable(core.ElasticRates(alpha, beta), p, order)
    assert len(caught) <= 1
    if not caught:
        return None
    assert caught[0].category is theory.StabilityWarning
    return str(caught[0].message)


def test_the_bound_of_three_workers_that_exchange_at_once():
    assert message_for(3, 0.49, 3 * 0.49, "jacobi") is None
    message = message_for(3, 0.5, 1.5, "jacobi")
    assert "moving_rate=0.5 (beta=1.5) with 3 workers" in message
    assert "strictly between 0 and 0.5" in message
    assert "nearest stable value is moving_rate=0.4995 (beta=1.49" in message


def rates_on_a_grid(p):
    free = itertools.product(ALPHAS[::5], BETAS[::2])
    return [*free, *((alpha, p * alpha) for alpha in ALPHAS[::5])]


@each_number_of_workers
@pytest.mark.parametrize("order", theory.ORDERS)
def test_a_warning_comes_exactly_where_the_rates_are_unstable(order, p):
    wrong = []
    for alpha, beta in rates_on_a_grid(p):
        radius = contraction(p, alpha, beta, order)
        warned = message_for(p, alpha, beta, order) is not None
        if abs(radius - 1) > CLOSE and warned != (radius > 1):
            wrong.append((float(alpha), float(beta), radius))
    assert not wrong


@each_number_of_workers
@pytest.mark.parametrize("order", theory.ORDERS)
def test_the_value_named_as_stable_is_stable(order, p):
    """The message is parsed as a reader would take it, digits and all."""
    wrong, parsed = [], 0
    for alpha, beta in rates_on_a_grid(p):
        message = message_for(p, alpha, beta, order)
        if message is None or "nor can any other moving rate" in message:
            continue
        fix = re.search(
            r"The nearest stable value is moving_rate=([-+.e\d]+?)"
            r"(?: \(beta=([-+.e\d]+?)\))?\.$",
            message,
        )
        assert fix, message
        new_alpha = float(fix[1])
        new_beta = float(fix[2]) if fix[2] else beta
        parsed += 1
        if not contraction(p, new_alpha, new_beta, order) < 1:
            wrong.append((float(alpha), float(beta), message))
        # Nothing stable lies nearer, by more than a hundredth.
        for nearer in np.arange(0.01, abs(new_alpha - alpha), 0.02):
            between = new_alpha + math.copysign(nearer, alpha - new_alpha)
            new_beta = p * between if fix[2] else beta
            if contraction(p, between, new_beta, order) < 1 - CLOSE:
                wrong.append((float(alpha), float(beta), message))
                break
    assert not wrong
    assert parsed


@pytest.mark.parametrize("beta", [2.0, 2.5])
def test_a_beta_that_no_moving_rate_goes_with(beta):
    message = message_for(3, 0.1, beta, "jacobi")
    assert "nor can any other moving rate with this beta" in message
    assert f"beta={beta:g}" in message and "Use beta=0.9" in message
    low, high = theory.stable_moving_rates(3, 0.9)
    assert low < 0.1 < high


@each_number_of_workers
@pytest.mark.parametrize("order", theory.ORDERS)
def test_workers_that_are_not_pulled(order, p):
    """With alpha = 0 what counts is the center alone, the last eigenvalue."""
    for beta in (0.0, 0.9, 1.9, 2.1, 2.9, 5.0, 17.0, 33.0):
        factor = theory.exchange_map(p, 0.0, beta, order)[-1, -1]
        message = message_for(p, 0.0, beta, order)
        assert (message is not None) == (abs(factor) > 1), (beta, factor)
        if message:
            assert f"beta={beta:g}" in message and "Use beta=0.9" in message


def test_the_warning_is_told_apart_from_others():
    assert issubclass(theory.StabilityWarning, UserWarning)
    with pytest.warns(theory.StabilityWarning):
        theory.warn_if_unstable(core.ElasticRates(3.0, 3.0), 1, "jacobi")
