"""A whole cluster on this machine: started, watched, ended."""

import atexit
import contextlib
import os
import pathlib
import signal
import sys
import threading
import time
from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any

from tf_elastic.cluster.errors import LocalClusterError
from tf_elastic.cluster.launch import ending
from tf_elastic.cluster.launch import isolation
from tf_elastic.cluster.launch import local_centers
from tf_elastic.cluster.launch.cluster_process import ClusterProcess
from tf_elastic.cluster.launch.cluster_process import verdict
from tf_elastic.cluster.launch.local_tasks import LocalTasks
from tf_elastic.cluster.launch.local_tasks import check_count
from tf_elastic.cluster.launch.log_pump import LogPump
from tf_elastic.cluster.launch.log_pump import Output
from tf_elastic.cluster.launch.preloaded import ForkServer
from tf_elastic.cluster.launch.process_keeper import ProcessKeeper

_LOOK_EVERY_S = 0.05
# Who is ended first: a center has to outlive those that write to it.
_STAGES = ("worker", "evaluator", "ps")


class LocalCluster:
    """Starts every process of a cluster here, and ends them all.

    Each process runs under a TF_CONFIG of its own, at free ports of the
    loopback, with one random token for all, its output in a log file. The
    centers are started first; once they listen, the workers are. A center
    that dies is started again, a worker if `restart_workers` says so.

    No process outlives the cluster: they are ended when the block ends, at
    an exception, at Ctrl-C, SIGTERM or SIGHUP, and by the kernel if the
    launcher itself is killed (Linux).

    Args:
        command: what a worker and the evaluator run, such as
            `[sys.executable, "train.py"]`; they read who they are in
            TF_CONFIG.
        num_workers: how many workers, at least 1; worker 0 is the chief.
        num_centers: how many center servers; 0 if the workers need none.
        log_dir: the folder for `worker-0.log`, `ps-0.log` and so on, made if
            it is not there.
        evaluator: whether to start an evaluator too.
        env: environment variables for all processes, on top of this one's.
        center_command: what a center runs; None for
            `python -m tf_elastic.cluster.ps`.
        snapshot_dir: a folder in which each center has one for its
            snapshots; None for no snapshots.
        pin: whether each worker keeps to cores of its own (Linux).
        restart_workers: whether a worker that died is started again.
        max_restarts: how often one task is started again at most.
        workers_per_group: of `ElasticMultiWorkerStrategy`: where a worker
            dies, all of its group are ended, and started again.
        isolate_network: whether to keep the cluster in a network that nobody
            else is in: needed if workers run TensorFlow's servers, as under
            `MultiWorkerMirroredStrategy`. The processes then cannot reach
            other machines either, nor this process them.
        trusted_network: with `isolate_network`, whether to go on where the
            machine gives no such network.
        preload: modules that are imported once for workers and evaluator,
            such as "tensorflow", where `command` is a script of this Python:
            each process then begins with them (Linux; see `ForkServer`).
        output: where the chief's output is shown besides; None for the
            terminal (`sys.stdout`).
        grace_s: how long processes that are told to end may take before they
            are killed, in seconds, workers, evaluator and centers in turn.
        center_deadline_s: how long a center may take until it listens.

    Raises:
        ValueError: a number is out of range, or the command is empty.

    Example:

    ```python
    with LocalCluster([sys.executable, "train.py"], 4, 1, "logs") as cluster:
        status = cluster.wait()
    ```
    """

    def __init__(
        self,
        command: Sequence[str],
        num_workers: int,
        num_centers: int,
        log_dir: str | os.PathLike[str],
        evaluator: bool = False,
        env: Mapping[str, str] | None = None,
        *,
        center_command: Sequence[str] | None = None,
        snapshot_dir: str | os.PathLike[str] | None = None,
        pin: bool = False,
        restart_workers: bool = False,
        max_restarts: int = 10,
        workers_per_group: int = 1,
        isolate_network: bool = False,
        trusted_network: bool = False,
        preload: Sequence[str] = (),
        output: Output | None = None,
        grace_s: float = 10.0,
        center_deadline_s: float = 120.0,
    ) -> None:
        check_count("max_restarts", max_restarts, 0)
        self.log_dir = pathlib.Path(log_dir)
        self._tasks = LocalTasks(
            command,
            num_workers,
            num_centers,
            self.log_dir,
            evaluator,
            env or {},
            center_command,
            snapshot_dir,
            pin,
            workers_per_group,
        )
        self.token = self._tasks.token
        self.failure: str | None = None  # why the cluster could not go on
        self._max_restarts = {
            "ps": max_restarts,
            "worker": max_restarts if restart_workers else 0,
            "evaluator": max_restarts,
        }
        self._isolate = isolate_network
        self._trusted = trusted_network
        self._preload = tuple(preload)
        self._output = output
        self._grace_s = grace_s
        self._center_deadline_s = center_deadline_s

        self._keeper = ProcessKeeper(grace_s)
        self._watching = False
        self._leave = threading.Event()
        self._done = threading.Event()
        self._status = 0
        self._thread: threading.Thread | None = None
        self._thread_error: BaseException | None = None
        self._shown: LogPump | None = None
        self._at_the_end = contextlib.ExitStack()

    @property
    def centers(self) -> tuple[str, ...]:
        """The addresses of the center servers, once it is started."""
        return self._tasks.centers

    # The life of the cluster.

    def __enter__(self) -> "LocalCluster":
        return self.start()

    def __exit__(self, kind: Any, error: Any, traceback: Any) -> None:
        # A program may have its own words at Ctrl-C, so it gets the same.
        interrupted = isinstance(error, KeyboardInterrupt)
        self.stop(signal.SIGINT if interrupted else signal.SIGTERM)

    def run(self, deadline_s: float | None = None) -> int:
        """Starts the cluster, waits for its end, and returns the status.

        See `wait`. Nothing is left when it returns.
        """
        with self:
            return self.wait(deadline_s)

    def start(self) -> "LocalCluster":
        """Starts all processes; better use the cluster as a context.

        Raises:
            LocalClusterError: a center does not come to listen, or the
                cluster was started before.
            IsolationError: the machine gives it no network of its own.
        """
        if self._thread is not None:
            raise LocalClusterError(
                "A `LocalCluster` can be started once. Make another one."
            )
        self._keeper.begin = time.monotonic()
        self.log_dir.mkdir(parents=True, exist_ok=True)
        ending.by_exception(self._at_the_end)
        atexit.register(self.stop)
        self._at_the_end.callback(atexit.unregister, self.stop)
        # The kernel takes the thread that starts a process for its parent,
        # and kills the process at its end: so one thread starts them all.
        self._thread = threading.Thread(
            target=self._watch, name="local cluster", daemon=True
        )
        self._thread.start()
        try:
            if self._isolate:
                self._keeper.namespaces = self._at_the_end.enter_context(
                    isolation.private_network(self._trusted)
                )
            if self._preload:
                self._keeper.fork_server = ForkServer(
                    self._preload,
                    self._tasks.environment(),
                    self.log_dir / "imports.log",
                )
                self._at_the_end.callback(self._keeper.fork_server.close)
            local_centers.start(
                self._tasks, self._keeper, self._center_deadline_s
            )
            if self._keeper.fork_server is not None:
                self._keeper.fork_server.wait(self._center_deadline_s)
            self._shown = LogPump(
                self.process("worker", 0).log_path, self._output or sys.stdout
            )
            self._at_the_end.callback(self._shown.close)
            for process in self.processes():
                if process.role != "ps":
                    self._keeper.call(self._keeper.start, process)
            self._watching = True
        except BaseException:
            self.stop()
            raise
        return self

    def wait(self, deadline_s: float | None = None) -> int:
        """Waits until the chief and all other workers are done.

        A worker that died and is not started again is done: the others go
        on. If the chief has failed, nobody is waited for any more.

        Args:
            deadline_s: how long at most, in seconds; None for no end.

        Returns:
            The chief's exit status (128 + n after signal n), or 1 if the
            cluster could not go on; `failure` then says why.

        Raises:
            TimeoutError: not all are done at the deadline.
        """
        if not self._done.wait(deadline_s):
            alive = [
                process.name
                for process in self.processes("worker")
                if not process.ended
            ]
            raise TimeoutError(
                f"Waited {deadline_s:g} s for the workers to be done. Still "
                f"at work: {', '.join(alive)}. See their logs in "
                f"{self.log_dir}. What happens next is up to the caller: "
                "wait again, or `stop` the cluster."
            )
        if self._thread_error is not None:
            raise LocalClusterError(
                "The thread that watches the cluster has died of an error."
            ) from self._thread_error
        if self._shown is not None:
            self._shown.copy()
        return self._status

    def stop(self, first_signal: int = signal.SIGTERM) -> None:
        """Ends all processes: a signal, a deadline, then SIGKILL.

        First the workers, then the evaluator, then the centers, so that each
        can still reach what it writes to. Does nothing the second time.

        Args:
            first_signal: what workers get first, SIGTERM or SIGINT.
        """
        with self._keeper.lock:
            if self._thread is None or self._leave.is_set():
                return
            self._keeper.stopping = True
            if not self._done.is_set():
                self.failure = "It was stopped before the workers were done."
                self._status = 1
        try:
            for role in _STAGES:
                number = first_signal if role == "worker" else signal.SIGTERM
                self._keeper.end(self.processes(role), number)
        finally:
            # Also if a second Ctrl-C cuts the waiting short.
            self._keeper.end(self.processes(), signal.SIGKILL)
            self._leave.set()
            self._done.set()
            self._thread.join(self._grace_s)
            self._at_the_end.close()

    # Single processes.

    def process(self, role: str, index: int) -> ClusterProcess:
        """The process of a task, such as ("worker", 1).

        Raises:
            KeyError: the cluster has no such task.
        """
        for process in self.processes(role):
            if process.index == index:
                return process
        there = ", ".join(p.name for p in self.processes()) or "none yet"
        raise KeyError(
            f"Received: {role} {index}, which is no task of this cluster. "
            f"Choose one of: {there}."
        )

    def processes(self, role: str | None = None) -> list[ClusterProcess]:
        """All processes, or those of one role."""
        return [
            process
            for process in list(self._tasks.processes)
            if role in (None, process.role)
        ]

    def kill(self, role: str, index: int, number: int = signal.SIGKILL) -> int:
        """Sends a signal to the process of a task; what follows, follows.

        Returns:
            Its process id.
        """
        process = self.process(role, index)
        self._keeper.signal(process, number)
        return process.pid

    def restart(self, role: str, index: int) -> ClusterProcess:
        """Starts the process of a task again at once, killing what runs.

        It does not count among its `max_restarts`.

        Raises:
            LocalClusterError: the cluster is being stopped.
        """
        process = self.process(role, index)

        def again() -> None:
            self._done.clear()
            self._keeper.restart(process)

        self._keeper.call(again)
        return process

    def add_worker(self) -> ClusterProcess:
        """Starts one worker more, which joins those that are at work.

        Its `TF_CONFIG` has its address behind those of all before it, whose
        own stays what it was. It uses the cores and GPUs of one of them.

        Raises:
            LocalClusterError: the cluster is being stopped.
        """
        if not self._watching:
            raise LocalClusterError(
                "A worker can join a cluster that is started. Call `start` "
                "first."
            )

        def add() -> None:
            self._done.clear()
            self._keeper.start(self._tasks.add_worker())

        self._keeper.call(add)
        return self.processes("worker")[-1]

    def report(self) -> dict[str, Any]:
        """What became of each process, ready for JSON."""
        return {
            "num_workers": self._tasks.num_workers,
            "num_centers": self._tasks.num_centers,
            "isolated": bool(self._keeper.namespaces),
            "failure": self.failure,
            "processes": [each.report() for each in self.processes()],
        }

    # Watching.

    def _watch(self) -> None:
        try:
            while not self._leave.is_set():
                self._keeper.serve(_LOOK_EVERY_S)
                if not self._watching or self._keeper.stopping:
                    continue
                for process in self.processes():
                    most = self._max_restarts[process.role]
                    self._keeper.look_after(process, most)
                if not self._done.is_set() and (
                    found := verdict(self.processes())
                ):
                    self._status, self.failure = found
                    self._done.set()
        except BaseException as error:  # `wait` tells it.
            self._thread_error = error
            self._done.set()
