"""In which order several children and their parent move, written once.

An *exchange* of several children is made of what one child does, and what
their parent does with what came. The three orders compose these:

`jacobi`        all at once, each with the parent as it was: eqs. 2.3 and 2.4.
`gauss_seidel`  the parent first, then the children, to where it now is: eq.
                6.3.
`round_robin`   one child after another, each finds the parent as those before
                have left it: Algorithm 1 in a fixed order.

Where the arrays are (on devices, in a server, in a simulator) is the *place*'s
matter: it calls the pieces below for each variable.
"""

from collections.abc import Iterable
from collections.abc import Sequence
from typing import Generic
from typing import Protocol
from typing import TypeVar

from tf_elastic.core import rules
from tf_elastic.core.arrays import Array
from tf_elastic.core.arrays import NamedTuple
from tf_elastic.core.rules.base import CENTER
from tf_elastic.core.rules.base import Context
from tf_elastic.core.rules.base import Rates
from tf_elastic.core.rules.base import Rule
from tf_elastic.core.rules.base import Slots

JACOBI = "jacobi"
GAUSS_SEIDEL = "gauss_seidel"
ROUND_ROBIN = "round_robin"


# What a place calls the delta of a child: an array, or those of all variables.
Delta = TypeVar("Delta")


class Place(Protocol[Delta]):
    """Where children and their parent are; `i` is a child's number."""

    def children(self) -> Iterable[int]:
        """The children, in the order of service."""

    def differ(self, i: int) -> Delta:
        """The child's `delta` to the parent as it is now."""

    def leave(self, i: int) -> Delta:
        """The same, and the child settles at once: see `leave`."""

    def collect(self, deltas: Sequence[Delta]) -> None:
        """The parent moves by the sum of deltas: see `collect`."""

    def come_back(self, i: int) -> None:
        """The child goes to the parent as it is now: see `come_back`."""

    def visit(self, i: int) -> None:
        """The child and the parent move by each other: see `visit`."""


def jacobi(place: Place[Delta]) -> None:
    """All at once: eqs. 2.3 and 2.4."""
    place.collect([place.leave(i) for i in place.children()])


def gauss_seidel(place: Place[Delta]) -> None:
    """The parent first, then the children: eq. 6.3."""
    place.collect([place.differ(i) for i in place.children()])
    for i in place.children():
        place.come_back(i)


def round_robin(place: Place[Delta]) -> None:
    """One child after another: Algorithm 1."""
    for i in place.children():
        place.visit(i)


class Order(Protocol):
    """One of the three."""

    def __call__(self, place: Place[Delta], /) -> None:
        """An exchange of all children of a place."""


ORDERS: dict[str, Order] = {
    JACOBI: jacobi,
    GAUSS_SEIDEL: gauss_seidel,
    ROUND_ROBIN: round_robin,
}


def others_since(i: int, num_children: int, is_first: Array) -> Array:
    """How many other children the parent has seen since child i's last visit.

    In `round_robin`: all others, but in the first round those before it.

    Args:
        i: the child, from 0.
        num_children: p.
        is_first: whether it is the first round: 1 or 0, a number or a scalar
            tensor.

    Example:

    >>> others_since(1, 4, is_first=1), others_since(1, 4, is_first=0)
    (1, 3)
    """
    return is_first * i + (1 - is_first) * (num_children - 1)


# The pieces, for one variable.


class Visited(NamedTuple, Generic[Array]):
    """What a visit has come to."""

    parent: dict[str, Array]
    point: Array  # where the child is now


def leave(
    rule: Rule, message: Array, point: Array, parent: Slots[Array], rates: Rates
) -> tuple[Array, Array]:
    """A child's delta, and where it is after it has settled by that.

    Args:
        rule: of the exchange, which `answers_difference`.
        message: what the child sends.
        point: what it moves: the same, or what it stores instead (a
            look-ahead point), which moves by as much.
        parent: as the child finds it.
        rates: as `Rule.rates_at` gives them.
    """
    delta = rule.delta(message, parent)
    return delta, rule.settle(point, delta, rates)


def collect(
    rule: Rule, parent: Slots[Array], deltas: Sequence[Array], rates: Rates
) -> dict[str, Array]:
    """The parent after all have come: one update by their sum."""
    total = summed([rule.summand(delta) for delta in deltas])
    return rule.apply(parent, total, rates)


def come_back(
    rule: Rule, message: Array, point: Array, parent: Slots[Array], rates: Rates
) -> Array:
    """Where a child goes when its parent has moved; for arguments see `leave`.

    To a rule that answers by a point `message` and `point` say nothing.
    """
    if rule.answers_difference:
        return rule.settle(point, rule.delta(message, parent), rates)
    return rule.begin(parent, rates)


def visit(
    rule: Rule,
    message: Array,
    point: Array,
    parent: Slots[Array],
    rates: Rates,
    sent: Array | None = None,
) -> Visited[Array]:
    """One child and the parent move by each other.

    Args:
        rule: of the exchange.
        message: what the child sends.
        point: see `leave`.
        parent: as the child finds it.
        rates: as `Rule.rates_at` gives them.
        sent: see `Rule.apply`.
    """
    delta = rule.delta(message, parent)
    moved = rule.apply(parent, delta, rates, sent)
    if rule.answers_difference:
        return Visited(moved, rule.settle(point, delta, rates))
    return Visited(moved, rule.begin(moved, rates))


def go_on(answer: Array, point: Array, sent: Array) -> Array:
    """Where a child goes whose message is answered when it has gone on.

    Overlapped, what was done since the message left is still to come.

    Args:
        answer: the point that the parent has told.
        point: where the child is.
        sent: where it was when the message left.

    Example:

    >>> go_on(2.0, point=1.5, sent=1.0)
    2.5
    """
    return answer + rules.increment(point, sent)


def summed(arrays: Sequence[Array]) -> Array:
    """The sum, in the order given, so that a result can be reproduced."""
    total = arrays[0]
    for array in arrays[1:]:
        total = total + array
    return total


class OfArrays(Generic[Array]):
    """A `Place` of one variable, whose children send where they are.

    Args:
        rule: of the exchange; it sends a POINT.
        points: of the children.
        center: of the parent, whose other slots are at their first values.
        rates: without "num_workers", which is the number of points.
    """

    def __init__(
        self, rule: Rule, points: Sequence[Array], center: Array, rates: Rates
    ) -> None:
        self.points = list(points)
        self.parent = rule.init(center)
        self._rule = rule
        given = {**rates, "num_workers": len(self.points)}
        self._rates = rule.rates_at(given, Context())

    @property
    def center(self) -> Array:
        """The parent's center."""
        return self.parent[CENTER]

    def children(self) -> range:
        """See `Place`."""
        return range(len(self.points))

    def differ(self, i: int) -> Array:
        """See `Place`."""
        return self._rule.delta(self.points[i], self.parent)

    def leave(self, i: int) -> Array:
        """See `Place`."""
        point = self.points[i]
        delta, self.points[i] = leave(
            self._rule, point, point, self.parent, self._rates
        )
        return delta

    def collect(self, deltas: Sequence[Array]) -> None:
        """See `Place`."""
        self.parent = collect(self._rule, self.parent, deltas, self._rates)

    def come_back(self, i: int) -> None:
        """See `Place`."""
        point = self.points[i]
        self.points[i] = come_back(
            self._rule, point, point, self.parent, self._rates
        )

    def visit(self, i: int) -> None:
        """See `Place`."""
        self.parent, self.points[i] = visit(
            self._rule,
            self.points[i],
            self.points[i],
            self.parent,
            self._rates,
        )
