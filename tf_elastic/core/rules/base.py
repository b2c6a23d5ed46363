"""What a rule is."""

import dataclasses
import inspect
from collections.abc import Callable
from collections.abc import Mapping
from typing import Any
from typing import ClassVar
from typing import NamedTuple
from typing import TypeVar

from tf_elastic.core.arrays import Array

# What a parent keeps: arrays of the center's shape by name, "center" among
# them.
Slots = Mapping[str, Array]

# The numbers of an exchange by name: scalars, on a device tensors. The child
# chooses them for both ends. "num_workers" is p; None stands for what
# `Rule.rates_at` fills in.
Rates = Mapping[str, Any]

# What a child sends.
POINT = "point"  # where it is: superseded by the next one
INCREMENT = "increment"  # adds up: has to come once, and once only
GRADIENT = "gradient"  # may be dropped

CENTER = "center"


class Context(NamedTuple):
    """When a parent gets a message; numbers, or floating scalar tensors."""

    version: float = 0.0  # updates that the parent has seen before
    staleness: float = 1.0  # of them since the child's last read, at least 1
    # The children whose messages are in the sum. (A tuple has a `count()`.)
    count: float = 1  # type: ignore[assignment]
    kept: Mapping[str, Any] = {}  # `Rule.numbers` are among these


@dataclasses.dataclass(frozen=True)
class Rule:
    """Base class. A subclass is a frozen dataclass, named by `@rule(name)`.

    Its fields are numbers, texts, truth values, None, or other rules. Its
    methods use nothing but arithmetic of arrays, value by value unless it is
    `by_variable`; see `Slots` and `Rates`.

    What a subclass has to write is `apply`, and `sends`; an Adam at the
    center also has `init`.
    """

    name: ClassVar[str] = ""
    # POINT, INCREMENT or GRADIENT.
    sends: ClassVar[str] = INCREMENT
    # Whether a child is told the difference to its parent and moves by it
    # (`settle`); else it is told the point to go on from.
    answers_difference: ClassVar[bool] = False
    # What rates the parent needs beside "num_workers", and their least and
    # largest values.
    ranges: ClassVar[Mapping[str, tuple[float, float]]] = {}
    # Whether the parent moves, or its average, though nothing is brought.
    moves_by_itself: ClassVar[bool] = False
    # Whether a point may go down as well as up, and whoever gets it moves by
    # it, without an answer: see `core.one_way`.
    works_both_ways: ClassVar[bool] = False
    # By which other protocols of `core.topology` there are trees of it.
    tree_protocols: ClassVar[tuple[str, ...]] = ()
    # Whether `apply` looks at all values of a variable at once, and not at each
    # alone: then center servers cut a model between variables only.
    by_variable: ClassVar[bool] = False

    @property
    def inner(self) -> "Rule":
        """By what an inner node of a tree goes, which is child and parent.

        Its slots are evaluated nowhere.
        """
        return self

    @property
    def remembers(self) -> bool:
        """Whether `apply` wants the point that the child was given last."""
        return False

    @property
    def numbers(self) -> Mapping[str, float]:
        """Numbers that a parent keeps beside its slots, at first.

        `rates_at` finds them in its context, and gives under the same names
        what they are after the update.
        """
        return {}

    # The parent.

    def init(self, center: Array) -> dict[str, Array]:
        """What the parent keeps at first.

        Args:
            center: its first values.
        """
        return {CENTER: center}

    @property
    def shown(self) -> str:
        """The slot that is evaluated and saved."""
        return CENTER

    def rates_at(self, rates: Rates, context: Context) -> Rates:
        """Fills in what depends on the parent's clock and on the delay.

        Args:
            rates: as the child has sent them.
            context: of the message.

        Returns:
            What `apply` gets.
        """
        del context
        return dict(rates)

    def check(self, rates: Rates) -> None:
        """Refuses rates that the parent cannot take.

        Args:
            rates: as a child has sent them, finite numbers.

        Raises:
            ValueError: one is missing, or out of its range.
        """
        ranges = {"num_workers": (1, 2**31), **self.ranges}
        for name, (low, high) in ranges.items():
            value = rates.get(name)
            if value is None or not low <= value <= high:
                raise ValueError(
                    f"The rule {self.name!r} needs the rate `{name}`, from "
                    f"{low:g} to {high:g}. Received: {name}={value!r:.80}."
                )

    def closing(self, rates: Rates) -> Rates:
        """The rates of an exchange that is shown and does not take place.

        At the end of training; the next step goes on without it.
        """
        return rates

    def delta(self, message: Array, parent: Slots[Array]) -> Array:
        """What of a message moves the parent.

        A point counts by its difference to the center.
        """
        if self.sends == POINT:
            return message - parent[CENTER]
        return message

    def summand(self, delta: Array) -> Array:
        """A child's `delta` as it is added to others'."""
        return delta

    def apply(
        self,
        parent: Slots[Array],
        total: Array,
        rates: Rates,
        sent: Array | None = None,
    ) -> dict[str, Array]:
        """The parent after an update.

        Args:
            parent: before it.
            total: a child's `delta`, or the sum of several ones'.
            rates: as `rates_at` gives them.
            sent: the point that the child was given last, if the rule
                `remembers`.

        Returns:
            The same slots, moved.
        """
        raise NotImplementedError

    def rest(self, parent: Slots[Array]) -> dict[str, Array]:
        """The parent after an update of what is not trained for now.

        Of frozen layers: they stay where they are, however it would have
        moved by itself. A rule with a velocity has none afterwards.

        Args:
            parent: before it.

        Returns:
            The same slots.
        """
        return dict(parent)

    def begin(self, parent: Slots[Array], rates: Rates) -> Array:
        """The point that a child begins at, or goes on from.

        Args:
            parent: as it is now.
            rates: of the last message; empty if there was none yet.
        """
        del rates
        return parent[CENTER]

    def reached(
        self, size: float, message: float, rates: Rates
    ) -> float | None:
        """How large, at most, `apply` makes what the parent keeps.

        Args:
            size: the largest absolute value of all slots.
            message: likewise of the message.
            rates: as `rates_at` gives them, numbers.

        Returns:
            A bound that need not be sharp; None if there is none: the parent
            then looks at every value.
        """
        del size, message, rates
        return None

    # The child.

    def settle(self, point: Array, difference: Array, rates: Rates) -> Array:
        """Where a child goes that is told its difference to the parent."""
        raise NotImplementedError

    # On the wire.

    def config(self) -> dict[str, object]:
        """The rule as JSON; see `from_config`."""
        values = {
            field.name: getattr(self, field.name)
            for field in dataclasses.fields(self)
            if field.init
        }
        return {
            "rule": self.name,
            **{
                name: value.config() if isinstance(value, Rule) else value
                for name, value in values.items()
            },
        }


