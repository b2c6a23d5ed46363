r"""EASGD Tree on a quadratic, which thesis, section 6.1, leaves open.

Algorithm 6 with one clock for all nodes. At step t a node sends its parameter
to its parent if :math:`\tau_{up}` divides t, and to its d children if
:math:`\tau_{down}` does. Then it averages what has arrived, its parent's first
and its children's one after another, each with the moving rate
:math:`\alpha`, and a leaf takes a gradient step. A message that is sent at
step t holds the node as that step finds it, and arrives `delay_steps` later,
0 for within the step.

With a gradient :math:`h x - \xi` that is a linear map which repeats itself
after the least common multiple T of the periods. It has a node for each row,
but only as many different ones as the tree has levels:

- all nodes of a level obey the same equation, and a parent sees its children
  through one weighted sum, :math:`\sum_j \alpha (1 - \alpha)^{d - j} x^j`, the
  last to arrive weighing most. So these weighted means of the levels are
  closed: the *chain* of depth + 1 variables, the root first.
- what is left are differences among siblings, which their parent does not see:
  chains that begin at a lower level, below a parent that stays at 0.

All of the spectrum follows from chains, and so does the variance of the root,
for a tree of any size: see `moments`. `simulation` has the map of
all nodes.

With :math:`0 < \alpha \le 1` and :math:`0 < \eta h < 2` the tree is stable,
whatever its size, periods and delay: no step makes the largest absolute value
of all nodes and messages grow, and the leaves' steps shrink it. What diverges
with such rates is not explained by the averaging.
"""

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from tf_elastic.theory import _checks


class Tree(NamedTuple):
    """A d-ary tree and when its nodes send, level by level from the root.

    Use `multi_scale_tree` or `up_down_tree` for the schemes of the thesis.
    """

    degree: int  # d, children of each inner node
    up_periods: tuple[int, ...]  # of the nodes of levels 1, 2, ..., depth
    down_periods: tuple[int, ...]  # of the nodes of levels 0, ..., depth - 1

    @property
    def depth(self) -> int:
        """How many levels there are below the root."""
        return len(self.up_periods)

    @property
    def leaves(self) -> int:
        """p, the number of workers that take gradient steps."""
        return int(self.degree**self.depth)

    @property
    def period(self) -> int:
        """T, after which the steps repeat themselves."""
        return math.lcm(*self.up_periods, *self.down_periods)


class Spectrum(NamedTuple):
    """Eigenvalues of the map over one period T, the largest first."""

    eigenvalues: NDArray[np.complex128]  # each once, shape (n,)
    copies: NDArray[np.int64]  # how often the full map has each, shape (n,)


def multi_scale_tree(
    *, degree: int, depth: int, leaf_period: int, upper_period: int
) -> Tree:
    r"""The first scheme: fast at the bottom, slow above.

    Args:
        degree: d, at least 1.
        depth: levels below the root, at least 1.
        leaf_period: :math:`\tau_1`, between the leaves and their parents, both
            ways, in steps.
        upper_period: :math:`\tau_2`, between all other nodes.

    Returns:
        `Tree`.

    Raises:
        ValueError: an argument is out of its range.

    Example:

    >>> multi_scale_tree(degree=16, depth=2, leaf_period=10, upper_period=100)
    Tree(degree=16, up_periods=(100, 10), down_periods=(100, 10))

    Reference:
        Zhang (2016), section 6.1.1, first scheme.
    """
    _checks.whole(
        degree=degree,
        depth=depth,
        leaf_period=leaf_period,
        upper_period=upper_period,
    )
    periods = (*[upper_period] * (depth - 1), leaf_period)
    return Tree(degree, periods, periods)


def up_down_tree(
    *, degree: int, depth: int, up_period: int, down_period: int
) -> Tree:
    r"""The second scheme: often upward, seldom downward.

    Args:
        degree: d, at least 1.
        depth: levels below the root, at least 1.
        up_period: :math:`\tau_u`, of every node but the root, in steps.
        down_period: :math:`\tau_d`, of every node but the leaves.

    Returns:
        `Tree`.

    Raises:
        ValueError: an argument is out of its range.

    Example:

    >>> up_down_tree(degree=16, depth=2, up_period=8, down_period=80)
    Tree(degree=16, up_periods=(8, 8), down_periods=(80, 80))

    Reference:
        Zhang (2016), section 6.1.1, second scheme.
    """
    _checks.whole(
        degree=degree,
        depth=depth,
        up_period=up_period,
        down_period=down_period,
    )
    return Tree(degree, (up_period,) * depth, (down_period,) * depth)


def effective_leaves(tree: Tree, *, moving_rate: float) -> float:
    r"""How many leaves the root's average is worth.

    The children that arrive last weigh most, so the noise of d children is
    averaged less than by d:

    .. math:: d_e = \frac{(\sum_j w_j)^2}{\sum_j w_j^2},
        \qquad w_j = \alpha (1 - \alpha)^{d - j}

    for each level, and :math:`d_e^{depth}` for the tree.

    Args:
        tree: the tree; its periods do not matter.
        moving_rate: :math:`\alpha` in (0, 2).

    Returns:
        From 1 (:math:`\alpha = 1`: the last child is all) to p
        (:math:`\alpha \to 0`).

    Raises:
        ValueError: `moving_rate` is outside of (0, 2).

    Example:

    >>> tree = up_down_tree(degree=16, depth=2, up_period=8, down_period=80)
    >>> print(f"{effective_leaves(tree, moving_rate=0.9 / 17):.1f} of 256")
    226.9 of 256

    Reference:
        Zhang (2016), Algorithm 6, the order of its arrivals.
    """
    _checks.require(0 < moving_rate < 2, "in (0, 2)", moving_rate=moving_rate)
    weights = moving_rate * (1 - moving_rate) ** np.arange(tree.degree)
    each = weights.sum() ** 2 / np.sum(weights**2)
    return float(each**tree.depth)


