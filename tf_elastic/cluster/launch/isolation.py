"""A network that only the processes of one cluster are in.

TensorFlow's servers listen on all interfaces and run any graph that they are
sent. In a network namespace of their own the only interface is a loopback
that no other process of the machine shares, let alone another host.
"""

import os
import select
import subprocess
import sys
from typing import IO
from typing import cast

from tf_elastic.cluster.launch import child

_DEADLINE_S = 20.0


class IsolationError(RuntimeError):
    """This machine gives the cluster no network of its own."""


class PrivateNetwork:
    """A network namespace with a loopback, until it is closed.

    It stays as long as this object or a process in it does.

    Args:
        deadline_s: how long its making may take, in seconds.

    Raises:
        IsolationError: it is not possible here; says what to do.
    """

    def __init__(self, deadline_s: float = _DEADLINE_S) -> None:
        self._descriptors: list[int] = []
        if sys.platform != "linux":
            raise IsolationError(_explain(f"{sys.platform} has none"))
        # A process of its own: one with threads could not do it.
        with subprocess.Popen(
            [*python_of_children(), "--hold"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        ) as holder:
            try:
                answer = cast(IO[str], holder.stdout)
                if not select.select([answer], [], [], deadline_s)[0]:
                    raise IsolationError(
                        _explain(f"no answer came within {deadline_s:g} s")
                    )
                word, _, rest = answer.readline().partition(" ")
                if word != "ok":
                    raise IsolationError(_explain(rest.strip() or "it failed"))
                for name in rest.strip().split(","):
                    path = f"/proc/{holder.pid}/ns/{name}"
                    self._descriptors.append(os.open(path, os.O_RDONLY))
            except OSError as error:
                self.close()
                raise IsolationError(_explain(str(error))) from error
            finally:
                holder.kill()

    @property
    def descriptors(self) -> tuple[int, ...]:
        """The open files that a process has to enter, in this order."""
        return tuple(self._descriptors)

    def close(self) -> None:
        """Lets go of the network."""
        while self._descriptors:
            os.close(self._descriptors.pop())


def python_of_children() -> list[str]:
    """The command that runs `child` and nothing else."""
    return [sys.executable, "-I", "-S", os.path.abspath(child.__file__)]


def _explain(reason: str) -> str:
    return (
        "The workers start TensorFlow's servers, which listen on all "
        "interfaces, without authentication, and run any graph that they are "
        "sent. They are to be kept in a network namespace of their own, but "
        f"this machine does not give them one. Received: {reason}. Allow "
        "user namespaces (sysctl user.max_user_namespaces, and for a "
        "container a seccomp profile that permits unshare), or run as root; "
        "or, if nobody else can reach this machine's ports, say so with "
        "--trusted_network."
    )
