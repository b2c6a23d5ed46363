"""The right-most root, by Lambert's function and without it."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import special

from tests.drawing import examples
from tf_elastic.theory import delay_equations

EXAMPLES = examples(40)


def residual(matrix, delay, root):
    """The least singular value of the characteristic matrix."""
    matrix = np.asarray(matrix)
    characteristic = root * np.eye(len(matrix)) + matrix * np.exp(-root * delay)
    scale = abs(root) + np.linalg.norm(matrix, 2) * abs(np.exp(-root * delay))
    return np.linalg.svd(characteristic, compute_uv=False)[-1] / scale


@EXAMPLES
@given(
    seed=st.integers(0, 10**6),
    n=st.integers(1, 5),
    delay=st.floats(0.01, 4.0),
    symmetric=st.booleans(),
)
def test_the_root_is_a_root_and_none_is_to_its_right(seed, n, delay, symmetric):
    matrix = np.random.default_rng(seed).normal(size=(n, n))
    if symmetric:
        matrix = matrix @ matrix.T / n
    root = delay_equations.rightmost_root(matrix, delay)
    assert residual(matrix, delay, root) < 1e-7
    numeric = delay_equations.rightmost_root_numeric(matrix, delay, degree=40)
    assert root == pytest.approx(numeric, rel=1e-7, abs=1e-7)


@EXAMPLES
@given(
    seed=st.integers(0, 10**6), n=st.integers(1, 4), delay=st.floats(0.01, 3)
)
def test_complex_matrices(seed, n, delay):
    generator = np.random.default_rng(seed)
    matrix = generator.normal(size=(n, n, 2)) @ [1, 1j]
    root = delay_equations.rightmost_root(matrix, delay)
    assert residual(matrix, delay, root) < 1e-7
    numeric = delay_equations.rightmost_root_numeric(matrix, delay, degree=40)
    assert root.real == pytest.approx(numeric.real, rel=1e-7, abs=1e-7)


def test_newton_finds_no_root_further_right():
    """Newton's method from a grid finds no root to the right of it."""
    start = np.linspace(-6, 3, 40)[:, None] + 1j * np.linspace(0, 30, 80)
    for product in (0.05, 0.3, 1 / np.e + 1e-3, 1.0, 1.5, 1.6, 4.0):
        beta = start.ravel().copy()
        with np.errstate(all="ignore"):
            for _ in range(60):
                decay = product * np.exp(-beta)
                beta -= (beta + decay) / (1 - decay)
            found = np.abs(beta + product * np.exp(-beta)) < 1e-10
        root = delay_equations.rightmost_root([[product]], 1.0)
        assert found.sum() > 1000
        assert beta[found].real.max() == pytest.approx(root.real, abs=1e-7)


@EXAMPLES
@given(
    seed=st.integers(0, 10**6), n=st.integers(1, 4), delay=st.floats(0.01, 9)
)
def test_no_other_branch_of_lambert_is_further_right(seed, n, delay):
    matrix = np.random.default_rng(seed).normal(size=(n, n))
    eigenvalues = np.linalg.eigvals(matrix).astype(complex)
    branches = special.lambertw(
        -eigenvalues[:, None] * delay, np.arange(-20, 21)
    )
    root = delay_equations.rightmost_root(matrix, delay)
    assert branches.real.max() / delay <= root.real + 1e-9


def test_known_roots():
    def root(h, delay):
        return delay_equations.rightmost_root([[h]], delay)

    assert root(2.0, 0.0) == -2.0
    # h tau = 1 / e: a double root at -1 / tau, the fastest there is.
    assert root(1.0, 1 / np.e) == pytest.approx(-np.e, rel=1e-6)
    # h tau = pi / 2: on the imaginary axis.
    assert root(2.0, np.pi / 4) == pytest.approx(2j, abs=1e-12)
    assert root(0.0, 1.0) == 0
    assert root(-1.0, 1.0) == pytest.approx(0.5671432904097838)
    # A delay that vanishes changes nothing.
    assert root(3.0, 1e-12) == pytest.approx(-3.0, rel=1e-9)


