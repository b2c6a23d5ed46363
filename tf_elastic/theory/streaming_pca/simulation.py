"""Async-MSGD for streaming PCA: all runs of all settings at once."""

import functools
import os
from collections.abc import Callable
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple
from typing import Protocol
from typing import TypeVar
from typing import runtime_checkable

import numpy as np
from numpy.typing import ArrayLike
from numpy.typing import NDArray

from tf_elastic import core
from tf_elastic.theory import _checks
from tf_elastic.theory.streaming_pca import problem

# (generator, (steps, runs)) -> delays, whole and at least 0.
DelaySampler = Callable[[np.random.Generator, tuple[int, int]], ArrayLike]


@runtime_checkable
class Distribution(Protocol):
    """A distribution of delays, as those of `scipy.stats` are."""

    def rvs(
        self, *, size: tuple[int, int], random_state: np.random.Generator
    ) -> ArrayLike:
        """Draws delays of shape (steps, runs), whole and at least 0."""


Number = TypeVar("Number", np.float64, np.int64)

_RUNS = 2048  # that share a stream of random numbers
_STEPS = 32  # whose inputs are drawn at once
# Numbers in an array of a block of settings: few enough for a processor's own
# cache, many enough that NumPy's overhead of a call is small.
_BLOCK = 32768


class Paths(NamedTuple):
    """What `simulate` kept of its runs."""

    steps: NDArray[np.int64]  # k, ascending; shape (records,)
    points: NDArray[np.float64]  # v_k; shape (records, *settings, runs, d)


def geometric_delay(mean: float) -> DelaySampler:
    r"""A delay without a bound: each further step is as likely as the last.

    Args:
        mean: :math:`E[\tau_k]`, positive.

    Returns:
        A sampler for `simulate`: :math:`P(\tau_k = n) = (1 - q) q^n` with
        :math:`q = E[\tau_k] / (1 + E[\tau_k])`.

    Raises:
        ValueError: `mean` is not positive.

    Example:

    >>> import numpy as np
    >>> draws = geometric_delay(3.0)(np.random.default_rng(0), (1000, 100))
    >>> print(draws.min(), f"{draws.mean():.1f}")
    0 3.0

    Reference:
        Liu et al. (2018), section 4.
    """
    success = 1 / (1 + float(_checks.above("mean", mean, 0)))
    return lambda generator, shape: generator.geometric(success, shape) - 1


