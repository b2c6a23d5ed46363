"""The flags of the devices of one process of a cluster."""

from tf_elastic.program.flag import Flag

# fmt: off
FLAGS = [
    Flag(
        "devices_per_process", "integer", None,
        "Devices of each process of a cluster that trains. On a CPU they are "
        "logical devices; if there are fewer GPUs, several share one.",
        "all its GPUs, or one CPU",
    ),
    Flag(
        "inside", "mirrored|elastic", "mirrored",
        "What the devices of a process are. mirrored: one worker of the "
        "cluster; elastic: workers of a center that only this process has, "
        "which is the cluster's worker. --batch_size is then that of each.",
    ),
    Flag(
        "outer_period", "integer", None,
        "Local steps between two exchanges of the local center of "
        "--inside=elastic with the cluster's.",
        "10 * communication_period",
    ),
]
# fmt: on
