"""A whole cluster on this machine: started, watched, ended."""

import atexit
import codecs
import concurrent.futures
import contextlib
import dataclasses
import os
import pathlib
import queue
import secrets
import shutil
import signal
import socket
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
from tf_elastic.cluster.configuration import ClusterConfiguration

HOST = "127.0.0.1"
_LOOK_EVERY_S = 0.05
_LAST_LINES = 20
_PORT_ATTEMPTS = 3
_BACK_OFF_S = (0.2, 0.5, 1.0, 2.0, 5.0)  # the last one goes on
# Who is ended first: a center has to outlive those that write to it.
_STAGES = ("worker", "evaluator", "ps")
_PACKAGE_ROOT = pathlib.Path(__file__).resolve().parents[2]


class LocalClusterError(RuntimeError):
    """The cluster could not be started, or cannot go on."""


@dataclasses.dataclass
class ClusterProcess:
    """One task of the cluster and the process that is it now.

    Attributes:
        role: "worker", "ps" or "evaluator".
        index: which of them, from 0.
        command: what is run.
        log_path: where its output goes, that of all its starts.
        popen: the process of the latest start; None before the first.
        started_s: when it was started, each time, in seconds after the
            cluster was.
        listening_s: when a center was first seen to listen.
        exit_codes: of the starts that have ended; -9 means signal 9.
        restarts: how often it was started again because it had died.
    """

    role: str
    index: int
    command: list[str]
    log_path: pathlib.Path
    environment: dict[str, str] = dataclasses.field(repr=False)
    cores: tuple[int, ...] = ()
    popen: subprocess.Popen[bytes] | None = None
    started_s: list[float] = dataclasses.field(default_factory=list)
    listening_s: float | None = None
    exit_codes: list[int] = dataclasses.field(default_factory=list)
    restarts: int = 0
    _again_at: float | None = None  # on the monotonic clock
    _ended: bool = False  # and nobody will start it again

    @property
    def name(self) -> str:
        """The task, such as "worker 1"."""
        return f"{self.role} {self.index}"

    @property
    def pid(self) -> int:
        """The process id of the latest start."""
        if self.popen is None:
            raise LocalClusterError(
                f"{self.name} has no process yet. Call `start` first."
            )
        return self.popen.pid

    @property
    def returncode(self) -> int | None:
        """The exit code of the latest start; None while it runs."""
        if len(self.exit_codes) < len(self.started_s):
            return None
        return self.exit_codes[-1] if self.exit_codes else None

    @property
    def is_alive(self) -> bool:
        """Whether it runs, as far as has been seen."""
        return bool(self.started_s) and self.returncode is None

    def last_lines(self, count: int = _LAST_LINES) -> str:
        """The end of its log."""
        try:
            with open(self.log_path, "rb") as file:
                file.seek(0, os.SEEK_END)
                file.seek(max(file.tell() - 64 * 1024, 0))
                text = file.read().decode("utf-8", "replace")
        except OSError as error:
            return f"(its log cannot be read: {error})"
        lines = text.splitlines()[-count:]
        return "\n".join(f"  {line}" for line in lines) or "  (nothing)"


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
        self._shares: list[_Share] = []
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
        self._shown: _Shown | None = None
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
            self._shown = _Shown(chief.log_path, self._output)
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
                if not process._ended
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
            process._ended, process._again_at = False, None
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
        self._shares = _devices_of_workers(self._num_workers)
        for role, index in roles:
            self._prepare_one(role, index)

    def _prepare_one(self, role: str, index: int) -> ClusterProcess:
        command = self._command
        cores: tuple[int, ...] = ()
        share = _Share((), ())
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
                        f"{_how(process.exit_codes[-1])}. The end of its log, "
                        f"{process.log_path}:\n{process.last_lines()}"
                    )
                if _listens(process.pid, port):
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
            process._again_at = None
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
        if process._ended:
            return
        if process._again_at is not None:
            if time.monotonic() >= process._again_at:
                self._spawn(process)
            return
        if not self._has_exited(process) or self._stopping:
            return
        code = process.exit_codes[-1]
        if code == 0 and process.role != "ps":
            process._ended = True
            return
        wanted = process.role != "worker" or self._restart_workers
        again = wanted and process.restarts < self._max_restarts
        if again:
            delay = _BACK_OFF_S[min(process.restarts, len(_BACK_OFF_S) - 1)]
            process.restarts += 1
            process._again_at = time.monotonic() + delay
            fate = (
                f"It is started again in {delay:g} s, restart "
                f"{process.restarts} of at most {self._max_restarts}."
            )
        else:
            process._ended = True
            fate = "It is not started again" + (
                f", after {process.restarts} restarts." if wanted else "."
            )
        logging.error(
            "%s (process %d) died %s. %s The end of its log, %s:\n%s",
            process.name,
            process.pid,
            _how(code),
            fate,
            process.log_path,
            process.last_lines(),
        )

    def _look_for_the_end(self) -> None:
        if self._done.is_set():
            return
        lost = [p.name for p in self.processes("ps") if p._ended]
        workers = self.processes("worker")
        chief = workers[0]
        if lost:
            self.failure = f"{', '.join(lost)} died too often."
            logging.error("The cluster cannot go on: %s", self.failure)
            self._status = 1
            self._done.set()
        elif chief._ended and chief.exit_codes[-1] != 0:
            code = chief.exit_codes[-1]
            self.failure = f"The chief, worker 0, died {_how(code)}."
            self._status = code if code > 0 else 128 - code
            self._done.set()
        elif all(process._ended for process in workers):
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


