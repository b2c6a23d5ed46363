"""What of an optimizer's constructor are flags of `train.py`."""

import dataclasses
import inspect
import typing
from collections.abc import Callable
from typing import Any

# What every optimizer takes, unless `refuses` says that it does not.
COMMON = ("weight_decay", "clipnorm", "gradient_accumulation_steps")
# Arguments of a constructor that `train.py` gives in a way of its own.
_NO_FLAGS = {"self", "learning_rate", "jit_compile", "name", *COMMON}
# Arguments that `train.py` makes of a text.
_MADE_OF_TEXT = {"inner_optimizer", "center_average"}
KINDS = {bool: "switch", int: "integer", float: "number", str: "text"}


@dataclasses.dataclass(frozen=True)
class Argument:
    """An argument of a constructor that is a flag of `train.py`."""

    kind: str | None  # "switch", "integer", "number", "text"; None: not known
    default: object  # of these types, or None


def arguments_of(cls: type) -> dict[str, Argument]:
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
        kind = KINDS.get(type(default)) or _kind_of_hint(hints.get(name))
        if name in _MADE_OF_TEXT:
            kind = "text"
        if default is not None and kind is None:
            default = None
        found[name] = Argument(kind, default)
    return found


def _kind_of_hint(hint: object) -> str | None:
    """The kind of flag for an annotation such as `float | None`."""
    options = [
        option
        for option in typing.get_args(hint) or (hint,)
        if option is not type(None)
    ]
    return KINDS.get(options[0]) if len(options) == 1 else None


def accepts(cls: type, name: str) -> bool:
    """Whether a class may be called with an argument of this name."""
    parameters = inspect.signature(cls).parameters
    return name in parameters or any(
        parameter.kind is parameter.VAR_KEYWORD
        for parameter in parameters.values()
    )
