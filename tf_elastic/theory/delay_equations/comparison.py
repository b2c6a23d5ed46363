r"""ASGD beside its equation: how far apart they end, and their paths.

Three sequences are compared: ASGD (eq. 4), x; its normal approximation, which
is Euler-Maruyama with one step for an iteration (eq. 5),
:math:`\tilde x`; and the equation itself (eq. 6), X.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from numpy.typing import NDArray

from tf_elastic.theory import _checks
from tf_elastic.theory._monte_carlo import Estimate
from tf_elastic.theory._monte_carlo import estimate
from tf_elastic.theory.delay_equations.regression import LeastSquares
from tf_elastic.theory.delay_equations.regression import two_parabolas
from tf_elastic.theory.delay_equations.schedules import random_delays
from tf_elastic.theory.delay_equations.schedules import warm_up_delays
from tf_elastic.theory.delay_equations.simulation import asgd_paths
from tf_elastic.theory.delay_equations.simulation import sdde_paths


class ApproximationError(NamedTuple):
    """What is between ASGD and its equation at the end, by its source."""

    total: Estimate  # E ||X(t_K) - x_K||
    discretization: Estimate  # E ||X(t_K) - x~_K||, the same Brownian motion
    sampling: Estimate  # E ||x~_K - x_K||, noise and batches independent


def approximation_error(
    problem: LeastSquares,
    initial: ArrayLike,
    *,
    iterations: int,
    batch_size: int,
    delay: int = 0,
    delay_weights: ArrayLike | None = None,
    refinement: int = 16,
    runs: int = 400,
    seed: int = 0,
) -> ApproximationError:
    r"""Measures what Theorems 3.2 and 3.4 bound.

    They take :math:`\eta = \delta = 1 / K`, so that X is seen at t = 1, and
    bound the error by

    .. math::
        C_1 \left( \frac{1}{\sqrt K} + \frac{l}{K^{3/2}} \right)
        + C_2 \frac{e^{L (l + 1)}}{\sqrt b (l + 1)}
        \quad \text{or} \quad
        C_3 \left( \frac{1}{\sqrt K} + \frac{l}{K^{3/2}} \right)
        + C_4 \frac{e^L}{\sqrt b},

    for random delays of at most l, and for a constant one. As in their
    proofs, ASGD and the equation have the same delays, X and its
    discretization the same Brownian motion, and the mini-batches are
    independent of it.

    Args:
        problem: what ASGD minimizes.
        initial: :math:`x_0 = \xi`, shape (dimension,).
        iterations: K, more than L (l + 1) for the theorems.
        batch_size: b.
        delay: l, in iterations; the constant delay.
        delay_weights: :math:`q_0, ..., q_l`, for delays drawn in each step
            (`delay` is not used then).
        refinement: steps for each iteration, in the solution that is taken
            for X: it removes all but 1 / `refinement` of the error that is
            measured.
        runs: independent runs, at least 2.
        seed: of all that is random.

    Returns:
        `ApproximationError`: a mean and its standard error for each part.

    Raises:
        ValueError: an argument is out of its range.

    Example:

    >>> error = approximation_error(
    ...     two_parabolas(), [4.0], iterations=50, batch_size=10_000
    ... )
    >>> print(f"{error.total.mean:.3f} {error.discretization.mean:.3f}")
    0.020 0.020

    Reference:
        He et al. (2018), Theorem 3.2, Corollary 3.3 and Theorem 3.4.
    """
    _checks.whole(1, iterations=iterations, batch_size=batch_size)
    _checks.whole(2, runs=runs)
    start = np.asarray(initial, dtype=np.float64)
    delays, motion, batches = np.random.SeedSequence(seed).generate_state(3)
    lags: ArrayLike = delay
    if delay_weights is not None:
        lags = random_delays(
            delay_weights, iterations, runs=runs, seed=int(delays)
        )
    rate = 1 / iterations
    increments = np.random.default_rng(int(motion)).normal(
        scale=np.sqrt(rate / refinement),
        size=(iterations, refinement, runs, len(start)),
    )

    def equation_end(steps_each: int) -> NDArray[np.float64]:
        parts: NDArray[np.float64] = increments.reshape(
            iterations * steps_each, -1, *increments.shape[2:]
        ).sum(axis=1)
        paths = sdde_paths(
            problem.gradient,
            lambda points: problem.noise_factor(points, batch_size),
            start,
            learning_rate=rate,
            time_step=rate,
            steps=iterations,
            delay=lags,
            refinement=steps_each,
            runs=runs,
            increments=parts,
        )
        end: NDArray[np.float64] = paths[-1]
        return end

    exact, discretized = equation_end(refinement), equation_end(1)
    asynchronous = asgd_paths(
        lambda points, generator: problem.batch_gradient(
            points, batch_size, generator
        ),
        start,
        learning_rate=rate,
        steps=iterations,
        delay=lags,
        runs=runs,
        seed=int(batches),
    )[-1]
    return ApproximationError(
        *(
            estimate(np.linalg.norm(first - second, axis=-1))
            for first, second in (
                (exact, asynchronous),
                (exact, discretized),
                (discretized, asynchronous),
            )
        )
    )


class PathComparison(NamedTuple):
    """Paths from the same start, each with noise of its own."""

    time: NDArray[np.float64]  # k eta, shape (iterations + 1,)
    asgd: NDArray[np.float64]  # shape (iterations + 1, runs)
    sdde: NDArray[np.float64]
    sgd: NDArray[np.float64]
    sde: NDArray[np.float64]


def compare_paths(
    *,
    learning_rate: float = 0.005,
    iterations: int = 2000,
    delay: int = 10,
    initial: float = 4.0,
    batch_size: int = 1,
    runs: int = 1,
    seed: int = 0,
) -> PathComparison:
    r"""The experiment of the paper: ASGD and SDDE, SGD and SDE.

    They minimize `two_parabolas`. ASGD takes its first l steps with no
    delay; the equations are solved with one step of Euler-Maruyama for each
    iteration (:math:`\delta = \eta`), from a constant history.

    Args:
        learning_rate: :math:`\eta`.
        iterations: K.
        delay: l, in iterations.
        initial: :math:`X(0) = \xi`.
        batch_size: b; the paper does not say which, 1 is its eq. 2 at the
            most noise.
        runs: independent runs of each.
        seed: of all that is random.

    Returns:
        `PathComparison`; the defaults are the paper's setting.

    Raises:
        ValueError: an argument is out of its range.

    Example:

    >>> paths = compare_paths()
    >>> paths.asgd.shape, paths.sdde[0]
    ((2001, 1), array([4.]))

    Reference:
        He et al. (2018), section 5 and Figure 1.
    """
    _checks.whole(1, batch_size=batch_size)
    problem = two_parabolas()
    seeds = [int(s) for s in np.random.SeedSequence(seed).generate_state(4)]

    def discrete(lags: ArrayLike, one: int) -> NDArray[np.float64]:
        return asgd_paths(
            lambda points, generator: problem.batch_gradient(
                points, batch_size, generator
            ),
            [initial],
            learning_rate=learning_rate,
            steps=iterations,
            delay=lags,
            runs=runs,
            seed=one,
        )[..., 0]

    def continuous(lag: int, one: int) -> NDArray[np.float64]:
        return sdde_paths(
            problem.gradient,
            lambda points: problem.noise_factor(points, batch_size),
            [initial],
            learning_rate=learning_rate,
            time_step=learning_rate,
            steps=iterations,
            delay=lag,
            runs=runs,
            seed=one,
        )[..., 0]

    return PathComparison(
        time=learning_rate * np.arange(iterations + 1.0),
        asgd=discrete(warm_up_delays(delay, iterations), seeds[0]),
        sdde=continuous(delay, seeds[1]),
        sgd=discrete(0, seeds[2]),
        sde=continuous(0, seeds[3]),
    )
