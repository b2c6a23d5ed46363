"""What workers tell as they start, and what follows of it."""

from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any
from typing import NamedTuple

from tf_elastic.core import rules
from tf_elastic.timeline import event as events
from tf_elastic.timeline.checks.violation import Entry
from tf_elastic.timeline.checks.violation import Report

_NAMES = ("protocol", "rule", "compression", "model", "most_waiting")
# By protocol, and whether a difference is answered: the calls. What adds up
# and has not come is brought again alone, where others meet.
_CALLS = {
    ("blocking", True): {events.PUSH},
    ("blocking", False): {events.TAKE},
    ("overlapped", True): {events.EXCHANGE, events.PUSH},
    ("overlapped", False): {events.TAKE},
    ("synchronous", True): {events.DEPOSIT},
    ("synchronous", False): {events.DEPOSIT, events.TAKE},
}


class Ways(NamedTuple):
    """What the exchanges of an optimizer are like."""

    same_bytes: bool  # messages of one call are equally long
    calls: set[str]  # that may be made


def check(entries: Sequence[Entry], report: Report) -> Ways | None:
    """Looks at what the workers of one optimizer have started with.

    Args:
        entries: the `START`s.
        report: is told what is wrong.

    Returns:
        What follows of it; None if nobody has told.
    """
    if not entries:
        return None
    most = compare(entries, report)
    rule = rule_of(most)
    key = str(most.get("protocol")), rule is None or rule.answers_difference
    calls = _CALLS.get(key)
    if calls is None:
        report(entries[0], f"there is no protocol {key[0]!r:.100}")
    if calls is None or rule is None:
        calls = set(events.CALLS)
    elif isinstance(rule, rules.MeanOfParts):
        calls = {events.PUSH}
    return Ways(most.get("compression") == "none", calls)


def compare(entries: Sequence[Entry], report: Report) -> dict[str, Any]:
    """What most workers have started with; tells of others.

    Args:
        entries: the `START`s, at least one.
        report: is told what is wrong.
    """
    given = [dict(entry.event.settings or {}) for entry in entries]
    # What most have told is taken to be so.
    most = max(given, key=given.count)
    for entry, settings in zip(entries, given, strict=True):
        for name in _NAMES:
            if settings.get(name) != most.get(name):
                report(
                    entry,
                    f"its {name} is {settings.get(name)!s:.100}, that of "
                    f"others {most.get(name)!s:.100}",
                )
    return most


def rule_of(settings: Mapping[str, Any] | None) -> rules.Rule | None:
    """The center's rule; None of one that is not known here."""
    rule = (settings or {}).get("rule")
    if not isinstance(rule, Mapping):
        return None
    try:
        return rules.from_config(rule)
    except ValueError:
        return None
