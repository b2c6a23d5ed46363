"""Calls with arrays between two processes of one host.

They go by a socket of Unix, whose name is known to nobody who has not asked
the center by gRPC, and which nobody can see from another network namespace.
Arrays that lie in shared memory do not travel: what does is where they are.

Of the two ends it is always the worker's memory: the center reads what it is
sent, and writes its answer, where the worker has it.
"""

import contextlib
import secrets
import socket
import time
from collections.abc import Sequence
from typing import Any

import numpy as np

from tf_elastic.cluster import errors
from tf_elastic.cluster.transport import shared_memory
from tf_elastic.cluster.transport import wire
from tf_elastic.cluster.transport.array_socket import NBYTES
from tf_elastic.cluster.transport.array_socket import PREFIX
from tf_elastic.cluster.transport.array_socket import ArraySocket
from tf_elastic.cluster.transport.array_socket import left

# In a header, for each array: [key of a segment, offset, bytes], or null.
_SENT = "sent_at"
_OUT = "out_at"
# In an answer, for each array: whether it is where it was wanted.
_PUT = "put"
# Of a frame that is no more than a prefix: a segment's key follows, and its
# descriptor goes with it.
_MEMORY = b"TFEM"
_MAX_SEGMENTS = 8  # of one connection; older ones are forgotten


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


def knock(name: str) -> None:
    """Connects, and goes away again."""
    connected = connect(name, time.monotonic() + 1.0)
    if connected is not None:
        connected.close()


class LocalSocket(ArraySocket):
    """The worker's end."""

    def __init__(self, connected: socket.socket) -> None:
        super().__init__(connected)
        self._handed_over: set[int] = set()
        self._put: list[bool] = []

    def send(
        self,
        header: dict[str, Any],
        arrays: Sequence[Any],
        deadline: float,
        out: Sequence[Any] = (),
    ) -> None:
        """Sends a frame, without what the other end can read by itself."""
        views = [wire.as_bytes(array) for array in arrays]
        sent_at = [self._place(array, deadline) for array in arrays]
        header = {
            **header,
            NBYTES: [len(view) for view in views],
            _SENT: sent_at,
            _OUT: [self._place(array, deadline) for array in out],
        }
        rest = [v for v, at in zip(views, sent_at, strict=True) if at is None]
        self._send_frame(header, rest, deadline)

    def _place(self, array: Any, deadline: float) -> list[int] | None:
        place = shared_memory.place_of(array)
        if place is None:
            return None
        segment, offset = place
        if segment.key not in self._handed_over:
            self._socket.settimeout(left(deadline))
            socket.send_fds(
                self._socket,
                [PREFIX.pack(_MEMORY, segment.key)],
                [segment.descriptor],
            )
            self._handed_over.add(segment.key)
        return [segment.key, offset, array.nbytes]

    def receive_header(
        self, deadline: float, most_bytes: int = wire.MAX_HEADER_BYTES
    ) -> dict[str, Any]:
        """Receives an answer's header."""
        header = super().receive_header(deadline, most_bytes)
        put = header.pop(_PUT, None)
        self._put = put or [False] * len(header[NBYTES])
        return header

    def receive(self, arrays: Sequence[Any], deadline: float) -> None:
        """Fills arrays with what is not there yet."""
        rest = [a for a, put in zip(arrays, self._put, strict=True) if not put]
        super().receive(rest, deadline)


