"""One run of a rehearsal: its flags, and what follows from them."""

import dataclasses
import hashlib
import json
from collections.abc import Collection
from collections.abc import Mapping
from collections.abc import Sequence

from tf_elastic.program import flag_table
from tf_elastic.program import settings as run_settings
from tf_elastic.program import usage
from tf_elastic.program.flag import Settings

# A value of one of train.py's flags.
Value = str | int | float | bool
Flags = Mapping[str, Value]

# What tells runs apart that are of one setting.
SEEDS = ("seed", "timing_seed")


@dataclasses.dataclass(frozen=True)
class Run:
    """A run.

    Attributes:
        flags: of train.py, that are given.
        settings: all of them, as train.py understands them.
    """

    flags: Flags
    settings: Settings

    @property
    def name(self) -> str:
        """The same for the same flags, whatever else is in the plan."""
        text = json.dumps(dict(self.flags), sort_keys=True)
        digest = hashlib.sha256(text.encode()).hexdigest()[:8]
        return f"{self.settings['optimizer']}-{digest}"

    def label(self, varying: Collection[str]) -> str:
        """What there is to read: the method, and the flags that vary."""
        shown = [str(self.settings["optimizer"])]
        shown += [
            f"{name}={self.flags[name]}"
            for name in self.flags
            if name in varying and name != "optimizer"
        ]
        return " ".join(shown)


def argv(flags: Flags) -> list[str]:
    """Flags as they are written on a command line."""
    switches = {f.name for f in flag_table.all_flags() if f.kind == "switch"}
    written = []
    for name, value in flags.items():
        if name in switches:
            written.append(f"--{'' if value else 'no'}{name}")
        else:
            text = str(value).lower() if isinstance(value, bool) else value
            written.append(f"--{name}={text}")
    return written


def checked(flags: Flags) -> Run:
    """A run, once its flags are known to be right.

    Raises:
        UsageError: they are not.
    """
    written = argv(flags)
    if "virtual_workers" not in flags:
        raise usage.UsageError(
            "A rehearsal is of a virtual cluster, and needs virtual_workers. "
            f"Received: {' '.join(written) or 'nothing'}. Give "
            "virtual_workers: 16, say."
        )
    try:
        return Run(flags, run_settings.parse(["train.py", *written]))
    except usage.UsageError as error:
        raise usage.UsageError(f"{' '.join(written)}: {error}") from error


def varying(runs: Sequence[Run]) -> list[str]:
    """The flags that are not the same in all runs."""
    names = dict.fromkeys(name for run in runs for name in run.flags)
    return [
        name
        for name in names
        if len({repr(run.flags.get(name)) for run in runs}) > 1
    ]