def _how(code: int) -> str:
    """How a process ended, by its exit code."""
    if code >= 0:
        return f"with exit status {code}"
    try:
        return f"by signal {-code} ({signal.Signals(-code).name})"
    except ValueError:
        return f"by signal {-code}"


class _Shown:
    """Copies what is added to a log file to a stream, in a thread.

    The writer writes to the file alone, so no terminal can hold it up.
    """

    def __init__(self, path: pathlib.Path, output: TextIO) -> None:
        self._file = open(path, "rb")  # noqa: SIM115
        self._output: TextIO | None = output
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._lock = threading.Lock()
        self._closed = threading.Event()
        self._thread = threading.Thread(
            target=self._run, name="output of the chief", daemon=True
        )
        self._thread.start()

    def _run(self) -> None:
        while not self._closed.wait(0.1):
            self.copy()

    def copy(self) -> None:
        """Copies what has come since."""
        with self._lock:
            text = self._decoder.decode(self._file.read())
            if not text or self._output is None:
                return
            try:
                self._output.write(text)
                self._output.flush()
            except (OSError, ValueError) as error:
                self._output = None  # It is closed; the log goes on.
                logging.warning(
                    "The chief's output is shown no more, since the terminal "
                    "does not take it: %s. Its log goes on.",
                    error,
                )

    def close(self) -> None:
        """Copies the rest, and ends."""
        if not self._closed.is_set():
            self._closed.set()
            self._thread.join(5)
            self.copy()
            self._file.close()


@dataclasses.dataclass(frozen=True)
class _Share:
    """What of this machine a worker may use; the centers have none."""

    cores: tuple[int, ...]
    gpus: tuple[str, ...]
    gpus_are_shared: bool = False

    def environment(self) -> dict[str, str]:
        threads = str(max(len(self.cores), 1))
        variables = {
            "TF_NUM_INTRAOP_THREADS": threads,
            "OMP_NUM_THREADS": threads,
            # An empty list would hide them too, -1 says that it is meant.
            "CUDA_VISIBLE_DEVICES": ",".join(self.gpus) or "-1",
        }
        if self.gpus_are_shared:
            # Else the first to come takes nearly all memory.
            variables["TF_FORCE_GPU_ALLOW_GROWTH"] = "true"
        return variables


def _devices_of_workers(num_workers: int) -> list[_Share]:
    """Cores and GPUs of this machine, shared out."""
    cores, gpus = _cores(), _gpus()
    return [
        _Share(
            _slice(cores, index, num_workers),
            _slice(gpus, index, num_workers),
            gpus_are_shared=0 < len(gpus) < num_workers,
        )
        for index in range(num_workers)
    ]


def _slice(items: Sequence[Any], index: int, count: int) -> tuple[Any, ...]:
    """Part `index` of `count`: neighbours, or one that others have too."""
    if not items:
        return ()
    if len(items) < count:
        return (items[index % len(items)],)
    begin, end = (i * len(items) // count for i in (index, index + 1))
    return tuple(items[begin:end])


def _cores() -> list[int]:
    """The cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return sorted(os.sched_getaffinity(0))
    return list(range(os.cpu_count() or 1))


def _gpus() -> list[str]:
    """The GPUs that this process may use, as CUDA_VISIBLE_DEVICES has them."""
    chosen = os.environ.get("CUDA_VISIBLE_DEVICES")
    if chosen is not None:
        names = [name.strip() for name in chosen.split(",")]
        # From the first that is none on, CUDA sees none.
        count = next(
            (i for i, name in enumerate(names) if name in ("", "-1")),
            len(names),
        )
        return names[:count]
    program = shutil.which("nvidia-smi")
    if program is None:
        return []
    try:
        result = subprocess.run(
            [program, "--query-gpu=index", "--format=csv,noheader"],
            capture_output=True,
            text=True,
            timeout=30,
            check=True,
        )
    except (OSError, subprocess.SubprocessError) as error:
        logging.warning(
            "nvidia-smi does not tell which GPUs there are, so workers get "
            "none: %s. Set CUDA_VISIBLE_DEVICES to use them.",
            error,
        )
        return []
    return result.stdout.split()


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
