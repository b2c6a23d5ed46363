"""A center server's second port, for the calls with arrays.

Whoever is let in by gRPC is given a ticket there, and shows it here: so the
cluster's token never crosses a plain socket, and one rule says who may call.
Each connection has a thread, which serves one call after the other.
"""

import contextlib
import hmac
import secrets
import socket
import threading
import time
from collections.abc import Mapping
from typing import Any

from absl import logging

from tf_elastic.cluster import addresses
from tf_elastic.cluster import array_socket
from tf_elastic.cluster import errors
from tf_elastic.cluster import tls
from tf_elastic.cluster.array_calls import ArrayCall
from tf_elastic.cluster.array_socket import ArraySocket
from tf_elastic.cluster.configuration import Security

_MAX_CONNECTIONS = 256
_MAX_STRANGERS = 64  # of them, that have not shown a ticket yet
_MAX_TICKETS = 1024
_TICKET_S = 30.0
_ENTER_S = 10.0  # for the handshake of TLS, and the ticket
_HEADER_S = 10.0  # once it has begun
_ENTER_BYTES = 1024
# Those of workers are closed there before (see `array_channel`), so that none
# is closed while a call is on its way.
_IDLE_S = 600.0
_MAX_CALL_S = 3600.0
_LOOK_S = 1.0


