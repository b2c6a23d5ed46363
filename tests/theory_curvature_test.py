"""The largest eigenvalue from products, against the whole spectrum."""

import numpy as np
import pytest
from hypothesis import given

from tests.drawing import examples
from tests.theory_support import seeds
from tests.theory_support import whole
from tf_elastic.theory import curvature


def symmetric(seed, size, spread=3.0):
    """A symmetric matrix whose eigenvalues are of both signs."""
    rng = np.random.default_rng(seed)
    vectors, _ = np.linalg.qr(rng.normal(size=(size, size)))
    values = np.sort(rng.normal(size=size) * spread)
    return vectors * values @ vectors.T


@examples(25)
@given(seeds, whole(1, 60))
def test_it_is_the_rightmost_of_the_spectrum(seed, size):
    matrix = symmetric(seed, size)
    found = curvature.largest_eigenvalue(
        lambda v: matrix @ v, size, tolerance=1e-9, max_products=10_000
    )
    largest = np.linalg.eigvalsh(matrix)[-1]
    assert found.eigenvalue == pytest.approx(largest, rel=1e-8, abs=1e-10)
    assert np.linalg.norm(found.vector) == pytest.approx(1)
    error = np.linalg.norm(
        matrix @ found.vector - found.eigenvalue * found.vector
    )
    assert found.residual == pytest.approx(error, rel=1e-6, abs=1e-12)


def test_a_larger_negative_curvature_does_not_count():
    diagonal = np.append(-100.0, np.linspace(0, 1, 99))
    found = curvature.largest_eigenvalue(
        lambda v: diagonal * v, 100, tolerance=1e-8
    )
    assert found.eigenvalue == pytest.approx(1.0, rel=1e-6)


@pytest.mark.parametrize("tolerance", [1e-1, 1e-2, 1e-4])
def test_the_residual_bounds_the_error_and_a_loose_one_is_cheaper(tolerance):
    diagonal = np.random.default_rng(0).gamma(0.3, size=2000)
    found = curvature.largest_eigenvalue(
        lambda v: diagonal * v, 2000, tolerance=tolerance
    )
    assert found.residual < 1.5 * tolerance * found.eigenvalue
    assert np.abs(diagonal - found.eigenvalue).min() <= found.residual + 1e-12
    strict = curvature.largest_eigenvalue(
        lambda v: diagonal * v, 2000, tolerance=1e-8
    )
    assert found.products < strict.products


@pytest.mark.parametrize("most", [1, 5, 30])
def test_it_gives_up_with_a_lower_bound(most):
    diagonal = np.linspace(0, 1, 3000)  # all alike at its end
    calls = []

    def product(vector):
        calls.append(1)
        return diagonal * vector

    found = curvature.largest_eigenvalue(
        product, 3000, tolerance=1e-14, max_products=most
    )
    assert len(calls) == found.products <= most + 1
    assert found.eigenvalue <= 1.0
    assert found.residual > 1e-14


def test_the_same_seed_gives_the_same():
    matrix = symmetric(5, 40)
    first, second, other = (
        curvature.largest_eigenvalue(lambda v: matrix @ v, 40, seed=seed)
        for seed in (1, 1, 2)
    )
    np.testing.assert_array_equal(first.vector, second.vector)
    assert np.abs(first.vector - other.vector).max() > 0


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"size": 0}, "`size` must be an integer of at least 1"),
        ({"tolerance": 0.0}, "`tolerance` must be positive"),
        ({"max_products": 0}, "`max_products` must be an integer"),
        ({"seed": -1}, "`seed` must be an integer"),
        ({"product": lambda v: v[:2]}, r"of shape \(4,\)"),
        ({"product": lambda v: v * np.nan}, "must give finite numbers"),
    ],
)
def test_wrong_arguments(changed, message):
    arguments = {"product": lambda v: v, "size": 4} | changed
    with pytest.raises(ValueError, match=message):
        curvature.largest_eigenvalue(**arguments)
