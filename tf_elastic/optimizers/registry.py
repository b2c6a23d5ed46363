"""What there is to know of each method, said where its class is.

`@register(...)` beside an optimizer's class says what it exchanges and how,
what travels, what it needs, and what it is good for. All else is read from
here: what a strategy refuses, the flags and defaults of `train.py`, the tables
of the docs, what the tests count. A class in a file of the user's own is as
good as those of the package.
"""

import dataclasses
import functools
import inspect
import re
import types
import typing
from collections.abc import Callable
from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any
from typing import TypeVar

from tf_elastic.theory.advise.setting import RULES as ADVISED

# Orders in which the workers of one process and their center move.
ORDERS = ("jacobi", "gauss_seidel", "round_robin")
# When a worker of a cluster exchanges with the center.
PROTOCOLS = ("overlapped", "blocking", "synchronous")
# In the order in which methods are listed; others come behind these.
FAMILIES = (
    "elastic averaging",
    "sequential averages",
    "DOWNPOUR",
    "gradients to a center with momentum",
    "means",
    "ADMM",
)
_NO_FAMILY = "others"
# What every optimizer takes, unless `refuses` says that it does not.
COMMON = ("weight_decay", "clipnorm", "gradient_accumulation_steps")
# Arguments of a constructor that `train.py` gives in a way of its own.
_NO_FLAGS = {"self", "learning_rate", "jit_compile", "name", *COMMON}
_DATA = {"digits", "cifar"}
_KINDS = {bool: "switch", int: "integer", float: "number", str: "text"}
_TEXTS = (
    *("rule", "refusal", "up", "down"),
    *("stable", "use", "reference", "family"),
)
_COUNTS = (
    "copies_up",
    "copies_down",
    "worker_memory",
    "center_memory",
    "center_memory_per_worker",
)

Class = TypeVar("Class", bound=type)


@dataclasses.dataclass(frozen=True)
class Argument:
    """An argument of a constructor that is a flag of `train.py`."""

    kind: str | None  # "switch", "integer", "number", "text"; None: not known
    default: Any  # of these types, or None


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Registration:
    """What a method does, needs and is good for; see `register`.

    Bytes and memory are in copies of the trainable parameters.
    """

    name: str  # of the class
    cls: Any
    listed: bool
    option: str  # its name for `train.py --optimizer`
    family: str
    rule: str
    orders: tuple[str, ...]
    protocols: tuple[str, ...]
    refusal: str
    up: str
    down: str
    copies_up: int
    copies_down: int
    worker_memory: int
    center_memory: int
    center_memory_per_worker: int
    stable: str
    use: str
    reference: str
    one_worker: bool
    flags: Mapping[str, Argument]
    defaults: Mapping[str, Any]
    refuses: Mapping[str, str]
    advised_as: str | None

    @property
    def summary(self) -> str:
        """The first line of what the class says of itself."""
        text = inspect.cleandoc(self.cls.__dict__.get("__doc__") or "")
        return text.split("\n", 1)[0].strip() or f"{self.rule}."

    @functools.cached_property
    def of_the_program(self) -> dict[str, Any]:
        """What a program has to know before it starts TensorFlow: JSON."""
        return {
            "name": self.name,
            "option": self.option,
            "summary": self.summary,
            "orders": list(self.orders),
            "protocols": list(self.protocols),
            "refusal": self.refusal,
            "one_worker": self.one_worker,
            "flags": {
                name: [argument.kind, argument.default]
                for name, argument in self.flags.items()
            },
            "defaults": {
                "learning_rate": self._default_learning_rate(),
                **self.defaults,
            },
            "refuses": dict(self.refuses),
            "advised_as": self.advised_as,
        }

    def _default_learning_rate(self) -> Any:
        """The constructor's own, if it is a number."""
        parameters = inspect.signature(self.cls).parameters
        rate = parameters.get("learning_rate")
        return (
            rate.default
            if rate is not None and type(rate.default) in (int, float)
            else None
        )


_registered: dict[str, Registration] = {}

# What is taken where neither the class nor a base says anything; what is not
# here must be said.
_UNSAID: dict[str, Any] = {
    "family": _NO_FAMILY,
    "refusal": "",
    "copies_up": 1,
    "copies_down": 1,
    "worker_memory": 1,
    "center_memory": 0,
    "center_memory_per_worker": 0,
    "stable": "not known",
    "use": "not said",
    "reference": "none",
    "one_worker": False,
    "refuses": {},
}


