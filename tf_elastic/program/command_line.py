"""From the table of flags to a parser and to the text of `--help`."""

import textwrap
from collections.abc import Callable

from absl import flags

from tf_elastic.program import flag_table
from tf_elastic.program import known_methods
from tf_elastic.program.flag import Flag


def define_flags() -> flags.FlagValues:
    """The program's flags, apart from those of other packages."""
    values = flags.FlagValues()
    for flag in flag_table.all_flags():
        args = (flag.name, flag.default, flag.help)
        if flag.name == "optimizer":
            flags.DEFINE(
                _OptimizerParser(flag.kind.split("|")),
                *args,
                flag_values=values,
            )
        elif "|" in flag.kind:
            flags.DEFINE_enum(
                args[0],
                args[1],
                flag.kind.split("|"),
                args[2],
                flag_values=values,
            )
        else:
            defines: dict[str, Callable[..., object]] = {
                "text": flags.DEFINE_string,
                "texts": flags.DEFINE_multi_string,
                "integer": flags.DEFINE_integer,
                "number": flags.DEFINE_float,
                "switch": flags.DEFINE_bool,
            }
            defines[flag.kind](*args, flag_values=values)
    return values


class _OptimizerParser(flags.EnumParser):
    """Takes a method's option, or the name of its class."""

    def parse(self, argument: str) -> str:
        for method in known_methods.all_methods().values():
            if argument == method.name:
                argument = method.option
        parsed: str = super().parse(argument)
        return parsed


def help_text(introduction: str) -> str:
    """What `--help` shows: an introduction, then every flag."""
    lines = [introduction.strip(), ""]
    for group, members in flag_table.groups().items():
        lines += [f"{group}:"]
        for flag in members:
            lines += _help_of(flag)
        lines.append("")
    lines += [
        "A switch is turned on by --name and off by --noname. Flags can also",
        "be read from a file: --flagfile=FILE, one flag on a line.",
    ]
    return "\n".join(lines)


def _help_of(flag: Flag) -> list[str]:
    kind = {
        "integer": "N",
        "number": "X",
        "text": "TEXT",
        "texts": "FILE,...",
    }.get(flag.kind, flag.kind)
    head = (
        f"  --[no]{flag.name}"
        if flag.kind == "switch"
        else f"  --{flag.name}={kind}"
    )
    default = flag.shown
    if default is None:
        default = flag.default
        if flag.kind == "switch":
            default = "on" if default else "off"
    text = f"{flag.help} (default: {default})"
    return [
        head,
        *textwrap.wrap(
            text, 74, initial_indent=" " * 6, subsequent_indent=" " * 6
        ),
    ]
