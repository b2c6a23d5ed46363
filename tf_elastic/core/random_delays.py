"""Delays of gradients that are drawn, each step's on its own."""

import abc
import dataclasses
import functools
import math
from collections.abc import Iterator
from typing import ClassVar
from typing import TypeGuard

import numpy as np
from numpy.typing import ArrayLike

from tf_elastic.core import counter_random
from tf_elastic.core.counter_random import Words
from tf_elastic.core.listed_delays import Delay
from tf_elastic.core.listed_delays import check_delay
from tf_elastic.core.listed_delays import is_integer

TAIL = 1e-6  # how rarely an unbounded delay is cut if nobody says otherwise

# Bits of the random words that a delay is looked up by; int64 holds them all.
_BITS = 62


class RandomDelay(Delay):
    """Base class of delays that are drawn, each step's on its own."""

    seed: int

    @property
    @abc.abstractmethod
    def smallest(self) -> int:
        """The smallest delay that can be drawn."""

    @abc.abstractmethod
    def distribution(self) -> np.ndarray:
        """P(delay <= smallest), P(delay <= smallest + 1), ...

        An unbounded delay goes on up to P(delay <= max_delay), the others
        end one before, since it is 1.
        """

    @functools.cached_property
    def thresholds(self) -> np.ndarray:
        """int64: a delay is `smallest` + how many of them a word has reached.

        A word that reaches them all belongs to a delay above `max_delay`, if
        the delay is unbounded.
        """
        scaled = [int(p * 2**_BITS) for p in self.distribution().tolist()]
        return np.array(scaled, np.int64)

    def words(self, steps: Words, worker: int) -> Words:
        """The random words that the delays of some steps are looked up by.

        Args:
            steps: k, uint64, a NumPy array or a TensorFlow tensor.
            worker: number of the worker, from 0.

        Returns:
            uint64 in [0, 2^62), of the shape of `steps`.
        """
        start = counter_random.stream_start(self.seed, worker)
        words = counter_random.random_words(start, steps)
        return words // np.uint64(2 ** (64 - _BITS))

    def draw(self, steps: ArrayLike, worker: int = 0) -> np.ndarray:
        """The delays of some steps; see `Delay.draw`."""
        uncut = self.draw_uncut(steps, worker)
        return np.asarray(np.minimum(uncut, self.max_delay))

    def draw_uncut(self, steps: ArrayLike, worker: int = 0) -> np.ndarray:
        """As `draw`, but a delay that was cut shows as max_delay + 1."""
        steps = np.asarray(steps)
        flat = self.words(np.atleast_1d(steps).astype(np.uint64), worker)
        reached = np.searchsorted(
            self.thresholds, flat.astype(np.int64), side="right"
        )
        return np.asarray(self.smallest + reached).reshape(steps.shape)


@dataclasses.dataclass(frozen=True)
class UniformDelay(RandomDelay):
    """All delays from `low` to `high` are equally likely.

    Args:
        low: the smallest delay, an integer >= 0.
        high: the largest delay, an integer >= low; it can be drawn.
        seed: an integer in [0, 2^63). Default 0.

    Raises:
        ValueError: an argument is out of its range.

    Example:

    >>> UniformDelay(2, 4).draw(np.arange(6))
    array([2, 4, 2, 4, 3, 2])
    """

    kind: ClassVar[str] = "uniform"
    low: int
    high: int
    seed: int = 0

    def __post_init__(self) -> None:
        """Checks the arguments."""
        check_delay("low", self.low)
        check_delay("high", self.high)
        _check_seed(self.seed)
        if self.high < self.low:
            raise ValueError(
                "`high` must not be less than `low`. "
                f"Received: low={self.low}, high={self.high}."
            )

    @property
    def max_delay(self) -> int:
        """The largest delay."""
        return self.high

    @property
    def smallest(self) -> int:
        """The smallest delay."""
        return self.low

    def distribution(self) -> np.ndarray:
        """The distribution function; see `RandomDelay.distribution`."""
        count = self.high - self.low + 1
        return np.arange(1, count) / count