def register(
    cls: Class | None = None,
    /,
    *,
    rule: str | None = None,
    orders: Sequence[str] | None = None,
    protocols: Sequence[str] | None = None,
    refusal: str | None = None,
    up: str | None = None,
    down: str | None = None,
    copies_up: int | None = None,
    copies_down: int | None = None,
    worker_memory: int | None = None,
    center_memory: int | None = None,
    center_memory_per_worker: int | None = None,
    stable: str | None = None,
    use: str | None = None,
    reference: str | None = None,
    family: str | None = None,
    option: str | None = None,
    one_worker: bool | None = None,
    flags: Sequence[str] | None = None,
    defaults: Mapping[str, Any] | None = None,
    refuses: Mapping[str, str] | None = None,
    advised_as: str | None = None,
    listed: bool = True,
) -> Any:
    """Says what a method is, beside its class: a decorator.

    What is left out is as the nearest registered base has it. `rule`,
    `orders`, `protocols`, `up` and `down` must be given where there is none.
    A subclass that is not decorated goes by the registration of its base.

    Args:
        cls: the class, where the decorator has no arguments.
        rule: the exchange, as a formula: x_i a worker, c the center.
        orders: who moves first among the workers of one process: some of
            `ORDERS`, the default first.
        protocols: in a cluster: some of `PROTOCOLS`, the default first.
        refusal: why there is no other order or protocol; needed if one is
            missing.
        up: what a worker sends in an exchange, in a word or two.
        down: what it gets.
        copies_up: how many times the parameters, at most, are sent (1).
        copies_down: and are received (1).
        worker_memory: copies on a worker, beside its parameters and their
            gradients (1).
        center_memory: copies at the center beside its parameters, in one
            process on each device (0).
        center_memory_per_worker: and for each worker (0).
        stable: where it is stable.
        use: what it is good for.
        reference: the paper.
        family: the heading that it is listed under.
        option: its name for `train.py --optimizer`. Default: the class's in
            small letters, `AdamCenter` as `adam_center`.
        one_worker: whether it is for one worker only.
        flags: the arguments of the constructor that are flags of `train.py`.
            Default: all whose type is known from default or annotation;
            `learning_rate`, `jit_compile` and `COMMON` always are.
        defaults: what `train.py` takes for flags, if not the constructor's
            default: a value, or `{"digits": ..., "cifar": ...}`.
        refuses: those of `COMMON` that it has not, and why not.
        advised_as: the rule of `theory.advise` that holds for it too.
            Default: its own name, if that is one; else the base's, where
            `rule` is left out.
        listed: False for a base class, which is in no table.

    Returns:
        The class, or the decorator.

    Raises:
        ValueError: an argument is wrong or missing, or the name is taken.
        TypeError: the class is no optimizer with a center.

    Example:

    ```python
    @keras.saving.register_keras_serializable("mine")
    @te.optimizers.register(
        rule="as Downpour, half of it",
        use="where DOWNPOUR is too eager",
    )
    class HalfDownpour(te.optimizers.Downpour):
        ...
    ```
    """
    said = {
        "rule": rule,
        "orders": orders,
        "protocols": protocols,
        "refusal": refusal,
        "up": up,
        "down": down,
        "copies_up": copies_up,
        "copies_down": copies_down,
        "worker_memory": worker_memory,
        "center_memory": center_memory,
        "center_memory_per_worker": center_memory_per_worker,
        "stable": stable,
        "use": use,
        "reference": reference,
        "family": family,
        "one_worker": one_worker,
        "refuses": refuses,
    }
    special = {
        "option": option,
        "flags": flags,
        "defaults": defaults,
        "advised_as": advised_as,
        "listed": listed,
    }

    def decorate(decorated: Class) -> Class:
        made = _make(decorated, said, **special)
        _check_not_taken(made)
        _registered[made.name] = made
        decorated._registration = made  # type: ignore[attr-defined]
        return decorated

    return decorate if cls is None else decorate(cls)


