"""What a flag of the program is, and the value of each."""

import dataclasses
from typing import Any


@dataclasses.dataclass(frozen=True)
class Flag:
    """A flag of the program: its type, its default and its words."""

    name: str
    # "text", "texts", "integer", "number", "switch", or choices: "a|b|c"
    kind: str
    default: Any
    help: str
    shown: str | None = None  # in place of the default
    # What is said of a method that has no such argument.
    lacking: str = "has none"


# The value of each flag by its name; of what type, its kind says.
Settings = dict[str, Any]