def increment(point: Array, read: Array) -> Array:
    """What a child has done since it last read: an INCREMENT.

    Args:
        point: where it is.
        read: where it was then.
    """
    return point - read


_RuleClass = TypeVar("_RuleClass", bound=type[Rule])
_KNOWN: dict[str, type[Rule]] = {}


def rule(name: str) -> Callable[[_RuleClass], _RuleClass]:
    """Makes a subclass of `Rule` known by a name, in files and to servers.

    Raises:
        ValueError: the name is taken by a class of another place.

    Example:

    >>> @rule("a rule of the docs")
    ... @dataclasses.dataclass(frozen=True)
    ... class Half(Rule):
    ...     def apply(self, parent, total, rates, sent=None):
    ...         return {"center": parent["center"] + total / 2}
    >>> from_config({"rule": "a rule of the docs"}).apply(
    ...     {"center": 1.0}, 4.0, {}
    ... )
    {'center': 3.0}
    """

    def register(kind: _RuleClass) -> _RuleClass:
        before = _KNOWN.get(name)
        if before is not None and _place(before) != _place(kind):
            raise ValueError(
                f"A rule of the name {name!r} is in {_place(before)} already. "
                f"Received: {_place(kind)}. Give it another name."
            )
        kind.name = name
        _KNOWN[name] = kind
        return kind

    return register


def _place(kind: type[Rule]) -> str:
    try:
        file = inspect.getfile(kind)
    except (OSError, TypeError):  # It was typed in.
        file = kind.__module__
    return f"{file} ({kind.__qualname__})"


def from_config(config: Mapping[str, object]) -> Rule:
    """The rule of a `Rule.config()`.

    Raises:
        ValueError: there is no such rule, or it has not these fields.

    Example:

    >>> from_config({"rule": "elastic"})
    Elastic()
    """
    fields = dict(config)
    name = fields.pop("rule", None)
    kind = _KNOWN.get(name) if isinstance(name, str) else None
    if kind is None:
        raise ValueError(
            f"No rule of the name {name!r:.80} is known here. Known are: "
            f"{', '.join(sorted(_KNOWN))}. A rule of a file of your own has to "
            "be imported by each process: see --rules."
        )
    known = {f.name for f in dataclasses.fields(kind) if f.init}
    if not fields.keys() <= known:
        raise ValueError(
            f"The rule {name!r} has the fields {sorted(known)}. Received: "
            f"{sorted(fields)}."
        )
    values = {
        key: from_config(value) if isinstance(value, Mapping) else value
        for key, value in fields.items()
    }
    for field in dataclasses.fields(kind):
        if field.name in values:
            _check_kind(f"{name}.{field.name}", values[field.name], field)
    try:
        return kind(**values)
    except TypeError as error:
        raise ValueError(f"The rule {name!r}: {error}.") from error


def _check_kind(
    name: str, value: object, field: dataclasses.Field[object]
) -> None:
    """Refuses a value of another kind than a field's default."""
    if field.default is dataclasses.MISSING:
        return
    wanted = type(field.default)
    if issubclass(wanted, Rule):
        wanted = Rule
    is_number = wanted is float and type(value) in (int, float)
    if not (isinstance(value, wanted) or is_number):
        raise ValueError(
            f"`{name}` must be a {wanted.__name__}. Received: "
            f"{name}={value!r:.80}."
        )
