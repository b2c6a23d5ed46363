r"""Moments of the linear delay equation, and the bounds on them.

.. math:: dX(t) = -A (X(t - \tau) - x^*) dt + \sqrt \eta \sigma dB(t)

Everything follows from its fundamental solution R, which solves
:math:`\dot R(t) = -A R(t - \tau)` with R(0) = I and R = 0 before. It is
integrated from delay to delay with polynomials, to rounding.
"""

from typing import NamedTuple

import numpy as np
from numpy.polynomial import chebyshev
from numpy.typing import ArrayLike
from numpy.typing import NDArray
from scipy import linalg

from tf_elastic.theory import _checks
from tf_elastic.theory.delay_roots import nonnegative
from tf_elastic.theory.delay_roots import rightmost_root
from tf_elastic.theory.delay_roots import square

_DEGREE = 24  # of the polynomial on each piece
_MOST_PIECES = 100_000
_DECAYED = 12.0  # e^-12 of the largest value is the end of a search for it

Array = NDArray[np.float64]


class DelayMoments(NamedTuple):
    r"""The first two moments of :math:`X(t) - x^*`."""

    mean: Array  # shape (..., n) for times of shape (...)
    covariance: Array  # shape (..., n, n)


def fundamental_solution(t: ArrayLike, *, matrix: ArrayLike, delay: float) -> (
    Array
):
    r"""R(t), the answer at time t to a unit push at time 0.

    Args:
        t: times of at least 0.
        matrix: A, shape (n, n).
        delay: :math:`\tau \ge 0`, in units of time.

    Returns:
        R, shape (..., n, n) for times of shape (...).

    Raises:
        ValueError: a time or the delay is negative, or A is not square; or
            the delay is not 0 and less than a 100 000th of the largest time.

    Example:

    >>> print(fundamental_solution(
    ...     [0.5, 2.0, 3.0], matrix=[[1.0]], delay=1.0
    ... ).ravel().round(6))
    [ 1.   0.  -0.5]

    Reference:
        He et al. (2018), proof of Theorem 4.1, after Bao et al. (2016).
    """
    hessian, times = _checked(t, matrix, delay)
    length, pieces = _solution(hessian, delay, float(times.max()))
    return _evaluate(pieces, length, times)


def linear_moments(
    t: ArrayLike,
    *,
    matrix: ArrayLike,
    delay: float,
    displacement: ArrayLike,
    noise_covariance: ArrayLike,
) -> DelayMoments:
    r"""Mean and covariance at time t, from a constant history.

    .. math::
        E X(t) - x^* = R(t + \tau) (\xi - x^*), \quad
        \mathrm{cov} X(t) = \int_0^t R(s) \eta \sigma \sigma^T R(s)^T ds

    With no delay this is the Ornstein-Uhlenbeck process of section 4.

    Args:
        t: times of at least 0.
        matrix: A, shape (n, n).
        delay: :math:`\tau \ge 0`, in units of time.
        displacement: :math:`\xi - x^*`, shape (n,), the same on
            :math:`[-\tau, 0]`.
        noise_covariance: :math:`\eta \sigma \sigma^T`, per unit of time,
            shape (n, n).

    Returns:
        `DelayMoments`.

    Raises:
        ValueError: a shape does not fit, or as `fundamental_solution`.

    Example:

    >>> mean, covariance = linear_moments(
    ...     1.5, matrix=[[1.0]], delay=1.0, displacement=[4.0],
    ...     noise_covariance=[[0.01]],
    ... )
    >>> print(mean.round(6), covariance.round(6))
    [-1.5] [[0.012917]]

    Reference:
        He et al. (2018), section 4 and the proof of Theorem 4.1. With a
        constant history X starts as R does on :math:`[0, \tau]`.
    """
    hessian, times = _checked(t, matrix, delay)
    start = np.asarray(displacement, dtype=np.float64)
    noise = square("noise_covariance", noise_covariance)
    n = len(hessian)
    _checks.require(
        start.shape == (n,), f"of shape ({n},)", displacement=displacement
    )
    _checks.require(
        noise.shape == (n, n),
        f"of shape ({n}, {n})",
        noise_covariance=noise_covariance,
    )
    length, pieces = _solution(hessian, delay, float(times.max()) + delay)
    mean = _evaluate(pieces, length, times + delay) @ start
    rates = pieces @ noise @ np.swapaxes(pieces, -1, -2)
    grown = length * np.einsum("ik,jkab->jiab", _INTEGRATE, rates)
    before = np.cumsum(grown[:, -1], axis=0) - grown[:, -1]
    covariance = _evaluate(grown + before[:, None], length, times)
    return DelayMoments(mean, covariance)


