"""Children send what they have done; momentum follows after several of them."""

import dataclasses
from collections.abc import Mapping
from typing import ClassVar

from tf_elastic.core.arrays import Array
from tf_elastic.core.averages import is_before
from tf_elastic.core.rules.base import CENTER
from tf_elastic.core.rules.base import INCREMENT
from tf_elastic.core.rules.base import Context
from tf_elastic.core.rules.base import Rates
from tf_elastic.core.rules.base import Rule
from tf_elastic.core.rules.base import Slots
from tf_elastic.core.rules.base import rule
from tf_elastic.core.rules.gradients import MOMENTUM_RANGES
from tf_elastic.core.rules.gradients import VELOCITY

BUFFER = "buffer"
_BUFFERED = "buffered"  # how many pushes are in the buffer


@rule("delayed_nesterov")
@dataclasses.dataclass(frozen=True)
class DelayedNesterov(Rule):
    r"""Asynchronous DiLoCo: plain steps, and momentum once in N of them.

    With what a child has done, d, at each push

    .. math::
        b \leftarrow b + d, \quad
            \tilde x \leftarrow \tilde x + \eta (c \mu v + d / N)

    but at every N-th

    .. math::
        v \leftarrow \mu v + b / N, \quad b \leftarrow 0, \quad
            \tilde x \leftarrow \tilde x + \eta ((1 - c N + c) \mu v + d / N)

    So N pushes together are a step of Nesterov's momentum by their mean, if
    c is 0; else the velocity that there is acts with each of them.

    N pushes have come when as many are in the buffer: it may change, as the
    number of workers does.

    Rates: "learning_rate" (eta), "momentum" (mu), "delay" (N), "activation"
    (c in [0, 1 / N]).

    Reference:
        Liu et al. (2024), "Asynchronous local-SGD training for language
        modeling", Algorithm 3.
    """

    sends: ClassVar[str] = INCREMENT
    moves_by_itself: ClassVar[bool] = True
    ranges: ClassVar[Mapping[str, tuple[float, float]]] = {
        **MOMENTUM_RANGES,
        "delay": (1.0, 2.0**31),
        "activation": (0.0, 1.0),
    }

    @property
    def numbers(self) -> Mapping[str, float]:
        """How many pushes are in the buffer."""
        return {_BUFFERED: 0.0}

    def init(self, center: Array) -> dict[str, Array]:
        """No velocity yet, and an empty buffer."""
        return {CENTER: center, VELOCITY: 0 * center, BUFFER: 0 * center}

    def check(self, rates: Rates) -> None:
        """See `Rule.check`."""
        super().check(rates)
        delay, activation = rates["delay"], rates["activation"]
        if delay * activation > 1:
            raise ValueError(
                f"The rule {self.name!r} needs the rate `activation` to be at "
                f"most 1 / `delay`. Received: activation={activation!r:.80}, "
                f"delay={delay!r:.80}."
            )

    def rates_at(self, rates: Rates, context: Context) -> Rates:
        """Whether the buffer is full, and by what all of it counts."""
        kept = {**self.numbers, **context.kept}
        delay, activation = rates["delay"], rates["activation"]
        buffered = kept[_BUFFERED] + context.count
        is_full = 1 - is_before(buffered, delay)
        return {
            **rates,
            "is_full": is_full,
            "share": 1 / delay,
            "share_of_buffer": is_full / buffered,
            "pull": is_full * (1 - activation * delay) + activation,
            _BUFFERED: (1 - is_full) * buffered,
        }

    def closing(self, rates: Rates) -> Rates:
        """Without momentum: only what was done."""
        return {**rates, "momentum": 0.0}

    def apply(
        self,
        parent: Slots[Array],
        total: Array,
        rates: Rates,
        sent: Array | None = None,
    ) -> dict[str, Array]:
        """Takes a step; see `Rule.apply`."""
        del sent
        is_full, momentum = rates["is_full"], rates["momentum"]
        buffer = parent[BUFFER] + total
        kept = 1 - is_full + is_full * momentum
        velocity = kept * parent[VELOCITY] + rates["share_of_buffer"] * buffer
        way = rates["pull"] * momentum * velocity + rates["share"] * total
        return {
            CENTER: parent[CENTER] + rates["learning_rate"] * way,
            VELOCITY: velocity,
            BUFFER: (1 - is_full) * buffer,
        }

    def rest(self, parent: Slots[Array]) -> dict[str, Array]:
        """No velocity any more, and an empty buffer; see `Rule.rest`."""
        return {
            **parent,
            VELOCITY: 0 * parent[VELOCITY],
            BUFFER: 0 * parent[BUFFER],
        }

    def reached(
        self, size: float, message: float, rates: Rates
    ) -> float | None:
        """See `Rule.reached`: the velocity first, then the center by it."""
        momentum = abs(float(rates["momentum"]))
        velocity = max(momentum, 1.0) * size + (size + message)
        way = momentum * velocity + message
        return velocity + size + float(rates["learning_rate"]) * way
