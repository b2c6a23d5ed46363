"""The flags of a virtual cluster."""

from tf_elastic.program.flag import Flag

# fmt: off
FLAGS = [
    Flag(
        "virtual_workers", "integer", None,
        "Rehearse a cluster of so many workers on one device, in virtual "
        "time. An epoch is one pass over the data by all of them together. "
        "--protocol, --max_lag and --events are as in a cluster, but the "
        "events are written at the end.",
        "none",
    ),
    Flag(
        "timing", "text", None,
        "How long everything takes, and what fails: a name (thesis-cifar, "
        "thesis-imagenet, one-host-8-gpus, 1gbit, 10gbit, two-regions), or a "
        "JSON file of a `Timing`.",
        "a second for a step, nothing for an exchange",
    ),
    Flag(
        "step_seconds", "number", None,
        "Of a local step, in virtual time.", "that of --timing",
    ),
    Flag(
        "timing_seed", "integer", None,
        "Of times and failures.", "that of --seed",
    ),
    Flag(
        "quorum", "integer", None,
        "Messages that end a round of --protocol=synchronous; the others' "
        "are left out.",
        "of all that are present",
    ),
    Flag(
        "max_staleness", "integer", None,
        "Updates of others after which what a worker brings is left out.",
        "none",
    ),
]
# fmt: on
