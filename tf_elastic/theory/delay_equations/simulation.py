r"""Paths of ASGD and of the stochastic differential delay equation.

ASGD is the recursion of eq. 4, the equation is eq. 6, and both are seen as
the same thing here: a step that knows the point of some steps ago. All runs
advance together; there is no loop but the one over time.
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike
from numpy.typing import NDArray

from tf_elastic import core
from tf_elastic.theory import _checks
from tf_elastic.theory.delay_equations.schedules import rate_adjustment

Points = NDArray[np.float64]  # shape (runs, dimension)


def asgd_paths(
    stochastic_gradient: Callable[[Points, np.random.Generator], ArrayLike],
    initial: ArrayLike,
    *,
    learning_rate: float,
    steps: int,
    delay: ArrayLike = 0,
    momentum: float = 0.0,
    schedule: str = "constant",
    first_step: int = 1,
    runs: int = 1,
    seed: int = 0,
) -> NDArray[np.float64]:
    r"""Many runs of asynchronous SGD, with momentum if that is wanted.

    .. math::
        x_{k+1} = x_k - \eta u_k g_{M_k}(b, x_{k-l_k}) + \mu (x_k - x_{k-1})

    Args:
        stochastic_gradient: takes points of shape (runs, dimension) and a
            generator, and returns the gradient on a mini-batch for each.
        initial: :math:`x_0`, shape (dimension,) or (runs, dimension). What is
            older equals it too.
        learning_rate: :math:`\eta > 0`.
        steps: K.
        delay: :math:`l_k`, in steps: one for all, or shape (steps,) or
            (steps, runs), as from `random_delays` or `warm_up_delays`.
        momentum: :math:`\mu`, of the heavy ball; 0 is the paper's.
        schedule: of :math:`u_k`, one of `SCHEDULES`.
        first_step: the k of the first step, at least 1.
        runs: independent runs.
        seed: of the generator.

    Returns:
        :math:`x_0, ..., x_K`, shape (steps + 1, runs, dimension).

    Raises:
        ValueError: an argument is out of its range.

    Example:

    >>> asgd_paths(
    ...     lambda x, _: x, [1.0], learning_rate=0.5, steps=3, delay=1
    ... ).ravel()
    array([ 1.  ,  0.5 ,  0.  , -0.25])

    Reference:
        He et al. (2018), eq. 4.
    """
    _checks.positive(learning_rate=learning_rate)
    _checks.whole(1, first_step=first_step)
    generator = np.random.default_rng(seed)
    rates = learning_rate * rate_adjustment(
        np.arange(steps) + first_step, schedule
    )
    velocity: Points | float = 0.0

    def step(index: int, current: Points, delayed: Points) -> Points:
        nonlocal velocity
        following, velocity = core.momentum_step(
            current,
            velocity,
            np.asarray(stochastic_gradient(delayed, generator)),
            rates[index],
            momentum,
        )
        return np.asarray(following)

    return _delayed_paths(step, initial, steps, delay, runs)


def euler_maruyama(
    drift: Callable[[float, Points, Points], ArrayLike],
    diffusion: Callable[[float, Points, Points], ArrayLike],
    history: ArrayLike,
    *,
    time_step: float,
    steps: int,
    delay: ArrayLike = 0,
    start_time: float = 0.0,
    runs: int = 1,
    seed: int = 0,
    increments: ArrayLike | None = None,
) -> NDArray[np.float64]:
    r"""Many runs of a stochastic differential delay equation.

    .. math::
        dX = g_1(t, X(t), X(t - \theta)) dt
            + g_2(t, X(t), X(t - \theta)) dB(t)

    Args:
        drift: :math:`g_1` of the time, the points now and the points
            :math:`\theta` ago, both of shape (runs, dimension); returns
            what broadcasts to this shape.
        diffusion: :math:`g_2` of the same; returns what broadcasts to shape
            (runs, dimension, dimension).
        history: :math:`\xi`: a constant of shape (dimension,) or (runs,
            dimension), or the values at the last steps before the start and
            at it, shape (longest delay + 1, runs, dimension).
        time_step: of the Euler-Maruyama scheme, in units of time.
        steps: of this length.
        delay: :math:`\theta` in steps: one for all, or shape (steps,) or
            (steps, runs).
        start_time: t at the start.
        runs: independent runs.
        seed: of the Brownian motion.
        increments: of the Brownian motion, shape (steps, runs, dimension), to
            drive two equations by the same one; drawn by default.

    Returns:
        X at the start and after each step, shape (steps + 1, runs,
        dimension).

    Raises:
        ValueError: an argument is out of its range, or of the wrong shape.

    Example:

    >>> euler_maruyama(
    ...     lambda t, now, then: -then, lambda t, now, then: 0.0, [1.0],
    ...     time_step=0.5, steps=3, delay=1,
    ... ).ravel()
    array([ 1.  ,  0.5 ,  0.  , -0.25])

    Reference:
        He et al. (2018), section 2.2 and eq. 6; Mao (2007), section 5.5.
    """
    _checks.positive(time_step=time_step)
    generator = np.random.default_rng(seed)
    given = None if increments is None else np.asarray(increments)

    def step(index: int, current: Points, delayed: Points) -> Points:
        if given is None:
            motion = generator.normal(
                scale=np.sqrt(time_step), size=current.shape
            )
        else:
            motion = given[index]
        time = start_time + index * time_step
        spread = np.asarray(diffusion(time, current, delayed))
        if spread.ndim < 2:
            noise = spread * motion
        else:
            noise = np.matmul(spread, motion[..., None])[..., 0]
        slope = np.asarray(drift(time, current, delayed), dtype=np.float64)
        following: Points = current + time_step * slope + noise
        return following

    return _delayed_paths(step, history, steps, delay, runs)


def sdde_paths(
    gradient: Callable[[Points], ArrayLike],
    noise_factor: Callable[[Points], ArrayLike],
    initial: ArrayLike,
    *,
    learning_rate: float,
    time_step: float,
    steps: int,
    delay: ArrayLike = 0,
    schedule: str = "constant",
    first_step: int = 1,
    refinement: int = 1,
    runs: int = 1,
    seed: int = 0,
    increments: ArrayLike | None = None,
) -> NDArray[np.float64]:
    r"""Many runs of the equation that approximates ASGD.

    .. math::
        dX(t) = -\frac{\eta}{\delta} U(t) \nabla F(X(t - \theta(t))) dt
            + \frac{\eta}{\sqrt \delta} U(t) \sigma(X(t - \theta(t))) dB(t)

    with :math:`\theta(t) = l_k \delta` and t = k delta, so that with a
    `refinement` of 1 each step is eq. 5.

    Args:
        gradient: :math:`\nabla F` at points of shape (runs, dimension).
        noise_factor: :math:`\sigma` there, which broadcasts to (runs,
            dimension, dimension), with :math:`\sigma \sigma^T = \Sigma / b`.
        initial: :math:`\xi`, as `history` of `euler_maruyama`, in fine steps.
        learning_rate: :math:`\eta > 0`.
        time_step: :math:`\delta > 0`, the time of one iteration of ASGD.
        steps: K, iterations.
        delay: :math:`l_k`, in iterations: one for all, or shape (steps,) or
            (steps, runs).
        schedule: of :math:`u_k`, one of `SCHEDULES`.
        first_step: the k of the first iteration, at least 1.
        refinement: steps of Euler-Maruyama for each iteration.
        runs: independent runs.
        seed: of the Brownian motion.
        increments: of the Brownian motion, shape (steps * refinement, runs,
            dimension); drawn by default.

    Returns:
        X after each iteration and at the start, shape (steps + 1, runs,
        dimension).

    Raises:
        ValueError: an argument is out of its range.

    Example:

    >>> sdde_paths(
    ...     lambda x: x, lambda x: 0.0, [1.0], learning_rate=0.5,
    ...     time_step=0.5, steps=3, delay=1,
    ... ).ravel()
    array([ 1.  ,  0.5 ,  0.  , -0.25])

    Reference:
        He et al. (2018), eq. 5 and 6.
    """
    _checks.positive(learning_rate=learning_rate, time_step=time_step)
    _checks.whole(1, refinement=refinement, first_step=first_step)
    _checks.whole(0, delay=delay)
    fine_step = time_step / refinement
    lags = np.asarray(delay) * refinement
    if lags.ndim:
        lags = np.repeat(lags, refinement, axis=0)
    fine_steps = steps * refinement
    rates = (learning_rate / time_step) * rate_adjustment(
        first_step + np.arange(fine_steps) / refinement, schedule
    )

    def rate_at(time: float) -> float:
        return float(rates[round(time / fine_step)])

    def drift(time: float, _: Points, delayed: Points) -> ArrayLike:
        slope: Points = np.asarray(gradient(delayed), dtype=np.float64)
        return -rate_at(time) * slope

    def diffusion(time: float, _: Points, delayed: Points) -> ArrayLike:
        factor: Points = np.asarray(noise_factor(delayed), dtype=np.float64)
        scaled: Points = rate_at(time) * np.sqrt(time_step) * factor
        return scaled

    return euler_maruyama(
        drift,
        diffusion,
        initial,
        time_step=fine_step,
        steps=fine_steps,
        delay=lags,
        runs=runs,
        seed=seed,
        increments=increments,
    )[::refinement]


def _delayed_paths(
    step: Callable[[int, Points, Points], Points],
    history: ArrayLike,
    steps: int,
    delay: ArrayLike,
    runs: int,
) -> NDArray[np.float64]:
    """All points of a recursion that sees the point of some steps ago."""
    _checks.whole(1, steps=steps, runs=runs)
    _checks.whole(0, delay=delay)
    lags = np.asarray(delay, dtype=np.int64)
    if lags.ndim == 1:
        lags = lags[:, None]
    _checks.require(
        lags.ndim == 0
        or (lags.shape[0] == steps and lags.shape[1] in (1, runs)),
        f"a number, or of shape ({steps},) or ({steps}, {runs})",
        delay=delay,
    )
    past = np.asarray(history, dtype=np.float64)
    longest = int(lags.max())
    _checks.require(
        past.ndim in (1, 2) or (past.ndim == 3 and len(past) == longest + 1),
        "of shape (dimension,), (runs, dimension) or "
        f"({longest + 1}, runs, dimension)",
        history=history,
    )
    if past.ndim < 3:
        past = past[None]
    paths = np.empty((longest + steps + 1, runs, past.shape[-1]))
    paths[: longest + 1] = past
    everyone = np.arange(runs)
    for index in range(steps):
        now = longest + index
        lag = lags if lags.ndim == 0 else lags[index]
        delayed = (
            paths[now - int(lag.ravel()[0])]
            if lag.size == 1
            else paths[now - lag, everyone]
        )
        paths[now + 1] = step(index, paths[now], delayed)
    return paths[longest:]
