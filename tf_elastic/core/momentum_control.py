r"""Which momentum a center can have, given how late its gradients are.

`default_momentum` knows but the number of workers. Where more is known there
are two answers. The open loop takes the measured staleness and a bound on it,
`admissible_momentum`. The closed loop takes no bound: it measures the momentum
that the center's path shows, `total_momentum`, and moves the center's own
until that is the one wanted, `feedback_momentum`.
"""

import numpy as np
from numpy.typing import ArrayLike
from numpy.typing import NDArray

Array = NDArray[np.float64]

# Steps of fewer roundings of the center than this say nothing.
_ROUNDINGS = 16

_MOMENTUM_OF_ONE = 0.9


def default_momentum(num_workers: int) -> float:
    r"""The center's momentum where none is given, :math:`0.9 / p`.

    Gradients that come late act as a momentum of their own, which grows with
    the number of workers: so what is added is less, the more there are.

    Args:
        num_workers: p, at least 1; equal ones.

    Returns:
        :math:`\mu`, in (0, 0.9].

    Example:

    >>> default_momentum(1), default_momentum(4)
    (0.9, 0.225)
    """
    return _MOMENTUM_OF_ONE / num_workers


def admissible_momentum(
    staleness: float,
    learning_rate: float,
    constant: float,
    max_momentum: float = 1.0,
) -> float:
    r"""The largest momentum that a staleness leaves.

    .. math::
        \tau \le C \frac{(1 - \mu)^2}{\sqrt\eta}
        \quad\Longleftrightarrow\quad
        \mu \le 1 - \sqrt{\tau \sqrt\eta / C},

    and not outside of [0, `max_momentum`].

    Args:
        staleness: :math:`\tau \ge 0`: the updates by others between a
            worker's read and its push. For random ones their mean is enough
            (section 4 of the paper).
        learning_rate: :math:`\eta \ge 0`.
        constant: :math:`C > 0`. In the paper it is
            :math:`1 / (\lambda_1 + C_d)`, a curvature; nobody knows it
            beforehand.
        max_momentum: what is never exceeded, in [0, 1].

    Returns:
        :math:`\mu`.

    Example:

    >>> admissible_momentum(7, learning_rate=0.04, constant=5.6)
    0.5
    >>> admissible_momentum(0, 0.04, 5.6, max_momentum=0.9)
    0.9
    >>> admissible_momentum(100, 0.04, 5.6)
    0.0

    Reference:
        Liu et al. (2018), Remark 3.11 with gamma towards 0.
    """
    room = 1 - (staleness * learning_rate**0.5 / constant) ** 0.5
    return float(min(max(room, 0.0), max_momentum))


def plain_path(
    start: ArrayLike, lookaheads: ArrayLike, momentum: float
) -> Array:
    r"""The centers behind a row of look-ahead points.

    .. math:: y_j = \tilde x_j + \delta (\tilde x_j - \tilde x_{j-1})
        \quad\Longrightarrow\quad
        \tilde x_j = (y_j + \delta \tilde x_{j-1}) / (1 + \delta)

    Errors shrink along the row, by :math:`\delta / (1 + \delta)` at each.

    Args:
        start: :math:`\tilde x_0`, shape (d,).
        lookaheads: :math:`y_1, \dots, y_n`, shape (n, d).
        momentum: :math:`\delta`.

    Returns:
        :math:`\tilde x_1, \dots, \tilde x_n`, shape (n, d).

    Example:

    >>> plain_path([0.0], [[1.5], [2.5]], momentum=0.5).tolist()
    [[1.0], [2.0]]

    Reference:
        Zhang (2016), Algorithm 5.
    """
    center = np.asarray(start, np.float64)
    path = []
    for lookahead in np.asarray(lookaheads, np.float64):
        center = (lookahead + momentum * center) / (1 + momentum)
        path.append(center)
    return np.stack(path)


