"""What is to be rehearsed: all combinations of what is given."""

import itertools
from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any
from typing import NamedTuple

from tf_elastic.program import flag_table
from tf_elastic.program import usage
from tf_elastic.program import user_rules
from tf_elastic.rehearse import runs
from tf_elastic.rehearse.runs import Run
from tf_elastic.rehearse.runs import Value
from tf_elastic.timeline.virtual import names

# Of a plan's file.
_KEYS = ("base", "runs", "targets", "deadline_s")
# Of train.py's flags, what a rehearsal sees to itself, and what ends at once.
_NOT_HERE = frozenset(
    "model_dir resume report verbose logdir plot events advise methods".split()
)
# Test errors that are waited for, if none are given.
_TARGETS = {
    "digits": (0.2, 0.1, 0.05),
    "cifar10": (0.4, 0.35, 0.3),
    "cifar100": (0.8, 0.7, 0.6),
}
DEADLINE_S = 6 * 3600.0

# Flags of train.py, each with one value or several.
Choices = Mapping[str, Value | Sequence[Value]]


class Plan(NamedTuple):
    """A rehearsal."""

    runs: list[Run]
    targets: list[float]  # test errors, the lowest last
    deadline_s: float  # of each run


def make(content: Any, given: Choices) -> Plan:
    """Makes a plan.

    Args:
        content: of a file: None, or a mapping with "base" (flags of all runs,
            each with one value or several), "runs" (a list of such mappings,
            each for runs of its own), "targets" and "deadline_s".
        given: flags for all runs, in place of those of "base"; also "targets"
            and "deadline_s".

    Raises:
        UsageError: a name does not exist (the nearest that does, is told), or
            a value is wrong.
    """
    content = {} if content is None else content
    if not isinstance(content, Mapping):
        raise usage.UsageError(
            f"A plan must be a mapping of {', '.join(_KEYS)}. "
            f"Received: {content!r:.80}."
        )
    for name in content:
        _check_name(name, _KEYS, "plan")
    own = {**content, **{k: v for k, v in given.items() if k in _KEYS}}
    base = _mapping(content.get("base", {}), "base")
    base = {**base, **{k: v for k, v in given.items() if k not in _KEYS}}
    parts = content.get("runs", [{}])
    if not isinstance(parts, list) or not parts:
        raise usage.UsageError(
            "`runs` of a plan must be a list of mappings. "
            f"Received: runs={parts!r:.80}."
        )
    asked = [{**base, **_mapping(part, "runs")} for part in parts]
    # What they register has flags of its own.
    for rules in dict.fromkeys(str(c["rules"]) for c in asked if "rules" in c):
        user_rules.import_named(["train.py", f"--rules={rules}"])
    found: dict[str, Run] = {}
    for choices in asked:
        for flags in _combinations(choices):
            run = runs.checked(flags)
            found[run.name] = run
    every = list(found.values())
    targets = own.get("targets", _TARGETS[every[0].settings["dataset"]])
    deadline_s = own.get("deadline_s", DEADLINE_S)
    if not _is_number(deadline_s) or deadline_s <= 0:
        raise usage.UsageError(
            "`deadline_s` must be seconds, more than 0. Received: "
            f"deadline_s={deadline_s!r:.80}."
        )
    return Plan(every, _checked_targets(targets), float(deadline_s))


def _check_name(name: object, known: Sequence[str], what: str) -> None:
    if name in known:
        return
    every = ", ".join(known)
    if len(known) > 20:
        every = "those of `python train.py --help`"
    raise usage.UsageError(
        f"There is no {name!r:.80} in a {what}.{names.nearest(name, known)} "
        f"It may have: {every}."
    )


def _mapping(choices: Any, where: str) -> Choices:
    if not isinstance(choices, Mapping):
        raise usage.UsageError(
            f"`{where}` of a plan must hold flags of train.py, by their "
            f"names. Received: {choices!r:.80}."
        )
    return choices


def _combinations(choices: Choices) -> Iterator[dict[str, Value]]:
    """All ways to take one value of each flag."""
    kinds = {flag.name: flag.kind for flag in flag_table.all_flags()}
    each = []
    for name, values in choices.items():
        _check_name(name, list(kinds), "setting")
        if name in _NOT_HERE:
            raise usage.UsageError(
                f"`{name}` is not for the settings of a rehearsal, which sees "
                "to its files and output itself. Leave it out."
            )
        several = list(values) if isinstance(values, list | tuple) else [values]
        if not several:
            raise usage.UsageError(f"`{name}` must have a value. Received: [].")
        each.append([_value(name, kinds[name], value) for value in several])
    for values in itertools.product(*each):
        yield dict(zip(choices, values, strict=True))


def _value(name: str, kind: str, value: Any) -> Value:
    if kind == "switch":
        known = {"true": True, "false": False}
        value = known.get(str(value).lower(), value)
    fits = isinstance(value, bool if kind == "switch" else Value)
    if not fits:
        raise usage.UsageError(
            f"`{name}` must be "
            f"{'true or false' if kind == 'switch' else 'a text or a number'}"
            f", or a list of such. Received: {name}={value!r:.80}."
        )
    return value  # type: ignore[no-any-return]


def _checked_targets(targets: Any) -> list[float]:
    several = targets if isinstance(targets, list | tuple) else [targets]
    for target in several:
        if not _is_number(target) or not 0 < target < 1:
            raise usage.UsageError(
                "`targets` must be test errors between 0 and 1, such as 0.1 "
                f"for 10 %. Received: {target!r:.80}."
            )
    return sorted({float(target) for target in several}, reverse=True)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
