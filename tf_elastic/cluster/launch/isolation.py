"""A network that only the processes of one cluster are in.

TensorFlow's servers listen on all interfaces and run any graph that they are
sent. In a network namespace of their own the only interface is a loopback
that no other process of the machine shares, let alone another host.
"""

import contextlib
import os
import select
import subprocess
import sys
from collections.abc import Iterator
from typing import IO
from typing import cast

from absl import logging

from tf_elastic.cluster.launch import child


class IsolationError(RuntimeError):
    """This machine gives the cluster no network of its own."""


@contextlib.contextmanager
def private_network(
    trusted: bool = False, deadline_s: float = 20.0
) -> Iterator[tuple[int, ...]]:
    """Inside, there is a network namespace with a loopback.

    It also stays while a process is in it. The context is the open files that
    a process has to enter, in their order.

    Args:
        trusted: whether to go on, without files, where the machine gives none.
        deadline_s: how long its making may take, in seconds.

    Raises:
        IsolationError: it is not possible here; says what to do.
    """
    namespaces: tuple[int, ...] = ()
    with contextlib.ExitStack() as files:
        try:
            namespaces = _make(files, deadline_s)
        except (IsolationError, OSError) as error:
            told = _explain(str(error))
            if not trusted:
                raise IsolationError(told) from error
            logging.warning(
                "The workers' servers are open to the network, which is "
                "trusted as --trusted_network says: %s",
                told,
            )
        yield namespaces


def _make(files: contextlib.ExitStack, deadline_s: float) -> tuple[int, ...]:
    if sys.platform != "linux":
        raise IsolationError(f"{sys.platform} has none")
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
                raise IsolationError(f"no answer came within {deadline_s:g} s")
            word, _, rest = answer.readline().strip().partition(" ")
            if word != "ok":
                raise IsolationError(rest or "it failed")
            namespaces = []
            for name in rest.split(","):
                path = f"/proc/{holder.pid}/ns/{name}"
                namespaces.append(os.open(path, os.O_RDONLY))
                files.callback(os.close, namespaces[-1])
            return tuple(namespaces)
        finally:
            holder.kill()


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
