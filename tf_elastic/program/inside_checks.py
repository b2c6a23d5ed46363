"""What devices of one process refuse: `--inside` and what belongs to it."""

from tf_elastic.program import defaults
from tf_elastic.program import usage
from tf_elastic.program.flag import Settings

_OF_STARS = ("inside", "outer_period")
_IN_GROUPS = ("devices_per_process", "outer_period")


def is_elastic(settings: Settings) -> bool:
    """Whether the devices of a process are workers."""
    kind = settings["strategy"], settings["inside"]
    return kind == (defaults.STAR, "elastic")


def workers_of_process(settings: Settings) -> int:
    """How many workers each process of a cluster with centers has."""
    return int(settings["devices_per_process"]) if is_elastic(settings) else 1


def without_effect(settings: Settings) -> dict[str, str]:
    """The flags that mean nothing here, and why, by their names."""
    strategy, reasons = settings["strategy"], {}
    if strategy in defaults.CLUSTER and not is_elastic(settings):
        reasons["order"] = "a cluster exchanges by --protocol. Leave it out"
    if strategy != defaults.STAR:
        reasons |= dict.fromkeys(
            _OF_STARS,
            "devices of a process are workers in a star of processes alone. "
            "Leave it out, or choose --strategy=elastic_multi_worker",
        )
        if strategy not in defaults.WITH_CENTERS:
            reasons["devices_per_process"] = (
                "only processes of an elastic cluster take it. Leave it out, "
                "or give --local_workers"
            )
        return reasons
    if (settings["group_size"] or 1) > 1:
        refused = [*_IN_GROUPS, *(["inside"] if is_elastic(settings) else [])]
        return reasons | dict.fromkeys(
            refused,
            "processes of groups are mirrored, on all their GPUs or their "
            "CPU. Leave it out, or leave --group_size out",
        )
    if not is_elastic(settings):
        reasons["outer_period"] = (
            "it is of devices that are workers. Leave it out, or give "
            "--inside=elastic"
        )
    return reasons


def check(settings: Settings) -> None:
    """Refuses workers that there cannot be inside.

    Raises:
        UsageError: there cannot.
    """
    if not is_elastic(settings):
        return
    devices = settings["devices_per_process"]
    if devices is None or devices < 2:
        raise usage.UsageError(
            "--inside=elastic needs --devices_per_process, at least 2: each "
            f"device is a worker. Received: --devices_per_process={devices}. "
            "Give --devices_per_process=2, say, or leave --inside out."
        )
    outer, inner = settings["outer_period"], settings["communication_period"]
    if outer is None:
        return
    if inner is None or not inner.isdecimal():
        raise usage.UsageError(
            "--outer_period needs a --communication_period inside. Received: "
            f"--outer_period={outer}, --communication_period={inner}. Give "
            "both, or leave --outer_period out."
        )
    beyond = outer % int(inner)
    if beyond:
        raise usage.UsageError(
            "--outer_period must be a multiple of --communication_period, "
            "since the local center moves only when the devices exchange. "
            f"Received: --outer_period={outer}, --communication_period="
            f"{inner}. Take --outer_period={outer - beyond + int(inner)}."
        )
