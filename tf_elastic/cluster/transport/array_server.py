"""A center server's second port, for the calls with arrays.

Whoever is let in by gRPC is given a ticket there, and shows it here: so the
cluster's token never crosses a plain socket, and one rule says who may call.
Each connection has a thread, which serves one call after the other.
"""

import contextlib
import hmac
import math
import secrets
import socket
import threading
import time
from collections.abc import Mapping
from typing import Any

from absl import logging

from tf_elastic.cluster import errors
from tf_elastic.cluster.launch.security import Security
from tf_elastic.cluster.transport import addresses
from tf_elastic.cluster.transport import array_socket
from tf_elastic.cluster.transport import fields
from tf_elastic.cluster.transport import open_files
from tf_elastic.cluster.transport.array_ends import Guest
from tf_elastic.cluster.transport.array_socket import ArraySocket
from tf_elastic.cluster.transport.calls import ArrayCall
from tf_elastic.cluster.transport.waiting_room import WaitingRoom

_MAX_CONNECTIONS = 256
_MAX_STRANGERS = 64  # that have not shown a ticket yet
_CALLS_OF_ONE = 4
_MAX_TICKETS = 1024
_TICKET_S = 30.0
_ENTER_S = 10.0  # for the handshake of TLS, and the ticket
_HEADER_S = 10.0  # once it has begun
_ENTER_BYTES = 1024
# Those of workers are closed there before (see `array_channel`), so that none
# is closed while a call is on its way.
_IDLE_S = 600.0
_MAX_CALL_S = 3600.0
_TIMEOUT_S = fields.number(1e-9, math.inf)
_SKIP_S = 60.0  # for what nobody wants
_LOOK_S = 1.0


