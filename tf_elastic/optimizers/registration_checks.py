"""What `register` refuses: wrong arguments, by messages that say which."""

import inspect
import re
import types
from collections.abc import Iterable
from collections.abc import Mapping
from collections.abc import Sequence
from typing import TYPE_CHECKING
from typing import Any

from tf_elastic import core
from tf_elastic import theory
from tf_elastic.optimizers.constructor_flags import COMMON
from tf_elastic.optimizers.constructor_flags import KINDS
from tf_elastic.optimizers.constructor_flags import Argument
from tf_elastic.optimizers.constructor_flags import arguments_of

if TYPE_CHECKING:
    from tf_elastic.optimizers.registration import Registration

# Orders in which the workers of one process and their center move.
ORDERS = tuple(core.orders.ORDERS)
# When a worker of a cluster exchanges with the center.
PROTOCOLS = ("overlapped", "blocking", "synchronous")
_DATA = {"digits", "cifar"}


def file_of(cls: type) -> str:
    """The file that a class is defined in, or its module's name."""
    try:
        return inspect.getsourcefile(cls) or cls.__module__
    except (TypeError, OSError):  # It was typed into a console.
        return cls.__module__


class Checks:
    """Refuses wrong arguments of `register`, by messages that name the class.

    Args:
        cls: that is registered.
    """

    def __init__(self, cls: type) -> None:
        self._cls = cls

    def error(
        self, name: str, rule: str, value: object, remedy: str = ""
    ) -> ValueError:
        """The error of a wrong argument."""
        return ValueError(
            f"`{name}` of `register` {rule}. Received: {name}={value!r}, for "
            f"{self._cls.__name__} in {file_of(self._cls)}."
            + (f" {remedy}" if remedy else "")
        )

    def choices(
        self, name: str, value: object, known: tuple[str, ...]
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

    def text(self, name: str, value: object, may_be_empty: bool) -> None:
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

    def count(self, name: str, value: object, least: int) -> None:
        """A number of copies."""
        if type(value) is not int or value < least:
            raise self.error(
                name,
                f"must be an integer >= {least}, in copies of the parameters",
                value,
            )

    def refusal(
        self,
        values: Mapping[str, Any],
        said: str | None,
        base: "Registration | None",
    ) -> str:
        """There where something is refused, and only there.

        The base's holds for what the base refuses, no more.
        """
        missing = _missing(values["orders"], values["protocols"])
        has_all = not missing
        refusal: str = values["refusal"]
        if said is None and base is not None:
            refused = _missing(base.orders, base.protocols)
            if not set(missing) <= set(refused):
                refusal = ""
        if not has_all and not refusal.strip():
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

    def refuses(self, value: object) -> Mapping[str, str]:
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

    def flags(self, value: object) -> Mapping[str, Argument]:
        """The arguments that are flags, in the constructor's order."""
        found = arguments_of(self._cls)
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
        value: object,
        flags: Mapping[str, Argument],
        of_base: Mapping[str, object],
    ) -> Mapping[str, object]:
        """Defaults of flags; those of the base where the flag is the same."""
        known = {"learning_rate", *flags}
        inherited = {
            name: default for name, default in of_base.items() if name in known
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
            if any(type(plain) not in KINDS for plain in by_data.values()):
                raise self.error(
                    "defaults",
                    "must have numbers, texts, True or False",
                    value,
                )
        return types.MappingProxyType({**inherited, **value})

    def advised_as(self, value: str | None, of_base: str | None) -> str | None:
        """A rule that the advisor knows, or None."""
        if value is not None and value not in theory.RULES:
            raise self.error(
                "advised_as",
                f"must be one of {tuple(theory.RULES)}",
                value,
                "Leave it out if the theory says nothing of it.",
            )
        if value is None and self._cls.__name__ in theory.RULES:
            return self._cls.__name__
        return of_base if value is None else value


def _missing(orders: Sequence[str], protocols: Sequence[str]) -> list[str]:
    """The orders and protocols that are not among these."""
    return [o for o in ORDERS if o not in orders] + [
        p for p in PROTOCOLS if p not in protocols
    ]


def snake_case(name: str) -> str:
    """A class's name in small letters.

    Example:

    >>> snake_case("AdamCenter"), snake_case("LocalSGD"), snake_case("EASGD")
    ('adam_center', 'local_sgd', 'easgd')
    """
    words = r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])"
    return re.sub(words, "_", name).lower()


def check_not_taken(
    made: "Registration", others: "Iterable[Registration]"
) -> None:
    """Refuses a second class of a name; the same one may come again.

    Args:
        made: a `Registration`.
        others: those that there are.

    Raises:
        ValueError: another class has the name.
    """
    for other in others:
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
                    + (
                        " of the classes."
                        if what == "name"
                        else ": `register(option=...)`."
                    )
                )