def of_class(cls: type) -> Registration:
    """The registration of a class, or of its nearest base that has one.

    Raises:
        TypeError: neither has one.
    """
    found: Registration | None = getattr(cls, "_registration", None)
    if found is None:
        raise TypeError(
            f"{cls.__name__} is not registered, so nothing is known of what "
            f"it exchanges. Received: {cls.__name__}, defined in "
            f"{file_of(cls)}. Decorate the class: `@tf_elastic.optimizers."
            "register(rule=..., orders=..., protocols=..., up=..., "
            "down=...)`; see docs/methods.md."
        )
    return found


def named(name: str) -> Registration:
    """The registration of the class with this name.

    Raises:
        KeyError: there is none.
    """
    return _registered[name]


def listed() -> list[Registration]:
    """The methods as they are listed: by families, bases left out."""
    order = {family: i for i, family in enumerate(FAMILIES)}
    return sorted(
        (made for made in _registered.values() if made.listed),
        key=lambda made: order.get(made.family, len(order)),
    )


def file_of(cls: type) -> str:
    """The file that a class is defined in, or its module's name."""
    try:
        return inspect.getsourcefile(cls) or cls.__module__
    except (TypeError, OSError):  # It was typed into a console.
        return cls.__module__


def check_choice(
    name: str, argument: str, choice: str, allowed: tuple[str, ...]
) -> None:
    """Refuses an exchange that a method has not.

    Args:
        name: of the registered class.
        argument: of the strategy, for the message.
        choice: what the strategy was given.
        allowed: what the method has.

    Raises:
        ValueError: `choice` is not among them.
    """
    if choice not in allowed:
        raise ValueError(
            f"{name} has no `{argument}={choice!r}`: {named(name).refusal}. "
            f"Received: {argument}={choice!r}. Use one of {allowed}, or leave "
            f"`{argument}` out of the strategy."
        )


# What is checked.


def _make(
    cls: type,
    said: Mapping[str, Any],
    *,
    option: str | None,
    flags: Sequence[str] | None,
    defaults: Mapping[str, Any] | None,
    advised_as: str | None,
    listed: bool,
) -> Registration:
    """A checked registration."""
    _check_is_optimizer(cls)
    check = _Checks(cls)
    base: Registration | None = getattr(cls, "_registration", None)
    values: dict[str, Any] = {}
    for name, value in said.items():
        if value is None and base is not None:
            value = getattr(base, name)
        elif value is None:
            if name not in _UNSAID:
                raise check.error(
                    name,
                    "must be given, since no base of the class is registered",
                    None,
                    "Say what it is.",
                )
            value = _UNSAID[name]
        values[name] = value
    values["orders"] = check.choices("orders", values["orders"], ORDERS)
    values["protocols"] = check.choices(
        "protocols", values["protocols"], PROTOCOLS
    )
    for name in _TEXTS:
        check.text(name, values[name], may_be_empty=name == "refusal")
    for name in _COUNTS:
        check.count(name, values[name], int(name.startswith("copies")))
    values["refusal"] = check.refusal(values, said["refusal"])
    if not isinstance(values["one_worker"], bool):
        raise check.error(
            "one_worker", "must be True or False", values["one_worker"]
        )
    values["refuses"] = check.refuses(values["refuses"])
    arguments = check.flags(flags)
    return Registration(
        name=cls.__name__,
        cls=cls,
        listed=listed,
        option=check.option(option),
        flags=arguments,
        defaults=check.defaults(defaults, arguments, base),
        advised_as=check.advised_as(advised_as, base, said["rule"]),
        **values,
    )


def _check_is_optimizer(cls: Any) -> None:
    # Here, since that module needs this one.
    from tf_elastic.optimizers.center_optimizer import CenterOptimizer

    if not (inspect.isclass(cls) and issubclass(cls, CenterOptimizer)):
        raise TypeError(
            "`register` is for subclasses of `CenterOptimizer`, such as "
            f"`ElasticOptimizer` and `PushOptimizer`. Received: {cls!r}."
        )


