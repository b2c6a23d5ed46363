"""A whole cluster on this machine: started, watched, ended."""

import atexit
import concurrent.futures
import contextlib
import os
import pathlib
import queue
import secrets
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any
from typing import TextIO

from absl import logging

from tf_elastic.cluster import addresses
from tf_elastic.cluster import isolation
from tf_elastic.cluster.cluster_process import HOST
from tf_elastic.cluster.cluster_process import ClusterProcess
from tf_elastic.cluster.cluster_process import how_it_ended
from tf_elastic.cluster.cluster_process import listens
from tf_elastic.cluster.configuration import ClusterConfiguration
from tf_elastic.cluster.errors import LocalClusterError
from tf_elastic.cluster.log_pump import LogPump
from tf_elastic.cluster.machine_share import MachineShare
from tf_elastic.cluster.machine_share import share_out

_LOOK_EVERY_S = 0.05
_PORT_ATTEMPTS = 3
_BACK_OFF_S = (0.2, 0.5, 1.0, 2.0, 5.0)  # the last one goes on
# Who is ended first: a center has to outlive those that write to it.
_STAGES = ("worker", "evaluator", "ps")
_PACKAGE_ROOT = pathlib.Path(__file__).resolve().parents[2]


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
        isolate_network: whether to keep the cluster in a network that nobody
            else is in: needed if workers run TensorFlow's servers, as under
            `MultiWorkerMirroredStrategy`. The processes then cannot reach
            other machines either, nor this process them.
        trusted_network: with `isolate_network`, whether to go on where the
            machine gives no such network.
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
        isolate_network: bool = False,
        trusted_network: bool = False,
        output: TextIO | None = None,
        grace_s: float = 10.0,
        center_deadline_s: float = 30.0,
    ) -> None:
        for name, value, least in (
            ("num_workers", num_workers, 1),
            ("num_centers", num_centers, 0),
            ("max_restarts", max_restarts, 0),
        ):
            if isinstance(value, bool) or not isinstance(value, int):
                value_is_right = False
            else:
                value_is_right = value >= least
            if not value_is_right:
                raise ValueError(
                    f"`{name}` must be an integer >= {least}. Received: "
                    f"{name}={value!r}. Give how many you want."
                )
        if isinstance(command, str) or not command:
            raise ValueError(
                "`command` must be a list of a program and its arguments. "
                f"Received: command={command!r}. Write it as in "
                "[sys.executable, \"train.py\"]."
            )
        self.log_dir = pathlib.Path(log_dir)
        self.failure: str | None = None  # why the cluster could not go on
        self._command = list(command)
        self._num_workers = num_workers
        self._num_centers = num_centers
        self._evaluator = evaluator
        self._env = dict(env or {})
        self._center_command = list(
            center_command or [sys.executable, "-m", "tf_elastic.cluster.ps"]
        )
        self._snapshots = pathlib.Path(snapshot_dir) if snapshot_dir else None
        self._pin = pin
        self._restart_workers = restart_workers
        self._max_restarts = max_restarts
        self._isolate = isolate_network
        self._trusted = trusted_network
        self._output = output
        self._grace_s = grace_s
        self._center_deadline_s = center_deadline_s

        # Kept through restarts; the caller may bring its own.
        self.token = self._env.get("TF_ELASTIC_TOKEN") or secrets.token_hex(32)
        self._processes: dict[tuple[str, int], ClusterProcess] = {}
        self._workers: tuple[str, ...] = ()
        self._centers: tuple[str, ...] = ()
        self._shares: list[MachineShare] = []
        self._network: isolation.PrivateNetwork | None = None
        self._begin = 0.0
        self._lock = threading.RLock()
        self._requests: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._watching = False
        self._stopping = False
        self._leave = threading.Event()
        self._done = threading.Event()
        self._status = 0
        self._thread: threading.Thread | None = None
        self._thread_error: BaseException | None = None
        self._shown: LogPump | None = None
        self._signals: dict[int, Any] = {}

    @property
    def centers(self) -> tuple[str, ...]:
        """The addresses of the center servers, once it is started."""
        return self._centers

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
        self._begin = time.monotonic()
        self.log_dir.mkdir(parents=True, exist_ok=True)
        self._catch_signals()
        atexit.register(self.stop)
        # The kernel takes the thread that starts a process for its parent,
        # and kills the process at its end: so one thread starts them all.
        self._thread = threading.Thread(
            target=self._watch, name="local cluster", daemon=True
        )
        self._thread.start()
        try:
            if self._isolate:
                self._enter_network()
            self._start_centers()
            if self._output is None:
                self._output = sys.stdout
            chief = self.process("worker", 0)
            self._shown = LogPump(chief.log_path, self._output)
            for process in self.processes():
                if process.role != "ps":
                    self._call(self._spawn, process)
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
        with self._lock:
            if self._thread is None or self._leave.is_set():
                return
            self._stopping = True
            if not self._done.is_set():
                self.failure = "It was stopped before the workers were done."
                self._status = 1
        try:
            for role in _STAGES:
                number = first_signal if role == "worker" else signal.SIGTERM
                self._end(self.processes(role), number)
        finally:
            # Also if a second Ctrl-C cuts the waiting short.
            for process in self.processes():
                self._kill_group(process)
            self._end(self.processes(), signal.SIGKILL)
            self._leave.set()
            self._done.set()
            self._thread.join(self._grace_s)
            if self._shown is not None:
                self._shown.close()
            if self._network is not None:
                self._network.close()
            self._restore_signals()
            atexit.unregister(self.stop)

    # Single processes.

    def process(self, role: str, index: int) -> ClusterProcess:
        """The process of a task, such as ("worker", 1).

        Raises:
            KeyError: the cluster has no such task.
        """
        if (role, index) not in self._processes:
            there = ", ".join(p.name for p in self.processes()) or "none yet"
            raise KeyError(
                f"Received: {role} {index}, which is no task of this cluster. "
                f"Choose one of: {there}."
            )
        return self._processes[role, index]

    def processes(self, role: str | None = None) -> list[ClusterProcess]:
        """All processes, or those of one role."""
        return [
            process
            for process in list(self._processes.values())
            if role in (None, process.role)
        ]

    def kill(
        self, role: str, index: int, number: int = signal.SIGKILL
    ) -> int:
        """Sends a signal to the process of a task; what follows, follows.

        Returns:
            Its process id.
        """
        process = self.process(role, index)
        with self._lock:
            if process.is_alive:
                os.kill(process.pid, number)
        return process.pid

    def restart(self, role: str, index: int) -> ClusterProcess:
        """Starts the process of a task again at once, killing what runs.

        It does not count among its `max_restarts`.

        Raises:
            LocalClusterError: the cluster is being stopped.
        """
        process = self.process(role, index)

        def again() -> None:
            self._kill_group(process)
            if process.is_alive and process.popen is not None:
                process.popen.wait(self._grace_s)
                self._note_exit(process)
            process.ended, process.again_at = False, None
            self._done.clear()
            self._spawn(process)

        self._call(again)
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
            [port] = addresses.free_ports(1, HOST)
            self._workers += (addresses.join(HOST, port),)
            self._done.clear()
            self._spawn(self._prepare_one("worker", len(self._workers) - 1))

        self._call(add)
        return self.processes("worker")[-1]

    def report(self) -> dict[str, Any]:
        """What became of each process, ready for JSON."""
        return {
            "num_workers": self._num_workers,
            "num_centers": self._num_centers,
            "isolated": self._network is not None,
            "failure": self.failure,
            "processes": [
                {
                    "task": process.name,
                    "pid": process.popen and process.popen.pid,
                    "log": str(process.log_path),
                    "cores": list(process.cores),
                    "started_s": list(process.started_s),
                    "listening_s": process.listening_s,
                    "exit_codes": list(process.exit_codes),
                    "restarts": process.restarts,
                }
                for process in self.processes()
            ],
        }

    # What each process is given.

    def _prepare(self, ports: Sequence[int]) -> None:
        """Makes the tasks, not yet their processes."""
        names = [addresses.join(HOST, port) for port in ports]
        self._workers = tuple(names[: self._num_workers])
        self._centers = tuple(names[self._num_workers :])
        roles = [("ps", i) for i in range(self._num_centers)]
        roles += [("worker", i) for i in range(self._num_workers)]
        roles += [("evaluator", 0)] * self._evaluator
        self._shares = share_out(self._num_workers)
        for role, index in roles:
            self._prepare_one(role, index)

    def _prepare_one(self, role: str, index: int) -> ClusterProcess:
        command = self._command
        cores: tuple[int, ...] = ()
        share = MachineShare((), ())
        if role == "ps":
            command = list(self._center_command)
            if self._snapshots:
                folder = self._snapshots / f"ps-{index}"
                folder.mkdir(parents=True, exist_ok=True)
                command.append(f"--snapshot_dir={folder}")
        if role == "worker":
            share = self._shares[index % self._num_workers]
            cores = share.cores if self._pin else ()
        config = ClusterConfiguration(
            self._workers, self._centers, (), role, index
        )
        process = ClusterProcess(
            role,
            index,
            command,
            self.log_dir / f"{role}-{index}.log",
            self._environment(share.environment(), config),
            cores,
        )
        process.log_path.write_bytes(b"")
        self._processes[role, index] = process
        return process

    def _environment(
        self, own: Mapping[str, str], config: ClusterConfiguration
    ) -> dict[str, str]:
        inherited = dict(os.environ)
        for name in ("CERT", "KEY", "CA"):
            # Certificates of hosts do not hold for the loopback.
            inherited.pop(f"TF_ELASTIC_TLS_{name}", None)
        # Centers of one machine cannot share a port.
        inherited.pop("TF_ELASTIC_ARRAY_PORT", None)
        paths = [inherited.get("PYTHONPATH", ""), str(_PACKAGE_ROOT)]
        proxied = inherited.get("no_proxy", inherited.get("NO_PROXY", ""))
        no_proxy = ",".join(filter(None, [proxied, HOST, "localhost"]))
        for name in ("TF_NUM_INTRAOP_THREADS", "OMP_NUM_THREADS"):
            if name in inherited:
                # Chosen by the user, for every process.
                own = {**own, name: inherited[name]}
        return {
            **inherited,
            "PYTHONPATH": os.pathsep.join(filter(None, paths)),
            "PYTHONUNBUFFERED": "1",
            "no_proxy": no_proxy,
            "NO_PROXY": no_proxy,
            **own,
            **self._env,
            "TF_ELASTIC_TOKEN": self.token,
            "TF_CONFIG": config.to_tf_config(),
        }

    # Starting.

    def _enter_network(self) -> None:
        try:
            self._network = isolation.PrivateNetwork()
        except isolation.IsolationError as error:
            if not self._trusted:
                raise
            logging.warning(
                "The workers' servers are open to the network, which is "
                "trusted as --trusted_network says: %s",
                error,
            )

    def _start_centers(self) -> None:
        """Starts the centers at ports that nobody has taken meanwhile."""
        count = self._num_workers + self._num_centers
        for attempt in range(1, _PORT_ATTEMPTS + 1):
            ports = addresses.free_ports(count, HOST)
            self._prepare(ports)
            centers = self.processes("ps")
            for process in centers:
                self._call(self._spawn, process)
            first = self._num_workers
            taken = self._wait_for_centers(
                {p.name: ports[first + p.index] for p in centers}
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
            self._end(centers, signal.SIGKILL)
        raise LocalClusterError(
            "The centers found no free ports in "
            f"{_PORT_ATTEMPTS} attempts. End what takes them, and try again."
        )

    def _wait_for_centers(self, ports: Mapping[str, int]) -> int | None:
        """Waits until all centers listen; a port that another has taken."""
        deadline = time.monotonic() + self._center_deadline_s
        waiting = self.processes("ps")
        while waiting:
            for process in list(waiting):
                port = ports[process.name]
                if self._has_exited(process):
                    if self._network is None and addresses.port_in_use(
                        addresses.join(HOST, port)
                    ):
                        return port
                    raise LocalClusterError(
                        f"{process.name} ended before it listened, "
                        f"{how_it_ended(process.exit_codes[-1])}. The end of "
                        f"its log, {process.log_path}:\n{process.last_lines()}"
                    )
                if listens(process.pid, port):
                    process.listening_s = time.monotonic() - self._begin
                    waiting.remove(process)
            if waiting and time.monotonic() > deadline:
                names = ", ".join(process.name for process in waiting)
                raise LocalClusterError(
                    f"Waited {self._center_deadline_s:g} s for {names} to "
                    "listen. The end of the log of the first, "
                    f"{waiting[0].log_path}:\n{waiting[0].last_lines()}\n"
                    "All processes are ended. Raise `center_deadline_s` if "
                    "this machine is slow."
                )
            if waiting:
                time.sleep(0.01)
        return None

    def _spawn(self, process: ClusterProcess) -> None:
        """Starts a process; in the thread that starts them all."""
        with self._lock:
            if self._stopping:
                return
            descriptors = self._network.descriptors if self._network else ()
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
            process.started_s.append(time.monotonic() - self._begin)

    # Watching.

    def _call(self, function: Callable[..., None], *args: Any) -> None:
        """Has the watching thread call something, and waits for it."""
        future: concurrent.futures.Future[None] = concurrent.futures.Future()
        if self._stopping:
            raise LocalClusterError("The cluster is being stopped.")
        self._requests.put((future, function, args))
        try:
            future.result(timeout=60)
        except concurrent.futures.TimeoutError as error:
            raise LocalClusterError(
                "Waited 60 s for the thread that watches the cluster. It "
                "will be left alone; `stop` ends the processes."
            ) from error

    def _watch(self) -> None:
        try:
            while not self._leave.is_set():
                self._serve_requests()
                if self._watching and not self._stopping:
                    for process in self.processes():
                        self._look_after(process)
                    self._look_for_the_end()
        except BaseException as error:  # `wait` tells it.
            self._thread_error = error
            self._done.set()

    def _serve_requests(self) -> None:
        """Does what was asked for, or waits a little for it."""
        with contextlib.suppress(queue.Empty):
            future, function, args = self._requests.get(timeout=_LOOK_EVERY_S)
            try:
                future.set_result(function(*args))
            except BaseException as error:
                future.set_exception(error)

    def _look_after(self, process: ClusterProcess) -> None:
        if process.ended:
            return
        if process.again_at is not None:
            if time.monotonic() >= process.again_at:
                self._spawn(process)
            return
        if not self._has_exited(process) or self._stopping:
            return
        code = process.exit_codes[-1]
        if code == 0 and process.role != "ps":
            process.ended = True
            return
        wanted = process.role != "worker" or self._restart_workers
        again = wanted and process.restarts < self._max_restarts
        if again:
            delay = _BACK_OFF_S[min(process.restarts, len(_BACK_OFF_S) - 1)]
            process.restarts += 1
            process.again_at = time.monotonic() + delay
            fate = (
                f"It is started again in {delay:g} s, restart "
                f"{process.restarts} of at most {self._max_restarts}."
            )
        else:
            process.ended = True
            fate = "It is not started again" + (
                f", after {process.restarts} restarts." if wanted else "."
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

    def _look_for_the_end(self) -> None:
        if self._done.is_set():
            return
        lost = [p.name for p in self.processes("ps") if p.ended]
        workers = self.processes("worker")
        chief = workers[0]
        if lost:
            self.failure = f"{', '.join(lost)} died too often."
            logging.error("The cluster cannot go on: %s", self.failure)
            self._status = 1
            self._done.set()
        elif chief.ended and chief.exit_codes[-1] != 0:
            code = chief.exit_codes[-1]
            self.failure = f"The chief, worker 0, died {how_it_ended(code)}."
            self._status = code if code > 0 else 128 - code
            self._done.set()
        elif all(process.ended for process in workers):
            self._status = 0
            self._done.set()

    # Ending.

    def _has_exited(self, process: ClusterProcess) -> bool:
        """Whether the latest start has ended; notes it the first time."""
        with self._lock:
            if not process.is_alive or process.popen is None:
                return True
            look = os.WEXITED | os.WNOHANG | os.WNOWAIT
            # Where Python has it already, there is no such child.
            with contextlib.suppress(ChildProcessError):
                if os.waitid(os.P_PID, process.popen.pid, look) is None:
                    return False
            # What it started itself goes with it, while nobody else can have
            # got its number.
            self._kill_group(process)
            self._note_exit(process)
            return True

    def _note_exit(self, process: ClusterProcess) -> None:
        with self._lock:
            if process.is_alive and process.popen is not None:
                process.exit_codes.append(process.popen.wait())

    def _kill_group(self, process: ClusterProcess) -> None:
        with self._lock:
            if process.is_alive and process.popen is not None:
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    os.killpg(process.popen.pid, signal.SIGKILL)

    def _end(self, processes: list[ClusterProcess], number: int) -> None:
        """Sends a signal to these and waits for them; kills the rest."""
        with self._lock:
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
        while waiting := [p for p in waiting if not self._has_exited(p)]:
            if time.monotonic() > deadline:
                if number != signal.SIGKILL:
                    logging.warning(
                        "%s did not end within %g s, and is killed.",
                        ", ".join(process.name for process in waiting),
                        self._grace_s,
                    )
                    for process in waiting:
                        self._kill_group(process)
                    self._end(waiting, signal.SIGKILL)
                return
            time.sleep(0.01)

    def _catch_signals(self) -> None:
        """Makes SIGTERM and SIGHUP end the block like an exception."""
        if threading.current_thread() is not threading.main_thread():
            return

        def leave(number: int, frame: Any) -> None:
            raise SystemExit(128 + number)

        for number in (signal.SIGTERM, signal.SIGHUP):
            # Whoever has a handler of its own has its reasons.
            if signal.getsignal(number) == signal.SIG_DFL:
                self._signals[number] = signal.signal(number, leave)

    def _restore_signals(self) -> None:
        if threading.current_thread() is threading.main_thread():
            for number, before in self._signals.items():
                signal.signal(number, before)
            self._signals.clear()