def chain_step_maps(
    tree: Tree,
    *,
    learning_rate: float,
    moving_rate: float,
    curvature: float = 1.0,
    delay_steps: int = 0,
    top: int = 0,
) -> NDArray[np.float64]:
    r"""The map of each step of a period on the levels' weighted means.

    Args:
        tree: the tree.
        learning_rate: :math:`\eta > 0`.
        moving_rate: :math:`\alpha` in (0, 2).
        curvature: h > 0.
        delay_steps: steps from sending to arrival, at least 0.
        top: the level at which the chain begins; its parent, if it has one,
            is at 0.

    Returns:
        Shape (T, n, n), for t = 0, ..., T - 1. With m = depth + 1 - top levels
        n is m (1 + delay_steps): the levels now, from `top` to the leaves,
        then the levels one step ago, and so on.

    Raises:
        ValueError: an argument is out of its range.

    Example:

    >>> tree = up_down_tree(degree=2, depth=1, up_period=1, down_period=2)
    >>> chain_step_maps(tree, learning_rate=0.5, moving_rate=0.5)
    array([[[0.25, 0.75],
            [0.25, 0.25]],
           [[0.25, 0.75],
            [0.  , 0.5 ]]])

    Reference:
        Zhang (2016), Algorithm 6.
    """
    _check(tree, learning_rate, moving_rate, curvature, delay_steps)
    _checks.require(
        0 <= top <= tree.depth, f"from 0 to the depth {tree.depth}", top=top
    )
    levels = tree.depth + 1 - top
    size = levels * (1 + delay_steps)
    maps = np.zeros((tree.period, size, size))
    # What was the state becomes the history.
    maps[:, levels:, :-levels] = np.eye(size - levels)
    # A message of level l is the level as it was `delay_steps` ago.
    message = delay_steps * levels - top
    all_children = (1 - moving_rate) ** tree.degree
    for t in range(tree.period):
        sent = t - delay_steps
        for level in range(top, tree.depth + 1):
            row = maps[t, level - top]
            row[level - top] = 1.0
            if level > 0 and sent % tree.down_periods[level - 1] == 0:
                row *= 1 - moving_rate
                if level > top:
                    row[message + level - 1] += moving_rate
            if level < tree.depth and sent % tree.up_periods[level] == 0:
                row *= all_children
                row[message + level + 1] += 1 - all_children
            if level == tree.depth:
                row *= 1 - learning_rate * curvature
    return maps


def over_a_period(step_maps: NDArray[np.float64]) -> NDArray[np.float64]:
    """The map over a whole period.

    Args:
        step_maps: the maps of its steps, shape (T, n, n): of
            `chain_step_maps`, or of all nodes.

    Returns:
        Their product, the first applied first, shape (n, n).
    """
    product = np.eye(step_maps.shape[1])
    for step in step_maps:
        product = step @ product
    return product


def spectrum(
    tree: Tree,
    *,
    learning_rate: float,
    moving_rate: float,
    curvature: float = 1.0,
    delay_steps: int = 0,
) -> Spectrum:
    r"""The spectrum of the map of all nodes over one period.

    Those of the chain from the root come once, those of the chain that begins
    at level l as often as there are independent differences among siblings,
    :math:`d^l - d^{l - 1}`.

    Args:
        tree: the tree.
        learning_rate: :math:`\eta > 0`.
        moving_rate: :math:`\alpha` in (0, 2).
        curvature: h > 0.
        delay_steps: steps from sending to arrival, at least 0.

    Returns:
        `Spectrum`. The rate of convergence for each step is the T-th root of
        the first absolute value.

    Raises:
        ValueError: an argument is out of its range.

    Example:

    >>> tree = up_down_tree(degree=2, depth=1, up_period=1, down_period=2)
    >>> values, copies = spectrum(tree, learning_rate=0.5, moving_rate=0.5)
    >>> print(values.real.round(4), copies)
    [ 0.4128  0.125  -0.0378] [1 1 1]

    Reference:
        Zhang (2016), Algorithm 6; the spectrum is not in the thesis.
    """
    eigenvalues, copies = [], []
    for top in range(tree.depth + 1):
        matrix = over_a_period(
            chain_step_maps(
                tree,
                learning_rate=learning_rate,
                moving_rate=moving_rate,
                curvature=curvature,
                delay_steps=delay_steps,
                top=top,
            )
        )
        above = tree.degree ** (top - 1) if top else 0
        differences = tree.degree**top - above
        if differences:
            eigenvalues.append(np.linalg.eigvals(matrix).astype(complex))
            copies.append(np.full(len(matrix), differences, np.int64))
    values, counts = np.concatenate(eigenvalues), np.concatenate(copies)
    order = np.argsort(-np.abs(values), kind="stable")
    return Spectrum(values[order], counts[order])


def _check(
    tree: Tree,
    learning_rate: float,
    moving_rate: float,
    curvature: float,
    delay_steps: int,
) -> None:
    _checks.require(0 < moving_rate < 2, "in (0, 2)", moving_rate=moving_rate)
    _checks.positive(learning_rate=learning_rate, curvature=curvature)
    _checks.whole(0, delay_steps=delay_steps)
    _checks.whole(
        degree=tree.degree,
        up_periods=tree.up_periods,
        down_periods=tree.down_periods,
    )
    _checks.require(
        0 < len(tree.up_periods) == len(tree.down_periods),
        "as many up_periods as down_periods, at least one",
        tree=tree,
    )