def _check_not_taken(made: Registration) -> None:
    """Refuses a second class of a name; the same one may come again."""
    for other in _registered.values():
        again = (
            other.name == made.name
            and other.cls.__module__ == made.cls.__module__
            and other.cls.__qualname__ == made.cls.__qualname__
            and file_of(other.cls) == file_of(made.cls)
        )
        if again:
            continue
        for what, ours, theirs in (
            ("name", made.name, other.name),
            ("option", made.option, other.option),
        ):
            both_listed = made.listed and other.listed
            if ours == theirs and (what == "name" or both_listed):
                raise ValueError(
                    f"The {what} of a method must be its own. Received: "
                    f"{what}={ours!r} for {made.name} in "
                    f"{file_of(made.cls)}; {other.name} in "
                    f"{file_of(other.cls)} has it already. Rename one"
                    + (" of the classes." if what == "name" else
                       ": `register(option=...)`.")
                )


class _Checks:
    """Refuses wrong arguments of `register`, by messages that name the class.

    Args:
        cls: that is registered.
    """

    def __init__(self, cls: type) -> None:
        self._cls = cls

    def error(
        self, name: str, rule: str, value: Any, remedy: str = ""
    ) -> ValueError:
        """The error of a wrong argument."""
        return ValueError(
            f"`{name}` of `register` {rule}. Received: {name}={value!r}, for "
            f"{self._cls.__name__} in {file_of(self._cls)}."
            + (f" {remedy}" if remedy else "")
        )

    def choices(
        self, name: str, value: Any, known: tuple[str, ...]
    ) -> tuple[str, ...]:
        """Some of what is known, each once."""
        remedy = f"Give some of {known}, the default first."
        if isinstance(value, str) or not isinstance(value, Sequence):
            raise self.error(name, "must be a tuple", value, remedy)
        if not value:
            raise self.error(name, "must not be empty", value, remedy)
        wrong = [each for each in value if each not in known]
        if wrong:
            raise self.error(
                name, f"has no {', '.join(map(repr, wrong))}", value, remedy
            )
        if len(set(value)) < len(value):
            raise self.error(name, "must have each once", value, remedy)
        return tuple(value)

    def text(self, name: str, value: Any, may_be_empty: bool) -> None:
        """One line that may stand in a table."""
        if not isinstance(value, str):
            raise self.error(name, "must be a text", value)
        if not (value.strip() or may_be_empty):
            raise self.error(
                name, "must not be empty", value, "Say it in a few words."
            )
        if "|" in value or "\n" in value:
            raise self.error(
                name,
                "must be one line without '|', since it stands in a table",
                value,
            )

    def count(self, name: str, value: Any, least: int) -> None:
        """A number of copies."""
        if type(value) is not int or value < least:
            raise self.error(
                name,
                f"must be an integer >= {least}, in copies of the parameters",
                value,
            )

    def refusal(self, values: Mapping[str, Any], said: str | None) -> str:
        """There where something is refused, and only there."""
        has_all = set(values["orders"]) == set(ORDERS) and (
            set(values["protocols"]) == set(PROTOCOLS)
        )
        refusal: str = values["refusal"]
        if not has_all and not refusal.strip():
            missing = [o for o in ORDERS if o not in values["orders"]]
            missing += [
                p for p in PROTOCOLS if p not in values["protocols"]
            ]
            raise self.error(
                "refusal",
                f"must say why there is no {', '.join(missing)}",
                refusal,
                "Say why, or add them to `orders` and `protocols`.",
            )
        if has_all and said:
            raise self.error(
                "refusal",
                "must be left out where every order and protocol is there",
                said,
                "Leave it out.",
            )
        return "" if has_all else refusal

    def refuses(self, value: Any) -> Mapping[str, str]:
        """Common arguments, and why they are refused."""
        if not isinstance(value, Mapping) or not set(value) <= set(COMMON):
            raise self.error(
                "refuses", f"must be a dict with keys of {COMMON}", value
            )
        for why in value.values():
            self.text("refuses", why, may_be_empty=False)
        return types.MappingProxyType(dict(value))

    def option(self, value: str | None) -> str:
        """The name on the command line."""
        if value is None:
            return snake_case(self._cls.__name__)
        if not isinstance(value, str) or not re.fullmatch(
            r"[a-z][a-z0-9_]*", value
        ):
            raise self.error(
                "option",
                "must be of small letters, digits and underscores",
                value,
                f"`{snake_case(self._cls.__name__)}`, say.",
            )
        return value

    def flags(self, value: Any) -> Mapping[str, Argument]:
        """The arguments that are flags, in the constructor's order."""
        found = _arguments(self._cls)
        typed = {name: a for name, a in found.items() if a.kind is not None}
        if value is None:
            return types.MappingProxyType(typed)
        if isinstance(value, str) or not isinstance(value, Sequence):
            raise self.error("flags", "must be a tuple of names", value)
        wrong = [name for name in value if name not in found]
        if wrong:
            raise self.error(
                "flags",
                f"has {', '.join(map(repr, wrong))}, which the constructor "
                "has not",
                value,
                f"It has {tuple(found)}; `learning_rate`, `jit_compile` and "
                f"{COMMON} are flags anyway.",
            )
        untyped = [name for name in value if name not in typed]
        if untyped:
            raise self.error(
                "flags",
                f"has {', '.join(map(repr, untyped))}, whose type is not known",
                value,
                "Give it a default, or an annotation such as `float | None`.",
            )
        return types.MappingProxyType(
            {name: typed[name] for name in typed if name in value}
        )

    def defaults(
        self,
        value: Any,
        flags: Mapping[str, Argument],
        base: Registration | None,
    ) -> Mapping[str, Any]:
        """Defaults of flags; those of the base where the flag is the same."""
        known = {"learning_rate", *flags}
        inherited = {
            name: default
            for name, default in (base.defaults if base else {}).items()
            if name in known
        }
        if value is None:
            return types.MappingProxyType(inherited)
        if not isinstance(value, Mapping) or not set(value) <= known:
            raise self.error(
                "defaults",
                f"must be a dict with keys of {('learning_rate', *flags)}",
                value,
            )
        for each in value.values():
            by_data = each if isinstance(each, Mapping) else {"": each}
            if isinstance(each, Mapping) and set(each) != _DATA:
                raise self.error(
                    "defaults",
                    "by data must have the keys 'digits' and 'cifar'",
                    value,
                )
            if any(type(plain) not in _KINDS for plain in by_data.values()):
                raise self.error(
                    "defaults",
                    "must have numbers, texts, True or False",
                    value,
                )
        return types.MappingProxyType({**inherited, **value})

    def advised_as(
        self, value: str | None, base: Registration | None, rule: str | None
    ) -> str | None:
        """A rule that the advisor knows, or None."""
        if value is not None and value not in ADVISED:
            raise self.error(
                "advised_as",
                f"must be one of {tuple(ADVISED)}",
                value,
                "Leave it out if the theory says nothing of it.",
            )
        if value is None and self._cls.__name__ in ADVISED:
            return self._cls.__name__
        if value is None and base is not None and rule is None:
            return base.advised_as
        return value


