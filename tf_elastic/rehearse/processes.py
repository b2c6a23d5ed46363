"""Processes of a rehearsal, with a deadline, and none left behind."""

import os
import subprocess
import sys
import threading
from collections.abc import Sequence
from typing import IO

from tf_elastic.cluster.launch.preloaded import ForkedProcess
from tf_elastic.cluster.launch.preloaded import ForkError
from tf_elastic.cluster.launch.preloaded import ForkServer
from tf_elastic.program import launching

# The exit status of one that was ended at its deadline.
TOO_LATE = -1
_IMPORTS_WITHIN_S = 120.0


class Processes:
    """Starts processes, from several threads.

    Args:
        side_by_side: how many share this machine's cores.
    """

    def __init__(self, side_by_side: int) -> None:
        self._lock = threading.Lock()
        self._running: set[subprocess.Popen[bytes] | ForkedProcess] = set()
        self._is_over = False
        threads = str(max((os.cpu_count() or 1) // side_by_side, 1))
        own = {
            "TF_CPP_MIN_LOG_LEVEL": "2",
            "TF_NUM_INTRAOP_THREADS": threads,
            "TF_NUM_INTEROP_THREADS": threads,
            # Several may share a GPU.
            "TF_FORCE_GPU_ALLOW_GROWTH": "true",
        }
        self._environment = {**own, **os.environ, "PYTHONUNBUFFERED": "1"}
        self._server: ForkServer | None = None

    def run(self, argv: Sequence[str], log: str, deadline_s: float) -> int:
        """Runs `rehearse.child` to its end.

        Args:
            argv: of it.
            log: the file to which its output is appended.
            deadline_s: after which it is ended.

        Returns:
            Its exit status, or `TOO_LATE`.
        """
        command = [sys.executable, "-m", "tf_elastic.rehearse.child", *argv]
        with open(log, "ab") as output:
            with self._lock:
                if self._is_over:
                    return TOO_LATE
                process = self._start(command, output, log)
                self._running.add(process)
            try:
                return process.wait(deadline_s)
            except subprocess.TimeoutExpired:
                return TOO_LATE
            finally:
                process.kill()
                process.wait()
                with self._lock:
                    self._running.discard(process)

    def _start(
        self, command: Sequence[str], output: IO[bytes], log: str
    ) -> subprocess.Popen[bytes] | ForkedProcess:
        if self._server is None:
            self._server = ForkServer(
                launching.IMPORTED, self._environment, log
            )
        self._server.wait(_IMPORTS_WITHIN_S)
        try:
            return self._server.start(command, self._environment, output)
        except ForkError:
            return subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=self._environment,
            )

    def end(self) -> None:
        """Ends all that run, and lets none begin."""
        with self._lock:
            self._is_over = True
            if self._server is not None:
                self._server.close()
            for process in self._running:
                process.kill()
