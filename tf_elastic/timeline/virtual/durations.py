"""How long something takes in a virtual cluster, each time that it is done.

>>> duration(0.1)
Constant(seconds=0.1)
>>> from_config({"kind": "exponential", "mean": 2.0})
Exponential(mean=2.0)

A duration is an immutable value. What is drawn from it depends on a generator
alone, and not on how many are drawn at once.
"""

import abc
import dataclasses
import math
from collections.abc import Callable
from collections.abc import Mapping
from collections.abc import Sequence
from typing import ClassVar

import numpy as np

from tf_elastic.timeline.virtual import names

# The next seconds, float64 of the shape (count,), by their count.
Sampler = Callable[[int], np.ndarray]


class Duration(abc.ABC):
    """Base class: seconds, each drawn on its own."""

    kind: ClassVar[str]  # its name in a configuration

    @property
    @abc.abstractmethod
    def average(self) -> float:
        """The expected seconds."""

    @abc.abstractmethod
    def sampler(self, rng: np.random.Generator) -> Sampler:
        """Draws from the beginning.

        Args:
            rng: nobody else's.
        """

    @property
    def is_nothing(self) -> bool:
        """Whether it never takes any time."""
        return self.average == 0

    def config(self) -> object:
        """What `from_config` makes an equal one from; JSON."""
        fields = dataclasses.fields(self)  # type: ignore[arg-type]
        values = {f.name: getattr(self, f.name) for f in fields}
        return {"kind": self.kind, **values}


@dataclasses.dataclass(frozen=True)
class Constant(Duration):
    """Always the same.

    Args:
        seconds: at least 0.

    Raises:
        ValueError: it is out of its range.
    """

    kind: ClassVar[str] = "constant"
    seconds: float

    def __post_init__(self) -> None:
        """Checks the arguments."""
        check_number("seconds", self.seconds)

    @property
    def average(self) -> float:
        """See `Duration.average`."""
        return self.seconds

    def sampler(self, rng: np.random.Generator) -> Sampler:
        """See `Duration.sampler`."""
        del rng
        return lambda count: np.full(count, float(self.seconds))

    def config(self) -> object:
        """The number itself."""
        return self.seconds


@dataclasses.dataclass(frozen=True)
class Normal(Duration):
    """As a normal law, of which only what is above 0 counts.

    Args:
        mean: of the law before it is cut, above 0.
        deviation: of it, at least 0.

    Raises:
        ValueError: an argument is out of its range.
    """

    kind: ClassVar[str] = "normal"
    mean: float
    deviation: float

    def __post_init__(self) -> None:
        """Checks the arguments."""
        check_number("mean", self.mean, above=0)
        check_number("deviation", self.deviation)

    @property
    def average(self) -> float:
        """See `Duration.average`; a little above `mean`, by what is cut."""
        if self.deviation == 0:
            return self.mean
        cut = self.mean / self.deviation
        density = math.exp(-(cut**2) / 2) / math.sqrt(2 * math.pi)
        left = (1 + math.erf(cut / math.sqrt(2))) / 2
        return self.mean + self.deviation * density / left

    def sampler(self, rng: np.random.Generator) -> Sampler:
        """See `Duration.sampler`."""

        def draw(count: int) -> np.ndarray:
            kept = np.empty(0)
            # No more than are missing: so one draw is as good as several.
            while len(kept) < count:
                more = rng.normal(self.mean, self.deviation, count - len(kept))
                kept = np.concatenate([kept, more[more > 0]])
            return kept

        return draw


@dataclasses.dataclass(frozen=True)
class LogNormal(Duration):
    """Mostly about as long, now and then several times so.

    Args:
        mean: seconds, above 0.
        sigma: the standard deviation of the logarithm, at least 0.

    Raises:
        ValueError: an argument is out of its range.
    """

    kind: ClassVar[str] = "lognormal"
    mean: float
    sigma: float

    def __post_init__(self) -> None:
        """Checks the arguments."""
        check_number("mean", self.mean, above=0)
        check_number("sigma", self.sigma)

    @property
    def average(self) -> float:
        """See `Duration.average`."""
        return self.mean

    def sampler(self, rng: np.random.Generator) -> Sampler:
        """See `Duration.sampler`."""
        center = math.log(self.mean) - self.sigma**2 / 2
        return lambda count: rng.lognormal(center, self.sigma, count)


@dataclasses.dataclass(frozen=True)
class Exponential(Duration):
    """Without memory: how long it has taken says nothing of the rest.

    Args:
        mean: seconds, above 0.

    Raises:
        ValueError: it is out of its range.
    """

    kind: ClassVar[str] = "exponential"
    mean: float

    def __post_init__(self) -> None:
        """Checks the arguments."""
        check_number("mean", self.mean, above=0)

    @property
    def average(self) -> float:
        """See `Duration.average`."""
        return self.mean

    def sampler(self, rng: np.random.Generator) -> Sampler:
        """See `Duration.sampler`."""
        return lambda count: rng.exponential(self.mean, count)


