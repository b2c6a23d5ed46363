"""A socket that carries calls with arrays; the same at both ends.

A *frame* is a header of JSON behind its length, and the arrays that the header
announces, as they lie in memory. They go from and to memory where it is: gRPC
copies each byte several times, in Python too, which took more processor time
than the exchange itself.

Every method has a deadline, and whatever it raises, the socket is of no more
use: nobody knows where in a frame the two ends are.
"""

import math
import socket
import ssl
import struct
import sys
import time
from collections.abc import Iterable
from collections.abc import Sequence
from typing import Any

import numpy as np

from tf_elastic.cluster import errors
from tf_elastic.cluster.transport import wire

NBYTES = "nbytes"  # in a header: the length of each array behind it
PREFIX = struct.Struct("<4sI")  # a mark, and the bytes of the header
_MARK = b"TFE1"
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
            self._socket.settimeout(left(deadline))
            self._socket.do_handshake()

    def send(
        self,
        header: dict[str, Any],
        arrays: Sequence[Any],
        deadline: float,
        out: Sequence[Any] = (),
    ) -> None:
        """Sends a frame.

        Args:
            header: JSON.
            arrays: arrays or memory views, contiguous.
            deadline: when to give up.
            out: the arrays that are to be filled with the answer's.

        Raises:
            TimeoutError: the deadline is over.
            OSError: the other end is gone.
        """
        del out
        views = [wire.as_bytes(array) for array in arrays]
        header = {**header, NBYTES: [len(view) for view in views]}
        self._send_frame(header, views, deadline)

    def _send_frame(
        self,
        header: dict[str, Any],
        views: Sequence[memoryview],
        deadline: float,
    ) -> None:
        text = wire.pack(header)
        first = PREFIX.pack(_MARK, len(text)) + text
        if sum(map(len, views)) <= _JOINED_BYTES:
            self._send(b"".join([first, *views]), deadline)
            return
        self._send(first, deadline)
        for view in views:
            self._send(view, deadline)

    def receive_header(
        self,
        deadline: float,
        most_bytes: int = wire.MAX_HEADER_BYTES,
    ) -> dict[str, Any]:
        """Receives a frame's header.

        Args:
            deadline: when to give up.
            most_bytes: that it may have.

        Returns:
            The header, whose `NBYTES` are numbers of bytes.

        Raises:
            MessageError: it is too long, or none.
            TimeoutError: the deadline is over.
            OSError: the other end is gone.
        """
        mark, length = self._receive_prefix(deadline)
        if mark != _MARK:
            raise errors.MessageError("What came is no frame.")
        if length > most_bytes:
            raise errors.MessageError(
                f"A header of {length} bytes is too long."
            )
        text = memoryview(bytearray(length))
        self._receive(text, deadline)
        header = wire.unpack(bytes(text))
        sizes = header.get(NBYTES)
        if not isinstance(sizes, list) or not all(
            type(size) is int and size >= 0 for size in sizes
        ):
            raise errors.MessageError(
                "A header does not announce what follows it."
            )
        return header

    def _receive_prefix(self, deadline: float) -> tuple[bytes, int]:
        prefix = memoryview(bytearray(PREFIX.size))
        self._receive(prefix, deadline)
        return PREFIX.unpack(prefix)

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

    def skip(self, sizes: Sequence[int], deadline: float) -> None:
        """Receives what nobody wants; errors as of `receive`.

        Args:
            sizes: bytes of each array, as announced.
            deadline: when to give up.
        """
        nbytes = sum(sizes)
        scratch = memoryview(bytearray(min(nbytes, _SCRATCH_BYTES)))
        while nbytes:
            part = scratch[: min(nbytes, len(scratch))]
            self._receive(part, deadline)
            nbytes -= len(part)

    def is_fresh(self) -> bool:
        """Whether nothing has come, not even the other end's end."""
        try:
            self._socket.settimeout(0.0)
            # One of TLS cannot peek; the plain one under it can.
            socket.socket.recv(self._socket, 1, socket.MSG_PEEK)
        except (BlockingIOError, InterruptedError):
            return True
        except OSError:
            pass
        return False

    def wait(self, seconds: float) -> bool:
        """Waits for something to come; False if it is the end."""
        try:
            self._socket.settimeout(seconds)
            return bool(socket.socket.recv(self._socket, 1, socket.MSG_PEEK))
        except OSError:
            return False

    def borrowed(self) -> list[np.ndarray] | None:
        """What was announced, where the other end has it; None if it comes.

        It may be read until the answer is sent.
        """
        return None

    def places(self) -> list[np.ndarray | None]:
        """Where the answer's arrays are wanted, if one can write there."""
        return []

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
            self._socket.settimeout(left(deadline))
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
        self._socket.setsockopt(
            socket.SOL_SOCKET, socket.SO_RCVLOWAT, nbytes
        )

    def _receive_all(self, view: memoryview, deadline: float) -> None:
        while view:
            self._socket.settimeout(left(deadline))
            count = self._socket.recv_into(view)
            if count == 0:
                raise ConnectionResetError("the other end has closed it")
            view = view[count:]


def left(deadline: float) -> float:
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


def seconds(value: Any, most: float) -> float:
    """A number of seconds that somebody has sent, at most `most`.

    Raises:
        MessageError: it is none.
    """
    if type(value) not in (int, float) or not 0 < value < math.inf:
        raise errors.MessageError(
            f"A time must be a number > 0. Received: {value!r:.80}."
        )
    return float(min(value, most))


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
