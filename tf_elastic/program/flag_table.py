"""The program's flags, as `flag_list` has them, and what the methods say.

Which methods take a flag of "Method", and what they take for it by default, is
not said here: it is registered with each, see `known_methods`.
"""

import dataclasses
from collections.abc import Callable

from tf_elastic.program import flag_list
from tf_elastic.program import known_methods
from tf_elastic.program import usage
from tf_elastic.program.flag import Flag


def groups() -> dict[str, list[Flag]]:
    """Every flag, under the headings of the help.

    Raises:
        UsageError: a method has a flag that means something else already.
    """
    methods = known_methods.all_methods()
    own = known_methods.all_flags()
    result = {}
    known = set()
    for group, members in flag_list.GROUPS.items():
        known |= {flag.name for flag in members}
        result[group] = [
            _of_methods(flag, methods) if group == flag_list.METHOD else flag
            for flag in members
        ]
        taken = {flag.name for flag in members} & set(own)
        if group == flag_list.METHOD:
            taken &= flag_list.OF_THE_PROGRAM
        if taken:
            name = min(taken)
            [option, *_] = known_methods.takers(name)
            raise usage.UsageError(
                f"--{name} means something else than the argument `{name}` of "
                f"{methods[option].name}. Give the argument another name, or "
                "leave it out of `register(flags=...)`."
            )
    result[flag_list.METHOD] += [
        _new_flag(name, methods) for name in own if name not in known
    ]
    return result


def all_flags() -> list[Flag]:
    """Every flag, in the order of the help."""
    return [flag for group in groups().values() for flag in group]


def _of_methods(flag: Flag, methods: dict[str, known_methods.Known]) -> Flag:
    """A flag of "Method", with what the methods say of it."""
    if flag.name == "optimizer":
        each = " ".join(f"{m.option}: {m.summary}" for m in methods.values())
        return dataclasses.replace(
            flag, kind="|".join(methods), help=f"{flag.help} {each}"
        )
    if flag.name == "learning_rate":
        rate = _shown(methods[_default_method()].default, flag.name)
        return dataclasses.replace(
            flag, shown=f"by data and method; {_default_method()}: {rate}"
        )
    takers = known_methods.takers(flag.name)
    if not takers:
        return flag
    return dataclasses.replace(
        flag,
        help=f"{flag.help} With {', '.join(takers)}.",
        shown=flag.shown or _shown_of_all(flag.name, methods),
    )


def _default_method() -> str:
    group = flag_list.GROUPS[flag_list.METHOD]
    [flag] = [flag for flag in group if flag.name == "optimizer"]
    return str(flag.default)


def _shown(default: Callable[[str, str], object], name: str) -> str:
    """What a method takes, for each data set where that makes a difference."""
    digits, cifar = (default(name, data) for data in ("digits", "cifar10"))
    if digits != cifar:
        return f"{digits} for digits, {cifar} for CIFAR"
    if isinstance(digits, bool):
        return "on" if digits else "off"
    return "none" if digits is None else str(digits)


def _shown_of_all(name: str, methods: dict[str, known_methods.Known]) -> str:
    """The defaults of all methods that have a flag, the most usual first."""
    by_default: dict[str, list[str]] = {}
    for option in known_methods.takers(name):
        shown = _shown(methods[option].default, name)
        by_default.setdefault(shown, []).append(option)
    [first, *others] = by_default.items()
    return "; ".join(
        [first[0], *(f"{', '.join(who)}: {shown}" for shown, who in others)]
    )


def _new_flag(name: str, methods: dict[str, known_methods.Known]) -> Flag:
    """A flag that only methods of the user's own have."""
    [option, *others] = known_methods.takers(name)
    kinds = {methods[each].flags[name][0] for each in (option, *others)}
    if len(kinds) > 1:
        raise usage.UsageError(
            f"--{name} must be of one type. Received: {' and '.join(kinds)}, "
            f"for {', '.join((option, *others))}. Give one of the arguments "
            "another name."
        )
    return Flag(
        name,
        kinds.pop(),
        None,
        f"An argument of {methods[option].name}. With "
        f"{', '.join((option, *others))}.",
        _shown_of_all(name, methods),
    )
