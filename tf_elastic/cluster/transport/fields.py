"""What a value that somebody has sent may be: its type, its range, its size.

A *check* takes a name, for messages, and a value; it returns the value, or
raises a `MessageError` that says what the value had to be.
"""

from collections.abc import Callable
from collections.abc import Mapping
from typing import Any
from typing import NoReturn

from tf_elastic.cluster import errors

Check = Callable[[str, Any], Any]

# JSON's numbers are exact up to here, and sums of them fit into 64 bits.
MOST = 2**53


def refuse(name: str, rule: str, value: Any) -> NoReturn:
    """Raises the error of a value that breaks a rule; no name: of all of it."""
    who, what = (f"`{name}`", f"{name}=") if name else ("it", "")
    raise errors.MessageError(
        f"{who} must be {rule}. Received: {what}{value!r:.80}. Give all "
        "processes the same release of tf_elastic."
    )


def integer(low: int = 0, high: int = MOST) -> Check:
    """An integer, and no truth value."""

    def check(name: str, value: Any) -> int:
        if type(value) is not int or not low <= value <= high:
            refuse(name, f"an integer from {low} to {high}", value)
        return value

    return check


def number(low: float, high: float) -> Check:
    """A finite number."""

    def check(name: str, value: Any) -> float:
        # NaN is in no range.
        if type(value) not in (int, float) or not low <= value <= high:
            refuse(name, f"a finite number from {low:g} to {high:g}", value)
        number: float = value  # An integer stays one.
        return number

    return check


def boolean(name: str, value: Any) -> bool:
    """True or false."""
    if type(value) is not bool:
        refuse(name, "true or false", value)
    return value


def text(most: int) -> Check:
    """A text of at most so many characters, which can be written as UTF-8."""

    def check(name: str, value: Any) -> str:
        if type(value) is not str or len(value) > most:
            refuse(name, f"a text of at most {most} characters", value)
        try:
            value.encode()
        except UnicodeEncodeError:
            refuse(name, "a text without halves of characters", value)
        return value

    return check


def one_of(*values: Any) -> Check:
    """One of some texts, or None."""

    def check(name: str, value: Any) -> Any:
        if type(value) not in (str, type(None)) or value not in values:
            refuse(name, f"one of {', '.join(map(repr, values))}", value)
        return value

    return check


def optional(other: Check) -> Check:
    """None, or what another check takes."""

    def check(name: str, value: Any) -> Any:
        return None if value is None else other(name, value)

    return check


def each(other: Check, most: int) -> Check:
    """A list of at most so many values."""

    def check(name: str, value: Any) -> list[Any]:
        if type(value) is not list or len(value) > most:
            refuse(name, f"a list of at most {most} values", value)
        return [other(f"{name}[{k}]", v) for k, v in enumerate(value)]

    return check


def row(*checks: Check) -> Check:
    """A list of as many values as there are checks."""

    def check(name: str, value: Any) -> list[Any]:
        if type(value) is not list or len(value) != len(checks):
            refuse(name, f"a list of {len(checks)} values", value)
        return [
            other(f"{name}[{k}]", v)
            for k, (other, v) in enumerate(zip(checks, value, strict=True))
        ]

    return check


def record(
    required: Mapping[str, Check], others: Mapping[str, Check] | None = None
) -> Check:
    """An object with these fields and no more.

    Args:
        required: what has to be there.
        others: what may be there.
    """
    known = {**required, **(others or {})}

    def check(name: str, value: Any) -> dict[str, Any]:
        if type(value) is not dict:
            refuse(name, "an object", value)
        missing, strange = required.keys() - value, value.keys() - known
        if missing or strange:
            refuse(
                name,
                f"an object with the fields {', '.join(required) or 'none'}",
                sorted(value),
            )
        prefix = f"{name}." if name else ""
        return {k: known[k](f"{prefix}{k}", v) for k, v in value.items()}

    return check


def table(other: Check, most: int, most_letters: int = 100) -> Check:
    """An object of at most so many fields, whatever their names."""
    letters = text(most_letters)

    def check(name: str, value: Any) -> dict[str, Any]:
        if type(value) is not dict or len(value) > most:
            refuse(name, f"an object of at most {most} fields", value)
        return {
            letters(f"a name in {name}", k): other(f"{name}.{k}", v)
            for k, v in value.items()
        }

    return check


def tree(leaf: Check, most: int, depth: int) -> Check:
    """An object of at most so many fields, some of which are such objects."""
    deeper = tree(leaf, most, depth - 1) if depth else leaf

    def part(name: str, value: Any) -> Any:
        return (deeper if type(value) is dict else leaf)(name, value)

    return table(part, most)


def scalar(name: str, value: Any) -> Any:
    """A number that is finite, a short text, a truth value, or None."""
    if value is None or type(value) is bool:
        return value
    if type(value) is str:
        return text(100)(name, value)
    return number(-1e300, 1e300)(name, value)
