"""Processes of a rehearsal, with a deadline, and none left behind."""

import os
import subprocess
import sys
import threading
from collections.abc import Sequence

# The exit status of one that was ended at its deadline.
TOO_LATE = -1


class Processes:
    """Starts processes, from several threads.

    Args:
        side_by_side: how many share this machine's cores.
    """

    def __init__(self, side_by_side: int) -> None:
        self._lock = threading.Lock()
        self._running: set[subprocess.Popen[bytes]] = set()
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
                process = subprocess.Popen(
                    command,
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=subprocess.STDOUT,
                    env=self._environment,
                )
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

    def end(self) -> None:
        """Ends all that run, and lets none begin."""
        with self._lock:
            self._is_over = True
            for process in self._running:
                process.kill()