def simulate(
    *,
    momentum: ArrayLike,
    delay: ArrayLike | DelaySampler | Distribution,
    learning_rate: ArrayLike,
    covariance: ArrayLike,
    steps: int,
    runs: int,
    seed: int,
    record: ArrayLike | None = None,
    initial: ArrayLike | None = None,
    inputs: str = "gaussian",
    threads: int | None = None,
) -> Paths:
    r"""Runs of Async-MSGD for streaming PCA.

    .. math::
        v_{k+1} = v_k + \mu (v_k - v_{k-1})
            + \eta (I - v_{k-\tau_k} v_{k-\tau_k}^\top)
              X_k X_k^\top v_{k-\tau_k}

    from :math:`v_i = v_0` for all :math:`i \le 0`. Settings are what
    `momentum`, `delay` and `learning_rate` broadcast to. All of them see the
    same inputs (and the same random delays): each setting's law is the right
    one, and two settings differ by less noise than independent ones would, but
    are not independent of each other. Runs are.

    Args:
        momentum: :math:`\mu` in [0, 1).
        delay: :math:`\tau_k`: a whole number, at least 0, or an array of them,
            each constant; or, for delays drawn anew at each step of each run, a
            function of (generator, shape) or a distribution of `scipy.stats`.
            A delay that reaches back before the start finds :math:`v_0`.
        learning_rate: :math:`\eta`, positive.
        covariance: :math:`\Sigma`, shape (d, d); see `eigenbasis`.
        steps: how many steps, at least 1.
        runs: how many runs of each setting, at least 1.
        seed: of the random numbers, at least 0. The same seed gives the same
            inputs whatever the settings.
        record: the k of the points to keep, in [0, steps]; by default the last.
        initial: :math:`v_0`, shape (d,) or (runs, d); by default the paper's,
            the saddle point :math:`v^2`.
        inputs: the law of X: "gaussian", or "sphere" for bounded inputs.
        threads: how many; by default one for each core, four at most. The
            result does not depend on it.

    Returns:
        `Paths`. A run that diverges ends in infinities or NaN.

    Raises:
        ValueError: an argument is out of its range.

    Example:

    >>> import numpy as np
    >>> steps, points = simulate(
    ...     momentum=[0.7, 0.9], delay=20, learning_rate=5e-4,
    ...     covariance=np.diag([4.0, 3.0, 2.0, 1.0]), steps=3000, runs=5, seed=1
    ... )
    >>> points.shape
    (1, 2, 5, 4)

    Reference:
        Liu et al. (2018), eq. 2.1; section 4 for random delays.
    """
    basis = problem.eigenbasis(covariance)
    problem.check_inputs(inputs)
    steps = _checks.whole_number("steps", steps)
    runs = _checks.whole_number("runs", runs)
    seed = _checks.whole_number("seed", seed, 0)
    if threads is None:
        threads = min(os.cpu_count() or 1, 4)  # more wait for each other
    threads = _checks.whole_number("threads", threads)
    sampler, fixed = _sampler_or_delays(delay)
    momentum, learning_rate, constant = np.broadcast_arrays(
        problem.checked_momentum(momentum),
        _checks.above("learning_rate", learning_rate, 0),
        fixed,
    )
    kept = _kept_steps(record, steps)
    start = _start(initial, basis, runs)
    job = functools.partial(
        _run,
        root=basis.vectors * np.sqrt(basis.values),
        steps=steps,
        seed=seed,
        kept=kept,
        inputs=inputs,
        sampler=sampler,
    )
    shape, size = momentum.shape, start.shape[0]
    points = np.empty((len(kept), momentum.size, runs, size))
    # Like settings together: a block remembers its longest delay, and ends
    # where all of it has diverged.
    order = np.lexsort([a.ravel() for a in (constant, momentum, learning_rate)])
    blocks = list(_blocks(order, runs, size))

    def fill(block: tuple[int, slice, NDArray[np.int64]]) -> None:
        number, some_runs, settings = block
        points[:, settings, some_runs] = job(
            number,
            momentum=momentum.ravel()[settings],
            learning_rate=learning_rate.ravel()[settings],
            delay=constant.ravel()[settings],
            start=start[:, some_runs],
        )

    with ThreadPoolExecutor(min(threads, len(blocks))) as pool:
        list(pool.map(fill, blocks))
    return Paths(kept, points.reshape(len(kept), *shape, runs, size))


def _whole(name: str, value: ArrayLike) -> NDArray[np.int64]:
    """The value as an array of integers; whole and at least 0."""
    _checks.whole(0, **{name: value})
    return np.asarray(value).astype(np.int64)


def _sampler_or_delays(
    delay: ArrayLike | DelaySampler | Distribution,
) -> tuple[DelaySampler | None, NDArray[np.int64]]:
    """The delay's sampler, or none and the delays that are constant."""
    none = np.zeros((), np.int64)
    if isinstance(delay, Distribution):
        distribution = delay
        return (
            lambda generator, shape: distribution.rvs(
                size=shape, random_state=generator
            )
        ), none
    if callable(delay):
        return delay, none
    return None, _whole("delay", delay)


def _kept_steps(record: ArrayLike | None, steps: int) -> NDArray[np.int64]:
    kept = np.unique(_whole("record", steps if record is None else record))
    _checks.require(kept <= steps, "at most `steps`", record=record)
    return kept


def _start(
    initial: ArrayLike | None, basis: problem.Eigenbasis, runs: int
) -> NDArray[np.float64]:
    """The first points, shape (d, runs)."""
    point = basis.vectors[:, 1] if initial is None else initial
    array = np.asarray(point, np.float64)
    _checks.finite(initial=array)
    size = len(basis.values)
    if array.shape not in ((size,), (runs, size)):
        raise ValueError(
            f"`initial` must be of shape ({size},) or ({runs}, {size}). "
            f"Received: initial={array}."
        )
    return np.broadcast_to(array, (runs, size)).T