def test_the_fastest_delay_free_of_oscillation():
    """For any delay h = 1 / (e tau) is the best curvature."""
    curvatures = np.linspace(0.01, 1.5, 400)
    roots = delay_equations.rightmost_root(curvatures[:, None, None], 1.0).real
    assert abs(curvatures[np.argmin(roots)] - 1 / np.e) < 4e-3
    assert -1 <= roots.min() < -0.9


def test_many_matrices_and_delays_at_once():
    generator = np.random.default_rng(5)
    matrices = generator.normal(size=(4, 1, 3, 3))
    delays = np.array([0.0, 0.2, 1.0, 2.5, 0.01])
    roots = delay_equations.rightmost_root(matrices, delays)
    assert roots.shape == (4, 5) and roots.dtype == np.complex128
    for i, j in np.ndindex(roots.shape):
        one = delay_equations.rightmost_root(matrices[i, 0], delays[j])
        assert isinstance(one, np.complex128)
        assert one == roots[i, j]
    stable = delay_equations.is_stable(matrices, delays)
    assert stable.shape == (4, 5)
    assert delay_equations.critical_delay(matrices).shape == (4, 1)


def test_no_cell_of_symmetric_matrices_is_wrong():
    """Stable if and only if lambda_min > 0 and lambda_max tau < pi / 2."""
    rotation, _ = np.linalg.qr(np.random.default_rng(2).normal(size=(3, 3)))
    largest = np.round(np.arange(0.05, 6, 0.0513), 4)
    smallest = np.array([-0.3, 0.01, 0.4])
    delays = np.round(np.arange(0.0, 3, 0.0511), 4)
    spectra = np.stack(
        np.broadcast_arrays(smallest[:, None], 0.2 * largest, largest), -1
    )
    matrices = (rotation * spectra[..., None, :]) @ rotation.T
    low, high = spectra.min(axis=-1), spectra.max(axis=-1)
    expected = (low[..., None] > 0) & (high[..., None] * delays < np.pi / 2)
    stable = delay_equations.is_stable(matrices[:, :, None], delays)
    assert expected.any() and not expected.all()
    assert (stable == expected).all()
    critical = delay_equations.critical_delay(matrices)
    assert ((delays < critical[..., None]) == expected).all()
    positive = smallest > 0
    np.testing.assert_allclose(
        critical[positive], np.pi / 2 / high[positive], rtol=1e-12
    )


def test_no_cell_of_complex_spectra_is_wrong():
    """Against the numeric root, so against nothing that uses Lambert."""
    wrong, unstable = [], 0
    for angle in np.round(np.arange(-3.1, 3.2, 0.31), 3):
        for radius in (0.2, 1.0, 3.1):
            a, b = radius * np.cos(angle), radius * np.sin(angle)
            matrix = np.array([[a, -b], [b, a]])
            critical = delay_equations.critical_delay(matrix)
            for delay in (0.03, 0.11, 0.4, 1.3, 2.9):
                numeric = delay_equations.rightmost_root_numeric(
                    matrix, delay, degree=30
                )
                stable = delay_equations.is_stable(matrix, delay)
                unstable += numeric.real > 0
                if abs(numeric.real) > 1e-9 and not (
                    (delay < critical) == stable == (numeric.real < 0)
                ):
                    wrong.append((angle, radius, delay))
    assert not wrong
    assert 50 < unstable < 300


@pytest.mark.parametrize("curvature", [0.0, -1.0])
def test_what_no_delay_makes_stable(curvature):
    matrix = np.diag([1.0, curvature])
    assert delay_equations.critical_delay(matrix) == 0
    for delay in (0.0, 0.1, 1.0):
        assert not delay_equations.is_stable(matrix, delay)


def test_bad_arguments_are_refused():
    with pytest.raises(ValueError, match="`matrix` must be of shape"):
        delay_equations.rightmost_root([[1.0, 2.0]], 1.0)
    with pytest.raises(ValueError, match="`matrix` must be finite"):
        delay_equations.rightmost_root([[np.nan]], 1.0)
    with pytest.raises(ValueError, match="`delay` must be at least 0"):
        delay_equations.is_stable([[1.0]], -0.1)
    with pytest.raises(ValueError, match="`delay` must be positive"):
        delay_equations.rightmost_root_numeric([[1.0]], 0.0)
    with pytest.raises(ValueError, match="`degree` must be a whole number"):
        delay_equations.rightmost_root_numeric([[1.0]], 1.0, degree=1)
