"""Starts Python programs that need not import what takes long."""

import contextlib
import ctypes
import json
import os
import pathlib
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence
from typing import IO
from typing import TypeAlias

from absl import logging

from tf_elastic.cluster.launch import fork_server

_PR_SET_CHILD_SUBREAPER = 36
_PR_GET_CHILD_SUBREAPER = 37
_ANSWER_WITHIN_S = 2 * fork_server.ADOPTED_WITHIN_S
# What may differ from one process to the next: nothing reads it at an import.
_OF_ONE_PROCESS = frozenset(
    {"TF_CONFIG", "TF_NUM_INTRAOP_THREADS", "CUDA_VISIBLE_DEVICES"}
)
_File: TypeAlias = IO[bytes] | IO[str]
_ENDED = "the process that has the imports has ended"
_ONE_AT_A_TIME = threading.Lock()


class ForkError(RuntimeError):
    """No process came of a request; it can be started in the usual way."""


class ForkedProcess:
    """A child of this process that a `ForkServer` has made.

    It has what is used of a `subprocess.Popen`.
    """

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.returncode: int | None = None
        self._lock = threading.Lock()

    def poll(self) -> int | None:
        """The exit code, -n after signal n; None while it runs."""
        with self._lock:
            if self.returncode is None:
                pid, status = os.waitpid(self.pid, os.WNOHANG)
                if pid:
                    self.returncode = os.waitstatus_to_exitcode(status)
            return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """Waits for the end, and returns the exit code.

        Args:
            timeout: how long at most, in seconds; None for no end.

        Raises:
            subprocess.TimeoutExpired: it still runs.
        """
        deadline = None if timeout is None else time.monotonic() + timeout
        while (code := self.poll()) is None:
            if deadline is not None and time.monotonic() > deadline:
                raise subprocess.TimeoutExpired(
                    f"process {self.pid}", timeout or 0.0
                )
            time.sleep(0.01)
        return code

    def send_signal(self, number: int) -> None:
        """Sends a signal, if it has not ended."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        """Ends it at once."""
        self.send_signal(signal.SIGKILL)


class ForkServer:
    """Starts Python programs as forks of one process that has the imports.

    TensorFlow and Keras take some 4 s of a processor to import. Here they are
    imported once, and each further process, also one that is started again,
    begins with them, in milliseconds, and shares their memory. What a program
    sets in `os.environ` before it imports one of the modules comes too late
    there: name no module that reads it.

    Linux only; elsewhere, and where anything fails, `start` says so by
    `ForkError`, and the caller starts the process in the usual way.

    Args:
        modules: what is imported, such as `["tensorflow", "keras"]`.
        environment: of the server, and but for `TF_CONFIG`,
            `TF_NUM_INTRAOP_THREADS` and `CUDA_VISIBLE_DEVICES` of all
            processes.
        log_path: where the server's own output goes.
    """

    def __init__(
        self,
        modules: Sequence[str],
        environment: Mapping[str, str],
        log_path: str | os.PathLike[str],
    ) -> None:
        self._log_path = pathlib.Path(log_path)
        self._environment = common(environment)
        self._lock = threading.Lock()
        self._is_ready = False
        self._failure = ""
        self._socket, theirs = socket.socketpair(
            socket.AF_UNIX, socket.SOCK_SEQPACKET
        )
        try:
            if sys.platform != "linux":
                raise OSError(f"{sys.platform} has no child subreapers")
            # In the usual way: this thread need not outlive it.
            with open(self._log_path, "ab") as log:
                self._process = subprocess.Popen(
                    [
                        *(sys.executable, "-m", fork_server.__name__),
                        f"--socket={theirs.fileno()}",
                        *modules,
                    ],
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    env=dict(environment),
                    pass_fds=[theirs.fileno()],
                    start_new_session=True,
                )
        except OSError as error:
            self._socket.close()
            self._failure = str(error)
        finally:
            theirs.close()

    def wait(self, deadline_s: float) -> bool:
        """Waits for the imports.

        Args:
            deadline_s: how long at most, in seconds.

        Returns:
            Whether processes can be started; if not, a warning says why.
        """
        with self._lock:
            if not self._is_ready and not self._failure:
                try:
                    self._is_ready = self._receive(deadline_s) == b"ready"
                except (OSError, ForkError) as error:
                    self._fail(str(error))
            return self._is_ready and not self._failure

    def start(
        self,
        command: Sequence[str],
        environment: Mapping[str, str],
        stdout: _File,
        *,
        stderr: _File | None = None,
        stdin: _File | None = None,
        name: str = "python",
        folder: str | None = None,
        cores: Sequence[int] = (),
        namespaces: Sequence[int] = (),
    ) -> ForkedProcess:
        """Starts a program in a session of its own.

        Args:
            command: this Python, a script or "-m" and a module, arguments.
            environment: all of it.
            stdout: an open file for its output.
            stderr: one for its errors; None for the same.
            stdin: what it reads; None for nothing.
            name: what `top` calls it, such as "worker 1".
            folder: where it runs; None for this process's.
            cores: what it is kept to; empty for all.
            namespaces: open files of those that it enters, in their order.

        Raises:
            ForkError: it has not been started; says why.
        """
        _check(command)
        with self._lock:
            if not self._is_ready or self._failure:
                raise ForkError(self._failure or "It is not ready.")
            if common(environment) != self._environment:
                raise ForkError("It has another environment.")
            request = {
                "name": name,
                "command": list(command),
                "environment": dict(environment),
                "folder": folder or os.getcwd(),
                "cores": list(cores),
                "launcher": os.getpid(),
            }
            try:
                with _adopting(), open(os.devnull, "rb") as nothing:
                    socket.send_fds(
                        self._socket,
                        [json.dumps(request).encode()],
                        [
                            (stdin or nothing).fileno(),
                            stdout.fileno(),
                            (stderr or stdout).fileno(),
                            *namespaces,
                        ],
                    )
                    answer = json.loads(self._receive(_ANSWER_WITHIN_S))
            except (OSError, ValueError, ForkError) as error:
                is_gone = isinstance(error, ConnectionError)
                self._fail(_ENDED if is_gone else str(error))
                raise ForkError(self._failure) from error
            if "error" in answer:
                raise ForkError(answer["error"])
            return ForkedProcess(answer["pid"])

    def close(self) -> None:
        """Ends the server; what it has started goes on."""
        with self._lock:
            self._failure = self._failure or "It is closed."
            self._end()

    def _receive(self, deadline_s: float) -> bytes:
        if not select.select([self._socket], [], [], deadline_s)[0]:
            raise ForkError(f"no answer came within {deadline_s:g} s")
        if not (answer := self._socket.recv(fork_server.MAX_REQUEST)):
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(5)  # It is writing why.
            raise ForkError(_ENDED)
        return answer

    def _fail(self, reason: str) -> None:
        self._failure = reason
        self._end()
        logging.warning(
            "Processes import their modules themselves: %s. See %s.",
            reason,
            self._log_path,
        )

    def _end(self) -> None:
        if self._socket.fileno() >= 0:
            self._socket.close()
            self._process.kill()
            self._process.wait()


def _check(command: Sequence[str]) -> None:
    python, *rest = command
    program = rest[rest[:1] == ["-m"] :][:1]
    if python != sys.executable or not program or program[0][:1] == "-":
        raise ForkError(f"It is no script of this Python: {list(command)}.")


def common(environment: Mapping[str, str]) -> dict[str, str]:
    """What of an environment a server and its processes have in common."""
    return {
        name: value
        for name, value in environment.items()
        if name not in _OF_ONE_PROCESS
    }


@contextlib.contextmanager
def _adopting() -> Iterator[None]:
    """Inside, orphans below this process become its children."""
    library = ctypes.CDLL(None, use_errno=True)
    before = ctypes.c_int()
    with _ONE_AT_A_TIME:
        library.prctl(_PR_GET_CHILD_SUBREAPER, ctypes.byref(before), 0, 0, 0)
        if library.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0):
            raise OSError(ctypes.get_errno(), "it cannot adopt processes")
        try:
            yield
        finally:
            library.prctl(_PR_SET_CHILD_SUBREAPER, before.value, 0, 0, 0)
