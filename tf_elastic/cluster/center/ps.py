"""Serves one shard of the center: `python -m tf_elastic.cluster.ps`.

Which shard, and where, says `TF_CONFIG`, in which this process has the job
`ps`. With `--snapshot_dir` it keeps snapshots there, and begins with the newest
whole one, so that it may be killed at any time. No TensorFlow here: it starts
in a second and needs little more memory than its part of the center.
"""

import dataclasses
import os
import signal
import sys
import threading
import time
from collections.abc import Sequence
from typing import Any

from absl import flags
from absl import logging

from tf_elastic import extras
from tf_elastic import user_code
from tf_elastic.cluster import errors
from tf_elastic.cluster.center import memory
from tf_elastic.cluster.center import tree_nodes
from tf_elastic.cluster.center.groups import Groups
from tf_elastic.cluster.center.log_limit import LogLimit
from tf_elastic.cluster.center.node import Node
from tf_elastic.cluster.center.server import CenterServer
from tf_elastic.cluster.center.snapshot_keeper import Snapshots
from tf_elastic.cluster.center.snapshots import SnapshotError
from tf_elastic.cluster.center.tree_nodes import TreeNodes
from tf_elastic.cluster.center.worker_registry import MAX_WORKERS
from tf_elastic.cluster.launch import cluster_tree
from tf_elastic.cluster.launch.configuration import ClusterConfiguration
from tf_elastic.cluster.launch.security import Security
from tf_elastic.cluster.transport import open_files
from tf_elastic.cluster.transport.addresses import AddressError
from tf_elastic.timeline import event_file
from tf_elastic.timeline import stream

_FLAGS = flags.FlagValues()
flags.DEFINE_string(
    "snapshot_dir",
    None,
    "Folder for snapshots of this shard; each center server needs its own.",
    flag_values=_FLAGS,
)
flags.DEFINE_float(
    "snapshot_interval_s",
    10.0,
    "Seconds between two snapshots: what a killed center may lose.",
    lower_bound=0.1,
    flag_values=_FLAGS,
)
flags.DEFINE_float(
    "lease_s",
    15.0,
    "Seconds after which a silent worker loses its slot.",
    lower_bound=1.0,
    flag_values=_FLAGS,
)
flags.DEFINE_integer(
    "array_port",
    None,
    "Port of the same host for parameters and differences: 0 for any that is "
    "free, -1 to have them go by gRPC with all else. Default: the variable "
    "TF_ELASTIC_ARRAY_PORT, or else 0.",
    lower_bound=-1,
    upper_bound=65535,
    flag_values=_FLAGS,
)
flags.DEFINE_bool(
    "share_memory",
    None,
    "Let workers of this host share their memory with this center instead of "
    "sending arrays. Default: the variable TF_ELASTIC_SHARE_MEMORY, or else "
    "yes.",
    flag_values=_FLAGS,
)
flags.DEFINE_integer(
    "max_workers",
    None,
    "Workers that may ever join. Default: twice those in TF_CONFIG, and "
    f"{MAX_WORKERS} at least.",
    lower_bound=1,
    flag_values=_FLAGS,
)
flags.DEFINE_multi_string(
    "rules",
    None,
    "Python files to import first, with commas between them: rules of your "
    "own. Default: the variable TF_ELASTIC_RULES.",
    flag_values=_FLAGS,
)
flags.DEFINE_string(
    "events",
    None,
    "File to append to what happens, one JSON object a line; several processes "
    "of one host may share it. Default: the variable TF_ELASTIC_EVENTS.",
    flag_values=_FLAGS,
)
flags.DEFINE_bool(
    "trusted_network",
    False,
    "Serve on a public address without TLS.",
    flag_values=_FLAGS,
)


def serve(values: flags.FlagValues) -> int:
    """Serves until SIGTERM, SIGINT or SIGHUP.

    Returns:
        The exit status.
    """
    limit = LogLimit()
    handler = logging.get_absl_handler().python_handler
    handler.addFilter(limit)
    try:
        return _serve(values, limit)
    finally:
        limit.tell(at_once=True)
        handler.removeFilter(limit)