def stationary_variance(
    curvature: ArrayLike, delay: ArrayLike
) -> NDArray[np.float64]:
    r"""The variance that :math:`dX = -h X(t - \tau) dt + dB` settles at.

    .. math:: \frac{1 + \sin(h \tau)}{2 h \cos(h \tau)}

    Args:
        curvature: h, an eigenvalue of a symmetric A.
        delay: :math:`\tau \ge 0`, in units of time; broadcasts.

    Returns:
        The variance, for noise of variance 1 per unit of time: multiply with
        :math:`\eta \sigma^2`. Infinite where it does not settle, unless
        :math:`0 < h \tau < \pi / 2` or h > 0 with no delay.

    Raises:
        ValueError: the delay is negative, or a value not finite.

    Example:

    >>> print(stationary_variance(2.0, [0.0, 0.5, 0.8]).round(4))
    [0.25   0.852     inf]

    Reference:
        Kuechler and Mensch (1992); `delayed_sgd_variance` is the same for
        steps that are not small.
    """
    _checks.finite(curvature=curvature)
    nonnegative(delay=delay)
    h, tau = np.broadcast_arrays(
        np.asarray(curvature, dtype=np.float64),
        np.asarray(delay, dtype=np.float64),
    )
    stable = (h > 0) & (h * tau < np.pi / 2)
    rate = np.where(stable, h, 1.0)
    turn = np.where(stable, h * tau, 0.0)
    variance = (1 + np.sin(turn)) / (2 * rate * np.cos(turn))
    return np.where(stable, variance, np.inf)[()]


def decay_constant(
    *, matrix: ArrayLike, delay: float, decay_rate: float
) -> float:
    r"""The least :math:`c` with :math:`\|R(t)\| \le c e^{-\lambda t}`.

    The paper says that there is one, :math:`c_\lambda`; this is taken on 25
    points of each delay.

    Args:
        matrix: A, shape (n, n).
        delay: :math:`\tau \ge 0`, in units of time.
        decay_rate: :math:`\lambda` in (0, -V).

    Returns:
        :math:`\sup_t \|R(t)\| e^{\lambda t}`, with the spectral norm.

    Raises:
        ValueError: the decay rate is not in (0, -V); with V >= 0 none is.

    Example:

    >>> c = decay_constant(matrix=[[1.0]], delay=0.5, decay_rate=0.5)
    >>> print(f"{c:.4f}")
    1.2840

    Reference:
        He et al. (2018), proof of Theorem 4.1.
    """
    hessian, _ = _checked(0.0, matrix, delay)
    slowest = -float(np.real(rightmost_root(hessian, delay)))
    _checks.require(
        0 < decay_rate < slowest,
        f"in (0, {slowest:.6g}), which is (0, -V)",
        decay_rate=decay_rate,
    )
    horizon = max(10 * delay, _DECAYED / (slowest - decay_rate))
    length, pieces = _solution(hessian, delay, horizon)
    times = length * (np.arange(len(pieces))[:, None] + _NODES)
    norms = np.linalg.norm(pieces, ord=2, axis=(-2, -1))
    # In logarithms, for e^(lambda t) may be beyond what a number can be.
    logarithms = np.log(np.maximum(norms, 1e-300)) + decay_rate * times
    return float(np.exp(np.max(np.where(norms > 0, logarithms, -np.inf))))


def moment_bound(
    t: ArrayLike,
    *,
    matrix: ArrayLike,
    delay: float,
    displacement: ArrayLike,
    noise_covariance: ArrayLike,
    decay_rate: float,
) -> NDArray[np.float64]:
    r"""The bound of Theorem 4.1 on :math:`E \|X(t) - x^*\|^2`.

    .. math::
        a_1^2 e^{-2 \lambda t} + a_2 (1 - e^{-2 \lambda t}), \quad
        a_1 = c_\lambda \|\xi\| (1 + \|A\| (e^{\lambda \tau} - 1) / \lambda),
        \quad a_2 = c_\lambda^2 \eta \|\sigma\|^2 / (2 \lambda)

    The norm of :math:`\sigma` is Frobenius': its square is the trace of
    :math:`\sigma \sigma^T`. t is time; an iteration is :math:`\delta = \eta`
    of it.

    Args:
        t: times of at least 0.
        matrix: A, shape (n, n).
        delay: :math:`\tau \ge 0`, in units of time.
        displacement: :math:`\xi - x^*`, shape (n,).
        noise_covariance: :math:`\eta \sigma \sigma^T`, shape (n, n).
        decay_rate: :math:`\lambda` in (0, -V).

    Returns:
        The bound, of the shape of t.

    Raises:
        ValueError: as `decay_constant`.

    Example:

    >>> print(moment_bound(
    ...     [0.0, 10.0], matrix=[[1.0]], delay=0.5, displacement=[4.0],
    ...     noise_covariance=[[0.01]], decay_rate=0.5,
    ... ).round(4))
    [6.48616e+01 1.94000e-02]

    Reference:
        He et al. (2018), Theorem 4.1 and its proof.
    """
    hessian, times = _checked(t, matrix, delay)
    constant = decay_constant(
        matrix=hessian, delay=delay, decay_rate=decay_rate
    )
    norm = np.linalg.norm(hessian, ord=2)
    start = constant * np.linalg.norm(np.asarray(displacement))
    first = start * (1 + norm * np.expm1(decay_rate * delay) / decay_rate)
    second = constant**2 * np.trace(np.asarray(noise_covariance))
    left = np.exp(-2 * decay_rate * times)
    bound = first**2 * left + second / (2 * decay_rate) * (1 - left)
    return np.asarray(bound)[()]