def _blocks(
    order: NDArray[np.int64], runs: int, size: int
) -> Iterator[tuple[int, slice, NDArray[np.int64]]]:
    """Blocks of runs (number and slice) with blocks of settings."""
    at_once = max(1, _BLOCK // (size * min(runs, _RUNS)))
    for number, first in enumerate(range(0, runs, _RUNS)):
        for block in range(0, len(order), at_once):
            yield (
                number,
                slice(first, min(first + _RUNS, runs)),
                order[block : block + at_once],
            )


def _run(
    number: int,
    *,
    momentum: NDArray[np.float64],
    learning_rate: NDArray[np.float64],
    delay: NDArray[np.int64],
    start: NDArray[np.float64],
    root: NDArray[np.float64],
    steps: int,
    seed: int,
    kept: NDArray[np.int64],
    inputs: str,
    sampler: DelaySampler | None,
) -> NDArray[np.float64]:
    """The kept points of a block, shape (records, settings, runs, d)."""
    settings, (size, runs) = len(momentum), start.shape
    mu, eta = momentum[:, None, None], learning_rate[:, None, None]
    point = np.repeat(start[None], settings, axis=0)
    velocity = np.zeros_like(point)
    stale = np.empty_like(point)
    scale = np.empty((settings, 1, runs))
    samples = _in_chunks(
        steps,
        _stream(seed, number, 0),
        lambda generator, count: problem.draw(
            generator, root, count, runs, inputs
        ),
    )
    # The latest points, by k modulo the longest delay and one.
    if sampler is None:
        length = int(delay.max()) + 1
        read = _constant_reads(delay, length)
    else:
        delays = functools.partial(_delays, sampler, steps, runs, seed, number)
        length = max(int(drawn.max()) for drawn in delays()) + 1
        read = _random_reads(delays(), length, point.shape)
    latest = np.repeat(point[None], length, axis=0)
    read_from = latest.reshape(
        (length * settings, size, runs) if sampler is None else -1
    )
    records = np.full((len(kept), settings, runs, size), np.nan)
    wanted = {int(k): i for i, k in enumerate(kept)}
    if 0 in wanted:
        records[wanted[0]] = point.swapaxes(1, 2)
    with np.errstate(over="ignore", invalid="ignore"):
        for k, (sample, places) in enumerate(zip(samples, read, strict=False)):
            # Every place is there; "clip" is what lets `out` be unbuffered.
            np.take(read_from, places, axis=0, out=stale, mode="clip")
            # The gradient (X^T v)((X^T v) v - X) at the stale v, in place.
            np.einsum("sdr,dr->sr", stale, sample, out=scale[:, 0])
            np.multiply(stale, scale, out=stale)
            np.subtract(stale, sample, out=stale)
            np.multiply(stale, scale, out=stale)
            point, velocity = core.momentum_step(
                point, velocity, stale, eta, mu
            )
            latest[(k + 1) % length] = point
            if k + 1 in wanted:
                records[wanted[k + 1]] = point.swapaxes(1, 2)
            if k % _STEPS == 0 and not np.isfinite(point).any():
                break  # nothing comes back from there
    return records


def _stream(seed: int, number: int, use: int) -> np.random.Generator:
    """Random numbers of a block of runs for one use, the same each time."""
    return np.random.default_rng(
        np.random.SeedSequence(seed, spawn_key=(number, use))
    )


def _in_chunks(
    steps: int,
    generator: np.random.Generator,
    draw: Callable[[np.random.Generator, int], NDArray[Number]],
) -> Iterator[NDArray[Number]]:
    """One draw for each step, drawn many at once."""
    for first in range(0, steps, _STEPS):
        yield from draw(generator, min(_STEPS, steps - first))


def _constant_reads(
    delay: NDArray[np.int64], length: int
) -> Iterator[NDArray[np.int64]]:
    """Where each setting's stale points lie, for each step, without end."""
    slots = (np.arange(length)[:, None] - delay) % length
    table = slots * len(delay) + np.arange(len(delay))
    while True:
        yield from table


def _delays(
    sampler: DelaySampler, steps: int, runs: int, seed: int, number: int
) -> Iterator[NDArray[np.int64]]:
    """The delays of all runs at each step, none from before the start."""

    def draw(generator: np.random.Generator, count: int) -> NDArray[np.int64]:
        drawn = np.asarray(sampler(generator, (count, runs)))
        if drawn.shape != (count, runs):
            raise ValueError(
                "`delay` must draw an array of the shape it is asked for. "
                f"Received: shape {drawn.shape} instead of {(count, runs)}."
            )
        return _whole("delay", drawn)

    drawn = _in_chunks(steps, _stream(seed, number, 1), draw)
    return (np.minimum(delay, k) for k, delay in enumerate(drawn))


def _random_reads(
    delays: Iterator[NDArray[np.int64]], length: int, shape: tuple[int, ...]
) -> Iterator[NDArray[np.int64]]:
    """Where each number of each run's stale points lies, for each step."""
    size = int(np.prod(shape))
    within = np.arange(size).reshape(shape)
    for k, delay in enumerate(delays):
        yield within + (k - delay) % length * size
