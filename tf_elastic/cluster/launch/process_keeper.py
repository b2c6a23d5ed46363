"""Starts processes, and ends them with all that they have started."""

import concurrent.futures
import contextlib
import os
import queue
import signal
import subprocess
import threading
import time
from collections.abc import Callable
from collections.abc import Sequence
from typing import IO
from typing import Any

from absl import logging

from tf_elastic.cluster.errors import LocalClusterError
from tf_elastic.cluster.launch import isolation
from tf_elastic.cluster.launch.cluster_process import ClusterProcess
from tf_elastic.cluster.launch.cluster_process import how_it_ended
from tf_elastic.cluster.launch.preloaded import ForkedProcess
from tf_elastic.cluster.launch.preloaded import ForkError
from tf_elastic.cluster.launch.preloaded import ForkServer

_BACK_OFF_S = (0.2, 0.5, 1.0, 2.0, 5.0)  # the last one goes on


class ProcessKeeper:
    """Starts and ends processes, each in a session of its own.

    The kernel takes the thread that starts a process for its parent, and
    kills the process at its end: so one thread has to start them all, the one
    that serves. The rest may be called by any.

    Args:
        grace_s: how long those that are asked to end have for it.
    """

    def __init__(self, grace_s: float) -> None:
        self.namespaces: tuple[int, ...] = ()  # that all enter
        self.fork_server: ForkServer | None = None  # with the imports
        self.begin = time.monotonic()
        self.lock = threading.RLock()
        self.stopping = False  # nothing is started any more
        self._grace_s = grace_s
        self._requests: queue.SimpleQueue[Any] = queue.SimpleQueue()

    def call(self, function: Callable[..., None], *args: Any) -> None:
        """Has the serving thread call something, and waits for it.

        Raises:
            LocalClusterError: all are being stopped, or it takes too long.
        """
        if self.stopping:
            raise LocalClusterError("The cluster is being stopped.")
        future: concurrent.futures.Future[None] = concurrent.futures.Future()
        self._requests.put((future, function, args))
        try:
            future.result(timeout=60)
        except concurrent.futures.TimeoutError as error:
            raise LocalClusterError(
                "Waited 60 s for the thread that watches the cluster. It "
                "will be left alone; `stop` ends the processes."
            ) from error

    def serve(self, seconds: float) -> None:
        """Does what was asked for, or waits so long for it."""
        with contextlib.suppress(queue.Empty):
            future, function, args = self._requests.get(timeout=seconds)
            try:
                future.set_result(function(*args))
            except BaseException as error:
                future.set_exception(error)

    def start(self, process: ClusterProcess) -> None:
        """Starts a process, unless all are being stopped."""
        with self.lock:
            if self.stopping:
                return
            process.again_at = None
            with open(process.log_path, "ab") as log:
                process.popen = self._fork(process, log) or self._spawn(
                    process, log
                )
            process.started_s.append(time.monotonic() - self.begin)

    def _fork(
        self, process: ClusterProcess, log: IO[bytes]
    ) -> ForkedProcess | None:
        if self.fork_server is None or process.role == "ps":
            return None
        try:
            return self.fork_server.start(
                process.command,
                process.environment,
                log,
                name=process.name,
                cores=process.cores,
                namespaces=self.namespaces,
            )
        except ForkError as error:
            logging.warning(
                "%s imports its modules itself: %s", process.name, error
            )
            return None

    def _spawn(
        self, process: ClusterProcess, log: IO[bytes]
    ) -> subprocess.Popen[bytes]:
        wrapper = [
            *isolation.python_of_children(),
            f"--parent={os.getpid()}",
            f"--cores={','.join(map(str, process.cores))}",
            f"--namespaces={','.join(map(str, self.namespaces))}",
            "--",
        ]
        return subprocess.Popen(
            [*wrapper, *process.command],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            env=process.environment,
            pass_fds=self.namespaces,
            start_new_session=True,
        )

    def restart(self, process: ClusterProcess) -> None:
        """Starts a process anew, killing what runs.

        Raises:
            LocalClusterError: it cannot be killed.
        """
        self.end([process], signal.SIGKILL)
        if process.is_alive:
            raise LocalClusterError(f"{process.name} cannot be killed.")
        process.ended = False
        self.start(process)

    def has_exited(self, process: ClusterProcess) -> bool:
        """Whether the latest start has ended; notes it the first time."""
        with self.lock:
            if not process.is_alive or process.popen is None:
                return True
            look = os.WEXITED | os.WNOHANG | os.WNOWAIT
            # Where Python has it already, there is no such child.
            with contextlib.suppress(ChildProcessError):
                if os.waitid(os.P_PID, process.pid, look) is None:
                    return False
            # What it started itself goes with it, while nobody else can have
            # got its number.
            self.signal(process, signal.SIGKILL)
            process.exit_codes.append(process.popen.wait())
            return True

    def signal(self, process: ClusterProcess, number: int) -> None:
        """Sends a signal, if it runs; SIGKILL to all it has started, too."""
        send = os.killpg if number == signal.SIGKILL else os.kill
        with self.lock:
            if process.is_alive:
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    send(process.pid, number)

    def end(self, processes: Sequence[ClusterProcess], number: int) -> None:
        """Sends a signal to these and waits for them; kills the rest."""
        for process in processes:
            self.signal(process, number)
            # One that is paused hears of it only then.
            self.signal(process, signal.SIGCONT)
        deadline = time.monotonic() + self._grace_s
        while waiting := [p for p in processes if not self.has_exited(p)]:
            if time.monotonic() > deadline:
                if number != signal.SIGKILL:
                    logging.warning(
                        "%s did not end within %g s, and is killed.",
                        ", ".join(process.name for process in waiting),
                        self._grace_s,
                    )
                    self.end(waiting, signal.SIGKILL)
                return
            time.sleep(0.01)

    def _end_peers(self, process: ClusterProcess) -> None:
        """Ends those that cannot go on without a process that has died."""
        for peer in process.peers:
            if peer.is_alive and peer.started_s[-1] < process.died_s:
                logging.error(
                    "%s takes each step together with %s, which died: it is "
                    "ended.",
                    peer.name,
                    process.name,
                )
                self.signal(peer, signal.SIGKILL)

    def look_after(self, process: ClusterProcess, most: int) -> None:
        """Starts a process again that has died, after a while.

        Args:
            process: which.
            most: how often it is started again.
        """
        if process.ended:
            return
        if process.again_at is not None:
            is_time = time.monotonic() >= process.again_at
            if is_time and not process.waits_for_peers:
                self.start(process)
            return
        if not self.has_exited(process) or self.stopping:
            return
        code = process.exit_codes[-1]
        if code == 0 and process.role != "ps":
            process.ended = True
            return
        process.died_s = time.monotonic() - self.begin
        self._end_peers(process)
        if any(peer.ended for peer in process.peers):
            most = 0  # Not all of the group will be there again.
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
