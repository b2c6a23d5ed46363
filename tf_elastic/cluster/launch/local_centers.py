"""Starts the center servers of a local cluster."""

import os
import pathlib
import signal
import socket
import sys
import time

from absl import logging

from tf_elastic.cluster.errors import LocalClusterError
from tf_elastic.cluster.launch.cluster_process import HOST
from tf_elastic.cluster.launch.cluster_process import how_it_ended
from tf_elastic.cluster.launch.local_tasks import LocalTasks
from tf_elastic.cluster.launch.process_keeper import ProcessKeeper
from tf_elastic.cluster.transport import addresses

_PORT_ATTEMPTS = 3


def start(tasks: LocalTasks, keeper: ProcessKeeper, deadline_s: float) -> None:
    """Makes all processes, and starts the centers at ports that stay free.

    Args:
        tasks: of the cluster.
        keeper: starts processes.
        deadline_s: how long a center may take until it listens.

    Raises:
        LocalClusterError: a center does not come to listen.
    """
    for attempt in range(1, _PORT_ATTEMPTS + 1):
        tasks.make()
        centers = tasks.processes[: tasks.num_centers]
        for process in centers:
            keeper.call(keeper.start, process)
        taken = _wait(tasks, keeper, deadline_s)
        if taken is None:
            return
        logging.warning(
            "Port %d was taken by another process before the center had "
            "it: attempt %d of %d failed, trying other ports.",
            taken,
            attempt,
            _PORT_ATTEMPTS,
        )
        keeper.end(centers, signal.SIGKILL)
    raise LocalClusterError(
        "The centers found no free ports in "
        f"{_PORT_ATTEMPTS} attempts. End what takes them, and try again."
    )


def _wait(
    tasks: LocalTasks, keeper: ProcessKeeper, deadline_s: float
) -> int | None:
    """Waits until all centers listen; a port that another has taken."""
    deadline = time.monotonic() + deadline_s
    waiting = tasks.processes[: tasks.num_centers]
    while waiting:
        for process in list(waiting):
            address = tasks.centers[process.index]
            _, port = addresses.split(address)
            if keeper.has_exited(process):
                if not keeper.namespaces and addresses.port_in_use(address):
                    return port
                raise LocalClusterError(
                    f"{process.name} ended before it listened, "
                    f"{how_it_ended(process.exit_codes[-1])}. The end of "
                    f"its log, {process.log_path}:\n{process.last_lines()}"
                )
            if _listens(process.pid, port):
                process.listening_s = time.monotonic() - keeper.begin
                waiting.remove(process)
        if waiting and time.monotonic() > deadline:
            names = ", ".join(process.name for process in waiting)
            raise LocalClusterError(
                f"Waited {deadline_s:g} s for {names} to "
                "listen. The end of the log of the first, "
                f"{waiting[0].log_path}:\n{waiting[0].last_lines()}\n"
                "All processes are ended. Raise `center_deadline_s` if "
                "this machine is slow."
            )
        if waiting:
            time.sleep(0.01)
    return None


def _listens(pid: int, port: int) -> bool:
    """Whether this process listens at a port, in its own network."""
    if sys.platform != "linux":
        try:
            socket.create_connection((HOST, port), 1).close()
        except OSError:
            return False
        return True
    sockets = set()
    try:
        for file in ("tcp", "tcp6"):
            table = pathlib.Path(f"/proc/{pid}/net/{file}")
            for line in table.read_text("ascii").splitlines()[1:]:
                fields = line.split()
                local, state, inode = fields[1], fields[3], fields[9]
                if state == "0A" and int(local.split(":")[1], 16) == port:
                    sockets.add(f"socket:[{inode}]")
        if not sockets:
            return False
        # Another process may listen there: it has to be one of its own.
        with os.scandir(f"/proc/{pid}/fd") as entries:
            return any(_link(entry.path) in sockets for entry in entries)
    except (FileNotFoundError, ProcessLookupError, PermissionError):
        return False  # It is just ending, or becoming its program.


def _link(path: str) -> str:
    try:
        return os.readlink(path)
    except OSError:
        return ""