@dataclasses.dataclass(frozen=True)
class Pareto(Duration):
    """Heavy-tailed: P(seconds > s) = (least / s)^exponent.

    Args:
        least: seconds, above 0.
        exponent: above 1; up to 2 the variance is infinite.

    Raises:
        ValueError: an argument is out of its range.
    """

    kind: ClassVar[str] = "pareto"
    least: float
    exponent: float

    def __post_init__(self) -> None:
        """Checks the arguments."""
        check_number("least", self.least, above=0)
        check_number("exponent", self.exponent, above=1)

    @property
    def average(self) -> float:
        """See `Duration.average`."""
        return self.least * self.exponent / (self.exponent - 1)

    def sampler(self, rng: np.random.Generator) -> Sampler:
        """See `Duration.sampler`."""
        return lambda count: self.least * (1 + rng.pareto(self.exponent, count))


@dataclasses.dataclass(frozen=True)
class Trace(Duration):
    """As recorded; after the last one they begin again with the first.

    Args:
        values: seconds, at least one, each at least 0.

    Raises:
        ValueError: there is none, or one is out of its range.
    """

    kind: ClassVar[str] = "trace"
    values: Sequence[float]

    def __post_init__(self) -> None:
        """Checks the arguments."""
        values = tuple(self.values)
        if not values:
            raise ValueError(
                "`values` of a trace must hold at least one number. "
                "Received: values=()."
            )
        for value in values:
            check_number("values", value)
        object.__setattr__(self, "values", values)

    @property
    def average(self) -> float:
        """See `Duration.average`."""
        return math.fsum(self.values) / len(self.values)

    def sampler(self, rng: np.random.Generator) -> Sampler:
        """See `Duration.sampler`."""
        del rng
        values, at = np.asarray(self.values, float), 0

        def draw(count: int) -> np.ndarray:
            nonlocal at
            drawn = values[np.arange(at, at + count) % len(values)]
            at = (at + count) % len(values)
            return drawn

        return draw

    def config(self) -> object:
        """See `Duration.config`."""
        return {"kind": self.kind, "values": list(self.values)}


KINDS: dict[str, type[Duration]] = {
    cls.kind: cls
    for cls in (Constant, Normal, LogNormal, Exponential, Pareto, Trace)
}


def duration(value: object, name: str = "seconds") -> Duration:
    """Makes a duration of a number; leaves a duration as it is.

    Args:
        value: a `Duration`, or a number for a constant one.
        name: what it is, for the error.

    Raises:
        ValueError: it is neither, or out of its range.
    """
    if isinstance(value, Duration):
        return value
    check_number(name, value)
    return Constant(value)  # type: ignore[arg-type]


def from_config(config: object, name: str = "seconds") -> Duration:
    """Makes an equal duration from what its `config` returned.

    Args:
        config: a number, or "kind" and the arguments by name.
        name: what it is, for errors.

    Raises:
        ValueError: the kind is unknown, or an argument is not fit.
    """
    if not isinstance(config, Mapping):
        return duration(config, name)
    arguments = dict(config)
    kind = arguments.pop("kind", None)
    if not isinstance(kind, str) or kind not in KINDS:
        raise ValueError(
            f"`kind` of `{name}` must be one of {', '.join(sorted(KINDS))}."
            f"{names.nearest(kind, KINDS)} Received: kind={kind!r:.80}."
        )
    wanted = [f.name for f in dataclasses.fields(KINDS[kind])]  # type: ignore[arg-type]
    names.check_known(f"the duration {kind!r}", arguments, wanted)
    missing = [field for field in wanted if field not in arguments]
    if missing:
        raise ValueError(
            f"`{name}` of the kind {kind!r} needs `{missing[0]}`. Received: "
            f"{sorted(arguments)}."
        )
    return KINDS[kind](**arguments)


def check_number(name: str, value: object, above: float | None = None) -> None:
    """Refuses what is no number, not finite, or too small.

    Args:
        name: of the value.
        value: to be checked.
        above: what it has to be above; None: it has to be at least 0.

    Raises:
        ValueError: it is not fit.
    """
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if is_number and math.isfinite(value):  # type: ignore[arg-type]
        if value >= 0 if above is None else value > above:  # type: ignore[operator]
            return
    wanted = "at least 0" if above is None else f"above {above:g}"
    raise ValueError(
        f"`{name}` must be a finite number {wanted}. "
        f"Received: {name}={value!r:.80}."
    )
