r"""The root of EASGD Tree with additive noise: how far it fluctuates.

The gradient at a leaf is :math:`h x - \xi` with independent noise of standard
deviation :math:`\sigma` for each leaf and step; see `tree` for the model.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import linalg

from tf_elastic.theory import _checks
from tf_elastic.theory.tree import chains


class RootMoments(NamedTuple):
    """The root over time, from the start on."""

    mean: NDArray[np.float64]  # shape (steps + 1,)
    variance: NDArray[np.float64]  # shape (steps + 1,)


def root_variance(
    tree: chains.Tree,
    *,
    learning_rate: float,
    moving_rate: float,
    noise_std: float = 1.0,
    curvature: float = 1.0,
    delay_steps: int = 0,
) -> NDArray[np.float64]:
    r"""The variance of the root after a long time.

    The chain's covariance C at the start of a period solves
    :math:`C = F C F^T + Q` with F the map and Q the noise of a period; from
    there it is carried through the period's steps. The noise of the chain's
    last variable is that of a leaf, divided by `effective_leaves`.

    Args:
        tree: the tree.
        learning_rate: :math:`\eta > 0`.
        moving_rate: :math:`\alpha` in (0, 2).
        noise_std: :math:`\sigma \ge 0`, of a leaf's gradient.
        curvature: h > 0.
        delay_steps: steps from sending to arrival, at least 0.

    Returns:
        Shape (T,): at the times t = 0, ..., T - 1 modulo T.

    Raises:
        ValueError: an argument is out of its range, or the tree diverges.

    Example:

    >>> tree = chains.up_down_tree(
    ...     degree=2, depth=1, up_period=1, down_period=1
    ... )
    >>> print(root_variance(tree, learning_rate=0.5, moving_rate=0.5))
    [0.1]

    Reference:
        Zhang (2016), Algorithm 6; the variance is not in the thesis.
    """
    maps = chains.chain_step_maps(
        tree,
        learning_rate=learning_rate,
        moving_rate=moving_rate,
        curvature=curvature,
        delay_steps=delay_steps,
    )
    noise = _chain_noise(tree, learning_rate, moving_rate, noise_std, maps)
    over = chains.over_a_period(maps)
    # Of all nodes: siblings may part while their parent does not see it.
    eigenvalues, _ = chains.spectrum(
        tree,
        learning_rate=learning_rate,
        moving_rate=moving_rate,
        curvature=curvature,
        delay_steps=delay_steps,
    )
    if abs(eigenvalues[0]) >= 1:
        raise ValueError(
            "`learning_rate` and `moving_rate` must be stable. Received: "
            f"learning_rate={learning_rate}, moving_rate={moving_rate}, "
            f"curvature={curvature}."
        )
    of_a_period = np.zeros_like(over)
    for step in maps:
        of_a_period = step @ of_a_period @ step.T + noise
    covariance = linalg.solve_discrete_lyapunov(over, of_a_period)
    variances = []
    for step in maps:
        variances.append(covariance[0, 0])
        covariance = step @ covariance @ step.T + noise
    return np.asarray(variances, np.float64)


def root_moments(
    tree: chains.Tree,
    *,
    learning_rate: float,
    moving_rate: float,
    steps: int,
    start: float = 0.0,
    noise_std: float = 1.0,
    curvature: float = 1.0,
    delay_steps: int = 0,
) -> RootMoments:
    r"""Mean and variance of the root from the start on.

    Args:
        tree: the tree.
        learning_rate: :math:`\eta > 0`.
        moving_rate: :math:`\alpha` in (0, 2).
        steps: how many, at least 0.
        start: where all nodes begin; messages sent before are of it too.
        noise_std: :math:`\sigma \ge 0`, of a leaf's gradient.
        curvature: h > 0.
        delay_steps: steps from sending to arrival, at least 0.

    Returns:
        `RootMoments`.

    Raises:
        ValueError: an argument is out of its range.

    Example:

    >>> tree = chains.up_down_tree(
    ...     degree=2, depth=1, up_period=1, down_period=1
    ... )
    >>> root_moments(
    ...     tree, learning_rate=0.5, moving_rate=0.5, steps=2, start=1.0
    ... ).mean
    array([1.   , 1.   , 0.625])

    Reference:
        Zhang (2016), Algorithm 6.
    """
    _checks.whole(0, steps=steps)
    maps = chains.chain_step_maps(
        tree,
        learning_rate=learning_rate,
        moving_rate=moving_rate,
        curvature=curvature,
        delay_steps=delay_steps,
    )
    noise = _chain_noise(tree, learning_rate, moving_rate, noise_std, maps)
    mean = np.full(maps.shape[1], float(start))
    covariance = np.zeros(maps.shape[1:])
    means, variances = [mean[0]], [0.0]
    for t in range(steps):
        step = maps[t % tree.period]
        mean = step @ mean
        covariance = step @ covariance @ step.T + noise
        means.append(mean[0])
        variances.append(covariance[0, 0])
    return RootMoments(np.asarray(means), np.asarray(variances))


def _chain_noise(
    tree: chains.Tree,
    learning_rate: float,
    moving_rate: float,
    noise_std: float,
    maps: NDArray[np.float64],
) -> NDArray[np.float64]:
    """The covariance that a step's noise adds to the chain."""
    _checks.at_least("noise_std", noise_std, 0)
    added = np.zeros(maps.shape[1:])
    leaves = chains.effective_leaves(tree, moving_rate=moving_rate)
    added[tree.depth, tree.depth] = (learning_rate * noise_std) ** 2 / leaves
    return added
