"""Sockets between two processes of one host.

They are those of Unix, whose names are known to nobody who has not asked the
center by gRPC, and which nobody can see from another network namespace.
"""

import secrets
import socket
import time

from tf_elastic.cluster.transport import shared_memory


def listen() -> tuple[socket.socket, str] | None:
    """A socket that listens, and its name; None where there are none."""
    if not shared_memory.SUPPORTED:
        return None
    name = f"tf_elastic-{secrets.token_hex(16)}"
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        listener.bind(f"\0{name}")
        listener.listen(128)
    except OSError:
        listener.close()
        return None
    return listener, name


def connect(name: str, until: float) -> socket.socket | None:
    """Connects to what listens by a name; None if that is not on this host.

    Args:
        name: as the center has told it.
        until: when to give up.
    """
    if not shared_memory.SUPPORTED:
        return None
    connected = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        connected.settimeout(max(until - time.monotonic(), 0.01))
        connected.connect(f"\0{name}")
    except OSError:
        connected.close()
        return None
    return connected