def snake_case(name: str) -> str:
    """A class's name in small letters.

    Example:

    >>> snake_case("AdamCenter"), snake_case("LocalSGD"), snake_case("EASGD")
    ('adam_center', 'local_sgd', 'easgd')
    """
    words = r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])"
    return re.sub(words, "_", name).lower()


def accepts(cls: type, name: str) -> bool:
    """Whether a class may be called with an argument of this name."""
    parameters = inspect.signature(cls).parameters
    return name in parameters or any(
        parameter.kind is parameter.VAR_KEYWORD
        for parameter in parameters.values()
    )


def _arguments(cls: type) -> dict[str, Argument]:
    """The arguments of a constructor that may be flags, in their order."""
    constructor: Callable[..., Any] = cls.__init__  # type: ignore[misc]
    try:
        hints = typing.get_type_hints(constructor)
    except (NameError, TypeError):  # Of what only type checkers import.
        hints = {}
    found = {}
    for name, parameter in inspect.signature(constructor).parameters.items():
        if name in _NO_FLAGS or parameter.kind in (
            parameter.VAR_POSITIONAL,
            parameter.VAR_KEYWORD,
            parameter.POSITIONAL_ONLY,
        ):
            continue
        default = parameter.default
        if default is parameter.empty:
            default = None
        kind = _KINDS.get(type(default)) or _kind_of_hint(hints.get(name))
        if name == "inner_optimizer":
            kind = "text"  # `train.py` makes it of a name.
        if default is not None and kind is None:
            default = None
        found[name] = Argument(kind, default)
    return found


def _kind_of_hint(hint: Any) -> str | None:
    """The kind of flag for an annotation such as `float | None`."""
    options = [
        option
        for option in typing.get_args(hint) or (hint,)
        if option is not type(None)
    ]
    return _KINDS.get(options[0]) if len(options) == 1 else None
