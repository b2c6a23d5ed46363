"""A worker's sockets to one center server, for the calls with arrays."""

import socket
import threading
import time
from collections.abc import Callable
from collections.abc import Sequence
from typing import Any

from absl import logging

from tf_elastic.cluster import errors
from tf_elastic.cluster.launch.security import Security
from tf_elastic.cluster.transport import addresses
from tf_elastic.cluster.transport import array_socket
from tf_elastic.cluster.transport.array_ends import Caller
from tf_elastic.cluster.transport.array_socket import ArraySocket

# Shorter than the server's, so that it never closes one that is about to be
# used.
_IDLE_S = 300.0
_MAX_IDLE = 4
_CONNECT_S = 5.0
# After which the port is taken: who knows what this host does not allow.
_MAX_LOCAL_FAILURES = 3
# After which a port that could not be reached is tried again.
_AVOID_S = (10.0, 60.0, 300.0)  # the last one goes on


class ArrayChannel:
    """Sockets to one center server; as many as there are calls at once.

    Where the server's second port cannot be reached, that is told once, and
    the calls go by gRPC.

    Args:
        address: "host:port" of the server.
        shard: its index, for messages.
        security: certificates.
        invite: asks the server by gRPC, within so many seconds, where to
            connect, and for a ticket.
    """

    def __init__(
        self,
        address: str,
        shard: int,
        security: Security,
        invite: Callable[[float], dict[str, Any]],
    ) -> None:
        self._host, _ = addresses.split(address)
        self._where = f"center {shard} ({address})"
        self._security = security
        self._invite = invite
        self._lock = threading.Lock()
        self._idle: list[Caller] = []
        self._used: set[Caller] = set()
        self._failures = 0
        self._avoid_until = 0.0
        self.closed = False
        self.is_local = False  # the newest socket, if there was one
        self._local_failures = 0  # one after the other

    def ask(
        self,
        name: str,
        header: dict[str, Any],
        sent: Sequence[Any],
        out: Sequence[Any],
        deadline: float,
    ) -> dict[str, Any] | None:
        """Makes a call; see `Caller.ask`.

        Returns:
            What the center has told; None if gRPC has to do.

        Raises:
            ClusterError: the center does not answer, or refuses this process.
            OSError: it has not answered this call.
        """
        caller = self._take() or self._open(deadline)
        if caller is None:
            return None
        with self._lock:
            self._used.add(caller)
            if self.closed:
                caller.socket.interrupt()
        done = False
        try:
            told = caller.ask(name, header, sent, out, deadline)
            done = True
            return told
        finally:
            with self._lock:
                self._used.discard(caller)
                if caller.socket.is_local:
                    failures = self._local_failures + 1
                    self._local_failures = 0 if done else failures
                full = len(self._idle) >= _MAX_IDLE
                keep = done and not self.closed and not full
                if keep:
                    caller.socket.used = time.monotonic()
                    self._idle.append(caller)
            if not keep:
                caller.socket.close()

    def close(self) -> None:
        """Closes all; calls that are going on fail at once."""
        with self._lock:
            self.closed = True
            idle, self._idle = self._idle, []
            for caller in self._used:
                caller.socket.interrupt()
        for caller in idle:
            caller.socket.close()

    def _take(self) -> Caller | None:
        """One that is still good: the server may have been started again."""
        while True:
            with self._lock:
                if not self._idle:
                    return None
                found = self._idle.pop()
            young = time.monotonic() - found.socket.used < _IDLE_S
            if young and found.socket.wait(0.0) is None:
                return found
            found.socket.close()

    def _open(self, deadline: float) -> Caller | None:
        now = time.monotonic()
        if self.closed or now < self._avoid_until:
            return None
        invitation = self._invite(deadline - now)
        port = invitation["port"]
        if not port:
            return None
        now = time.monotonic()
        # What is left is gRPC's, if need be.
        until = now + min(_CONNECT_S, (deadline - now) / 2)
        try:
            opened = self._connect(port, invitation["local_name"], until)
            try:
                opened.send({"ticket": invitation["ticket"]}, (), until)
                opened.receive_header(until)
            except BaseException:
                opened.close()
                raise
        except (OSError, errors.MessageError) as error:
            self._note_failure(port, error)
            return None
        self._failures = 0
        self.is_local = opened.is_local
        return Caller(opened)

    def _connect(
        self, port: int, local_name: str | None, until: float
    ) -> ArraySocket:
        if local_name and self._local_failures < _MAX_LOCAL_FAILURES:
            local = array_socket.connect_locally(local_name, until)
            if local is not None:
                return ArraySocket(local)
        context = self._security.client_context()
        connected = socket.create_connection(
            (self._host, port), max(until - time.monotonic(), 0.01)
        )
        try:
            array_socket.keep_alive(connected)
            if context is not None:
                connected = context.wrap_socket(
                    connected, server_hostname=self._host
                )
        except BaseException:
            connected.close()
            raise
        return ArraySocket(connected)

    def _note_failure(self, port: int, error: Exception) -> None:
        with self._lock:
            failures, self._failures = self._failures, self._failures + 1
            avoid_s = _AVOID_S[min(failures, len(_AVOID_S) - 1)]
            self._avoid_until = time.monotonic() + avoid_s
        if not failures and not self.closed:
            logging.warning(
                "Arrays go to %s by gRPC, which takes more processor time, "
                "since its port for them, %d, cannot be reached: %s. Open it "
                "in the firewall; --array_port of the center chooses it.",
                self._where,
                port,
                error,
            )
