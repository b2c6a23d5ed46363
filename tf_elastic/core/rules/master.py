"""A rule whose parent is kept in float32, of variables of 16 bits.

A bfloat16 has 8 bits of precision: what moves a center by less than 1/512 of
its value would be rounded away, however often it comes. So the parent keeps a
*master* in float32, and its arithmetic is that of float32. Children have 16
bits still: a message, a difference and a point to go on from are rounded to
them, so that as much travels as without it.
"""

import dataclasses
from collections.abc import Mapping

from tf_elastic.core.arrays import Array
from tf_elastic.core.arrays import rounded
from tf_elastic.core.arrays import wide_dtype
from tf_elastic.core.arrays import widened
from tf_elastic.core.rules.base import Context
from tf_elastic.core.rules.base import Rates
from tf_elastic.core.rules.base import Rule
from tf_elastic.core.rules.base import Slots


def for_dtype(rule: Rule, dtype: str) -> Rule:
    """The rule by which variables of a dtype move: here it is decided.

    Args:
        rule: of the exchange.
        dtype: the name of a floating dtype.

    Returns:
        The same for 32 bits and more, else with a master.
    """
    return rule if wide_dtype(dtype) == dtype else Master(rule, dtype)


@dataclasses.dataclass(frozen=True)
class Master(Rule):
    r"""The rule inside, with a parent in float32.

    With R the rounding to 16 bits, elastic averaging is then

    .. math::
        d = R(x^i - \tilde x), \quad
        \tilde x \leftarrow \tilde x + \frac{\beta}{p} d, \quad
        x^i \leftarrow R(x^i - \alpha d)

    Both move by the same d. What the center takes up is exact to float32
    rounding; what a worker gives up is rounded to what it can hold.

    Rates of tensors are float32. A parent's slots may come in 16 bits: then
    they are taken as they are.

    Args:
        of: the rule inside.
        dtype: of the variables, of 16 bits.

    Example:

    >>> import numpy as np
    >>> from tf_elastic.core.rules import Elastic
    >>> rule = Master(Elastic(), "float16")
    >>> parent = rule.init(np.ones(1, np.float16))
    >>> rates = {"beta": 0.5, "num_workers": 1}
    >>> for _ in range(2):  # Half a unit in the last place each time.
    ...     parent = rule.apply(parent, np.full(1, 2.0**-11, "f2"), rates)
    >>> float(parent["center"][0]) - 1 == 2**-11
    True
    """

    of: Rule
    dtype: str

    @property
    def name(self) -> str:  # type: ignore[override]
        """As the rule inside."""
        return self.of.name

    @property
    def sends(self) -> str:  # type: ignore[override]
        """As the rule inside."""
        return self.of.sends

    @property
    def answers_difference(self) -> bool:  # type: ignore[override]
        """As the rule inside."""
        return self.of.answers_difference

    @property
    def moves_by_itself(self) -> bool:  # type: ignore[override]
        """As the rule inside."""
        return self.of.moves_by_itself

    @property
    def works_both_ways(self) -> bool:  # type: ignore[override]
        """As the rule inside."""
        return self.of.works_both_ways

    @property
    def by_variable(self) -> bool:  # type: ignore[override]
        """As the rule inside."""
        return self.of.by_variable

    @property
    def inner(self) -> Rule:
        """With a master too."""
        return Master(self.of.inner, self.dtype)

    @property
    def remembers(self) -> bool:
        """As the rule inside."""
        return self.of.remembers

    @property
    def numbers(self) -> Mapping[str, float]:
        """As of the rule inside."""
        return self.of.numbers

    @property
    def shown(self) -> str:
        """As of the rule inside."""
        return self.of.shown

    def init(self, center: Array) -> dict[str, Array]:
        """All of it in float32."""
        return self.of.init(widened(center))

    def rates_at(self, rates: Rates, context: Context) -> Rates:
        """As the rule inside."""
        return self.of.rates_at(rates, context)

    def check(self, rates: Rates) -> None:
        """As the rule inside."""
        self.of.check(rates)

    def closing(self, rates: Rates) -> Rates:
        """As the rule inside."""
        return self.of.closing(rates)

    def delta(self, message: Array, parent: Slots[Array]) -> Array:
        """In 16 bits, of a difference that is computed in float32."""
        delta: Array = self.of.delta(widened(message), _wide(parent))
        return self._rounded(delta)

    def summand(self, delta: Array) -> Array:
        """In float32."""
        wide: Array = widened(delta)
        return wide

    def apply(
        self,
        parent: Slots[Array],
        total: Array,
        rates: Rates,
        sent: Array | None = None,
    ) -> dict[str, Array]:
        """In float32; see `Rule.apply`."""
        sent = None if sent is None else widened(sent)
        moved: dict[str, Array] = self.of.apply(
            _wide(parent), widened(total), rates, sent
        )
        return moved

    def rest(self, parent: Slots[Array]) -> dict[str, Array]:
        """As the rule inside."""
        return self.of.rest(parent)

    def begin(self, parent: Slots[Array], rates: Rates) -> Array:
        """In 16 bits."""
        return self._rounded(self.of.begin(_wide(parent), rates))

    def reached(
        self, size: float, message: float, rates: Rates
    ) -> float | None:
        """As the rule inside."""
        return self.of.reached(size, message, rates)

    def settle(self, point: Array, difference: Array, rates: Rates) -> Array:
        """In the child's own dtype, computed in float32."""
        settled = self.of.settle(widened(point), widened(difference), rates)
        result: Array = rounded(settled, point.dtype.name)  # type: ignore[attr-defined]
        return result

    def config(self) -> dict[str, object]:
        """That of the rule inside: whoever knows the dtype knows the rest."""
        return self.of.config()

    def _rounded(self, array: Array) -> Array:
        result: Array = rounded(array, self.dtype)
        return result


def _wide(slots: Slots[Array]) -> dict[str, Array]:
    return {name: widened(array) for name, array in slots.items()}
