"""A tree's timeline on a quadratic: what its times alone do to noise."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from tf_elastic import core
from tf_elastic.core import one_way
from tf_elastic.core.rules.base import CENTER
from tf_elastic.timeline.virtual import moves
from tf_elastic.timeline.virtual.tree_engine import TreeTimeline


def root_on_quadratic(
    timeline: TreeTimeline,
    times: Sequence[float],
    *,
    learning_rate: float,
    moving_rate: float,
    runs: int,
    seed: int,
    start: float = 0.0,
    noise_std: float = 1.0,
    curvature: float = 1.0,
) -> NDArray[np.float64]:
    r"""Follows a timeline, move by move, in many runs at once.

    A worker's gradient is :math:`h x - \xi` with independent noise. Where all
    steps are equal and messages arrive within one, parents' first, it is the
    model of `theory.tree` with a delay of one step.

    Args:
        timeline: of the tree.
        times: in order, seconds, when the root is looked at: after all that
            has happened until then.
        learning_rate: :math:`\eta`.
        moving_rate: :math:`\alpha`, of all nodes.
        runs: how many, at least 1.
        seed: of the noise.
        start: where all begin.
        noise_std: :math:`\sigma`, of a gradient.
        curvature: h.

    Returns:
        Shape (times, runs).

    Reference:
        Zhang (2016), Algorithm 6.
    """
    nodes, generator = timeline.nodes, np.random.default_rng(seed)
    rule, rates = timeline.workload.rule, one_way.rates(moving_rate)
    x = np.full((len(nodes), runs), float(start))
    rows: dict[int, NDArray[np.float64]] = {}
    found: list[NDArray[np.float64]] = []
    for move in timeline.moves():
        while len(found) < len(times) and move.time > times[len(found)]:
            found.append(x[nodes.root].copy())
        if len(found) == len(times):
            break
        kind, i = move.kind, move.worker
        if kind == moves.STEP:
            noise = noise_std * generator.standard_normal(runs)
            x[i] = core.sgd_step(x[i], curvature * x[i] - noise, learning_rate)
        elif kind in _SENDS:
            rows[move.row] = x[i].copy()
        elif kind in _FOLLOWS:
            slots = {CENTER: x[i]}
            moved = one_way.from_parent(rule, rows[move.row], slots, rates)
            x[i] = moved[CENTER]
        elif kind == moves.JOIN:
            x[i] = x[nodes.parent[i]]
    return np.stack(found)


_SENDS = (moves.SEND, moves.NODE_UP, moves.NODE_DOWN, moves.ROOT_DOWN)
_FOLLOWS = (
    *(moves.FOLLOW, moves.NODE_FROM_PARENT),
    *(moves.NODE_FROM_CHILD, moves.ROOT_FROM_CHILD),
)
