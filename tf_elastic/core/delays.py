"""How late gradients are: all kinds of delays, by name.

>>> as_delay(4)
ConstantDelay(delay=4)
>>> delay_from_config({"kind": "uniform", "low": 0, "high": 8, "seed": 1})
UniformDelay(low=0, high=8, seed=1)
"""

from collections.abc import Mapping

from tf_elastic.core.delay_trace import DelayTrace
from tf_elastic.core.delay_trace import TraceEntry
from tf_elastic.core.listed_delays import ConstantDelay
from tf_elastic.core.listed_delays import Delay
from tf_elastic.core.listed_delays import DelaySequence
from tf_elastic.core.listed_delays import ListedDelay
from tf_elastic.core.listed_delays import is_integer
from tf_elastic.core.random_delays import GeometricDelay
from tf_elastic.core.random_delays import PoissonDelay
from tf_elastic.core.random_delays import RandomDelay
from tf_elastic.core.random_delays import UniformDelay

__all__ = [
    "ConstantDelay",
    "Delay",
    "DelaySequence",
    "DelayTrace",
    "GeometricDelay",
    "ListedDelay",
    "PoissonDelay",
    "RandomDelay",
    "TraceEntry",
    "UniformDelay",
    "as_delay",
    "delay_from_config",
]

_KINDS: dict[str, type[Delay]] = {
    cls.kind: cls
    for cls in (
        ConstantDelay,
        DelaySequence,
        DelayTrace,
        GeometricDelay,
        PoissonDelay,
        UniformDelay,
    )
}


def as_delay(delay: Delay | int) -> Delay:
    """Makes a delay of an integer; leaves a delay as it is.

    Args:
        delay: a `Delay`, or an integer >= 0 for a constant one.

    Returns:
        A `Delay`.

    Raises:
        TypeError: `delay` is neither.
        ValueError: the integer is negative.
    """
    if isinstance(delay, Delay):
        return delay
    if is_integer(delay):
        return ConstantDelay(delay)
    raise TypeError(
        "`delay` must be an integer >= 0 or one of "
        f"{', '.join(sorted(cls.__name__ for cls in _KINDS.values()))}. "
        f"Received: delay={delay!r}."
    )


def delay_from_config(config: Mapping[str, object]) -> Delay:
    """Makes an equal delay from what its `get_config` returned.

    Args:
        config: its "kind", and its arguments by name.

    Returns:
        A `Delay`.

    Raises:
        ValueError: the kind is unknown, or an argument is out of its range.
    """
    arguments = dict(config)
    kind = arguments.pop("kind", None)
    if kind not in _KINDS:
        raise ValueError(
            f"`kind` must be one of {sorted(_KINDS)}. Received: kind={kind!r}."
        )
    return _KINDS[kind](**arguments)
