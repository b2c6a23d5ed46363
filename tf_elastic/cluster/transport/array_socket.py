"""A socket that carries calls with arrays; the same at both ends.

A *frame* is a header of JSON behind its length, and the arrays that the header
announces, as they lie in memory. They go from and to memory where it is: gRPC
copies each byte several times, in Python too, which took more processor time
than the exchange itself.

Every method has a deadline, and whatever it raises, the socket is of no more
use: nobody knows where in a frame the two ends are.
"""

import contextlib
import os
import secrets
import socket
import ssl
import struct
import sys
import time
from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Sequence
from typing import Any

from tf_elastic.cluster import errors
from tf_elastic.cluster.transport import shared_memory
from tf_elastic.cluster.transport import wire

NBYTES = "nbytes"  # in a header: the length of each array behind it
_PREFIX = struct.Struct("<4sI")  # a mark, and the bytes of the header
_MARK = b"TFE1"
# Of a frame that is no more than a prefix: a segment's key follows, and its
# descriptor goes with it.
_MEMORY = b"TFEM"
_JOINED_BYTES = 64 * 1024  # up to here one message is cheaper than several
_PIECE_BYTES = 4 * 1024 * 1024
_SCRATCH_BYTES = 256 * 1024
# On a slow network a thread that wakes up for every packet takes more
# processor time than what it does with it.
_AT_LEAST_BYTES = 512 * 1024


