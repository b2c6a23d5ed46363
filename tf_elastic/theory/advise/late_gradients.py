r"""Gradients that come late, with momentum at the center.

A constant delay has a matrix. Delays that are drawn anew at each update have
one for the mean, and one for the mean squares, which is what counts: where
these shrink nearly every run converges.
"""

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import linalg

from tf_elastic.theory._spectra import spectral_radii
from tf_elastic.theory.advise.setting import Setting

Array = NDArray[np.float64]

_DENSE = 16  # numbers in a state up to which the whole map is quicker


def radii(setting: Setting, curvatures: Array) -> Array:
    """The factor of an update of the center.

    Args:
        setting: one, or n at once, whose rule pushes gradients.
        curvatures: h, positive, shape (m,).

    Returns:
        Shape (n, m): the spectral radius of an update; of delays that are
        drawn, the root of the mean squares'.
    """
    eta, mu = np.broadcast_arrays(
        np.atleast_1d(np.asarray(setting.learning_rate, np.float64)),
        np.atleast_1d(np.asarray(setting.momentum, np.float64)),
    )
    if setting.steady:
        radius = [
            spectral_radii(
                _update_matrix(setting, curvatures, eta, mu, delay, delay)
            )
            for delay in setting.delays
        ]
        return np.asarray(np.max(radius, axis=0))
    longest = max(setting.delays)
    matrices = np.stack(
        [
            _update_matrix(setting, curvatures, eta, mu, delay, longest)
            for delay in setting.delays
        ]
    )
    shape = matrices.shape[1:3]
    return np.array(
        [
            _mean_square_radius(
                matrices[(slice(None), *cell, 0)], setting.weights
            )
            for cell in np.ndindex(shape)
        ]
    ).reshape(shape)


def _update_matrix(
    setting: Setting,
    curvatures: Array,
    eta: Array,
    mu: Array,
    delay: int,
    longest: int,
) -> Array:
    """On the center and its past; shape (n, m, longest + 2, longest + 2)."""
    size = longest + 2
    past = np.eye(size)  # the center k updates ago, k = 0, 1, ...
    rule = setting.rule.center_rule
    rates = {
        "learning_rate": eta[:, None, None],
        "momentum": mu[:, None, None],
    }
    read = {"center": past[delay], "velocity": past[delay] - past[delay + 1]}
    taken = rule.apply(
        {"center": past[0], "velocity": past[0] - past[1]},
        curvatures[None, :, None] * rule.begin(read, rates),
        rates,
    )
    matrix = np.zeros((len(eta), len(curvatures), size, size))
    matrix[..., 0, :] = taken["center"]
    matrix[..., 1:, :] = past[:-1]
    return matrix


def _mean_square_radius(rows: Array, weights: tuple[float, ...]) -> float:
    r"""The root of the factor of the mean squares under drawn delays.

    .. math:: X \to \sum_d w_d M_d X M_d^\top

    in which all :math:`M_d` differ in their first rows only.

    Args:
        rows: these, shape (delays, n).
        weights: w.
    """
    size = rows.shape[-1]
    if size <= _DENSE:
        return _dense_mean_square_radius(rows, weights)
    mean = np.average(rows, axis=0, weights=weights)
    weighted = rows * np.asarray(weights)[:, None]

    def update(flat: Array) -> Array:
        before = flat.reshape(size, size)
        after = np.empty((size, size))
        after[1:, 1:] = before[:-1, :-1]
        after[0, 1:] = mean @ before[:, :-1]
        after[1:, 0] = before[:-1] @ mean
        after[0, 0] = np.sum((weighted @ before) * rows)
        return after.ravel()

    operator = linalg.LinearOperator(
        (size**2, size**2), matvec=update, dtype=np.float64
    )
    [largest] = linalg.eigs(
        operator,
        k=1,
        v0=np.eye(size).ravel(),
        tol=1e-9,
        maxiter=100 * size**2,
        return_eigenvectors=False,
    )
    return float(np.sqrt(abs(largest)))


def _dense_mean_square_radius(rows: Array, weights: tuple[float, ...]) -> float:
    """The same by the whole map, of size^2 rows."""
    steps = np.tile(np.eye(rows.shape[-1], k=-1), (len(rows), 1, 1))
    steps[:, 0] = rows
    size = rows.shape[-1] ** 2
    products = np.einsum("d,dij,dkl->ikjl", np.asarray(weights), steps, steps)
    return float(np.sqrt(spectral_radii(products.reshape(size, size))))
