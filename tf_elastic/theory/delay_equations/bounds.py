"""The paper's bounds on the moments of a delay equation."""

import numpy as np
from numpy.typing import ArrayLike
from numpy.typing import NDArray

from tf_elastic.theory import _checks
from tf_elastic.theory.delay_equations import solution
from tf_elastic.theory.delay_equations.roots import nonnegative
from tf_elastic.theory.delay_equations.roots import rightmost_root

_DECAYED = 12.0  # e^-12 of the largest value is the end of a search for it


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
    hessian, _ = solution.checked(0.0, matrix, delay)
    slowest = -float(np.real(rightmost_root(hessian, delay)))
    _checks.require(
        0 < decay_rate < slowest,
        f"in (0, {slowest:.6g}), which is (0, -V)",
        decay_rate=decay_rate,
    )
    horizon = max(10 * delay, _DECAYED / (slowest - decay_rate))
    length, pieces = solution.solve(hessian, delay, horizon)
    times = length * (np.arange(len(pieces))[:, None] + solution.NODES)
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
    hessian, times = solution.checked(t, matrix, delay)
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
