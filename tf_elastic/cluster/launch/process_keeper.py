"""Starts processes, and ends them with all that they have started."""

import contextlib
import os
import signal
import subprocess
import threading
import time
from collections.abc import Sequence

from absl import logging

from tf_elastic.cluster.launch import isolation
from tf_elastic.cluster.launch.cluster_process import ClusterProcess
from tf_elastic.cluster.launch.cluster_process import how_it_ended

_BACK_OFF_S = (0.2, 0.5, 1.0, 2.0, 5.0)  # the last one goes on


class ProcessKeeper:
    """Starts and ends processes, each in a session of its own.

    The kernel takes the thread that starts a process for its parent, and
    kills the process at its end: so one thread has to start them all. The
    rest may be called by any.

    Args:
        grace_s: how long those that are asked to end have for it.
    """

    def __init__(self, grace_s: float) -> None:
        self.network: isolation.PrivateNetwork | None = None  # of all
        self.begin = time.monotonic()
        self.lock = threading.RLock()
        self.stopping = False  # nothing is started any more
        self._grace_s = grace_s

    def start(self, process: ClusterProcess) -> None:
        """Starts a process, unless all are being stopped."""
        with self.lock:
            if self.stopping:
                return
            descriptors = self.network.descriptors if self.network else ()
            wrapper = [
                *isolation.python_of_children(),
                f"--parent={os.getpid()}",
                f"--cores={','.join(map(str, process.cores))}",
                f"--namespaces={','.join(map(str, descriptors))}",
                "--",
            ]
            process.again_at = None
            with open(process.log_path, "ab") as log:
                process.popen = subprocess.Popen(
                    [*wrapper, *process.command],
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    env=process.environment,
                    pass_fds=descriptors,
                    start_new_session=True,
                )
            process.started_s.append(time.monotonic() - self.begin)

    def has_exited(self, process: ClusterProcess) -> bool:
        """Whether the latest start has ended; notes it the first time."""
        with self.lock:
            if not process.is_alive or process.popen is None:
                return True
            look = os.WEXITED | os.WNOHANG | os.WNOWAIT
            # Where Python has it already, there is no such child.
            with contextlib.suppress(ChildProcessError):
                if os.waitid(os.P_PID, process.popen.pid, look) is None:
                    return False
            # What it started itself goes with it, while nobody else can have
            # got its number.
            self.kill(process)
            self._note_exit(process)
            return True

    def _note_exit(self, process: ClusterProcess) -> None:
        with self.lock:
            if process.is_alive and process.popen is not None:
                process.exit_codes.append(process.popen.wait())

    def signal(self, process: ClusterProcess, number: int) -> None:
        """Sends a signal to a process alone, if it runs."""
        with self.lock:
            if process.is_alive:
                os.kill(process.pid, number)

    def kill(self, process: ClusterProcess) -> None:
        """Kills a process and what it has started."""
        with self.lock:
            if process.is_alive and process.popen is not None:
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    os.killpg(process.popen.pid, signal.SIGKILL)

    def kill_and_wait(self, process: ClusterProcess) -> None:
        """The same, and waits until it has ended.

        Raises:
            subprocess.TimeoutExpired: it has not.
        """
        self.kill(process)
        if process.is_alive and process.popen is not None:
            process.popen.wait(self._grace_s)
            self._note_exit(process)

    def end(self, processes: Sequence[ClusterProcess], number: int) -> None:
        """Sends a signal to these and waits for them; kills the rest."""
        with self.lock:
            for process in processes:
                if process.is_alive and process.popen is not None:
                    with contextlib.suppress(
                        ProcessLookupError, PermissionError
                    ):
                        os.kill(process.popen.pid, number)
                        # One that is paused hears of it only then.
                        os.kill(process.popen.pid, signal.SIGCONT)
        deadline = time.monotonic() + self._grace_s
        waiting = processes
        while waiting := [p for p in waiting if not self.has_exited(p)]:
            if time.monotonic() > deadline:
                if number != signal.SIGKILL:
                    logging.warning(
                        "%s did not end within %g s, and is killed.",
                        ", ".join(process.name for process in waiting),
                        self._grace_s,
                    )
                    for process in waiting:
                        self.kill(process)
                    self.end(waiting, signal.SIGKILL)
                return
            time.sleep(0.01)

    def look_after(self, process: ClusterProcess, most: int) -> None:
        """Starts a process again that has died, after a while.

        Args:
            process: which.
            most: how often it is started again.
        """
        if process.ended:
            return
        if process.again_at is not None:
            if time.monotonic() >= process.again_at:
                self.start(process)
            return
        if not self.has_exited(process) or self.stopping:
            return
        code = process.exit_codes[-1]
        if code == 0 and process.role != "ps":
            process.ended = True
            return
        if process.restarts < most:
            delay = _BACK_OFF_S[min(process.restarts, len(_BACK_OFF_S) - 1)]
            process.restarts += 1
            process.again_at = time.monotonic() + delay
            fate = (
                f"It is started again in {delay:g} s, restart "
                f"{process.restarts} of at most {most}."
            )
        else:
            process.ended = True
            fate = "It is not started again" + (
                f", after {process.restarts} restarts." if most else "."
            )
        logging.error(
            "%s (process %d) died %s. %s The end of its log, %s:\n%s",
            process.name,
            process.pid,
            how_it_ended(code),
            fate,
            process.log_path,
            process.last_lines(),
        )

    def enter_network(self, trusted: bool) -> None:
        """Keeps the cluster in a network of its own.

        Args:
            trusted: whether to go on where the machine gives none.

        Raises:
            IsolationError: it gives none.
        """
        try:
            self.network = isolation.PrivateNetwork()
        except isolation.IsolationError as error:
            if not trusted:
                raise
            logging.warning(
                "The workers' servers are open to the network, which is "
                "trusted as --trusted_network says: %s",
                error,
            )