class LocalGuest(ArraySocket):
    """The center's end."""

    def __init__(self, connected: socket.socket) -> None:
        super().__init__(connected)
        self._is_in = False  # A ticket is the first thing that may come.
        self._segments: dict[int, np.ndarray] = {}
        self._sent: list[np.ndarray | None] = []
        self._out: list[np.ndarray | None] = []

    def _receive_prefix(self, deadline: float) -> tuple[bytes, int]:
        while True:
            self._socket.settimeout(left(deadline))
            data, descriptors, _, _ = socket.recv_fds(
                self._socket, PREFIX.size, 1, socket.MSG_CMSG_CLOEXEC
            )
            with contextlib.ExitStack() as unused:
                for descriptor in descriptors:
                    unused.callback(socket.close, descriptor)
                if not data:
                    raise ConnectionResetError("the other end has closed it")
                rest = memoryview(bytearray(PREFIX.size - len(data)))
                self._receive(rest, deadline)
                mark, number = PREFIX.unpack(data + bytes(rest))
                if mark != _MEMORY:
                    return mark, number
                if not (descriptors and self._is_in):
                    raise errors.MessageError("Memory came out of turn.")
                unused.pop_all()
                self._segments[number] = shared_memory.opened(descriptors[0])
            while len(self._segments) > _MAX_SEGMENTS:
                del self._segments[next(iter(self._segments))]

    def receive_header(
        self, deadline: float, most_bytes: int = wire.MAX_HEADER_BYTES
    ) -> dict[str, Any]:
        """Receives a call's header."""
        header = super().receive_header(deadline, most_bytes)
        self._is_in = True
        self._sent = self._views(header.pop(_SENT, []))
        self._out = self._views(header.pop(_OUT, []))
        sizes = [None if v is None else v.size for v in self._sent]
        if len(sizes) != len(header[NBYTES]) or any(
            size not in (None, announced)
            for size, announced in zip(sizes, header[NBYTES], strict=True)
        ):
            raise errors.MessageError("A header does not say what is where.")
        for view in self._sent:
            if view is not None:
                view.flags.writeable = False
        return header

    def _views(self, places: Any) -> list[np.ndarray | None]:
        """The bytes at places, where there are any.

        Raises:
            MessageError: there is no such place.
        """
        if not isinstance(places, list):
            raise errors.MessageError("A header does not say what is where.")
        return [None if at is None else self._view(at) for at in places]

    def _view(self, at: Any) -> np.ndarray:
        try:
            key, offset, nbytes = at
            memory = self._segments[key]
            if 0 <= offset <= offset + nbytes <= memory.size:
                return memory[offset : offset + nbytes]
        except (KeyError, TypeError, ValueError):
            pass
        raise errors.MessageError(
            f"Received: {at!r:.80}, where there is no shared memory."
        )

    def borrowed(self) -> list[np.ndarray] | None:
        """What was announced, read-only bytes; None if some of it comes."""
        found = [view for view in self._sent or () if view is not None]
        return found if found and len(found) == len(self._sent) else None

    def places(self) -> list[np.ndarray | None]:
        """The bytes where the answer's arrays are wanted."""
        return list(self._out)

    def receive(self, arrays: Sequence[Any], deadline: float) -> None:
        """Fills arrays with what was announced."""
        for array, view in zip(arrays, self._sent, strict=True):
            if view is None:
                super().receive([array], deadline)
            else:
                np.copyto(np.frombuffer(wire.as_bytes(array), np.uint8), view)

    def skip(self, sizes: Sequence[int], deadline: float) -> None:
        """Receives what nobody wants."""
        super().skip(
            [
                size
                for size, view in zip(sizes, self._sent, strict=True)
                if view is None
            ],
            deadline,
        )

    def send(
        self,
        header: dict[str, Any],
        arrays: Sequence[Any],
        deadline: float,
        out: Sequence[Any] = (),
    ) -> None:
        """Answers; puts where they are wanted what can be put there."""
        del out
        views = [wire.as_bytes(array) for array in arrays]
        places = self._out if len(self._out) == len(views) else []
        put = [
            _put(view, place)
            for view, place in zip(views, places, strict=False)
        ] or [False] * len(views)
        rest = [v for v, there in zip(views, put, strict=True) if not there]
        sizes = [len(view) for view in views]
        self._send_frame(
            {**header, NBYTES: sizes, _PUT: put}, rest, deadline
        )


def _put(view: memoryview, place: np.ndarray | None) -> bool:
    """Copies an answer to where it is wanted, unless it is there."""
    if place is None or place.size != len(view):
        return False
    source = np.frombuffer(view, np.uint8)
    if source.ctypes.data != place.ctypes.data:
        np.copyto(place, source)
    return True