@dataclasses.dataclass(frozen=True)
class _UnboundedDelay(RandomDelay):
    """A distribution with a tail, given by its mean and cut off far out."""

    unbounded: ClassVar[bool] = True
    smallest: ClassVar[int] = 0
    mean: float
    seed: int = 0
    max_delay: int | None = None

    def __post_init__(self) -> None:
        """Checks the arguments, and fills in `max_delay`."""
        if not (_is_number(self.mean) and 0 <= self.mean < math.inf):
            raise ValueError(
                "`mean` must be a finite number that is not negative. "
                f"Received: mean={self.mean!r}."
            )
        _check_seed(self.seed)
        if self.max_delay is None:
            largest = next(
                k for k, tail in enumerate(self._tails()) if tail < TAIL
            )
            object.__setattr__(self, "max_delay", largest)
        check_delay("max_delay", self.max_delay)

    @abc.abstractmethod
    def _tails(self) -> Iterator[float]:
        """P(delay > 0), P(delay > 1), and so on."""

    def distribution(self) -> np.ndarray:
        """The distribution function; see `RandomDelay.distribution`."""
        largest = int(self.max_delay or 0)
        tails = zip(range(largest + 1), self._tails(), strict=False)
        return np.array([1.0 - tail for _, tail in tails])


@dataclasses.dataclass(frozen=True)
class GeometricDelay(_UnboundedDelay):
    r"""Each step more is less likely than the one before by the same factor.

    .. math:: P(\tau = j) = (1 - q)^j q, \quad j = 0, 1, ...,
        \quad q = 1 / (1 + m)

    with the mean m. A delay is unbounded, memory is not: what is above
    `max_delay` becomes `max_delay`.

    Args:
        mean: m, at least 0. It is (1 - q) / q: for a probability q that a
            gradient arrives at the next step, see `with_probability`.
        seed: an integer in [0, 2^63). Default 0.
        max_delay: where delays are cut, an integer >= 0. Default: the
            smallest one that less than one draw in a million is above.

    Raises:
        ValueError: an argument is out of its range.

    Example:

    >>> GeometricDelay(mean=3).draw(np.arange(6))
    array([ 0, 12,  1,  8,  3,  1])
    >>> GeometricDelay(mean=3).max_delay
    48

    Reference:
        The unbounded random delay of section 4 of the paper on momentum and
        asynchrony, which asks for a bounded mean (eq. 4.1).
    """

    kind: ClassVar[str] = "geometric"

    @classmethod
    def with_probability(
        cls, probability: float, seed: int = 0, max_delay: int | None = None
    ) -> "GeometricDelay":
        """The delay of a gradient that arrives with this chance at a step.

        Args:
            probability: q, in (0, 1].
            seed: see `GeometricDelay`.
            max_delay: see `GeometricDelay`.

        Raises:
            ValueError: an argument is out of its range.

        Example:

        >>> GeometricDelay.with_probability(0.25).mean
        3.0
        """
        if not (_is_number(probability) and 0 < probability <= 1):
            raise ValueError(
                "`probability` must be in (0, 1]. "
                f"Received: probability={probability!r}."
            )
        return cls((1 - probability) / probability, seed, max_delay)

    def _tails(self) -> Iterator[float]:
        ratio = self.mean / (1 + self.mean)
        tail = ratio
        while True:
            yield tail
            tail *= ratio


@dataclasses.dataclass(frozen=True)
class PoissonDelay(_UnboundedDelay):
    r"""The number of updates that others make in the time of one gradient.

    .. math:: P(\tau = j) = e^{-m} m^j / j!, \quad j = 0, 1, ...

    with the mean m. A delay is unbounded, memory is not: what is above
    `max_delay` becomes `max_delay`.

    Args:
        mean: m, at least 0, at most 700.
        seed: an integer in [0, 2^63). Default 0.
        max_delay: where delays are cut, an integer >= 0. Default: the
            smallest one that less than one draw in a million is above.

    Raises:
        ValueError: an argument is out of its range.

    Example:

    >>> PoissonDelay(mean=3).draw(np.arange(6))
    array([1, 7, 2, 5, 4, 2])
    >>> PoissonDelay(mean=3).max_delay
    14
    """

    kind: ClassVar[str] = "poisson"

    def __post_init__(self) -> None:
        """Checks the arguments, and fills in `max_delay`."""
        if _is_number(self.mean) and 700 < self.mean < math.inf:
            raise ValueError(
                "`mean` must be at most 700, where e^-mean is still a normal "
                f"number. Received: mean={self.mean}. `UniformDelay` or "
                "`DelaySequence` go further."
            )
        super().__post_init__()

    def _tails(self) -> Iterator[float]:
        probability = math.exp(-self.mean)
        below = probability
        for j in range(1, 1_000_000):
            yield max(1.0 - below, 0.0)
            probability *= self.mean / j
            below += probability


def _is_number(value: object) -> TypeGuard[float]:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _check_seed(seed: object) -> None:
    if not (is_integer(seed) and 0 <= seed < 2**63):
        raise ValueError(
            f"`seed` must be an integer in [0, 2^63). Received: seed={seed!r}."
        )
