"""Starts the center servers of a local cluster."""

import signal
import time
from collections.abc import Callable
from collections.abc import Mapping
from collections.abc import Sequence

from absl import logging

from tf_elastic.cluster.errors import LocalClusterError
from tf_elastic.cluster.launch.cluster_process import HOST
from tf_elastic.cluster.launch.cluster_process import ClusterProcess
from tf_elastic.cluster.launch.cluster_process import how_it_ended
from tf_elastic.cluster.launch.cluster_process import listens
from tf_elastic.cluster.launch.local_tasks import LocalTasks
from tf_elastic.cluster.launch.process_keeper import ProcessKeeper
from tf_elastic.cluster.transport import addresses

_PORT_ATTEMPTS = 3


def start(
    tasks: LocalTasks,
    keeper: ProcessKeeper,
    processes: dict[tuple[str, int], ClusterProcess],
    call: Callable[..., None],
    deadline_s: float,
) -> None:
    """Starts the centers at ports that nobody has taken meanwhile.

    Args:
        tasks: of the cluster.
        keeper: starts processes.
        processes: by role and index; all of the cluster are put in.
        call: has the right thread call something.
        deadline_s: how long a center may take until it listens.

    Raises:
        LocalClusterError: a center does not come to listen.
    """
    first = tasks.num_workers
    count = first + tasks.num_centers
    for attempt in range(1, _PORT_ATTEMPTS + 1):
        ports = addresses.free_ports(count, HOST)
        for process in tasks.make(ports):
            processes[process.role, process.index] = process
        centers = [p for p in processes.values() if p.role == "ps"]
        for process in centers:
            call(keeper.start, process)
        taken = _wait(
            keeper,
            centers,
            {p.name: ports[first + p.index] for p in centers},
            deadline_s,
        )
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
    keeper: ProcessKeeper,
    centers: Sequence[ClusterProcess],
    ports: Mapping[str, int],
    deadline_s: float,
) -> int | None:
    """Waits until all centers listen; a port that another has taken."""
    deadline = time.monotonic() + deadline_s
    waiting = list(centers)
    while waiting:
        for process in list(waiting):
            port = ports[process.name]
            if keeper.has_exited(process):
                if keeper.network is None and addresses.port_in_use(
                    addresses.join(HOST, port)
                ):
                    return port
                raise LocalClusterError(
                    f"{process.name} ended before it listened, "
                    f"{how_it_ended(process.exit_codes[-1])}. The end of "
                    f"its log, {process.log_path}:\n{process.last_lines()}"
                )
            if listens(process.pid, port):
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
