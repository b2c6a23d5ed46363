"""What the advisor answers."""

import dataclasses
import textwrap
from typing import NamedTuple

from tf_elastic.theory.advise.search import Change

_WIDTH = 79


class Statement(NamedTuple):
    """A sentence, and what stands behind it."""

    text: str
    equation: str  # that it rests on
    trust: str  # how far that model can be trusted


@dataclasses.dataclass(frozen=True)
class Advice:
    """What the theory says of a setting. `str(advice)` is for reading."""

    stable: bool
    # What a local step (where every gradient is pushed: an update of the
    # center) multiplies the slowest or the least stable error with.
    radius: float
    # By what the learning rate may be multiplied before the setting diverges:
    # above 1 if it is stable, 0 if no learning rate helps.
    margin: float
    nearest_stable: Change | None  # None if stable, or nothing is near
    best_momentum: float | None  # for this delay; None without a momentum
    useful_workers: int | None  # beyond it no gain; None without a bound
    statements: tuple[Statement, ...]

    def __str__(self) -> str:
        """The sentences, each with its equation and what it is worth."""
        lines = [f"{'Stable' if self.stable else 'UNSTABLE'}."]
        for statement in self.statements:
            lines += _wrapped(statement.text, "- ")
            lines += _wrapped(f"[{statement.equation}]", "  ")
            lines += _wrapped(f"Trust: {statement.trust}", "  ")
        return "\n".join(lines)


def _wrapped(text: str, indent: str) -> list[str]:
    return textwrap.wrap(
        text,
        _WIDTH,
        initial_indent=indent,
        subsequent_indent="  ",
        break_long_words=False,
        break_on_hyphens=False,
    )
