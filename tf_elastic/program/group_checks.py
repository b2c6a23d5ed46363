"""What groups of synchronous processes refuse: `--group_size`."""

from tf_elastic.program import usage
from tf_elastic.program.flag import Settings


def without_effect(settings: Settings) -> dict[str, str]:
    """The flags that mean nothing here, and why, by their names."""
    if settings["strategy"] != "elastic_multi_worker":
        return {
            "group_size": "groups are workers of an elastic cluster. Leave it "
            "out, or choose --strategy=elastic_multi_worker"
        }
    if (settings["group_size"] or 1) > 1:
        return {
            "status": "processes of groups are in a network of their own, "
            "where the table cannot look. Leave it out, and read --events by "
            "`python -m tf_elastic.timeline status`"
        }
    return {}


def check(settings: Settings) -> None:
    """Refuses processes that make no whole groups.

    Raises:
        UsageError: there are some.
    """
    size, processes = settings["group_size"], settings["local_workers"]
    if processes is not None and processes % size:
        raise usage.UsageError(
            "--local_workers must be a multiple of --group_size: it counts "
            f"processes. Received: --local_workers={processes}, "
            f"--group_size={size}. Take --local_workers="
            f"{size * -(-processes // size)}."
        )
