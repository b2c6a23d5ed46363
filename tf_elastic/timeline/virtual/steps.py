"""When a worker's local steps end."""

import itertools
from collections.abc import Callable
from collections.abc import Generator
from collections.abc import Iterator

import numpy as np

from tf_elastic.timeline.virtual import streams
from tf_elastic.timeline.virtual.durations import Constant
from tf_elastic.timeline.virtual.durations import Sampler
from tf_elastic.timeline.virtual.faults import Pauses
from tf_elastic.timeline.virtual.timing import Timing

# When what begins at a time ends.
Ends = Callable[[float], float]


def ends(timing: Timing, seed: int, worker: int) -> Ends:
    """When a worker's steps end, one after another, by when they begin."""
    each = _sampler(timing, seed, worker)
    if isinstance(each, float):
        return _ends(timing, itertools.repeat(each), seed, worker)
    return _ends(timing, streams.one_by_one(each), seed, worker)


def merged_ends(
    timing: Timing, seed: int, worker: int, first: int, period: int
) -> Ends:
    """The same of several steps at once.

    Args:
        timing: of all.
        seed: of all.
        worker: whose steps.
        first: how many are the first ones.
        period: how many are all later ones.
    """
    each = _sampler(timing, seed, worker)
    if isinstance(each, float):
        later: Iterator[float] = itertools.repeat(each * period)
        sums = itertools.chain([each * first], later)
        return _ends(timing, sums, seed, worker)

    def draw(count: int) -> np.ndarray:
        sums: np.ndarray = each(count * period).reshape(count, period).sum(1)
        return sums

    def summed() -> Iterator[float]:
        yield float(each(first).sum())
        yield from streams.one_by_one(draw)

    return _ends(timing, summed(), seed, worker)


def _ends(
    timing: Timing, seconds: Iterator[float], seed: int, worker: int
) -> Ends:
    found = _begun(_one_after_another(seconds))
    if timing.pauses is None:
        return found
    return _begun(_with_pauses(found, timing.pauses, seed, worker))


def _begun(process: Generator[float, float, None]) -> Ends:
    next(process)
    return process.send


def _one_after_another(
    seconds: Iterator[float],
) -> Generator[float, float, None]:
    time = yield 0.0
    for taken in seconds:
        time = yield time + taken


def _with_pauses(
    undisturbed: Ends, pauses: Pauses, seed: int, worker: int
) -> Generator[float, float, None]:
    rng = streams.generator(seed, streams.PAUSE_BEGINS, worker)
    works = streams.one_by_one(lambda n: rng.exponential(1 / pauses.rate, n))
    stands = streams.of(pauses.seconds, seed, streams.PAUSE, worker)
    left = next(works)  # seconds of work before the next pause
    time = yield 0.0
    while True:
        end = undisturbed(time)
        work = end - time
        while left < work:
            end += next(stands)
            left += next(works)
        left -= work
        time = yield end


def _sampler(timing: Timing, seed: int, worker: int) -> Sampler | float:
    """Draws the seconds of steps; or a number, if all take the same."""
    step = timing.of_worker("step", worker)
    speed = timing.of_worker("speeds", worker) or 1.0
    stragglers = timing.stragglers
    constant = isinstance(step, Constant) and isinstance(timing.data, Constant)
    if constant and stragglers is None:
        return float(step.seconds / speed + timing.data.seconds)
    steps = streams.sampler(step, seed, streams.STEP, worker)
    loads = streams.sampler(timing.data, seed, streams.DATA, worker)
    rng = streams.generator(seed, streams.STRAGGLE, worker)

    def draw(count: int) -> np.ndarray:
        seconds = steps(count) / speed
        if stragglers is not None:
            slow = rng.random(count) < stragglers.chance
            seconds[slow] *= stragglers.factor
        return seconds + loads(count)

    return draw
