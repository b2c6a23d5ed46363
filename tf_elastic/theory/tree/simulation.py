r"""EASGD Tree node by node: the map of all nodes, and a simulator.

Both run the same step, Algorithm 6 with the clock that `tree` describes; on
the unit vectors of all nodes it gives the map.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from tf_elastic import core
from tf_elastic.theory import _checks
from tf_elastic.theory.tree import chains

# The nodes of each level, the root's first; children of a parent adjoin each
# other. Shapes (d^level, columns).
Levels = Sequence[NDArray[np.float64]]


def full_step_maps(
    tree: chains.Tree,
    *,
    learning_rate: float,
    moving_rate: float,
    curvature: float = 1.0,
    delay_steps: int = 0,
) -> NDArray[np.float64]:
    r"""The map of each step of a period on all nodes.

    For small trees: the matrices have a row for every node.

    Args:
        tree: the tree.
        learning_rate: :math:`\eta`.
        moving_rate: :math:`\alpha`.
        curvature: h.
        delay_steps: steps from sending to arrival, at least 0.

    Returns:
        Shape (T, n, n), for t = 0, ..., T - 1, where n is the number of nodes
        times 1 + delay_steps: the root, its children, and so on down to the
        leaves, then the same one step ago, and so on.

    Example:

    >>> tree = chains.up_down_tree(
    ...     degree=2, depth=1, up_period=1, down_period=1
    ... )
    >>> full_step_maps(tree, learning_rate=0.5, moving_rate=0.5)
    array([[[0.25, 0.25, 0.5 ],
            [0.25, 0.25, 0.  ],
            [0.25, 0.  , 0.25]]])

    Reference:
        Zhang (2016), Algorithm 6.
    """
    ends = np.cumsum([tree.degree**level for level in range(tree.depth + 1)])
    nodes = ends[-1]
    states = np.eye(nodes * (1 + delay_steps))
    levels = np.split(states[:nodes], ends[:-1])
    messages = np.split(states[delay_steps * nodes :], ends[:-1])
    maps = []
    for t in range(tree.period):
        after = _step(
            tree,
            t - delay_steps,
            levels,
            messages,
            learning_rate,
            moving_rate,
            curvature,
            np.zeros_like(levels[-1]),
        )
        maps.append(np.concatenate([*after, states[: delay_steps * nodes]]))
    return np.stack(maps)


def simulate(
    tree: chains.Tree,
    *,
    learning_rate: float,
    moving_rate: float,
    steps: int,
    runs: int,
    seed: int,
    start: float = 0.0,
    noise_std: float = 1.0,
    curvature: float = 1.0,
    delay_steps: int = 0,
) -> NDArray[np.float64]:
    r"""Runs EASGD Tree on a quadratic, all runs at once.

    Args:
        tree: the tree.
        learning_rate: :math:`\eta`.
        moving_rate: :math:`\alpha`.
        steps: how many, at least 0.
        runs: how many independent runs, at least 1.
        seed: of the noise.
        start: where all nodes begin; messages sent before are of it too.
        noise_std: :math:`\sigma \ge 0`, of a leaf's gradient.
        curvature: h.
        delay_steps: steps from sending to arrival, at least 0.

    Returns:
        The root, shape (steps + 1, runs).

    Raises:
        ValueError: an argument is out of its range.

    Reference:
        Zhang (2016), Algorithm 6.
    """
    _checks.whole(runs=runs)
    _checks.whole(0, steps=steps, delay_steps=delay_steps)
    _checks.at_least("noise_std", noise_std, 0)
    generator = np.random.default_rng(seed)
    levels: Levels = [
        np.full((tree.degree**level, runs), float(start))
        for level in range(tree.depth + 1)
    ]
    # The last is now, the first what arrives now.
    history = [levels] * (delay_steps + 1)
    roots = [levels[0][0]]
    for t in range(steps):
        noise = noise_std * generator.standard_normal(levels[-1].shape)
        levels = _step(
            tree,
            t - delay_steps,
            history[-1],
            history[0],
            learning_rate,
            moving_rate,
            curvature,
            noise,
        )
        history = [*history[1:], levels]
        roots.append(levels[0][0])
    return np.stack(roots)


def _step(
    tree: chains.Tree,
    sent: int,
    levels: Levels,
    messages: Levels,
    learning_rate: float,
    moving_rate: float,
    curvature: float,
    noise: NDArray[np.float64],
) -> list[NDArray[np.float64]]:
    """One turn of Algorithm 6's loop, for all nodes.

    Args:
        tree: the tree.
        sent: the step at which the messages that arrive now were sent.
        levels: the nodes as the step finds them.
        messages: the nodes as they were when the messages were sent.
        learning_rate: eta.
        moving_rate: alpha.
        curvature: h.
        noise: of the leaves' gradients.

    Returns:
        The nodes after the step.
    """
    after = []
    for level, nodes in enumerate(levels):
        if level > 0 and sent % tree.down_periods[level - 1] == 0:
            parents = np.repeat(messages[level - 1], tree.degree, axis=0)
            nodes = core.pull(
                nodes, core.elastic_difference(nodes, parents), moving_rate
            )
        if level < tree.depth and sent % tree.up_periods[level] == 0:
            for child in range(tree.degree):
                arrival = messages[level + 1][child :: tree.degree]
                nodes = core.pull(
                    nodes, core.elastic_difference(nodes, arrival), moving_rate
                )
        if level == tree.depth:
            nodes = core.sgd_step(
                nodes, curvature * nodes - noise, learning_rate
            )
        after.append(nodes)
    return after