class ArrayServer:
    """Serves calls with arrays at a port of its own.

    Args:
        calls: by their names.
        host: where to listen, and nowhere else.
        port: the port; 0 for any that is free.
        security: its certificates hold here too.

    Raises:
        OSError: the port is taken.
    """

    def __init__(
        self,
        calls: Mapping[str, ArrayCall],
        host: str,
        port: int,
        security: Security,
    ) -> None:
        self._calls = calls
        self._context = tls.server_context(security)
        self._listener = _listen(host, port)
        self.port: int = self._listener.getsockname()[1]
        self._tickets: dict[str, float] = {}  # until when each is good
        self._guests: set[ArraySocket] = set()
        self._strangers: set[socket.socket] = set()  # not let in as yet
        self._lock = threading.Lock()
        self._stopped = threading.Event()
        self._idle = threading.Condition(self._lock)
        self._busy = 0
        self._thread = threading.Thread(
            target=self._accept, name="arrays", daemon=True
        )

    def start(self) -> None:
        """Begins to serve."""
        self._thread.start()

    def is_alive(self) -> bool:
        """Whether new connections are taken."""
        return self._thread.is_alive()

    def stop(self, grace_s: float = 1.0) -> None:
        """Ends what is going on, within `grace_s` seconds."""
        self._stopped.set()
        with contextlib.suppress(OSError):  # Wakes it up, on Linux.
            self._listener.shutdown(socket.SHUT_RDWR)
        if self._thread.is_alive():
            self._thread.join(_LOOK_S + 1)
        self._listener.close()
        with self._idle:
            self._idle.wait_for(lambda: not self._busy, grace_s)
            for guest in self._guests:
                guest.interrupt()

    def invite(self) -> dict[str, Any]:
        """A ticket, good once and for some seconds, and where to show it."""
        ticket = secrets.token_hex(32)
        now = time.monotonic()
        with self._lock:
            good = {t: end for t, end in self._tickets.items() if end > now}
            while len(good) >= _MAX_TICKETS:
                del good[next(iter(good))]  # The oldest.
            self._tickets = {**good, ticket: now + _TICKET_S}
        return {"port": self.port, "ticket": ticket}

    def _admits(self, ticket: Any) -> bool:
        """Whether a ticket is good; from now on it is not."""
        given = str(ticket).encode()
        with self._lock:
            found = None
            for known in self._tickets:
                if hmac.compare_digest(known.encode(), given):
                    found = known
            if found is None:
                return False
            return self._tickets.pop(found) > time.monotonic()

    # Connections.

    def _accept(self) -> None:
        self._listener.settimeout(_LOOK_S)
        while not self._stopped.is_set():
            try:
                connected, peer = self._listener.accept()
            except TimeoutError:
                continue
            except OSError as error:  # Say, too many open files.
                if not self._stopped.wait(0.1):
                    logging.error("no connection for arrays: %s.", error)
                continue
            with self._lock:
                full = (
                    len(self._strangers) >= _MAX_STRANGERS
                    or len(self._guests) >= _MAX_CONNECTIONS
                )
                if not full:
                    self._strangers.add(connected)
            if full:
                connected.close()
                continue
            try:
                threading.Thread(
                    target=self._receive_guest,
                    args=(connected, peer),
                    name="arrays-of-one",
                    daemon=True,
                ).start()
            except RuntimeError as error:  # Too many threads.
                logging.error("no thread for a connection: %s.", error)
                with self._lock:
                    self._strangers.discard(connected)
                connected.close()

    def _receive_guest(self, connected: socket.socket, peer: Any) -> None:
        """The life of a connection."""
        guest = None
        try:
            deadline = time.monotonic() + _ENTER_S
            guest = ArraySocket(self._secured(connected))
            self._check_ticket(guest, deadline)
            with self._lock:  # Before it is told, so that it may count on it.
                self._strangers.discard(connected)
                self._guests.add(guest)
            guest.send({}, (), deadline)
            while not self._stopped.is_set() and guest.wait(_IDLE_S):
                self._serve(guest)
        except ConnectionError:
            pass  # It has gone.
        except (OSError, errors.MessageError) as error:
            if not self._stopped.is_set():
                logging.info("arrays of %s: %s", peer, error)
        except Exception:
            logging.exception("a connection for arrays has failed.")
        finally:
            with self._lock:
                self._strangers.discard(connected)
                self._guests.discard(guest)
            connected.close()
            if guest is not None:
                guest.close()

    def _secured(self, connected: socket.socket) -> socket.socket:
        array_socket.keep_alive(connected)
        if self._context is None:
            return connected
        connected.settimeout(_ENTER_S)
        return self._context.wrap_socket(connected, server_side=True)

    def _check_ticket(self, guest: ArraySocket, deadline: float) -> None:
        header = guest.receive_header(deadline, _ENTER_BYTES)
        if not self._admits(header.get("ticket")):
            raise errors.MessageError("A ticket is not (or no more) good.")

    # Calls.

    def _serve(self, guest: ArraySocket) -> None:
        """Takes a call and answers it."""
        asked = guest.receive_header(time.monotonic() + _HEADER_S)
        begin = time.monotonic()
        deadline = begin + array_socket.seconds(
            asked.get("timeout_s"), _MAX_CALL_S
        )
        with self._idle:
            self._busy += 1
        try:
            try:
                news, arrays = self._answer(guest, asked, deadline)
            except errors.ClusterError as error:
                told = {"error": type(error).__name__, "text": str(error)}
                guest.send(told, (), deadline)
            else:
                guest.send({"news": news}, arrays, deadline)
        finally:
            with self._idle:
                self._busy -= 1
                self._idle.notify_all()

    def _answer(
        self, guest: ArraySocket, asked: dict[str, Any], deadline: float
    ) -> tuple[dict[str, Any], Any]:
        """Does what is asked for.

        Raises:
            ClusterError: to be told; all that was announced has come.
            OSError: the other end is gone, or too slow.
        """
        sizes = asked[array_socket.NBYTES]
        arrays = None
        try:
            call = self._calls.get(str(asked.get("call")))
            header = asked.get("header")
            if call is None or not isinstance(header, dict):
                raise errors.MessageError("There is no such call.")
            room = call.room(header)
            if array_socket.sizes_of(room) != sizes:
                raise errors.MessageError(
                    f"{sizes} bytes came, where "
                    f"{array_socket.sizes_of(room)} were expected."
                )
            arrays = room
            guest.receive(arrays, deadline)
            return call.run(header, arrays)
        except OSError:
            raise
        except Exception as error:
            if arrays is None:  # Or what comes would be taken for a call.
                guest.skip(sum(sizes), deadline)
            told = errors.as_told(error)
            if isinstance(told, errors.UnexpectedError):
                logging.error("a call failed.", exc_info=error)
            raise told from error


def _listen(host: str, port: int) -> socket.socket:
    """Listens at the first address of a host that this machine has."""
    failure: OSError | None = None
    for ip in addresses.resolve(host):
        family = socket.AF_INET6 if ":" in ip else socket.AF_INET
        try:
            return socket.create_server(
                (ip, port), family=family, backlog=_MAX_STRANGERS
            )
        except OSError as error:
            failure = error
    raise OSError(
        f"A center cannot listen for arrays on {addresses.join(host, port)}: "
        f"{failure}. Choose another port by --array_port."
    ) from failure
