"""The files of `--rules`: found before all other flags, and imported.

What they register has flags and defaults of its own, so that nothing can be
checked before.
"""

import importlib
import os
from collections.abc import Sequence

from absl import flags

from tf_elastic import user_code
from tf_elastic.program import loading
from tf_elastic.program import usage


def import_named(argv: Sequence[str]) -> list[str]:
    """Imports what `--rules` names, or else `TF_ELASTIC_RULES`.

    Args:
        argv: the program's name, then its flags.

    Returns:
        The absolute paths.

    Raises:
        UsageError: a file cannot be imported; says why.
    """
    values = flags.FlagValues()
    flags.DEFINE_multi_string("rules", None, "", flag_values=values)
    flags.DEFINE_bool("deterministic", False, "", flag_values=values)
    try:
        values(list(argv), known_only=True)
    except flags.Error as error:
        raise usage.UsageError(
            f"{error}\nSee `python train.py --help` for all flags."
        ) from error
    paths = user_code.split(values.rules or [])
    where = "--rules"
    if not paths:
        paths, where = user_code.from_environment(), user_code.VARIABLE
    if not paths:
        return []
    # As `running.train` has it, since these files bring in TensorFlow.
    level = "3" if values.deterministic else "2"
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", level)
    with loading.libraries():
        importlib.import_module("tf_elastic.optimizers")
    try:
        return user_code.import_files(paths)
    except user_code.UserCodeError as error:
        raise usage.UsageError(
            f"{error} Received: {where}={','.join(paths)}."
        ) from error