class ArraySocket:
    """Sends and receives frames, until a deadline of `time.monotonic`.

    Args:
        connected: a socket, of TLS or not; it is closed with this object.
    """

    def __init__(self, connected: socket.socket) -> None:
        self._socket = connected
        # Whether it can hand over shared memory.
        self.is_local = (
            shared_memory.SUPPORTED and connected.family == socket.AF_UNIX
        )
        # TLS has to see every record.
        self._waits_for_more = (
            sys.platform == "linux"
            and connected.family in (socket.AF_INET, socket.AF_INET6)
            and not isinstance(connected, ssl.SSLSocket)
        )
        self.used = time.monotonic()  # when it was last asked or answered

    def shake_hands(self, deadline: float) -> None:
        """Begins TLS, if this is a socket of it that has not begun."""
        if isinstance(self._socket, ssl.SSLSocket):
            self._socket.settimeout(_left(deadline))
            self._socket.do_handshake()

    def send(
        self, header: dict[str, Any], arrays: Iterable[Any], deadline: float
    ) -> None:
        """Sends a frame.

        Args:
            header: JSON. It has its `NBYTES` already if the other end has, or
                will have, more than these arrays.
            arrays: arrays or memory views, contiguous.
            deadline: when to give up.

        Raises:
            TimeoutError: the deadline is over.
            OSError: the other end is gone.
        """
        views = list(map(wire.as_bytes, arrays))
        text = wire.pack({NBYTES: list(map(len, views)), **header})
        first = _PREFIX.pack(_MARK, len(text)) + text
        if sum(map(len, views)) <= _JOINED_BYTES:
            first, views = b"".join([first, *views]), []
        for data in (first, *views):
            self._send(data, deadline)

    def send_memory(self, key: int, descriptor: int, deadline: float) -> None:
        """Hands over a segment, if this socket is a local one."""
        self._socket.settimeout(_left(deadline))
        prefix = _PREFIX.pack(_MEMORY, key)
        socket.send_fds(self._socket, [prefix], [descriptor])

    def receive_header(
        self,
        deadline: float,
        most_bytes: int = wire.MAX_HEADER_BYTES,
        take: Callable[[int, int], None] | None = None,
    ) -> dict[str, Any]:
        """Receives a frame's header.

        Args:
            deadline: when to give up.
            most_bytes: that it may have.
            take: is given the key and the descriptor of each segment that is
                handed over before; None if none may be.

        Returns:
            The header, whose `NBYTES` are numbers of bytes.

        Raises:
            MessageError: it is too long, or none.
            TimeoutError: the deadline is over.
            OSError: the other end is gone.
        """
        while (length := self._receive_prefix(deadline, take)) is None:
            pass
        if length > most_bytes:
            raise errors.MessageError(
                f"A header of {length} bytes is too long."
            )
        text = bytearray(length)
        self._receive(memoryview(text), deadline)
        header = wire.unpack(bytes(text))
        sizes = header.get(NBYTES)
        if not isinstance(sizes, list) or not all(
            type(size) is int and size >= 0 for size in sizes
        ):
            raise errors.MessageError(
                "A header does not announce what follows it."
            )
        return header

    def _receive_prefix(
        self, deadline: float, take: Callable[[int, int], None] | None
    ) -> int | None:
        """The length of the header that follows; None if it was memory."""
        data = b""
        descriptors: list[int] = []
        with contextlib.ExitStack() as unused:
            if self.is_local:
                self._socket.settimeout(_left(deadline))
                data, descriptors, _, _ = socket.recv_fds(
                    self._socket, _PREFIX.size, 1, socket.MSG_CMSG_CLOEXEC
                )
                for descriptor in descriptors:
                    unused.callback(os.close, descriptor)
                if not data:
                    raise ConnectionResetError("the other end has closed it")
            rest = bytearray(_PREFIX.size - len(data))
            self._receive(memoryview(rest), deadline)
            mark, number = _PREFIX.unpack(data + rest)
            if mark == _MARK:
                return int(number)
            if mark != _MEMORY or take is None or not descriptors:
                raise errors.MessageError("What came is no frame.")
            unused.pop_all()
            take(number, descriptors[0])
            return None

    def receive(self, arrays: Sequence[Any], deadline: float) -> None:
        """Fills arrays with what follows a header.

        Args:
            arrays: as long as announced, writable, contiguous.
            deadline: when to give up.

        Raises:
            TimeoutError: the deadline is over.
            OSError: the other end is gone.
        """
        for array in arrays:
            self._receive(wire.as_bytes(array), deadline)

    def skip(self, nbytes: int, deadline: float) -> None:
        """Receives what nobody wants; errors as of `receive`."""
        scratch = memoryview(bytearray(min(nbytes, _SCRATCH_BYTES)))
        while nbytes:
            part = scratch[: min(nbytes, len(scratch))]
            self._receive(part, deadline)
            nbytes -= len(part)

    def wait(self, seconds: float) -> bool | None:
        """Waits for something to come.

        Returns:
            Whether it is not the end; None if nothing came.
        """
        try:
            self._socket.settimeout(seconds)
            # One of TLS cannot peek; the plain one under it can.
            return bool(socket.socket.recv(self._socket, 1, socket.MSG_PEEK))
        except (BlockingIOError, TimeoutError):
            return None
        except OSError:
            return False

    def interrupt(self) -> None:
        """Lets the thread that uses it fail at once; safe from any thread."""
        try:
            # Not `shutdown` of a socket of TLS: that is not thread-safe.
            socket.socket.shutdown(self._socket, socket.SHUT_RDWR)
        except OSError:
            pass  # Closed, or never connected.

    def close(self) -> None:
        """Closes it; by its owner only."""
        self._socket.close()

    def _send(self, data: Any, deadline: float) -> None:
        view = memoryview(data)
        while view:
            self._socket.settimeout(_left(deadline))
            view = view[self._socket.send(view[:_PIECE_BYTES]) :]

    def _receive(self, view: memoryview, deadline: float) -> None:
        if self._waits_for_more and len(view) > 2 * _AT_LEAST_BYTES:
            rest = view[-_AT_LEAST_BYTES:]
            self._wake_up_for(_AT_LEAST_BYTES)
            try:
                self._receive_all(view[: -len(rest)], deadline)
            finally:
                self._wake_up_for(1)
            view = rest
        self._receive_all(view, deadline)

    def _wake_up_for(self, nbytes: int) -> None:
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, nbytes)

    def _receive_all(self, view: memoryview, deadline: float) -> None:
        while view:
            self._socket.settimeout(_left(deadline))
            count = self._socket.recv_into(view)
            if count == 0:
                raise ConnectionResetError("the other end has closed it")
            view = view[count:]


def _left(deadline: float) -> float:
    """The seconds up to a deadline.

    Raises:
        TimeoutError: it is over.
    """
    seconds_left = deadline - time.monotonic()
    if seconds_left <= 0:
        raise TimeoutError("timed out")
    return seconds_left


def sizes_of(arrays: Iterable[Any]) -> list[int]:
    """The bytes of each array."""
    return [len(wire.as_bytes(array)) for array in arrays]


def keep_alive(connected: socket.socket) -> None:
    """Sends at once, and notices when the other host has vanished."""
    connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    connected.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in (
        ("TCP_KEEPIDLE", 10),
        ("TCP_KEEPINTVL", 5),
        ("TCP_KEEPCNT", 3),
    ):
        if hasattr(socket, name):
            connected.setsockopt(
                socket.IPPROTO_TCP, getattr(socket, name), value
            )


# Sockets of Unix have names that nobody knows who has not asked the center by
# gRPC, and that nobody can see from another network namespace.


def listen_locally() -> tuple[socket.socket, str] | None:
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


def connect_locally(name: str, until: float) -> socket.socket | None:
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