def energy_bound(
    t: ArrayLike,
    *,
    strong_convexity: float,
    smoothness: float,
    radius: float,
    noise: float,
    delay: float = 0.0,
    time_step: float,
) -> NDArray[np.float64]:
    r"""The bound of Theorem 4.2 on :math:`E \|X(t) - x^*\|^2`.

    .. math::
        \frac{(\delta + 1) (H + 2 L^2 D^2 \tau) \ln t}{(t - 1) \mu^2},
        \quad H = E \mathrm{tr}(\sigma \sigma^T) + 2 \mu L D^2

    for learning rates :math:`\eta_k = 1 / (\mu k)`. The equation starts at
    t = 1 (at 0 its drift is infinite), with a history on
    :math:`[1 - \tau, 1]`.

    Args:
        t: times above 1; :math:`t = k \delta` after k iterations.
        strong_convexity: :math:`\mu > 0` of F.
        smoothness: L, at least :math:`\mu`, of its gradient.
        radius: D, the largest distance from the optimum.
        noise: the largest :math:`E \mathrm{tr}(\sigma \sigma^T)`.
        delay: :math:`\tau \ge 0`, in units of time; 0 is Corollary 4.3.
        time_step: :math:`\delta > 0`.

    Returns:
        The bound, of the shape of t.

    Raises:
        ValueError: an argument is out of its range.

    Example:

    >>> print(energy_bound(
    ...     [2.0, 100.0], strong_convexity=1.0, smoothness=1.0, radius=1.0,
    ...     noise=1.0, delay=0.5, time_step=0.01,
    ... ).round(4))
    [2.8003 0.1879]

    Reference:
        He et al. (2018), Theorem 4.2 and Corollary 4.3.
    """
    times = np.asarray(t, dtype=np.float64)
    _checks.require(np.isfinite(times) & (times > 1), "above 1", t=t)
    _checks.positive(
        strong_convexity=strong_convexity, radius=radius, time_step=time_step
    )
    nonnegative(noise=noise, delay=delay)
    _checks.require(
        strong_convexity <= smoothness < np.inf,
        "at least `strong_convexity` and finite",
        smoothness=smoothness,
    )
    steepest = noise + 2 * strong_convexity * smoothness * radius**2
    steepest += 2 * (smoothness * radius) ** 2 * delay
    scale = (time_step + 1) * steepest / strong_convexity**2
    return np.asarray(scale * np.log(times) / (times - 1))[()]


def _checked(
    t: ArrayLike, matrix: ArrayLike, delay: float
) -> tuple[Array, Array]:
    hessian = square("matrix", matrix).astype(np.float64)
    _checks.require(hessian.ndim == 2, "of shape (n, n)", matrix=matrix)
    nonnegative(delay=delay, t=t)
    return hessian, np.asarray(t, dtype=np.float64)


# A piece is the values at these points, from 0 to 1, of what is a polynomial.
_NODES = (1 - np.cos(np.pi * np.arange(_DEGREE + 1) / _DEGREE)) / 2


def _values(points: Array, degree: int) -> Array:
    values = chebyshev.chebvander(2 * points - 1, degree)  # at least 2-D
    return np.asarray(values.reshape(*points.shape, -1), dtype=np.float64)


_COEFFICIENTS = np.linalg.inv(_values(_NODES, _DEGREE))
# From values at the nodes to the integrals from 0 to each node.
_INTEGRATE = (
    _values(_NODES, _DEGREE + 1)
    @ chebyshev.chebint(np.eye(_DEGREE + 1), lbnd=-1, scl=0.5)
    @ _COEFFICIENTS
)


def _solution(
    hessian: Array, delay: float, horizon: float
) -> tuple[float, Array]:
    """R up to a time: the length of a piece, and pieces in order."""
    identity = np.eye(len(hessian))
    if delay == 0:
        length = 1 / max(float(np.linalg.norm(hessian, ord=2)), 1e-300)
        length = min(length, max(horizon, 1e-300))
        first = linalg.expm(-hessian * (length * _NODES)[:, None, None])
    else:
        _checks.require(
            horizon <= _MOST_PIECES * delay,
            f"0, or at least {horizon / _MOST_PIECES:.3g} for these times",
            delay=delay,
        )
        length = delay
        first = np.broadcast_to(identity, (len(_NODES), *identity.shape))
    pieces = [first]
    for _ in range(int(horizon / length)):
        last = pieces[-1]
        if delay == 0:
            pieces.append(first @ last[-1])
        else:
            change = np.einsum("ik,kab->iab", _INTEGRATE, hessian @ last)
            pieces.append(last[-1] - length * change)
    return length, np.stack(pieces)


def _evaluate(pieces: Array, length: float, times: Array) -> Array:
    """What the pieces are at times of any shape."""
    piece = np.minimum((times / length).astype(int), len(pieces) - 1)
    weights = _values(times / length - piece, _DEGREE) @ _COEFFICIENTS
    values: Array = np.einsum("...k,...kab->...ab", weights, pieces[piece])
    return values
