"""From a command line to the checked settings of a run."""

from collections.abc import Sequence

from absl import flags

from tf_elastic.program import checks
from tf_elastic.program import command_line
from tf_elastic.program import defaults
from tf_elastic.program import flag_table
from tf_elastic.program import resuming
from tf_elastic.program import tasks
from tf_elastic.program import tree_checks
from tf_elastic.program import usage
from tf_elastic.program import user_rules
from tf_elastic.program import virtual_checks
from tf_elastic.program.flag import Settings


def parse(argv: Sequence[str]) -> Settings:
    """Turns a command line into checked settings, without TensorFlow.

    Args:
        argv: the program's name, then its arguments.

    Returns:
        A value for each flag, defaults filled in.

    Raises:
        UsageError: a flag or a combination is wrong; says what to do.
    """
    rules = user_rules.import_named(argv)
    values = command_line.define_flags()
    try:
        rest = values(list(argv))[1:]
    except flags.Error as error:
        raise usage.UsageError(
            f"{error}\nSee `python train.py --help` for all flags."
        ) from error
    if rest:
        raise usage.UsageError(
            f"Only flags are understood. Received: {' '.join(rest)}. "
            "Write --name=value."
        )
    names = [flag.name for flag in flag_table.all_flags()]
    settings = {name: values[name].value for name in names}
    settings["rules"] = ",".join(rules) or None
    given = {name for name in settings if values[name].present}
    if settings["resume"]:
        resuming.take_over(settings, given)
    defaults.choose_strategy(settings)
    checks.check_choices(settings, given)
    checks.check_exchange(settings)
    tree_checks.fill_in(settings)
    defaults.fill_in(settings, tasks.of_this_process(settings))
    checks.check_ranges(settings)
    checks.check_sequential(settings)
    checks.check_rates(settings)
    checks.check_files(settings)
    virtual_checks.check(settings)
    tree_checks.check(settings)
    return settings
