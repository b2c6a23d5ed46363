r"""Moment equations of MSGD, EASGD and EAMSGD under multiplicative noise.

Each matrix M maps the second moments of one step to those of the next. The
mean squares converge where its spectral radius is below 1, and shrink by that
radius a step. The input model is that of `inputs`; all matrices
take the learning rate only through mean and variance of :math:`\eta \xi`,

.. math:: u = \eta \lambda / \omega, \quad s = \eta^2 \lambda / \omega^2.
"""

import numpy as np
from numpy.typing import ArrayLike
from numpy.typing import NDArray

from tf_elastic.theory import _checks
from tf_elastic.theory._spectra import stack
from tf_elastic.theory.multiplicative.inputs import step_moments

Array = NDArray[np.float64]


def msgd_moment_matrix(
    *,
    learning_rate: ArrayLike,
    momentum: ArrayLike,
    shape: ArrayLike,
    rate: ArrayLike,
) -> Array:
    r"""The moment matrix of SGD with Nesterov's momentum.

    .. math::
        v_{t+1} &= \delta v_t - \eta \xi_t (x_t + \delta v_t) \\
        x_{t+1} &= x_t + v_{t+1}

    Args:
        learning_rate: :math:`\eta`.
        momentum: :math:`\delta`, in (-1, 1) if it is to converge.
        shape: :math:`\lambda > 0` of the curvature's Gamma distribution, p
            times as much for mini-batches of p.
        rate: :math:`\omega > 0`, likewise.

    Returns:
        M of :math:`(E v^2, E x^2, E v x)`, shape (..., 3, 3).

    Raises:
        ValueError: an argument is out of its range.

    Example:

    >>> from tf_elastic.theory import spectral_radius
    >>> matrix = msgd_moment_matrix(
    ...     learning_rate=0.5, momentum=0.0, shape=1.0, rate=1.0
    ... )
    >>> spectral_radius(matrix)
    0.5

    Reference:
        Zhang (2016), eqs. 5.28 to 5.30.
    """
    _check(shape, rate, learning_rate=learning_rate, momentum=momentum)
    delta = np.asarray(momentum)
    mean, variance = step_moments(learning_rate, shape, rate)
    square = mean**2 + variance  # eta^2 u_2 of the thesis
    kept = 1 - 2 * mean + square  # E (1 - eta xi)^2
    cross = -2 * delta * (mean - square)
    turned = delta * (1 - mean)
    return stack(
        [
            [delta**2 * kept, square, cross],
            [delta**2 * kept, kept, 2 * turned + cross],
            [delta**2 * kept, square - mean, turned + cross],
        ]
    )


def easgd_moment_matrix(
    *,
    learning_rate: ArrayLike,
    moving_rate: ArrayLike,
    beta: ArrayLike,
    num_workers: ArrayLike,
    shape: ArrayLike,
    rate: ArrayLike,
) -> Array:
    r"""The moment matrix of synchronous EASGD, with an exchange each step.

    .. math::
        x^i_{t+1} &= x^i_t - \eta \xi^i_t x^i_t + \alpha (\tilde x_t - x^i_t)
        \\
        \tilde x_{t+1} &= \tilde x_t + \frac{\beta}{p}
            \sum_i (x^i_t - \tilde x_t)

    Args:
        learning_rate: :math:`\eta`.
        moving_rate: :math:`\alpha`; :math:`\beta / p` for elastic symmetry.
        beta: :math:`\beta`.
        num_workers: p, at least 1.
        shape: :math:`\lambda > 0` of the curvature's Gamma distribution.
        rate: :math:`\omega > 0`.

    Returns:
        M of the means over the workers :math:`a = E \tilde x^2`,
        :math:`b = \frac1p \sum_i E (x^i)^2`,
        :math:`c = \frac1p \sum_i E \tilde x x^i` and
        :math:`d = \frac1{p^2} \sum_{ij} E x^i x^j`, shape (..., 4, 4).

        With one worker b = d at all times. M has then an eigenvalue
        :math:`(1 - \alpha - u)^2` that no run has; it is the largest only
        for a negative moving rate.

    Raises:
        ValueError: an argument is out of its range.

    Example:

    >>> from tf_elastic.theory import spectral_radius
    >>> matrix = easgd_moment_matrix(
    ...     learning_rate=0.5225, moving_rate=0.9 / 7, beta=0.9,
    ...     num_workers=7, shape=1.0, rate=1.0,
    ... )
    >>> round(spectral_radius(matrix), 4)
    0.4317

    Reference:
        Zhang (2016), eqs. 5.31 to 5.34.
    """
    _check(
        shape,
        rate,
        learning_rate=learning_rate,
        moving_rate=moving_rate,
        beta=beta,
    )
    _checks.whole(num_workers=num_workers)
    alpha, b = np.asarray(moving_rate), np.asarray(beta)
    u, s = step_moments(learning_rate, shape, rate)
    p = np.asarray(num_workers)
    q = 1 - alpha - u
    return stack(
        [
            [(1 - b) ** 2, 0, 2 * b * (1 - b), b**2],
            [alpha**2, q**2 + s, 2 * alpha * q, 0],
            [alpha * (1 - b), 0, (1 - b) * q + alpha * b, q * b],
            [alpha**2, s / p, 2 * alpha * q, q**2],
        ]
    )


