"""What a check has found, and how it is printed."""

from typing import NamedTuple

PASSED, MISSED, FAILED = "passed", "missed", "failed"
TOLD = "told"  # measured, and without a goal
SKIPPED = "skipped"
NOT_ON_CPU = "not on a CPU"
BAD = (MISSED, FAILED)


class Finding(NamedTuple):
    """One line of the table."""

    check: str
    measured: str
    goal: str
    outcome: str
    error: str = ""


def judged(setting, check, measured, goal, is_met, of_card=True):
    """A finding that has a goal.

    Args:
        setting: of the run.
        check: what is measured.
        measured: what it was, in words.
        goal: likewise.
        is_met: whether it is there.
        of_card: whether the goal is one of a card, which nothing that is
            measured on a CPU can meet or miss.
    """
    if of_card and setting.device == "CPU":
        return Finding(check, measured, goal, NOT_ON_CPU)
    return Finding(check, measured, goal, PASSED if is_met else MISSED)


def table(findings):
    """As text, with the errors below."""
    head = Finding("check", "measured", "goal", "outcome")
    rows = [line[:4] for line in (head, *findings)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = [
        "  ".join(cell.ljust(n) for cell, n in zip(row, widths, strict=True))
        for row in rows
    ]
    for one in findings:
        if one.error:
            lines += [f"{one.check}:"]
            lines += [f"  {line}" for line in one.error.splitlines()]
    return "\n".join(line.rstrip() for line in lines)
