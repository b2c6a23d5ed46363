"""One process of a local cluster."""

import dataclasses
import os
import pathlib
import signal
import subprocess
from collections.abc import Sequence
from typing import Any

from absl import logging

from tf_elastic.cluster.errors import LocalClusterError
from tf_elastic.cluster.launch.preloaded import ForkedProcess

HOST = "127.0.0.1"


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
        peers: the others of its group, without which it cannot go on.
    """

    role: str
    index: int
    command: list[str]
    log_path: pathlib.Path
    environment: dict[str, str] = dataclasses.field(repr=False)
    cores: tuple[int, ...] = ()
    popen: subprocess.Popen[bytes] | ForkedProcess | None = None
    started_s: list[float] = dataclasses.field(default_factory=list)
    listening_s: float | None = None
    exit_codes: list[int] = dataclasses.field(default_factory=list)
    restarts: int = 0
    again_at: float | None = None  # on the monotonic clock
    ended: bool = False  # and nobody will start it again
    peers: list["ClusterProcess"] = dataclasses.field(
        default_factory=list, repr=False
    )
    died_s: float = 0.0  # as `started_s`

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
    def is_alive(self) -> bool:
        """Whether it runs, as far as has been seen."""
        return len(self.exit_codes) < len(self.started_s)

    @property
    def waits_for_peers(self) -> bool:
        """Whether some of its group, from before its death, are still there."""
        return any(
            peer.is_alive and peer.started_s[-1] < self.died_s
            for peer in self.peers
        )

    def report(self) -> dict[str, Any]:
        """What became of it, ready for JSON."""
        return {
            "task": self.name,
            "pid": self.popen and self.popen.pid,
            "log": str(self.log_path),
            "cores": list(self.cores),
            "started_s": list(self.started_s),
            "listening_s": self.listening_s,
            "exit_codes": list(self.exit_codes),
            "restarts": self.restarts,
        }

    def last_lines(self, count: int = 20) -> str:
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


def how_it_ended(code: int) -> str:
    """How a process ended, by its exit code."""
    if code >= 0:
        return f"with exit status {code}"
    try:
        return f"by signal {-code} ({signal.Signals(-code).name})"
    except ValueError:
        return f"by signal {-code}"


def verdict(
    processes: Sequence[ClusterProcess],
) -> tuple[int, str | None] | None:
    """How a cluster has ended.

    Args:
        processes: all of it, those of a role by their index.

    Returns:
        Its status, and why it could not go on; None if it goes on.
    """
    lost = [p.name for p in processes if p.role == "ps" and p.ended]
    workers = [p for p in processes if p.role == "worker"]
    if lost:
        failure = f"{', '.join(lost)} died too often."
        logging.error("The cluster cannot go on: %s", failure)
        return 1, failure
    chief = workers[0]
    if chief.ended and chief.exit_codes[-1] != 0:
        code = chief.exit_codes[-1]
        failure = f"The chief, worker 0, died {how_it_ended(code)}."
        return (code if code > 0 else 128 - code), failure
    if all(process.ended for process in workers):
        return 0, None
    return None