def eamsgd_moment_matrix(
    *,
    learning_rate: ArrayLike,
    moving_rate: ArrayLike,
    beta: ArrayLike,
    num_workers: ArrayLike,
    momentum: ArrayLike,
    shape: ArrayLike,
    rate: ArrayLike,
) -> Array:
    r"""The moment matrix of synchronous EAMSGD, with an exchange each step.

    .. math::
        v^i_{t+1} &= \delta v^i_t - \eta \xi^i_t (x^i_t + \delta v^i_t) \\
        x^i_{t+1} &= x^i_t + v^i_{t+1} + \alpha (\tilde x_t - x^i_t) \\
        \tilde x_{t+1} &= \tilde x_t + \frac{\beta}{p}
            \sum_i (x^i_t - \tilde x_t)

    The thesis names the nine variables and does not write the system out.
    With :math:`\eta \xi^i = u + \epsilon^i`, :math:`q = \delta (1 - u)`,
    :math:`r = 1 - \alpha - u` and the look-ahead point
    :math:`y^i = x^i + \delta v^i`, the steps are

    .. math::
        v^i_{t+1} &= q v^i - u x^i - \epsilon^i y^i \\
        x^i_{t+1} &= r x^i + q v^i + \alpha \tilde x - \epsilon^i y^i

    The noise :math:`\epsilon^i` has mean 0 and variance s, and is independent
    of everything before and of the other workers'. So it adds s times the
    mean of :math:`(y^i)^2`, which is :math:`b + 2 \delta h + \delta^2 g`, to
    b, g and h, and a p-th of that to d, f and k; all else is the product of
    the means.

    Args:
        learning_rate: :math:`\eta`.
        moving_rate: :math:`\alpha`; :math:`\beta / p` for elastic symmetry.
        beta: :math:`\beta`.
        num_workers: p, at least 1.
        momentum: :math:`\delta`, in (-1, 1) if it is to converge.
        shape: :math:`\lambda > 0` of the curvature's Gamma distribution.
        rate: :math:`\omega > 0`.

    Returns:
        M of the means over the workers, shape (..., 9, 9), in the thesis'
        order: a, b, c, d as in `easgd_moment_matrix`, then
        :math:`e = \frac1p \sum_i E \tilde x v^i`,
        :math:`f = \frac1{p^2} \sum_{ij} E v^i v^j`,
        :math:`g = \frac1p \sum_i E (v^i)^2`,
        :math:`h = \frac1p \sum_i E x^i v^i` and
        :math:`k = \frac1{p^2} \sum_{ij} E x^i v^j`.

        With one worker b = d, f = g and h = k at all times, and M has three
        eigenvalues that no run has.

    Raises:
        ValueError: an argument is out of its range.

    Example:

    >>> matrix = eamsgd_moment_matrix(
    ...     learning_rate=0.1, moving_rate=0.225, beta=0.9, num_workers=4,
    ...     momentum=0.5, shape=1.0, rate=1.0,
    ... )
    >>> matrix.shape
    (9, 9)

    Reference:
        Zhang (2016), Algorithm 2 and the end of section 5.2.3.
    """
    _check(
        shape,
        rate,
        learning_rate=learning_rate,
        moving_rate=moving_rate,
        beta=beta,
        momentum=momentum,
    )
    _checks.whole(num_workers=num_workers)
    pull, push = np.asarray(moving_rate), np.asarray(beta)
    delta, p = np.asarray(momentum), np.asarray(num_workers)
    u, s = step_moments(learning_rate, shape, rate)
    q, r, keep = delta * (1 - u), 1 - pull - u, 1 - push
    # What the noise adds, in the columns of b, h and g.
    nb, nh, ng = s, 2 * delta * s, delta**2 * s
    mb, mh, mg = nb / p, nh / p, ng / p
    # Entries that stand in more than one row.
    xx, xv, vv = 2 * pull * r, 2 * pull * q, q**2
    rq, uq, wu, wq = 2 * r * q, -2 * u * q, -pull * u, pull * q
    turn = q * (r - u)
    return stack(
        [
            # a, b, c, d, e, f, g, h, k
            [keep**2, 0, 2 * keep * push, push**2, 0, 0, 0, 0, 0],
            [pull**2, r**2 + nb, xx, 0, xv, 0, vv + ng, rq + nh, 0],
            [
                *(keep * pull, 0, keep * r + push * pull, push * r),
                *(keep * q, 0, 0, 0, push * q),
            ],
            [pull**2, mb, xx, r**2, xv, vv, mg, mh, rq],
            [0, 0, -keep * u, -push * u, keep * q, 0, 0, 0, push * q],
            [0, mb, 0, u**2, 0, vv, mg, mh, uq],
            [0, u**2 + nb, 0, 0, 0, 0, vv + ng, uq + nh, 0],
            [0, nb - r * u, wu, 0, wq, 0, vv + ng, turn + nh, 0],
            [0, mb, wu, -r * u, wq, vv, mg, mh, turn],
        ]
    )


def _check(shape: ArrayLike, rate: ArrayLike, **rates: ArrayLike) -> None:
    _checks.positive(shape=shape, rate=rate)
    _checks.finite(**rates)
