r"""EASGD in Gauss-Seidel form, and DOWNPOUR in it: thesis, section 6.2.

A period is: every worker moves to the center, takes its gradient steps, and
then the center moves to where the workers now are,

.. math::
    x^i_{t+1/2} &= x^i_t - \alpha (x^i_t - \tilde x_t) \\
    x^i_{t+1} &= x^i_{t+1/2} - \eta \nabla f(x^i_{t+1/2}, \xi) \\
    \tilde x_{t+1} &= \tilde x_t
        + \frac{\beta}{p} \sum_i (x^i_{t+1} - \tilde x_t)

(eq. 6.3). On a quadratic with curvature h the workers' mean and the center
follow a linear map of two variables. The thesis has h = 1 and one step a
period, so that its :math:`\eta` stands for :math:`\eta h`; with :math:`\tau`
steps a period it stands for :math:`1 - (1 - \eta h)^\tau`, and everything
else holds as it is.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from numpy.typing import NDArray

from tf_elastic.theory import _checks
from tf_elastic.theory import _spectra


class Interval(NamedTuple):
    """Open intervals; empty where low >= high."""

    low: NDArray[np.float64]  # any shape
    high: NDArray[np.float64]  # same shape, may be infinite


def map_matrix(
    *,
    learning_rate: ArrayLike,
    moving_rate: ArrayLike,
    beta: ArrayLike,
    curvature: ArrayLike = 1.0,
    communication_period: ArrayLike = 1,
) -> NDArray[np.float64]:
    r"""The map of one period on (workers' mean, center).

    .. math::
        M = \begin{pmatrix} 1 & 0 \\ \beta & 1 - \beta \end{pmatrix}
            \begin{pmatrix} (1 - \eta h)^\tau & 0 \\ 0 & 1 \end{pmatrix}
            \begin{pmatrix} 1 - \alpha & \alpha \\ 0 & 1 \end{pmatrix}

    Args:
        learning_rate: :math:`\eta`, any number.
        moving_rate: :math:`\alpha`, any number.
        beta: :math:`\beta`, any number.
        curvature: h of the quadratic, any number. With 1 the learning rate is
            the thesis' :math:`\eta`.
        communication_period: :math:`\tau`, at least 1.

    Returns:
        M, shape (..., 2, 2), where the dots are what the arguments broadcast
        to. It does not depend on the number of workers.

    Raises:
        ValueError: an argument is not finite, or the period not whole.

    Example:

    >>> map_matrix(learning_rate=0.5, moving_rate=0.5, beta=1.0)
    array([[0.25, 0.25],
           [0.25, 0.25]])

    Reference:
        Zhang (2016), eq. 6.5.
    """
    _checks.finite(moving_rate=moving_rate, beta=beta)
    kept = 1 - _step(learning_rate, curvature, communication_period)
    alpha, beta = np.asarray(moving_rate), np.asarray(beta)
    pull = _spectra.stack([[1 - alpha, alpha], [0, 1]])
    gradient = _spectra.stack([[kept, 0], [0, 1]])
    push = _spectra.stack([[1, 0], [beta, 1 - beta]])
    return np.asarray(push @ gradient @ pull, np.float64)


def full_map_matrix(
    num_workers: int,
    *,
    learning_rate: float,
    moving_rate: float,
    beta: float,
    curvature: float = 1.0,
    communication_period: int = 1,
) -> NDArray[np.float64]:
    r"""The map of one period on all workers and the center.

    Beside the two eigenvalues of `map_matrix` it has
    :math:`(1 - \eta h)^\tau (1 - \alpha)`, p - 1 times: that of differences
    among the workers, which the thesis' reduction leaves out.

    Args:
        num_workers: p, at least 1.
        learning_rate: :math:`\eta`.
        moving_rate: :math:`\alpha`.
        beta: :math:`\beta`.
        curvature: h.
        communication_period: :math:`\tau`, at least 1.

    Returns:
        Shape (p + 1, p + 1), the center last.

    Raises:
        ValueError: an argument is out of its range.

    Reference:
        Zhang (2016), eq. 6.3 with a gradient h x.
    """
    _checks.whole(num_workers=num_workers)
    _checks.finite(moving_rate=moving_rate, beta=beta)
    p = num_workers
    kept = 1 - float(_step(learning_rate, curvature, communication_period))
    pull, push = np.eye(p + 1), np.eye(p + 1)
    pull[:p] *= 1 - moving_rate
    pull[:p, p] = moving_rate
    push[p, :p], push[p, p] = beta / p, 1 - beta
    return np.asarray(push @ np.diag([kept] * p + [1.0]) @ pull)


def roots_are_inside(b: ArrayLike, c: ArrayLike) -> NDArray[np.bool_]:
    r"""Whether both roots of :math:`z^2 - 2 b z + c` are within the circle.

    .. math:: -1 < c < 1, \quad c > 2b - 1, \quad c > -2b - 1

    Args:
        b: half the sum of the roots, real.
        c: their product, real.

    Returns:
        Whether :math:`|z_1| < 1` and :math:`|z_2| < 1`, of the shape that the
        arguments broadcast to.

    Example:

    >>> roots_are_inside(0.5, [0.3, -0.1])
    array([ True, False])

    Reference:
        Zhang (2016), Lemma 6.2.1. Where the roots are complex the proof
        prints :math:`|z_1| = |z_2| = c^2`; it is :math:`\sqrt c`. The lemma
        is right.
    """
    b, c = np.asarray(b), np.asarray(c)
    return np.asarray(
        (-1 < c) & (c < 1) & (c > 2 * b - 1) & (c > -2 * b - 1), np.bool_
    )


def stable_moving_rates(
    *,
    learning_rate: ArrayLike,
    beta: ArrayLike,
    curvature: ArrayLike = 1.0,
    communication_period: ArrayLike = 1,
) -> Interval:
    r"""The :math:`\alpha > 0` for which mean and center are stable.

    With :math:`\eta` for :math:`1 - (1 - \eta h)^\tau`,

    .. math::
        c_2 = \frac{4 - 2\beta - 2\eta + \beta\eta}
            {2 - 2\beta - 2\eta + 2\beta\eta}, \qquad
        c_3 = \frac{-\beta - \eta + \beta\eta}
            {1 - \beta - \eta + \beta\eta}

    bound :math:`\alpha` where the product of the eigenvalues and
    :math:`\beta\eta` say so: see the table in the code.

    Args:
        learning_rate: :math:`\eta > 0`.
        beta: :math:`\beta > 0`.
        curvature: h > 0.
        communication_period: :math:`\tau`, at least 1.

    Returns:
        `Interval`, of the shape that the arguments broadcast to. It is (0, 0)
        where no moving rate is stable.

    Raises:
        ValueError: an argument is out of its range.

    Example:

    >>> low, high = stable_moving_rates(learning_rate=0.05, beta=16.0)
    >>> print(f"{low:.4f} {high:.4f}")
    0.9579 1.0702

    Reference:
        Zhang (2016), Theorem 6.2.1.
    """
    _checks.positive(
        learning_rate=learning_rate, beta=beta, curvature=curvature
    )
    eta, beta = np.broadcast_arrays(
        _step(learning_rate, curvature, communication_period),
        np.asarray(beta, np.float64),
    )
    kept = (1 - beta) * (1 - eta)
    with np.errstate(divide="ignore", invalid="ignore"):
        c2 = (2 - beta) * (2 - eta) / (2 * kept)  # eigenvalue -1
        c3 = 1 - 1 / kept  # product of the eigenvalues 1
        few = beta * eta < 4
    zero, infinite = np.zeros_like(c2), np.full_like(c2, np.inf)
    # The theorem's conditions in its order: where, above, below.
    table = [
        ((eta < 1) & (beta < 1), zero, c2),
        ((eta < 1) & (beta == 1), zero, infinite),
        ((eta < 1) & (1 < beta) & (beta <= 2), zero, c3),
        ((eta < 1) & (2 < beta) & few, c2, c3),
        ((eta == 1) & (beta < 2), zero, infinite),
        ((1 < eta) & (eta < 2) & (beta < 1), zero, c3),
        ((1 < eta) & (eta < 2) & (beta == 1), zero, infinite),
        ((1 < eta) & (eta < 2) & (1 < beta) & (beta < 2), zero, c2),
        ((2 <= eta) & (eta <= 4) & (beta < 1), c2, c3),
        ((4 < eta) & few, c2, c3),
    ]
    # Only an even number of steps beyond 2 / h makes this negative.
    where = [(eta > 0) & condition for condition, _, _ in table]
    return Interval(
        np.select(where, [low for _, low, _ in table], 0.0),
        np.select(where, [high for _, _, high in table], 0.0),
    )


def is_stable(
    *,
    learning_rate: ArrayLike,
    moving_rate: ArrayLike,
    beta: ArrayLike,
    num_workers: ArrayLike = 1,
    curvature: ArrayLike = 1.0,
    communication_period: ArrayLike = 1,
) -> NDArray[np.bool_]:
    r"""Whether EASGD in Gauss-Seidel form is stable.

    Theorem 6.2.1 is about the workers' mean and the center. With more than
    one worker :math:`|(1 - \eta h)^\tau (1 - \alpha)| < 1` is needed too, or
    the workers part.

    Args:
        learning_rate: :math:`\eta > 0`.
        moving_rate: :math:`\alpha > 0`.
        beta: :math:`\beta > 0`.
        num_workers: p, at least 1. With 1 it is the theorem alone.
        curvature: h > 0.
        communication_period: :math:`\tau`, at least 1.

    Returns:
        Truth values, of the shape that the arguments broadcast to.

    Raises:
        ValueError: an argument is out of its range.

    Example:

    >>> is_stable(learning_rate=0.05, moving_rate=[0.9, 1.0], beta=16.0)
    array([False,  True])

    Reference:
        Zhang (2016), Theorem 6.2.1.
    """
    _checks.positive(moving_rate=moving_rate)
    _checks.whole(num_workers=num_workers)
    alpha = np.asarray(moving_rate, np.float64)
    low, high = stable_moving_rates(
        learning_rate=learning_rate,
        beta=beta,
        curvature=curvature,
        communication_period=communication_period,
    )
    kept = 1 - _step(learning_rate, curvature, communication_period)
    together = np.abs(kept * (1 - alpha)) < 1
    alone = np.asarray(num_workers) == 1
    return np.asarray(
        (low < alpha) & (alpha < high) & (alone | together), np.bool_
    )


def downpour_map_matrix(
    *,
    learning_rate: ArrayLike,
    num_workers: ArrayLike,
    curvature: ArrayLike = 1.0,
    communication_period: ArrayLike = 1,
) -> NDArray[np.float64]:
    r"""The map of DOWNPOUR: :math:`\alpha = 1` and :math:`\beta = p`.

    Args:
        learning_rate: :math:`\eta`.
        num_workers: p, at least 1.
        curvature: h.
        communication_period: :math:`\tau`, at least 1.

    Returns:
        Shape (..., 2, 2). Its eigenvalues are 0 and
        :math:`1 - p (1 - (1 - \eta h)^\tau)`.

    Raises:
        ValueError: an argument is out of its range.

    Example:

    >>> print(downpour_map_matrix(learning_rate=0.125, num_workers=4)[1])
    [0.  0.5]

    Reference:
        Zhang (2016), eq. 6.1 and section 6.2.
    """
    _checks.whole(num_workers=num_workers)
    return map_matrix(
        learning_rate=learning_rate,
        moving_rate=1.0,
        beta=num_workers,
        curvature=curvature,
        communication_period=communication_period,
    )


def downpour_learning_rate_limit(
    num_workers: ArrayLike, curvature: ArrayLike = 1.0
) -> NDArray[np.float64]:
    r"""The learning rate from which on DOWNPOUR diverges, with a period of 1.

    With :math:`\alpha = 1` the product of the eigenvalues is 0, and what is
    left of the lemma is :math:`0 < \beta \eta h < 2`.

    Args:
        num_workers: p, at least 1.
        curvature: h > 0.

    Returns:
        :math:`2 / (p h)`.

    Raises:
        ValueError: an argument is out of its range.

    Example:

    >>> print(downpour_learning_rate_limit(16))
    0.125

    Reference:
        Zhang (2016), section 6.2: "the stability condition for alpha = 1 and
        beta = 16 is 0 < eta < 1/8".
    """
    _checks.whole(num_workers=num_workers)
    _checks.positive(curvature=curvature)
    return np.asarray(2 / (np.asarray(num_workers) * np.asarray(curvature)))


def _step(
    learning_rate: ArrayLike,
    curvature: ArrayLike,
    communication_period: ArrayLike,
) -> NDArray[np.float64]:
    """How much of a worker the steps of a period take away."""
    _checks.finite(learning_rate=learning_rate, curvature=curvature)
    _checks.whole(communication_period=communication_period)
    tau = np.asarray(communication_period)
    one = np.asarray(learning_rate, np.float64) * np.asarray(curvature)
    # With one step eta itself, without rounding: 1 and 2 are edges.
    return np.asarray(np.where(tau == 1, one, 1 - (1 - one) ** tau))