def total_momentum(
    path: ArrayLike,
    gradients: ArrayLike,
    learning_rates: ArrayLike,
    resolution: float = 0.0,
) -> float | None:
    r"""The momentum that the path of a center shows.

    Asynchrony acts like momentum. What both make together is the
    :math:`\mu_T` for which the path is that of gradients that are not late:

    .. math:: \tilde x_{j+1} - \tilde x_j =
        \mu_T (\tilde x_j - \tilde x_{j-1}) - \eta_j g(\tilde x_j)

    It is measured as the median over coordinates and updates of

    .. math:: \frac{\tilde x_{j+1} - \tilde x_j + \eta_j g(\tilde x_j)}
        {\tilde x_j - \tilde x_{j-1}}

    The gradient at :math:`\tilde x_j` is pushed s updates after the center
    was there, so the path must be kept for that long. The center itself took
    :math:`g(\tilde x_{j-s})` then, by eq. 1.3, so that the ratio is

    .. math:: \mu + \eta \frac{g(\tilde x_j) - g(\tilde x_{j-s})}
        {\tilde x_j - \tilde x_{j-1}}

    - without staleness that is :math:`\mu` exactly, and no noise in the
      gradients matters, for both are the same one;
    - with it, where the curvature is h, it is :math:`\mu + \eta h` times the
      last s steps over the last one: about :math:`\mu + \eta h s` while the
      center goes one way;
    - noise of different batches is in the numerator alone, as often up as
      down, and leaves the median where it is.

    Args:
        path: :math:`\tilde x_0, \dots, \tilde x_{n+1}`, successive centers,
            shape (n + 2, d).
        gradients: :math:`g(\tilde x_1), \dots, g(\tilde x_n)`, shape (n, d);
            with Nesterov's momentum those at the look-ahead points.
        learning_rates: :math:`\eta_1, \dots, \eta_n`, by which the center has
            gone on from each.
        resolution: relative rounding of the path, such as 1.2e-7 for
            float32; coordinates that moved by a few roundings are left out.

    Returns:
        :math:`\mu_T`, or None if nothing has moved.

    Example: a heavy ball with momentum 0.5 on :math:`x^2 / 2`, and then one
    that goes on with the gradient of the point before.

    >>> path = [[4.0], [3.0]]
    >>> for _ in range(3):
    ...     path.append([path[-1][0] * 1.3 - 0.5 * path[-2][0]])
    >>> total_momentum(path, path[1:-1], [0.2] * 3)
    0.5
    >>> path = [[4.0], [3.0]]
    >>> for _ in range(3):
    ...     path.append([path[-1][0] * 1.5 - 0.7 * path[-2][0]])
    >>> total_momentum(path, path[1:-1], [0.2] * 3)
    0.7

    Reference:
        Zhang and Mitliagkas (2017), "YellowFin and the art of momentum
        tuning", section 4 and its algorithm; Mitliagkas et al. (2016),
        "Asynchrony begets momentum".
    """
    centers = np.asarray(path, np.float64)
    pushed: Array = np.asarray(learning_rates, np.float64)[:, None]
    with np.errstate(over="ignore", invalid="ignore"):
        steps = np.diff(centers, axis=0)
        pushed = pushed * np.asarray(gradients, np.float64)
    before, after = steps[:-1], steps[1:]
    smallest = _ROUNDINGS * resolution * np.abs(centers[1:-1])
    moved = np.abs(before) > smallest
    with np.errstate(over="ignore", invalid="ignore"):
        ratios = (after + pushed)[moved] / before[moved]
    ratios = ratios[np.isfinite(ratios)]
    return float(np.median(ratios)) if ratios.size else None


def feedback_momentum(
    momentum: float,
    measured: float,
    target: float,
    gain: float,
    max_momentum: float = 1.0,
) -> float:
    r"""One step of the closed loop.

    .. math:: \mu \leftarrow \mu + \gamma (\mu^* - \mu_T),

    and not outside of [0, `max_momentum`].

    Args:
        momentum: :math:`\mu`, the center's.
        measured: :math:`\mu_T`, see `total_momentum`.
        target: :math:`\mu^*`, the total momentum wanted.
        gain: :math:`\gamma`, in (0, 1].
        max_momentum: what is never exceeded, in [0, 1].

    Returns:
        The center's next momentum.

    Example:

    >>> feedback_momentum(0.75, measured=1.25, target=0.75, gain=0.5)
    0.5

    Reference:
        Zhang and Mitliagkas (2017), section 4, which has a gain of 0.01 at
        every update.
    """
    return float(
        min(max(momentum + gain * (target - measured), 0.0), max_momentum)
    )
