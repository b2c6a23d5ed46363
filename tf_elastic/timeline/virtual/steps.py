"""How long a worker's local steps take, one after another."""

import itertools
from collections.abc import Iterator

import numpy as np

from tf_elastic.timeline.virtual import streams
from tf_elastic.timeline.virtual.durations import Constant
from tf_elastic.timeline.virtual.durations import Exponential
from tf_elastic.timeline.virtual.durations import Sampler
from tf_elastic.timeline.virtual.faults import Pauses
from tf_elastic.timeline.virtual.timing import Timing


def seconds(timing: Timing, seed: int, worker: int) -> Iterator[float]:
    """What each step of a worker takes, pauses among it, without an end."""
    undisturbed = _one_by_one(_sampler(timing, seed, worker))
    return _with_pauses(undisturbed, timing.pauses, seed, worker)


def of_node(timing: Timing, seed: int, node: int, like: int) -> Iterator[float]:
    """What each step of an inner node of a tree takes: as long as a worker's.

    Args:
        timing: of all.
        seed: of all.
        node: its number, which no worker has.
        like: the worker.
    """
    return _one_by_one(_sampler(timing, seed, node, like))


def _one_by_one(each: Sampler | float) -> Iterator[float]:
    if isinstance(each, float):
        return itertools.repeat(each)
    return streams.one_by_one(each)


def merged_seconds(
    timing: Timing, seed: int, worker: int, first: int, period: int
) -> Iterator[float]:
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
        sums = itertools.chain([each * first], itertools.repeat(each * period))
        return _with_pauses(sums, timing.pauses, seed, worker)

    def draw(count: int) -> np.ndarray:
        sums: np.ndarray = each(count * period).reshape(count, period).sum(1)
        return sums

    drawn = itertools.chain(
        [float(each(first).sum())], streams.one_by_one(draw)
    )
    return _with_pauses(drawn, timing.pauses, seed, worker)


def _with_pauses(
    undisturbed: Iterator[float],
    pauses: Pauses | None,
    seed: int,
    worker: int,
) -> Iterator[float]:
    if pauses is None:
        return undisturbed
    works = streams.of(
        Exponential(1 / pauses.rate), seed, streams.PAUSE_BEGINS, worker
    )
    stands = streams.of(pauses.seconds, seed, streams.PAUSE, worker)
    return _disturbed(undisturbed, works, stands)


def _disturbed(
    undisturbed: Iterator[float],
    works: Iterator[float],
    stands: Iterator[float],
) -> Iterator[float]:
    left = next(works)  # seconds of work before the next pause
    for work in undisturbed:
        taken = work
        while left < work:
            taken += next(stands)
            left += next(works)
        left -= work
        yield taken


def _sampler(
    timing: Timing, seed: int, worker: int, like: int | None = None
) -> Sampler | float:
    """Draws the seconds of steps; or a number, if all take the same.

    Of a worker, or of a node that is as fast as one.
    """
    like = worker if like is None else like
    step = timing.of_worker("step", like)
    speed = timing.of_worker("speeds", like) or 1.0
    data, stragglers = timing.data, timing.stragglers
    is_constant = isinstance(step, Constant) and isinstance(data, Constant)
    if is_constant and stragglers is None:
        return float(step.seconds / speed + data.seconds)
    steps = streams.sampler(step, seed, streams.STEP, worker)
    loads = streams.sampler(data, seed, streams.DATA, worker)
    if stragglers is None:
        return lambda count: steps(count) / speed + loads(count)
    rng = streams.generator(seed, streams.STRAGGLE, worker)

    def draw(count: int) -> np.ndarray:
        taken = steps(count) / speed
        taken[rng.random(count) < stragglers.chance] *= stragglers.factor
        return taken + loads(count)

    return draw