def _serve(values: flags.FlagValues, limit: LogLimit) -> int:
    rules = user_code.split(values.rules or [])
    user_code.import_files(rules or user_code.from_environment())
    memory.keep()
    open_files.raise_limit()
    configuration = ClusterConfiguration.from_tf_config()
    if configuration.role != "ps":
        raise ValueError(
            "`TF_CONFIG` must give this process the job ps. Received: "
            f"{configuration.task}. Start workers with their own script."
        )
    security = Security.from_environment()
    if values.trusted_network:
        security = dataclasses.replace(security, trusted_network=True)
    max_workers = values.max_workers or max(
        MAX_WORKERS, 2 * len(configuration.workers)
    )
    file = event_file.to_file(values.events)
    tree = cluster_tree.from_environment(configuration)
    shard, num_shards = configuration.index, len(configuration.centers)
    nodes = None
    if tree is not None:
        shard, num_shards = tree.shard, tree.num_shards
        nodes = TreeNodes(tree, security)

    def make_node(group: int, **in_tree: Any) -> Node:
        events = stream.of_center(configuration.index, group, time.time)
        if file:
            events.listen(file)
        return Node(
            shard,
            num_shards,
            values.lease_s,
            max_workers=max_workers,
            now=time.monotonic,
            group=group,
            events=events,
            **in_tree,
        )

    groups = Groups(tree_nodes.maker(nodes, make_node))
    node = groups.first
    snapshots = None
    if values.snapshot_dir:
        snapshots = Snapshots(
            groups, values.snapshot_dir, values.snapshot_interval_s
        )
        if snapshots.restore():
            logging.info(
                "center %d goes on at version %d, from %s.",
                node.index,
                node.version,
                values.snapshot_dir,
            )
    stop = threading.Event()
    for number in _ends_of(signal.getsignal(signal.SIGHUP)):
        signal.signal(number, lambda *_: stop.set())
    address = configuration.centers[configuration.index]
    server = CenterServer(
        groups,
        address,
        security,
        array_port_of(values),
        shares_memory_of(values),
    )
    server.start()
    if snapshots:
        snapshots.start()
    if nodes:
        nodes.look_after(groups)
    logging.info(
        "center %d%s serves on %s, arrays on port %s.",
        node.index,
        f" of the node {nodes.place.name}" if nodes else "",
        address,
        server.array_port or "the same",
    )
    status = 0
    while not stop.wait(1.0):
        limit.tell()
        if nodes:
            nodes.look_after(groups)
        parts = [part for part in (server, snapshots, nodes) if part]
        if not all(part.is_alive() for part in parts):
            logging.error("a thread of center %d has died.", node.index)
            status = 1
            break
    if nodes:
        nodes.stop()
    server.stop()
    if snapshots:
        snapshots.stop()
    logging.info(
        "center %d ends at version %d after %.1f s of processor time.",
        node.index,
        node.version,
        time.process_time(),
    )
    return status


def _ends_of(hang_up: Any) -> list[signal.Signals]:
    """The signals that end a server.

    Args:
        hang_up: what SIGHUP does as yet; `nohup` has it ignored.
    """
    ends = [signal.SIGTERM, signal.SIGINT]
    return ends if hang_up is signal.SIG_IGN else [*ends, signal.SIGHUP]


def array_port_of(values: flags.FlagValues) -> int | None:
    """The port for arrays, from the flag or the environment.

    Returns:
        0 for any that is free, None for none.

    Raises:
        ValueError: the variable of the environment is no port.
    """
    port = values.array_port
    if port is None:
        text = os.environ.get("TF_ELASTIC_ARRAY_PORT") or "0"
        if text not in map(str, range(-1, 65536)):
            raise ValueError(
                "TF_ELASTIC_ARRAY_PORT must be a port, 0 for any that is "
                f"free, or -1 for none. Received: {text!r}."
            )
        port = int(text)
    return None if port < 0 else port


def shares_memory_of(values: flags.FlagValues) -> bool:
    """Whether memory is shared, from the flag or the environment.

    Raises:
        ValueError: the variable of the environment is neither 0 nor 1.
    """
    if values.share_memory is not None:
        return bool(values.share_memory)
    text = os.environ.get("TF_ELASTIC_SHARE_MEMORY") or "1"
    if text not in ("0", "1"):
        raise ValueError(
            "TF_ELASTIC_SHARE_MEMORY must be 1 to let workers of this host "
            f"share their memory, or 0. Received: {text!r}."
        )
    return text == "1"


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the program; see the module's text."""
    try:
        rest = _FLAGS(list(sys.argv if argv is None else argv))[1:]
        if rest:
            raise flags.Error(f"Only flags are understood. Received: {rest}.")
        logging.use_absl_handler()
        logging.set_verbosity(logging.INFO)
        return serve(_FLAGS)
    except (
        flags.Error,
        AddressError,
        errors.CenterRefusedError,
        extras.MissingExtraError,
        SnapshotError,
        user_code.UserCodeError,
        OSError,
        ValueError,
    ) as error:
        sys.stderr.write(f"{error}\n")
        return 2


if __name__ == "__main__":
    sys.exit(main())
