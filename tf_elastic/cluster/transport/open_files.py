"""How many files this process may have open, and its connections by them.

A connection that somebody else has accepted, gRPC say, is an open file of this
process as well: there it can be counted, and cut.
"""

import contextlib
import os
import resource
import socket
from collections.abc import Iterator

_FOLDERS = ("/proc/self/fd", "/dev/fd")
_ENOUGH = 65_536
_OWN = 128  # for all but connections: libraries, logs, snapshots


def raise_limit() -> int:
    """Lets this process open as many files as the system allows it to.

    Returns:
        How many that are.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _ENOUGH if hard == resource.RLIM_INFINITY else min(hard, _ENOUGH)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    return _limit()


def for_connections() -> int:
    """How many connections this process can have."""
    return max(_limit() - _OWN, 16)


def _limit() -> int:
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return _ENOUGH if soft == resource.RLIM_INFINITY else min(soft, _ENOUGH)


def connections(port: int) -> Iterator[tuple[str, int, socket.socket]]:
    """The connections to a port of this machine that this process serves.

    Args:
        port: of this end.

    Yields:
        Of each the other end's host and port, and a socket of its own: to
        close it has no effect on the connection, to shut it down does.
    """
    for number in _open_files():
        found = _socket(number)
        if found is None:
            continue
        with found:
            try:
                if found.getsockname()[1] != port:
                    continue
                host, other = found.getpeername()[:2]
            except (OSError, IndexError, TypeError):
                continue  # It listens, say, or is one of Unix.
            yield host, other, found


def _socket(number: int) -> socket.socket | None:
    """A socket of its own for an open file; None if that is not one."""
    try:
        copy = os.dup(number)
    except OSError:
        return None
    try:
        return socket.socket(fileno=copy)
    except OSError:
        os.close(copy)
        return None


def _open_files() -> list[int]:
    for folder in _FOLDERS:
        with contextlib.suppress(OSError):
            return [int(name) for name in os.listdir(folder)]
    return []