class ArrayServer:
    """Serves calls with arrays at a port of its own.

    Args:
        calls: by their names.
        host: where to listen, and nowhere else.
        port: the port; 0 for any that is free.
        security: its certificates hold here too.
        shares_memory: whether processes of this host may let it into their
            memory; they then come by a socket that has no port.
        most_connections: that were let in, at once. Beyond them the one is
            closed that has been idle for longest.

    Raises:
        OSError: the port is taken.
    """

    def __init__(
        self,
        calls: Mapping[str, ArrayCall],
        host: str,
        port: int,
        security: Security,
        shares_memory: bool = True,
        most_connections: int = _MAX_CONNECTIONS,
    ) -> None:
        self._calls = calls
        self._most = min(most_connections, open_files.for_connections() // 4)
        self._going_on = WaitingRoom(self._most, _CALLS_OF_ONE)
        self._context = security.server_context()
        self._listeners = [_listen(host, port)]
        self.port: int = self._listeners[0].getsockname()[1]
        self._local_name: str | None = None
        local = array_socket.listen_locally() if shares_memory else None
        if local:
            self._listeners.append(local[0])
            self._local_name = local[1]
        self._tickets: dict[str, float] = {}  # until when each is good
        self._guests: set[Guest] = set()
        self._idle_guests: set[Guest] = set()
        self._strangers = WaitingRoom(_MAX_STRANGERS)
        self._changed = threading.Condition()  # of guests and tickets
        self._stopped = threading.Event()
        self._threads = [
            threading.Thread(
                target=self._accept,
                args=(listener,),
                name="arrays",
                daemon=True,
            )
            for listener in self._listeners
        ]

    def start(self) -> None:
        """Begins to serve."""
        for thread in self._threads:
            thread.start()

    def is_alive(self) -> bool:
        """Whether new connections are taken."""
        return all(thread.is_alive() for thread in self._threads)

    def stop(self, grace_s: float = 1.0) -> None:
        """Ends what is going on, within `grace_s` seconds."""
        self._stopped.set()
        with contextlib.suppress(OSError):  # Wakes it up, on Linux.
            self._listeners[0].shutdown(socket.SHUT_RDWR)
        if self._local_name:  # That one is woken up by a visitor.
            until = time.monotonic() + _LOOK_S
            visitor = array_socket.connect_locally(self._local_name, until)
            if visitor is not None:
                visitor.close()
        for thread in self._threads:
            if thread.is_alive():
                thread.join(_LOOK_S + 1)
        for listener in self._listeners:
            listener.close()
        with self._changed:
            self._changed.wait_for(
                lambda: self._guests == self._idle_guests, grace_s
            )
            for guest in self._guests:
                guest.socket.interrupt()

    def invite(self) -> dict[str, Any]:
        """A ticket, good once and for some seconds, and where to show it."""
        ticket = secrets.token_hex(32)
        now = time.monotonic()
        with self._changed:
            good = {t: end for t, end in self._tickets.items() if end > now}
            while len(good) >= _MAX_TICKETS:
                del good[next(iter(good))]  # The oldest.
            self._tickets = {**good, ticket: now + _TICKET_S}
        return {
            "port": self.port,
            "local_name": self._local_name,
            "ticket": ticket,
        }

    def _admits(self, ticket: Any) -> bool:
        """Whether a ticket is good; from now on it is not."""
        if not isinstance(ticket, str) or not ticket.isascii():
            return False
        with self._changed:
            found = None
            for known in self._tickets:
                if hmac.compare_digest(known, ticket):
                    found = known
            if found is None:
                return False
            return self._tickets.pop(found) > time.monotonic()

    # Connections.

    def _accept(self, listener: socket.socket) -> None:
        listener.settimeout(_LOOK_S)
        while not self._stopped.is_set():
            self._strangers.tick()
            self._going_on.tick()
            try:
                connected, peer = listener.accept()
            except TimeoutError:
                continue
            except OSError as error:  # Say, too many open files.
                if not self._stopped.wait(0.1):
                    logging.error("no connection for arrays: %s.", error)
                continue
            if self._stopped.is_set():
                connected.close()
                return
            try:
                guest = self._guest(connected)
            except OSError:  # It has gone.
                connected.close()
                continue
            try:
                threading.Thread(
                    target=self._receive_guest,
                    args=(guest, str(peer[0]) if peer else "this host"),
                    name="arrays-of-one",
                    daemon=True,
                ).start()
            except RuntimeError as error:  # Too many threads.
                logging.error("no thread for a connection: %s.", error)
                guest.socket.close()

    def _receive_guest(self, guest: Guest, host: str) -> None:
        """The life of a connection."""
        try:
            deadline = time.monotonic() + _ENTER_S
            with self._strangers.visit(host, guest.socket.interrupt, _ENTER_S):
                guest.socket.shake_hands(deadline)
                self._check_ticket(guest, deadline)
            self._let_in(guest)  # Before it is told: it may count on it.
            guest.socket.send({}, (), deadline)
            while not self._stopped.is_set() and self._waits(guest):
                self._serve(guest)
        except ConnectionError:
            pass  # It has gone.
        except (OSError, errors.MessageError) as error:
            if not self._stopped.is_set():
                logging.info("arrays of %s: %s", host, error)
        except Exception:
            logging.exception("a connection for arrays has failed.")
        finally:
            with self._changed:
                self._guests.discard(guest)
                self._changed.notify_all()
            guest.socket.close()

    def _guest(self, connected: socket.socket) -> Guest:
        if connected.family in (socket.AF_INET, socket.AF_INET6):
            array_socket.keep_alive(connected)
            if self._context is not None:
                connected = self._context.wrap_socket(
                    connected, server_side=True, do_handshake_on_connect=False
                )
        return Guest(ArraySocket(connected))  # Of Unix, nobody listens in.

    def _let_in(self, guest: Guest) -> None:
        with self._changed:
            if len(self._guests) >= self._most:
                if not self._idle_guests:
                    raise ConnectionRefusedError("all are busy")
                oldest = min(
                    self._idle_guests, key=lambda idle: idle.socket.used
                )
                self._guests.discard(oldest)
                self._idle_guests.discard(oldest)
                oldest.socket.interrupt()
            self._guests.add(guest)

    def _waits(self, guest: Guest) -> bool:
        """Waits for the next call; False if there is none."""
        guest.socket.used = time.monotonic()
        with self._changed:
            if guest not in self._guests:
                return False
            self._idle_guests.add(guest)
            self._changed.notify_all()
        found = guest.socket.wait(_IDLE_S)
        with self._changed:
            self._idle_guests.discard(guest)
        return bool(found)

    def _check_ticket(self, guest: Guest, deadline: float) -> None:
        header = guest.socket.receive_header(deadline, _ENTER_BYTES)
        if not self._admits(header.get("ticket")):
            raise errors.MessageError("A ticket is not (or no more) good.")

    # Calls.

    def _serve(self, guest: Guest) -> None:
        """Takes a call and answers it, by an error if need be.

        Raises:
            MessageError: it is no call.
            OSError: the other end is gone, or too slow.
        """
        asked = guest.receive_call(time.monotonic() + _HEADER_S)
        timeout_s = _TIMEOUT_S("timeout_s", asked.get("timeout_s"))
        deadline = time.monotonic() + min(timeout_s, _MAX_CALL_S)
        sizes = asked[array_socket.NBYTES]
        came = False
        try:
            known = self._calls.get(str(asked.get("call")))
            header = asked.get("header")
            if known is None or not isinstance(header, dict):
                raise errors.MessageError("There is no such call.")
            call = known(header)
            room = array_socket.sizes_of(call.room)
            if room != sizes:
                raise errors.MessageError(
                    f"{sizes} bytes came, where {room} were expected."
                )
            came = True  # Or is about to, and nothing else.
            with call.among(self._going_on, guest, guest.socket.interrupt):
                arrays = guest.receive(call.room, call.only_reads, deadline)
                for news, moved in call.answers(arrays, guest.places):
                    guest.answer({"news": news}, moved, deadline)
        except OSError:
            raise
        except Exception as error:
            if not came:  # Or what comes would be taken for a call.
                guest.skip(sizes, min(deadline, time.monotonic() + _SKIP_S))
            told = errors.as_told(error)
            text = {"error": type(told).__name__, "text": str(told)}
            guest.answer(text, (), deadline)


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
